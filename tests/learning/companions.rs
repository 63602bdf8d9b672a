//! Students that learn with others: mutual learning, branches, exits, generations, and the overhaul of features. Losses against
//! PyTorch and against their definitions, what gets no gradient, what is left when the others are taken away.

use crate::common;
use crate::common::{golden, runs};
use engram::device::Array;
use engram::distill::{self, Companions, Distiller, Peers, Settings, Student, TeacherMode, losses};
use engram::experiment::distillation::{Arm, DistillConfig, DistillResults, distill as run, presets, resume};
use engram::experiment::results::RunFolder;
use engram::experiment::sink::{Listener, Progress, Silent, Sink, Started};
use engram::models::{LayerList, Network, Options};
use engram::nn::{Loss, Statistics};
use engram::ops::Mode;
use engram::optim::{Kind, Optimizer};
use engram::rng::{Purpose, Rng};
use engram::shape::Shape;
use engram::tensor::{check_gradients, no_grad};
use engram::training::{Objective, Schedule, Step, learn};
use engram::{Device, Error, Result, Tensor};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use tempfile::TempDir;

fn devices() -> impl Iterator<Item = Device> {
    [Some(Device::cpu()), common::gpu(false)].into_iter().flatten()
}

fn random(device: &Device, shape: impl Into<Shape>, size: f32, counter: u64) -> Tensor {
    let shape = shape.into();
    let mut rng = Rng::keyed(12, Purpose::Test, counter);
    let values: Vec<f32> = (0..shape.n_elements()).map(|_| rng.range(-size, size)).collect();
    Tensor::from_f32(device, shape, &values).unwrap()
}

fn labels(device: &Device, n: usize) -> Tensor {
    let labels: Vec<u32> = (0..n as u32).map(|i| i % 5).collect();
    Tensor::from_u32(device, [n], &labels).unwrap()
}

fn network(name: &str, device: &Device, seed: u64) -> Network {
    let options = Options { width: 0.25, ..Options::default() };
    Network::with_options(name, &options, [1, 16, 16], 5, device, seed).unwrap()
}

fn companions(scheme: &str, own: &[(&str, &str)], weights: &[(&str, f32)], student: &Network) -> Box<dyn Companions> {
    let spec = distill::spec(scheme).unwrap();
    let mut settings = spec.settings_with(own).unwrap();
    weights.iter().for_each(|(name, weight)| settings.set_weight(name, *weight).unwrap());
    let device = student.parameters.values().device();
    let elders = if spec.has_generations() { vec![student.snapshot().unwrap()] } else { Vec::new() };
    spec.companions(&settings, elders, student, &device, 1).unwrap()
}

fn sgd(parameters: &engram::nn::Parameters) -> Result<Optimizer> {
    Optimizer::new(Kind::Sgd, 0.9, 1e-4, parameters)
}

const STEP: Step = Step { index: 3, per_epoch: 5, n_epochs: 2 };

fn weights_of(network: &Network) -> Vec<u8> {
    network.to_safetensors().unwrap()
}

/// The square of the length of the gradient, as it lies in the buffer.
fn length(parameters: &engram::nn::Parameters) -> f32 {
    parameters.gradients_to_host().unwrap().iter().flatten().map(|g| g * g).sum()
}

// ---------------------------------------------------------------------------------------------------------------- formulas

/// As ONE computes its loss from what trunk and branches say.
fn one(x: &[Tensor]) -> Result<Tensor> {
    let running = Statistics::new(&x[0].device(), vec![("gate".into(), 3)])?;
    let weights = losses::gate(&x[0], &x[1..5], &running.arrays()[0], Mode::Train)?;
    let ensemble = losses::weighted_sum(&weights, &x[5..8])?;
    let classes = ensemble.shape()[1];
    let mut loss = ensemble.cross_entropy(&x[8], classes)?;
    for z in &x[5..8] {
        loss = loss.add(&z.cross_entropy(&x[8], classes)?)?;
        loss = loss.add(&z.kl_div(&ensemble.detach(), 3.0)?.scale(0.2865048)?)?;
    }
    Ok(loss)
}

/// Seven tensors per stage: values of student and teacher, the connector, γ and β of the teacher's batch norm.
fn ofd(x: &[Tensor]) -> Result<Tensor> {
    let n = x.len() / 7;
    let mut total: Option<Tensor> = None;
    for (i, stage) in x.chunks_exact(7).enumerate() {
        let channels = stage[2].shape()[0];
        let running = Statistics::new(&x[0].device(), vec![("norm".into(), channels)])?;
        let (gamma, beta) = (stage[5].to_vec()?, stage[6].to_vec()?);
        let margins: Vec<f32> =
            gamma.iter().zip(&beta).map(|(g, b)| losses::margin((*g).into(), (*b).into()) as f32).collect();
        let target = losses::margin_relu(&stage[1], &Tensor::from_f32(&x[0].device(), [channels], &margins)?)?;
        let hit = losses::connected(&stage[0], &stage[2..5], &running.arrays()[0])?;
        let part = losses::partial_error(&hit, &target)?.scale(0.5f32.powi((n - 1 - i) as i32))?;
        total = Some(total.map_or(Ok(part.clone()), |total| total.add(&part))?);
    }
    Ok(total.unwrap())
}

