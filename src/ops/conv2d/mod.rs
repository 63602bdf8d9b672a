//! Two-dimensional convolution (cross-correlation, as everywhere in deep learning). Twins:
//! `shaders/conv2d_forward.wgsl`, `conv2d_backward_input.wgsl`, `conv2d_backward_weight.wgsl` on `gemm_8x8.wgsl`.
//!
//! On either device all three passes are implicit matrix products: the matrix of patches is never stored. The CPU's are
//! in `cpu.rs`, on `product.rs`, `layout.rs` and `transpose.rs`; the GPU's in `gpu.rs`. Of 3×3 kernels `winograd/` computes many
//! by fewer products, on either.

mod cpu;
mod families;
pub mod folded;
mod gpu;
mod hardware;
mod layout;
mod product;
mod transpose;
mod winograd;

use super::batch_norm::takes_moments;
use super::case::{Case, Input, Op, Tolerance};
use super::channel_sum::channel_sum_into;
use crate::device::{Array, DType, Device};
use crate::error::{Error, Result};
use crate::tensor::{Backward, Destinations, Tensor};
pub use families::{matrix_kernels, tile_kernels};
use folded::Finish;
pub use hardware::candidates;

/// How a kernel moves over the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conv2d {
    /// Pixels between neighbouring outputs.
    pub stride: usize,
    /// Zeros around the image.
    pub padding: usize,
    /// Pixels between neighbouring elements of the kernel.
    pub dilation: usize,
}

impl Conv2d {
    /// A kernel whose elements meet neighbouring pixels.
    pub const fn new(stride: usize, padding: usize) -> Conv2d {
        Conv2d { stride, padding, dilation: 1 }
    }

    /// Outputs along an axis of `size` pixels for a kernel of `kernel` elements, if there are any:
    /// ⌊(size + 2·padding − dilation·(kernel − 1) − 1) / stride⌋ + 1.
    pub fn outputs(&self, size: usize, kernel: usize) -> Option<usize> {
        let &Conv2d { stride, padding, dilation } = self;
        let reach = dilation.checked_mul(kernel.checked_sub(1)?)?.checked_add(1)?;
        let padded = padding.checked_mul(2)?.checked_add(size)?;
        Some(padded.checked_sub(reach)?.checked_div(stride)? + 1)
    }
}

/// All sizes of one convolution. One letter per axis: N batch, C in-channels, H, W, O out-channels, K kernel, P, Q output.
#[derive(Clone, Copy, Debug)]
struct Sizes {
    n: usize,
    c: usize,
    h: usize,
    w: usize,
    o: usize,
    kh: usize,
    kw: usize,
    p: usize,
    q: usize,
    stride: usize,
    padding: usize,
    dilation: usize,
}

/// Gives room for so many rows of a gradient, of which the sum is wanted.
type Place<'a> = &'a mut dyn FnMut(usize) -> Result<Array>;

/// Pairs of the phases of a stride are slices of a grid, which has at most 65,535.
const MAX_STRIDE: usize = 255;

impl Tensor {
    /// y[n, o, p, q] = b\[o\] + Σ_{c, i, j} w[o, c, i, j] · x[n, c, p·s + i·d − padding, q·s + j·d − padding] with the stride s
    /// and the dilation d, zero outside the image. Shapes: x (N, C, H, W), w (O, C, KH, KW), b (O) → y (N, O, P, Q) with
    /// P = ⌊(H + 2·padding − d·(KH − 1) − 1) / s⌋ + 1.
    ///
    /// # Errors
    /// If the shapes do not fit, the kernel is larger than the padded image, or the stride than 255.
    pub fn conv2d(&self, weight: &Tensor, bias: Option<&Tensor>, geometry: Conv2d) -> Result<Tensor> {
        Ok(self.convolved(weight, bias, geometry, false)?.0)
    }

