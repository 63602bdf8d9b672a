//! The building blocks of methods: memories, importances, projections, masks.

use crate::common;
use crate::common::runs::{Pairs, config};
use engram::continual::output_sensitivity;
use engram::continual::{Batch, FisherKind, Keep, Learner, Measured, MemoryPolicy, MemoryUpdate, Method};
use engram::continual::{Joined, PathGradient, ReplayMemory, Stored, TaskData, Unseen, fisher};
use engram::data::{self, Dataset, Images};
use engram::models::Network;
use engram::ops::{Mode, project};
use engram::optim::{Kind, Optimizer};
use engram::rng::{Purpose, Rng};
use engram::settings::Choose;
use engram::{Device, Tensor};
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, LazyLock};

static GLYPHS: LazyLock<Dataset> = LazyLock::new(|| data::spec("glyphs").unwrap().load(Path::new("unused")).unwrap());

fn learner(model: &str, device: &Device) -> Learner {
    let options = engram::models::Options { width: 0.25, ..Default::default() };
    let network = Network::with_options(model, &options, [1, 28, 28], 10, device, 1).unwrap();
    Learner::new(network, device, &GLYPHS).unwrap()
}

fn batch(learner: &Learner, samples: &[u32], key: u64, n_old: usize) -> Batch {
    let labels: Vec<u32> = samples.iter().map(|&sample| learner.class_of(sample)).collect();
    let images = learner.batch(samples, &labels, &mut Rng::keyed(1, Purpose::Test, key));
    Batch {
        x: learner.input(&images).unwrap(),
        labels: Tensor::from_u32(&learner.device, [labels.len()], &labels).unwrap(),
        images,
        key,
        first_pass: true,
        n_old,
        n_seen: 10,
    }
}

static NEVER: AtomicBool = AtomicBool::new(false);

/// All classes as one task, `n` samples of each.
fn task(learner: &Learner, index: usize, n: usize) -> TaskData<'static> {
    let of_class = |class| (0..2000).filter(|&sample| learner.class_of(sample) == class).take(n).collect();
    TaskData {
        index,
        samples: (0..10).map(of_class).collect(),
        n_old: if index == 0 { 0 } else { 10 },
        n_seen: 10,
        label_of_class: (0..10).collect(),
        labels: 0..10,
        is_last: false,
        interrupted: &NEVER,
    }
}

fn gradients(learner: &Learner) -> Vec<f32> {
    learner.network.parameters.gradients().unwrap().to_vec().unwrap()
}

fn close(a: &[f32], b: &[f64], tolerance: f64) {
    let largest = b.iter().fold(0.0f64, |m, x| m.max(x.abs()));
    assert!(largest > 0.0, "nothing to compare with");
    for (i, (&a, &b)) in a.iter().zip(b).enumerate() {
        assert!((f64::from(a) - b).abs() <= tolerance * largest, "{i}: {a} is not {b} (largest {largest})");
    }
}

/// Every offered sample is kept with the same chance K/N, wherever it came: χ² over 200 places, 199 degrees of freedom.
#[test]
fn a_reservoir_keeps_every_sample_with_the_same_chance() {
    let (capacity, n, n_trials) = (20, 200u32, 3000);
    let mut counts = vec![0.0; n as usize];
    for trial in 0..n_trials {
        let mut memory = ReplayMemory::new(capacity, MemoryPolicy::Reservoir);
        let mut rng = Rng::keyed(5, Purpose::Test, trial);
        for sample in 0..n {
            memory.offer(Stored { sample, label: sample % 3 }, &mut rng);
        }
        assert_eq!(memory.items().len(), capacity);
        memory.items().iter().for_each(|item| counts[item.sample as usize] += 1.0);
    }
    let p = capacity as f64 / f64::from(n);
    let expected = n_trials as f64 * p;
    // Inclusions of one trial are drawn without repetition: the sum has N − 1 degrees of freedom after this factor.
    let variance = expected * (1.0 - p) * f64::from(n) / f64::from(n - 1);
    let chi2: f64 = counts.iter().map(|count| (count - expected) * (count - expected) / variance).sum();
    // Mean 199, deviation √398 = 20: five of them.
    assert!((99.0..299.0).contains(&chi2), "χ² = {chi2}");
}