#[test]
fn one_and_the_overhaul_of_features_are_those_of_the_authors() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/companions.txt");
    let text = std::fs::read_to_string(path).unwrap();
    for device in devices() {
        let cases = golden::parse(&text);
        assert_eq!(cases.iter().map(|case| case.name).collect::<Vec<_>>(), ["one", "ofd"]);
        cases[0].check("companions", one, &device);
        cases[1].check("companions", ofd, &device);
    }
}

#[test]
fn gradients_agree_with_finite_differences() {
    let cpu = Device::cpu();
    let x = |shape: &[usize], at| random(&cpu, Shape::new(shape).unwrap(), 1.0, at);
    // The ensemble and its labels; a target without gradient would not follow the differences.
    let ensemble = |x: &[Tensor]| -> Result<Tensor> {
        let running = Statistics::new(&x[0].device(), vec![("gate".into(), 3)])?;
        let weights = losses::gate(&x[0], &x[1..5], &running.arrays()[0], Mode::Frozen)?;
        losses::weighted_sum(&weights, &x[5..8])?.cross_entropy(&x[8], 4)
    };
    let y = Tensor::from_u32(&cpu, [5], &[0, 1, 2, 3, 0]).unwrap();
    let gate = [x(&[5, 6, 2, 3], 1), x(&[3, 6], 2), x(&[3], 3), x(&[3], 4), x(&[3], 5)];
    let inputs = [gate.to_vec(), vec![x(&[5, 4], 6), x(&[5, 4], 7), x(&[5, 4], 8), y]].concat();
    let wanted: Vec<bool> = (0..9).map(|i| [5, 6, 7].contains(&i)).collect();
    // Away from r = t ≤ 0, where the second derivative jumps: targets above 0, and below it far from r on either side. The
    // student is spread out, so that the steps of the differences are small against its deviation.
    let changed = |shape: &[usize], factor: f32, around: f32, at| {
        let values: Vec<f32> = x(shape, at).to_vec().unwrap().into_iter().map(|x| factor * x + around).collect();
        Tensor::from_f32(&cpu, Shape::new(shape).unwrap(), &values).unwrap()
    };
    let stage = |(spread, around): (f32, f32), gamma: f32, beta: [f32; 4], at| {
        let maps = [changed(&[3, 2, 2, 2], 1.5, 0.0, at), changed(&[3, 4, 2, 2], spread, around, at + 1)];
        let beta = Tensor::from_f32(&cpu, [4], &beta).unwrap();
        let connector = [x(&[4, 2, 1, 1], at + 2), changed(&[4], 0.5, gamma, at + 3), beta];
        // The teacher's margins, near −4, are below the targets.
        [&maps[..], &connector, &[changed(&[4], 1.0, 5.0, at + 5), x(&[4], at + 6)]].concat()
    };
    let positive = stage((0.5, 0.8), 1.0, [0.2, -0.3, 0.5, 0.1], 20);
    let negative = stage((0.25, -0.75), 0.0, [0.8, -2.5, 0.9, 1.0], 30);
    let features = [positive, negative].concat();
    let of_features: Vec<bool> = (0..14).map(|i| [0, 2, 3, 4, 7, 9, 10, 11].contains(&i)).collect();
    type Formula<'a> = &'a dyn Fn(&[Tensor]) -> Result<Tensor>;
    let all: [(&str, Formula, _, _); 2] = [("one", &ensemble, inputs, wanted), ("ofd", &ofd, features, of_features)];
    for (name, f, inputs, wanted) in all {
        let errors = check_gradients(&f, &inputs, &wanted).unwrap();
        assert_eq!(errors.len(), wanted.iter().filter(|wanted| **wanted).count());
        for error in errors {
            assert!(error.relative <= 2e-3, "{name}: {error:?}");
        }
    }
}

