//! Task streams of images with masks: domain-incremental, where every task brings images from other places and all classes are
//! known from the start, and class-incremental, where every task brings classes and all others are background (Cermelli et al.,
//! "Modeling the Background for Incremental Learning in Semantic Segmentation", CVPR 2020).

use super::{ClassOrder, Dataset, NO_LABEL, Scenario, Split, Task, TaskStream, VOID};
use crate::error::{Error, Result};
use crate::settings::choices;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

choices! {
    /// Which images a task of a class-incremental stream of masks learns from.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
    #[serde(rename_all = "lowercase")]
    pub enum Membership {
        #[default]
        /// Those with a pixel of one of its classes: an image may return with other labels, and future classes are in it.
        Overlapped = "overlapped",
        /// Those of them without any class that is still to come: an image is learned from once.
        Disjoint = "disjoint",
    }
}

/// How many classes or domains each task brings. Its text form is that of the literature: `15-1` is 15 first and then one at a
/// time for as long as there are some, three numbers or more are the tasks themselves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Steps(Vec<usize>);

impl FromStr for Steps {
    type Err = Error;

    fn from_str(text: &str) -> Result<Steps> {
        let sizes: Option<Vec<usize>> = text.split('-').map(|part| part.parse().ok().filter(|&n| n > 0)).collect();
        sizes.filter(|sizes| sizes.len() > 1).map(Steps).ok_or_else(|| {
            Error::usage(format!(
                "steps \"{text}\": two numbers such as 4-1, four first and then one at a time, or one for each task such as 4-1-1"
            ))
        })
    }
}

impl fmt::Display for Steps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts: Vec<String> = self.0.iter().map(usize::to_string).collect();
        f.write_str(&parts.join("-"))
    }
}

impl Steps {
    /// Half of them first, then one at a time: 3-1 of five classes, 4-1 of eight domains, 10-1 of VOC's twenty.
    pub fn usual(n: usize) -> Steps {
        Steps(vec![n.div_ceil(2).max(1), 1])
    }

    /// The number that each task brings of `n` there are, called `what` in messages. Two numbers go on for as long as there are
    /// enough; more leave out the rest.
    ///
    /// # Errors
    /// [`Error::Usage`] if there are fewer.
    pub fn sizes(&self, n: usize, what: &str) -> Result<Vec<usize>> {
        let mut sizes = self.0.clone();
        if let [first, each] = self.0[..] {
            let n_later = n.saturating_sub(first) / each;
            sizes = [vec![first], vec![each; n_later.max(1)]].concat();
        }
        let asked: usize = sizes.iter().sum();
        if asked > n {
            return Err(Error::usage(format!("--steps {self} asks for {asked} {what}, and the data set has {n}")));
        }
        Ok(sizes)
    }
}

impl Split {
    /// The tasks of a data set with masks.
    pub(super) fn of_masks(&self, dataset: &Dataset) -> Result<TaskStream> {
        match self.scenario {
            Scenario::Class => self.by_class(dataset),
            Scenario::Domain => self.by_domain(dataset),
            other => Err(Error::usage(format!(
                "--scenario {}: images with masks have class-incremental and domain-incremental streams (--scenario class or \
                 domain)",
                other.name()
            ))),
        }
    }

    fn steps(&self, n: usize) -> Steps {
        self.steps.clone().unwrap_or_else(|| Steps::usual(n))
    }

    fn by_domain(&self, dataset: &Dataset) -> Result<TaskStream> {
        let (n_domains, n_classes) = (dataset.domains.len(), dataset.n_classes());
        let mut first = 0;
        let mut tasks = Vec::new();
        for (index, n) in self.steps(n_domains).sizes(n_domains, "domains")?.into_iter().enumerate() {
            let domains = first as u32..(first + n) as u32;
            first += n;
            let own = |labels: &[u32]| -> Vec<u32> {
                let all = 0..labels.len() as u32;
                all.filter(|&i| domains.contains(&labels[i as usize])).collect()
            };
            tasks.push(Task {
                index,
                classes: (0..n_classes as u32).collect(),
                first_label: 0,
                domains: domains.clone().collect(),
                train: self.limited(dataset, own(&dataset.train.labels)),
                test: own(&dataset.test.labels),
            });
        }
        refuse_empty(&tasks, "domains")?;
        let label_of_class = (0..n_classes as u32).collect();
        Ok(TaskStream { tasks, label_of_class, n_classes, background_shift: false })
    }

