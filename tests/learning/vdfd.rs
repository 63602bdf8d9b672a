//! DFD and VDFD: what is kept of a task, the regulariser with its gradients, and whole runs.

use crate::common;
use crate::common::formula::{self, Formula};
use crate::common::runs::{Pairs, Weights, config, glyphs, trained};
use engram::continual::vdfd::{
    Drift, HIDDEN, Kept, Relation, WIDTH, anchored, compress, filter_jacobian, filters_of, largest_curvature,
    normalized_adjacency,
};
use engram::continual::{Learner, Method};
use engram::data::Dataset;
use engram::experiment::results::main_classifier;
use engram::linalg::{Cholesky, Matrix};
use engram::models::Network;
use engram::ops::Mode;
use engram::optim::{Decay, Kind, Optimizer};
use engram::rng::{Purpose, Rng};
use engram::training::Trainee;
use engram::{Device, Tensor};
use std::sync::LazyLock;

static GLYPHS: LazyLock<Dataset> = LazyLock::new(|| glyphs(240, 100));

const SHORT: Pairs = &[
    ("model", "mlp"),
    ("width", "0.125"),
    ("scenario", "task"),
    ("classes_per_task", "4"),
    ("epochs", "3"),
    ("batch_size", "16"),
    ("lr", "1e-3"),
    ("head_lr", "5e-3"),
];

fn short(method: &str, more: Pairs) -> Weights {
    trained(&config(method, SHORT, more), &GLYPHS).1
}

#[test]
fn with_weight_0_they_are_finetuning_bit_by_bit() {
    for model in ["mlp", "preact-resnet18"] {
        let with = [("model", model), ("width", "0.0625"), ("epochs", "1")];
        let plain = short("finetune", &with);
        for name in ["dfd", "vdfd"] {
            let zero = [&with[..], &[("reg_weight", "0")]].concat();
            assert!(short(name, &zero) == plain, "{name} on {model}: other weights");
            assert!(short(name, &with) != plain, "{name} on {model}: no effect");
        }
    }
}

/// A learner, and a task of 40 images of the labels 0..4 or 4..8 kept at its weights.
fn learner(model: &str, width: f32) -> Learner {
    let options = engram::models::Options { width, ..Default::default() };
    let network = Network::with_options(model, &options, [1, 28, 28], 10, &Device::cpu(), 1).unwrap();
    Learner::new(network, &Device::cpu(), &GLYPHS).unwrap()
}

fn keep(learner: &Learner, outputs: &[usize]) -> Kept {
    let filters = filters_of(learner).unwrap();
    let samples: Vec<u32> = (0..40).collect();
    let jacobian = filter_jacobian(learner, &filters, &samples, outputs).unwrap();
    anchored(learner, compress(&jacobian, &filters, outputs).unwrap()).unwrap()
}

/// Moves every weight a little, by draws of a key.
fn shake(learner: &Learner, by: f32, key: u64) {
    let values = learner.network.parameters.values();
    let mut rng = Rng::keyed(1, Purpose::Test, key);
    let moved: Vec<f32> = values.to_vec().unwrap().iter().map(|w| w + by * rng.normal()).collect();
    values.write(&moved).unwrap();
}

#[test]
fn nothing_has_drifted_right_after_a_task_and_something_later() {
    for (model, width) in [("mlp", 0.125), ("cnn", 0.25)] {
        let learner = learner(model, width);
        let kept = [keep(&learner, &[0, 1, 2, 3]), keep(&learner, &[4, 5, 6])];
        let drift = Drift::new(&learner, &kept).unwrap();
        assert_eq!(drift.now(&learner).unwrap().to_vec().unwrap(), [0.0; 8], "{model}");
        shake(&learner, 0.01, 5);
        let later = drift.now(&learner).unwrap().to_vec().unwrap();
        assert!(later[..7].iter().all(|d| *d != 0.0) && later[7] == 0.0, "{model}: {later:?}");
    }
}