#[test]
fn memories_stay_within_their_budget_and_tell_places() {
    for policy in [MemoryPolicy::Reservoir, MemoryPolicy::Balanced, MemoryPolicy::Greedy] {
        for capacity in [0, 1, 7, 40] {
            let mut memory = ReplayMemory::new(capacity, policy);
            let mut rng = Rng::keyed(6, Purpose::Test, capacity as u64);
            for sample in 0..500 {
                let new = Stored { sample, label: sample / 100 };
                let before = memory.items().to_vec();
                match memory.offer(new, &mut rng) {
                    Some(place) => assert_eq!(memory.items()[place], new),
                    None => assert_eq!(memory.items(), before),
                }
                assert!(memory.items().len() <= capacity, "{policy:?}");
            }
            assert_eq!(memory.items().len(), capacity, "{policy:?}: {capacity}");
            let mut drawn = memory.draw(5, &mut rng);
            drawn.sort_unstable();
            drawn.dedup();
            assert_eq!(drawn.len(), capacity.min(5), "drawn without repetition");
            let copy: ReplayMemory = serde_json::from_value(serde_json::to_value(&memory).unwrap()).unwrap();
            assert_eq!(copy.items(), memory.items());
        }
    }
}

/// A stream in which one class is a hundred times as frequent as another.
#[test]
fn balanced_and_greedy_memories_hold_classes_alike() {
    for policy in [MemoryPolicy::Balanced, MemoryPolicy::Greedy] {
        let mut memory = ReplayMemory::new(50, policy);
        let mut rng = Rng::keyed(7, Purpose::Test, 0);
        for sample in 0..4000 {
            let label = [0, 1, 2, 3, 4][usize::from(sample % 2 == 0)
                + usize::from(sample % 10 == 0)
                + usize::from(sample % 50 == 0)
                + usize::from(sample % 200 == 0)];
            memory.offer(Stored { sample, label }, &mut rng);
        }
        let counts: Vec<usize> = memory.exemplars().iter().map(Vec::len).collect();
        assert_eq!(counts, [10; 5], "{policy:?}");
    }
    let mut memory = ReplayMemory::new(50, MemoryPolicy::Reservoir);
    let mut rng = Rng::keyed(7, Purpose::Test, 0);
    (0..4000).for_each(|sample| {
        memory.offer(Stored { sample, label: u32::from(sample % 100 == 0) }, &mut rng);
    });
    assert!(memory.exemplars()[0].len() > 40, "a reservoir follows the stream");
}

/// Within a class the balanced memory is a reservoir: the mean place of what is kept is the middle of the stream.
#[test]
fn a_balanced_memory_is_a_reservoir_within_each_class() {
    let (mut sum, mut n) = (0.0, 0.0);
    for trial in 0..300 {
        let mut memory = ReplayMemory::new(20, MemoryPolicy::Balanced);
        let mut rng = Rng::keyed(8, Purpose::Test, trial);
        for sample in 0..1000 {
            memory.offer(Stored { sample, label: sample % 2 }, &mut rng);
        }
        sum += memory.items().iter().map(|item| f64::from(item.sample)).sum::<f64>();
        n += memory.items().len() as f64;
    }
    // 6,000 draws of deviation 289: standard error 3.7.
    assert!((sum / n - 499.5).abs() < 19.0, "{}", sum / n);
}

/// ⟨g̃, r⟩ ≥ 0, g̃ is the nearest such vector, and a gradient that agrees is not touched.
#[test]
fn a_gem_projects_onto_the_half_space() {
    let devices = [Some(Device::cpu()), common::gpu(false)];
    for device in devices.into_iter().flatten() {
        let random = |key| {
            let mut rng = Rng::keyed(9, Purpose::Test, key);
            (0..1001).map(|_| rng.normal()).collect::<Vec<f32>>()
        };
        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum::<f64>();
        let mut n_projected = 0;
        for key in 0..8 {
            let (g, r) = (random(2 * key), random(2 * key + 1));
            let [own, memory] = [&g, &r].map(|v| Tensor::from_f32(&device, [1001], v).unwrap());
            project(own.array(), memory.array()).unwrap();
            let after = own.to_vec().unwrap();
            if dot(&g, &r) >= 0.0 {
                assert_eq!(after, g, "a gradient that agrees stays as it is");
                continue;
            }
            n_projected += 1;
            assert!(dot(&after, &r).abs() < 1e-4 * dot(&r, &r), "{}", dot(&after, &r));
            // What was taken away is parallel to r, and as long as the part of g along r: nothing nearer is feasible.
            let moved: Vec<f32> = g.iter().zip(&after).map(|(g, after)| g - after).collect();
            let along = dot(&g, &r) / dot(&r, &r).sqrt();
            assert!((dot(&moved, &moved).sqrt() - along.abs()).abs() < 1e-4);
            assert!((dot(&moved, &r) - dot(&g, &r)).abs() < 1e-3);
        }
        assert!((1..8).contains(&n_projected));
    }
}

