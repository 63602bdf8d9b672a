//! Results that rounding or NaN could silently make wrong, on every device and with the kernels for hardware.

use crate::common;
use engram::ops::{BatchNorm, Conv2d, Mode, Windows, penalty, project};
use engram::{Device, Error, Tensor};

fn devices() -> impl Iterator<Item = (&'static str, Device)> {
    let gpu = common::gpu(false).map(|device| ("gpu", device));
    let hardware = common::gpu_as_hardware(false).map(|device| ("gpu as hardware", device));
    [Some(("cpu", Device::cpu())), gpu, hardware].into_iter().flatten()
}

fn tensor(device: &Device, shape: &[usize], numbers: &[f32]) -> Tensor {
    Tensor::from_f32(device, engram::shape::Shape::new(shape).unwrap(), numbers).unwrap()
}

/// A batch norm with weight 1 and bias 0, and the running statistics after it: those of the batch, or still 0 and 1.
fn batch_norm(x: &Tensor, residual: Option<&Tensor>, mode: Mode, relu: bool) -> Result<(Vec<f32>, Vec<f32>), Error> {
    let (device, c) = (x.device(), x.shape()[1]);
    let (ones, zeros) = (vec![1.0; c], vec![0.0; c]);
    let (weight, bias) = (tensor(&device, &[c], &ones), tensor(&device, &[c], &zeros));
    // A small variance would vanish beside a 1.
    let before = if mode == Mode::Eval { ones } else { zeros.clone() };
    let running = tensor(&device, &[2, c], &[zeros, before].concat());
    let (momentum, epsilon) = (1.0, 1e-5);
    let running = running.array();
    let norm = BatchNorm { weight: &weight, bias: &bias, running, mode, momentum, epsilon, residual, relu };
    Ok((x.batch_norm(&norm)?.to_vec()?, running.to_vec()?))
}

/// A single pixel apart from a million equal ones: a difference of two large sums would be off by thousands, to either side.
#[test]
fn the_variance_of_a_batch_norm_is_never_below_0() {
    const N: usize = 1 << 20;
    for (name, device) in devices() {
        for value in [0.1f32, 0.3, 1.1, 1.7, 1e3] {
            let mut numbers = vec![value; N];
            numbers[0] = 0.0;
            // A software adapter may refuse a single plane as long as this.
            let shape = if name == "gpu" { [64, 1, 1 << 7, 1 << 7] } else { [1, 1, 1 << 10, 1 << 10] };
            let x = tensor(&device, &shape, &numbers);
            let (y, running) = batch_norm(&x, None, Mode::Train, false).unwrap();
            assert!(y.iter().all(|y| y.is_finite()), "{name}, {value}: a result is not finite");
            assert!(running[1] >= 0.0, "{name}, {value}: a variance of {}", running[1]);
            if name == "gpu as hardware" {
                let exact = f64::from(value).powi(2) / N as f64;
                let relative = f64::from(running[1]) / exact;
                assert!((relative - 1.0).abs() < 0.01, "{name}, {value}: {relative} times the variance");
            }
        }
    }
}

#[test]
fn a_batch_norm_over_a_single_value_names_the_settings_that_help() {
    for (_, device) in devices() {
        let x = tensor(&device, &[1, 2, 1, 1], &[1.0, 2.0]);
        let message = batch_norm(&x, None, Mode::Train, false).unwrap_err().to_string();
        assert!(message.contains("--batch-size") && message.contains("--drop-last"), "{message}");
        // Two values are enough.
        batch_norm(&tensor(&device, &[2, 1, 1, 1], &[1.0, 2.0]), None, Mode::Train, false).unwrap();
    }
}

/// Bits apart from the sign and payload of what is not a number.
fn assert_same(got: &[f32], expected: &[f32], what: &str) {
    let same = |(a, b): (&f32, &f32)| a == b || (a.is_nan() && b.is_nan());
    assert!(got.len() == expected.len() && got.iter().zip(expected).all(same), "{what}: {got:?} is not {expected:?}");
}