    /// The same and, for a batch norm that follows, the moments of parts of the result where the kernel gives them: (O, parts, 4), as
    /// shaders/batch_norm_moments.wgsl has them.
    fn convolved(
        &self,
        weight: &Tensor,
        bias: Option<&Tensor>,
        geometry: Conv2d,
        normalized: bool,
    ) -> Result<(Tensor, Option<Array>)> {
        self.expect_f32("conv2d")?;
        weight.expect_f32("conv2d")?;
        self.expect_same_device("conv2d", weight)?;
        if let Some(bias) = bias {
            bias.expect_f32("conv2d")?;
            self.expect_same_device("conv2d", bias)?;
        }
        let sizes = Sizes::new(self, weight, bias, geometry)?;
        let device = self.device();
        let y = Array::empty(&device, [sizes.n, sizes.o, sizes.p, sizes.q], DType::F32)?;
        let n_moments = match &device {
            Device::Gpu(gpu) if normalized && takes_moments(gpu, sizes.n, sizes.p * sizes.q) => {
                hardware::n_moments(&sizes, gpu)
            }
            _ => None,
        };
        let moments = n_moments.map(|n| Array::empty(&device, [sizes.o, n, 4], DType::F32)).transpose()?;
        let finish = Finish { bias: bias.map(Tensor::array), norm: None, moments: moments.as_ref() };
        match &device {
            Device::Cpu(_) => cpu::forward(&sizes, self.array(), weight.array(), finish, &y)?,
            Device::Gpu(gpu) => gpu::forward(&sizes, gpu, self.array(), weight.array(), finish, &y)?,
        }
        let saved = Conv2dBackward { sizes, x: self.array().clone(), weight: weight.array().clone() };
        let inputs: Vec<&Tensor> = [self, weight].into_iter().chain(bias).collect();
        Ok((Tensor::from_op("conv2d", y, &inputs, || saved), moments))
    }
}

impl Sizes {
    fn new(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, geometry: Conv2d) -> Result<Sizes> {
        let Conv2d { stride, padding, dilation } = geometry;
        let unfit = |what: &str| {
            let (x, w) = (x.shape(), weight.shape());
            let geometry = format!("stride {stride}, padding {padding}, dilation {dilation}");
            Err(Error::op("conv2d", format!("{what}: x {x}, weight {w}, {geometry}")))
        };
        let (&[n, c, h, w], &[o, c_weight, kh, kw]) = (&*x.shape(), &*weight.shape()) else {
            return unfit("the input and the weight need four axes");
        };
        if c != c_weight {
            return unfit("the channels of input and weight differ");
        }
        if bias.is_some_and(|b| *b.shape() != [o]) {
            return unfit("the bias has not one number per out-channel");
        }
        if stride == 0 || dilation == 0 {
            return unfit("the stride or the dilation is 0");
        }
        if stride > MAX_STRIDE {
            return unfit("the stride is larger than 255");
        }
        let (Some(p), Some(q)) = (geometry.outputs(h, kh), geometry.outputs(w, kw)) else {
            return unfit("the kernel is larger than the padded image");
        };
        // Positions are computed with 32 bits, with room to go below zero.
        if [[h, w], [p, q]].iter().flatten().any(|&size| size.saturating_add(2 * padding) > i32::MAX as usize) {
            return unfit("the padded image is too large");
        }
        Ok(Sizes { n, c, h, w, o, kh, kw, p, q, stride, padding, dilation })
    }

    /// Length of a patch: C·KH·KW.
    fn patch(&self) -> usize {
        self.c * self.kh * self.kw
    }

    /// The greatest common divisor of stride and dilation.
    fn divisor(&self) -> usize {
        let (mut a, mut b) = (self.stride, self.dilation);
        while b > 0 {
            (a, b) = (b, a % b);
        }
        a
    }

    /// Assigns the input gradient, or adds it to what is there.
    fn backward_input(&self, dy: &Array, weight: &Array, inputs: &mut Destinations) -> Result<()> {
        let (dx, adds) = inputs.place_or_sum(0)?;
        match dy.device() {
            Device::Cpu(_) => {
                let packed = Array::empty(&dx.device(), [cpu::packed_len(self, self.c)], DType::F32)?;
                cpu::backward_input(self, &dy.cpu(), &weight.cpu(), &mut packed.cpu_mut(), adds, &mut dx.cpu_mut());
                Ok(())
            }
            Device::Gpu(gpu) => gpu::backward_input(self, &gpu, dy, weight, &dx, adds),
        }
    }

    /// Assigns rows whose sum is the weight gradient, as many as it asks `place` for.
    fn backward_weight(&self, dy: &Array, x: &Array, place: Place) -> Result<()> {
        match dy.device() {
            Device::Cpu(_) => {
                let sums = Array::empty(&dy.device(), [cpu::sums_len(self)], DType::F32)?;
                cpu::backward_weight(self, &dy.cpu(), &x.cpu(), &mut sums.cpu_mut(), &mut place(1)?.cpu_mut());
                Ok(())
            }
            Device::Gpu(gpu) => gpu::backward_weight(self, &gpu, dy, x, place),
        }
    }
}