#[test]
fn margins_are_means_of_what_is_negative() {
    let mut rng = Rng::keyed(12, Purpose::Test, 40);
    for (gamma, beta) in [(1.0, 0.0), (-0.5, 0.3), (2.0, -3.0), (0.7, 1.4), (1.0, 3.0)] {
        let (mut sum, mut n) = (0.0, 0u32);
        for _ in 0..2_000_000 {
            let x = beta + f64::abs(gamma) * f64::from(rng.normal());
            if x < 0.0 {
                (sum, n) = (sum + x, n + 1);
            }
        }
        let (mean, margin) = (sum / f64::from(n), losses::margin(gamma, beta));
        let allowed = 4.0 * gamma.abs() / f64::from(n).sqrt();
        assert!((mean - margin).abs() < allowed, "N({beta}, {gamma}²): {margin} instead of {mean} ± {allowed}");
    }
    // The other branch: fewer than one in a thousand is negative, from β = 3.0902·|γ| on.
    assert!((losses::margin(1.0, 3.09) + 0.2816).abs() < 0.01, "{}", losses::margin(1.0, 3.09));
    assert_eq!([losses::margin(1.0, 3.1), losses::margin(-2.0, 9.0)], [-3.0, -6.0]);
    assert_eq!([losses::margin(0.0, 0.5), losses::margin(0.0, -0.5)], [0.0, -0.5]);
}

#[test]
fn a_negative_value_below_a_negative_target_costs_nothing() {
    for device in devices() {
        // r, t and (r − t)² but where r ≤ t ≤ 0.
        let cases = [
            (1.0, 2.0, 1.0),
            (2.0, 1.0, 1.0),
            (-1.0, 1.0, 4.0),
            (1.0, -1.0, 4.0),
            (-1.0, -2.0, 1.0),
            (-2.0, -1.0, 0.0),
            (-1.0, -1.0, 0.0),
            (-1.0, 0.0, 0.0),
            (0.5, 0.0, 0.25),
        ];
        for (r, t, expected) in cases {
            let [r, t] = [r, t].map(|x| Tensor::from_f32(&device, [1, 1], &[x]).unwrap());
            let r = r.with_gradient();
            let loss = losses::partial_error(&r, &t).unwrap();
            assert_eq!(loss.item().unwrap(), expected, "{:?} {:?}", r.to_vec(), t.to_vec());
            let slope = loss.backward().unwrap().get(&r).unwrap().to_vec().unwrap()[0];
            let difference = r.item().unwrap() - t.item().unwrap();
            assert_eq!(slope, if expected == 0.0 { 0.0 } else { 2.0 * difference });
        }
        // Summed over C, H and W, mean over the batch.
        let (r, t) = (random(&device, [2, 3, 2, 2], 1.0, 50), random(&device, [2, 3, 2, 2], 1.0, 51));
        let pairs = r.to_vec().unwrap().into_iter().zip(t.to_vec().unwrap());
        let by_hand: f32 =
            pairs.map(|(r, t)| if r <= t && t <= 0.0 { 0.0 } else { (r - t).powi(2) }).sum::<f32>() / 2.0;
        assert!((losses::partial_error(&r, &t).unwrap().item().unwrap() - by_hand).abs() < 1e-5);
        // The teacher's side: max(x, margin).
        let margins = Tensor::from_f32(&device, [3], &[-0.2, 0.0, -5.0]).unwrap();
        let cut = losses::margin_relu(&t, &margins).unwrap().to_vec().unwrap();
        for (i, (cut, x)) in cut.iter().zip(t.to_vec().unwrap()).enumerate() {
            assert!((cut - x.max([-0.2, 0.0, -5.0][i / 4 % 3])).abs() < 1e-6);
        }
    }
}

// -------------------------------------------------------------------------------------------------------------------- ONE

#[test]
fn a_gate_sums_to_one_and_weighs_logits() {
    for device in devices() {
        let shared = random(&device, [6, 4, 3, 3], 2.0, 60);
        let entries: [&[usize]; 4] = [&[3, 4], &[3], &[3], &[3]];
        let gate: Vec<Tensor> =
            (61..).zip(entries).map(|(at, shape)| random(&device, Shape::new(shape).unwrap(), 1.0, at)).collect();
        let running = Array::from_f32(&device, [2, 3], &[0.0, 0.0, 0.0, 1.0, 1.0, 1.0]).unwrap();
        for mode in [Mode::Train, Mode::Eval] {
            let weights = losses::gate(&shared, &gate, &running, mode).unwrap();
            for row in weights.to_vec().unwrap().chunks(3) {
                assert!((row.iter().sum::<f32>() - 1.0).abs() < 1e-6 && row.iter().all(|g| *g > 0.0), "{row:?}");
            }
            let logits: Vec<Tensor> = (70..73).map(|at| random(&device, [6, 5], 3.0, at)).collect();
            let sum = losses::weighted_sum(&weights, &logits).unwrap().to_vec().unwrap();
            let (g, z): (Vec<f32>, Vec<Vec<f32>>) =
                (weights.to_vec().unwrap(), logits.iter().map(|z| z.to_vec().unwrap()).collect());
            for (i, sum) in sum.iter().enumerate() {
                let by_hand: f32 = (0..3).map(|b| g[i / 5 * 3 + b] * z[b][i]).sum();
                assert!((sum - by_hand).abs() < 1e-5, "{sum} {by_hand}");
            }
        }
    }
}

