//! What may be set about data and about the stream of tasks that they become.

use super::{Augmentation, ClassOrder, ImageFormat, Labels, LoadOptions, Normalize, Scenario, Source, Split};
use crate::error::{Error, Result};
use crate::settings::{Kind, Origin, Setting, Values};
use std::path::PathBuf;

/// The rows of [`DataSettings`].
pub const DATA: &[Setting] = &[
    Setting::new("dataset", "NAME", Kind::Text, "Data set: a name from `engram datasets`, or folder:DIR")
        .usually("glyphs"),
    Setting::new("data_dir", "DIR", Kind::Path, "Folder with data files")
        .usually("datasets")
        .place()
        .variable("ENGRAM_DATA_DIR"),
    Setting::choice::<Labels>("labels", "KIND", "Classes, or groups of classes where there are some").usually("fine"),
    Setting::new("image_format", "FORMAT", Kind::Text, "What pictures of a folder become: rgbN or greyN")
        .usually("rgb32")
        .needs("dataset", &["folder:*"], "it is for folders of pictures (--dataset folder:DIR)"),
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

const BRINGS_CLASSES: &[&str] = &["class", "task", "domain"];
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
        &["permuted", "rotated"],
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
];

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
}

/// The settings of the stream that follow from the number of classes.
///
/// # Errors
/// Never, as the rows are these.
pub fn stream_recipe(n_classes: usize) -> Result<Values> {
    let rows: Vec<&'static Setting> = STREAM.iter().collect();
    let few = if n_classes < 100 { "2" } else { "10" };
    Values::of(&rows, &[("classes_per_task", few)], &Origin::Recipe(format!("{n_classes} classes")))
}

impl StreamSettings {
    /// Resolved values as what they mean, for a data set of so many classes.
    ///
    /// # Errors
    /// [`Error::Usage`] if a number makes no sense.
    pub fn of(values: &Values, n_classes: usize) -> Result<StreamSettings> {
        let stream = StreamSettings {
            scenario: values.get("scenario"),
            classes_per_task: values.find("classes_per_task").unwrap_or(n_classes),
            first_task: values.find("first_task"),
            tasks: values.find("tasks").unwrap_or(1),
            blurry: values.get("blurry"),
            class_order: values.get::<String>("class_order").parse()?,
            limit_per_task: values.find("limit_per_task"),
            max_tasks: values.find("max_tasks"),
        };
        let StreamSettings { classes_per_task: n, blurry, scenario, .. } = stream;
        if n > n_classes {
            let dataset: String = values.get("dataset");
            return Err(Error::usage(format!("--classes-per-task {n}: '{dataset}' has only {n_classes} classes")));
        }
        if blurry > 0 && (scenario != Scenario::Class || blurry > 99) {
            let message = format!("--blurry {blurry}: a percentage from 1 to 99, with --scenario class");
            return Err(Error::usage(message));
        }
        stream.check_number_of_tasks(values, n_classes)?;
        Ok(stream)
    }

    /// A stream that was to end after more tasks than it has is a mistake.
    fn check_number_of_tasks(&self, values: &Values, n_classes: usize) -> Result<()> {
        let Some(asked) = self.max_tasks else { return Ok(()) };
        let n_tasks = match self.scenario.is_view() {
            true => self.tasks,
            false => {
                let n = self.class_order.classes(n_classes)?.len();
                let first = self.first_task.unwrap_or(self.classes_per_task).min(n);
                1 + (n - first).div_ceil(self.classes_per_task)
            }
        };
        if asked > n_tasks && values.origin("max_tasks").is_some_and(Origin::is_asked_for) {
            return Err(Error::usage(format!(
                "--max-tasks {asked} has no effect here: the stream has {n_tasks} tasks"
            )));
        }
        Ok(())
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
        }
    }
}