/// Σ of the filters of the flat weights, in f64, and the mean of each in a flat vector.
fn filter_sums(learner: &Learner) -> Vec<f64> {
    let w = learner.network.parameters.values().to_vec().unwrap();
    let filters = filters_of(learner).unwrap();
    let runs = filters.runs().iter();
    runs.flat_map(|run| {
        w[run.start..run.start + run.n * run.length]
            .chunks(run.length)
            .map(|f| f.iter().map(|&x| f64::from(x)).sum())
            .collect::<Vec<f64>>()
    })
    .collect()
}

/// G of rank 1 written out: (classes, filters).
fn written_out(learner: &Learner, kept: &Kept) -> Vec<Vec<f64>> {
    let filters = filters_of(learner).unwrap();
    let n_classes = kept.outputs.len();
    let tensors = filters.runs().iter().enumerate().flat_map(|(l, run)| vec![l; run.n]);
    let columns: Vec<usize> = tensors.collect();
    let at = |c: usize, o: usize| {
        let l = columns[o];
        f64::from(kept.sigma[l]) * f64::from(kept.v[l * n_classes + c]) * f64::from(kept.u[o])
    };
    (0..n_classes).map(|c| (0..columns.len()).map(|o| at(c, o)).collect()).collect()
}

/// d by sums over filters is the product of the written-out G, one number for all weights of a filter, with w − w*.
#[test]
fn sums_over_filters_are_the_product_with_the_written_out_jacobian() {
    let learner = learner("cnn", 0.25);
    let kept = keep(&learner, &[0, 1, 2, 3]);
    let before = filter_sums(&learner);
    shake(&learner, 0.01, 6);
    let after = filter_sums(&learner);
    let d = Drift::new(&learner, std::slice::from_ref(&kept)).unwrap().now(&learner).unwrap().to_vec().unwrap();
    for (row, d) in written_out(&learner, &kept).iter().zip(d) {
        let expected: f64 = row.iter().zip(after.iter().zip(&before)).map(|(g, (a, b))| g * (a - b)).sum();
        assert!((f64::from(d) - expected).abs() < 1e-4 * expected.abs().max(0.1), "{d} instead of {expected}");
    }
}

/// Weights of a filter that all move alike: the change of a class's mean logit is the filter's derivative times its length, to first
/// order.
#[test]
fn the_jacobian_predicts_how_mean_logits_change() {
    let learner = learner("cnn", 0.25);
    let (filters, samples) = (filters_of(&learner).unwrap(), (0..40).collect::<Vec<u32>>());
    let outputs = [0, 3, 7];
    let jacobian = filter_jacobian(&learner, &filters, &samples, &outputs).unwrap();
    let mean_logits = || -> Vec<f64> {
        let logits = learner.network.forward(&learner.plain_input(&samples).unwrap(), Mode::Eval).unwrap().logits;
        let all = logits.to_vec().unwrap();
        outputs.iter().map(|&c| all.chunks(10).map(|row| f64::from(row[c])).sum::<f64>() / 40.0).collect()
    };
    let before = mean_logits();
    let values = learner.network.parameters.values();
    let mut w = values.to_vec().unwrap();
    let mut rng = Rng::keyed(1, Purpose::Test, 3);
    let (mut predicted, mut first) = (vec![0.0; 3], 0);
    for run in filters.runs() {
        for o in 0..run.n {
            let by = 1e-3 / run.length as f32 * rng.normal();
            w[run.start + o * run.length..][..run.length].iter_mut().for_each(|w| *w += by);
            for (predicted, column) in predicted.iter_mut().zip(&jacobian) {
                *predicted += f64::from(column[first + o]) * f64::from(by) * run.length as f64;
            }
        }
        first += run.n;
    }
    values.write(&w).unwrap();
    let changes: Vec<f64> = mean_logits().iter().zip(before).map(|(after, before)| after - before).collect();
    let largest = changes.iter().fold(0.0f64, |largest, change| largest.max(change.abs()));
    assert!(largest > 1e-4, "hardly anything has changed: {changes:?}");
    for (change, predicted) in changes.iter().zip(&predicted) {
        assert!((change - predicted).abs() < 0.03 * largest, "{changes:?}, and {predicted:?} predicted");
    }
}

