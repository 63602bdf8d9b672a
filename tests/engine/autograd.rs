//! The tape: graphs of every shape, what is recorded, the flat parameter buffers, and reused buffers.

use crate::common;
use engram::device::{Array, ColumnSum, DType, column_sums};
use engram::models::Network;
use engram::nn::{Init, Parameter, Parameters};
use engram::ops::{
    AdamStep, BatchNorm, Conv2d, FilterRun, Filters, Mode, SgdStep, adam_step, add_path, add_squares, count_confusion,
    penalty, project, scatter_rows, sgd_step,
};
use engram::optim::{Kind, Optimizer};
use engram::rng::{Purpose, Rng};
use engram::shape::Shape;
use engram::tensor::no_grad;
use engram::{Device, Result, Tensor};

fn devices() -> impl Iterator<Item = Device> {
    [Some(Device::cpu()), common::gpu(false)].into_iter().flatten()
}

fn random(device: &Device, shape: impl Into<Shape>, counter: u64) -> Tensor {
    let shape = shape.into();
    let mut rng = Rng::keyed(5, Purpose::Test, counter);
    let values: Vec<f32> = (0..shape.n_elements()).map(|_| rng.range(-1.0, 1.0)).collect();
    Tensor::from_f32(device, shape, &values).unwrap()
}

/// dy/dx for x = (−1, 2, 3).
fn gradient(device: &Device, f: impl Fn(&Tensor) -> Result<Tensor>) -> Vec<f32> {
    let x = Tensor::from_f32(device, [3], &[-1.0, 2.0, 3.0]).unwrap().with_gradient();
    let gradients = f(&x).unwrap().backward().unwrap();
    gradients.get(&x).unwrap().to_vec().unwrap()
}

#[test]
fn gradients_of_graphs_that_branch_and_join() {
    for device in devices() {
        // Fan-out: x + x + x·x.
        assert_eq!(gradient(&device, |x| x.add(x)?.add(&x.mul(x)?)?.sum()), [0.0, 6.0, 8.0]);
        // A diamond: 2x · 3x.
        assert_eq!(gradient(&device, |x| x.scale(2.0)?.mul(&x.scale(3.0)?)?.sum()), [-12.0, 24.0, 36.0]);
        // Branches of different length: relu(x)² + relu(x), and x itself.
        let uneven = |x: &Tensor| {
            let h = x.relu()?;
            h.mul(&h)?.add(&h)?.add(x)?.sum()
        };
        assert_eq!(gradient(&device, uneven), [1.0, 6.0, 8.0]);
        // `add` hands one array on to both inputs; what is added to one of them must not reach the other.
        let shared = |x: &Tensor| {
            let (a, b) = (x.scale(2.0)?, x.scale(3.0)?);
            a.add(&b)?.sum()?.add(&a.mul(&a)?.sum()?)
        };
        assert_eq!(gradient(&device, shared), [-3.0, 21.0, 29.0]);
        // A diamond on a diamond: 2⁶⁰ paths, 60 nodes.
        let y = |x: &Tensor| (0..60).try_fold(x.clone(), |y, _| y.add(&y))?.sum();
        assert_eq!(gradient(&device, y), [2f32.powi(60); 3]);
    }
}

