//! What ops of one element have in common: y = f(x), dx = dy · f′(x, y). Twin of `shaders/map.wgsl`.

use super::threads::CHUNK;
use crate::device::{Array, DType, Device, Grid, Kernel};
use crate::error::Result;
use crate::tensor::{Backward, Destinations, Tensor};
use rayon::prelude::*;

/// dx from dy, x, y, for a piece of all.
type PieceGradient = fn(&[f32], &[f32], &[f32], &mut [f32]);

/// An elementwise op.
pub struct Map {
    pub name: &'static str,
    /// y from x, for a piece of both.
    pub f: fn(&[f32], &mut [f32]),
    /// dx from dy, x, y, for a piece of all.
    pub df: PieceGradient,
    pub forward: &'static Kernel,
    pub backward: &'static Kernel,
}

/// A piece-wise loop from a function of one number.
pub fn each(x: &[f32], y: &mut [f32], f: impl Fn(f32) -> f32) {
    for (y, &x) in y.iter_mut().zip(x) {
        *y = f(x);
    }
}

/// A piece-wise loop from a derivative in terms of (x, y).
pub fn each_gradient(dy: &[f32], x: &[f32], y: &[f32], dx: &mut [f32], df: impl Fn(f32, f32) -> f32) {
    for (((dx, &dy), &x), &y) in dx.iter_mut().zip(dy).zip(x).zip(y) {
        *dx = dy * df(x, y);
    }
}

impl Map {
    pub fn apply(&'static self, x: &Tensor) -> Result<Tensor> {
        x.expect_f32(self.name)?;
        let y = Array::empty(&x.device(), x.shape(), DType::F32)?;
        let n = x.n_elements();
        match x.device() {
            Device::Cpu(_) => {
                let x = x.array().cpu();
                y.cpu_mut().par_chunks_mut(CHUNK).zip(x.par_chunks(CHUNK)).for_each(|(y, x)| (self.f)(x, y));
            }
            Device::Gpu(gpu) => {
                gpu.launch(self.forward, &[x.array(), &y], &[n as u32], Grid::Invocations(n.div_ceil(4)))?;
            }
        }
        let saved = MapBackward { map: self, x: x.array().clone(), y: y.clone() };
        Ok(Tensor::from_op(self.name, y, &[x], || saved))
    }
}

struct MapBackward {
    map: &'static Map,
    x: Array,
    y: Array,
}

impl Backward for MapBackward {
    fn backward(&self, dy: &Array, inputs: &mut Destinations) -> Result<()> {
        let dx = inputs.place(0)?;
        let n = dy.n_elements();
        match dy.device() {
            Device::Cpu(_) => {
                let (dy, x, y) = (dy.cpu(), self.x.cpu(), self.y.cpu());
                dx.cpu_mut()
                    .par_chunks_mut(CHUNK)
                    .zip(dy.par_chunks(CHUNK))
                    .zip(x.par_chunks(CHUNK).zip(y.par_chunks(CHUNK)))
                    .for_each(|((dx, dy), (x, y))| (self.map.df)(dy, x, y, dx));
            }
            Device::Gpu(gpu) => {
                let bindings = [dy, &self.x, &self.y, &dx];
                gpu.launch(self.map.backward, &bindings, &[n as u32], Grid::Invocations(n.div_ceil(4)))?;
            }
        }
        Ok(())
    }
}
