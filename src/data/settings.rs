//! What may be set about data and about the stream of tasks that they become.

use super::scenario::{BRINGS_CLASSES, VIEWS};
use super::{
    Augmentation, ClassOrder, ImageFormat, Labels, LoadOptions, Membership, Normalize, Scenario, Source, Split,
};
use super::{Steps, Target};
use crate::error::{Error, Result};
use crate::settings::{Kind, Origin, Setting, Values, flag};
use std::path::PathBuf;

/// The rows of [`DataSettings`].
pub const DATA: &[Setting] = &[
    Setting::new("dataset", "NAME", Kind::Text, "Data set: a name from `engram datasets`, folder:DIR, masks:DIR")
        .usually("glyphs"),
    Setting::new("data_dir", "DIR", Kind::Path, "Folder with data files")
        .usually("datasets")
        .place()
        .variable("ENGRAM_DATA_DIR"),
    Setting::choice::<Labels>("labels", "KIND", "Classes, or groups of classes where there are some").usually("fine"),
    Setting::new(
        "image_format",
        "FORMAT",
        Kind::Text,
        "What pictures of a folder become: rgbN, greyN, or rgb96x128 (rows, columns)",
    )
    .usually("rgb32")
    .needs(
        "dataset",
        &["folder:*", "masks:*"],
        "it is for folders of pictures (--dataset folder:DIR or masks:DIR)",
    ),
    Setting::choice::<Normalize>("normalize", "HOW", "How pixels are brought around zero").usually("channel"),
    Setting::choice::<Augmentation>(
        "augment",
        "WHICH",
        "Random changes of training images; with mirrors, class means are over mirror images too",
    )
    .follows("none for writing and clothes, crop-flip for natural images"),
];

/// Which images there are, and what is done to them.
#[derive(Clone, Debug)]
pub struct DataSettings {
    /// The data set by name.
    pub dataset: String,
    /// The folder with data files.
    pub data_dir: PathBuf,
    /// Which labels of a data set that has two kinds.
    pub labels: Labels,
    /// What pictures of a folder become.
    pub image_format: ImageFormat,
    /// How pixels are brought around zero.
    pub normalize: Normalize,
    /// Random changes of training images.
    pub augment: Augmentation,
}

/// The settings of the data set that are not given and follow from it.
///
/// # Errors
/// An unknown data set or format.
pub fn data_recipe(given: &Values) -> Result<Values> {
    let dataset = given.find::<String>("dataset").unwrap_or_else(|| "glyphs".into());
    let source = Source::parse(&dataset)?;
    let format = given.find::<String>("image_format").map(|text| text.parse()).transpose()?.unwrap_or_default();
    let augment = crate::settings::Choose::name(source.augmentation(format));
    let rows: Vec<&'static Setting> = DATA.iter().collect();
    Values::of(&rows, &[("augment", augment)], &Origin::Recipe(dataset))
}

impl DataSettings {
    /// Resolved values as what they mean.
    ///
    /// # Errors
    /// An unknown data set or format; a path that is no UTF-8.
    pub fn of(values: &Values) -> Result<DataSettings> {
        let dataset: String = values.get("dataset");
        Source::parse(&dataset)?;
        Ok(DataSettings {
            dataset,
            data_dir: values.get("data_dir"),
            labels: values.get("labels"),
            image_format: values
                .find::<String>("image_format")
                .map(|text| text.parse())
                .transpose()?
                .unwrap_or_default(),
            normalize: values.find("normalize").unwrap_or_default(),
            augment: values.get("augment"),
        })
    }

    /// The data set by name.
    pub fn source(&self) -> Source {
        Source::parse(&self.dataset).expect("bug: settings with an unknown data set")
    }

    /// How to load it.
    pub fn load_options(&self) -> LoadOptions {
        LoadOptions {
            data_dir: self.data_dir.clone(),
            labels: self.labels,
            format: self.image_format,
            normalize: self.normalize,
        }
    }
}

const HAS_ALL_CLASSES: &str =
    "every task of a permuted or rotated stream has all classes; --tasks says how many tasks there are";