/// An input gradient of a convolution is added in place where there is one already, by each of the kernels that can.
#[test]
fn gradients_of_a_convolution_are_added_to_what_is_there() {
    for device in devices().chain(common::gpu_as_hardware(false)) {
        for (x, o, kernel, stride) in [
            ([2, 5, 9, 12], 7, 3, 1),
            ([3, 20, 6, 8], 40, 3, 1),
            ([3, 20, 5, 7], 40, 3, 1),
            ([2, 20, 6, 8], 18, 5, 1),
            ([2, 18, 6, 8], 20, 2, 1),
            ([2, 18, 6, 8], 20, 3, 2),
            ([3, 18, 6, 8], 20, 1, 2),
            ([2, 5, 7, 9], 20, 3, 2),
            ([1, 160, 5, 6], 160, 3, 1),
        ] {
            let convolved = |x: &Tensor, w: &Tensor| x.conv2d(w, None, Conv2d::new(stride, kernel / 2));
            let x = random(&device, x, 0).with_gradient();
            let w = random(&device, [o, x.shape()[1], kernel, kernel], 1).with_gradient();
            let y = convolved(&x, &w).unwrap();
            let (a, b) = (random(&device, y.shape(), 2), random(&device, x.shape(), 3));
            let alone = y.backward_with(a.array().clone()).unwrap().get(&x).unwrap().to_vec().unwrap();
            // What is made later is gone through earlier: the gradient of x·b is there when that of the convolution comes.
            let y = convolved(&x, &w).unwrap().mul(&a).unwrap().sum().unwrap();
            let loss = y.add(&x.mul(&b).unwrap().sum().unwrap()).unwrap();
            let both = loss.backward().unwrap();
            let expected: Vec<f32> = alone.iter().zip(b.to_vec().unwrap()).map(|(alone, b)| alone + b).collect();
            let case = format!("{} to {o}, {kernel}×{kernel} on {}", x.shape(), device.describe());
            assert_eq!(both.get(&x).unwrap().to_vec().unwrap(), expected, "{case}");
            if let Device::Gpu(gpu) = &device {
                let launched = gpu.profile(|| loss.backward().map(drop)).unwrap();
                assert!(launched.iter().all(|row| row.kernel != "add_assign"), "{case}: a pass of its own");
            }
        }
        // `add` hands the gradient of the sum on to both: what is added to that of x must not reach that of the convolution.
        let x = random(&device, [2, 20, 6, 8], 0).with_gradient();
        let w = random(&device, [20, 20, 3, 3], 1).with_gradient();
        let y = x.conv2d(&w, None, Conv2d::new(1, 1)).unwrap();
        let dy = random(&device, y.shape(), 2);
        let alone = y.backward_with(dy.array().clone()).unwrap().get(&w).unwrap().to_vec().unwrap();
        let y = x.conv2d(&w, None, Conv2d::new(1, 1)).unwrap().add(&x).unwrap();
        let both = y.backward_with(dy.array().clone()).unwrap();
        assert_eq!(both.get(&w).unwrap().to_vec().unwrap(), alone, "{}", device.describe());
    }
}

/// The largest difference between the gradients of leaves of these shapes on two devices, in terms of the largest gradient.
fn difference(devices: [&Device; 2], shapes: &[[usize; 4]], f: impl Fn(&[Tensor]) -> Result<Tensor>) -> f32 {
    let [expected, found] = devices.map(|device| {
        let leaf = |(&shape, i)| random(device, shape, i).with_gradient();
        let leaves: Vec<Tensor> = shapes.iter().zip(0..).map(leaf).collect();
        let gradients = f(&leaves).unwrap().sum().unwrap().backward().unwrap();
        leaves.iter().flat_map(|leaf| gradients.get(leaf).unwrap().to_vec().unwrap()).collect::<Vec<f32>>()
    });
    let largest = expected.iter().fold(0.0f32, |largest, x| largest.max(x.abs()));
    expected.iter().zip(&found).fold(0.0f32, |worst, (a, b)| worst.max((a - b).abs())) / largest
}

/// Weight gradients wait as rows of partial sums on a GPU, until somebody reads them.
#[test]
fn gradients_that_wait_as_rows_are_whole_when_they_are_read() {
    let cpu = Device::cpu();
    let same = Conv2d::new(1, 1);
    for device in [common::gpu(false), common::gpu_as_hardware(false)].into_iter().flatten() {
        let (x, w) = ([8, 4, 8, 8], [4, 4, 3, 3]);
        let twice = |x: &[Tensor]| x[0].conv2d(&x[1], None, same)?.conv2d(&x[1], None, same);
        let of_an_op = |x: &[Tensor]| x[0].conv2d(&x[1].scale(0.5)?.mul(&x[1])?, None, same);
        let itself = |x: &[Tensor]| x[0].conv2d(&x[0], None, Conv2d::new(1, 4));
        // Rows of 4·4·9 numbers, and of 3·3·9: not a multiple of four.
        let odd = |x: &[Tensor]| {
            let y = x[0].conv2d(&x[1], None, same)?.conv2d(&x[2], None, same)?;
            y.conv2d(&x[3], None, same)?.conv2d(&x[1], None, same)
        };
        for (name, worst) in [
            ("twice", difference([&cpu, &device], &[x, w], twice)),
            ("of an op", difference([&cpu, &device], &[x, w], of_an_op)),
            ("itself", difference([&cpu, &device], &[x], itself)),
            ("odd", difference([&cpu, &device], &[x, w, [3, 4, 3, 3], [4, 3, 3, 3]], odd)),
        ] {
            assert!(worst < 1e-5, "{name}: {worst}");
        }
    }
}

