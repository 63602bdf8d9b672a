//! Several runs of one experiment side by side.

use super::WIDTH;
use super::summary::ordered_classifiers;
use super::text::{counted, fit, hundredfold, wrap};
use crate::experiment::metrics::mean_sd;
use crate::experiment::results::{ClassifierResult, Metrics};
use std::fmt::Write;

/// Several seeds of one experiment as mean ± sample standard deviation, a row per classifier. Empty for no runs.
pub fn seeds_table(runs: &[Metrics]) -> String {
    let Some(first) = runs.first() else { return String::new() };
    let seeds: Vec<String> = runs.iter().map(|run| run.seed.to_string()).collect();
    let title = format!(
        "{} on {}, mean ± standard deviation over {} ({}), in percent:",
        first.method,
        first.dataset,
        counted(runs.len(), "seed", "seeds"),
        seeds.join(" ")
    );
    let mut out = wrap(&title, 2);
    let titles = ["final accuracy", "average incremental", "forgetting", "backward transfer"];
    let _ = write!(out, "{:<12}", "classifier");
    for title in titles {
        let title = first.score.worded(title);
        let _ = write!(out, "  {title:>19}");
    }
    let _ = write!(out, "\n{}\n", "─".repeat(WIDTH - 4));
    for (name, _) in ordered_classifiers(first) {
        let results: Vec<&ClassifierResult> = runs.iter().filter_map(|run| run.classifiers.get(name)).collect();
        let cell = |of: fn(&ClassifierResult) -> Option<f64>| {
            let values: Vec<f64> = results.iter().filter_map(|result| of(result)).collect();
            let (mean, sd) = mean_sd(&values);
            let text = match values.is_empty() {
                true => "–".to_string(),
                false => format!("{:.1} ± {:.1}", hundredfold(mean), hundredfold(sd)),
            };
            format!("  {text:>19}")
        };
        let _ = write!(out, "{:<12}", fit(name, 12));
        out += &cell(|result| result.final_accuracy);
        out += &cell(|result| result.average_incremental_accuracy);
        out += &cell(|result| result.forgetting);
        out += &cell(|result| result.backward_transfer);
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::summary::tests::{assert_contains, icarl};

    #[test]
    fn seeds_become_mean_and_deviation() {
        let runs = [0.92, 0.93, 0.94].map(|accuracy| {
            let mut run = icarl();
            run.classifiers.get_mut("nme").unwrap().final_accuracy = Some(accuracy);
            run.classifiers.get_mut("ncm").unwrap().forgetting = None;
            run
        });
        let text = seeds_table(&runs);
        assert_contains(&text, &["over 3 seeds (3 3 3)", "nme 93.0 ± 1.0 95.0 ± 0.0 13.0 ± 0.0 -13.0 ± 0.0", "–"]);
        assert_eq!(text.lines().count(), 2 + 1 + 3);
        assert_eq!(seeds_table(&[]), "");
    }
}