/// The regulariser and its gradients in f64, by the closed forms.
struct Exact {
    /// (classes, features).
    nodes: Vec<Vec<f64>>,
    adjacency: Matrix,
    parameters: Vec<Matrix>,
    epsilon: f64,
}

impl Exact {
    fn of(nodes: &[f32], n_classes: usize, relation: &Relation, epsilon: f64) -> Exact {
        let d = nodes.len() / n_classes;
        let a = normalized_adjacency(nodes, n_classes);
        let hosts = relation.parameters.to_host().unwrap();
        let matrix = |(_, shape, values): &(&str, engram::shape::Shape, Vec<f32>)| {
            let (rows, columns) = if shape.len() == 2 { (shape[0], shape[1]) } else { (1, shape[0]) };
            Matrix::new(rows, columns, values.iter().map(|&x| f64::from(x)).collect()).unwrap()
        };
        Exact {
            nodes: nodes.chunks(d).map(|row| row.iter().map(|&x| f64::from(x)).collect()).collect(),
            adjacency: Matrix::from_fn(n_classes, n_classes, |i, j| f64::from(a[i * n_classes + j])),
            parameters: hosts.iter().map(matrix).collect(),
            epsilon,
        }
    }

    fn smoothed(&self) -> Matrix {
        let x = Matrix::from_fn(self.nodes.len(), self.nodes[0].len(), |i, j| self.nodes[i][j]);
        self.adjacency.times(&x).unwrap()
    }

    /// A·X·Wᵀ + b.
    fn layer(&self, x: &Matrix, w: usize) -> Matrix {
        let (w, b) = (&self.parameters[w], &self.parameters[w + 1]);
        let product = x.times(&w.transposed()).unwrap();
        Matrix::from_fn(product.rows(), product.columns(), |i, j| product.at(i, j) + b.at(0, j))
    }

    fn norms(z: &Matrix) -> Vec<f64> {
        (0..z.rows()).map(|i| z.row(i).iter().map(|x| x * x).sum::<f64>().sqrt()).collect()
    }

    /// (value, ∂/∂d, ∂/∂(w1, b1, w2, b2)).
    fn value_and_gradients(&self, d: &[f64]) -> (f64, Vec<f64>, Vec<Matrix>) {
        let n = d.len();
        let one = |i: usize, j: usize| f64::from(u8::from(i == j));
        let lx = self.smoothed();
        let z1 = self.layer(&lx, 0);
        let h = Matrix::from_fn(n, HIDDEN, |i, j| z1.at(i, j).max(0.0));
        let lh = self.adjacency.times(&h).unwrap();
        let z = self.layer(&lh, 2);
        let norms = Self::norms(&z);
        let p = Matrix::from_fn(n, WIDTH, |i, j| z.at(i, j) / norms[i]);
        let pi = p.times(&p.transposed()).unwrap();
        let cholesky = Cholesky::new(&Matrix::from_fn(n, n, |i, j| pi.at(i, j) + self.epsilon * one(i, j))).unwrap();
        let inverse = cholesky.inverse();
        let pi_d: Vec<f64> = (0..n).map(|i| (0..n).map(|j| pi.at(i, j) * d[j]).sum()).collect();
        let value = d.iter().zip(&pi_d).map(|(d, p)| d * p).sum::<f64>() - cholesky.log_determinant();

        let g_pi = Matrix::from_fn(n, n, |i, j| d[i] * d[j] - inverse.at(i, j));
        let g_p = g_pi.times(&p).unwrap();
        let inner: Vec<f64> = (0..n).map(|i| (0..WIDTH).map(|j| 2.0 * g_p.at(i, j) * p.at(i, j)).sum()).collect();
        let g_z = Matrix::from_fn(n, WIDTH, |i, j| (2.0 * g_p.at(i, j) - p.at(i, j) * inner[i]) / norms[i]);
        let g_w2 = g_z.transposed().times(&lh).unwrap();
        let g_b2 = Matrix::from_fn(1, WIDTH, |_, j| (0..n).map(|i| g_z.at(i, j)).sum());
        let back = self.adjacency.transposed().times(&g_z.times(&self.parameters[2]).unwrap()).unwrap();
        let g_h = Matrix::from_fn(n, HIDDEN, |i, j| if z1.at(i, j) > 0.0 { back.at(i, j) } else { 0.0 });
        let g_w1 = g_h.transposed().times(&lx).unwrap();
        let g_b1 = Matrix::from_fn(1, HIDDEN, |_, j| (0..n).map(|i| g_h.at(i, j)).sum());
        (value, pi_d.iter().map(|x| 2.0 * x).collect(), vec![g_w1, g_b1, g_w2, g_b2])
    }
}

