//! Distillation: losses against PyTorch, against finite differences and in their limits; teachers stay unchanged; values of
//! named layers.

use crate::common;
use crate::common::golden;
use engram::distill::{self, Distiller, Settings, TeacherMean, TeacherMode, combined, losses};
use engram::experiment::distillation::{
    DistillConfig, DistillResults, StudentResult, distill as run, paired_gain, presets, recorded_by, resume, rows,
};
use engram::experiment::results::RunFolder;
use engram::experiment::sink::{Listener, Progress, Sink, Started};
use engram::models::{self, Network};
use engram::ops::{Conv2d, Mode};
use engram::rng::{Purpose, Rng};
use engram::settings::{Origin, Values};
use engram::shape::Shape;
use engram::tensor::{check_gradients, no_grad};
use engram::{Device, Error, Result, Tensor};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use tempfile::TempDir;

fn devices() -> impl Iterator<Item = Device> {
    [Some(Device::cpu()), common::gpu(false)].into_iter().flatten()
}

fn random(device: &Device, shape: impl Into<Shape>, size: f32, counter: u64) -> Tensor {
    let shape = shape.into();
    let mut rng = Rng::keyed(11, Purpose::Test, counter);
    let values: Vec<f32> = (0..shape.n_elements()).map(|_| rng.range(-size, size)).collect();
    Tensor::from_f32(device, shape, &values).unwrap()
}

fn labels(device: &Device, values: &[u32]) -> Tensor {
    Tensor::from_u32(device, [values.len()], values).unwrap()
}

fn item(x: Result<Tensor>) -> f32 {
    x.unwrap().item().unwrap()
}

/// The gradient of `f` at `x`.
fn gradient(x: &Tensor, f: impl Fn(&Tensor) -> Result<Tensor>) -> Vec<f32> {
    let x = x.with_gradient();
    f(&x).unwrap().backward().unwrap().get(&x).unwrap().to_vec().unwrap()
}

fn hinton(x: &[Tensor]) -> Result<Tensor> {
    let weights = losses::Weights::alpha_on_ce(0.1);
    x[0].cross_entropy(&x[2], x[0].shape()[1])?.scale(weights.ce)?.add(&x[0].kl_div(&x[1], 4.0)?.scale(weights.kd)?)
}

fn two_teachers(x: &[Tensor]) -> Result<Tensor> {
    x[0].kl_div(&combined(&x[1..], TeacherMean::Probabilities, 4.0)?, 4.0)
}

fn hint(x: &[Tensor]) -> Result<Tensor> {
    match x[2].shape().len() {
        2 => x[0].linear(&x[2], Some(&x[3]))?.mse(&x[1]),
        _ => x[0].conv2d(&x[2], Some(&x[3]), Conv2d::new(1, 0))?.mse(&x[1]),
    }
}

type Run = fn(&[Tensor]) -> Result<Tensor>;

const LOSSES: &[(&str, Run)] = &[
    ("hinton", hinton),
    ("two_teachers", two_teachers),
    ("dkd_target", |x| Ok(losses::decoupled(&x[0], &x[1], &x[2], 4.0)?.0)),
    ("dkd_rest", |x| Ok(losses::decoupled(&x[0], &x[1], &x[2], 4.0)?.1)),
    ("attention", |x| losses::attention(&x[0], &x[1])),
    ("rkd_distance", |x| losses::relation_distance(&x[0], &x[1])),
    ("rkd_angle", |x| losses::relation_angle(&x[0], &x[1])),
    ("similarity", |x| losses::similarity(&x[0], &x[1])),
    ("hint", hint),
    ("hint_maps", hint),
];

#[test]
fn losses_and_their_gradients_are_those_of_pytorch() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/distill.txt");
    let text = std::fs::read_to_string(path).unwrap();
    for device in devices() {
        let cases = golden::parse(&text);
        assert_eq!(cases.len(), LOSSES.len());
        for case in cases {
            let (_, run) = LOSSES.iter().find(|(name, _)| *name == case.name).expect("a loss of this name");
            case.check("distill", run, &device);
        }
    }
}

