//! Task streams: the classes of a data set, split into tasks that arrive one after the other.

use super::Dataset;
use crate::error::{Error, Result, did_you_mean};
use crate::rng::{Purpose, Rng};
use std::fmt;
use std::str::FromStr;

/// The label of a class that is not in the stream.
pub const NO_LABEL: u32 = u32::MAX;

/// Orders of CIFAR-100's classes that published results were measured with.
pub const NAMED_ORDERS: [(&str, [u8; 100]); 2] = [("icarl", ICARL), ("icarl-1993", ICARL_1993)];

/// The first of the orders of iCaRL's own code: NumPy's shuffle with seed 1993, after the loader of the data has drawn.
#[rustfmt::skip]
const ICARL: [u8; 100] = [
    87, 0, 52, 58, 44, 91, 68, 97, 51, 15, 94, 92, 10, 72, 49, 78, 61, 14, 8, 86, 84, 96, 18, 24, 32,
    45, 88, 11, 4, 67, 69, 66, 77, 47, 79, 93, 29, 50, 57, 83, 17, 81, 41, 12, 37, 59, 25, 20, 80, 73,
    1, 28, 6, 46, 62, 82, 53, 9, 31, 75, 38, 63, 33, 74, 27, 22, 36, 3, 16, 21, 60, 19, 70, 90, 89,
    43, 5, 42, 65, 76, 40, 30, 23, 85, 2, 95, 56, 48, 71, 64, 98, 13, 99, 7, 34, 55, 54, 26, 35, 39,
];

/// NumPy's shuffle of 0..100 with seed 1993 and nothing before it: the order of FACIL, PyCIL and LUCIR.
#[rustfmt::skip]
const ICARL_1993: [u8; 100] = [
    68, 56, 78, 8, 23, 84, 90, 65, 74, 76, 40, 89, 3, 92, 55, 9, 26, 80, 43, 38, 58, 70, 77, 1, 85,
    19, 17, 50, 28, 53, 13, 81, 45, 82, 6, 59, 83, 16, 15, 44, 91, 41, 72, 60, 79, 52, 20, 10, 31, 54,
    37, 95, 14, 71, 96, 98, 97, 2, 64, 66, 42, 22, 35, 86, 24, 34, 87, 21, 99, 0, 88, 27, 18, 94, 11,
    12, 47, 25, 30, 46, 62, 69, 36, 61, 7, 63, 75, 5, 32, 4, 51, 48, 73, 93, 39, 67, 29, 49, 57, 33,
];

/// The order in which classes arrive. Its text forms are `natural`, `seed:N`, a list of numbers like `3,1,4` or of names, and those of
/// [`NAMED_ORDERS`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClassOrder {
    /// 0, 1, 2, …
    Natural,
    /// A shuffle that depends on this seed only, not on the seed of the run.
    Seeded(u64),
    /// These classes; a class that is left out is not in the stream.
    Explicit(Vec<u32>),
    /// The classes of these names.
    Names(Vec<String>),
    /// An order of the literature, by its place in [`NAMED_ORDERS`].
    Named(usize),
}

const FORMS: &str =
    "natural, seed:N, icarl, icarl-1993, a list of class numbers like 3,1,4 or one of class names (not mixed)";

impl FromStr for ClassOrder {
    type Err = Error;

    fn from_str(text: &str) -> Result<ClassOrder> {
        let parsed = match (text, text.strip_prefix("seed:")) {
            ("natural", _) => Some(ClassOrder::Natural),
            (_, Some(seed)) => seed.parse().ok().map(ClassOrder::Seeded),
            _ if NAMED_ORDERS.iter().any(|(name, _)| *name == text) => {
                NAMED_ORDERS.iter().position(|(name, _)| *name == text).map(ClassOrder::Named)
            }
            _ => {
                let classes: Vec<&str> = text.split(',').map(str::trim).collect();
                let numbers: Vec<Option<u32>> = classes.iter().map(|class| class.parse().ok()).collect();
                // What begins with a sign or a digit is meant for a number.
                let is_name = |class: &&str| class.starts_with(|c: char| !c.is_ascii_digit() && !"+-".contains(c));
                match numbers.iter().copied().collect::<Option<_>>() {
                    Some(numbers) => Some(ClassOrder::Explicit(numbers)),
                    None if numbers.iter().all(Option::is_none) && classes.iter().all(is_name) => {
                        Some(ClassOrder::Names(classes.into_iter().map(String::from).collect()))
                    }
                    None => None,
                }
            }
        };
        parsed.ok_or_else(|| Error::usage(format!("class order \"{text}\" is none of {FORMS}")))
    }
}

impl fmt::Display for ClassOrder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ClassOrder::Natural => f.write_str("natural"),
            ClassOrder::Seeded(seed) => write!(f, "seed:{seed}"),
            ClassOrder::Named(order) => f.write_str(NAMED_ORDERS[*order].0),
            ClassOrder::Names(names) => f.write_str(&names.join(",")),
            ClassOrder::Explicit(classes) => {
                let texts: Vec<String> = classes.iter().map(u32::to_string).collect();
                f.write_str(&texts.join(","))
            }
        }
    }
}