struct Conv2dBackward {
    sizes: Sizes,
    x: Array,
    weight: Array,
}

impl Backward for Conv2dBackward {
    fn backward(&self, dy: &Array, inputs: &mut Destinations) -> Result<()> {
        if inputs.wants(0) {
            self.sizes.backward_input(dy, &self.weight, inputs)?;
        }
        if inputs.wants(1) {
            self.sizes.backward_weight(dy, &self.x, &mut |n_rows| inputs.place_rows(1, n_rows))?;
        }
        if inputs.has(2) && inputs.wants(2) {
            channel_sum_into(dy, &inputs.place(2)?)?;
        }
        Ok(())
    }
}

/// x, weight and bias of these sizes.
fn inputs([n, c, h, w]: [usize; 4], [o, kh, kw]: [usize; 3]) -> Vec<Input> {
    vec![Input::random([n, c, h, w]), Input::random([o, c, kh, kw]), Input::random([o])]
}

/// A case with a bias; the constants are its geometry.
fn case<const STRIDE: usize, const PADDING: usize>(name: &'static str, x: [usize; 4], w: [usize; 3]) -> Case {
    dilated::<STRIDE, PADDING, 1>(name, x, w)
}

/// A case with a bias whose kernel has gaps.
fn dilated<const STRIDE: usize, const PADDING: usize, const DILATION: usize>(
    name: &'static str,
    x: [usize; 4],
    w: [usize; 3],
) -> Case {
    Case::new(name, inputs(x, w), |x| {
        x[0].conv2d(&x[1], Some(&x[2]), Conv2d { stride: STRIDE, padding: PADDING, dilation: DILATION })
    })
    // The longest sum is that of a weight's gradient: all output pixels.
    .tolerance(Tolerance::Product((x[1] * w[1] * w[2]).max(x[0] * x[2] * x[3])))
}