#[test]
fn rows_of_many_weight_gradients_are_added_up_together() {
    for device in [common::gpu(false), common::gpu_as_hardware(false)].into_iter().flatten() {
        let Device::Gpu(gpu) = &device else { unreachable!() };
        let shape = Shape::new(&[4, 4, 3, 3]).unwrap();
        let parameter = |i: i32| Parameter { name: i.to_string(), shape, init: Init::Uniform(1.0), decay: true };
        let weights = Parameters::new(&device, (0..14).map(parameter).collect(), 1).unwrap();
        let mut x = random(&device, [8, 4, 8, 8], 99);
        for weight in weights.tensors() {
            x = x.conv2d(weight, None, Conv2d::new(1, 1)).unwrap();
        }
        let loss = x.sum().unwrap();
        let uses = gpu.profile(|| weights.backward(&loss).map(drop)).unwrap();
        let sums = uses.iter().find(|row| row.kernel == "column_sums_4").unwrap();
        // Twelve in one launch.
        assert_eq!(sums.dispatches, 2);
    }
}

#[test]
fn sums_of_columns_are_those_of_each_matrix() {
    for device in devices().chain(common::gpu_as_hardware(false)) {
        // All in one buffer, as the tape has them: (rows, columns) with columns in fours and not.
        let shapes = [[1, 4], [70, 36], [3, 7], [300, 1028], [5, 13], [64, 64]];
        let room = random(&device, [900_000], 1);
        let to = Array::empty(&device, [8192], DType::F32).unwrap();
        let (mut at, mut to_at) = (0, 0);
        let mut expected = Vec::new();
        let sums: Vec<ColumnSum> = (0..15)
            .flat_map(|_| shapes)
            .take(15)
            .map(|[n_rows, n_columns]| {
                let sum = ColumnSum {
                    rows: room.array().slice(at, [n_rows, n_columns]).unwrap(),
                    to: to.slice(to_at, [n_columns]).unwrap(),
                };
                let rows = sum.rows.to_vec().unwrap();
                expected.push((0..n_columns).map(|c| rows[c..].iter().step_by(n_columns).sum::<f32>()).collect());
                at += (n_rows * n_columns).next_multiple_of(64);
                to_at += n_columns.next_multiple_of(64);
                sum
            })
            .collect();
        let expected: Vec<Vec<f32>> = expected;
        column_sums(&sums).unwrap();
        for (sum, expected) in sums.iter().zip(&expected) {
            for (found, expected) in sum.to.to_vec().unwrap().iter().zip(expected) {
                assert!((found - expected).abs() < 1e-4, "{}: {found} {expected}", sum.rows.shape());
            }
        }
        let wrong = ColumnSum { rows: room.array().slice(0, [4, 4]).unwrap(), to: to.slice(0, [5]).unwrap() };
        common::complaint(column_sums(&[wrong]), &["column_sums", "columns"]);
    }
}

