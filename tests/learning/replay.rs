//! Memories of images, and methods that replay them: what is kept, what a step learns from it, what it may not undo.

use super::steps::*;
use crate::common;
use engram::continual::{Batch, Joined, Keep, Learner, MemoryPolicy, MemoryUpdate, Method, ReplayMemory, Stored};
use engram::data::{Dataset, Images};
use engram::models::Network;
use engram::ops::{Mode, project};
use engram::optim::{Kind, Optimizer};
use engram::rng::{Purpose, Rng};
use engram::settings::Choose;
use engram::{Device, Tensor};
use std::path::Path;
use std::sync::Arc;

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