pub static OP: Op = Op {
    name: "conv2d",
    formula: "y[n,o,p,q] = b[o] + Σ_{c,i,j} w[o,c,i,j] · x[n,c,p·s+i·d−pad,q·s+j·d−pad]",
    shaders: &[
        "conv2d",
        "conv2d_bias",
        "conv2d_y",
        "conv2d_forward",
        "conv2d_backward_input",
        "conv2d_backward_weight",
        "gemm_8x8",
        "pack",
        "conv2d_window",
        "conv2d_window_fours",
        "conv2d_window_scalars",
        "conv2d_forward_window",
        "conv2d_weight_rows",
        "conv2d_weight_scalars",
        "conv2d_weight_flipped",
        "conv2d_backward_weight_window",
        "conv2d_dy_fours",
        "conv2d_dy_scalars",
        "conv2d_y_fours",
        "conv2d_put_scalars",
        "conv2d_forward_fours",
        "conv2d_direct",
        "conv2d_direct_end",
        "conv2d_direct_moments",
        "conv2d_turn_weight",
        "conv2d_winograd",
        "conv2d_winograd_y",
        "matmul_tile",
        "conv2d_backward_input_phases",
        "conv2d_backward_input_sparse",
        "conv2d_backward_input_fours",
        "conv2d_backward_weight_fours",
        "gemm_tile",
        "gemm_dot",
        "gemm_a_along_k",
        "gemm_a_fours",
        "gemm_b_fours",
        "column_sums",
    ],
    kernels: gpu::KERNELS,
    gradient: true,
    cases: || {
        vec![
            case::<1, 1>("k3_s1_p1", [2, 3, 7, 6], [5, 3, 3]),
            case::<2, 2>("k5_s2_p2", [2, 3, 9, 8], [4, 5, 5]),
            case::<1, 0>("k3x2_s1_p0", [3, 2, 6, 5], [5, 3, 2]),
            case::<2, 0>("k1_s2_p0", [2, 5, 7, 6], [3, 1, 1]),
            case::<3, 1>("k3_s3_p1", [2, 2, 8, 11], [3, 3, 3]),
            Case::new("no_bias_k3_s1_p1", vec![Input::random([2, 3, 5, 4]), Input::random([4, 3, 3, 3])], |x| {
                x[0].conv2d(&x[1], None, Conv2d::new(1, 1))
            })
            .tolerance(Tolerance::Product(40)),
            case::<1, 2>("several_tiles", [3, 9, 13, 11], [17, 5, 5]).without_differences(),
            case::<1, 1>("groups_of_images", [17, 2, 4, 3], [5, 3, 3]).without_differences(),
            case::<1, 1>("groups_of_images_several_panels", [9, 30, 3, 3], [70, 3, 3]).without_differences(),
            case::<2, 0>("groups_of_images_unpadded_s2", [17, 70, 5, 4], [20, 1, 1]).without_differences(),
            case::<1, 0>("one_pixel", [1, 1, 1, 1], [1, 1, 1]),
            case::<2, 3>("padding_exceeds_image", [1, 2, 2, 3], [2, 4, 5]),
            dilated::<1, 2, 2>("k3_d2_s1_p2", [2, 3, 7, 6], [5, 3, 3]),
            dilated::<2, 3, 3>("k3_d3_s2_p3", [2, 2, 8, 11], [3, 3, 3]),
            dilated::<2, 1, 2>("k3x2_d2_s2_p1", [3, 2, 9, 6], [5, 3, 2]),
            dilated::<4, 2, 6>("k2_d6_s4_p2", [1, 2, 13, 11], [3, 2, 2]),
            case::<1, 1>("rows_17_to_32", [2, 20, 9, 7], [24, 3, 3]).without_differences(),
            case::<1, 1>("rows_33_to_64", [2, 33, 6, 10], [40, 3, 3]).without_differences(),
            case::<1, 1>("rows_over_64_many_columns", [140, 2, 16, 16], [65, 1, 1]).without_differences(),
            case::<4, 0>("stride_exceeds_image", [2, 3, 2, 5], [3, 2, 2]),
            case::<1, 1>("direct", [3, 5, 9, 12], [7, 3, 3]).without_differences(),
            case::<1, 1>("direct_bands", [2, 16, 35, 8], [16, 3, 3]).without_differences(),
            case::<1, 1>("whole_windows", [2, 12, 6, 16], [36, 3, 3]).without_differences(),
            case::<1, 2>("whole_windows_k5", [2, 4, 6, 8], [20, 5, 5]).without_differences(),
            case::<1, 0>("whole_windows_k1", [3, 20, 5, 8], [40, 1, 1]).without_differences(),
            case::<2, 1>("even_phases", [3, 18, 6, 16], [20, 3, 3]).without_differences(),
            case::<2, 0>("even_pixels", [3, 18, 6, 8], [20, 1, 1]).without_differences(),
            case::<2, 1>("odd_phases", [2, 5, 7, 8], [20, 3, 3]).without_differences(),
            case::<1, 1>("narrow_images", [9, 24, 2, 2], [36, 3, 3]).without_differences(),
            case::<1, 1>("few_products_k3_s1_p1", [2, 20, 5, 4], [21, 3, 3]),
            case::<1, 0>("few_products_unpadded", [3, 21, 8, 7], [20, 3, 3]).without_differences(),
            case::<1, 2>("few_products_wide_padding", [2, 20, 4, 6], [70, 3, 3]).without_differences(),
            case::<1, 3>("few_products_wider_padding", [1, 20, 5, 4], [20, 3, 3]).without_differences(),
            case::<1, 1>("few_products_in_bands", [2, 40, 37, 34], [20, 3, 3]).without_differences(),
            case::<1, 1>("few_products_small_images", [70, 70, 4, 4], [40, 3, 3]).without_differences(),
            case::<1, 1>("few_products_many_channels", [2, 160, 6, 5], [164, 3, 3]).without_differences(),
            case::<1, 2>("few_products_any_channels", [3, 161, 5, 4], [163, 3, 3]).without_differences(),
            case::<1, 0>("few_products_many_unpadded", [1, 128, 9, 7], [256, 3, 3]).without_differences(),
            case::<1, 1>("few_products_one_tile", [9, 164, 2, 2], [160, 3, 3]).without_differences(),
            dilated::<1, 2, 2>("fours_of_any_pixels", [3, 8, 5, 7], [36, 3, 3]).without_differences(),
        ]
    },
    refuses: |device| {
        let x = Tensor::from_f32(device, [1, 2, 3, 3], &[0.0; 18])?;
        let w = Tensor::from_f32(device, [1, 1, 3, 3], &[0.0; 9])?;
        x.conv2d(&w, None, Conv2d::new(1, 1))
    },
};
