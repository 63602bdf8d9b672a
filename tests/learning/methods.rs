//! Methods against their papers: iCaRL's algorithm boxes one by one, on small streams.

use crate::common::runs::glyphs;
use crate::common::runs::{Pairs, config};
use engram::continual::{Batch, Learner, Method, Rounding, TaskData};
use engram::continual::{Classifier, exemplars_per_class};
use engram::data::{self, Augment, ClassOrder, Dataset, Plan, TaskStream};
use engram::models::Network;
use engram::nn::Output;
use engram::ops::Mode;
use engram::optim::{Kind, Optimizer};
use engram::settings::Choose;
use engram::tensor::no_grad;
use engram::training::Trainee;
use engram::{Device, Tensor};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

static NEVER: AtomicBool = AtomicBool::new(false);

/// A stream of two classes per task, and what the runner does with it, in a loop of its own: these tests look between its steps.
struct Stream {
    dataset: Dataset,
    tasks: Vec<TaskData<'static>>,
    label_of_class: Vec<u32>,
    learner: Learner,
    optimizer: Optimizer,
}

/// With 14 exemplars an epoch of the second task ends in a batch of a single image.
const BATCH_SIZE: usize = 15;

impl Stream {
    fn new(model: &str, n_train: usize) -> Stream {
        let (dataset, device) = (glyphs(n_train, 10), Device::cpu());
        let stream = TaskStream::split(&dataset, 2, &ClassOrder::Explicit(vec![3, 1, 4, 0, 5, 9]), None).unwrap();
        let network = Network::new(model, [1, 28, 28], stream.n_classes, &device, 1).unwrap();
        let optimizer = Optimizer::new(Kind::Adam, 0.9, 0.0, &network.parameters).unwrap();
        let of_class = |class: u32| -> Vec<u32> {
            let labels = dataset.train.labels.iter();
            (0u32..).zip(labels).filter(|(_, label)| **label == class).map(|(sample, _)| sample).collect()
        };
        let tasks = stream.tasks.iter().map(|task| TaskData {
            index: task.index,
            samples: task.classes.iter().map(|&class| of_class(class)).collect(),
            n_old: task.first_label,
            n_seen: task.first_label + task.classes.len(),
            label_of_class: stream.label_of_class.clone(),
            labels: task.first_label..task.first_label + task.classes.len(),
            is_last: task.index + 1 == stream.tasks.len(),
            interrupted: &NEVER,
        });
        Stream {
            tasks: tasks.collect(),
            label_of_class: stream.label_of_class.clone(),
            learner: Learner::new(network, &device, &dataset).unwrap(),
            optimizer,
            dataset,
        }
    }

    /// One epoch over a task's training set, as the loader gives it.
    fn batches(&self, task: usize, samples: Vec<u32>) -> Vec<data::Batch> {
        let plan = Plan {
            images: self.dataset.train.clone(),
            samples: Arc::new(samples),
            label_of_class: Arc::new(self.label_of_class.clone()),
            batch_size: BATCH_SIZE,
            seed: 1,
            first_epoch: task as u64,
            n_epochs: 1,
            augment: Augment::default(),
            drop_last: false,
        };
        plan.batches().unwrap().map(|(_, batch)| batch).collect()
    }

    fn batch(&self, task: usize, images: &data::Batch) -> Batch {
        Batch {
            x: self.learner.input(images).unwrap(),
            labels: Tensor::from_u32(&self.learner.device, [images.len()], &images.labels).unwrap(),
            n_old: self.tasks[task].n_old,
            n_seen: self.tasks[task].n_seen,
            images: images.clone(),
            key: 0,
            first_pass: true,
        }
    }

    fn step(&mut self, loss: &Tensor) {
        let (parameters, optimizer) = (&self.learner.network.parameters, &mut self.optimizer);
        Trainee { parameters, optimizer }.learn(loss, 1e-3).unwrap();
    }

    /// Learns one task, showing every batch and its loss to `look` before the step.
    fn learn(&mut self, method: &mut dyn Method, task: usize, mut look: impl FnMut(&Stream, &Batch, &Tensor)) {
        method.begin_task(&self.learner, &self.tasks[task]).unwrap();
        self.optimizer.reset().unwrap();
        for images in self.batches(task, method.training_set(&self.tasks[task])) {
            let batch = self.batch(task, &images);
            let loss = method.observe(&self.learner, &batch).unwrap().total().unwrap();
            look(self, &batch, &loss);
            self.step(&loss);
        }
        method.end_task(&self.learner, &self.tasks[task]).unwrap();
    }
}