/// A relation of one task of the mlp's heads, and its nodes as it made them.
fn relation(learner: &Learner, kept: &Kept) -> (Relation, Vec<f32>) {
    let n = kept.outputs.len();
    let relation = Relation::new(learner, std::slice::from_ref(kept), n, 0.0, 1).unwrap();
    let nodes = relation.nodes().to_vec();
    (relation, nodes)
}

fn near(own: &[f32], exact: &[f64], to: f64, what: &str) {
    assert_eq!(own.len(), exact.len(), "{what}");
    let largest = exact.iter().fold(0.0f64, |largest, x| largest.max(x.abs()));
    for (i, (own, exact)) in own.iter().zip(exact).enumerate() {
        assert!((f64::from(*own) - exact).abs() <= to * largest, "{what} {i}: {own} instead of {exact}");
    }
}

const EPSILON: f32 = 1e-2;
const D: [f32; 4] = [0.3, -0.2, 0.5, 0.05];

#[test]
fn the_closed_forms_agree_with_the_tape_and_with_finite_differences() {
    let learner = learner("mlp", 0.125);
    let (relation, nodes) = relation(&learner, &keep(&learner, &[0, 1, 2, 3]));
    let exact = Exact::of(&nodes, 4, &relation, f64::from(EPSILON));
    let d: Vec<f64> = D.iter().map(|&d| f64::from(d)).collect();
    let (value, by_d, by_parameters) = exact.value_and_gradients(&d);

    let leaf = Tensor::from_f32(&Device::cpu(), [4], &D).unwrap().with_gradient();
    let own = relation.factors().unwrap().variational_bound(&leaf, EPSILON, false).unwrap();
    assert!((f64::from(own.item().unwrap()) - value).abs() < 1e-4 * value.abs(), "{own:?} instead of {value}");
    let gradients = own.backward().unwrap();
    near(&gradients.get(&leaf).unwrap().to_vec().unwrap(), &by_d, 1e-4, "d");
    relation.parameters.receive(&gradients).unwrap();
    for (own, exact) in relation.parameters.gradients_to_host().unwrap().iter().zip(&by_parameters) {
        near(own, exact.values(), 1e-3, "parameter");
    }

    let step = 1e-5;
    for i in 0..4 {
        let moved = |by: f64| {
            let mut d = d.clone();
            d[i] += by;
            exact.value_and_gradients(&d).0
        };
        let difference = (moved(step) - moved(-step)) / (2.0 * step);
        assert!((difference - by_d[i]).abs() < 1e-6 * by_d[i].abs().max(1.0), "d[{i}]: {difference}");
    }
    for (k, analytic) in by_parameters.iter().enumerate() {
        let n = analytic.values().len();
        for at in [0, n / 3, n / 2, n - 1] {
            let moved = |by: f64| {
                let mut parameters = exact.parameters.clone();
                let own = &exact.parameters[k];
                let columns = own.columns();
                parameters[k] = Matrix::from_fn(own.rows(), columns, |i, j| {
                    own.at(i, j) + if i * columns + j == at { by } else { 0.0 }
                });
                let other =
                    Exact { parameters, nodes: exact.nodes.clone(), adjacency: exact.adjacency.clone(), ..exact };
                other.value_and_gradients(&d).0
            };
            let (difference, own) = ((moved(step) - moved(-step)) / (2.0 * step), analytic.values()[at]);
            assert!(
                (difference - own).abs() < 1e-5 * own.abs().max(0.1),
                "parameter {k}, {at}: {difference}, not {own}"
            );
        }
    }
}