#[test]
fn gradients_agree_with_finite_differences() {
    let cpu = Device::cpu();
    for (i, (name, run)) in LOSSES.iter().enumerate() {
        let counter = 10 * i as u64;
        let input = |shape: &[usize], at| random(&cpu, Shape::new(shape).unwrap(), 1.0, counter + at);
        let y = labels(&cpu, &[3, 0, 5, 1]);
        let inputs = match *name {
            "hinton" | "dkd_target" | "dkd_rest" => vec![input(&[4, 6], 0), input(&[4, 6], 1), y],
            "two_teachers" => vec![input(&[4, 6], 0), input(&[4, 6], 1), input(&[4, 6], 2)],
            "attention" => vec![input(&[2, 3, 3, 2], 0), input(&[2, 4, 3, 2], 1)],
            "hint" => vec![input(&[4, 3], 0), input(&[4, 2], 1), input(&[2, 3], 2), input(&[2], 3)],
            "hint_maps" => {
                vec![input(&[2, 3, 2, 2], 0), input(&[2, 4, 2, 2], 1), input(&[4, 3, 1, 1], 2), input(&[4], 3)]
            }
            _ => vec![input(&[4, 3], 0), input(&[4, 5], 1)],
        };
        let wanted: Vec<bool> = (0..inputs.len()).map(|i| i == 0).collect();
        // The student is spread out, so that the steps of the differences are small against distances.
        let inputs = [vec![inputs[0].scale(4.0).unwrap()], inputs[1..].to_vec()].concat();
        let [error] = check_gradients(run, &inputs, &wanted).unwrap()[..] else { panic!("{name}: one input") };
        assert!(error.relative <= 5e-4, "{name}: {error:?}");
        let size = gradient(&inputs[0], |x| run(&[vec![x.clone()], inputs[1..].to_vec()].concat()));
        assert!(size.iter().any(|g| g.abs() > 1e-3), "{name}: the gradients are too small to tell: {size:?}");
    }
}

#[test]
fn every_loss_is_zero_where_the_student_is_the_teacher() {
    for device in devices() {
        let (z, y) = (random(&device, [5, 4], 2.0, 1), labels(&device, &[0, 1, 2, 3, 0]));
        let maps = random(&device, [3, 2, 4, 3], 1.0, 2);
        let (target, rest) = losses::decoupled(&z, &z, &y, 4.0).unwrap();
        let all = [
            z.kl_div(&z, 4.0),
            z.mse(&z),
            Ok(target),
            Ok(rest),
            losses::attention(&maps, &maps),
            losses::relation_distance(&z, &z),
            losses::relation_angle(&z, &z),
            losses::similarity(&maps, &maps),
            z.kl_div(&combined(&[z.clone(), z.clone()], TeacherMean::Probabilities, 4.0).unwrap(), 4.0),
        ];
        for (i, loss) in all.into_iter().enumerate() {
            assert!(item(loss).abs() < 2e-6, "loss {i}");
        }
    }
}

#[test]
fn the_divergence_has_its_limits() {
    for device in devices() {
        let (n, c) = (4, 6);
        let (s, t) = (random(&device, [n, c], 3.0, 3), random(&device, [n, c], 3.0, 4));
        let close = |what: &str, got: &[f32], expected: &[f32], relative: f32| {
            let largest = expected.iter().fold(0f32, |m, x| m.max(x.abs()));
            for (got, expected) in got.iter().zip(expected) {
                assert!((got - expected).abs() <= relative * largest, "{what}: {got} instead of {expected}");
            }
        };
        // T·(p_s − p_t)/B at any temperature.
        for temperature in [1.0, 4.0, 20.0] {
            let got = gradient(&s, |s| s.kl_div(&t, temperature));
            let p = |z: &Tensor| z.softmax(temperature).unwrap().to_vec().unwrap();
            let expected: Vec<f32> = p(&s).iter().zip(p(&t)).map(|(s, t)| temperature * (s - t) / n as f32).collect();
            close("T·(p_s − p_t)/B", &got, &expected, 1e-5);
        }
        // High temperatures match logits around their mean.
        let centred = |z: &Tensor| -> Vec<f32> {
            let z = z.to_vec().unwrap();
            z.chunks(c).flat_map(|row| row.iter().map(|x| x - row.iter().sum::<f32>() / c as f32)).collect()
        };
        let expected: Vec<f32> = centred(&s).iter().zip(centred(&t)).map(|(s, t)| (s - t) / (n * c) as f32).collect();
        close("T = 100", &gradient(&s, |s| s.kl_div(&t, 100.0)), &expected, 0.05);
        // At T = 1 it is the soft cross-entropy, −Σ p_t ln p_s.
        let p_t = t.softmax(1.0).unwrap();
        let soft = gradient(&s, |s| s.log_softmax(1.0)?.mul(&p_t)?.sum()?.scale(-1.0 / n as f32));
        close("T = 1", &gradient(&s, |s| s.kl_div(&t, 1.0)), &soft, 1e-5);
    }
}