/// The rows of [`StreamSettings`].
pub const STREAM: &[Setting] = &[
    Setting::choice::<Scenario>("scenario", "WHICH", "What changes from task to task").usually("class"),
    Setting::whole("classes_per_task", "N", "New classes per task")
        .follows("2; 10 where there are 100 classes or more")
        .needs("scenario", BRINGS_CLASSES, HAS_ALL_CLASSES),
    Setting::whole("first_task", "N", "Classes of the first task").open("as of the others").needs(
        "scenario",
        BRINGS_CLASSES,
        HAS_ALL_CLASSES,
    ),
    Setting::whole("tasks", "N", "Tasks of permuted and rotated streams").usually("10").needs(
        "scenario",
        VIEWS,
        "how many tasks there are follows from --classes-per-task; --max-tasks ends a run early",
    ),
    Setting::whole("blurry", "PERCENT", "Blurry stream: so many percent of a task's images come from other tasks")
        .between(0, u64::MAX)
        .usually("0"),
    Setting::new(
        "class_order",
        "ORDER",
        Kind::Text,
        "natural, seed:N, icarl or icarl-1993 (CIFAR-100), or a list of numbers or names such as 3,1,4",
    )
    .usually("natural"),
    Setting::whole("limit_per_task", "N", "Use at most this many training images per task, balanced over its classes")
        .open("all"),
    Setting::whole("max_tasks", "N", "End after the first N tasks").open("all"),
    Setting::new(
        "steps",
        "A-B",
        Kind::Text,
        "With masks: classes (without the background) or domains of the tasks; 4-1 is 4, then 1 at a time; 4-1-1 is three tasks",
    )
    .follows("half of them, then one at a time"),
    Setting::choice::<Membership>("setup", "WHICH", "With masks: the images of a task that brings classes")
        .usually("overlapped")
        .needs("scenario", &["class"], "with --scenario domain every image is of one task anyway"),
];

/// Rows of streams of images with one class each, and of images with masks.
const OF_CLASSES: &[&str] = &["classes_per_task", "first_task", "tasks", "blurry"];
const OF_MASKS: &[&str] = &["steps", "setup"];

/// The rows of streams of this kind of data set.
pub fn stream_rows(target: Target) -> impl Iterator<Item = &'static Setting> {
    let foreign = if target == Target::Mask { OF_CLASSES } else { OF_MASKS };
    STREAM.iter().filter(move |row| !foreign.contains(&row.name))
}

/// What is known of the labels of a data set before it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Targets {
    /// What is said about an image.
    pub target: Target,
    /// How many classes there are.
    pub n_classes: usize,
    /// How many domains images with masks are from; 0 elsewhere.
    pub n_domains: usize,
}

impl Targets {
    /// That a setting is for data sets of the other kind; `None` if it is not.
    pub fn refuse(self, name: &str) -> Option<Error> {
        let instead = match (self.target, name) {
            (Target::Mask, name) if OF_CLASSES.contains(&name) => {
                "the data set has masks; --steps says what each task brings, as in --steps 3-1"
            }
            (Target::Class, name) if OF_MASKS.contains(&name) => {
                "it is for data sets with masks, such as shape-city; --classes-per-task says what each task brings"
            }
            _ => return None,
        };
        Some(Error::usage(format!("{} has no effect here: {instead}", flag(name))))
    }
}

/// How data become a stream of tasks.
#[derive(Clone, Debug)]
pub struct StreamSettings {
    /// What changes from task to task.
    pub scenario: Scenario,
    /// New classes per task.
    pub classes_per_task: usize,
    /// Classes of the first task; as many as in others if `None`.
    pub first_task: Option<usize>,
    /// Tasks of permuted and rotated streams.
    pub tasks: usize,
    /// So many percent of a task's images come from other tasks.
    pub blurry: usize,
    /// The order in which classes arrive.
    pub class_order: ClassOrder,
    /// Training images per task; all if `None`.
    pub limit_per_task: Option<usize>,
    /// The stream ends after so many tasks.
    pub max_tasks: Option<usize>,
    /// With masks: what each task brings.
    pub steps: Option<Steps>,
    /// With masks: which images belong to a task that brings classes.
    pub membership: Membership,
}

