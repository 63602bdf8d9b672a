//! Sums over everything but the channels: the gradient of a bias, the sum of the rows of a matrix.
//! Twin: `shaders/channel_sum.wgsl`.

use super::case::{Case, Input, Op, Tolerance};
use super::threads::{for_rows, sum_f64};
use crate::device::{Array, DType, Device, Grid, Kernel, PRELUDE, Workgroup};
use crate::error::Result;
use crate::tensor::{Backward, Destinations, Tensor};
use rayon::prelude::*;

const SOURCE: &[&str] = &[PRELUDE, include_str!("../../shaders/channel_sum.wgsl")];
static INNER: Kernel = Kernel {
    name: "channel_sum.inner",
    source: SOURCE,
    entry: "inner",
    bindings: "rw",
    workgroup: Workgroup::Rows,
    constants: &[],
};
static OUTER: Kernel = Kernel {
    name: "channel_sum.outer",
    source: SOURCE,
    entry: "outer",
    bindings: "rw",
    workgroup: Workgroup::Rows,
    constants: &[],
};
static BACKWARD: Kernel = Kernel {
    name: "channel_sum.backward",
    source: SOURCE,
    entry: "backward",
    bindings: "rw",
    workgroup: Workgroup::Flat,
    constants: &[],
};

impl Tensor {
    /// y\[c\] = Σ_{n, …} x\[n, c, …\]. Shapes: (N, C) or (N, C, H, W) → (C). dx\[n, c, …\] = dy\[c\].
    ///
    /// # Errors
    /// If the input holds labels.
    pub fn channel_sum(&self) -> Result<Tensor> {
        self.expect_f32("channel_sum")?;
        let (_, channels, _) = self.shape().batch_channels_inner();
        let y = Array::empty(&self.device(), [channels], DType::F32)?;
        channel_sum_into(self.array(), &y)?;
        Ok(Tensor::from_op("channel_sum", y, &[self], || ChannelSumBackward))
    }
}

/// y\[c\] ← Σ_{n, …} x\[n, c, …\]: first within each image, then over images, in order.
pub fn channel_sum_into(x: &Array, y: &Array) -> Result<()> {
    let (n, channels, inner) = x.shape().batch_channels_inner();
    match x.device() {
        Device::Cpu(_) => {
            let x = x.cpu();
            let images: Vec<Vec<f64>> = x
                .par_chunks_exact(channels * inner)
                .map(|image| image.chunks_exact(inner).map(sum_f64).collect())
                .collect();
            for (c, y) in y.cpu_mut().iter_mut().enumerate() {
                *y = images.iter().map(|sums| sums[c]).sum::<f64>() as f32;
            }
            Ok(())
        }
        Device::Gpu(gpu) => {
            let outer =
                |x: &Array| gpu.launch(&OUTER, &[x, y], &[n as u32, channels as u32, 1], Grid::Invocations(channels));
            if inner == 1 {
                return outer(x);
            }
            let sums = Array::empty(&x.device(), [n, channels], DType::F32)?;
            let params = [n as u32, channels as u32, inner as u32];
            gpu.launch(&INNER, &[x, &sums], &params, Grid::Invocations(n * channels))?;
            outer(&sums)
        }
    }
}

struct ChannelSumBackward;

impl Backward for ChannelSumBackward {
    fn backward(&self, dy: &Array, inputs: &mut Destinations) -> Result<()> {
        let dx = inputs.place(0)?;
        let (n, channels, inner) = dx.shape().batch_channels_inner();
        match dy.device() {
            Device::Cpu(_) => {
                let dy = dy.cpu();
                for_rows(&mut dx.cpu_mut(), inner, |first, planes| {
                    for (i, plane) in planes.chunks_exact_mut(inner).enumerate() {
                        plane.fill(dy[(first + i) % channels]);
                    }
                });
                Ok(())
            }
            Device::Gpu(gpu) => {
                let params = [n as u32, channels as u32, inner as u32];
                gpu.launch(&BACKWARD, &[dy, &dx], &params, Grid::Invocations(n * channels * inner))
            }
        }
    }
}

pub static OP: Op = Op {
    name: "channel_sum",
    formula: "y[c] = Σ_{n,…} x[n,c,…]",
    shaders: &["channel_sum"],
    kernels: &[&INNER, &OUTER, &BACKWARD],
    gradient: true,
    cases: || {
        let run = |x: &[Tensor]| x[0].channel_sum();
        vec![
            Case::new("matrix", vec![Input::random([13, 7])], run).tolerance(Tolerance::Sum(13)),
            Case::new("image", vec![Input::random([3, 5, 4, 7])], run).tolerance(Tolerance::Sum(84)),
        ]
    },
    refuses: |device| Tensor::from_u32(device, [2], &[1, 2])?.channel_sum(),
};