/// A divergence must reach the loss, where it is noticed: PyTorch's ReLU and max-pool pass it on, forward and backward.
#[test]
fn what_is_not_a_number_passes_relu_and_max_pool() {
    const NAN: f32 = f32::NAN;
    for (name, device) in devices() {
        let x = tensor(&device, &[5], &[NAN, -1.0, 2.0, 0.0, -NAN]).with_gradient();
        let y = x.relu().unwrap();
        assert_same(&y.to_vec().unwrap(), &[NAN, 0.0, 2.0, 0.0, NAN], name);
        let gradients = y.sum().unwrap().backward().unwrap();
        assert_same(&gradients.get(&x).unwrap().to_vec().unwrap(), &[1.0, 0.0, 1.0, 0.0, 1.0], name);

        for width in [4, 5] {
            // Left: the last of two in reading order; right: before and after larger numbers.
            let rows = [[NAN, 3.0, 9.0, NAN, 7.0], [NAN, 1.0, 4.0, 5.0, 7.0], [0.0; 5]];
            let numbers: Vec<f32> = rows.iter().flat_map(|row| &row[..width]).copied().collect();
            let x = tensor(&device, &[1, 1, 3, width], &numbers).with_gradient();
            let y = x.max_pool2d(2, 2, 0).unwrap();
            assert_same(&y.to_vec().unwrap(), &[NAN, NAN], name);
            let gradients = y.sum().unwrap().backward().unwrap();
            let mut expected = vec![0.0; 3 * width];
            (expected[width], expected[3]) = (1.0, 1.0);
            assert_same(&gradients.get(&x).unwrap().to_vec().unwrap(), &expected, name);
        }

        for (shape, n) in [(&[1, 2, 2, 2][..], 8), (&[1, 2, 1, 3], 6)] {
            let mut numbers = vec![-1.0; n];
            (numbers[1], numbers[n - 1]) = (NAN, 2.0);
            let x = tensor(&device, shape, &numbers);
            let zeros = tensor(&device, shape, &vec![0.0; n]);
            for residual in [None, Some(&zeros)] {
                let (y, _) = batch_norm(&x, residual, Mode::Eval, true).unwrap();
                assert!(y[1].is_nan() && y[0] == 0.0 && y[n - 1] > 1.9, "{name}: {y:?}");
            }
        }
    }
}

/// The convolution into which a batch norm is folded ends in the same ReLU. Images of 8 columns lie in whole vec4s.
#[test]
fn what_is_not_a_number_passes_a_folded_convolution() {
    for (name, device) in devices() {
        for width in [5, 8] {
            let n = 2 * 4 * width;
            let mut numbers = vec![-1.0; n];
            (numbers[1], numbers[n - 1]) = (f32::NAN, 2.0);
            let x = tensor(&device, &[1, 2, 4, width], &numbers);
            // Channel 0 of the result is channel 0 of the image, the other one likewise.
            let weight = tensor(&device, &[2, 2, 1, 1], &[1.0, 0.0, 0.0, 1.0]);
            let (one, zero) = (tensor(&device, &[2], &[1.0; 2]), tensor(&device, &[2], &[0.0; 2]));
            let running = tensor(&device, &[2, 2], &[0.0, 0.0, 1.0, 1.0]);
            let zeros = tensor(&device, &[1, 2, 4, width], &vec![0.0; n]);
            for residual in [None, Some(&zeros)] {
                let (mode, momentum, epsilon) = (Mode::Eval, 0.1, 1e-5);
                let running = running.array();
                let norm =
                    BatchNorm { weight: &one, bias: &zero, running, mode, momentum, epsilon, residual, relu: true };
                let y = x.conv2d_batch_norm(&weight, None, Conv2d::new(1, 0), &norm).unwrap().to_vec().unwrap();
                assert!(y[1].is_nan() && y[0] == 0.0 && y[n - 1] > 1.9, "{name}, {width}: {y:?}");
            }
        }
    }
}

/// T²·mean_n Σ p_t (ln p_t − ln p_s) and its gradient T·(p_s − p_t)/N, in double precision and without cancellation:
/// δ = ln p_t − ln p_s = d/T − ln (1 + Σ p_s (e^(d/T) − 1)) with d = teacher − student, and Σ p_t·δ = Σ p_t·(δ + e^−δ − 1).
fn divergence(student: &[f32], teacher: &[f32], columns: usize, t: f64) -> (f64, Vec<f64>) {
    let n = (student.len() / columns) as f64;
    let softmax = |x: &[f32]| -> Vec<f64> {
        let total: f64 = x.iter().map(|&x| (f64::from(x) / t).exp()).sum();
        x.iter().map(|&x| (f64::from(x) / t).exp() / total).collect()
    };
    let (mut sum, mut gradient) = (0.0, Vec::new());
    for (s, q) in student.chunks(columns).zip(teacher.chunks(columns)) {
        let ratios: Vec<f64> = s.iter().zip(q).map(|(&s, &q)| (f64::from(q) - f64::from(s)) / t).collect();
        let log: f64 = softmax(s).iter().zip(&ratios).map(|(p, x)| p * x.exp_m1()).sum::<f64>().ln_1p();
        for (p, x) in softmax(q).into_iter().zip(ratios) {
            let delta = x - log;
            sum += p * (delta + (-delta).exp_m1());
            gradient.push(t * p * (-delta).exp_m1() / n);
        }
    }
    (t * t * sum / n, gradient)
}