#[test]
fn targets_get_no_gradient() {
    for device in devices() {
        let (x, y) = (random(&device, [6, 1, 16, 16], 1.0, 80), labels(&device, 6));
        let student = network("resnet20", &device, 1);
        // From all branches together alone: nothing reaches the gate, which only the target depends on.
        let one = companions("one", &[], &[("ce", 0.0), ("gate", 0.0)], &student);
        let loss = one.loss(&student, &x, &y, STEP).unwrap();
        let all: Vec<_> = std::iter::once(&student.parameters).chain(one.along()).collect();
        engram::nn::backward(&loss.total().unwrap(), &all).unwrap();
        let lengths: Vec<f32> = all.iter().map(|parameters| length(parameters)).collect();
        assert_eq!(lengths[3], 0.0, "the gate");
        assert!(lengths[..3].iter().all(|length| *length > 0.0), "{lengths:?}");
        // What the student learns from its peer moves the student alone.
        let dml = companions("dml", &[], &[("ce", 0.0)], &student);
        let loss = dml.loss(&student, &x, &y, STEP).unwrap();
        assert_eq!(loss.0.len(), 2);
        for (term, moved) in loss.0.iter().zip([[true, false], [false, true]]) {
            let all = [&student.parameters, dml.along()[0]];
            engram::nn::backward(&term.weighted().unwrap(), &all).unwrap();
            assert_eq!(all.map(|parameters| length(parameters) > 0.0), moved);
        }
        // What exits learn from the deepest classifier does not move its last layer.
        let byot = companions("byot", &[], &[("ce", 0.0), ("exit", 0.0)], &student);
        let loss = byot.loss(&student, &x, &y, STEP).unwrap();
        let all: Vec<_> = std::iter::once(&student.parameters).chain(byot.along()).collect();
        engram::nn::backward(&loss.total().unwrap(), &all).unwrap();
        let gradients = student.parameters.gradients_to_host().unwrap();
        assert!(gradients.last().unwrap().iter().all(|g| *g == 0.0), "the last layer");
        assert!(gradients[0].iter().any(|g| *g != 0.0), "the stem");
    }
}

#[test]
fn the_trunk_s_gradient_is_the_sum_over_branches() {
    for device in devices() {
        let (x, y) = (random(&device, [6, 1, 16, 16], 1.0, 81), labels(&device, 6));
        let student = network("resnet20", &device, 1);
        let one = companions("one", &[], &[], &student);
        let gradient = |pick: &dyn Fn(usize) -> bool| -> Vec<f32> {
            let Loss(terms) = one.loss(&student, &x, &y, STEP).unwrap();
            assert_eq!(
                terms.iter().map(|term| term.name).collect::<Vec<_>>(),
                ["ce", "ce", "ce", "gate", "kd", "kd", "kd"]
            );
            let own = terms.into_iter().enumerate().filter(|(i, _)| pick(*i)).map(|(_, term)| term);
            student.parameters.backward(&Loss(own.collect()).total().unwrap()).unwrap();
            student.parameters.gradients_to_host().unwrap()[0].clone()
        };
        let whole = gradient(&|_| true);
        let parts =
            [gradient(&|i| i % 4 == 0), gradient(&|i| i % 4 == 1), gradient(&|i| i % 4 == 2), gradient(&|i| i == 3)];
        let largest = whole.iter().fold(0f32, |m, g| m.max(g.abs()));
        for (i, whole) in whole.iter().enumerate() {
            let sum: f32 = parts.iter().map(|part| part[i]).sum();
            assert!((whole - sum).abs() <= 1e-4 * largest, "{whole} {sum}");
        }
        for part in &parts {
            assert!(part.iter().any(|g| g.abs() > 1e-3 * largest), "a branch that pulls at nothing");
        }
    }
}

#[test]
fn a_student_stays_as_it_is_when_its_branches_are_taken_away() {
    for device in devices() {
        let (x, y) = (random(&device, [6, 1, 16, 16], 1.0, 82), labels(&device, 6));
        let student = network("resnet20", &device, 1);
        let one = companions("one", &[], &[], &student);
        let mut objective = Student::new(&student, Some(&*one), sgd).unwrap();
        for index in 0..4 {
            let loss = objective.loss((x.clone(), y.clone()), Step { index, ..STEP }).unwrap().total().unwrap();
            learn(&mut objective, &loss, 0.05).unwrap();
        }
        let shared = student.tap("stage2").unwrap().0;
        let with = no_grad(|| student.forward_with(&x, Mode::Eval, &[shared])).unwrap().0.logits.to_vec().unwrap();
        let dir = TempDir::new().unwrap();
        let file = dir.path().join("student.safetensors");
        std::fs::write(&file, weights_of(&student)).unwrap();
        drop(objective);
        drop(one);
        let alone = network("resnet20", &device, 9);
        alone.load_safetensors(&file).unwrap();
        let without = no_grad(|| alone.forward(&x, Mode::Eval)).unwrap().logits.to_vec().unwrap();
        assert_eq!(with, without);
    }
}

