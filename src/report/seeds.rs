//! Several runs of one experiment side by side.

use super::WIDTH;
use super::summary::ordered_classifiers;
use super::table::MAX_CLASSIFIERS;
use super::text::{counted, fit, mean_and_sd, wrap};
use crate::experiment::measures::MEASURES;
use crate::experiment::results::Metrics;
use std::fmt::Write;

/// Columns of a title, and of the numbers of a classifier.
const TITLE: usize = 28;
const COLUMN: usize = 15;

/// Several seeds of one experiment as mean ± sample standard deviation: a row for each measure of the short summary, a column for each
/// classifier. Empty for no runs.
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
    let names: Vec<&str> = ordered_classifiers(first).map(|(name, _)| name).take(MAX_CLASSIFIERS).collect();
    let _ = write!(out, "{:<TITLE$}", "");
    names.iter().for_each(|name| out += &format!("  {:>COLUMN$}", fit(name, COLUMN)));
    let _ = write!(out, "\n{}\n", "─".repeat(WIDTH));
    for measure in MEASURES.iter().filter(|measure| measure.in_summary) {
        let values = |name: &&str| -> Vec<f64> {
            runs.iter().filter_map(|run| (measure.of)(run.classifiers.get(*name)?)).collect()
        };
        let columns: Vec<Vec<f64>> = names.iter().map(values).collect();
        if columns.iter().any(|values| !values.is_empty()) {
            let _ = write!(out, "{:<TITLE$}", measure.title(first.score));
            columns.iter().for_each(|values| out += &format!("  {:>COLUMN$}", mean_and_sd(values)));
            out.push('\n');
        }
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
            run.classifiers.get_mut("nme").unwrap().seen_accuracy[2] = accuracy;
            run.classifiers.get_mut("ncm").unwrap().matrix.clear();
            run
        });
        let text = seeds_table(&runs);
        assert_contains(&text, &["over 3 seeds (3 3 3)", "final accuracy 93.0 ± 1.0 60.0 ± 0.0 95.0 ± 0.0"]);
        assert_contains(&text, &["forgetting 13.0 ± 0.0 48.0 ± 0.0 – backward transfer -13.0 ± 0.0 -48.0"]);
        let nme = &runs[0].classifiers["nme"];
        let n_measures = MEASURES.iter().filter(|measure| measure.in_summary && (measure.of)(nme).is_some()).count();
        assert_eq!(text.lines().count(), 2 + 1 + n_measures);
        assert_eq!(seeds_table(&[]), "");
    }
}