#[test]
fn the_divergence_has_its_value_and_gradient_at_every_temperature() {
    const COLUMNS: usize = 10;
    let student: Vec<f32> = (0..3 * COLUMNS).map(|i| ((i * 37 + 11) % 101) as f32 * 0.06 - 3.0).collect();
    let far: Vec<f32> = (0..3 * COLUMNS).map(|i| ((i * 53 + 29) % 97) as f32 * 0.06 - 3.0).collect();
    let close: Vec<f32> = student.iter().enumerate().map(|(i, x)| x + 0.01 * ((i * 7 % 5) as f32 - 2.0)).collect();
    for (name, device) in devices() {
        for teacher in [&far, &close] {
            for temperature in [1.0f32, 2.0, 4.0, 30.0, 100.0, 1e3, 1e4, 1e5] {
                let what = format!("{name}, T = {temperature}");
                let x = tensor(&device, &[3, COLUMNS], &student).with_gradient();
                let y = x.kl_div(&tensor(&device, &[3, COLUMNS], teacher), temperature).unwrap();
                let got = f64::from(y.item().unwrap());
                let (expected, gradient) = divergence(&student, teacher, COLUMNS, f64::from(temperature));
                assert!(got > 0.0 && (got - expected).abs() <= 2e-4 * expected, "{what}: {got}, not {expected}");
                let dx = y.backward().unwrap().get(&x).unwrap().to_vec().unwrap();
                let largest = gradient.iter().fold(0.0f64, |largest, g| largest.max(g.abs()));
                for (got, expected) in dx.iter().zip(&gradient) {
                    let error = (f64::from(*got) - expected).abs();
                    assert!(error <= 2e-4 * largest, "{what}: a gradient of {got}, not {expected}");
                }
            }
        }
        let x = tensor(&device, &[3, COLUMNS], &student);
        assert_eq!(x.kl_div(&x, 3.0).unwrap().item().unwrap(), 0.0, "{name}: of equal outputs");
        for other in [-5.0, 0.0] {
            let broken = tensor(&device, &[1, 3], &[f32::NAN, other, 5.0]);
            let whole = tensor(&device, &[1, 3], &[0.0, 1.0, 2.0]);
            let losses = [broken.kl_div(&whole, 1.0), whole.kl_div(&broken, 1.0)];
            assert!(losses.into_iter().all(|y| y.unwrap().item().unwrap().is_nan()), "{name}: a loss hides NaN");
        }
        // The square of this temperature is no number of single precision.
        assert!(x.kl_div(&tensor(&device, &[3, COLUMNS], &far), 1e20).unwrap().item().unwrap() > 0.0, "{name}");
    }
}

/// ln(1 + e) where e is small beside 1, and a gradient whose bounds must not hide what is no number.
#[test]
fn losses_of_pairs_keep_their_digits_and_what_is_no_number() {
    for (name, device) in devices() {
        let loss = |x: f32| {
            let x = tensor(&device, &[1, 1], &[x]);
            f64::from(x.bce_with_logits(&tensor(&device, &[1, 1], &[1.0])).unwrap().item().unwrap())
        };
        for x in [5.0f64, 10.0, 15.0, 18.0, 40.0] {
            let expected = (-x).exp().ln_1p();
            let found = loss(x as f32);
            assert!((found - expected).abs() < 1e-5 * expected, "{name}, {x}: {found} instead of {expected}");
        }
        let x = tensor(&device, &[1, 2], &[f32::NAN, 3.0]).with_gradient();
        let gradients = x.smooth_l1(&tensor(&device, &[1, 2], &[0.0, 0.0])).unwrap().backward().unwrap();
        let gradient = gradients.get(&x).unwrap().to_vec().unwrap();
        assert!(gradient[0].is_nan() && gradient[1] == 0.5, "{name}: {gradient:?}");
    }
}

/// Features that are no numbers: each row is picked once all the same.
#[test]
fn herding_picks_no_row_twice() {
    for (name, device) in devices() {
        let features = tensor(&device, &[4, 2], &[f32::NAN; 8]);
        assert_eq!(features.herding(4).unwrap().to_u32().unwrap(), [0, 1, 2, 3], "{name}");
    }
}