#[test]
fn only_what_wants_a_gradient_gets_one() {
    let device = Device::cpu();
    let (x, c) = (random(&device, [4], 0).with_gradient(), random(&device, [4], 1));
    let (other, unused) = (random(&device, [4], 2).with_gradient(), x.detach());
    assert!(!c.wants_gradient() && !unused.wants_gradient() && !c.mul(&c).unwrap().wants_gradient());
    let y = x.mul(&c).unwrap().sum().unwrap();
    let gradients = y.backward().unwrap();
    assert_eq!(gradients.get(&x).unwrap().to_vec().unwrap(), c.to_vec().unwrap());
    for tensor in [&c, &other, &unused] {
        assert!(gradients.get(tensor).is_none());
    }
    // A second pass over the same history gives the same.
    assert_eq!(y.backward().unwrap().get(&x).unwrap().to_vec().unwrap(), c.to_vec().unwrap());
}

#[test]
fn a_chain_of_100_000_ops_needs_no_deep_stack() {
    let chain = || {
        let device = Device::cpu();
        let x = Tensor::from_f32(&device, [1], &[1.0]).unwrap().with_gradient();
        let mut y = x.clone();
        for _ in 0..100_000 {
            y = y.add(&x).unwrap();
        }
        assert_eq!(y.item().unwrap(), 100_001.0);
        assert_eq!(y.backward().unwrap().get(&x).unwrap().to_vec().unwrap(), [100_001.0]);
        assert_eq!(y.graph().lines().count(), 100_001);
        drop(y);
        // Dropped from the other end: the newest tensor outlives the names of the others.
        let z = (0..100_000).try_fold(x, |z, _| z.scale(1.0)).unwrap();
        assert_eq!(z.backward().unwrap().get(&z).map(|_| ()), None);
    };
    std::thread::Builder::new().stack_size(256 << 10).spawn(chain).unwrap().join().unwrap();
}

#[test]
fn no_grad_records_nothing() {
    for device in devices() {
        let x = random(&device, [3], 0).with_gradient();
        let y = no_grad(|| x.mul(&x).unwrap().sum().unwrap());
        assert!(!y.wants_gradient());
        assert_eq!(y.graph().lines().count(), 1);
        // Recording comes back, also after a panic and inside of another.
        let _ = std::panic::catch_unwind(|| no_grad(|| std::panic::resume_unwind(Box::new(()))));
        no_grad(|| {
            no_grad(|| ());
            assert!(!x.relu().unwrap().wants_gradient());
        });
        assert!(x.relu().unwrap().wants_gradient());
    }
}

#[test]
fn backward_needs_a_number_with_a_history() {
    for device in devices() {
        let x = random(&device, [3], 0).with_gradient();
        let message = |y: &Tensor| y.backward().err().expect("backward was accepted").to_string();
        let not_scalar = message(&x.relu().unwrap());
        assert!(not_scalar.contains("single number") && not_scalar.contains("shape 3"), "{not_scalar}");
        let constant = message(&x.detach().sum().unwrap());
        assert!(constant.contains("wants a gradient"), "{constant}");
        let cotangent = random(&device, [4], 0).array().clone();
        let shape = x.relu().unwrap().backward_with(cotangent).err().unwrap().to_string();
        assert!(shape.contains('4') && shape.contains('3'), "{shape}");
    }
}

