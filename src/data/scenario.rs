//! Scenarios: what changes from task to task (van de Ven, Tuytelaars & Tolias, Nature Machine Intelligence 2022).

use super::{ClassOrder, Dataset, Images, Membership, Steps, Target, Task, TaskStream, View};
use crate::error::{Error, Result};
use crate::rng::{Purpose, Rng};
use crate::settings::Choose;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// What changes from task to task, and whether a classifier is told the task.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scenario {
    /// Class-incremental: every task brings new classes, and all classes seen are told apart.
    #[default]
    Class,
    /// Task-incremental: the same, but the task of an image is known: other outputs are masked.
    Task,
    /// Domain-incremental: every task brings new classes, and a label is the class's place within its task; of images with masks,
    /// every task brings images of other domains with the same classes.
    Domain,
    /// Domain-incremental: all classes in every task, the pixels of each task permuted; task 0 is the identity.
    Permuted,
    /// Domain-incremental: all classes in every task, task t of T turned by 180·t/T degrees.
    Rotated,
}

/// A row of the table of scenarios.
struct Row {
    scenario: Scenario,
    name: &'static str,
    help: &'static str,
    /// What is special about it, for a reader of results.
    told: &'static str,
    /// True if every task has the same labels.
    shares_labels: bool,
    /// Where a task is another view of all images: that of a task, of so many, of images of so many pixels.
    view: Option<fn(usize, usize, usize) -> View>,
}

const ROWS: &[Row] = &[
    Row {
        scenario: Scenario::Class,
        name: "class",
        help: "Class-incremental: every task brings new classes, and all classes seen are told apart",
        told: "",
        shares_labels: false,
        view: None,
    },
    Row {
        scenario: Scenario::Task,
        name: "task",
        help: "Task-incremental: the same, but the task of an image is known: other outputs are masked",
        told: " The task of each test image is known: outputs of other tasks are masked.",
        shares_labels: false,
        view: None,
    },
    Row {
        scenario: Scenario::Domain,
        name: "domain",
        help: "Domain-incremental: every task brings new classes, and a label is the class's place within its task; with masks, \
               images of other domains",
        told: " A label is the place of a class within its task.",
        shares_labels: true,
        view: None,
    },
    Row {
        scenario: Scenario::Permuted,
        name: "permuted",
        help: "Domain-incremental: all classes in every task, the pixels of each task permuted; task 0 is the identity",
        told: " Every task has all classes, its pixels in another order.",
        shares_labels: true,
        view: Some(|task, _, n_pixels| View::permutation(task, n_pixels)),
    },
    Row {
        scenario: Scenario::Rotated,
        name: "rotated",
        help: "Domain-incremental: all classes in every task, task t of T turned by 180·t/T degrees",
        told: " Every task has all classes, turned by another angle.",
        shares_labels: true,
        view: Some(|task, n_tasks, _| View::rotation(task, n_tasks)),
    },
];

/// Names of the scenarios whose tasks bring classes, and of those whose tasks are views of all images.
pub(super) const BRINGS_CLASSES: &[&str] = &["class", "task", "domain"];
pub(super) const VIEWS: &[&str] = &["permuted", "rotated"];

impl Choose for Scenario {
    const NAMED: &'static [(Self, &'static str, &'static str)] = &{
        let (mut named, mut i) = ([(Scenario::Class, "", ""); ROWS.len()], 0);
        while i < ROWS.len() {
            named[i] = (ROWS[i].scenario, ROWS[i].name, ROWS[i].help);
            i += 1;
        }
        named
    };
}

impl Scenario {
    /// Every scenario.
    pub const ALL: &'static [Scenario] = &{
        let (mut all, mut i) = ([Scenario::Class; ROWS.len()], 0);
        while i < ROWS.len() {
            all[i] = ROWS[i].scenario;
            i += 1;
        }
        all
    };

    fn row(self) -> &'static Row {
        ROWS.iter().find(|row| row.scenario == self).expect("bug: a scenario without a row")
    }

    /// As on the command line.
    pub fn name(self) -> &'static str {
        self.row().name
    }

    /// What is special about it, in a sentence behind others; empty if nothing is.
    pub fn told(self) -> &'static str {
        self.row().told
    }

    /// True if every task has the same labels.
    pub fn shares_labels(self) -> bool {
        self.row().shares_labels
    }

    /// True if a task is another view of all images.
    pub fn is_view(self) -> bool {
        self.row().view.is_some()
    }
}

/// How a data set becomes a stream of tasks.
///
/// ```
/// use engram::data::{self, Scenario, Split};
/// let glyphs = data::spec("glyphs")?.load("unused: it is built in".as_ref())?;
/// // Ten tasks over the same ten classes, the pixels in another order in each.
/// let split = Split { scenario: Scenario::Permuted, n_tasks: 10, limit_per_task: Some(50), ..Split::default() };
/// let (dataset, stream) = split.tasks(&glyphs)?;
/// assert_eq!((stream.tasks.len(), stream.n_classes, stream.tasks[9].train.len()), (10, 10, 50));
/// let sample = stream.tasks[3].train[0];
/// assert_ne!(dataset.train.sample(sample), dataset.train.sample(stream.tasks[0].train[0]));
/// # Ok::<(), engram::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Split {
    /// What changes from task to task.
    pub scenario: Scenario,
    /// New classes per task; unused by views, which have all classes in every task.
    pub classes_per_task: usize,
    /// Classes of the first task, if it is of another size.
    pub first_task: Option<usize>,
    /// Tasks of permuted and rotated streams.
    pub n_tasks: usize,
    /// The order in which classes arrive.
    pub order: ClassOrder,
    /// Training images per task, balanced over its classes.
    pub limit_per_task: Option<usize>,
    /// M: so many percent of each task's samples come from the other tasks (Blurry-M; Bang et al., CVPR 2021). The
    /// samples of a task that leave it go to the others in turn.
    pub blurry: usize,
    /// Of images with masks: the classes or domains that each task brings; by default half of them, then one at a time.
    pub steps: Option<Steps>,
    /// Of images with masks: which of them belong to a task that brings classes.
    pub membership: Membership,
}