/// With Π = I the bound is DFD's Σ d² and a constant, −C·log(1 + ε), which is also the least of all values.
#[test]
fn the_identity_makes_it_dfd_and_no_value_is_below_the_bound() {
    let device = Device::cpu();
    let identity: Vec<f32> = (0..16).map(|at| f32::from(u8::from(at / 4 == at % 4))).collect();
    let identity = Tensor::from_f32(&device, [1, 4, 4], &identity).unwrap();
    let d = Tensor::from_f32(&device, [4], &D).unwrap().with_gradient();
    let squares = D.iter().map(|&d| f64::from(d).powi(2)).sum::<f64>();
    for (in_quadratic, factor) in [(false, 1.0), (true, 1.0 + f64::from(EPSILON))] {
        let value = identity.variational_bound(&d, EPSILON, in_quadratic).unwrap();
        let least = -4.0 * f64::from(1.0 + EPSILON).ln();
        assert!((f64::from(value.item().unwrap()) - (factor * squares + least)).abs() < 1e-6);
        let gradient = value.backward().unwrap().get(&d).unwrap().to_vec().unwrap();
        near(&gradient, &D.map(|d| 2.0 * factor * f64::from(d)), 1e-6, "d");
    }
    let learner = learner("mlp", 0.125);
    for seed in 0..5 {
        shake(&learner, 0.05, seed);
        let (relation, _) = relation(&learner, &keep(&learner, &[0, 1, 2, 3]));
        let p = relation.factors().unwrap();
        for row in p.to_vec().unwrap().chunks_exact(WIDTH) {
            let square: f32 = row.iter().map(|x| x * x).sum();
            assert!((square - 1.0).abs() < 1e-5, "a row of P is not of length 1");
        }
        let still = Tensor::from_f32(&device, [4], &[0.0; 4]).unwrap();
        let value = p.variational_bound(&still, EPSILON, false).unwrap().item().unwrap();
        assert!(f64::from(value) >= -4.0 * f64::from(1.0 + EPSILON).ln() - 1e-5, "{value}");
    }
}

/// What the paper's code logs as "storage": 13,202 numbers a task of ten classes.
#[test]
fn memory_is_what_the_paper_counts() {
    let network = Network::new("preact-resnet18", [3, 32, 32], 100, &Device::cpu(), 1).unwrap();
    let parameters = network.parameters.n_parameters();
    let mut dataset = GLYPHS.clone();
    (dataset.mean, dataset.std) = (vec![0.5; 3], vec![0.25; 3]);
    let learner = Learner::new(network, &Device::cpu(), &dataset).unwrap();
    let filters = filters_of(&learner).unwrap();
    assert_eq!((filters.runs().len(), filters.n_filters()), (54, 12_608));
    for (n_classes, floats) in [(5, 12_932), (8, 13_094), (10, 13_202), (20, 13_742)] {
        let mut rng = Rng::keyed(1, Purpose::Test, n_classes as u64);
        let jacobian: Vec<Vec<f32>> =
            (0..n_classes).map(|_| (0..filters.n_filters()).map(|_| rng.normal()).collect()).collect();
        let kept = compress(&jacobian, &filters, &(0..n_classes).collect::<Vec<_>>()).unwrap();
        assert_eq!(kept.n_floats(), floats, "{n_classes} classes");
        let kept = Kept { anchor: vec![0.0; n_classes], ..kept };
        assert_eq!(kept.bytes(), 4 * (floats + n_classes) as u64);
    }
    assert!(13_202 * 800 < parameters, "a task of ten classes is a thousandth of a copy of the network");
}