/// The Fisher information against gradients of single images, and what it must leave alone.
#[test]
fn fisher_information_is_that_of_single_images() {
    for model in ["mlp", "resnet20"] {
        let learner = learner(model, &Device::cpu());
        let samples: Vec<u32> = (3..9).collect();
        let labels: Vec<u32> = samples.iter().map(|&sample| learner.class_of(sample)).collect();
        let on = Measured { samples: &samples, labels: &labels, outputs: 0..10 };
        let before = learner.network.to_safetensors().unwrap();
        let measured = |kind| fisher(&learner, &on, kind, 4, 0).unwrap().to_vec().unwrap();

        // −log p_c of one image: its gradient by the cross-entropy op.
        let score = |sample: u32, c: u32| -> Vec<f32> {
            let logits = learner.network.forward(&learner.plain_input(&[sample]).unwrap(), Mode::Eval).unwrap().logits;
            let loss = logits.cross_entropy(&Tensor::from_u32(&learner.device, [1], &[c]).unwrap(), 10).unwrap();
            learner.network.parameters.backward(&loss).unwrap();
            gradients(&learner)
        };
        let p = |sample: u32| -> Vec<f32> {
            let logits = learner.network.forward(&learner.plain_input(&[sample]).unwrap(), Mode::Eval).unwrap().logits;
            logits.softmax(1.0).unwrap().to_vec().unwrap()
        };
        let n = learner.network.parameters.values().n_elements();
        let (mut exact, mut empirical) = (vec![0.0; n], vec![0.0; n]);
        for (&sample, &label) in samples.iter().zip(&labels) {
            for (c, p) in p(sample).into_iter().enumerate() {
                for (i, g) in score(sample, c as u32).into_iter().enumerate() {
                    let square = f64::from(g).powi(2) / samples.len() as f64;
                    exact[i] += f64::from(p) * square;
                    if c as u32 == label {
                        empirical[i] += square;
                    }
                }
            }
        }
        close(&measured(FisherKind::Exact), &exact, 1e-4);
        close(&measured(FisherKind::Empirical), &empirical, 1e-4);

        // Batches of 4 and 2: the squared gradient of the mean loss, which is another number.
        let mut batches = vec![0.0; n];
        for chunk in samples.chunks(4) {
            let mut mean = vec![0.0; n];
            for &sample in chunk {
                let g = score(sample, learner.class_of(sample));
                mean.iter_mut().zip(g).for_each(|(mean, g)| *mean += f64::from(g) / chunk.len() as f64);
            }
            batches.iter_mut().zip(mean).for_each(|(total, mean)| *total += mean * mean / 2.0);
        }
        close(&measured(FisherKind::Batch), &batches, 1e-4);

        // Labels drawn from p: right on average. The trace over many draws.
        let trace = |values: &[f32]| values.iter().map(|&x| f64::from(x)).sum::<f64>();
        let draws =
            (0..60).map(|key| trace(&fisher(&learner, &on, FisherKind::Sampled, 1, key).unwrap().to_vec().unwrap()));
        let (mean, sd) = engram::experiment::metrics::mean_sd(&draws.collect::<Vec<f64>>());
        let expected: f64 = exact.iter().sum();
        assert!((mean - expected).abs() < 5.0 * sd / 60f64.sqrt() + 1e-6 * expected, "{mean} is not {expected} ± {sd}");

        assert!(learner.network.to_safetensors().unwrap() == before, "{model}: batch norms or weights moved");
    }
}

/// Over some outputs only: the others' rows of the last layer do not matter.
#[test]
fn importances_know_their_outputs() {
    let learner = learner("mlp", &Device::cpu());
    let (samples, labels): (Vec<u32>, Vec<u32>) =
        (0..50).map(|s| (s, learner.class_of(s))).filter(|(_, l)| *l < 2).unzip();
    let on = Measured { samples: &samples, labels: &labels, outputs: 0..2 };
    let importances =
        [fisher(&learner, &on, FisherKind::Exact, 1, 0).unwrap(), output_sensitivity(&learner, &on).unwrap()];
    for importance in importances {
        learner.network.parameters.gradients().unwrap().write(&importance.to_vec().unwrap()).unwrap();
        let last = learner.network.parameters.gradients_to_host().unwrap().pop().unwrap();
        assert!(last[..2].iter().all(|x| *x > 0.0) && last[2..].iter().all(|x| *x == 0.0), "{last:?}");
    }
    let wrong = Measured { labels: &vec![9; samples.len()], ..on };
    assert!(fisher(&learner, &wrong, FisherKind::Empirical, 1, 0).is_err());
}