/// Those that change arrays in place too: whichever of them is elsewhere.
#[test]
fn arrays_of_two_devices_are_refused() {
    let Some(gpu) = common::gpu(false) else { return };
    for [here, there] in [[Device::cpu(), gpu.clone()], [gpu, Device::cpu()]] {
        let [a, b] = [&here, &there].map(|device| Tensor::from_f32(device, [2, 2], &[1.0; 4]).unwrap());
        let [i, j] = [&here, &there].map(|device| Tensor::from_u32(device, [2], &[0, 1]).unwrap());
        let counts = Array::from_u32(&there, [2, 2], &[0; 4]).unwrap();
        let per_channel = Tensor::from_f32(&here, [2], &[1.0; 2]).unwrap();
        let filters = Filters::new(&here, &[FilterRun { start: 0, n: 2, length: 2 }]).unwrap();
        let (x, y) = (a.array(), b.array());
        let norm = BatchNorm {
            weight: &per_channel,
            bias: &per_channel,
            running: y,
            mode: Mode::Train,
            momentum: 0.1,
            epsilon: 1e-5,
            residual: None,
            relu: false,
        };
        let filters_of = |flat: &Array, y: &Tensor| filters.sums(flat, y.array());
        let sgd = SgdStep { lr: 0.1, momentum: 0.9, weight_decay: 0.0, n_decayed: 4, velocity_of_steps: false };
        let adam = AdamStep { lr: 0.1, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.0, n_decayed: 4, t: 1 };
        let refused = [
            a.add(&b).err(),
            a.batch_norm(&norm).err(),
            scatter_rows(&a, &i, y).err(),
            scatter_rows(&a, &j, x).err(),
            count_confusion(&i, &i, &counts).err(),
            sgd_step(x, y, x, sgd, None).err(),
            sgd_step(x, x, x, sgd, Some(y)).err(),
            adam_step(x, x, x, y, adam, None).err(),
            penalty(x, y, x).err(),
            add_squares(x, y, 1.0).err(),
            add_path(x, x, x, y).err(),
            project(x, y).err(),
            filters_of(y, &per_channel).err(),
            a.with_gradient().scale(2.0).unwrap().backward_with(y.clone()).err(),
        ];
        for (case, error) in refused.into_iter().enumerate() {
            let message = error.unwrap_or_else(|| panic!("case {case} was accepted")).to_string();
            assert!(message.contains("different devices"), "case {case}: {message}");
        }
    }
}

#[test]
fn a_history_can_be_printed() {
    let x = Tensor::from_f32(&Device::cpu(), [2, 3], &[1.0; 6]).unwrap().with_gradient();
    let c = Tensor::from_f32(&Device::cpu(), [2, 3], &[2.0; 6]).unwrap();
    let y = x.mul(&x).unwrap().add(&c).unwrap().sum().unwrap();
    let graph = y.graph();
    let ids: Vec<&str> = graph.lines().map(|line| line.split(' ').next().unwrap()).collect();
    let [sum, add, mul, c, x] = ids[..] else { panic!("{graph}") };
    let expected = format!(
        "{sum} = sum({add}) : 1\n{add} = add({mul}, {c}) : 2×3\n{mul} = mul({x}, {x}) : 2×3\n{c} = constant() : 2×3\n\
         {x} = leaf() : 2×3\n"
    );
    assert_eq!(graph, expected);
}

// ------------------------------------------------------------------------------------------------------ flat buffers

fn parameters(device: &Device) -> Parameters {
    let parameter = |name: &str, n: usize, decay| Parameter {
        name: name.into(),
        shape: Shape::new(&[n]).unwrap(),
        init: Init::Uniform(1.0),
        decay,
    };
    Parameters::new(device, vec![parameter("a", 5, true), parameter("b", 70, false)], 1).unwrap()
}

#[test]
fn an_untouched_parameter_has_a_zero_gradient() {
    for device in devices() {
        let parameters = parameters(&device);
        let [a, b] = parameters.tensors() else { panic!() };
        let flat = || parameters.gradients().unwrap().to_vec().unwrap();
        let both = a.sum().unwrap().add(&b.scale(3.0).unwrap().sum().unwrap()).unwrap();
        parameters.backward(&both).unwrap();
        assert_eq!((&flat()[..5], &flat()[64..134]), (&[1.0; 5][..], &[3.0; 70][..]));
        parameters.backward(&a.scale(2.0).unwrap().sum().unwrap()).unwrap();
        assert_eq!((&flat()[..5], &flat()[64..134]), (&[2.0; 5][..], &[0.0; 70][..]));
        // Used twice: the first gradient is written into the slice, the second added there.
        let twice = b.mul(b).unwrap().sum().unwrap().add(&b.sum().unwrap()).unwrap();
        parameters.backward(&twice).unwrap();
        let expected: Vec<f32> = b.to_vec().unwrap().iter().map(|b| 2.0 * b + 1.0).collect();
        assert_eq!((&flat()[..5], &flat()[64..134]), (&[0.0; 5][..], &expected[..]));
        let frozen = parameters.snapshot().unwrap();
        assert!(frozen.backward(&a.sum().unwrap()).is_err());
        assert!(frozen.gradients().is_none() && !frozen.tensors()[0].wants_gradient());
    }
}

