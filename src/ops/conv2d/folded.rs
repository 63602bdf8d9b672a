//! A convolution with the batch norm after it folded in, for inference. Twins: `shaders/conv2d_norm.wgsl` and `conv2d_folded.wgsl`
//! with `conv2d_forward.wgsl`, `conv2d_forward_window.wgsl`, `conv2d_forward_fours.wgsl`, `conv2d_winograd_y.wgsl`.

use super::{Conv2d, Sizes, cpu, gpu};
use crate::device::{Array, DType, Device};
use crate::error::{Error, Result};
use crate::ops::batch_norm::{BatchNorm, Mode};
use crate::ops::case::{Case, Fill, Input, Op, Tolerance};
use crate::tensor::{Tensor, is_recorded};

/// What becomes of the sums of a convolution: a bias is added, a batch norm with running statistics, a residual sum and a
/// ReLU follow.
#[derive(Clone, Copy)]
pub struct Finish<'a> {
    pub bias: Option<&'a Array>,
    pub norm: Option<&'a BatchNorm<'a>>,
    /// Where the moments of the result go ([`hardware::n_moments`] says whether they can).
    pub moments: Option<&'a Array>,
}

impl Tensor {
    /// y = act(norm(conv2d(x, w)) + residual): [`Tensor::conv2d`], then [`Tensor::batch_norm`]. With running
    /// statistics, no gradient wanted and a residual of the result's shape both are one pass: the sums of the convolution times
    /// γ / √(var + ε), plus β + (b − mean) · γ / √(var + ε). Shapes: x (N, C, H, W), w (O, C, KH, KW) → y (N, O, P, Q).
    ///
    /// # Errors
    /// As those two ops.
    pub fn conv2d_batch_norm(
        &self,
        weight: &Tensor,
        bias: Option<&Tensor>,
        geometry: Conv2d,
        norm: &BatchNorm,
    ) -> Result<Tensor> {
        let tensors = [self, weight, norm.weight, norm.bias];
        let inputs: Vec<&Tensor> = tensors.into_iter().chain(bias).chain(norm.residual).collect();
        let fits = norm.residual.is_none_or(|residual| has_shape_of_result(self, weight, geometry, residual));
        if norm.mode != Mode::Eval || !fits || is_recorded(&inputs) {
            let (y, moments) = self.convolved(weight, bias, geometry, norm.mode != Mode::Eval)?;
            return y.batch_norm_of(norm, moments.as_ref());
        }
        let refuse = |what: String| Err(Error::op("conv2d_batch_norm", what));
        for tensor in inputs {
            tensor.expect_f32("conv2d_batch_norm")?;
            self.expect_same_device("conv2d_batch_norm", tensor)?;
        }
        self.array().expect_same_device("conv2d_batch_norm", [norm.running])?;
        let sizes = match Sizes::new(self, weight, bias, geometry) {
            Ok(sizes) => sizes,
            Err(error) => return refuse(error.to_string()),
        };
        let shape = [sizes.n, sizes.o, sizes.p, sizes.q];
        let of_channels = |x: &[usize]| *x == [sizes.o];
        if !of_channels(&norm.weight.shape())
            || !of_channels(&norm.bias.shape())
            || *norm.running.shape() != [2, sizes.o]
        {
            return refuse(format!("the batch norm is not one of {} channels", sizes.o));
        }
        let y = Array::empty(&self.device(), shape, DType::F32)?;
        let finish = Finish { bias: bias.map(Tensor::array), norm: Some(norm), moments: None };
        match self.device() {
            Device::Cpu(_) => cpu::forward(&sizes, self.array(), weight.array(), finish, &y)?,
            Device::Gpu(gpu) => gpu::forward(&sizes, &gpu, self.array(), weight.array(), finish, &y)?,
        }
        Ok(Tensor::constant(y))
    }
}

fn has_shape_of_result(x: &Tensor, weight: &Tensor, geometry: Conv2d, residual: &Tensor) -> bool {
    Sizes::new(x, weight, None, geometry).is_ok_and(|Sizes { n, o, p, q, .. }| *residual.shape() == [n, o, p, q])
}