/// ∂‖f(x)‖²/∂θ by ops on the tape.
#[test]
fn sensitivity_is_that_of_the_squared_norm() {
    let learner = learner("mlp", &Device::cpu());
    let samples = [1, 2, 5];
    let on = Measured { samples: &samples, labels: &[0; 3], outputs: 0..10 };
    let mut expected = vec![0.0; learner.network.parameters.values().n_elements()];
    for sample in samples {
        let logits = learner.network.forward(&learner.plain_input(&[sample]).unwrap(), Mode::Eval).unwrap().logits;
        learner.network.parameters.backward(&logits.mul(&logits).unwrap().sum().unwrap()).unwrap();
        expected.iter_mut().zip(gradients(&learner)).for_each(|(total, g)| *total += f64::from(g.abs()) / 3.0);
    }
    close(&output_sensitivity(&learner, &on).unwrap().to_vec().unwrap(), &expected, 1e-5);
}

/// One step as the runner makes it.
fn step(method: &mut dyn Method, learner: &Learner, optimizer: &mut Optimizer, batch: &Batch, lr: f32) {
    let parameters = &learner.network.parameters;
    parameters.backward(&method.observe(learner, batch).unwrap().total().unwrap()).unwrap();
    method.adjust_gradients(learner, batch).unwrap();
    optimizer.step(parameters, lr).unwrap();
    method.after_step(learner, batch).unwrap();
}

fn build(name: &str, settings: Pairs) -> Box<dyn Method> {
    let config = config(name, &[("memory", "20")], settings);
    (config.method.build)(&config.values)
}

fn vector(method: &mut dyn Method, name: &str) -> Vec<f32> {
    method.state().unwrap().take(name).unwrap()
}

/// The gradient of EWC's penalty is Σ_t λF_t(θ − θ*_t), and its value Σ_t λ/2·F_t(θ − θ*_t)², from F_t measured alone.
#[test]
fn the_stored_penalty_is_the_sum_over_tasks() {
    let learner = learner("mlp", &Device::cpu());
    let mut optimizer = Optimizer::new(Kind::Sgd, 0.0, 0.0, &learner.network.parameters).unwrap();
    let flags = &[("fisher_samples", "8"), ("penalty_weight", "3")];
    let (mut ewc, mut alone) = (build("ewc", flags), Vec::new());
    for index in 0..3 {
        let task = task(&learner, index, 4);
        ewc.begin_task(&learner, &task).unwrap();
        for key in 0..5 {
            let samples: Vec<u32> = (0..16).map(|i| (index as u32 * 5 + key) * 16 + i).collect();
            step(&mut *ewc, &learner, &mut optimizer, &batch(&learner, &samples, key.into(), task.n_old), 0.05);
        }
        ewc.end_task(&learner, &task).unwrap();
        let mut single = build("ewc", flags);
        single.end_task(&learner, &task).unwrap();
        alone.push((vector(&mut *single, "penalty.importance"), learner.network.parameters.values().to_vec().unwrap()));
    }
    let w = learner.network.parameters.values();
    let moved: Vec<f32> =
        w.to_vec().unwrap().iter().enumerate().map(|(i, w)| w + 0.01 * ((i % 7) as f32 - 3.0)).collect();
    w.write(&moved).unwrap();
    let (mut gradient, mut value) = (vec![0.0; moved.len()], 0.0);
    for (importance, anchor) in &alone {
        for (i, (f, a)) in importance.iter().zip(anchor).enumerate() {
            let d = f64::from(moved[i]) - f64::from(*a);
            gradient[i] += 3.0 * f64::from(*f) * d;
            value += 1.5 * f64::from(*f) * d * d;
        }
    }
    learner.network.parameters.gradients().unwrap().write(&vec![0.0; moved.len()]).unwrap();
    let batch = batch(&learner, &[0, 1, 2, 3], 0, 10);
    let loss = ewc.observe(&learner, &batch).unwrap();
    let term = loss.0.iter().find(|term| term.name == "penalty").unwrap();
    let own = f64::from(term.weight * term.value.item().unwrap());
    assert!((own - value).abs() < 1e-4 * value, "{own} is not {value}");
    ewc.adjust_gradients(&learner, &batch).unwrap();
    close(&gradients(&learner), &gradient, 1e-5);
    let stiffness = vector(&mut *ewc, "penalty.importance").into_iter().fold(0.0, f32::max) * 3.0;
    assert_eq!(ewc.stiffness(), Some(stiffness));
}

