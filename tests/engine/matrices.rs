//! Products on cooperative matrix units, tested without such units: naga validates the shaders, an emulation in plain WGSL tests
//! their index logic, a model on the CPU tests their rounding; and a device without such units refuses with a message.

use crate::common;
use crate::common::program;

use engram::device::{Kernel, Matrices, Options, Precision, Selection, list_adapters};
use engram::models::{self, Network};
use engram::nn::{Init, Parameter, Parameters, backward};
use engram::ops::{self, Case, Conv2d, Input, Mode, Tolerance, compare};
use engram::optim::{Kind, Optimizer, step_all};
use engram::rng::{Purpose, Rng};
use engram::shape::Shape;
use engram::{Device, Tensor};
use naga::back::spv;
use naga::valid::{Capabilities, ModuleInfo, ValidationFlags, Validator};
use naga::{AddressSpace, Module};

/// What the adapters have that have such units.
const SHARED_BYTES: usize = 48 << 10;
const MAX_INVOCATIONS: u32 = 256;

const KINDS: [Matrices; 4] = [
    Matrices { split: false, emulated: false },
    Matrices { split: true, emulated: false },
    Matrices { split: false, emulated: true },
    Matrices { split: true, emulated: true },
];

/// The module, valid with f16 and cooperative matrices; the emulation, with the conversion to f16 that every adapter has.
fn module(kernel: &Kernel, emulated: bool) -> (Module, ModuleInfo) {
    let text = kernel.text();
    let capabilities = match emulated {
        true => Capabilities::SHADER_FLOAT16_IN_FLOAT32,
        false => Capabilities::SHADER_FLOAT16 | Capabilities::COOPERATIVE_MATRIX,
    };
    let mut options = naga::front::wgsl::Options::new();
    options.capabilities = capabilities;
    let module = naga::front::wgsl::Frontend::new_with_options(options)
        .parse(&text)
        .unwrap_or_else(|e| panic!("{}: {}", kernel.name, e.emit_to_string(&text)));
    let info = Validator::new(ValidationFlags::all(), capabilities)
        .validate(&module)
        .unwrap_or_else(|e| panic!("{}: {}", kernel.name, e.emit_to_string(&text)));
    (module, info)
}

#[test]
fn every_kernel_is_valid_and_within_the_limits_of_such_adapters() {
    for matrices in KINDS {
        let kernels = ops::matrix_kernels(matrices, SHARED_BYTES);
        assert!(kernels.len() > 100, "only {} kernels", kernels.len());
        for kernel in kernels {
            let (module, info) = module(kernel, matrices.emulated);
            let [x, y, z] = module.entry_points[0].workgroup_size;
            assert!(x * y * z <= MAX_INVOCATIONS && (x * y * z).is_multiple_of(32), "{}: {x}×{y}×{z}", kernel.name);
            let uses = info.get_entry_point(0);
            let shared = |(_, global): &(_, &naga::GlobalVariable)| global.space == AddressSpace::WorkGroup;
            let bytes: u32 = module
                .global_variables
                .iter()
                .filter(|(handle, _)| !uses[*handle].is_empty())
                .filter(shared)
                .map(|(_, global)| module.types[global.ty].inner.size(module.to_ctx()))
                .sum();
            assert!(bytes as usize <= SHARED_BYTES, "{}: {bytes} bytes of shared memory", kernel.name);
            // What a Vulkan driver is given.
            spv::write_vec(&module, &info, &spv::Options::default(), None)
                .unwrap_or_else(|e| panic!("{}: {e}", kernel.name));
        }
    }
}

/// A device whose products run on emulated units for small matrices.
fn emulated(precision: Precision, checked: bool) -> Option<Device> {
    common::open(Options { as_hardware: true, precision, checked, ..Options::default() })
}

/// Ops that compute products: the emulation has the slabs, the tiles and the index arithmetic of the real kernels.
#[test]
fn products_of_all_shapes_agree_with_the_cpu() {
    for (precision, checked) in [(Precision::Mixed, true), (Precision::Mixed, false), (Precision::Split, false)] {
        let Some(device) = emulated(precision, checked) else { return };
        assert_eq!(device.precision(), precision);
        // Bounds checks make an emulation so slow that the usual cases have to do.
        let large = |name| if checked { Vec::new() } else { large_cases(name) };
        let mut n_results = 0;
        for op in ops::ALL.iter().filter(|op| PRODUCTS.contains(&op.name)) {
            for case in (op.cases)().into_iter().chain(large(op.name)) {
                for result in compare(&case, &device).unwrap() {
                    assert!(result.passes(), "{precision} {} {}: {result:?}", op.name, case.name);
                    n_results += 1;
                }
            }
        }
        assert!(n_results > 60, "only {n_results} results");
    }
}

