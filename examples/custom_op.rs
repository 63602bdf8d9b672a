//! A new op written outside the crate: SiLU, y = x · σ(x), with its derivative, its own WGSL kernels and their CPU version. Then the
//! two checks that every op of the crate goes through.
//!
//! ```text
//! cargo run --release --example custom_op
//! ```

use engram::device::{Array, DType, Grid, Kernel, Options, PRELUDE, Selection, Workgroup};
use engram::ops::{Case, Fill, Input, Tolerance, compare};
use engram::tensor::{Backward, Destinations, check_gradients};
use engram::{Device, Error, Result, Tensor};

// 1. The kernels: WGSL text, an entry point, and one letter per tensor: r is read, w is written.
const SOURCE: &[&str] = &[PRELUDE, include_str!("custom_op.wgsl")];
const fn kernel(name: &'static str, entry: &'static str, bindings: &'static str) -> Kernel {
    Kernel { name, source: SOURCE, entry, bindings, workgroup: Workgroup::Flat, constants: &[] }
}
static FORWARD: Kernel = kernel("silu.forward", "forward", "rw");
static BACKWARD: Kernel = kernel("silu.backward", "backward", "rrw");

fn sigmoid(x: f32) -> f32 {
    let e = (-x.abs()).exp();
    (if x >= 0.0 { 1.0 } else { e }) / (1.0 + e)
}

// 2. Forward: check the input, take an array from the pool, fill it on either device, hang the node on the result.
fn silu(x: &Tensor) -> Result<Tensor> {
    if x.array().dtype() != DType::F32 {
        return Err(Error::op("silu", "the input holds labels, not numbers"));
    }
    let y = Array::empty(&x.device(), x.shape(), DType::F32)?;
    let n = x.n_elements();
    match x.device() {
        Device::Cpu(_) => {
            for (y, &x) in y.cpu_mut().iter_mut().zip(&*x.array().cpu()) {
                *y = x * sigmoid(x);
            }
        }
        Device::Gpu(gpu) => {
            gpu.launch_checked(&FORWARD, &[x.array(), &y], &[n as u32], Grid::Invocations(n.div_ceil(4)))?;
        }
    }
    Ok(Tensor::from_op("silu", y, &[x], || SiluBackward { x: x.array().clone() }))
}

// 3. Backward: dx = dy · σ(x) · (1 + x · (1 − σ(x))), assigned to the place that the tape hands out. Only the tape adds.
struct SiluBackward {
    x: Array,
}

impl Backward for SiluBackward {
    fn backward(&self, dy: &Array, inputs: &mut Destinations) -> Result<()> {
        let dx = inputs.place(0)?;
        let n = dy.n_elements();
        match dy.device() {
            Device::Cpu(_) => {
                for ((dx, &dy), &x) in dx.cpu_mut().iter_mut().zip(&*dy.cpu()).zip(&*self.x.cpu()) {
                    *dx = dy * sigmoid(x) * (1.0 + x * (1.0 - sigmoid(x)));
                }
            }
            Device::Gpu(gpu) => {
                let grid = Grid::Invocations(n.div_ceil(4));
                gpu.launch_checked(&BACKWARD, &[dy, &self.x, &dx], &[n as u32], grid)?;
            }
        }
        Ok(())
    }
}

fn main() -> Result<()> {
    let x = Tensor::from_f32(&Device::cpu(), [5], &[-20.0, -1.0, 0.0, 1.0, 20.0])?.with_gradient();
    let y = silu(&x)?;
    println!("silu({:?}) = {:?}", x.to_vec()?, y.to_vec()?);
    let gradients = y.sum()?.backward()?;
    println!("derivative: {:?}\n", gradients.get(&x).expect("y depends on x").to_vec()?);

    // 4. The derivative against finite differences.
    let run = |x: &[Tensor]| silu(&x[0]);
    let input = Input::new([7, 33], Fill::Uniform(-4.0, 4.0));
    let case = Case::new("moderate", vec![input], run).tolerance(Tolerance::Exponential);
    let [error] = check_gradients(&run, &case.tensors(&Device::cpu())?, &[true])?[..] else {
        unreachable!("one input")
    };
    println!("against finite differences: relative error {:.1e}", error.relative);
    assert!(error.relative <= 1e-4, "the derivative is wrong");

    // 5. The kernels against the loops, on any adapter there is: a software adapter will do.
    match Selection::Gpu.open(Options::default()) {
        Ok((gpu, _)) => {
            for result in compare(&case, &gpu)? {
                println!("{} on {}: max error {:.1e}", result.what, gpu.describe(), result.max_error);
                assert!(result.passes(), "the kernel and the loop disagree: {result:?}");
            }
        }
        Err(_) => println!("no adapter on this machine: the kernels were not run"),
    }
    Ok(())
}