fn icarl(memory: usize, more: Pairs) -> Box<dyn Method> {
    let memory = memory.to_string();
    let config = config("icarl", &[("memory", &memory)], more);
    (config.method.build)(&config.values)
}

fn bits(x: &Tensor) -> Vec<u32> {
    x.to_vec().unwrap().into_iter().map(f32::to_bits).collect()
}

/// 1 where the label is, 0 elsewhere.
fn one_hot(labels: &Tensor, n_outputs: usize) -> Tensor {
    let labels = labels.to_u32().unwrap();
    let mut values = vec![0.0; labels.len() * n_outputs];
    for (row, label) in labels.iter().enumerate() {
        values[row * n_outputs + *label as usize] = 1.0;
    }
    Tensor::from_f32(&Device::cpu(), [labels.len(), n_outputs], &values).unwrap()
}

#[test]
fn herding_picks_what_a_pencil_picks() {
    // μ = 2.5. 2 is nearest; then (2+1)/2 = 1.5 beats (2+0)/2 = 1 and (2+7)/2 = 4.5; then (2+1+7)/3 = 3.3 beats
    // (2+1+0)/3 = 1; 0 is left. By distance from the mean 7 would have come last.
    let x = Tensor::from_f32(&Device::cpu(), [4, 1], &[0.0, 1.0, 2.0, 7.0]).unwrap();
    assert_eq!(x.herding(4).unwrap().to_u32().unwrap(), [2, 1, 3, 0]);
    assert_eq!(x.herding(2).unwrap().to_u32().unwrap(), [2, 1]);
    // μ = (0.25, 0.5). Squared distances 0.3125, 0.8125, 0.3125, 0.3125: the first of equals, row 0. With it the means of
    // two are (0.5, 0), (0, 0.5), (0, 0.5): rows 2 and 3 tie at 0.0625, row 2 comes first. Then (1/3, 1/3) with row 1
    // (0.035) beats (0, 2/3) with row 3 (0.090).
    let x = Tensor::from_f32(&Device::cpu(), [4, 2], &[0.0, 0.0, 1.0, 0.0, 0.0, 1.0, 0.0, 1.0]).unwrap();
    assert_eq!(x.herding(3).unwrap().to_u32().unwrap(), [0, 2, 1]);
}

/// Boxes 2, 4 and 5.
#[test]
fn the_memory_is_herded_bounded_and_reduced_to_prefixes() {
    for (rounding, budget) in [(Rounding::Ceil, 17), (Rounding::Floor, 17), (Rounding::Ceil, 1000)] {
        let mut stream = Stream::new("mlp", 200);
        let mut icarl = icarl(budget, &[("memory_rounding", rounding.name())]);
        let mut earlier: Vec<Vec<u32>> = Vec::new();
        for task in 0..3 {
            stream.learn(&mut *icarl, task, |_, _, _| ());
            let (exemplars, n_seen) = (icarl.exemplars(), stream.tasks[task].n_seen);
            assert_eq!(exemplars.len(), n_seen);
            let m = exemplars_per_class(budget, n_seen, rounding);
            let n_exemplars: usize = exemplars.iter().map(Vec::len).sum();
            let most = if rounding == Rounding::Ceil { budget + n_seen - 1 } else { budget };
            assert!(n_exemplars <= most, "{n_exemplars} exemplars of at most {most}");
            for (label, chosen) in exemplars.iter().enumerate() {
                // A class has 20 images, and gives all if that is less than its share.
                assert_eq!(chosen.len(), m.min(20), "class {label} after task {task}");
                let class = stream.label_of_class.iter().position(|l| *l == label as u32).unwrap();
                assert!(chosen.iter().all(|&i| stream.dataset.train.labels[i as usize] as usize == class));
                let mut distinct = chosen.clone();
                distinct.sort_unstable();
                distinct.dedup();
                assert_eq!(distinct.len(), chosen.len(), "an exemplar twice");
            }
            // Box 5: what is left of an old class are its first m, in their order.
            for (old, new) in earlier.iter().zip(&exemplars) {
                assert_eq!(new[..], old[..m.min(old.len())]);
            }
            // Box 4: a new class is herded by the features of the network as it is now.
            for (i, samples) in stream.tasks[task].samples.iter().enumerate() {
                let features = stream.learner.normalized_features(samples, false).unwrap();
                let picks = features.herding(m.min(20)).unwrap().to_u32().unwrap();
                let expected: Vec<u32> = picks.iter().map(|&pick| samples[pick as usize]).collect();
                assert_eq!(exemplars[stream.tasks[task].n_old + i], expected);
            }
            earlier = exemplars.to_vec();

            let held = icarl.held(&stream.learner);
            assert_eq!(held.exemplars, 784 * n_exemplars as u64);
            assert_eq!(held.class_means, 4 * 256 * n_seen as u64);
            assert_eq!(held.old_network, if task == 0 { 0 } else { stream.learner.network.bytes() });
            // A training set is the task's images and the exemplars, each once.
            if let Some(next) = stream.tasks.get(task + 1) {
                let set = icarl.training_set(next);
                assert_eq!(set.len(), 40 + n_exemplars);
                assert!(earlier.iter().flatten().all(|exemplar| set.contains(exemplar)));
            }
        }
    }
}