/// After one step of plain SGD, Δθ = −lr·g: Ω = lr·g²/((lr·g)² + ξ), g without penalty.
#[test]
fn synaptic_intelligence_integrates_along_the_path() {
    for device in [Some(Device::cpu()), common::gpu(false)].into_iter().flatten() {
        let learner = learner("mlp", &device);
        let mut optimizer = Optimizer::new(Kind::Sgd, 0.0, 0.0, &learner.network.parameters).unwrap();
        let flags = &[("damping", "0.01"), ("penalty_weight", "0.5")];
        let mut si = build("si", flags);
        let lr = 0.1;
        let mut total = vec![0.0; learner.network.parameters.values().n_elements()];
        for index in 0..2 {
            let task = task(&learner, index, 4);
            let batch = batch(&learner, &[1, 2, 3, 4, 5, 6, 7, 8], 0, task.n_old);
            si.begin_task(&learner, &task).unwrap();
            let start = learner.network.parameters.values().to_vec().unwrap();
            // The gradient of the loss alone.
            let logits = learner.network.forward(&batch.x, Mode::Train).unwrap().logits;
            let loss = learner.cross_entropy(&logits, &batch.images.labels, 10).unwrap();
            learner.network.parameters.backward(&loss).unwrap();
            let g = gradients(&learner);
            step(&mut *si, &learner, &mut optimizer, &batch, lr);
            let end = learner.network.parameters.values().to_vec().unwrap();
            si.end_task(&learner, &task).unwrap();
            for i in 0..total.len() {
                let moved = f64::from(end[i]) - f64::from(start[i]);
                total[i] += -f64::from(g[i]) * moved / (moved * moved + 0.01);
            }
        }
        close(&vector(&mut *si, "penalty.importance"), &total, 1e-4);
        assert_eq!(vector(&mut *si, "penalty.anchor"), learner.network.parameters.values().to_vec().unwrap());
    }
}

/// The frozen network of LwF is the one before the task, to the last bit, all through the task.
#[test]
fn a_teacher_never_changes() {
    let learner = learner("resnet20", &Device::cpu());
    let mut optimizer = Optimizer::new(Kind::Adam, 0.0, 0.0, &learner.network.parameters).unwrap();
    let mut lwf = build("lwf", &[]);
    let before = learner.network.parameters.values().to_vec().unwrap();
    let statistics = learner.network.statistics.values().unwrap().to_vec().unwrap();
    lwf.begin_task(&learner, &task(&learner, 1, 4)).unwrap();
    for key in 0..4 {
        step(&mut *lwf, &learner, &mut optimizer, &batch(&learner, &[1, 2, 3, 4], key, 10), 0.01);
        assert_eq!(vector(&mut *lwf, "old.parameters"), before);
        assert_eq!(vector(&mut *lwf, "old.statistics"), statistics);
    }
    assert_ne!(learner.network.parameters.values().to_vec().unwrap(), before);
}

/// avalanche-lib's SI: importances have a limit, the sum over tasks has not, and the path integral goes by the gradient of the
/// whole loss, so that with plain SGD it grows by Δθ²/lr in each step.
#[test]
fn si_can_be_told_avalanches_semantics() {
    const LIMIT: f32 = 1e-3;
    const LR: f32 = 0.2;
    // The path of the second task, and what Σ Δθ²/lr is there.
    let run = |path_gradient: PathGradient| {
        let learner = learner("mlp", &Device::cpu());
        let mut optimizer = Optimizer::new(Kind::Sgd, 0.0, 0.0, &learner.network.parameters).unwrap();
        let limit = LIMIT.to_string();
        let flags: Pairs =
            &[("penalty_weight", "2000"), ("path_gradient", path_gradient.name()), ("importance_limit", &limit)];
        let mut si = build("si", flags);
        let values = || learner.network.parameters.values().to_vec().unwrap();
        let mut squares = vec![0.0; values().len()];
        for index in 0..2 {
            let data = task(&learner, index, 8);
            si.begin_task(&learner, &data).unwrap();
            for key in 0..6 {
                let samples: Vec<u32> = (0..16).map(|i| (index as u32 * 6 + key) * 16 + i).collect();
                let n_old = if index == 0 { 0 } else { 10 };
                let before = values();
                step(&mut *si, &learner, &mut optimizer, &batch(&learner, &samples, u64::from(key), n_old), LR);
                for ((square, a), b) in squares.iter_mut().zip(values()).zip(before).filter(|_| index == 1) {
                    *square += f64::from(a - b).powi(2) / f64::from(LR);
                }
            }
            if index == 0 {
                si.end_task(&learner, &data).unwrap();
                let (limited, sum) = (vector(&mut *si, "penalty.importance"), vector(&mut *si, "penalty.unlimited"));
                assert!(sum.iter().any(|&total| total > LIMIT), "nothing was limited");
                assert!(limited.iter().zip(&sum).all(|(&a, &b)| a == b.min(LIMIT)));
                assert_eq!(si.stiffness(), Some(2.0 * 2000.0 * LIMIT));
                assert_eq!(si.held(&learner).importance, 12 * sum.len() as u64);
                let mut resumed = build("si", flags);
                resumed.restore(&learner, si.state().unwrap()).unwrap();
                assert!(
                    vector(&mut *resumed, "penalty.unlimited") == sum
                        && vector(&mut *resumed, "penalty.importance") == limited
                );
            }
        }
        let path = vector(&mut *si, "running.path");
        let largest = squares.iter().copied().fold(0.0, f64::max);
        let apart =
            path.iter().zip(&squares).map(|(&path, square)| (f64::from(path) - square).abs()).fold(0.0, f64::max);
        apart / largest
    };
    let (total, loss) = (run(PathGradient::Total), run(PathGradient::Loss));
    assert!(total < 1e-3 && loss > 1e-2, "Σ Δθ²/lr is off by {total} of the largest, by the loss alone by {loss}");
}