#[test]
fn decoupled_parts_add_up_and_stay_finite() {
    for device in devices() {
        // KL = KL(target against the rest) + (1 − p_t)·KL(among the rest), sample by sample.
        let (s, t, y) = (random(&device, [1, 5], 3.0, 5), random(&device, [1, 5], 3.0, 6), labels(&device, &[2]));
        for temperature in [1.0, 4.0] {
            let (target, rest) = losses::decoupled(&s, &t, &y, temperature).unwrap();
            let others = 1.0 - t.softmax(temperature).unwrap().to_vec().unwrap()[2];
            let sum = item(Ok(target)) + others * item(Ok(rest));
            let whole = item(s.kl_div(&t, temperature));
            assert!((sum - whole).abs() < 1e-4 * whole.abs().max(1.0), "{sum} {whole}");
        }
        let extreme = [1e4, -1e4, 0.0, 88.0, -1e4, 1e4, 3.0, 20.0];
        let s = Tensor::from_f32(&device, [2, 4], &extreme).unwrap();
        let t = Tensor::from_f32(&device, [2, 4], &extreme.map(|z| -z)).unwrap();
        for y in [[0, 1], [1, 0], [3, 3]] {
            let y = labels(&device, &y);
            let loss = |s: &Tensor| {
                let (target, rest) = losses::decoupled(s, &t, &y, 4.0)?;
                target.add(&rest)
            };
            assert!(item(loss(&s)).is_finite());
            assert!(gradient(&s, loss).iter().all(|g| g.is_finite()));
        }
    }
}

#[test]
fn relations_ignore_scale_and_survive_equal_samples() {
    for device in devices() {
        let (s, t) = (random(&device, [6, 4], 1.0, 7), random(&device, [6, 3], 1.0, 8));
        let larger = s.scale(7.0).unwrap();
        for loss in [losses::relation_distance, losses::relation_angle, losses::similarity] {
            let (a, b) = (item(loss(&s, &t)), item(loss(&larger, &t)));
            assert!((a - b).abs() < 1e-5 && a > 1e-3, "{a} {b}");
        }
        // Two samples at one place: the distance 0 does not count, and pulls at nothing.
        let twins = Tensor::from_f32(&device, [3, 2], &[1.0, 2.0, 1.0, 2.0, 4.0, 6.0]).unwrap();
        let far = Tensor::from_f32(&device, [3, 1], &[0.0, 1.0, 5.0]).unwrap();
        let distances = twins.squared_distances(&twins).unwrap().sqrt().unwrap().over_positive_mean().unwrap();
        assert_eq!(distances.to_vec().unwrap(), [0.0, 0.0, 1.0, 0.0, 0.0, 1.0, 1.0, 1.0, 0.0]);
        let same = Tensor::from_f32(&device, [3, 2], &[1.0; 6]).unwrap();
        for loss in [losses::relation_distance, losses::relation_angle] {
            // The losses lie between 0 and 1, and so do their slopes: a division by 1e-12 would show.
            let pulls = gradient(&twins, |x| loss(x, &far));
            assert!(pulls.iter().all(|g| g.abs() < 1.0), "{pulls:?}");
            // Nothing says where points in one place should go.
            assert_eq!(gradient(&same, |x| loss(x, &far)), [0.0; 6]);
        }
    }
}