#[test]
fn padding_stays_zero() {
    for device in devices() {
        for kind in [Kind::Sgd, Kind::Adam] {
            let network = Network::new("cnn", [1, 8, 8], 3, &device, 1).unwrap();
            let parameters = &network.parameters;
            let mut optimizer = Optimizer::new(kind, 0.9, 0.1, parameters).unwrap();
            let labels = Tensor::from_u32(&device, [5], &[0, 1, 2, 0, 1]).unwrap();
            for step in 0..4 {
                let x = random(&device, [5, 1, 8, 8], step);
                let loss = network.forward(&x, Mode::Train).unwrap().logits.cross_entropy(&labels, 3).unwrap();
                parameters.backward(&loss).unwrap();
                optimizer.step(parameters, 0.1).unwrap();
            }
            // Weights first, since decay acts on them, then biases; each starts at a multiple of 64 words.
            let mut host = parameters.to_host().unwrap();
            host.sort_by_key(|(name, ..)| name.ends_with(".bias"));
            let (values, gradients) =
                (parameters.values().to_vec().unwrap(), parameters.gradients().unwrap().to_vec().unwrap());
            let (mut at, mut n_padding) = (0, 0);
            for (name, _, expected) in host {
                let end = at + expected.len();
                assert_eq!(values[at..end], expected, "{name} is not where it should be");
                assert!(gradients[at..end].iter().any(|g| *g != 0.0), "{name} was not trained");
                at = end.next_multiple_of(64);
                n_padding += at - end;
                for (what, flat) in [("values", &values), ("gradients", &gradients)] {
                    assert!(flat[end..at].iter().all(|x| *x == 0.0), "{what} behind {name}: {:?}", &flat[end..at]);
                }
            }
            assert_eq!((at, n_padding > 50), (values.len(), true), "{n_padding} words of padding");
        }
    }
}

// ----------------------------------------------------------------------------------------------------------- buffers

/// `write_buffer` runs before the next submission, so an upload could overtake a recorded dispatch.
#[test]
fn uploads_do_not_reach_recorded_dispatches() {
    for device in devices() {
        for n in [64, 100, 5000] {
            let x = Tensor::from_f32(&device, [n], &vec![1.5; n]).unwrap();
            let y = x.scale(2.0).unwrap();
            drop(x);
            // The buffer of x is free. Whoever gets it must not write into what the dispatch has yet to read.
            let mut kept = Vec::new();
            for i in 0..100 {
                let new = Tensor::from_f32(&device, [n], &vec![i as f32; n]).unwrap();
                if i % 3 == 0 {
                    kept.push((i, new.scale(-1.0).unwrap()));
                }
            }
            assert_eq!(y.to_vec().unwrap(), vec![3.0; n]);
            for (i, negative) in kept {
                assert_eq!(negative.to_vec().unwrap(), vec![-(i as f32); n]);
            }
            // Overwriting a tensor leaves what was computed from it.
            let x = Tensor::from_f32(&device, [n], &vec![1.5; n]).unwrap();
            let y = x.scale(2.0).unwrap();
            x.array().write(&vec![7.0; n]).unwrap();
            assert_eq!((y.to_vec().unwrap(), x.to_vec().unwrap()), (vec![3.0; n], vec![7.0; n]));
        }
    }
}

