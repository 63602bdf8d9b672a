//! The oracle triangle over the op table: CPU = PyTorch's numbers, CPU = finite differences, GPU = CPU. Also for every
//! op: fan-out, repeatability, refusal of wrong input.

use crate::common;
use crate::common::golden;
use engram::device::Array;
use engram::ops::{self, Case, Op, compare, run_with_gradients};
use engram::tensor::check_gradients;
use engram::{Device, Tensor};
use std::path::Path;

/// Reports all failures of a loop over the table at once.
fn over_cases(check: impl Fn(&Op, &Case) -> Result<(), String>) {
    let mut failures = Vec::new();
    for op in ops::ALL {
        for case in (op.cases)() {
            if let Err(failure) = check(op, &case) {
                failures.push(format!("{} {}: {failure}", op.name, case.name));
            }
        }
    }
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
}

fn gpu_agrees(device: &Device) {
    over_cases(|_, case| {
        for comparison in compare(case, device).map_err(|e| e.to_string())? {
            if !comparison.passes() {
                return Err(format!("{comparison:?}"));
            }
        }
        Ok(())
    });
}

#[test]
fn the_gpu_agrees_with_the_cpu() {
    if let Some(device) = common::gpu(false) {
        gpu_agrees(&device);
    }
}

#[test]
fn the_checked_gpu_agrees_with_the_cpu() {
    if let Some(device) = common::gpu(true) {
        gpu_agrees(&device);
    }
}

/// A software adapter gets other kernels for matrix products and smaller workgroups; these are the ones for hardware.
#[test]
fn the_kernels_for_hardware_agree_with_the_cpu() {
    for checked in [false, true] {
        if let Some(device) = common::gpu_as_hardware(checked) {
            gpu_agrees(&device);
        }
    }
}

#[test]
fn gradients_agree_with_finite_differences() {
    over_cases(|op, case| {
        if !op.gradient || !case.differences {
            return Ok(());
        }
        let inputs = case.tensors(&Device::cpu()).map_err(|e| e.to_string())?;
        let wanted: Vec<bool> = case.inputs.iter().map(|input| input.gradient).collect();
        for error in check_gradients(&case.run, &inputs, &wanted).map_err(|e| e.to_string())? {
            if !(error.relative <= 1e-4) {
                return Err(format!("{error:?}"));
            }
        }
        Ok(())
    });
}

/// Means have gradients far below 1: an error is measured against them, not against 1.
#[test]
fn a_small_gradient_that_is_a_percent_off_is_noticed() {
    let x = Tensor::from_f32(&Device::cpu(), [20, 21], &[0.5; 420]).unwrap();
    let most = |x: &[Tensor]| x[0].mean()?.scale(0.99)?.add(&x[0].detach().mean()?.scale(0.01)?);
    let [error] = check_gradients(&most, &[x], &[true]).unwrap()[..] else { panic!("one input") };
    assert!((0.009..0.011).contains(&error.relative), "{error:?}");
}

#[test]
fn every_op_with_a_gradient_is_differenced() {
    for op in ops::ALL.iter().filter(|op| op.gradient) {
        assert!((op.cases)().iter().any(|case| case.differences), "{} has no case for finite differences", op.name);
    }
}