/// Box 1, in f64.
#[test]
fn classification_is_by_the_nearest_mean_of_exemplars() {
    let mut stream = Stream::new("mlp", 200);
    let mut icarl = icarl(12, &[]);
    stream.learn(&mut *icarl, 0, |_, _, _| ());
    stream.learn(&mut *icarl, 1, |_, _, _| ());
    let n_seen = 4;
    let normalize = |x: &[f32]| -> Vec<f64> {
        let norm = x.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
        x.iter().map(|x| f64::from(*x) / norm).collect()
    };
    let rows = |x: &Tensor| -> Vec<Vec<f64>> { x.to_vec().unwrap().chunks(256).map(normalize).collect() };
    let mean = |samples: &[u32]| -> Vec<f64> {
        let features = rows(&stream.learner.normalized_features(samples, false).unwrap());
        let sum: Vec<f32> = (0..256).map(|d| features.iter().map(|row| row[d]).sum::<f64>() as f32).collect();
        normalize(&sum)
    };
    let everything: Vec<Vec<u32>> = stream.tasks[..2].iter().flat_map(|task| task.samples.clone()).collect();
    let samples: Vec<u32> = everything.concat();
    let [nme, network, ncm] = icarl.classifiers() else { panic!("iCaRL has three classifiers") };
    assert_eq!([nme.name, network.name, ncm.name], ["nme", "network", "ncm"]);
    for (classifier, sets) in [(nme, icarl.exemplars()), (ncm, everything.clone())] {
        let means: Vec<Vec<f64>> = sets.iter().map(|set| mean(set)).collect();
        let mut n_checked = 0;
        let check = |first: usize, output: Output| {
            let labels = icarl.scores(&output, classifier)?.argmax_rows(n_seen)?.to_u32()?;
            for (row, label) in rows(&output.features).iter().zip(labels) {
                let distance = |mean: &Vec<f64>| row.iter().zip(mean).map(|(a, b)| (a - b).powi(2)).sum::<f64>();
                let distances: Vec<f64> = means.iter().map(distance).collect();
                let nearest = distances.iter().copied().fold(f64::INFINITY, f64::min);
                assert!(distances[label as usize] <= nearest + 1e-5, "{}: {distances:?}, not {label}", classifier.name);
                n_checked += 1;
            }
            assert!(first < samples.len());
            Ok(())
        };
        stream.learner.evaluate(&stream.dataset.train, &samples, check).unwrap();
        assert_eq!(n_checked, samples.len());
    }
    // The third way: the largest output of the classes seen.
    stream
        .learner
        .evaluate(&stream.dataset.train, &samples, |_, output| {
            let labels = icarl.scores(&output, network)?.argmax_rows(n_seen)?.to_u32()?;
            let logits = output.logits.to_vec()?;
            for (row, label) in logits.chunks(6).zip(labels) {
                assert!(row[..n_seen].iter().all(|x| *x <= row[label as usize]));
            }
            assert!(icarl.scores(&output, &Classifier { name: "oracle", ..*network }).is_err());
            Ok(())
        })
        .unwrap();
}

#[test]
fn the_first_task_is_plain_binary_cross_entropy() {
    for model in ["mlp", "cnn"] {
        let mut stream = Stream::new(model, 160);
        let mut n_batches = 0;
        stream.learn(&mut *icarl(12, &[]), 0, |stream, batch, loss| {
            let logits = stream.learner.network.forward(&batch.x, Mode::Train).unwrap().logits;
            let plain = logits.bce_with_logits(&one_hot(&batch.labels, 6)).unwrap();
            assert_eq!(bits(&plain), bits(loss), "{model}");
            // … and that is −ln of the probability of each output's target, averaged over all outputs.
            let targets = one_hot(&batch.labels, 6).to_vec().unwrap();
            let sum: f64 = logits
                .to_vec()
                .unwrap()
                .iter()
                .zip(&targets)
                .map(|(&x, &t)| {
                    let p = 1.0 / (1.0 + f64::from(-x).exp());
                    -(f64::from(t) * p.ln() + f64::from(1.0 - t) * (1.0 - p).ln())
                })
                .sum();
            let expected = sum / targets.len() as f64;
            assert!((f64::from(loss.item().unwrap()) - expected).abs() < 1e-5 * expected);
            n_batches += 1;
        });
        assert_eq!(n_batches, 3);
    }
}