// ------------------------------------------------------------------------------------------------------- mutual learning

/// Weights of the student after some steps.
fn trained(companions: Option<&dyn Companions>, device: &Device) -> (Network, Vec<u8>) {
    let (x, y) = (random(device, [6, 1, 16, 16], 1.0, 90), labels(device, 6));
    let student = network("cnn", device, 1);
    let mut objective = Student::new(&student, companions, sgd).unwrap().in_turns_at(Schedule::constant(0.05));
    for index in 0..5 {
        let loss = objective.loss((x.clone(), y.clone()), Step { index, ..STEP }).unwrap().total().unwrap();
        learn(&mut objective, &loss, 0.05).unwrap();
    }
    drop(objective);
    let weights = weights_of(&student);
    (student, weights)
}

#[test]
fn mutual_learning_alone_is_plain_training() {
    for device in devices() {
        let student = network("cnn", &device, 1);
        for sequential in ["false", "true"] {
            let dml = companions("dml", &[("peers", "1"), ("sequential", sequential)], &[], &student);
            assert!(dml.along().is_empty() && dml.answers().is_empty());
            assert_eq!(trained(Some(&*dml), &device).1, trained(None, &device).1);
        }
    }
}

#[test]
fn peers_take_turns_where_that_is_wanted() {
    let device = Device::cpu();
    let (x, y) = (random(&device, [6, 1, 16, 16], 1.0, 91), labels(&device, 6));
    let lr = 0.05;
    let spec = distill::spec("dml").unwrap();
    let settings = |sequential| spec.settings_with(&[("peers", "2"), ("sequential", sequential)]).unwrap();
    let (student, peer) = (network("cnn", &device, 1), || network("mlp", &device, 2));
    let one_step = |student: &Network, peers: &Peers| {
        let mut objective = Student::new(student, Some(peers), sgd).unwrap().in_turns_at(Schedule::constant(lr));
        let loss = objective.loss((x.clone(), y.clone()), STEP).unwrap().total().unwrap();
        learn(&mut objective, &loss, lr).unwrap();
        peers.along()[0].to_host().unwrap().into_iter().flat_map(|(_, _, values)| values).collect::<Vec<f32>>()
    };
    let sequential = Peers::new(&student, vec![peer()], settings("true")).unwrap();
    let second_in_turn = one_step(&student, &sequential);

    // By hand: the student first, then the peer, which hears the student as it is now.
    let (student_by_hand, peer_by_hand) = (network("cnn", &device, 1), peer());
    let said = |network: &Network, mode| no_grad(|| network.forward(&x, mode)).unwrap().logits;
    for (network, other) in [(&student_by_hand, &peer_by_hand), (&peer_by_hand, &student_by_hand)] {
        let logits = network.forward(&x, Mode::Train).unwrap().logits;
        let kd = logits.kl_div(&said(other, Mode::Frozen), 1.0).unwrap();
        let loss = logits.cross_entropy(&y, 5).unwrap().add(&kd).unwrap();
        network.parameters.backward(&loss).unwrap();
        sgd(&network.parameters).unwrap().step(&network.parameters, lr).unwrap();
    }
    assert_eq!(weights_of(&student), weights_of(&student_by_hand));
    let by_hand: Vec<f32> =
        peer_by_hand.parameters.to_host().unwrap().into_iter().flat_map(|(_, _, values)| values).collect();
    assert_eq!(second_in_turn, by_hand);

    // At once, the student moves the same, and the peer by what the student said before.
    let again = network("cnn", &device, 1);
    let at_once = Peers::new(&again, vec![peer()], settings("false")).unwrap();
    let second_at_once = one_step(&again, &at_once);
    assert_eq!(weights_of(&again), weights_of(&student));
    assert_ne!(second_at_once, second_in_turn);
}

