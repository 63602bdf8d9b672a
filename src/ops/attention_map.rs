//! Where feature maps are large: the mean of their squares over channels. Twin: `shaders/attention_map.wgsl`.

use super::case::{Case, Input, Op, Tolerance};
use super::threads::for_rows;
use crate::device::{Array, DType, Device, Grid, Kernel, PRELUDE, Workgroup};
use crate::error::{Error, Result};
use crate::tensor::{Backward, Destinations, Tensor};

const SOURCE: &[&str] = &[PRELUDE, include_str!("../../shaders/attention_map.wgsl")];
static FORWARD: Kernel = Kernel {
    name: "attention_map.forward",
    source: SOURCE,
    entry: "forward",
    bindings: "rw",
    workgroup: Workgroup::Rows,
    constants: &[],
};
static BACKWARD: Kernel = Kernel {
    name: "attention_map.backward",
    source: SOURCE,
    entry: "backward",
    bindings: "rrw",
    workgroup: Workgroup::Flat,
    constants: &[],
};

impl Tensor {
    /// y\[n, p\] = (1/C)·Σ_c x\[n, c, p\]². Shapes: (N, C, H, W) → (N, H·W). dx = 2·x·dy/C.
    ///
    /// # Errors
    /// If the input has no four axes.
    pub fn attention_map(&self) -> Result<Tensor> {
        self.expect_f32("attention_map")?;
        let &[n, channels, h, w] = &*self.shape() else {
            return Err(Error::op("attention_map", format!("{} are no feature maps (N, C, H, W)", self.shape())));
        };
        let plane = h * w;
        let y = Array::empty(&self.device(), [n, plane], DType::F32)?;
        match self.device() {
            Device::Cpu(_) => {
                let x = self.array().cpu();
                for_rows(&mut y.cpu_mut(), plane, |first, rows| {
                    for (image, y) in (first..).zip(rows.chunks_exact_mut(plane)) {
                        y.fill(0.0);
                        for x in x[image * channels * plane..(image + 1) * channels * plane].chunks_exact(plane) {
                            y.iter_mut().zip(x).for_each(|(y, x)| *y += x * x);
                        }
                        y.iter_mut().for_each(|y| *y /= channels as f32);
                    }
                });
            }
            Device::Gpu(gpu) => {
                gpu.expect_turns("attention_map", channels)?;
                let params = [n * plane, channels, plane].map(|size| size as u32);
                gpu.launch(&FORWARD, &[self.array(), &y], &params, Grid::Invocations(n * plane))?;
            }
        }
        let saved = AttentionMapBackward { x: self.array().clone() };
        Ok(Tensor::from_op("attention_map", y, &[self], || saved))
    }
}

struct AttentionMapBackward {
    x: Array,
}

impl Backward for AttentionMapBackward {
    fn backward(&self, dy: &Array, inputs: &mut Destinations) -> Result<()> {
        let dx = inputs.place(0)?;
        let (channels, plane) = (self.x.shape()[1], dy.shape()[1]);
        match dy.device() {
            Device::Cpu(_) => {
                let (dy, x) = (dy.cpu(), self.x.cpu());
                for_rows(&mut dx.cpu_mut(), plane, |first, rows| {
                    for (map, dx) in (first..).zip(rows.chunks_exact_mut(plane)) {
                        let (x, dy) = (&x[map * plane..], &dy[map / channels * plane..]);
                        for ((dx, x), dy) in dx.iter_mut().zip(x).zip(dy) {
                            *dx = 2.0 * x * dy / channels as f32;
                        }
                    }
                });
                Ok(())
            }
            Device::Gpu(gpu) => {
                let n = dx.n_elements();
                let params = [n, channels, plane].map(|size| size as u32);
                gpu.launch(&BACKWARD, &[dy, &self.x, &dx], &params, Grid::Invocations(n))
            }
        }
    }
}

pub static OP: Op = Op {
    name: "attention_map",
    formula: "y[n,p] = Σ_c x[n,c,p]² / C",
    shaders: &["attention_map"],
    kernels: &[&FORWARD, &BACKWARD],
    gradient: true,
    cases: || {
        vec![
            Case::new("maps", vec![Input::random([2, 3, 4, 5])], |x| x[0].attention_map())
                .tolerance(Tolerance::Sum(12)),
        ]
    },
    refuses: |device| Tensor::from_f32(device, [2, 3], &[0.0; 6])?.attention_map(),
};
