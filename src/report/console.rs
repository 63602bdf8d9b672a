//! A run as it happens, for a person at a terminal.

use super::summary::{Summary, main_classifier};
use super::table::{run_header, table_header, table_row};
use super::text::{counted, fit, message, percent, printable, wrap};
use crate::experiment::results::{Metrics, Timing};
use crate::experiment::sink::{Listener, Phase, Progress, RunHeader, Sink, TaskFinished, TaskStarted};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::{IsTerminal, Stdout, Write, stderr, stdout};
use std::path::Path;

/// Shows a progress bar per task on stderr (none when stderr is no terminal), and on stdout a table with a row per
/// task and the closing summary. A quiet console prints one line at the end of a run.
///
/// Drop it before an error message is printed: that clears a bar still on the screen.
pub struct Console<W: Write = Stdout> {
    out: W,
    quiet: bool,
    show_bars: bool,
    compare_with: Option<String>,
    memory: Option<usize>,
    n_epochs: usize,
    classes: Vec<String>,
    last_loss: Option<f32>,
    table_begun: bool,
    bar: Option<ProgressBar>,
}

impl Console {
    /// Writes to stdout and stderr.
    pub fn new(quiet: bool) -> Console {
        Console::writing_to(stdout(), quiet, !quiet && stderr().is_terminal())
    }
}

impl Console {
    /// One line at the end of a run, and until then the bar alone: for a run among many.
    pub fn brief() -> Console {
        Console::writing_to(stdout(), true, stderr().is_terminal())
    }
}

impl<W: Write> Console<W> {
    fn writing_to(out: W, quiet: bool, show_bars: bool) -> Console<W> {
        Console {
            out,
            quiet,
            show_bars,
            compare_with: None,
            memory: None,
            n_epochs: 0,
            classes: Vec::new(),
            last_loss: None,
            table_begun: false,
            bar: None,
        }
    }

    /// The command that runs the same stream with nothing against forgetting, for the closing summary.
    pub fn compare_with(mut self, command: Option<String>) -> Console<W> {
        self.compare_with = command;
        self
    }

    /// A closed pipe (`engram icarl | head`) is no reason to lose a run, hence no error.
    fn print(&mut self, text: &str) {
        let _ = self.out.write_all(printable(text).as_bytes()).and_then(|()| self.out.flush());
    }