#[test]
fn the_mean_over_peers_is_what_each_learns_from() {
    let device = Device::cpu();
    let (x, y) = (random(&device, [6, 1, 16, 16], 1.0, 92), labels(&device, 6));
    let student = network("cnn", &device, 1);
    let dml = companions("dml", &[("peers", "3")], &[], &student);
    let Loss(terms) = dml.loss(&student, &x, &y, STEP).unwrap();
    let names: Vec<&str> = terms.iter().map(|term| term.name).collect();
    assert_eq!(names, ["ce", "kd", "kd", "ce", "kd", "kd", "ce", "kd", "kd"]);
    assert!(terms.iter().all(|term| term.weight == if term.name == "ce" { 1.0 } else { 0.5 }));
    let names: Vec<String> = dml.answers().into_iter().map(|answer| answer.name).collect();
    assert_eq!(names, ["peer 2", "peer 3", "all peers"]);
}

// ------------------------------------------------------------------------------------------------------------------ exits

#[test]
fn exits_cost_what_leads_to_them() {
    let device = Device::cpu();
    for (model, n) in [("resnet20", 2), ("resnet18", 3), ("vgg11", 4), ("cnn", 1), ("mlp", 1)] {
        let options = Options { width: 0.125, ..Options::default() };
        let student = Network::with_options(model, &options, [1, 32, 32], 5, &device, 1).unwrap();
        let byot = companions("byot", &[], &[], &student);
        let answers = byot.answers();
        assert_eq!(answers.len(), n + 1, "{model}");
        assert_eq!(answers.last().unwrap().name, "all exits");
        assert!(answers.last().unwrap().macs > student.macs);
        for pair in answers.windows(2) {
            assert!(pair[0].macs < pair[1].macs, "{model}: {answers:?}");
        }
        // The first exit by hand: the layers up to the stage, and its own.
        let list = LayerList::from_json(&serde_json::from_str(&student.list().to_text()).unwrap(), "x").unwrap();
        let cut = list.cut(model, "stage1").unwrap();
        let before = list.table(model, [1, 32, 32], 5).unwrap();
        let rest = cut.rest.table("rest", cut.shape, 5).unwrap();
        let sum = |table: &[engram::nn::LayerInfo]| table.iter().map(|layer| layer.macs).sum::<u64>();
        assert_eq!(cut.macs + sum(&rest), sum(&before), "{model}");
        assert!(answers[0].macs > cut.macs && answers[0].n_parameters > cut.n_parameters);

        let x = random(&device, [4, 1, 32, 32], 1.0, 100);
        let said = byot.answer(&student, &x).unwrap();
        assert!(said.len() == n + 1 && said.iter().all(|z| *z.shape() == [4, 5]));
        let Loss(terms) = byot.loss(&student, &x, &labels(&device, 4), STEP).unwrap();
        assert_eq!(terms.len(), 1 + 3 * n);
        assert!(terms.iter().all(|term| term.value.item().unwrap().is_finite()));
    }
}

// ------------------------------------------------------------------------------------------------------------ all schemes

#[test]
fn every_scheme_without_a_teacher_trains_all_it_brings() {
    for device in devices() {
        let (x, y) = (random(&device, [6, 1, 16, 16], 1.0, 110), labels(&device, 6));
        for spec in distill::ALL.iter().filter(|spec| !spec.has_teacher()) {
            for model in ["resnet20", "cnn", "vgg11"] {
                let options = Options { width: 0.125, ..Options::default() };
                let side = if model == "vgg11" { 32 } else { 16 };
                let student = Network::with_options(model, &options, [1, side, side], 5, &device, 1).unwrap();
                let x = if side == 16 { x.clone() } else { random(&device, [6, 1, side, side], 1.0, 111) };
                let companions = companions(spec.name, &[], &[], &student);
                let mut objective = Student::new(&student, Some(&*companions), sgd).unwrap();
                let mut totals = Vec::new();
                let mut allocations = 0;
                for index in 0..12 {
                    let loss = objective.loss((x.clone(), y.clone()), Step { index, ..STEP }).unwrap();
                    let names = loss.0.iter().map(|term| term.name);
                    assert!(names.clone().all(|name| spec.weights.iter().any(|(known, _)| *known == name)));
                    let total = loss.total().unwrap();
                    learn(&mut objective, &total, 0.02).unwrap();
                    totals.push(total.detach());
                    device.flush().unwrap();
                    if index == 5 {
                        allocations = device.counters().allocations;
                    }
                }
                // Each kept loss has a buffer of its own.
                let new = device.counters().allocations - allocations;
                assert!(new <= 6, "{} on {model}: {new} new buffers in six steps", spec.name);
                let [first, last] = [&totals[0], &totals[11]].map(|loss| loss.item().unwrap());
                assert!(last < first, "{} on {model}: {first} → {last}", spec.name);
                for parameters in companions.along() {
                    assert!(length(parameters) > 0.0, "{} on {model}", spec.name);
                }
                assert_eq!(companions.answer(&student, &x).unwrap().len(), companions.answers().len());
            }
        }
    }
}