#[test]
fn several_teachers_average_what_they_say() {
    let device = Device::cpu();
    let (a, b) = (random(&device, [3, 4], 5.0, 9), random(&device, [3, 4], 5.0, 10));
    let p = |z: &Tensor, t| z.softmax(t).unwrap().to_vec().unwrap();
    let both = combined(&[a.clone(), b.clone()], TeacherMean::Probabilities, 4.0).unwrap();
    for ((both, a), b) in p(&both, 4.0).iter().zip(p(&a, 4.0)).zip(p(&b, 4.0)) {
        assert!((both - (a + b) / 2.0).abs() < 1e-6);
    }
    let both = combined(&[a.clone(), b.clone()], TeacherMean::Logits, 4.0).unwrap();
    assert_eq!(both.to_vec().unwrap(), a.add(&b).unwrap().scale(0.5).unwrap().to_vec().unwrap());
    assert_eq!(
        combined(std::slice::from_ref(&a), TeacherMean::Probabilities, 4.0).unwrap().to_vec().unwrap(),
        a.to_vec().unwrap()
    );
    assert!(combined(&[], TeacherMean::Logits, 4.0).is_err());
    // Probabilities that underflow still have a logarithm.
    let far = Tensor::from_f32(&device, [1, 2], &[1e4, -1e4]).unwrap();
    let both = combined(&[far.clone(), far], TeacherMean::Probabilities, 1.0).unwrap();
    assert!(both.to_vec().unwrap().iter().all(|z| z.is_finite()));
}

// ------------------------------------------------------------------------------------------------ values of named layers

#[test]
fn every_model_has_its_values_before_and_after_the_relu() {
    let device = Device::cpu();
    for spec in models::ALL {
        let options = models::Options { width: 0.125, ..models::Options::default() };
        let [c, h, w] = spec.input;
        let network = Network::with_options(spec.name, &options, spec.input, 10, &device, 3).unwrap();
        let x = random(&device, [2, c, h, w], 1.0, 20);
        let plain = network.forward(&x, Mode::Eval).unwrap();
        let (mut taps, mut shapes) = (Vec::new(), Vec::new());
        for place in network.places() {
            let (after, shape) = network.tap(&place.name).unwrap();
            let (before, _) = network.tap(&format!("{}:pre", place.name)).unwrap();
            taps.extend([after, before]);
            shapes.push(shape);
        }
        let (output, values) = network.forward_with(&x, Mode::Eval, &taps).unwrap();
        assert_eq!(
            output.logits.to_vec().unwrap(),
            plain.logits.to_vec().unwrap(),
            "{}: taps change nothing",
            spec.name
        );
        let mut n_relus = 0;
        for ((place, pair), [c, h, w]) in network.places().iter().zip(values.chunks(2)).zip(shapes) {
            let (after, before) = (pair[0].to_vec().unwrap(), pair[1].to_vec().unwrap());
            assert_eq!(after.len(), 2 * c * h * w, "{} {}", spec.name, place.name);
            match place.relu {
                Some(_) => {
                    assert_eq!(after, pair[1].relu().unwrap().to_vec().unwrap(), "{} {}", spec.name, place.name);
                    n_relus += usize::from(before.iter().any(|x| *x < 0.0));
                }
                None => assert_eq!(after, before),
            }
        }
        assert!(n_relus > 2, "{}: {n_relus} values with a ReLU", spec.name);
        let (features, _) = network.tap("features:pre").unwrap();
        let (output, values) = network.forward_with(&x, Mode::Eval, &[features]).unwrap();
        // DeepLab's are behind the ReLU of its last batch norm.
        let expected = if spec.name.starts_with("deeplab") { values[0].relu().unwrap() } else { values[0].clone() };
        assert_eq!(expected.to_vec().unwrap(), output.features.to_vec().unwrap(), "{}", spec.name);
        assert!(network.places().iter().any(|place| place.name == "stage2"), "{} has no stage2", spec.name);
    }
    let network = Network::new("mlp", [1, 28, 28], 10, &device, 1).unwrap();
    let message = network.tap("layer9").unwrap_err().to_string();
    assert!(message.contains("layer9") && message.contains("stage1") && message.contains("fc3"), "{message}");
}

