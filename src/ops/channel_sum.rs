//! Sums over everything but the channels, as the gradient of a bias. Twins: `shaders/channel_sum.wgsl`, on hardware
//! `channel_sum_wide.wgsl`; `column_sums.wgsl` behind either.

use super::case::{Case, Input, Op, Tolerance};
use super::threads::{for_rows, sum_f64};
use super::wide::{ADD_UP, VALUES_1, VALUES_4, WIDTH, lanes, loads};
use crate::device::{
    Array, COLUMN_SUM_KERNELS, ColumnSum, DType, Device, Grid, Kernel, PRELUDE, Workgroup, column_sums,
};
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
const WIDE: &str = include_str!("../../shaders/channel_sum_wide.wgsl");
const fn wide(name: &'static str, entry: &'static str, source: &'static [&'static str]) -> Kernel {
    Kernel { name, source, entry, bindings: "rw", workgroup: Workgroup::Shared, constants: &[] }
}
/// On hardware, by the loads of a row: four numbers at once, one number.
static PLANES: [Kernel; 2] = [
    wide("channel_sum.planes_4", "planes", &[PRELUDE, ADD_UP, VALUES_4, WIDE]),
    wide("channel_sum.planes_1", "planes", &[PRELUDE, ADD_UP, VALUES_1, WIDE]),
];
/// Workgroups that keep a large GPU busy.
const ENOUGH_GROUPS: usize = 512;
/// Loads that each invocation has at least where a sum is cut into slices or strips.
const LOADS: usize = 4;

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
        Device::Gpu(_) if inner == 1 => add_rows(x.reshape([n, channels])?, y),
        Device::Gpu(gpu) if !gpu.is_software() => {
            let (kernel, loads) = loads(inner);
            let n_slices = (n * loads / (LOADS * WIDTH)).min(ENOUGH_GROUPS / channels).clamp(1, n);
            let per_slice = n.div_ceil(n_slices);
            let n_slices = n.div_ceil(per_slice);
            let params = [n, channels, loads, per_slice, lanes(loads)].map(|size| size as u32);
            let grid = Grid::Groups { x: channels, y: n_slices, z: 1 };
            if n_slices == 1 {
                return gpu.launch(&PLANES[kernel], &[x, y], &params, grid);
            }
            let partials = Array::empty(&x.device(), [n_slices, channels], DType::F32)?;
            gpu.launch(&PLANES[kernel], &[x, &partials], &params, grid)?;
            add_rows(partials, y)
        }
        Device::Gpu(gpu) => {
            gpu.expect_turns("channel_sum", n.max(inner))?;
            let sums = Array::empty(&x.device(), [n, channels], DType::F32)?;
            let params = [n as u32, channels as u32, inner as u32];
            gpu.launch(&INNER, &[x, &sums], &params, Grid::Invocations(n * channels))?;
            add_rows(sums, y)
        }
    }
}

/// y ← the sum of the rows of a matrix.
fn add_rows(rows: Array, y: &Array) -> Result<()> {
    column_sums(&[ColumnSum { rows, to: y.clone() }])
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
    shaders: &["channel_sum", "channel_sum_wide", "column_sums", "add_up", "values_4", "values_1"],
    kernels: &[&INNER, &PLANES[0], &PLANES[1], &BACKWARD, COLUMN_SUM_KERNELS[0], COLUMN_SUM_KERNELS[1]],
    gradient: true,
    cases: || {
        let run = |x: &[Tensor]| x[0].channel_sum();
        vec![
            Case::new("matrix", vec![Input::random([13, 7])], run).tolerance(Tolerance::Sum(13)),
            Case::new("image", vec![Input::random([3, 5, 4, 7])], run).tolerance(Tolerance::Sum(84)),
            Case::new("odd_image", vec![Input::random([5, 3, 3, 7])], run).tolerance(Tolerance::Sum(105)),
            // As a weight's gradient has them, with columns left over; few columns, as a linear layer's bias has them.
            Case::new("many_slices", vec![Input::random([301, 1156])], run)
                .tolerance(Tolerance::Sum(301))
                .without_differences(),
            Case::new("few_columns", vec![Input::random([515, 10])], run)
                .tolerance(Tolerance::Sum(515))
                .without_differences(),
            Case::new("slices_of_images", vec![Input::random([67, 3, 16, 18])], run)
                .tolerance(Tolerance::Sum(67 * 288))
                .without_differences(),
            Case::new("slices_of_odd_images", vec![Input::random([39, 2, 19, 17])], run)
                .tolerance(Tolerance::Sum(39 * 323))
                .without_differences(),
        ]
    },
    refuses: |device| Tensor::from_u32(device, [2], &[1, 2])?.channel_sum(),
};
