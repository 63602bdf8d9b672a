//! What is taken for what: the section on confusion matrices.

use super::charts::cells;
use super::files::RunFiles;
use super::html::{details, escape, table};
use crate::experiment::results::ClassifierResult;
use crate::report::text::{fit, percent, thousands};
use std::fmt::Write;

/// Up to this many classes each count is written out.
const MAX_WRITTEN_OUT: usize = 20;
const MAX_MISTAKES: usize = 12;

/// One classifier's matrix with its most frequent mistakes.
pub(super) fn confusion(run: &RunFiles, classifier: &str, result: &ClassifierResult) -> String {
    let counts = &result.confusion;
    let names: Vec<&str> = run.card.classes.iter().map(|class| class.name.as_str()).collect();
    let tested: Vec<u32> = match run.metrics.n_tested.as_slice() {
        [] => counts.iter().map(|row| row.iter().sum()).collect(),
        n_tested => n_tested.to_vec(),
    };
    if counts.is_empty() || counts.len() != names.len() {
        return "<p>The files of this run hold no confusion matrix.</p>\n".into();
    }
    let shares: Vec<Vec<f64>> = counts
        .iter()
        .zip(&tested)
        .map(|(row, &n)| row.iter().map(|&count| f64::from(count) / f64::from(n.max(1))).collect())
        .collect();
    let mut out = match names.len() <= MAX_WRITTEN_OUT {
        true => written_out(classifier, &names, result, &shares),
        false => picture(run, classifier, &shares),
    };
    out += "<p class=\"scale\">0 % <i aria-hidden=\"true\"></i> 100 % of a row</p>\n";

    let mut mistakes: Vec<(usize, usize)> = Vec::new();
    for (y, row) in counts.iter().enumerate() {
        mistakes.extend((0..row.len()).filter(|&z| z != y && row[z] > 0).map(|z| (y, z)));
    }
    mistakes.sort_by_key(|&(y, z)| std::cmp::Reverse(counts[y][z]));
    let rows: Vec<Vec<String>> = mistakes
        .iter()
        .take(MAX_MISTAKES)
        .map(|&(y, z)| vec![names[y].into(), names[z].into(), thousands(counts[y][z].into()), percent(shares[y][z])])
        .collect();
    let (what, score) = match &result.masks {
        None => ("images", "accuracy"),
        Some(_) => ("pixels", "IoU"),
    };
    let head = ["class", "taken for", what, "of the class"].map(String::from);
    out += &table("The most frequent mistakes", 2, &head, &rows);

    let head = ["class".to_string(), format!("test {what}"), "right".into(), score.into()];
    let of_class = |y: usize| match &result.masks {
        None => percent(shares[y][y]),
        Some(masks) => masks.iou.get(y).copied().flatten().map_or("–".into(), percent),
    };
    let rows: Vec<Vec<String>> = (0..names.len())
        .map(|y| {
            let right = thousands(counts[y][y].into());
            vec![names[y].into(), thousands(tested[y].into()), right, of_class(y)]
        })
        .collect();
    let by_class = table("In order of arrival", 1, &head, &rows);
    match &result.masks {
        None => out + &details("Accuracy of each class", &by_class),
        Some(_) => out + "<h3>IoU of each class</h3>\n" + &by_class,
    }
}

fn written_out(classifier: &str, names: &[&str], result: &ClassifierResult, shares: &[Vec<f64>]) -> String {
    let counts = &result.confusion;
    let what = if result.masks.is_some() { "pixels" } else { "images" };
    let upright = if names.iter().any(|name| name.chars().count() > 3) { "upright" } else { "" };
    let mut head = String::new();
    for name in names {
        let _ = write!(head, "<th scope=\"col\"><span class=\"{upright}\">{}</span></th>", escape(&fit(name, 18)));
    }
    let mut body = String::new();
    for ((name, row), shares) in names.iter().zip(counts).zip(shares) {
        let _ = write!(body, "<tr><th scope=\"row\">{}</th>", escape(&fit(name, 18)));
        for (count, share) in row.iter().zip(shares) {
            let _ = match count {
                0 => write!(body, "<td class=\"zero\">0</td>"),
                _ => write!(body, "{}{}</td>", heat_cell(*share), thousands((*count).into())),
            };
        }
        body += "</tr>\n";
    }
    format!(
        "<div class=\"scroll\"><table class=\"heat counts\">\n<caption><span>Test {what} by true class (rows) and predicted \
         class (columns), classifier {}</span></caption>\n<thead><tr><td></td>{head}</tr></thead>\n<tbody>\n{body}</tbody>\n\
         </table></div>\n",
        escape(classifier)
    )
}

/// The start of a table cell whose ground shows a share in 0..=1.
pub(super) fn heat_cell(share: f64) -> String {
    let high = if share > 0.55 { " class=\"high\"" } else { "" };
    format!("<td{high} style=\"--v:{:.0}\">", 100.0 * share)
}

fn picture(run: &RunFiles, classifier: &str, shares: &[Vec<f64>]) -> String {
    let mut edges = Vec::new();
    let mut first = 0;
    for classes in &run.metrics.classes_per_task[..run.n_tasks_done()] {
        edges.extend((first > 0).then_some(first));
        first += classes.len();
    }
    let n = shares.len();
    let label = format!("Confusion matrix of {n} classes, classifier {classifier}");
    format!(
        "<figure>{}<figcaption>{}: a row per true class, a column per predicted class, both in order of arrival from \
         the top left; the lines part the tasks. A strong diagonal is right, whatever lies beside it is a mistake, and \
         a full column is a class that much is taken for.</figcaption></figure>\n",
        cells(&label, shares, &edges),
        escape(&label)
    )
}
