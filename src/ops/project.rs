//! A-GEM's projection of one flat gradient onto the half-space of another. Twin: `shaders/project.wgsl`.

use super::case::{Case, Input, Op, Tolerance};
use super::threads::CHUNK;
use super::wide::ROWS;
use crate::device::{Array, DType, Device, Grid, Kernel, PRELUDE, Workgroup};
use crate::error::{Error, Result};
use crate::tensor::Tensor;
use rayon::prelude::*;

const SOURCE: &[&str] = &[PRELUDE, ROWS, include_str!("../../shaders/project.wgsl")];
const fn kernel(name: &'static str, entry: &'static str, bindings: &'static str, workgroup: Workgroup) -> Kernel {
    Kernel { name, source: SOURCE, entry, bindings, workgroup, constants: &[] }
}
static PARTIAL: Kernel = kernel("project.partial", "partial", "rrw", Workgroup::Row);
static FINISH: Kernel = kernel("project.finish", "finish", "rw", Workgroup::Row);
static SUBTRACT: Kernel = kernel("project.subtract", "subtract", "rrw", Workgroup::Flat);

/// Most partial sums of the first of two stages: as many workgroups as keep a large GPU busy.
const MAX_PARTIALS: usize = 512;

/// gradient ← gradient − (⟨gradient, memory⟩/⟨memory, memory⟩)·memory if that product is negative; else it stays as it is,
/// bit by bit. Both of one length.
///
/// # Errors
/// If the lengths differ.
pub fn project(gradient: &Array, memory: &Array) -> Result<()> {
    let n = gradient.n_elements();
    if memory.n_elements() != n {
        return Err(Error::op("project", format!("gradients of {n} and {} numbers", memory.n_elements())));
    }
    if [gradient, memory].iter().any(|array| array.dtype() != DType::F32) {
        return Err(Error::op("project", "gradients must hold numbers"));
    }
    gradient.expect_same_device("project", [memory])?;
    match gradient.device() {
        Device::Cpu(_) => {
            let memory = memory.cpu();
            let mut gradient = gradient.cpu_mut();
            let dots = |(g, r): (&[f32], &[f32])| {
                let dot =
                    |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum::<f64>();
                (dot(g, r), dot(r, r))
            };
            let pieces: Vec<(f64, f64)> = gradient.par_chunks(CHUNK).zip(memory.par_chunks(CHUNK)).map(dots).collect();
            let (gr, rr) = pieces.iter().fold((0.0, 0.0), |(gr, rr), piece| (gr + piece.0, rr + piece.1));
            if gr < 0.0 {
                let factor = (gr / rr) as f32;
                for (g, r) in gradient.iter_mut().zip(memory.iter()) {
                    *g -= factor * r;
                }
            }
            Ok(())
        }
        Device::Gpu(gpu) => {
            let n_partials = n.div_ceil(16).min(MAX_PARTIALS);
            let device = gradient.device();
            let partials = Array::empty(&device, [2 * n_partials], DType::F32)?;
            let dots = Array::empty(&device, [2], DType::F32)?;
            let params = [n as u32, n_partials as u32];
            gpu.launch(&PARTIAL, &[gradient, memory, &partials], &params, Grid::Rows(n_partials))?;
            gpu.launch(&FINISH, &[&partials, &dots], &params, Grid::Rows(1))?;
            gpu.launch(&SUBTRACT, &[&dots, memory, gradient], &params, Grid::Invocations(n.div_ceil(4)))
        }
    }
}

pub static OP: Op = Op {
    name: "project",
    formula: "g = g − (⟨g,r⟩ / ⟨r,r⟩) · r if ⟨g,r⟩ < 0",
    shaders: &["project", "rows"],
    kernels: &[&PARTIAL, &FINISH, &SUBTRACT],
    gradient: false,
    cases: || {
        fn run(x: &[Tensor], sign: f32) -> Result<Tensor> {
            // Certain to agree or to disagree with x[1]: x[0]/10 plus or minus x[1].
            let gradient = x[0].scale(0.1)?.add(&x[1].scale(sign)?)?;
            project(gradient.array(), x[1].array())?;
            Ok(gradient)
        }
        let inputs = |n| (0..2).map(|_| Input { gradient: false, ..Input::random([n]) }).collect();
        vec![
            Case::new("against", inputs(301), |x| run(x, -1.0)).tolerance(Tolerance::Sum(301)),
            Case::new("along", inputs(301), |x| run(x, 1.0)),
            Case::new("long", inputs(10_001), |x| run(x, -1.0)).tolerance(Tolerance::Sum(10_001)),
        ]
    },
    refuses: |device| {
        let [a, b] = [2, 3].map(|n| Array::from_f32(device, [n], &vec![0.0; n]));
        let (a, b) = (a?, b?);
        project(&a, &b).map(|()| Tensor::constant(a))
    },
};