#[test]
fn gradients_flow_through_taps() {
    for device in devices() {
        let network = Network::new("resnet20", [3, 8, 8], 4, &device, 1).unwrap();
        let x = random(&device, [2, 3, 8, 8], 1.0, 21);
        let gradients = |taps: &[&str]| {
            let taps: Vec<_> = taps.iter().map(|name| network.tap(name).unwrap().0).collect();
            let (output, values) = network.forward_with(&x, Mode::Frozen, &taps).unwrap();
            let loss = values
                .iter()
                .fold(output.logits.sum().unwrap(), |loss, value| loss.add(&value.mean().unwrap()).unwrap());
            network.parameters.backward(&loss).unwrap();
            network.parameters.gradients_to_host().unwrap()
        };
        let (plain, tapped) = (gradients(&[]), gradients(&["stage1:pre", "layer2.0"]));
        assert_ne!(plain[0], tapped[0], "the stem feels what is asked of stage 1");
        assert_eq!(plain.last(), tapped.last(), "the last layer does not");
    }
}

// ----------------------------------------------------------------------------------------------------------- distillers

fn network(name: &str, device: &Device, seed: u64) -> Network {
    let options = models::Options { width: 0.25, ..models::Options::default() };
    Network::with_options(name, &options, [1, 16, 16], 5, device, seed).unwrap()
}

fn distiller(scheme: &str, change: impl Fn(&mut Settings), student: &Network, device: &Device) -> Result<Distiller> {
    let spec = distill::spec(scheme).unwrap();
    let mut settings = spec.settings();
    change(&mut settings);
    Distiller::new(spec, settings, vec![network("resnet20", device, 7)], student, device, 1)
}

#[test]
fn every_scheme_trains_and_no_teacher_changes() {
    for device in devices() {
        let (x, y) = (random(&device, [6, 1, 16, 16], 1.0, 30), labels(&device, &[0, 1, 2, 3, 4, 0]));
        for spec in distill::ALL.iter().filter(|spec| spec.has_teacher()) {
            for mode in [TeacherMode::Eval, TeacherMode::BatchStatistics] {
                let student = network("resnet20", &device, 1);
                let distiller =
                    distiller(spec.name, |settings| settings.teacher_mode = mode, &student, &device).unwrap();
                let said = distiller.ask(&x).unwrap();
                assert!(!said.logits.wants_gradient() && said.values.iter().all(|value| !value.wants_gradient()));
                let loss = distiller.loss(&student, &x, &y, 0.5).unwrap();
                let names: Vec<&str> = loss.0.iter().map(|term| term.name).collect();
                assert!(names.iter().all(|name| spec.weights.iter().any(|(known, _)| known == name)), "{names:?}");
                assert!(loss.0.iter().all(|term| term.value.item().unwrap().is_finite()), "{}", spec.name);
                student.parameters.backward(&loss.total().unwrap()).unwrap();
                let first = &student.parameters.gradients_to_host().unwrap()[0];
                assert!(first.iter().any(|g| *g != 0.0) && first.iter().all(|g| g.is_finite()), "{}", spec.name);
                if let Some(along) = distiller.parameters() {
                    assert!(along.gradients_to_host().unwrap().iter().flatten().any(|g| *g != 0.0));
                }
                // Running statistics that moved would change this answer.
                assert_eq!(distiller.ask(&x).unwrap().logits.to_vec().unwrap(), said.logits.to_vec().unwrap());
            }
        }
    }
}

#[test]
fn the_teacher_s_mode_is_what_was_asked_for() {
    let device = Device::cpu();
    let (student, x) = (network("resnet20", &device, 1), random(&device, [6, 1, 16, 16], 1.0, 31));
    let ask = |mode| {
        let distiller = distiller("hinton", |settings| settings.teacher_mode = mode, &student, &device).unwrap();
        distiller.ask(&x).unwrap().logits.to_vec().unwrap()
    };
    let teacher = network("resnet20", &device, 7);
    let direct = |mode| no_grad(|| teacher.forward(&x, mode)).unwrap().logits.to_vec().unwrap();
    assert_eq!(ask(TeacherMode::Eval), direct(Mode::Eval));
    assert_eq!(ask(TeacherMode::BatchStatistics), direct(Mode::Frozen));
    assert_ne!(direct(Mode::Eval), direct(Mode::Frozen));
}