/// A compressed matrix of rank 1 is itself.
#[test]
fn a_jacobian_of_rank_1_survives_compression() {
    let learner = learner("mlp", 0.125);
    let filters = filters_of(&learner).unwrap();
    let column = |c: usize| (0..filters.n_filters()).map(|o| ((o % 7) as f32 - 3.0) * (c as f32 - 1.4)).collect();
    let jacobian: Vec<Vec<f32>> = (0..4).map(column).collect();
    let kept = compress(&jacobian, &filters, &[0, 1, 2, 3]).unwrap();
    for (own, exact) in written_out(&learner, &kept).iter().zip(&jacobian) {
        near(exact, own, 1e-6, "column");
    }
}

/// The curvature is that of the penalty: along its gradient, iterated, the change of the gradient grows by as much; and DFD says so at
/// the end of a task, times twice λ.
#[test]
fn the_stiffness_is_the_largest_second_derivative() {
    let learner = learner("mlp", 0.125);
    let kept = vec![keep(&learner, &[0, 1, 2, 3]), keep(&learner, &[4, 5, 6, 7])];
    let filters = filters_of(&learner).unwrap();
    let expected = largest_curvature(&kept, &filters).unwrap();
    let drift = Drift::new(&learner, &kept).unwrap();
    let parameters = &learner.network.parameters;
    let start = parameters.values().to_vec().unwrap();
    // ∇Σ d² at w* + x is linear in x: power iteration.
    let mut x: Vec<f32> = (0..start.len()).map(|i| ((i * 37 % 101) as f32 - 50.0) / 5e3).collect();
    let mut found = 0.0;
    for _ in 0..60 {
        let norm = x.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
        let moved: Vec<f32> = start.iter().zip(&x).map(|(w, x)| w + x / norm as f32).collect();
        parameters.values().write(&moved).unwrap();
        engram::device::fill(parameters.gradients().unwrap(), 0.0).unwrap();
        let d = drift.now(&learner).unwrap();
        d.mul(&d).unwrap().sum().unwrap().backward().unwrap();
        drift.add_gradient(&learner).unwrap();
        x = parameters.gradients().unwrap().to_vec().unwrap();
        found = x.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt() / 2.0;
    }
    assert!((found - expected).abs() < 1e-2 * expected, "{found} and {expected}");
    parameters.values().write(&start).unwrap();

    let mut dfd = formula::method("dfd", &[("reg_weight", "3")]);
    let formula = Formula::new(&Device::cpu());
    dfd.begin_task(&formula.learner, &formula.task(0)).unwrap();
    assert_eq!(dfd.stiffness(), None);
    dfd.end_task(&formula.learner, &formula.task(0)).unwrap();
    assert!(dfd.stiffness().unwrap() > 0.0);
}