    fn by_class(&self, dataset: &Dataset) -> Result<TaskStream> {
        let order = foreground(&self.order, dataset)?;
        let sizes = self.steps(order.len()).sizes(order.len(), "classes beside the background")?;
        let n_classes = 1 + sizes.iter().sum::<usize>();
        let mut label_of_class = vec![NO_LABEL; dataset.n_classes()];
        label_of_class[0] = 0;
        let mut task_of_class = vec![sizes.len(); dataset.n_classes()];
        let mut rest = order.iter();
        let mut tasks = Vec::new();
        let mut first_label = 0;
        for (index, &n) in sizes.iter().enumerate() {
            let mut classes: Vec<u32> = rest.by_ref().take(n).copied().collect();
            classes.iter().for_each(|&class| task_of_class[class as usize] = index);
            if index == 0 {
                classes.insert(0, 0);
            }
            for (label, &class) in (first_label as u32..).zip(&classes) {
                label_of_class[class as usize] = label;
            }
            let n_labels = classes.len();
            tasks.push(Task { index, classes, first_label, domains: Vec::new(), train: Vec::new(), test: Vec::new() });
            first_label += n_labels;
        }
        // Classes that never arrive are background, too, and come after the last task.
        let never = sizes.len();
        for image in 0..dataset.train.len() {
            let mut has = vec![false; never + 1];
            for &class in dataset.train.mask(image).iter().filter(|&&class| class != 0 && class != VOID) {
                has[task_of_class[usize::from(class)]] = true;
            }
            let latest = has.iter().rposition(|&has| has);
            for task in tasks.iter_mut().filter(|task| has[task.index]) {
                if self.membership == Membership::Overlapped || latest == Some(task.index) {
                    task.train.push(image as u32);
                }
            }
        }
        for task in &mut tasks {
            task.train = self.limited(dataset, std::mem::take(&mut task.train));
            // After each task, the classes of later ones are void.
            task.test = (0..dataset.test.len() as u32).collect();
        }
        refuse_empty(&tasks, "classes")?;
        Ok(TaskStream { tasks, label_of_class, n_classes, background_shift: true })
    }

    /// The first images of each domain, as many of each, as far as there are so many.
    fn limited(&self, dataset: &Dataset, all: Vec<u32>) -> Vec<u32> {
        let Some(limit) = self.limit_per_task else { return all };
        let domain = |sample: &u32| dataset.train.labels[*sample as usize];
        let mut domains: Vec<u32> = all.iter().map(domain).collect();
        domains.sort_unstable();
        domains.dedup();
        let n = domains.len().max(1);
        let mut kept = Vec::new();
        for (i, own) in domains.iter().enumerate() {
            let quota = limit / n + usize::from(i < limit % n);
            kept.extend(all.iter().filter(|sample| domain(sample) == *own).take(quota));
        }
        kept.sort_unstable();
        kept
    }
}

/// The classes but the background, which is the first one and known from the start, in order of arrival.
fn foreground(order: &ClassOrder, dataset: &Dataset) -> Result<Vec<u32>> {
    let n = dataset.n_classes();
    match order {
        ClassOrder::Natural => Ok((1..n as u32).collect()),
        ClassOrder::Seeded(_) => Ok(order.classes(n - 1)?.into_iter().map(|class| class + 1).collect()),
        _ => {
            let classes = order.numbered(&dataset.class_names)?.classes(n)?;
            match classes.iter().position(|&class| class == 0) {
                Some(0) => Ok(classes[1..].to_vec()),
                None => Ok(classes),
                Some(_) => Err(Error::usage(format!(
                    "class order {order}: {} is the background, which is known from the start; leave it out or begin with it",
                    dataset.class_names[0]
                ))),
            }
        }
    }
}

fn refuse_empty(tasks: &[Task], what: &str) -> Result<()> {
    let empty = tasks.iter().find(|task| task.train.is_empty() || task.test.is_empty());
    empty.map_or(Ok(()), |task| {
        let part = if task.train.is_empty() { "training" } else { "test" };
        let n = task.index + 1;
        Err(Error::usage(format!("task {n} has no {part} images: choose other {what}, or other --steps")))
    })
}