impl Default for Split {
    fn default() -> Split {
        Split {
            scenario: Scenario::Class,
            classes_per_task: 2,
            first_task: None,
            n_tasks: 10,
            order: ClassOrder::Natural,
            limit_per_task: None,
            blurry: 0,
            steps: None,
            membership: Membership::Overlapped,
        }
    }
}

impl Split {
    /// The tasks, and the data set that their samples index: the one given, or one with views of its images.
    ///
    /// # Errors
    /// [`Error::Usage`] if the numbers make no sense for this data set.
    pub fn tasks(&self, dataset: &Dataset) -> Result<(Dataset, TaskStream)> {
        if dataset.target() == Target::Mask {
            return Ok((dataset.clone(), self.of_masks(dataset)?));
        }
        if let Some(view) = self.scenario.row().view {
            return self.views(dataset, view);
        }
        let n = self.order.numbered(&dataset.class_names)?.classes(dataset.n_classes())?.len();
        let first = self.first_task.unwrap_or(self.classes_per_task);
        if self.first_task.is_some() && !(1..=n).contains(&first) {
            return Err(Error::usage(format!("a first task of {first} classes is not possible: choose 1 to {n}")));
        }
        let mut stream =
            TaskStream::with_first(dataset, first, self.classes_per_task, &self.order, self.limit_per_task)?;
        if self.scenario == Scenario::Domain {
            self.share_labels(&mut stream);
        }
        self.blur(&mut stream);
        Ok((dataset.clone(), stream))
    }

    /// A label is the place of a class within its task.
    fn share_labels(&self, stream: &mut TaskStream) {
        for task in &mut stream.tasks {
            for (label, &class) in (0..).zip(&task.classes) {
                stream.label_of_class[class as usize] = label;
            }
            task.first_label = 0;
        }
        stream.n_classes = stream.tasks.iter().map(|task| task.classes.len()).max().unwrap_or(0);
    }

    fn blur(&self, stream: &mut TaskStream) {
        let n_tasks = stream.tasks.len();
        if self.blurry == 0 || n_tasks < 2 {
            return;
        }
        let mut arriving = vec![Vec::new(); n_tasks];
        for task in &mut stream.tasks {
            let n_leaving = task.train.len() * self.blurry / 100;
            Rng::keyed(0, Purpose::Blur, task.index as u64).shuffle(&mut task.train);
            let leaving = task.train.split_off(task.train.len() - n_leaving);
            for (i, sample) in leaving.into_iter().enumerate() {
                arriving[(task.index + 1 + i % (n_tasks - 1)) % n_tasks].push(sample);
            }
        }
        for (task, arriving) in stream.tasks.iter_mut().zip(arriving) {
            task.train.extend(arriving);
            task.train.sort_unstable();
        }
    }

    fn views(&self, dataset: &Dataset, view: fn(usize, usize, usize) -> View) -> Result<(Dataset, TaskStream)> {
        let Images { height, width, channels, .. } = *dataset.train;
        if dataset.mean.len() != channels {
            let message = "--normalize mean-image does not suit tasks that move pixels: use --normalize channel";
            return Err(Error::usage(message));
        }
        if self.scenario == Scenario::Rotated && height != width {
            return Err(Error::usage(format!("images of {height}×{width} cannot be turned: they are not square")));
        }
        let most = u32::MAX as usize / dataset.train.len().max(dataset.test.len()).max(1);
        if self.n_tasks > most {
            return Err(Error::usage(format!(
                "{} tasks of this data set are too many: choose 1 to {most}",
                self.n_tasks
            )));
        }
        let n = self.order.numbered(&dataset.class_names)?.classes(dataset.n_classes())?.len();
        let plain = TaskStream::split(dataset, n, &self.order, self.limit_per_task)?;
        let base = &plain.tasks[0];
        let views: Vec<View> = (0..self.n_tasks).map(|task| view(task, self.n_tasks, height * width)).collect();
        let through = |samples: &[u32], images: &Images, view: usize| {
            samples.iter().map(|sample| (view * images.len()) as u32 + sample).collect()
        };
        let tasks = (0..self.n_tasks).map(|index| Task {
            index,
            train: through(&base.train, &dataset.train, index),
            test: through(&base.test, &dataset.test, index),
            ..base.clone()
        });
        let stream = TaskStream { tasks: tasks.collect(), ..plain };
        let seen = |images: &Images| Arc::new(images.seen_through(views.clone()));
        Ok((Dataset { train: seen(&dataset.train), test: seen(&dataset.test), ..dataset.clone() }, stream))
    }
}
