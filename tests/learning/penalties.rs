//! Importances of parameters, and the penalties that go by them: Fisher information, MAS, EWC, SI.

use super::steps::*;
use crate::common;
use crate::common::runs::Pairs;
use engram::continual::{FisherKind, Measured, PathGradient, fisher, output_sensitivity};
use engram::ops::Mode;
use engram::optim::{Kind, Optimizer};
use engram::settings::Choose;
use engram::{Device, Tensor};

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

        // Batches of 4 and 2: the squared gradient of the mean loss, which is another number, and 4 and 2 times that.
        let (mut batches, mut scaled) = (vec![0.0; n], vec![0.0; n]);
        for chunk in samples.chunks(4) {
            let mut mean = vec![0.0; n];
            for &sample in chunk {
                let g = score(sample, learner.class_of(sample));
                mean.iter_mut().zip(g).for_each(|(mean, g)| *mean += f64::from(g) / chunk.len() as f64);
            }
            for (i, mean) in mean.into_iter().enumerate() {
                batches[i] += mean * mean / 2.0;
                scaled[i] += chunk.len() as f64 * mean * mean / 2.0;
            }
        }
        close(&measured(FisherKind::Batch), &batches, 1e-4);
        close(&measured(FisherKind::ScaledBatch), &scaled, 1e-4);

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