/// An invocation of llvmpipe leaves its loops after 65,535 turns: sums are cut so that none is longer, or refused.
#[test]
fn no_sum_is_longer_than_an_adapter_can_count() {
    type Sum = fn(&Device) -> engram::Result<Tensor>;
    fn numbers(device: &Device, shape: &[usize]) -> engram::Result<Tensor> {
        let n: usize = shape.iter().product();
        let values: Vec<f32> =
            (0..n as u32).map(|i| 0.5 + (i.wrapping_mul(2_654_435_761) >> 22) as f32 / 1024.0).collect();
        Tensor::from_f32(device, engram::shape::Shape::new(shape)?, &values)
    }
    let sums: [(&str, Sum); 10] = [
        ("sum", |device| numbers(device, &[18_000_000])?.sum()),
        ("row_sum", |device| numbers(device, &[3, 200_000])?.row_sum()),
        ("global_avg_pool", |device| numbers(device, &[1, 3, 300, 300])?.global_avg_pool()),
        ("softmax", |device| numbers(device, &[2, 100_000])?.softmax(1.0)),
        ("l2_normalize", |device| numbers(device, &[2, 100_000])?.l2_normalize()),
        ("over_positive_mean", |device| numbers(device, &[2, 100_000])?.over_positive_mean()),
        ("variational_bound", |device| {
            numbers(device, &[1, 100, 64])?.scale(0.1)?.variational_bound(&numbers(device, &[100])?, 0.5, false)
        }),
        ("project", |device| {
            let gradient = numbers(device, &[18_000_000])?.scale(-0.5)?;
            let tilted = gradient.add(&numbers(device, &[18_000_000])?.relu()?.scale(0.25)?)?;
            project(tilted.array(), numbers(device, &[18_000_000])?.array())?;
            tilted.mul(&tilted)?.sum()
        }),
        // The sum over all pixels of a weight's gradient is cut into the fewer slices the more weights there are.
        ("conv2d", |device| {
            let w = numbers(device, &[1, 1, 45, 45])?.scale(1e-3)?.with_gradient();
            let y = numbers(device, &[8, 1, 520, 520])?.conv2d(&w, None, Conv2d::new(1, 22))?;
            let gradient = y.sum()?.backward()?.get(&w).expect("a gradient").to_vec()?;
            Tensor::from_f32(device, [2025], &gradient)
        }),
        ("penalty", |device| {
            let w = numbers(device, &[18_000_000])?;
            penalty(w.array(), w.scale(0.5)?.array(), w.array())
        }),
    ];
    let Some(device) = common::gpu(false) else { return };
    for (name, sum) in sums {
        let [expected, got] = [&Device::cpu(), &device].map(|device| sum(device).unwrap().to_vec().unwrap());
        let largest = expected.iter().fold(0.0f32, |largest, x| largest.max(x.abs()));
        for (expected, got) in expected.iter().zip(got) {
            // Tens of thousands are added one after another, in single precision.
            assert!((expected - got).abs() <= 1e-3 * largest, "{name}: {got} instead of {expected}");
        }
    }
    let Device::Gpu(gpu) = &device else { return };
    if gpu.is_software() {
        let refused: [(&str, Sum); 10] = [
            ("max_pool2d", |device| numbers(device, &[1, 1, 300, 300])?.max_pool2d(300, 300, 0)),
            ("avg_pool2d", |device| {
                let windows = Windows { kernel: [300, 300], stride: [300, 300], padding: [0, 0] };
                numbers(device, &[1, 1, 300, 300])?.avg_pool2d(windows)
            }),
            ("resize_bilinear", |device| numbers(device, &[1, 1, 1, 1])?.resize_bilinear(300, 300)),
            ("batch_norm", |device| {
                let x = numbers(device, &[1, 1, 1 << 10, 1 << 10])?;
                batch_norm(&x, None, Mode::Train, false).map(|_| x)
            }),
            ("conv2d", |device| {
                let weight = numbers(device, &[1, 1, 300, 300])?;
                numbers(device, &[1, 1, 300, 300])?.conv2d(&weight, None, Conv2d::new(1, 0))
            }),
            ("channel_sum", |device| numbers(device, &[100_000, 2])?.channel_sum()),
            ("squared_distances", |device| {
                numbers(device, &[2, 70_000])?.squared_distances(&numbers(device, &[3, 70_000])?)
            }),
            ("matmul", |device| numbers(device, &[2, 300_000])?.matmul(&numbers(device, &[300_000, 2])?)),
            ("variational_bound", |device| {
                numbers(device, &[1, 180, 64])?.variational_bound(&numbers(device, &[180])?, 0.5, false)
            }),
            ("argmin_rows", |device| numbers(device, &[2, 100_000])?.argmin_rows(100_000)),
        ];
        for (name, sum) in refused {
            let message = sum(&device).unwrap_err().to_string();
            assert!(message.contains("use --device cpu"), "{name}: {message}");
        }
    }
}
