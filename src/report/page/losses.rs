//! The curve of the loss over all tasks, from what a run wrote down while it trained.

use super::files::RunFiles;
use super::plot::{Line, Plot};
use crate::report::text::thousands;
use std::collections::BTreeMap;

/// The weighted sum of a loss's terms, by task and step of the task.
pub(super) type Losses = BTreeMap<(usize, usize), f64>;

/// What `losses.csv` holds. Lines that are none are left out, and so is what was written down between two tasks.
pub(super) fn read(csv: &str) -> Losses {
    let mut losses = Losses::new();
    for line in csv.lines().skip(1) {
        let fields: Vec<&str> = line.split(',').collect();
        let &[task, epoch, step, _, weight, value, ..] = &fields[..] else { continue };
        let whole = |text: &str| text.parse::<usize>().ok();
        let (Some(task), Some(epoch), Some(step)) = (whole(task), whole(epoch), whole(step)) else { continue };
        let (Ok(weight), Ok(value)) = (weight.parse::<f64>(), value.parse::<f64>()) else { continue };
        // Steps count within the task, so only the first epoch has a step 0.
        if step > 0 || epoch == 0 {
            *losses.entry((task, step)).or_default() += weight * value;
        }
    }
    losses
}

/// The curve; nothing, if too little was written down for one.
pub(super) fn curve(run: &RunFiles) -> Option<String> {
    if run.losses.len() < 2 {
        return None;
    }
    let mut lines: Vec<Line> = Vec::new();
    let mut ticks: Vec<(f64, String)> = Vec::new();
    let (mut start, mut last, mut of_task) = (0, 0, usize::MAX);
    for (&(task, step), &loss) in &run.losses {
        if task != of_task {
            start = if lines.is_empty() { 0 } else { last + 1 };
            of_task = task;
            ticks.push((start as f64, format!("task {}", task + 1)));
            lines.push(Line { name: String::new(), points: Vec::new(), color: 0, dashed: false });
        }
        last = start.max(last).max(start + step);
        if loss.is_finite() {
            let points = &mut lines.last_mut().expect("bug: a task without a line").points;
            points.push(((start + step) as f64, loss));
        }
    }
    if ticks.len() == 1 {
        ticks.push((last as f64, format!("step {}", thousands(last as u64 + 1))));
    }
    // As many names as there is room for.
    let every = ticks.len().div_ceil(8);
    ticks.iter_mut().enumerate().filter(|(i, _)| i % every != 0).for_each(|(_, (_, name))| name.clear());
    let y_text = |y: f64| format!("{y:.3}").trim_end_matches('0').trim_end_matches('.').to_string();
    let label = "Loss of the training batches over all tasks";
    let plot = Plot { label, x_title: "", x_ticks: &ticks, y_text, from_zero: true };
    Some(format!(
        "<p>Of single batches, all terms together. Each task begins anew. All numbers, term by term, are in losses.csv.</p>\n{}",
        plot.draw(&lines)
    ))
}

#[cfg(test)]
mod tests {
    use super::read;

    #[test]
    fn terms_of_a_step_are_added_up() {
        let csv = "task,epoch,step,term,weight,value\n0,0,0,ce,1,2\n0,0,0,kd,0.5,4\n0,1,7,ce,1,1.5\n0,2,0,max(w)·lr,1,9\n1,0,0,ce,1,inf\nx\n";
        let losses = read(csv);
        assert_eq!(losses[&(0, 0)], 4.0);
        assert_eq!(losses[&(0, 7)], 1.5);
        assert!(losses[&(1, 0)].is_infinite() && losses.len() == 3);
    }
}