const PRODUCTS: [&str; 4] = ["matmul", "linear", "conv2d", "conv2d_batch_norm"];

/// Shapes with enough tiles for the larger of them.
fn large_cases(op: &str) -> Vec<Case> {
    let product = |name, inputs: [&[usize]; 2], k, run| {
        let inputs = inputs.map(|shape| Input::random(Shape::new(shape).unwrap())).into();
        Case::new(name, inputs, run).tolerance(Tolerance::Product(k))
    };
    match op {
        "matmul" => vec![
            product("64 rows", [&[64, 40], &[40, 15_500]], 15_500, |x| x[0].matmul(&x[1])),
            product("32 rows", [&[40, 32], &[40, 15_500]], 15_500, |x| x[0].matmul_transposed(true, &x[1], false)),
            product("16 rows", [&[16, 36], &[31_000, 36]], 31_000, |x| x[0].matmul_transposed(false, &x[1], true)),
        ],
        "conv2d" => vec![
            product("64 channels", [&[4, 8, 64, 64], &[64, 8, 3, 3]], 16_384, |x| {
                x[0].conv2d(&x[1], None, Conv2d::new(1, 1))
            }),
            product("16 channels, stride 2", [&[8, 4, 128, 124], &[16, 4, 5, 5]], 32_000, |x| {
                x[0].conv2d(&x[1], None, Conv2d::new(2, 2))
            }),
        ],
        _ => vec![],
    }
}

/// The nearest f16, ties to even, as f32.
fn to_half(x: f32) -> f32 {
    if !x.is_finite() {
        return x;
    }
    // The distance between neighbours in f16: 10 bits behind the leading one, and below 2⁻¹⁴ always 2⁻²⁴.
    let exponent = ((x.to_bits() >> 23 & 0xff) as i32 - 127).max(-14);
    let step = 2f64.powi(exponent - 10);
    let rounded = (f64::from(x) / step).round_ties_even() * step;
    if rounded.abs() >= 65_520.0 { f32::INFINITY.copysign(x) } else { rounded as f32 }
}

#[test]
fn the_model_rounds_as_f16_does() {
    for (x, expected) in [
        (1.0 + 1.0 / 2048.0, 1.0),
        (1.0 + 3.0 / 2048.0, 1.0 + 2.0 / 1024.0),
        (65_504.0, 65_504.0),
        (65_519.0, 65_504.0),
        (-65_520.0, f32::NEG_INFINITY),
        (6e-8, 2f32.powi(-24)),
        (2.9e-8, 0.0),
        (0.1, 0.099_975_586),
    ] {
        assert_eq!(to_half(x), expected, "{x}");
    }
}

/// A factor in two parts of f16, as the shader cuts it.
fn parts(x: f32) -> [f32; 2] {
    let high = f32::from_bits(x.to_bits() & 0xffff_e000);
    [to_half(high), to_half((x - high) * 1024.0)]
}

/// Σ a·b with factors of f16 and exact products, summed up without rounding: what the units' own order of sums adds is tested on
/// an adapter.
fn model(precision: Precision, a: &[f32], b: &[f32]) -> f64 {
    let wide = f64::from;
    let terms = a.iter().zip(b).map(|(&a, &b)| match precision {
        Precision::Full => wide(a) * wide(b),
        Precision::Mixed => wide(to_half(a)) * wide(to_half(b)),
        Precision::Split => {
            let ([a, a_low], [b, b_low]) = (parts(a), parts(b));
            wide(a) * wide(b) + (wide(a) * wide(b_low) + wide(a_low) * wide(b)) / 1024.0
        }
    });
    terms.sum()
}

fn numbers(n: usize, counter: u64, magnitude: f32) -> Vec<f32> {
    let mut rng = Rng::keyed(7, Purpose::Test, counter);
    (0..n).map(|_| magnitude * rng.range(-1.0, 1.0)).collect()
}

#[test]
fn the_rounding_stays_within_what_check_allows() {
    for magnitude in [1e-2, 1.0, 60_000.0] {
        let mut largest = 0.0f64;
        for counter in 0..200 {
            let (a, b) = (numbers(301, 2 * counter, magnitude), numbers(301, 2 * counter + 1, 1.0));
            let exact = model(Precision::Full, &a, &b);
            let size: f64 = a.iter().zip(&b).map(|(&a, &b)| (f64::from(a) * f64::from(b)).abs()).sum();
            let error = |precision| (model(precision, &a, &b) - exact).abs() / size;
            assert!(error(Precision::Mixed) <= 1e-3, "{magnitude}: {}", error(Precision::Mixed));
            largest = largest.max(error(Precision::Mixed));
            assert!(error(Precision::Split) <= 2e-6, "{magnitude}: {}", error(Precision::Split));
        }
        assert!(largest > 1e-6, "{magnitude}: mixed products are nearly exact: {largest}");
    }
}

