//! Launches are queued until they are submitted: when kernels are compiled, when the queue is submitted, and what is counted.

mod common;

use engram::Device;
use engram::device::{Array, DType, Grid, Kernel, Workgroup, add_assign, copy, fill, scale};

const HEAD: &str = "
    override WG: u32;
    struct Params { n: u32 }
    @group(0) @binding(0) var<storage, read> a: array<f32>;
    @group(0) @binding(1) var<storage, read> b: array<f32>;
    @group(0) @binding(2) var<storage, read_write> y: array<f32>;
    @group(1) @binding(0) var<uniform> params: Params;
    @compute @workgroup_size(WG)
    fn forward(@builtin(global_invocation_id) id: vec3<u32>) {";

const fn kernel(name: &'static str, source: &'static [&'static str]) -> Kernel {
    Kernel { name, source, entry: "forward", bindings: "rrw", workgroup: Workgroup::Flat, constants: &[] }
}
static PRODUCT: Kernel = kernel("product", &[HEAD, "if id.x < params.n { y[id.x] = a[id.x] * b[id.x]; } }"]);
static BROKEN: Kernel = kernel("broken", &[HEAD, "y[id.x] = nothing; }"]);
static BROKEN_TOO: Kernel = kernel("broken too", &[HEAD, "y[id.x] = nowhere; }"]);

fn array(device: &Device, values: &[f32]) -> Array {
    Array::from_f32(device, [values.len()], values).unwrap()
}

fn empty(device: &Device, n: usize) -> Array {
    Array::empty(device, [n], DType::F32).unwrap()
}

fn launch(kernel: &'static Kernel, arrays: [&Array; 3]) -> engram::Result<()> {
    let Device::Gpu(gpu) = arrays[0].device() else { unreachable!() };
    let n = arrays[2].n_elements();
    gpu.launch_checked(kernel, &arrays, &[n as u32], Grid::Invocations(n))
}

#[test]
fn kernels_are_compiled_together_when_launches_are_handed_over() {
    let Some(device) = common::gpu(false) else { return };
    let (x, y) = (array(&device, &[1.0, 2.0, 3.0]), empty(&device, 3));
    fill(&y, 5.0).unwrap();
    add_assign(&x, &y).unwrap();
    scale(&y, 2.0, &x).unwrap();
    // A whole first step waits, even one of more launches than go into a submission.
    for _ in 0..100 {
        add_assign(&x, &y).unwrap();
    }
    let before = device.counters();
    assert_eq!((before.pipelines, before.submissions, before.dispatches), (0, 0, 103));
    device.flush().unwrap();
    let after = device.counters();
    assert_eq!((after.pipelines, after.submissions, after.dispatches), (3, 2, 103));
    assert_eq!(y.to_vec().unwrap(), [6.0 + 1200.0, 7.0 + 1400.0, 8.0 + 1600.0]);
    copy(&x, &y).unwrap();
    assert_eq!(y.to_vec().unwrap(), [12.0, 14.0, 16.0]);
    assert_eq!(device.counters().pipelines, 4);
}

#[test]
fn an_idle_adapter_gets_few_launches_at_once_a_busy_one_never_fewer() {
    let Some(device) = common::gpu(false) else { return };
    let (x, y) = (array(&device, &[1.0; 64]), empty(&device, 64));
    copy(&x, &y).unwrap();
    device.synchronize().unwrap();
    let submissions_of = |n: u64| {
        let before = device.counters().submissions;
        (0..n).for_each(|_| copy(&x, &y).unwrap());
        device.counters().submissions - before
    };
    assert_eq!(submissions_of(15), 0);
    assert_eq!(submissions_of(1), 1);
    let n = submissions_of(640);
    assert!((10..=40).contains(&n), "{n} submissions of 640 launches");
}

#[test]
fn a_kernel_that_does_not_compile_is_named_when_launches_are_handed_over() {
    for (first, second, word) in [(&BROKEN, &BROKEN_TOO, "nothing"), (&BROKEN_TOO, &BROKEN, "nowhere")] {
        let Some(device) = common::gpu(false) else { return };
        let (x, y) = (array(&device, &[2.0; 3]), empty(&device, 3));
        for kernel in [&PRODUCT, first, second, &PRODUCT] {
            launch(kernel, [&x, &x, &y]).unwrap();
        }
        let error = device.flush().unwrap_err().to_string();
        assert!(error.contains(word) && !error.contains("read-back"), "{error}");
        // Nothing runs after that, and nothing says that it did.
        launch(&PRODUCT, [&x, &x, &y]).unwrap();
        for refused in [device.flush(), device.synchronize(), y.to_vec().map(drop)] {
            assert!(refused.unwrap_err().to_string().contains(word));
        }
    }
}

/// Bytes by hand: what is bound, in whole groups of four words, each binding once.
#[test]
fn traffic_is_what_the_bindings_say() {
    let Some(device) = common::gpu(false) else { return };
    let Device::Gpu(gpu) = &device else { unreachable!() };
    let (x, y, z) = (array(&device, &[1.0; 1001]), empty(&device, 1001), empty(&device, 1001));
    let head = x.slice(64, [5]).unwrap();
    let step = || {
        copy(&x, &y)?;
        add_assign(&x, &y)?;
        launch(&PRODUCT, [&x, &y, &z])?;
        launch(&PRODUCT, [&head, &head, &z.slice(0, [5])?])
    };
    step().unwrap();
    let uses = gpu.profile(|| step().and_then(|()| step())).unwrap();
    let of = |name: &str| uses.iter().find(|row| row.kernel == name).unwrap_or_else(|| panic!("no {name}")).clone();
    let counted = |name: &str| (of(name).dispatches, of(name).read_bytes, of(name).written_bytes);
    // 1001 words are bound as 1004, 5 words as 8.
    assert_eq!(counted("copy"), (2, 2 * 4 * 1004, 2 * 4 * 1004));
    assert_eq!(counted("add_assign"), (2, 2 * 4 * 1004, 2 * 4 * 1004));
    assert_eq!(counted("product"), (4, 2 * 4 * (2 * 1004 + 2 * 8), 2 * 4 * (1004 + 8)));
    assert_eq!(uses.len(), 3);
    assert!(uses.iter().all(|row| row.microseconds.is_none()));
    let one = of("product").per(2);
    assert_eq!((one.dispatches, one.read_bytes, one.written_bytes), (2, 4 * (2 * 1004 + 2 * 8), 4 * (1004 + 8)));
    // Nothing is kept of what ran before, or goes on after.
    assert!(gpu.profile(|| Ok(())).unwrap().is_empty());
    assert!(gpu.trace_summary().is_none());
}
