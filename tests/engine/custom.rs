//! Kernels from outside the crate: they run beside the crate's own under any name, and stay inside their tensors.

use crate::common;
use engram::device::{Array, DType, Grid, Kernel, Workgroup, add_assign, copy, scale};
use engram::{Device, Tensor};

const HEAD: &str = "
    override WG: u32;
    struct Params { n: u32 }
    @group(0) @binding(0) var<storage, read> x: array<f32>;
    @group(0) @binding(1) var<storage, read_write> y: array<f32>;
    @group(1) @binding(0) var<uniform> params: Params;
    @compute @workgroup_size(WG)
    fn forward(@builtin(global_invocation_id) id: vec3<u32>) {";

const fn kernel(name: &'static str, source: &'static [&'static str]) -> Kernel {
    Kernel { name, source, entry: "forward", bindings: "rw", workgroup: Workgroup::Flat, constants: &[] }
}
/// By its name it could be taken for the crate's own.
static NEGATE: Kernel = kernel("relu.forward", &[HEAD, "if id.x < params.n { y[id.x] = -x[id.x]; } }"]);
/// Writes far behind the end.
static STRAY: Kernel = kernel("stray", &[HEAD, "y[id.x + 1000u * id.x] = 1.0 + x[id.x]; }"]);
static BROKEN: Kernel = kernel("broken", &[HEAD, "y[id.x] = nothing; }"]);

fn launch(device: &Device, kernel: &'static Kernel, x: &Tensor) -> engram::Result<Vec<f32>> {
    let Device::Gpu(gpu) = device else { unreachable!() };
    let n = x.n_elements();
    let y = Array::empty(device, x.shape(), DType::F32)?;
    gpu.launch_checked(kernel, &[x.array(), &y], &[n as u32], Grid::Invocations(n))?;
    y.to_vec()
}

#[test]
fn a_kernel_may_share_the_name_of_one_of_ours() {
    let Some(device) = common::gpu(false) else { return };
    let x = Tensor::from_f32(&device, [3], &[1.0, -2.0, 3.0]).unwrap();
    assert_eq!(x.relu().unwrap().to_vec().unwrap(), [1.0, 0.0, 3.0]);
    assert_eq!(launch(&device, &NEGATE, &x).unwrap(), [-1.0, 2.0, -3.0]);
    assert_eq!(x.relu().unwrap().to_vec().unwrap(), [1.0, 0.0, 3.0]);
}

#[test]
fn a_kernel_from_outside_stays_inside_its_tensors() {
    let Some(device) = common::gpu(false) else { return };
    let x = Tensor::from_f32(&device, [64], &[1.0; 64]).unwrap();
    let bystanders: Vec<Tensor> = (0..64).map(|_| Tensor::from_f32(&device, [64], &[0.5; 64]).unwrap()).collect();
    let y = launch(&device, &STRAY, &x).unwrap();
    assert_eq!(y[0], 2.0);
    for bystander in bystanders {
        assert_eq!(bystander.to_vec().unwrap(), [0.5; 64]);
    }
    assert_eq!(x.to_vec().unwrap(), [1.0; 64]);
}

#[test]
fn a_shader_that_does_not_compile_is_an_error_in_the_compilers_words() {
    let Some(device) = common::gpu(false) else { return };
    let x = Tensor::from_f32(&device, [3], &[1.0, -2.0, 3.0]).unwrap();
    let error = launch(&device, &BROKEN, &x).unwrap_err();
    assert!(error.to_string().contains("nothing"), "{error}");
    assert_eq!(error.exit_code(), 1);
}

#[test]
fn copies_between_unequal_arrays_are_refused() {
    let device_and_other = [(Some(Device::cpu()), common::gpu(false)), (common::gpu(false), Some(Device::cpu()))];
    for (device, other) in device_and_other {
        let Some(device) = device else { continue };
        let array = |device: &Device, n: usize| Array::from_f32(device, [n], &vec![1.0; n]).unwrap();
        let (from, short) = (array(&device, 300), array(&device, 3));
        let mut places = vec![short];
        places.extend(other.map(|other| array(&other, 300)));
        for to in places {
            for result in [copy(&from, &to), add_assign(&from, &to), scale(&from, 2.0, &to)] {
                assert!(result.unwrap_err().to_string().contains("differ"));
            }
            assert!(to.to_vec().unwrap().iter().all(|&x| x == 1.0));
        }
    }
}