/// The second task of a transcription in PyTorch (`tests/golden/make_vdfd.py`): the same weights, batches and graph convolution give
/// the same losses for 200 steps, the same gradients, and the same memory.
#[test]
fn two_hundred_steps_are_those_of_the_transcription() {
    let golden = formula::golden("vdfd.json");
    for device in [Some(Device::cpu()), common::gpu(false)].into_iter().flatten() {
        let formula = Formula::new(&device);
        let learner = &formula.learner;
        formula.set_weights(4);
        let settings: Pairs = &[
            ("epochs", "1"),
            ("batch_size", "8"),
            ("reg_weight", "10"),
            ("log_det_epsilon", "1e-3"),
            ("relation_lr", "7e-4"),
            ("relation_decay", "5e-4"),
        ];
        let mut vdfd = formula::method("vdfd", settings);
        vdfd.begin_task(learner, &formula.task(0)).unwrap();
        vdfd.end_task(learner, &formula.task(0)).unwrap();
        check_memory(&mut *vdfd, &golden);

        vdfd.begin_task(learner, &formula.task(1)).unwrap();
        let mut state = vdfd.state().unwrap();
        let own = &mut state.tensors.iter_mut().find(|(name, _)| name == "tasks.relation").unwrap().1;
        let mut at = 0;
        for (n, salt) in [(32 * 8, 11), (32, 12), (64 * 32, 13), (64, 14)] {
            own[at..at + n].copy_from_slice(&formula::numbers(n, salt));
            at += n.next_multiple_of(64);
        }
        vdfd.restore(learner, state).unwrap();

        let parameters = &learner.network.parameters;
        let mut optimizer =
            Optimizer::new(Kind::Adam, 0.0, 5e-4, parameters).unwrap().decaying(Decay::All).with_last_layer(Some(5.0));
        let head = || parameters.to_host().unwrap()[4].2[..4 * 8].to_vec();
        let old_head = head();
        for step in 0..200u32 {
            let samples: Vec<u32> = (0..8).map(|k| 24 + (step * 8 + k) % 24).collect();
            let batch = formula.batch(&samples, (1 << 32) | u64::from(step), 4);
            let loss = vdfd.observe(learner, &batch).unwrap();
            let value = |list: &str| golden[list][step as usize].as_f64().unwrap();
            let theirs = [value("losses"), value("losses") + 10.0 * value("regularisers")];
            let own = [loss.0[0].value.item().unwrap(), loss.total().unwrap().item().unwrap()].map(f64::from);
            for (own, theirs) in own.into_iter().zip(theirs) {
                let what = format!("step {step} on {}", device.describe());
                assert!((own - theirs).abs() <= 1e-4 * theirs.abs(), "{what}: {own} instead of {theirs}");
            }
            parameters.backward(&loss.total().unwrap()).unwrap();
            vdfd.adjust_gradients(learner, &batch).unwrap();
            if let Some(shown) = golden["gradients"].get(step.to_string()) {
                formula::check_gradients(learner, shown, 1e-3);
            }
            optimizer.step(parameters, 1e-3).unwrap();
        }
        assert!(head() == old_head, "the old head moved");
    }
}

fn check_memory(vdfd: &mut dyn Method, golden: &serde_json::Value) {
    let mut state = vdfd.state().unwrap();
    let mut take = |name: &str| state.take(&format!("tasks.0.{name}")).unwrap();
    let (u, sigma, v, anchor) = (take("u"), take("sigma"), take("v"), take("anchor"));
    let numbers = |value: &serde_json::Value| serde_json::from_value::<Vec<f64>>(value.clone()).unwrap();
    let mut first = 0;
    for (l, name) in ["fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias"].into_iter().enumerate() {
        let theirs = &golden["kept"][name];
        let magnitudes = |values: &[f32]| values.iter().map(|x| x.abs()).collect::<Vec<f32>>();
        let expected = numbers(&theirs[0]);
        near(&magnitudes(&u[first..first + expected.len()]), &expected, 1e-4, name);
        first += expected.len();
        near(&[sigma[l]], &[theirs[1].as_f64().unwrap()], 1e-4, name);
        near(&magnitudes(&v[4 * l..4 * l + 4]), &numbers(&theirs[2]), 1e-4, name);
    }
    near(&anchor, &numbers(&golden["anchor"]), 1e-4, "anchor");
}