#[test]
fn a_second_run_gives_the_same_bits() {
    let devices = [Some(Device::cpu()), common::gpu(false)];
    for device in devices.into_iter().flatten() {
        over_cases(|_, case| {
            let inputs = case.tensors(&Device::cpu()).map_err(|e| e.to_string())?;
            let wanted: Vec<bool> = case.inputs.iter().map(|input| input.gradient).collect();
            let run = || run_with_gradients(case.run, &device, &inputs, &wanted, false).map_err(|e| e.to_string());
            let bits = |runs: Vec<Vec<f32>>| runs.concat().iter().map(|x| x.to_bits()).collect::<Vec<_>>();
            if bits(run()?) == bits(run()?) { Ok(()) } else { Err("the bits differ".into()) }
        });
    }
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    let pool = |n| rayon::ThreadPoolBuilder::new().num_threads(n).build().unwrap();
    let (one, three) = (pool(1), pool(3));
    over_cases(|_, case| {
        let inputs = case.tensors(&Device::cpu()).map_err(|e| e.to_string())?;
        let wanted: Vec<bool> = case.inputs.iter().map(|input| input.gradient).collect();
        let run = || run_with_gradients(case.run, &Device::cpu(), &inputs, &wanted, false).unwrap().concat();
        let bits = |numbers: Vec<f32>| numbers.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        if bits(one.install(run)) == bits(three.install(run)) { Ok(()) } else { Err("the bits differ".into()) }
    });
}

/// f(x) used twice, beside 3x: the gradient must be 2·f′(x) + 3.
#[test]
fn gradients_of_several_uses_add_up() {
    let devices = [Some(Device::cpu()), common::gpu(false)];
    for device in devices.into_iter().flatten() {
        over_cases(|op, case| {
            if !op.gradient || !case.differences {
                return Ok(());
            }
            let fail = |e: engram::Error| e.to_string();
            let inputs = case.tensors(&device).map_err(fail)?;
            let mut leaves = inputs.clone();
            leaves[0] = inputs[0].with_gradient();
            let ones = |x: &Tensor| Array::from_f32(&device, x.shape(), &vec![1.0; x.n_elements()]);

            let y = (case.run)(&leaves).map_err(fail)?;
            let once = y.backward_with(ones(&y).map_err(fail)?).map_err(fail)?;
            let once = once.get(&leaves[0]).unwrap().to_vec().map_err(fail)?;

            let total = |leaves: &[Tensor]| -> engram::Result<Tensor> {
                let twice = (case.run)(leaves)?.sum()?.add(&(case.run)(leaves)?.sum()?)?;
                leaves[0].scale(3.0)?.sum()?.add(&twice)
            };
            let several = total(&leaves).and_then(|y| y.backward()).map_err(fail)?;
            let several = several.get(&leaves[0]).unwrap().to_vec().map_err(fail)?;
            for (once, several) in once.iter().zip(several) {
                let expected = 2.0 * once + 3.0;
                if !((several - expected).abs() <= 1e-5 * (1.0 + expected.abs())) {
                    return Err(format!("{several} instead of {expected}"));
                }
            }
            Ok(())
        });
    }
}

#[test]
fn every_op_refuses_wrong_input_by_name() {
    let devices = [Some(Device::cpu()), common::gpu(false)];
    for device in devices.into_iter().flatten() {
        for op in ops::ALL {
            match (op.refuses)(&device) {
                Ok(_) => panic!("{} accepted wrong input", op.name),
                Err(error) => assert!(error.to_string().starts_with(op.name), "{}: {error}", op.name),
            }
        }
    }
}

/// Ops whose numbers PyTorch has no call for.
const WITHOUT_GOLDEN: &[&str] = &["mixed_targets", "herding", "image_batch", "gradient_scale"];

#[test]
fn values_and_gradients_are_those_of_pytorch() {
    let devices = [Some(Device::cpu()), common::gpu(false)];
    for device in devices.into_iter().flatten() {
        let mut n_cases = 0;
        for op in ops::ALL.iter().filter(|op| !WITHOUT_GOLDEN.contains(&op.name)) {
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(format!("{}.txt", op.name));
            let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
            for golden in golden::parse(&text) {
                let cases = (op.cases)();
                let case = cases.iter().find(|case| case.name == golden.name);
                let case = case.unwrap_or_else(|| panic!("{} has no case {}", op.name, golden.name));
                golden.check(op.name, case.run, &device);
                n_cases += 1;
            }
        }
        assert!(n_cases >= 50, "only {n_cases} golden cases were found");
    }
}