/// Weights and biases of the outputs that are kept come back, and nothing behind them is touched.
#[test]
fn all_but_the_new_outputs_are_restored() {
    for device in devices().chain(common::gpu_as_hardware(false)) {
        let network = Network::new("mlp", [1, 8, 8], 10, &device, 1).unwrap();
        let parameters = &network.parameters;
        for n_kept in [0, 1, 2, 3, 7, 10] {
            let copy = parameters.snapshot().unwrap();
            let before = parameters.to_host().unwrap();
            let moved: Vec<f32> = parameters.values().to_vec().unwrap().iter().map(|x| x + 1.0).collect();
            parameters.values().write(&moved).unwrap();
            let after = parameters.to_host().unwrap();
            parameters.restore_all_but_outputs(&copy, n_kept).unwrap();
            let restored = parameters.to_host().unwrap();
            let n = restored.len();
            for (i, (name, shape, values)) in restored.iter().enumerate() {
                // The last weight and the last bias have a row for each output.
                let n_back = if i + 2 < n { values.len() } else { n_kept * values.len() / shape[0] };
                let expected = [&before[i].2[..n_back], &after[i].2[n_back..]].concat();
                assert_eq!(values, &expected, "{name} with {n_kept} outputs on {}", device.describe());
            }
            parameters.values().write(&copy.values().to_vec().unwrap()).unwrap();
        }
    }
}

#[test]
fn a_training_loop_allocates_nothing_after_its_first_steps() {
    for device in devices() {
        for model in ["mlp", "cnn"] {
            let network = Network::new(model, [1, 12, 12], 10, &device, 1).unwrap();
            let old = network.snapshot().unwrap();
            let mut optimizer = Optimizer::new(Kind::Adam, 0.9, 0.0, &network.parameters).unwrap();
            let mut latest = None;
            let mut step = |step: u64| {
                let x = random(&device, [6, 1, 12, 12], step);
                let labels = Tensor::from_u32(&device, [6], &[0, 1, 2, 3, 8, 9]).unwrap();
                let targets = no_grad(|| old.forward(&x, Mode::Eval)?.logits.mixed_targets(&labels, 8)).unwrap();
                let loss = network.forward(&x, Mode::Train).unwrap().logits.bce_with_logits(&targets).unwrap();
                network.parameters.backward(&loss).unwrap();
                optimizer.step(&network.parameters, 0.001).unwrap();
                device.flush().unwrap();
                latest = Some(loss.detach());
                if step.is_multiple_of(10) {
                    latest.take().unwrap().item().unwrap();
                }
            };
            (0..10).for_each(&mut step);
            let before = device.counters();
            (10..30).for_each(&mut step);
            let after = device.counters();
            let made = [
                ("buffers", before.allocations, after.allocations),
                ("bytes", before.allocated_bytes, after.allocated_bytes),
                ("pipelines", before.pipelines, after.pipelines),
                ("bind groups", before.bind_groups, after.bind_groups),
            ];
            for (what, before, after) in made {
                assert_eq!(before, after, "{what} of {model} on {}", device.describe());
            }
            assert_eq!(after.dispatches > before.dispatches, matches!(device, Device::Gpu(_)));
        }
    }
}

#[test]
fn a_launch_of_more_than_65535_workgroups_reaches_every_element() {
    if let Some(device) = common::gpu(false) {
        let n = 65_536 * 256 + 77;
        let x = Tensor::constant(Array::empty(&device, [n], DType::F32).unwrap()).with_gradient();
        let gradients = x.sum().unwrap().backward().unwrap();
        assert!(gradients.get(&x).unwrap().to_vec().unwrap().iter().all(|&dx| dx == 1.0));
    }
}

/// A single row: tiles of 256 columns.
#[test]
fn a_product_of_more_than_65535_tiles_reaches_every_column() {
    if let Some(device) = common::gpu_as_hardware(false) {
        let n = 65_536 * 256 + 77;
        let value = |i: usize| (i % 1021) as f32;
        let b: Vec<f32> = (0..n).map(value).collect();
        let two = Tensor::from_f32(&device, [1, 1], &[2.0]).unwrap();
        let product = two.matmul(&Tensor::from_f32(&device, [1, n], &b).unwrap()).unwrap().to_vec().unwrap();
        let wrong = (0..n).find(|&i| product[i] != 2.0 * value(i));
        assert_eq!(wrong, None, "columns from there on");
    }
}

#[test]
fn a_tensor_beyond_the_adapters_limit_is_refused_with_advice() {
    if let Some(device) = common::gpu(false) {
        let message = Array::empty(&device, [1 << 32], DType::F32).unwrap_err().to_string();
        assert!(message.contains("MiB") && message.contains("--batch-size"), "{message}");
    }
}