/// ER-ACE adds its two losses; avalanche-lib takes their mean.
#[test]
fn er_ace_joins_its_losses_as_it_is_told() {
    let learner = learner("mlp", &Device::cpu());
    let weights = |joined: Joined| {
        let mut ace = build("er-ace", &[("joined", joined.name())]);
        ace.after_step(&learner, &batch(&learner, &[0, 1, 2, 3], 0, 0)).unwrap();
        let loss = ace.observe(&learner, &batch(&learner, &[4, 5, 6, 7], 1, 5)).unwrap();
        loss.0.iter().map(|term| (term.name, term.weight)).collect::<Vec<_>>()
    };
    assert_eq!(weights(Joined::Sum), [("cross_entropy", 1.0), ("replay", 1.0)]);
    assert_eq!(weights(Joined::Mean), [("cross_entropy", 0.5), ("replay", 0.5)]);
}

/// How many samples a memory for 20 holds at each stage of its first task of 30.
#[test]
fn memories_are_filled_when_they_are_asked_to() {
    let learner = learner("mlp", &Device::cpu());
    let data = task(&learner, 0, 3);
    let first: Vec<u32> = (0..4).collect();
    for name in ["er", "er-ace"] {
        for (when, expected) in [
            (MemoryUpdate::Step, [0, 4, 4]),
            (MemoryUpdate::TaskBegin, [20, 20, 20]),
            (MemoryUpdate::TaskEnd, [0, 0, 20]),
        ] {
            let mut method = build(name, &[("memory_update", when.name())]);
            let n = |method: &mut dyn Method| method.exemplars().concat().len();
            method.begin_task(&learner, &data).unwrap();
            let begun = n(&mut *method);
            method.after_step(&learner, &batch(&learner, &first, 0, 0)).unwrap();
            let stepped = n(&mut *method);
            method.end_task(&learner, &data).unwrap();
            assert_eq!([begun, stepped, n(&mut *method)], expected, "{name}, {when:?}");
            assert_eq!(method.held(&learner).exemplars, 20.min(expected[2]) as u64 * (784 + 4));
        }
    }
}

/// New images do not push old classes away: the outputs of classes that are neither in the batch nor unseen get no gradient.
#[test]
fn er_ace_leaves_absent_old_classes_alone() {
    let learner = learner("mlp", &Device::cpu());
    let of = |classes: &[u32]| -> Vec<u32> {
        (0..2000).filter(|&sample| classes.contains(&learner.class_of(sample))).take(12).collect()
    };
    let mut ace = build("er-ace", &[]);
    let mut optimizer = Optimizer::new(Kind::Sgd, 0.0, 0.0, &learner.network.parameters).unwrap();
    step(&mut *ace, &learner, &mut optimizer, &batch(&learner, &of(&[0, 1, 2]), 0, 0), 0.1);
    let loss = ace.observe(&learner, &batch(&learner, &of(&[2, 3]), 1, 3)).unwrap();
    assert_eq!(loss.0.iter().map(|term| term.name).collect::<Vec<_>>(), ["cross_entropy", "replay"]);
    learner.network.parameters.backward(&loss.0[0].value).unwrap();
    let bias = learner.network.parameters.gradients_to_host().unwrap().pop().unwrap();
    for (output, gradient) in bias.iter().enumerate() {
        assert_eq!(*gradient == 0.0, [0, 1].contains(&output), "output {output}: {gradient}");
    }
}

