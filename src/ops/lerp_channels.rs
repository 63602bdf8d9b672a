//! Between two feature maps, channel by channel. Twin: `shaders/lerp_channels.wgsl`.

use super::case::{Case, Fill, Input, Op};
use super::threads::for_rows;
use super::wide::{VALUES_1, VALUES_4, loads};
use crate::device::{Array, DType, Device, Grid, Kernel, PRELUDE, Workgroup};
use crate::error::{Error, Result};
use crate::tensor::{Backward, Destinations, Tensor};

const SHADER: &str = include_str!("../../shaders/lerp_channels.wgsl");
const fn kernel(
    name: &'static str,
    source: &'static [&'static str],
    entry: &'static str,
    bindings: &'static str,
) -> Kernel {
    Kernel { name, source, entry, bindings, workgroup: Workgroup::Flat, constants: &[] }
}
/// By the loads of a plane: four numbers at once, one number.
static FORWARD: [Kernel; 2] = [
    kernel("lerp_channels.forward_4", &[PRELUDE, VALUES_4, SHADER], "forward", "rrrw"),
    kernel("lerp_channels.forward_1", &[PRELUDE, VALUES_1, SHADER], "forward", "rrrw"),
];
static BACKWARD: [Kernel; 2] = [
    kernel("lerp_channels.backward_4", &[PRELUDE, VALUES_4, SHADER], "backward", "rrw"),
    kernel("lerp_channels.backward_1", &[PRELUDE, VALUES_1, SHADER], "backward", "rrw"),
];

impl Tensor {
    /// y[n, c, …] = (1 − w\[c\])·a[n, c, …] + w\[c\]·b[n, c, …]. Shapes: a and b both (N, C) or (N, C, H, W), w (C). da = (1 − w)·dy,
    /// db = w·dy; the weight gets no gradient.
    ///
    /// # Errors
    /// If the shapes differ, or there is not one weight per channel.
    pub fn lerp_channels(&self, other: &Tensor, weight: &Tensor) -> Result<Tensor> {
        const OP: &str = "lerp_channels";
        for tensor in [self, other, weight] {
            tensor.expect_f32(OP)?;
            self.expect_same_device(OP, tensor)?;
        }
        let (shape, (_, channels, _)) = (self.shape(), self.shape().batch_channels_inner());
        if shape != other.shape() || *weight.shape() != [channels] {
            let message = format!(
                "maps of {shape} and {} with weights of {}: the maps must have one shape, and a weight per channel",
                other.shape(),
                weight.shape()
            );
            return Err(Error::op(OP, message));
        }
        let y = Array::empty(&self.device(), shape, DType::F32)?;
        lerp_into(self.array(), other.array(), weight.array(), &y)?;
        let saved = LerpBackward { weight: weight.array().clone() };
        Ok(Tensor::from_op(OP, y, &[self, other], || saved))
    }
}

/// Calls `f` with each of the numbers of y, its place, and its channel's weight.
fn for_channels(y: &mut [f32], channels: usize, inner: usize, weight: &[f32], f: impl Fn(&mut f32, usize, f32) + Sync) {
    for_rows(y, channels * inner, |first, rows| {
        let start = first * channels * inner;
        for (plane, ys) in rows.chunks_mut(inner).enumerate() {
            let w = weight[plane % channels];
            ys.iter_mut().enumerate().for_each(|(i, y)| f(y, start + plane * inner + i, w));
        }
    });
}

/// The kind of kernel, how many loads it makes, and its parameters.
fn launch_of(y: &Array, is_other: bool) -> (usize, usize, [u32; 4]) {
    let (_, channels, inner) = y.shape().batch_channels_inner();
    let (kind, loads_of_plane) = loads(inner);
    let n = y.n_elements() / inner * loads_of_plane;
    (kind, n, [n as u32, channels as u32, loads_of_plane as u32, u32::from(is_other)])
}

fn lerp_into(a: &Array, b: &Array, weight: &Array, y: &Array) -> Result<()> {
    match y.device() {
        Device::Cpu(_) => {
            let (_, channels, inner) = y.shape().batch_channels_inner();
            let (a, b) = (a.cpu(), b.cpu());
            for_channels(&mut y.cpu_mut(), channels, inner, &weight.cpu(), |y, i, w| *y = (1.0 - w) * a[i] + w * b[i]);
            Ok(())
        }
        Device::Gpu(gpu) => {
            let (kind, n, params) = launch_of(y, false);
            gpu.launch(&FORWARD[kind], &[a, b, weight, y], &params, Grid::Invocations(n))
        }
    }
}

struct LerpBackward {
    weight: Array,
}

impl Backward for LerpBackward {
    fn backward(&self, dy: &Array, inputs: &mut Destinations) -> Result<()> {
        for (i, is_other) in [false, true].into_iter().enumerate().filter(|&(i, _)| inputs.wants(i)).collect::<Vec<_>>()
        {
            let dx = inputs.place(i)?;
            match dy.device() {
                Device::Cpu(_) => {
                    let (_, channels, inner) = dy.shape().batch_channels_inner();
                    let dy = dy.cpu();
                    for_channels(&mut dx.cpu_mut(), channels, inner, &self.weight.cpu(), |dx, i, w| {
                        *dx = if is_other { w } else { 1.0 - w } * dy[i];
                    });
                }
                Device::Gpu(gpu) => {
                    let (kind, n, params) = launch_of(dy, is_other);
                    gpu.launch(&BACKWARD[kind], &[dy, &self.weight, &dx], &params, Grid::Invocations(n))?;
                }
            }
        }
        Ok(())
    }
}

pub static OP: Op = Op {
    name: "lerp_channels",
    formula: "y[n,c,…] = (1 − w[c])·a[n,c,…] + w[c]·b[n,c,…]",
    shaders: &["lerp_channels", "values_4", "values_1"],
    kernels: &[&FORWARD[0], &FORWARD[1], &BACKWARD[0], &BACKWARD[1]],
    gradient: true,
    cases: || {
        let run = |x: &[Tensor]| x[0].lerp_channels(&x[1], &x[2]);
        let inputs = |shape: &[usize]| {
            let map = || Input::random(crate::shape::Shape::new(shape).expect("a good shape"));
            vec![map(), map(), Input::constant([shape[1]], Fill::Values(&[0.0, 0.5, 1.0, 0.3]))]
        };
        vec![
            Case::new("matrix", inputs(&[13, 7]), run),
            Case::new("maps", inputs(&[3, 5, 4, 7]), run),
            Case::new("odd_maps", inputs(&[2, 6, 3, 5]), run),
        ]
    },
    refuses: |device| {
        let [a, b] = [[1, 2, 2, 2], [1, 2, 2, 2]].map(|shape| Tensor::from_f32(device, shape, &[0.0; 8]));
        a?.lerp_channels(&b?, &Tensor::from_f32(device, [3], &[0.0; 3])?)
    },
};