#[test]
fn what_does_not_fit_is_refused() {
    let device = Device::cpu();
    let student = network("resnet20", &device, 1);
    let refusal = |result: Result<Distiller>| match result {
        Ok(_) => panic!("accepted"),
        Err(error) => {
            assert_eq!(error.exit_code(), 2, "{error}");
            error.to_string()
        }
    };
    let message = refusal(distiller("hinton", |settings| settings.temperature = 0.0, &student, &device));
    assert!(message.contains("--temperature 0"), "{message}");
    let message =
        refusal(distiller("hinton", |settings| settings.weights.iter_mut().for_each(|w| w.1 = 0.0), &student, &device));
    assert!(message.contains("all weights") && message.contains("ce, kd"), "{message}");
    let message = refusal(distiller("hinton", |settings| settings.set_weight("kd", 0.0).unwrap(), &student, &device));
    assert!(message.contains("nothing comes from the teacher"), "{message}");
    let layers = |student: &str, teacher: &str| vec![(student.to_string(), teacher.to_string())];
    let message = refusal(distiller("fitnets", |s| s.layers = layers("stage1", "stage3"), &student, &device));
    assert!(message.contains("16×16") && message.contains("4×4") && message.contains("--layers"), "{message}");
    let message = refusal(distiller("attention", |s| s.layers = layers("features", "features"), &student, &device));
    assert!(message.contains("vector"), "{message}");
    let message = refusal(distiller("hinton", |s| s.layers = layers("stage1", "stage1"), &student, &device));
    assert!(message.contains("--layers"), "{message}");

    let spec = distill::spec("rkd").unwrap();
    let build = |teachers| Distiller::new(spec, spec.settings(), teachers, &student, &device, 1);
    let other = |input, outputs| Network::new("cnn", input, outputs, &device, 1).unwrap();
    let message = refusal(build(vec![other([1, 16, 16], 7)]));
    assert!(message.contains("7 classes") && message.contains('5'), "{message}");
    let message = refusal(build(vec![other([1, 20, 20], 5)]));
    assert!(message.contains("1×20×20"), "{message}");
    let message = refusal(build(vec![other([1, 16, 16], 5), other([1, 16, 16], 5)]));
    assert!(message.contains("one teacher"), "{message}");
    assert!(refusal(build(Vec::new())).contains("no teacher"));
    let mut settings = spec.settings();
    assert!(settings.set_weight("hint", 1.0).is_err() && settings.set_weight("kd", f32::NAN).is_err());
    // An mlp has no maps to pay attention to.
    let mlp = network("mlp", &device, 1);
    let message = refusal(distiller("attention", |_| (), &mlp, &device));
    assert!(message.contains("no stage"), "{message}");
}

#[test]
fn the_table_of_schemes_is_whole() {
    for spec in distill::ALL {
        assert_eq!(spec.weights[..2].iter().map(|(name, _)| *name).collect::<Vec<_>>(), ["ce", "kd"], "{}", spec.name);
        assert!(spec.settings().check(spec.name).is_ok());
        assert!(!spec.formula.is_empty() && spec.paper.len() > 5, "{}", spec.name);
    }
    for preset in presets::ALL {
        DistillConfig::resolve(presets::settings(preset.name).unwrap()).unwrap();
    }
}

#[test]
fn the_gain_of_pairs_is_by_hand() {
    // Differences 1, 2, 3: deviation 1, error 1/√3.
    let (mean, error) = paired_gain(&[1.0, 2.0, 3.0]);
    assert!((mean - 2.0).abs() < 1e-12 && (error.unwrap() - 1.0 / 3f64.sqrt()).abs() < 1e-12);
    assert_eq!(paired_gain(&[0.5]), (0.5, None));
}