#[test]
fn margins_without_a_batch_norm_are_measured() {
    let device = Device::cpu();
    let (student, teacher) = (network("cnn", &device, 1), network("cnn", &device, 7));
    let spec = distill::spec("ofd").unwrap();
    let (x, y) = (random(&device, [6, 1, 16, 16], 1.0, 120), labels(&device, 6));
    let new = || spec.companions(&spec.settings(), vec![teacher.snapshot().unwrap()], &student, &device, 1).unwrap();
    let error = new().loss(&student, &x, &y, STEP).err().unwrap().to_string();
    assert!(error.contains("prepare"), "{error}");
    let mut ofd = new();
    assert_eq!(ofd.layers()[0], ("stage1:pre".to_string(), "stage1:pre".to_string()));
    ofd.prepare(&mut [Ok(x.clone()), Ok(random(&device, [3, 1, 16, 16], 1.0, 121))].into_iter()).unwrap();
    let Loss(terms) = ofd.loss(&student, &x, &y, STEP).unwrap();
    assert_eq!(terms.iter().map(|term| term.name).collect::<Vec<_>>(), ["ce", "ofd", "ofd"]);
    assert_eq!([terms[1].weight, terms[2].weight], [0.5e-3, 1e-3]);

    // With a batch norm there is nothing to measure, and the teacher's mode is the authors'.
    let resnet = network("resnet20", &device, 7);
    let mut known =
        spec.companions(&spec.settings(), vec![resnet], &network("resnet20", &device, 1), &device, 1).unwrap();
    known.prepare(&mut std::iter::once_with(|| panic!("nobody looks at images"))).unwrap();
    assert_eq!(spec.settings().teacher_mode, TeacherMode::BatchStatistics);
}

#[test]
fn what_does_not_fit_is_refused() {
    let device = Device::cpu();
    let refusal = |scheme: &str, own: &[(&str, &str)], change: &dyn Fn(&mut Settings), student: &Network| -> String {
        let spec = distill::spec(scheme).unwrap();
        let mut settings = spec.settings_with(own).unwrap();
        change(&mut settings);
        match spec.companions(&settings, Vec::new(), student, &device, 1) {
            Ok(_) => panic!("accepted"),
            Err(error) => {
                assert_eq!(error.exit_code(), 2, "{error}");
                error.to_string()
            }
        }
    };
    let (resnet, mlp) = (network("resnet20", &device, 1), network("mlp", &device, 1));
    let message = refusal("one", &[("branches", "1")], &|_| (), &resnet);
    assert!(message.contains("--branches 1"), "{message}");
    let message = refusal("one", &[("branch_after", "stage7")], &|_| (), &resnet);
    assert!(message.contains("'stage7'") && message.contains("stage1, stage2, stage3"), "{message}");
    let message = refusal("one", &[("branch_after", "layer1.0")], &|_| (), &resnet);
    assert!(message.contains("'layer1.0'"), "{message}");
    // Behind the second stage of an mlp there is only its last layer.
    let message = refusal("one", &[], &|_| (), &mlp);
    assert!(message.contains("stage2") && message.contains("earlier stage"), "{message}");
    for scheme in ["one", "dml", "byot"] {
        let message = refusal(scheme, &[], &|settings| settings.temperature = 0.0, &resnet);
        assert!(message.contains("--temperature 0"), "{message}");
        let message = refusal(scheme, &[], &|settings| settings.weights.iter_mut().for_each(|w| w.1 = 0.0), &resnet);
        assert!(message.contains("all weights"), "{message}");
    }
    let spec = distill::spec("dml").unwrap();
    let other = Network::new("cnn", [1, 16, 16], 7, &device, 2).unwrap();
    let message = Peers::new(&resnet, vec![other], spec.settings()).err().unwrap().to_string();
    assert!(message.contains("7 classes") && message.contains('5'), "{message}");
    let other = Network::new("cnn", [1, 20, 20], 5, &device, 2).unwrap();
    assert!(Peers::new(&resnet, vec![other], spec.settings()).err().unwrap().to_string().contains("20, 20"));
    let error = Distiller::new(spec, spec.settings(), vec![network("cnn", &device, 2)], &resnet, &device, 1);
    assert!(error.err().unwrap().to_string().contains("no teacher"));
    assert!(spec.settings_with(&[("branches", "2")]).is_err());
    // No stages at all.
    let flat: serde_json::Value = serde_json::json!({"format": 1, "input": [1, 16, 16], "layers": [
        {"kind": "linear", "name": "a", "out": 8}, {"kind": "feature"}, {"kind": "linear", "name": "b"}]});
    let list = LayerList::from_json(&flat, "flat.json").unwrap();
    let flat = Network::from_list("flat.json", &list, [1, 16, 16], 5, &device, 1).unwrap();
    assert!(refusal("byot", &[], &|_| (), &flat).contains("0 stages"));
    assert!(refusal("one", &[], &|_| (), &flat).contains("no stages"));

    for (settings, wanted) in [
        (vec![("scheme", "one"), ("teacher", "cnn")], "without a trained teacher"),
        (vec![("scheme", "byot"), ("teacher_epochs", "2")], "--teacher-epochs"),
        (vec![("scheme", "dml"), ("branches", "2")], "a setting of one"),
        (vec![("rampup", "2")], "--rampup"),
        (vec![("scheme", "dml"), ("peers", "0")], "--peers"),
        (vec![("scheme", "born-again"), ("generations", "0")], "--generations"),
        (vec![("scheme", "one"), ("temperature", "0")], "--temperature"),
    ] {
        let message = DistillConfig::of(&settings).unwrap_err().to_string();
        assert!(message.contains(wanted), "{settings:?}: {message}");
    }
}