    fn clear_bar(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

impl<W: Write> Listener for Console<W> {
    fn progress(&mut self, progress: &Progress) {
        self.last_loss = progress.loss.or(self.last_loss);
        if let Some(bar) = &self.bar {
            bar.set_position(progress.batch as u64);
            if progress.batch > 0 {
                let eta = bar.eta().as_secs();
                bar.set_message(progress_message(progress.epoch, self.n_epochs, self.last_loss, eta));
            }
        }
    }

    fn warning(&mut self, text: &str) {
        let text = message(&format!("warning: {text}"));
        match &self.bar {
            Some(bar) => bar.println(text.trim_end()),
            None => eprint!("{text}"),
        }
    }
}

impl<W: Write> Sink for Console<W> {
    fn run_started(&mut self, header: &RunHeader) {
        self.memory = header.memory;
        self.table_begun = false;
        if !self.quiet {
            self.print(&run_header(header));
        }
    }

    fn task_started(&mut self, task: &TaskStarted) {
        self.classes.clone_from(&task.classes);
        self.n_epochs = task.n_epochs;
        self.last_loss = None;
        self.clear_bar();
        if self.show_bars {
            let bar = ProgressBar::with_draw_target(Some(task.n_batches as u64), ProgressDrawTarget::stderr());
            let template = "{prefix} [{bar:16}] {percent:>3} %  {msg}";
            bar.set_style(ProgressStyle::with_template(template).expect("a valid template").progress_chars("█▌ "));
            bar.set_prefix(format!("task {}/{}", task.task + 1, task.n_tasks));
            bar.set_message(task_message(task));
            self.bar = Some(bar);
        }
    }

    fn phase(&mut self, phase: Phase) {
        // While training the message comes with `progress`, and until then it says what the task brings.
        let message = match phase {
            Phase::Training => {
                if let Some(bar) = &self.bar {
                    bar.reset_eta();
                }
                return;
            }
            Phase::Preparation => "preparing",
            Phase::Exemplars => "choosing what to keep",
            Phase::Evaluation => "evaluating",
        };
        if let Some(bar) = &self.bar {
            bar.set_message(message);
        }
    }

    fn task_finished(&mut self, task: &TaskFinished) {
        self.clear_bar();
        if self.quiet {
            return;
        }
        if !self.table_begun {
            self.table_begun = true;
            self.print(&table_header(task.metrics));
        }
        self.print(&table_row(task.metrics, task.task, task.n_tasks, &self.classes, task.seconds));
    }

    fn run_finished(&mut self, metrics: &Metrics, timing: &Timing, folder: Option<&Path>) {
        self.clear_bar();
        let text = if self.quiet {
            quiet_line(metrics, folder)
        } else {
            let compare_with = self.compare_with.as_deref();
            Summary { metrics, timing: Some(timing), memory: self.memory, compare_with, folder }.text()
        };
        self.print(&text);
    }
}

fn task_message(task: &TaskStarted) -> String {
    let images = counted(task.n_images, "new image", "new images");
    match task.n_exemplars {
        0 => images,
        n => fit(&format!("{images}, {}", counted(n, "exemplar", "exemplars")), 40),
    }
}

fn progress_message(epoch: usize, n_epochs: usize, loss: Option<f32>, eta_seconds: u64) -> String {
    let loss = loss.map_or(String::new(), |loss| format!("  loss {loss:.4}"));
    fit(&format!("epoch {}/{n_epochs}{loss}  {eta_seconds} s left", epoch + 1), 40)
}

fn quiet_line(metrics: &Metrics, folder: Option<&Path>) -> String {
    let accuracy = main_classifier(metrics).and_then(|(name, result)| Some((name, result.final_accuracy()?)));
    let accuracy = accuracy.map_or("no result".to_string(), |(name, a)| format!("{} ({name})", percent(a)));
    let folder = folder.map_or(String::new(), |folder| format!(", results in {}", folder.display()));
    wrap(&format!("{} on {}, seed {}: {accuracy}{folder}", metrics.method, metrics.dataset, metrics.seed), 2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiment::results::MemoryBytes;
    use crate::report::{WIDTH, summary::tests::icarl};

    fn header() -> RunHeader {
        RunHeader {
            method: "icarl".into(),
            dataset: "glyphs".into(),
            model: "cnn".into(),
            device: "cpu".into(),
            n_tasks: 3,
            classes_per_task: vec![vec![0, 1], vec![2, 3], vec![4, 5]],
            n_classes: 6,
            n_domains: 0,
            memory: Some(200),
            seed: 7,
            n_parameters: 421_642,
            n_train: 1000,
            n_test: 500,
        }
    }

    fn started(task: usize, n_tasks: usize) -> TaskStarted {
        let classes = vec![(2 * task).to_string(), (2 * task + 1).to_string()];
        TaskStarted { task, n_tasks, classes, n_images: 2_000, n_exemplars: 200, n_epochs: 2, n_batches: 10 }
    }

    fn play(quiet: bool, bars: bool) -> String {
        let mut console = Console::writing_to(Vec::new(), quiet, bars).compare_with(Some("engram finetune".into()));
        let metrics = icarl();
        console.run_started(&header());
        for task in 0..3 {
            console.task_started(&started(task, 3));
            console.phase(Phase::Training);
            console.progress(&Progress { epoch: 0, batch: 1, loss: Some(0.5) });
            console.phase(Phase::Exemplars);
            console.phase(Phase::Evaluation);
            console.task_finished(&TaskFinished { task, n_tasks: 3, metrics: &metrics, seconds: 1.0, loss: None });
        }
        console.run_finished(&metrics, &Timing::default(), Some(Path::new("runs/x")));
        String::from_utf8(console.out).unwrap()
    }

    #[test]
    fn a_run_prints_header_table_and_summary() {
        let text = play(false, true);
        assert_eq!(text, play(false, false), "bars go to stderr and change nothing on stdout");
        assert!(text.starts_with("icarl on glyphs: cnn with 421,642 parameters, on cpu\n"), "{text}");
        assert!(text.contains("6 classes in 3 tasks, memory for 200 exemplars, seed 7\n"), "{text}");
        assert_eq!(text.matches("1st task       held  seconds").count(), 1, "one table");
        for row in ["    1/3  0 1 ", "    2/3  2 3 ", "    3/3  4 5 "] {
            assert!(text.contains(row), "{text}");
        }
        assert!(text.contains("90.0 %") && text.contains("runs/x") && text.contains("engram finetune"), "{text}");
        assert!(text.lines().all(|line| line.chars().count() <= WIDTH), "{text}");
    }

    #[test]
    fn quiet_is_one_line() {
        assert_eq!(play(true, false), "icarl on glyphs, seed 3: 90.0 % (nme), results in runs/x\n");
    }

    #[test]
    fn joint_has_one_row() {
        let mut metrics = icarl();
        metrics.method = "joint".into();
        metrics.classifiers.retain(|name, _| name == "network");
        metrics.memory_bytes = vec![MemoryBytes::default()];
        let mut network = crate::experiment::results::ClassifierResult::default();
        network.push(vec![Some(0.98), Some(0.99), Some(0.97)], 0.98);
        metrics.classifiers.insert("network".into(), network);
        let mut console = Console::writing_to(Vec::new(), false, false);
        console.run_started(&RunHeader { method: "joint".into(), memory: None, ..header() });
        console.task_started(&started(0, 1));
        console.task_finished(&TaskFinished { task: 0, n_tasks: 1, metrics: &metrics, seconds: 1.0, loss: None });
        console.run_finished(&metrics, &Timing::default(), None);
        let text = String::from_utf8(console.out).unwrap();
        assert!(text.contains("    1/1  0 1            98.0 %    98.0 %    0 bytes      1.0\n"), "{text}");
        assert!(!text.contains("NaN") && !text.contains("nme"), "{text}");
    }

    #[test]
    fn bar_messages_fit_beside_the_bar() {
        let prefix_bar_percent = "task 100/100".len() + 2 + 16 + 2 + 8;
        let message = progress_message(199, 200, Some(1e30), u64::MAX);
        assert!(prefix_bar_percent + message.chars().count() <= WIDTH, "{message}");
        assert_eq!(progress_message(0, 2, Some(0.25), 3), "epoch 1/2  loss 0.2500  3 s left");
        assert_eq!(task_message(&started(1, 3)), "2,000 new images, 200 exemplars");
    }
}