/// A case with running statistics, and a residual if there is a sixth input.
fn run<const STRIDE: usize, const RELU: bool>(x: &[Tensor]) -> Result<Tensor> {
    run_in::<STRIDE, RELU>(Mode::Eval, x)
}

fn run_in<const STRIDE: usize, const RELU: bool>(mode: Mode, x: &[Tensor]) -> Result<Tensor> {
    let norm = BatchNorm {
        weight: &x[2],
        bias: &x[3],
        running: x[4].array(),
        mode,
        momentum: 0.1,
        epsilon: 1e-3,
        residual: x.get(5),
        relu: RELU,
    };
    // Where there is no residual the shift takes part as a bias too.
    let bias = x.get(5).is_none().then_some(&x[3]);
    x[0].conv2d_batch_norm(&x[1], bias, Conv2d::new(STRIDE, 1), &norm)
}

/// Inputs of a case; the running variances must be positive, and so are the means.
fn inputs([n, c, h, w]: [usize; 4], o: usize, residual: Option<[usize; 2]>) -> Vec<Input> {
    let mut inputs = vec![
        Input::constant([n, c, h, w], Fill::Uniform(-1.0, 1.0)),
        Input::constant([o, c, 3, 3], Fill::Uniform(-1.0, 1.0)),
        Input::constant([o], Fill::Uniform(-1.0, 1.0)),
        Input::constant([o], Fill::Uniform(-1.0, 1.0)),
        Input::constant([2, o], Fill::Uniform(0.5, 1.5)),
    ];
    inputs.extend(residual.map(|[p, q]| Input::constant([n, o, p, q], Fill::Uniform(-1.0, 1.0))));
    inputs
}

pub static OP: Op = Op {
    name: "conv2d_batch_norm",
    formula: "y = act(conv2d(x, w) · γ/√(var + ε) + β + (b − mean) · γ/√(var + ε) + residual)",
    shaders: &[
        "conv2d",
        "conv2d_norm",
        "conv2d_folded",
        "conv2d_folded_fours",
        "conv2d_forward",
        "conv2d_forward_window",
        "conv2d_forward_fours",
        "conv2d_direct_moments",
        "conv2d_winograd",
        "conv2d_winograd_y",
        "matmul_tile",
        "gemm_8x8",
        "gemm_tile",
        "pack",
    ],
    kernels: gpu::FOLDED_KERNELS,
    gradient: false,
    cases: || {
        let case = |name, inputs, run| Case::new(name, inputs, run).tolerance(Tolerance::NormalizedProduct);
        vec![
            case("plain", inputs([2, 3, 5, 6], 4, None), run::<1, false>),
            case("relu_s2", inputs([2, 3, 6, 5], 17, None), run::<2, true>),
            case("residual_relu", inputs([3, 4, 7, 5], 5, Some([7, 5])), run::<1, true>),
            case("several_panels", inputs([2, 5, 9, 8], 70, Some([9, 8])), run::<1, true>),
            case("few_products", inputs([2, 160, 5, 6], 164, Some([5, 6])), run::<1, true>),
            // On hardware the convolution gives the batch norm the moments of bands of rows.
            case("batch_statistics", inputs([58, 2, 18, 32], 5, None), |x| run_in::<1, true>(Mode::Frozen, x)),
            case("batch_statistics_residual", inputs([40, 3, 69, 12], 16, Some([69, 12])), |x| {
                run_in::<1, false>(Mode::Frozen, x)
            }),
        ]
    },
    refuses: |device| {
        let zeros = |shape: &[usize]| {
            Tensor::from_f32(device, crate::shape::Shape::new(shape)?, &vec![0.0; shape.iter().product()])
        };
        let inputs = [zeros(&[1, 2, 3, 3])?, zeros(&[1, 2, 3, 3])?, zeros(&[2])?, zeros(&[1])?, zeros(&[2, 1])?];
        run::<1, true>(&inputs)
    },
};