/// What the shaders put into the slabs is what the model says, number for number: a product with the identity shows it.
#[test]
fn the_emulation_rounds_as_the_model_does() {
    for precision in [Precision::Mixed, Precision::Split] {
        let Some(device) = emulated(precision, false) else { return };
        let n = 64;
        let values = [numbers(n * n / 2, 1, 1.0), numbers(n * n / 2, 2, 3e4)].concat();
        let identity: Vec<f32> = (0..n * n).map(|i| f32::from(u8::from(i % (n + 1) == 0))).collect();
        let [x, one] = [&values, &identity].map(|values| Tensor::from_f32(&device, [n, n], values).unwrap());
        let y = x.matmul(&one).unwrap().to_vec().unwrap();
        for (x, y) in values.iter().zip(y) {
            let [high, low] = parts(*x);
            let expected = if precision == Precision::Mixed { to_half(*x) } else { high + low / 1024.0 };
            assert_eq!(y, expected, "{precision}: {x}");
        }
    }
}

fn parameters(device: &Device, values: &[f32]) -> Parameters {
    let entry = Parameter { name: "w".into(), shape: [values.len()].into(), init: Init::Constant(0.0), decay: false };
    let parameters = Parameters::new(device, vec![entry], 1).unwrap();
    parameters.set("w", &[values.len()], values).unwrap();
    parameters
}

#[test]
fn an_overflow_skips_the_step_and_halves_the_scale_and_else_gradients_are_exact() {
    let Some(device) = emulated(Precision::Mixed, false) else { return };
    for kind in [Kind::Sgd, Kind::Adam] {
        let values = [0.1, -3.0, 1e-20, 7.7];
        let parameters = parameters(&device, &values);
        let w = &parameters.tensors()[0];
        let mut optimizer = Optimizer::new(kind, 0.9, 0.0, &parameters).unwrap();
        let bits = |values: Vec<f32>| values.into_iter().map(f32::to_bits).collect::<Vec<_>>();
        let gradients = || parameters.gradients_to_host().unwrap().concat();
        let scale = || parameters.gradient_scale().unwrap().read().unwrap();
        assert_eq!(scale(), (65_536.0, 0));

        // Exactly 2w, though the pass ran with 65,536 times that.
        parameters.backward(&w.mul(w).unwrap().sum().unwrap()).unwrap();
        assert_eq!(bits(gradients()), bits(values.iter().map(|w| 2.0 * w).collect()));
        optimizer.step(&parameters, 0.01).unwrap();
        let after_one = w.to_vec().unwrap();
        assert!(after_one != values && scale() == (65_536.0, 0));

        // 1e35 · 65,536 is no f32: nothing moves, not even by momentum, and no infinity is left for anybody to trip over.
        parameters.backward(&w.scale(1e35).unwrap().sum().unwrap()).unwrap();
        assert_eq!(gradients(), [0.0; 4]);
        let before = optimizer.state().unwrap().1;
        optimizer.step(&parameters, 0.01).unwrap();
        assert_eq!((w.to_vec().unwrap(), scale()), (after_one.clone(), (32_768.0, 1)));
        assert_eq!(optimizer.state().unwrap().1, before);

        parameters.backward(&w.mul(w).unwrap().sum().unwrap()).unwrap();
        assert_eq!(bits(gradients()), bits(after_one.iter().map(|w| 2.0 * w).collect()));
        optimizer.step(&parameters, 0.01).unwrap();
        assert!(w.to_vec().unwrap() != after_one && scale() == (32_768.0, 1));
    }
}

/// Where one pass gives the gradients of several sets of parameters there is one scale. It halves whoever overflows: else a set
/// whose gradients do not suit the scale of another would never move again. And they step together or not at all.
#[test]
fn parameters_that_are_trained_together_share_a_scale() {
    let Some(device) = emulated(Precision::Mixed, false) else { return };
    let all = [parameters(&device, &[0.5, -1.0, 2.0, 3.0]), parameters(&device, &[1.5, 0.25])];
    let mut optimizers = all.each_ref().map(|own| Optimizer::new(Kind::Sgd, 0.0, 0.0, own).unwrap());
    let w = |i: usize| &all[i].tensors()[0];
    let values = || [0, 1].map(|i: usize| w(i).to_vec().unwrap());
    let gradients = || [0, 1].map(|i: usize| all[i].gradients_to_host().unwrap().concat());
    let squares = |i: usize| w(i).mul(w(i)).unwrap().sum().unwrap();
    let scale = || all[0].gradient_scale().unwrap().read().unwrap();
    let mut step = |loss: &Tensor, expected: [Vec<f32>; 2]| {
        backward(loss, &[&all[0], &all[1]]).unwrap();
        assert_eq!(gradients(), expected);
        step_all(all.iter().zip(&mut optimizers), 0.01).unwrap();
    };
    let twice = |values: [Vec<f32>; 2]| values.map(|values| values.iter().map(|w| 2.0 * w).collect::<Vec<_>>());

    // Exact in both.
    let start = values();
    step(&squares(0).add(&squares(1)).unwrap(), twice(start.clone()));
    let moved = values();
    assert!(moved[0] != start[0] && moved[1] != start[1] && scale() == (65_536.0, 0));

    // 65,536 times 10^34 overflows in the second set alone. Half the scale suits it.
    let steep = || squares(0).add(&w(1).scale(1e34).unwrap().sum().unwrap()).unwrap();
    let [of_first, _] = twice(moved.clone());
    step(&steep(), [of_first.clone(), vec![0.0; 2]]);
    assert_eq!((values(), scale()), (moved.clone(), (32_768.0, 1)), "one has moved without the other");
    step(&steep(), [of_first, vec![1e34; 2]]);
    let again = values();
    assert!(again[0] != moved[0] && again[1] != moved[1] && scale() == (32_768.0, 1));

    // What a pass does not reach has no gradient, whatever the last one left.
    let [of_first, _] = twice(again);
    step(&squares(0), [of_first, vec![0.0; 2]]);
}