impl ClassOrder {
    /// The same with numbers in place of names.
    ///
    /// Errors: a name that is no class's.
    pub fn numbered(&self, class_names: &[String]) -> Result<ClassOrder> {
        let ClassOrder::Names(names) = self else { return Ok(self.clone()) };
        let number = |name: &String| {
            let place = class_names.iter().position(|known| known == name).map(|place| place as u32);
            place.ok_or_else(|| {
                let known: Vec<&str> = class_names.iter().map(String::as_str).collect();
                let some = if known.len() > 20 { "" } else { &format!(", which are {}", known.join(", ")) };
                Error::usage(format!(
                    "class order {self}: '{name}' is none of the {} classes{some}{}. A class order is {FORMS}",
                    known.len(),
                    did_you_mean(name, &known)
                ))
            })
        };
        Ok(ClassOrder::Explicit(names.iter().map(number).collect::<Result<_>>()?))
    }

    /// The classes of the stream in order of arrival; places in the list, for names ([`ClassOrder::numbered`]).
    ///
    /// Errors: an explicit list that is empty, names a class twice, or names one that is not below `n_classes`; an order
    /// of the literature for another number of classes.
    pub fn classes(&self, n_classes: usize) -> Result<Vec<u32>> {
        let mut natural: Vec<u32> = (0..n_classes as u32).collect();
        match self {
            ClassOrder::Natural => Ok(natural),
            ClassOrder::Seeded(seed) => {
                Rng::keyed(*seed, Purpose::ClassOrder, 0).shuffle(&mut natural);
                Ok(natural)
            }
            ClassOrder::Named(order) => {
                let (name, classes) = NAMED_ORDERS[*order];
                if classes.len() != n_classes {
                    let n = classes.len();
                    return Err(Error::usage(format!(
                        "class order {name} is an order of {n} classes, as CIFAR-100 has; this data set has {n_classes}"
                    )));
                }
                Ok(classes.map(u32::from).to_vec())
            }
            ClassOrder::Names(names) => Ok((0..names.len() as u32).collect()),
            ClassOrder::Explicit(classes) => {
                if classes.is_empty() {
                    return Err(Error::usage("the class order is empty; name at least one class"));
                }
                for (i, class) in classes.iter().enumerate() {
                    if *class as usize >= n_classes {
                        let last = n_classes.saturating_sub(1);
                        let message =
                            format!("class order {self}: there is no class {class}, the classes are 0 to {last}");
                        return Err(Error::usage(message));
                    }
                    if classes[..i].contains(class) {
                        return Err(Error::usage(format!("class order {self}: class {class} is named twice")));
                    }
                }
                Ok(classes.clone())
            }
        }
    }
}

/// One task of a stream: some classes and their images; with masks, some classes or domains.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task {
    /// Its place in the stream, from 0.
    pub index: usize,
    /// Its classes as the data set numbers them, in order of arrival.
    pub classes: Vec<u32>,
    /// The label of its first class; the task's labels are `first_label .. first_label + classes.len()`.
    pub first_label: usize,
    /// The domains of its images, where a stream of images with masks goes by those; empty elsewhere.
    pub domains: Vec<u32>,
    /// Indices of its training images in the data set, ascending.
    pub train: Vec<u32>,
    /// Indices of its test images in the data set, ascending.
    pub test: Vec<u32>,
}

/// The tasks of a run, in order of arrival.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskStream {
    /// In order of arrival.
    pub tasks: Vec<Task>,
    /// The label of each class of the data set: its place in the order of arrival (in its task, where tasks share
    /// labels), [`NO_LABEL`] if it never arrives.
    pub label_of_class: Vec<u32>,
    /// Labels of the whole stream: the classes that arrive, or those of a task where tasks share labels.
    pub n_classes: usize,
    /// True where pixels of classes that are not the task's own are background in training: class-incremental segmentation.
    pub background_shift: bool,
}

impl TaskStream {
    /// The label that each class of the data set has in training on `task`. Where the background shifts, classes of earlier
    /// and later tasks are background; with `knows_old`, for references that may see all data, only those of later tasks.
    pub fn training_labels(&self, task: &Task, knows_old: bool) -> Vec<u32> {
        let (first, end) = (task.first_label as u32, (task.first_label + task.classes.len()) as u32);
        let own = |&label: &u32| match label {
            _ if !self.background_shift => label,
            label if (first..end).contains(&label) || (knows_old && label < end) => label,
            _ => 0,
        };
        self.label_of_class.iter().map(own).collect()
    }

    /// Splits a data set into tasks of `classes_per_task` classes; the last task is smaller if they do not divide. All
    /// classes in one task is joint training.
    ///
    /// `limit_per_task` shortens a protocol: a task gets its first that many training images, the same number of each
    /// class, the remainder going to the classes that come first; a class with fewer images gives all it has. Test
    /// images are never limited.
    ///
    /// Errors ([`Error::Usage`]): no class per task or more than there are, a bad explicit order, a limit that leaves a
    /// class without images, a class without training or test images.
    pub fn split(
        dataset: &Dataset,
        classes_per_task: usize,
        order: &ClassOrder,
        limit_per_task: Option<usize>,
    ) -> Result<TaskStream> {
        TaskStream::with_first(dataset, classes_per_task, classes_per_task, order, limit_per_task)
    }