/// The settings of the stream that follow from the number of classes, or from that of domains.
///
/// # Errors
/// Never, as the rows are these.
pub fn stream_recipe(given: &Values, targets: Targets) -> Result<Values> {
    let rows: Vec<&'static Setting> = STREAM.iter().collect();
    let Targets { target, n_classes, n_domains } = targets;
    if target == Target::Mask {
        let by_domain = given.find::<String>("scenario").is_some_and(|scenario| scenario == "domain");
        let (n, what) = if by_domain { (n_domains, "domains") } else { (n_classes - 1, "classes") };
        let steps = Steps::usual(n).to_string();
        return Values::of(&rows, &[("steps", &steps)], &Origin::Recipe(format!("{n} {what}")));
    }
    let few = if n_classes < 100 { "2" } else { "10" };
    Values::of(&rows, &[("classes_per_task", few)], &Origin::Recipe(format!("{n_classes} classes")))
}

impl StreamSettings {
    /// Resolved values as what they mean, for a data set with these labels.
    ///
    /// # Errors
    /// [`Error::Usage`] if a number makes no sense.
    pub fn of(values: &Values, targets: Targets) -> Result<StreamSettings> {
        let n_classes = targets.n_classes;
        let stream = StreamSettings {
            scenario: values.get("scenario"),
            classes_per_task: values.find("classes_per_task").unwrap_or(n_classes),
            first_task: values.find("first_task"),
            tasks: values.find("tasks").unwrap_or(1),
            blurry: values.find("blurry").unwrap_or(0),
            class_order: values.get::<String>("class_order").parse()?,
            limit_per_task: values.find("limit_per_task"),
            max_tasks: values.find("max_tasks"),
            steps: values.find::<String>("steps").map(|text| text.parse()).transpose()?,
            membership: values.find("setup").unwrap_or_default(),
        };
        if targets.target == Target::Mask {
            let n_tasks = stream.check_masks(values, targets)?;
            return stream.ending_within(n_tasks, values);
        }
        let StreamSettings { classes_per_task: n, blurry, scenario, .. } = stream;
        if n > n_classes {
            let dataset: String = values.get("dataset");
            return Err(Error::usage(format!("--classes-per-task {n}: '{dataset}' has only {n_classes} classes")));
        }
        if blurry > 0 && (scenario != Scenario::Class || blurry > 99) {
            let message = format!("--blurry {blurry}: a percentage from 1 to 99, with --scenario class");
            return Err(Error::usage(message));
        }
        let n_tasks = match stream.scenario.is_view() {
            true => stream.tasks,
            false => {
                let n = stream.class_order.classes(n_classes)?.len();
                let first = stream.first_task.unwrap_or(stream.classes_per_task).min(n);
                1 + (n - first).div_ceil(stream.classes_per_task)
            }
        };
        stream.ending_within(n_tasks, values)
    }

    /// The number of tasks.
    fn check_masks(&self, values: &Values, targets: Targets) -> Result<usize> {
        let asked = |name: &str| values.origin(name).is_some_and(Origin::is_asked_for);
        let (n, what) = match self.scenario {
            Scenario::Class => (targets.n_classes - 1, "classes beside the background"),
            Scenario::Domain if asked("class_order") && self.class_order != ClassOrder::Natural => {
                let message = "--class-order has no effect here: with --scenario domain every task has all classes";
                return Err(Error::usage(message));
            }
            Scenario::Domain => (targets.n_domains, "domains"),
            other => {
                return Err(Error::usage(format!(
                    "--scenario {}: images with masks have class-incremental and domain-incremental streams (--scenario class \
                     or domain)",
                    other.name()
                )));
            }
        };
        Ok(self.steps.clone().unwrap_or_else(|| Steps::usual(n)).sizes(n, what)?.len())
    }

    /// A stream that was to end after more tasks than it has: a mistake, and of no effect where a preset says so.
    fn ending_within(self, n_tasks: usize, values: &Values) -> Result<StreamSettings> {
        match self.max_tasks {
            Some(n) if n > n_tasks && values.origin("max_tasks").is_some_and(Origin::is_asked_for) => {
                Err(Error::usage(format!("--max-tasks {n} has no effect here: the stream has {n_tasks} tasks")))
            }
            max_tasks => Ok(StreamSettings { max_tasks: max_tasks.filter(|n| *n <= n_tasks), ..self }),
        }
    }

    /// How the data set is split.
    pub fn split(&self) -> Split {
        Split {
            scenario: self.scenario,
            classes_per_task: self.classes_per_task,
            first_task: self.first_task,
            n_tasks: self.tasks,
            order: self.class_order.clone(),
            limit_per_task: self.limit_per_task,
            blurry: self.blurry,
            steps: self.steps.clone(),
            membership: self.membership,
        }
    }
}
