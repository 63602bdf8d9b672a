//! Accuracy over tasks as a plot of characters.

use super::{WIDTH, text::fit};
use std::fmt::Write;

const MARKS: [char; 6] = ['*', 'o', '+', 'x', '#', '@'];
/// Rows for 100 % down to 0 %, 12.5 points apart.
const ROWS: usize = 9;
const LABEL: usize = 7;

/// Plots up to six named series of fractions in 0..1, one point per task, in at most 11 lines of at most [`WIDTH`] columns.
/// Where two series meet, the one named first is seen. Empty if there is nothing to plot.
///
/// With more tasks than columns every second (third …) one is shown.
pub fn curve(series: &[(&str, &[f64])]) -> String {
    let series = &series[..series.len().min(MARKS.len())];
    let n_tasks = series.iter().map(|(_, values)| values.len()).max().unwrap_or(0);
    if n_tasks == 0 {
        return String::new();
    }
    let columns = WIDTH - LABEL;
    let stride = n_tasks.div_ceil(columns);
    let spacing = (columns / n_tasks.div_ceil(stride)).min(8);
    let column_of = |task: usize| (task / stride) * spacing + spacing / 2;
    let width = column_of(n_tasks - 1) + spacing.div_ceil(2);

    let mut grid = vec![vec![' '; width]; ROWS];
    for ((_, values), mark) in series.iter().zip(MARKS).rev() {
        for (task, value) in values.iter().enumerate().filter(|(task, v)| task % stride == 0 && v.is_finite()) {
            let down = (1.0 - value.clamp(0.0, 1.0)) * (ROWS - 1) as f64;
            grid[down.round() as usize][column_of(task)] = mark;
        }
    }

    let mut out = String::new();
    for (i, row) in grid.iter().enumerate() {
        let label = if i % 2 == 0 { format!("{:>3} %", 100 - i * 100 / (ROWS - 1)) } else { String::new() };
        let line: String = row.iter().collect();
        let _ = writeln!(out, "{}", format!("{label:>5} |{line}").trim_end());
    }
    let mut axis = format!("{:>LABEL$}", "task ");
    for task in (0..n_tasks).step_by(stride) {
        let number = (task + 1).to_string();
        let start = LABEL + column_of(task);
        // A number that would touch its neighbour, or stick out, is left out.
        if (task == 0 || start > axis.len()) && start + number.len() <= WIDTH {
            let _ = write!(axis, "{:gap$}{number}", "", gap = start.saturating_sub(axis.len()));
        }
    }
    let _ = writeln!(out, "{axis}");
    let legend: Vec<String> = series.iter().zip(MARKS).map(|((name, _), mark)| format!("{mark} {name}")).collect();
    let _ = writeln!(out, "{:LABEL$}{}", "", fit(&legend.join("   "), WIDTH - LABEL));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_lie_where_they_belong() {
        let plot = curve(&[("nme", &[1.0, 0.75, 0.5]), ("network", &[1.0, 0.5, 0.0])]);
        let expected = "\
100 % |    *
      |
 75 % |            *
      |
 50 % |            o       *
      |
 25 % |
      |
  0 % |                    o
  task     1       2       3
       * nme   o network
";
        assert_eq!(plot, expected);
    }

    #[test]
    fn it_stays_small() {
        for n in [1, 2, 5, 20, 60, 93, 94, 200, 1000] {
            let values: Vec<f64> = (0..n).map(|i| 1.0 / (1.0 + i as f64)).collect();
            let plot = curve(&[("a", &values), ("b", &[0.5, f64::NAN, 7.0])]);
            assert!(plot.lines().count() <= 12, "{n} tasks");
            assert!(plot.lines().all(|line| line.chars().count() <= WIDTH), "{n} tasks:\n{plot}");
        }
        assert_eq!(curve(&[]), "");
        assert_eq!(curve(&[("a", &[])]), "");
    }
}