// ------------------------------------------------------------------------------------------------------------------- runs

/// Interrupts a training, counted from 1, in its third step.
struct Interrupt<'a>(&'a AtomicBool, usize);

impl Listener for Interrupt<'_> {
    fn training(&mut self, _started: &Started) {
        self.1 = self.1.wrapping_sub(1);
    }

    fn progress(&mut self, progress: &Progress) {
        if self.1 == 0 && progress.batch == 3 {
            self.0.store(true, Relaxed);
        }
    }
}

impl Sink for Interrupt<'_> {}

#[test]
fn schemes_without_a_teacher_run_and_go_on() {
    let (dir, dataset, cpu, never) =
        (TempDir::new().unwrap(), runs::glyphs(200, 100), Device::cpu(), AtomicBool::new(false));
    // Which training is interrupted, and how many are left then: of born-again the twin is trained once more.
    for (scheme, others, interrupted) in [("dml", 2, 2), ("one", 3, 2), ("byot", 2, 2), ("born-again", 2, 3)] {
        let mut settings = vec![("scheme", scheme), ("student", "cnn"), ("student_width", "0.25"), ("limit", "60")];
        settings.extend([("epochs", "2"), ("seeds", "1")]);
        if scheme == "born-again" {
            settings.push(("generations", "2"));
        }
        let config = DistillConfig::of(&settings).unwrap();
        let folder = |name: &str| RunFolder::create(&dir.path().join(scheme).join(name), false).unwrap();
        let (whole, broken) = (folder("whole"), folder("broken"));
        let expected = run(&config, &dataset, &cpu, Some(&whole), &mut Silent, &never).unwrap();
        assert!(expected.complete && expected.teachers.is_empty() && expected.teacher_accuracy.is_none());
        let [scratch, distilled] = [Arm::Scratch, Arm::Distilled].map(|arm| expected.student(arm, 1, 1.0).unwrap());
        assert!(scratch.others.is_empty() && distilled.agreement.is_none(), "{scheme}");
        assert_eq!(distilled.others.len(), others, "{scheme}: {:?}", distilled.others);
        assert!(distilled.others.iter().all(|other| other.macs > 0 && (0.0..=1.0).contains(&other.accuracy)));
        assert!(expected.held_bytes > 0 && !expected.terms.is_empty());
        let comparison = &expected.comparisons()[0];
        assert_eq!(comparison.others(|other| other.accuracy).len(), others);
        assert_eq!(DistillResults::of_folder(whole.path()).unwrap(), expected);
        if scheme == "one" {
            // Published figures each find the measured one.
            let rows = presets::ledger("one-resnet32-cifar100", &expected);
            let measured: Vec<f64> = rows.iter().map(|row| row.measured.unwrap().0).collect();
            assert_eq!(measured, [scratch.accuracy, distilled.accuracy, distilled.others[2].accuracy]);
            let csv = presets::ledger_csv(&rows);
            assert!(csv.lines().count() == 4 && csv.contains("\"ONE-E\",75.37,"), "{csv}");
        }

        let flag = AtomicBool::new(false);
        let first = run(&config, &dataset, &cpu, Some(&broken), &mut Interrupt(&flag, interrupted), &flag);
        assert!(matches!(first, Err(Error::Interrupted)), "{scheme}");
        let again = resume(&config, &dataset, &cpu, &broken, &mut Silent, &never).unwrap();
        let bytes = |folder: &RunFolder| std::fs::read(folder.path().join("model.safetensors")).unwrap();
        assert!(bytes(&whole) == bytes(&broken), "{scheme}: another model");
        let accuracies = |results: &DistillResults| {
            let own = results.students.iter();
            own.flat_map(|s| s.others.iter().map(|other| other.accuracy).chain([s.accuracy])).collect::<Vec<_>>()
        };
        assert_eq!((accuracies(&again), &again.terms), (accuracies(&expected), &expected.terms), "{scheme}");
    }
}