    /// The same with another number of classes, in 1..=classes, in the first task.
    pub(super) fn with_first(
        dataset: &Dataset,
        first_task: usize,
        classes_per_task: usize,
        order: &ClassOrder,
        limit_per_task: Option<usize>,
    ) -> Result<TaskStream> {
        let classes = order.numbered(&dataset.class_names)?.classes(dataset.n_classes())?;
        let n_classes = classes.len();
        if classes_per_task == 0 || classes_per_task > n_classes {
            return Err(Error::usage(format!(
                "{classes_per_task} classes per task are not possible: the stream has {n_classes} classes of \"{}\", so \
                 choose 1 to {n_classes}",
                dataset.name
            )));
        }
        let mut label_of_class = vec![NO_LABEL; dataset.n_classes()];
        for (label, &class) in classes.iter().enumerate() {
            label_of_class[class as usize] = label as u32;
        }
        let train = images_of_label(&dataset.train.labels, &label_of_class, n_classes);
        let test = images_of_label(&dataset.test.labels, &label_of_class, n_classes);
        for (label, &class) in classes.iter().enumerate() {
            let part = if train[label].is_empty() { "training" } else { "test" };
            if train[label].is_empty() || test[label].is_empty() {
                let name = &dataset.name;
                return Err(Error::usage(format!("class {class} of \"{name}\" has no {part} images; leave it out")));
            }
        }

        let mut tasks = Vec::new();
        let (first, rest) = classes.split_at(first_task);
        let mut first_label = 0;
        for (index, classes) in [first].into_iter().chain(rest.chunks(classes_per_task)).enumerate() {
            let labels = first_label..first_label + classes.len();
            let quota = |i: usize| match limit_per_task {
                Some(limit) => limit / classes.len() + usize::from(i < limit % classes.len()),
                None => usize::MAX,
            };
            if quota(classes.len() - 1) == 0 {
                return Err(Error::usage(format!(
                    "a limit of {} training images per task leaves a class of task {index} without any; allow at least \
                     {}",
                    limit_per_task.unwrap_or(0),
                    classes.len()
                )));
            }
            let mut task_train: Vec<u32> = train[labels.clone()]
                .iter()
                .enumerate()
                .flat_map(|(i, all)| all.iter().take(quota(i)).copied())
                .collect();
            let mut task_test: Vec<u32> = test[labels].concat();
            task_train.sort_unstable();
            task_test.sort_unstable();
            tasks.push(Task {
                index,
                classes: classes.to_vec(),
                first_label,
                domains: Vec::new(),
                train: task_train,
                test: task_test,
            });
            first_label += classes.len();
        }
        Ok(TaskStream { tasks, label_of_class, n_classes, background_shift: false })
    }
}

/// The indices of the images of each label, ascending.
fn images_of_label(image_classes: &[u32], label_of_class: &[u32], n_labels: usize) -> Vec<Vec<u32>> {
    let mut images = vec![Vec::new(); n_labels];
    for (image_idx, &class) in image_classes.iter().enumerate() {
        let label = label_of_class[class as usize];
        if label != NO_LABEL {
            images[label as usize].push(image_idx as u32);
        }
    }
    images
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_of_an_order_is_read_back() {
        for text in ["natural", "seed:1993", "3,1,4", "cat,dog", "icarl", "icarl-1993"] {
            assert_eq!(text.parse::<ClassOrder>().unwrap().to_string(), text);
        }
        for text in ["", "seed:", "seed:-1", "3,,4", "3,cat", "-1"] {
            let message = text.parse::<ClassOrder>().unwrap_err().to_string();
            assert!(message.contains(&format!("\"{text}\"")) && message.contains("natural"), "{message}");
        }
    }

    #[test]
    fn orders_of_the_literature_are_orders_of_a_hundred_classes() {
        for (text, first, last) in [("icarl", [87, 0, 52], 39), ("icarl-1993", [68, 56, 78], 33)] {
            let order: ClassOrder = text.parse().unwrap();
            let mut classes = order.classes(100).unwrap();
            assert_eq!((&classes[..3], classes[99]), (&first[..], last));
            classes.sort_unstable();
            assert!(classes.iter().copied().eq(0..100), "{text} misses a class");
            let message = order.classes(10).unwrap_err().to_string();
            assert!(
                message.contains(text) && message.contains("100 classes") && message.contains("has 10"),
                "{message}"
            );
        }
    }

    #[test]
    fn seeded_orders_are_pinned() {
        // Published results name the seed of their class order, so its meaning must never change.
        let classes = ClassOrder::Seeded(1993).classes(10).unwrap();
        assert_eq!(classes, [6, 4, 8, 3, 2, 7, 1, 0, 5, 9]);
    }
}
