//! What runs of a campaign are given by a terminal: data and device, and somebody who shows and pages them.

use super::{INTERRUPTED, use_threads, warn};
use crate::campaign::{RunListener, Workplace};
use crate::data::Dataset;
use crate::device::{Device, Options, Selection, Trace};
use crate::error::Result;
use crate::experiment::Config;
use crate::experiment::results::{Metrics, Timing};
use crate::experiment::sink::{Listener, Phase, Progress, RunHeader, Sink, Started, TaskFinished, TaskStarted};
use crate::report::{Console, ReportPage, renew_run};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// How much of a run is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    /// Tables.
    All,
    /// One line when it ends.
    Line,
    /// One line, and a bar until then.
    Bar,
}

/// Data and device that are open, and what is shown of runs.
pub struct Terminal {
    shown: Shown,
    checked: bool,
    trace: bool,
    /// The command that shows the same stream without the method, for the closing summary.
    compare_with: fn(&Config) -> Option<String>,
    data: Option<(String, Arc<Dataset>)>,
    device: Option<(String, Device)>,
}

impl Terminal {
    /// With nothing open yet.
    pub fn new(shown: Shown) -> Terminal {
        Terminal { shown, checked: false, trace: false, compare_with: |_| None, data: None, device: None }
    }

    /// With bounds checks in shaders, and a line per GPU dispatch.
    pub fn debugging(self, checked: bool, trace: bool) -> Terminal {
        Terminal { checked, trace, ..self }
    }

    /// With a hint at what to compare with.
    pub fn hinting(self, compare_with: fn(&Config) -> Option<String>) -> Terminal {
        Terminal { compare_with, ..self }
    }

    /// Time per kernel, where it was asked for.
    pub fn tell_trace(&self) {
        if let Some((_, Device::Gpu(gpu))) = &self.device
            && let Some(summary) = gpu.trace_summary()
        {
            eprintln!("\n{summary}");
        }
    }

    fn data(&mut self, config: &Config) -> Result<Arc<Dataset>> {
        let key = format!("{:?} {}", config.data.load_options(), config.data.dataset);
        if self.data.as_ref().is_none_or(|(known, _)| *known != key) {
            // Two large sets at once are more than is needed.
            self.data = None;
            let dataset = config.data.source().load(&config.data.load_options())?;
            dataset.notes.iter().for_each(|note| warn(note));
            self.data = Some((key, Arc::new(dataset)));
        }
        let (_, dataset) = self.data.as_ref().expect("bug: it has just been loaded");
        if dataset.flips == config.data.augment.flips() {
            return Ok(dataset.clone());
        }
        Ok(Arc::new(Dataset { flips: config.data.augment.flips(), ..Dataset::clone(dataset) }))
    }

    fn device(&mut self, config: &Config) -> Result<Device> {
        let key = format!("{:?}", config.place);
        if self.device.as_ref().is_none_or(|(known, _)| *known != key) {
            let trace = if self.trace { Trace::Lines } else { Trace::Off };
            let precision = config.place.precision;
            let options = Options { checked: self.checked, trace, cache: true, precision, ..Default::default() };
            let (device, warning) = config.place.device.parse::<Selection>()?.open(options)?;
            warning.iter().for_each(|warning| warn(warning));
            if self.trace && matches!(device, Device::Cpu(_)) {
                warn("--trace shows GPU dispatches; the CPU has none");
            }
            self.device = Some((key, device));
        }
        Ok(self.device.as_ref().expect("bug: it has just been opened").1.clone())
    }
}

impl Workplace for Terminal {
    fn open(&mut self, config: &Config) -> Result<(Arc<Dataset>, Device)> {
        use_threads(config.place.threads);
        Ok((self.data(config)?, self.device(config)?))
    }

    fn listener(&mut self, config: &Config, folder: &Path) -> Box<dyn RunListener> {
        let console = match self.shown {
            Shown::All => Console::new(false).compare_with((self.compare_with)(config)),
            Shown::Line => Console::new(true),
            Shown::Bar => Console::brief(),
        };
        Box::new(Screen { console, page: ReportPage::new(folder) })
    }

    fn renew(&mut self, folder: &Path) -> Result<bool> {
        renew_run(folder)
    }

    fn warn(&mut self, text: &str) {
        warn(text);
    }

    fn tell(&mut self, text: &str) {
        eprintln!("{text}");
    }

    fn interrupted(&self) -> &'static AtomicBool {
        &INTERRUPTED
    }
}

/// A run on the screen and on its page.
struct Screen {
    page: ReportPage,
    console: Console,
}

impl Screen {
    fn both(&mut self) -> [&mut dyn Sink; 2] {
        [&mut self.page, &mut self.console]
    }
}

impl RunListener for Screen {
    fn finish(&mut self) -> Result<()> {
        self.page.finish()
    }
}

impl Listener for Screen {
    fn training(&mut self, started: &Started) {
        self.both().training(started);
    }

    fn progress(&mut self, progress: &Progress) {
        self.both().progress(progress);
    }

    fn warning(&mut self, text: &str) {
        self.both().warning(text);
    }
}

impl Sink for Screen {
    fn run_started(&mut self, header: &RunHeader) {
        self.both().run_started(header);
    }

    fn task_started(&mut self, task: &TaskStarted) {
        self.both().task_started(task);
    }

    fn phase(&mut self, phase: Phase) {
        self.both().phase(phase);
    }

    fn task_finished(&mut self, task: &TaskFinished) {
        self.both().task_finished(task);
    }

    fn run_finished(&mut self, metrics: &Metrics, timing: &Timing, folder: Option<&Path>) {
        self.both().run_finished(metrics, timing, folder);
    }
}