/// Its rate is a multiple of the others', and where no gradient comes it stays although others decay.
#[test]
fn the_last_layer_has_a_rate_of_its_own() {
    let learner = learner("mlp", 0.125);
    let parameters = &learner.network.parameters;
    let mut optimizer = Optimizer::new(Kind::Sgd, 0.0, 0.1, parameters).unwrap().with_last_layer(Some(3.0));
    let before = parameters.to_host().unwrap();
    let x = learner.plain_input(&[0, 1, 2, 3]).unwrap();
    let logits = learner.network.forward(&x, Mode::Train).unwrap().logits;
    let logits = learner.masked(&logits, |_, output| output < 4).unwrap();
    let loss = logits.cross_entropy(&Tensor::from_u32(&Device::cpu(), [4], &[0, 1, 2, 3]).unwrap(), 10).unwrap();
    Trainee { parameters, optimizer: &mut optimizer }.learn(&loss, 0.01).unwrap();
    let gradients = parameters.gradients_to_host().unwrap();
    for (((name, _, old), (_, _, new)), gradient) in before.iter().zip(parameters.to_host().unwrap()).zip(gradients) {
        let (rate, decay) = match *name {
            "fc3.weight" | "fc3.bias" => (0.03, 0.0),
            name => (0.01, if name.ends_with("weight") { 0.1 } else { 0.0 }),
        };
        for ((old, new), g) in old.iter().zip(&new).zip(&gradient) {
            let expected = old - rate * (g + decay * old);
            assert!((new - expected).abs() <= 1e-6 * old.abs().max(1e-2), "{name}: {new} instead of {expected}");
        }
        if *name == "fc3.weight" {
            let d = old.len() / 10;
            assert!(old[4 * d..] == new[4 * d..] && old[..4 * d] != new[..4 * d], "heads without a gradient moved");
        }
    }
}

/// Classes that turn with their images: four outputs a class in training, the upright one answers.
#[test]
fn rotations_are_classes_of_their_own_in_training_only() {
    for name in ["dfd", "vdfd"] {
        let with: Pairs = &[("rotations", "true"), ("epochs", "6"), ("max_tasks", "2")];
        let (metrics, weights) = trained(&config(name, SHORT, with), &GLYPHS);
        assert_eq!(weights["fc3.bias"].len(), 4 * 4 * 10, "{name}: four outputs a class");
        let (_, own) = main_classifier(&metrics).unwrap();
        assert!(own.seen_accuracy[0] > 0.4, "{name} learns nothing: {:?}", own.seen_accuracy);
    }
}

/// What a step pays for nine earlier tasks is launches: none of them has much to do.
#[test]
fn the_regulariser_takes_few_launches_on_hardware() {
    let Some(device) = common::gpu_as_hardware(false) else { return };
    let Device::Gpu(gpu) = &device else { panic!("no GPU") };
    let formula = Formula::new(&device);
    let learner = &formula.learner;
    let launches = |name: &str| {
        let mut method = formula::method(name, &[("epochs", "1"), ("batch_size", "8")]);
        method.begin_task(learner, &formula.task(0)).unwrap();
        method.end_task(learner, &formula.task(0)).unwrap();
        method.begin_task(learner, &formula.task(1)).unwrap();
        let mut step = |key: u64| {
            let batch = formula.batch(&[24, 25, 26, 27], (1 << 32) | key, 4);
            let loss = method.observe(learner, &batch)?.total()?;
            learner.network.parameters.backward(&loss)?;
            method.adjust_gradients(learner, &batch)
        };
        gpu.profile(|| step(0)).unwrap();
        gpu.profile(|| step(1)).unwrap().iter().map(|row| row.dispatches).sum::<u64>()
    };
    let [plain, dfd, vdfd] = ["finetune", "dfd", "vdfd"].map(launches);
    assert!(dfd > plain && vdfd > dfd, "{plain}, {dfd}, {vdfd}");
    assert!(dfd - plain <= 18 && vdfd - plain <= 31, "{plain} of fine-tuning, {dfd} of DFD, {vdfd} of VDFD");
}