/// DER's stored logits are those of the step in which a sample came, before the update; places of the table follow those
/// of the memory.
#[test]
fn stored_logits_are_those_of_their_step() {
    for device in [Some(Device::cpu()), common::gpu(false)].into_iter().flatten() {
        let learner = learner("mlp", &device);
        let mut optimizer = Optimizer::new(Kind::Sgd, 0.0, 0.0, &learner.network.parameters).unwrap();
        let mut der = build("der++", &[]);
        let mut said = std::collections::HashMap::new();
        for key in 0..6 {
            let samples: Vec<u32> = (0..16).map(|i| key as u32 * 16 + i).collect();
            let batch = batch(&learner, &samples, key, 0);
            let logits = learner.network.forward(&batch.x, Mode::Eval).unwrap().logits.to_vec().unwrap();
            said.extend(samples.iter().copied().zip(logits.chunks(10).map(<[f32]>::to_vec)));
            step(&mut *der, &learner, &mut optimizer, &batch, 0.1);
        }
        let mut state = der.state().unwrap();
        let memory: ReplayMemory = state.take_json("memory").unwrap();
        let logits = &state.tensors[0].1;
        assert_eq!(memory.items().len(), 20);
        for (item, stored) in memory.items().iter().zip(logits.chunks(10)) {
            assert_eq!(stored, said[&item.sample], "sample {}", item.sample);
        }
        let held = der.held(&learner);
        assert_eq!((held.exemplars, held.logits), (20 * (784 + 4), 20 * 10 * 4));
    }
}

/// The table of logits follows what is held: a memory that may hold a million takes no more than one that may hold what it does.
#[test]
fn dark_memories_allocate_what_they_hold() {
    let (n_batches, batch_size) = (40u32, 16);
    let n = (n_batches * batch_size) as u64;
    let bytes = |device: &Device, capacity: &str| {
        let learner = learner("mlp", device);
        let mut optimizer = Optimizer::new(Kind::Sgd, 0.0, 0.0, &learner.network.parameters).unwrap();
        let mut der = build("der", &[("memory", capacity)]);
        for key in 0..n_batches {
            let samples: Vec<u32> = (key * batch_size..(key + 1) * batch_size).collect();
            step(&mut *der, &learner, &mut optimizer, &batch(&learner, &samples, key.into(), 0), 0.1);
        }
        let held = der.held(&learner);
        assert_eq!((held.exemplars, held.logits), (n * (784 + 4), n * 10 * 4), "capacity {capacity}");
        device.counters().held_bytes
    };
    for open in [|| Some(Device::cpu()), || common::gpu(false)] {
        let (Some(one), Some(other)) = (open(), open()) else { continue };
        let (just_enough, far_more) = (bytes(&one, &n.to_string()), bytes(&other, "1000000"));
        assert!(far_more <= just_enough + 2 * n * 10 * 4, "{far_more} bytes instead of {just_enough}");
    }
}

/// Where the task is known, a loss runs over the outputs of each row's own task.
#[test]
fn heads_mask_the_loss() {
    let mut learner = learner("mlp", &Device::cpu());
    learner.heads = vec![0..4, 4..10];
    let rows = [[0.5, -1.0, 2.0, 0.0, 3.0, 1.0, -2.0, 0.0, 0.5, 1.5]; 2];
    let logits = Tensor::from_f32(&learner.device, [2, 10], &rows.concat()).unwrap().with_gradient();
    let loss = learner.cross_entropy(&logits, &[2, 5], 10).unwrap();
    let ce = |outputs: std::ops::Range<usize>, label: usize| {
        let sum: f64 = rows[0][outputs].iter().map(|&x| f64::from(x).exp()).sum();
        sum.ln() - f64::from(rows[0][label])
    };
    let expected = (ce(0..4, 2) + ce(4..10, 5)) / 2.0;
    assert!((f64::from(loss.item().unwrap()) - expected).abs() < 1e-6);
    let gradient = loss.backward().unwrap().get(&logits).unwrap().to_vec().unwrap();
    assert!(gradient[4..10].iter().chain(&gradient[10..14]).all(|g| *g == 0.0), "{gradient:?}");
}