/// Targets of old classes are at every step what the network said before the task, whatever it has become since.
#[test]
fn the_old_network_never_changes() {
    for model in ["mlp", "cnn"] {
        let mut stream = Stream::new(model, 160);
        let mut icarl = icarl(12, &[]);
        stream.learn(&mut *icarl, 0, |_, _, _| ());
        for task in 1..3 {
            let old = stream.learner.network.snapshot().unwrap();
            let checksum = old.to_safetensors().unwrap();
            let n_old = stream.tasks[task].n_old;
            stream.learn(&mut *icarl, task, |stream, batch, loss| {
                let targets =
                    no_grad(|| old.forward(&batch.x, Mode::Eval)?.logits.mixed_targets(&batch.labels, n_old)).unwrap();
                let logits = stream.learner.network.forward(&batch.x, Mode::Train).unwrap().logits;
                assert_eq!(bits(&logits.bce_with_logits(&targets).unwrap()), bits(loss), "{model}, task {task}");
            });
            assert!(old.to_safetensors().unwrap() == checksum, "a frozen copy has changed");
            assert!(stream.learner.network.to_safetensors().unwrap() != checksum, "nothing was learned");
        }
    }
}

/// Box 3 stores the old outputs of the whole training set before the update; the original code, and this one, evaluate the
/// frozen old network on each batch. Without augmentation both end in the same network, bit by bit.
///
/// Box 3 goes through the images in the same batches here: the product of a few rows may be summed by another kernel of
/// `gemm` than that of many rows, which moves the last bits. How little is checked besides.
#[test]
fn stored_old_outputs_and_a_frozen_network_are_the_same() {
    for model in ["mlp", "cnn"] {
        let mut per_batch = Stream::new(model, 160);
        let mut stored = Stream::new(model, 160);
        let (mut icarl, mut box3) = (icarl(14, &[]), icarl(14, &[]));
        per_batch.learn(&mut *icarl, 0, |_, _, _| ());
        stored.learn(&mut *box3, 0, |_, _, _| ());
        let task = 1;
        per_batch.learn(&mut *icarl, task, |_, _, _| ());

        let n_old = stored.tasks[task].n_old;
        let samples = box3.training_set(&stored.tasks[task]);
        assert_eq!(samples.len() % BATCH_SIZE, 1);
        let batches = stored.batches(task, samples.clone());
        // Before the update: q of every image.
        let mut q: Vec<Vec<f32>> = vec![Vec::new(); stored.dataset.train.len()];
        for images in &batches {
            let batch = stored.batch(task, images);
            let logits = no_grad(|| stored.learner.network.forward(&batch.x, Mode::Eval)).unwrap().logits;
            let targets = logits.mixed_targets(&batch.labels, n_old).unwrap().to_vec().unwrap();
            for (row, &sample) in targets.chunks(6).zip(&images.samples) {
                q[sample as usize] = row[..n_old].to_vec();
            }
        }
        // In other batches it is the same but for rounding.
        let compare = |first: usize, output: Output| {
            let logits = output.logits.to_vec()?;
            for (row, &sample) in logits.chunks(6).zip(&samples[first..]) {
                for (x, q) in row.iter().zip(&q[sample as usize]) {
                    assert!((1.0 / (1.0 + (-x).exp()) - q).abs() < 2e-6);
                }
            }
            Ok(())
        };
        stored.learner.evaluate(&stored.dataset.train, &samples, compare).unwrap();
        // The update.
        stored.optimizer.reset().unwrap();
        for images in &batches {
            let batch = stored.batch(task, images);
            let mut targets = one_hot(&batch.labels, 6).to_vec().unwrap();
            for (row, &sample) in targets.chunks_mut(6).zip(&images.samples) {
                row[..n_old].copy_from_slice(&q[sample as usize]);
            }
            let targets = Tensor::from_f32(&Device::cpu(), [images.len(), 6], &targets).unwrap();
            let logits = stored.learner.network.forward(&batch.x, Mode::Train).unwrap().logits;
            stored.step(&logits.bce_with_logits(&targets).unwrap());
        }
        let weights = |stream: &Stream| stream.learner.network.to_safetensors().unwrap();
        assert!(weights(&per_batch) == weights(&stored), "{model}");
    }
}