#[test]
fn settings_come_back_from_their_record() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("config.json");
    let settings = [("scheme", "dkd"), ("weight", "rest=2"), ("train_fraction", "1,0.1"), ("lr", "0.3")];
    let config = DistillConfig::of(&settings).unwrap();
    std::fs::write(&path, serde_json::to_string(&config).unwrap()).unwrap();
    let recorded = recorded_by(&path).unwrap();
    let again = DistillConfig::resolve(recorded.values.clone()).unwrap();
    assert_eq!((config.scheme, config.training), (again.scheme, again.training));
    // Flags win over a file.
    let flags = Values::of(&rows(), &[("lr", "0.1")], &Origin::Flag).unwrap();
    let merged = DistillConfig::resolve(flags.or(recorded.values)).unwrap();
    assert_eq!((merged.training.schedule.lr, merged.train_fraction), (0.1, vec![1.0, 0.1]));
    let named = |name, value| DistillConfig::of(&[(name, value)]).unwrap().scheme.weights;
    assert_eq!(named("alpha_on_ce", "0.25"), [("ce", 0.25), ("kd", 0.75)]);
    assert_eq!(named("alpha_on_kd", "0.25"), [("ce", 0.75), ("kd", 0.25)]);
    assert_eq!(named("lambda_on_ce", "0.25"), [("ce", 0.25), ("kd", 1.0)]);
    let both = DistillConfig::of(&[("alpha_on_ce", "0.25"), ("lambda_on_ce", "1")]).unwrap_err().to_string();
    assert!(both.contains("--alpha-on-ce") && both.contains("--lambda-on-ce"), "{both}");
}

/// Counts trainings, and interrupts one of them, counted from 1, after some steps.
struct Interrupt<'a> {
    flag: &'a AtomicBool,
    n_trainings: usize,
    training: usize,
}

impl Listener for Interrupt<'_> {
    fn training(&mut self, _started: &Started) {
        self.n_trainings += 1;
    }

    fn progress(&mut self, progress: &Progress) {
        if self.n_trainings == self.training && progress.batch == 4 {
            self.flag.store(true, Relaxed);
        }
    }
}

impl Sink for Interrupt<'_> {}

/// What was finished is kept, and the end is that of an uninterrupted distillation, bit by bit.
#[test]
fn an_interrupted_distillation_goes_on() {
    let (dir, dataset, cpu) = (TempDir::new().unwrap(), common::runs::glyphs(400, 200), Device::cpu());
    let config = |name: &str| {
        let cache = dir.path().join(name).join("teachers");
        let settings = [
            ("teacher", "mlp"),
            ("student_width", "0.1"),
            ("limit", "60"),
            ("teacher_epochs", "1"),
            ("epochs", "3"),
            ("seeds", "2"),
            ("teacher_cache", cache.to_str().unwrap()),
        ];
        DistillConfig::of(&settings).unwrap()
    };
    let folder = |name: &str| RunFolder::create(&dir.path().join(name).join("run"), false).unwrap();
    let model = |folder: &RunFolder| std::fs::read(folder.path().join("model.safetensors")).unwrap();
    let numbers = |student: &StudentResult| StudentResult { seconds_training: 0.0, ..student.clone() };
    let students = |results: &DistillResults| results.students.iter().map(numbers).collect::<Vec<_>>();

    let never = AtomicBool::new(false);
    let count = || Interrupt { flag: &never, n_trainings: 0, training: 0 };
    let (whole, mut all) = (folder("whole"), count());
    let expected = run(&config("whole"), &dataset, &cpu, Some(&whole), &mut all, &never).unwrap();
    assert_eq!((all.n_trainings, expected.students.len(), expected.complete), (5, 4, true));
    // In the teacher's training, in that of the first distilled student, in that of the second seed's scratch student.
    for (training, n_kept, n_left) in [(1, 0, 5), (3, 1, 3), (4, 2, 2)] {
        let name = format!("interrupted in {training}");
        let (config, folder, flag) = (config(&name), folder(&name), AtomicBool::new(false));
        let mut interrupt = Interrupt { flag: &flag, n_trainings: 0, training };
        let first = run(&config, &dataset, &cpu, Some(&folder), &mut interrupt, &flag);
        assert!(matches!(first, Err(Error::Interrupted)), "{name}");
        let kept = DistillResults::read(&folder).unwrap().map_or(0, |results| results.students.len());
        assert_eq!((kept, interrupt.n_trainings), (n_kept, training), "{name}");
        let mut rest = count();
        let again = resume(&config, &dataset, &cpu, &folder, &mut rest, &never).unwrap();
        assert_eq!(rest.n_trainings, n_left, "{name}: trainings after it");
        assert_eq!((students(&again), &again.terms, again.complete), (students(&expected), &expected.terms, true));
        assert!(model(&folder) == model(&whole), "{name}: another model");
        let error = resume(&config, &dataset, &cpu, &folder, &mut count(), &never).unwrap_err();
        assert!(error.to_string().contains("complete"), "{error}");
    }
}