/// Outputs of classes that have not come are left out of a loss, or take part; a head of its own wins.
#[test]
fn unseen_outputs_compete_when_they_are_told_to() {
    let mut learner = learner("mlp", &Device::cpu());
    let row = [0.5, -1.0, 2.0, 0.0, 3.0, 1.0, -2.0, 0.0, 0.5, 1.5];
    let logits = Tensor::from_f32(&learner.device, [1, 10], &row).unwrap();
    let task = TaskData { n_seen: 4, labels: 0..4, ..task(&learner, 0, 4) };
    for (unseen, n_outputs) in [(Unseen::Masked, 4), (Unseen::Compete, 10)] {
        learner.unseen = unseen;
        assert_eq!(learner.active_outputs(&task), 0..n_outputs);
        let sum: f64 = row[..n_outputs].iter().map(|&x| f64::from(x).exp()).sum();
        let loss = learner.cross_entropy(&logits, &[2], 4).unwrap().item().unwrap();
        assert!((f64::from(loss) - (sum.ln() - 2.0)).abs() < 1e-6, "{unseen:?}: {loss}");
    }
    learner.heads = vec![0..4, 4..10];
    assert_eq!(learner.active_outputs(&task), task.labels);
    let sum: f64 = row[..4].iter().map(|&x| f64::from(x).exp()).sum();
    let loss = learner.cross_entropy(&logits, &[2], 4).unwrap().item().unwrap();
    assert!((f64::from(loss) - (sum.ln() - 2.0)).abs() < 1e-6, "{loss}");
}

/// The loss and the gradient of one step of DER++ against a transcription in PyTorch (`tests/golden/make_der.py`): a memory of
/// six images, all of which both draws return.
#[test]
fn dark_experience_replay_is_its_transcription() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/der_pp.json");
    let golden: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let pixels: Vec<u8> = (0..16u64 * 12).map(|i| ((i * 29 + i * i * 7) % 256) as u8).collect();
    let labels = (0..12).map(|i| i % 4).collect();
    let images =
        Arc::new(Images { channels: 1, height: 4, width: 4, pixels, labels, views: Vec::new(), masks: Vec::new() });
    let dataset = Dataset {
        name: "formula".into(),
        class_names: (0..4).map(|i: u32| i.to_string()).collect(),
        train: images.clone(),
        test: images,
        mean: vec![0.5],
        std: vec![0.25],
        ..GLYPHS.clone()
    };
    for device in [Some(Device::cpu()), common::gpu(false)].into_iter().flatten() {
        let options = engram::models::Options { width: 8.0 / 256.0, ..Default::default() };
        let network = Network::with_options("mlp", &options, [1, 4, 4], 4, &device, 1).unwrap();
        let learner = Learner::new(network, &device, &dataset).unwrap();
        let set_weights = |salt: usize| {
            for (k, (name, outputs, inputs)) in [("fc1", 8, 16), ("fc2", 8, 8), ("fc3", 4, 8)].into_iter().enumerate() {
                let numbers = |n: usize, salt: usize| -> Vec<f32> {
                    (0..n).map(|i| (((i * 37 + salt * 101 + i * i * 13) % 1009) as f64 / 1009.0 - 0.5) as f32).collect()
                };
                let parameters = &learner.network.parameters;
                let weight = numbers(outputs * inputs, salt + 2 * k);
                parameters.set(&format!("{name}.weight"), &[outputs, inputs], &weight).unwrap();
                parameters.set(&format!("{name}.bias"), &[outputs], &numbers(outputs, salt + 2 * k + 1)).unwrap();
            }
        };
        let batch = |samples: std::ops::Range<u32>, key| Batch {
            n_seen: 4,
            ..batch(&learner, &samples.collect::<Vec<_>>(), key, 0)
        };
        // A memory of fewer samples than the run has classes.
        let order = ("class_order", "0,1,2,3");
        let mut der = build("der++", &[("memory", "6"), ("mse_weight", "0.3"), ("replay_weight", "0.7"), order]);
        set_weights(3);
        let first = batch(0..6, 0);
        der.observe(&learner, &first).unwrap();
        der.after_step(&learner, &first).unwrap();
        set_weights(50);
        let loss = der.observe(&learner, &batch(6..12, 1)).unwrap();
        for term in &loss.0 {
            let (own, theirs) = (f64::from(term.value.item().unwrap()), golden[term.name].as_f64().unwrap());
            assert!((own - theirs).abs() < 1e-5 * theirs.abs(), "{}: {own} is not {theirs}", term.name);
        }
        assert_eq!(loss.0.iter().map(|term| term.weight).collect::<Vec<_>>(), [1.0, 0.3, 0.7]);
        learner.network.parameters.backward(&loss.total().unwrap()).unwrap();
        let names: Vec<String> =
            learner.network.parameters.to_host().unwrap().iter().map(|p| p.0.to_string()).collect();
        let gradients = learner.network.parameters.gradients_to_host().unwrap();
        for (name, gradient) in names.iter().zip(gradients) {
            let expected: Vec<f64> = serde_json::from_value(golden["gradients"][name].clone()).unwrap();
            assert_eq!(gradient.len(), expected.len(), "{name}");
            close(&gradient, &expected, 1e-5);
        }
    }
}