/// A training step of a network with every kind of product, twice: bits agree with each other, losses with f32.
#[test]
fn training_is_repeatable_and_near_f32() {
    let losses = |precision| -> Option<Vec<f32>> {
        let device = emulated(precision, false)?;
        let input = models::spec("cnn").unwrap().input;
        let network = Network::new("cnn", input, 10, &device, 1).unwrap();
        let mut optimizer = Optimizer::new(Kind::Sgd, 0.9, 0.0, &network.parameters).unwrap();
        let [c, h, w] = input;
        let x = Tensor::from_f32(&device, [4, c, h, w], &numbers(4 * c * h * w, 3, 1.0)).unwrap();
        let labels = Tensor::from_u32(&device, [4], &[0, 1, 2, 3]).unwrap();
        let mut step = || {
            let loss = network.forward(&x, Mode::Train).unwrap().logits.cross_entropy(&labels, 10).unwrap();
            network.parameters.backward(&loss).unwrap();
            optimizer.step(&network.parameters, 0.01).unwrap();
            loss.item().unwrap()
        };
        Some((0..4).map(|_| step()).collect())
    };
    let Some(full) = losses(Precision::Full) else { return };
    assert!(full[3] < full[0]);
    for (precision, tolerance) in [(Precision::Mixed, 5e-3), (Precision::Split, 1e-4)] {
        let one = losses(precision).unwrap();
        assert_eq!(one, losses(precision).unwrap(), "{precision}: a second run differs");
        assert_ne!(one, full, "{precision} changes nothing");
        for (one, full) in one.iter().zip(&full) {
            assert!((one - full).abs() <= tolerance * full, "{precision}: {one} instead of {full}");
        }
    }
}

#[test]
fn devices_without_such_units_refuse_by_name() {
    let refused = |selection: Selection, precision| {
        let options = Options { precision, ..Options::default() };
        let error = selection.open(options).err().unwrap_or_else(|| panic!("{selection} takes {precision}"));
        assert_eq!(error.exit_code(), 2, "{error}");
        error.to_string()
    };
    for precision in [Precision::Mixed, Precision::Split] {
        let message = refused(Selection::Cpu, precision);
        assert!(message.contains(&format!("--precision {precision}")) && message.contains("the CPU"), "{message}");
        for adapter in list_adapters().iter().filter(|adapter| adapter.lacks_matrices().is_some()) {
            let name = adapter.info.name.clone();
            let message = refused(Selection::Name(name.to_lowercase()), precision);
            assert!(message.contains(&name) && message.contains(&adapter.lacks_matrices().unwrap()), "{message}");
        }
    }
    // What is best for f32 is never opened for anything else unasked.
    assert_eq!(Selection::Auto.open(Options::default()).unwrap().0.precision(), Precision::Full);
}

#[test]
fn every_command_with_a_device_takes_the_flag() {
    let dir = tempfile::tempdir().unwrap();
    let commands = ["check matmul", "bench op matmul 8", "bench step --model mlp", "finetune --max-tasks 1", "distill"];
    for command in commands {
        let arguments = format!("{command} --device cpu --precision mixed");
        program::fails(&dir, &arguments, 2, &["--precision mixed", "the CPU computes in f32", "engram devices"]);
    }
    if !list_adapters().is_empty() {
        let checked = program::succeeds(&dir, "check linear --device gpu --as-hardware --precision split").out;
        assert!(checked.contains("products split") && checked.contains("agree with the CPU"), "{checked}");
        assert!(program::succeeds(&dir, "devices").out.contains("--precision mixed and split are "));
    }
}
