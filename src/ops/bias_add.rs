//! Adds one number per channel. Twin: `shaders/bias_add.wgsl`.

use super::case::{Case, Input, Op, Tolerance};
use super::channel_sum::channel_sum_into;
use super::threads::for_rows;
use super::wide::{VALUES_1, VALUES_4, loads};
use crate::device::{Array, DType, Device, Grid, Kernel, PRELUDE, Workgroup};
use crate::error::{Error, Result};
use crate::tensor::{Backward, Destinations, Tensor};

const SHADER: &str = include_str!("../../shaders/bias_add.wgsl");
const fn kernel(name: &'static str, source: &'static [&'static str], entry: &'static str) -> Kernel {
    Kernel { name, source, entry, bindings: "rrw", workgroup: Workgroup::Flat, constants: &[] }
}
/// By the loads of a plane or row: four numbers at once, one number.
static PLANES: [Kernel; 2] = [
    kernel("bias_add.planes_4", &[PRELUDE, VALUES_4, SHADER], "planes"),
    kernel("bias_add.planes_1", &[PRELUDE, VALUES_1, SHADER], "planes"),
];
static COLUMNS: [Kernel; 2] = [
    kernel("bias_add.columns_4", &[PRELUDE, VALUES_4, SHADER], "columns"),
    kernel("bias_add.columns_1", &[PRELUDE, VALUES_1, SHADER], "columns"),
];

impl Tensor {
    /// y[n, c, …] = x[n, c, …] + bias\[c\]. Shapes: x (N, C) or (N, C, H, W), bias (C). dx = dy, dbias = Σ_{n, …} dy.
    ///
    /// # Errors
    /// If the bias has not one number per channel.
    pub fn bias_add(&self, bias: &Tensor) -> Result<Tensor> {
        self.expect_f32("bias_add")?;
        bias.expect_f32("bias_add")?;
        self.expect_same_device("bias_add", bias)?;
        let (_, channels, _) = self.shape().batch_channels_inner();
        if *bias.shape() != [channels] {
            return Err(Error::op(
                "bias_add",
                format!(
                    "a bias of shape {} for an input of shape {}: it must be [{channels}]",
                    bias.shape(),
                    self.shape()
                ),
            ));
        }
        let y = Array::empty(&self.device(), self.shape(), DType::F32)?;
        bias_add_into(self.array(), bias.array(), &y)?;
        Ok(Tensor::from_op("bias_add", y, &[self, bias], || BiasAddBackward))
    }
}

/// y ← x + bias.
pub fn bias_add_into(x: &Array, bias: &Array, y: &Array) -> Result<()> {
    let (_, channels, inner) = x.shape().batch_channels_inner();
    match x.device() {
        Device::Cpu(_) => {
            let (x, bias) = (x.cpu(), bias.cpu());
            for_rows(&mut y.cpu_mut(), inner * channels, |first, rows| {
                let x = &x[first * inner * channels..];
                for (i, (y, x)) in rows.iter_mut().zip(x).enumerate() {
                    *y = x + bias[i / inner % channels];
                }
            });
            Ok(())
        }
        Device::Gpu(gpu) => {
            let rows = x.n_elements() / channels / inner;
            let (kernel, channels, inner) = match inner {
                1 => {
                    let (kind, channels) = loads(channels);
                    (&COLUMNS[kind], channels, 1)
                }
                _ => {
                    let (kind, inner) = loads(inner);
                    (&PLANES[kind], channels, inner)
                }
            };
            let n = rows * channels * inner;
            gpu.launch(kernel, &[x, bias, y], &[n as u32, channels as u32, inner as u32], Grid::Invocations(n))
        }
    }
}

struct BiasAddBackward;

impl Backward for BiasAddBackward {
    fn backward(&self, dy: &Array, inputs: &mut Destinations) -> Result<()> {
        if inputs.wants(0) {
            inputs.pass(0, dy)?;
        }
        if inputs.wants(1) {
            channel_sum_into(dy, &inputs.place(1)?)?;
        }
        Ok(())
    }
}

pub static OP: Op = Op {
    name: "bias_add",
    formula: "y[n,c,…] = x[n,c,…] + b[c]",
    shaders: &["bias_add", "values_4", "values_1"],
    kernels: &[&PLANES[0], &PLANES[1], &COLUMNS[0], &COLUMNS[1]],
    gradient: true,
    cases: || {
        let run = |x: &[Tensor]| x[0].bias_add(&x[1]);
        vec![
            Case::new("matrix", vec![Input::random([13, 7]), Input::random([7])], run).tolerance(Tolerance::Sum(13)),
            Case::new("fours", vec![Input::random([13, 12]), Input::random([12])], run).tolerance(Tolerance::Sum(13)),
            Case::new("odd_channels", vec![Input::random([3, 5, 3, 7]), Input::random([5])], run)
                .tolerance(Tolerance::Sum(63)),
            Case::new("channels", vec![Input::random([3, 5, 4, 7]), Input::random([5])], run)
                .tolerance(Tolerance::Sum(84)),
        ]
    },
    refuses: |device| {
        let x = Tensor::from_f32(device, [2, 3], &[0.0; 6])?;
        x.bias_add(&Tensor::from_f32(device, [2], &[0.0; 2])?)
    },
};
