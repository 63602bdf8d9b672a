//! Two-dimensional convolution (cross-correlation, as everywhere in deep learning). Twins:
//! `shaders/conv2d_forward.wgsl`, `conv2d_backward_input.wgsl`, `conv2d_backward_weight.wgsl` on `gemm_8x8.wgsl`.
//!
//! On either device all three passes are implicit matrix products: the matrix of patches is never stored. The CPU's are
//! in `cpu.rs`, on `product.rs`, `layout.rs` and `transpose.rs`.

mod cpu;
mod layout;
mod product;
mod transpose;

use super::case::{Case, Input, Op, Tolerance};
use super::channel_sum::channel_sum_into;
use super::matmul::{GEMM_8X8, Packing, TILE};
use crate::device::{Array, DType, Device, Gpu, Grid, Kernel, Workgroup};
use crate::error::{Error, Result};
use crate::tensor::{Backward, Destinations, Tensor};

/// With stride 1 neighbouring outputs share pixels, so the window of a tile slides; otherwise it is loaded afresh.
const SLIDING: &[(&str, f64)] = &[("SLIDING", 1.0)];
const STRIDED: &[(&str, f64)] = &[("SLIDING", 0.0)];

const fn kernel(
    name: &'static str,
    source: &'static [&'static str],
    bindings: &'static str,
    constants: &'static [(&'static str, f64)],
) -> Kernel {
    Kernel { name, source, entry: "multiply", bindings, workgroup: Workgroup::Tile, constants }
}
const FORWARD_SOURCE: &[&str] = &[GEMM_8X8, include_str!("../../../shaders/conv2d_forward.wgsl")];
static FORWARD: Kernel = kernel("conv2d.forward", FORWARD_SOURCE, "rrrw", SLIDING);
static FORWARD_STRIDED: Kernel = kernel("conv2d.forward_strided", FORWARD_SOURCE, "rrrw", STRIDED);
const INPUT_SOURCE: &[&str] = &[GEMM_8X8, include_str!("../../../shaders/conv2d_backward_input.wgsl")];
static BACKWARD_INPUT: Kernel = kernel("conv2d.backward_input", INPUT_SOURCE, "rrw", SLIDING);
static BACKWARD_INPUT_STRIDED: Kernel = kernel("conv2d.backward_input_strided", INPUT_SOURCE, "rrw", STRIDED);
const WEIGHT_SOURCE: &[&str] = &[GEMM_8X8, include_str!("../../../shaders/conv2d_backward_weight.wgsl")];
static BACKWARD_WEIGHT: Kernel = kernel("conv2d.backward_weight", WEIGHT_SOURCE, "rrw", &[]);

/// How a kernel moves over the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conv2d {
    /// Pixels between neighbouring outputs.
    pub stride: usize,
    /// Zeros around the image.
    pub padding: usize,
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
}

impl Tensor {
    /// y[n, o, p, q] = b\[o\] + Σ_{c, i, j} w[o, c, i, j] · x[n, c, p·stride + i − padding, q·stride + j − padding],
    /// zero outside the image. Shapes: x (N, C, H, W), w (O, C, KH, KW), b (O) → y (N, O, P, Q) with
    /// P = ⌊(H + 2·padding − KH) / stride⌋ + 1.
    ///
    /// # Errors
    /// If the shapes do not fit or the kernel is larger than the padded image.
    pub fn conv2d(&self, weight: &Tensor, bias: Option<&Tensor>, geometry: Conv2d) -> Result<Tensor> {
        self.expect_f32("conv2d")?;
        weight.expect_f32("conv2d")?;
        self.expect_same_device("conv2d", weight)?;
        if let Some(bias) = bias {
            bias.expect_f32("conv2d")?;
            self.expect_same_device("conv2d", bias)?;
        }
        let sizes = Sizes::new(self, weight, bias, geometry)?;
        let y = Array::empty(&self.device(), [sizes.n, sizes.o, sizes.p, sizes.q], DType::F32)?;
        sizes.forward(self.array(), weight.array(), bias.map(Tensor::array), &y)?;
        let saved = Conv2dBackward { sizes, x: self.array().clone(), weight: weight.array().clone() };
        let inputs: Vec<&Tensor> = [self, weight].into_iter().chain(bias).collect();
        Ok(Tensor::from_op("conv2d", y, &inputs, || saved))
    }
}

impl Sizes {
    fn new(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, geometry: Conv2d) -> Result<Sizes> {
        let Conv2d { stride, padding } = geometry;
        let unfit = |what: &str| {
            let (x, w) = (x.shape(), weight.shape());
            Err(Error::op("conv2d", format!("{what}: x {x}, weight {w}, stride {stride}, padding {padding}")))
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
        if stride == 0 || kh > h + 2 * padding || kw > w + 2 * padding {
            return unfit("the stride is 0 or the kernel is larger than the padded image");
        }
        let (p, q) = ((h + 2 * padding - kh) / stride + 1, (w + 2 * padding - kw) / stride + 1);
        Ok(Sizes { n, c, h, w, o, kh, kw, p, q, stride, padding })
    }

    /// Length of a patch: C·KH·KW.
    fn patch(&self) -> usize {
        self.c * self.kh * self.kw
    }

    fn params(&self) -> [u32; 11] {
        let Sizes { n, c, h, w, o, kh, kw, p, q, stride, padding } = *self;
        [n, c, h, w, o, kh, kw, p, q, stride, padding].map(|size| size as u32)
    }

    fn forward(&self, x: &Array, weight: &Array, bias: Option<&Array>, y: &Array) -> Result<()> {
        match x.device() {
            Device::Cpu(_) => {
                let packed = Array::empty(&y.device(), [cpu::packed_len(self, self.o)], DType::F32)?;
                let bias = bias.map(Array::cpu);
                let packed = &mut packed.cpu_mut();
                cpu::forward(self, &x.cpu(), &weight.cpu(), bias.as_deref(), packed, &mut y.cpu_mut());
                Ok(())
            }
            Device::Gpu(gpu) => {
                let kernel = if self.stride == 1 { &FORWARD } else { &FORWARD_STRIDED };
                let mut params = self.params().to_vec();
                params.push(u32::from(bias.is_some()));
                let patch = self.patch();
                let packing =
                    Packing { n_k: patch, n_m: self.o, inner: patch, outer_step: 0, inner_step: 1, m_step: patch };
                let weight = packing.of(&gpu, weight)?;
                // Without a bias the weight stands in for the binding and is not read.
                let bindings = [&weight, x, bias.unwrap_or(&weight), y];
                let column_groups = self.n * self.p * self.q.div_ceil(TILE);
                gpu.launch(kernel, &bindings, &params, grid(self.o, column_groups, 1))
            }
        }
    }

    fn backward_input(&self, dy: &Array, weight: &Array, dx: &Array) -> Result<()> {
        match dy.device() {
            Device::Cpu(_) => {
                let packed = Array::empty(&dx.device(), [cpu::packed_len(self, self.c)], DType::F32)?;
                cpu::backward_input(self, &dy.cpu(), &weight.cpu(), &mut packed.cpu_mut(), &mut dx.cpu_mut());
                Ok(())
            }
            Device::Gpu(gpu) => {
                let kernel = if self.stride == 1 { &BACKWARD_INPUT } else { &BACKWARD_INPUT_STRIDED };
                let (window, patch) = (self.kh * self.kw, self.patch());
                let (n_k, n_m) = (self.o * window, self.c);
                let packing = Packing { n_k, n_m, inner: window, outer_step: patch, inner_step: 1, m_step: window };
                let weight = packing.of(&gpu, weight)?;
                let grid = grid(self.c, self.n * self.h * self.w.div_ceil(TILE), 1);
                gpu.launch(kernel, &[&weight, dy, dx], &self.params(), grid)
            }
        }
    }

    fn backward_weight(&self, dy: &Array, x: &Array, dw: &Array) -> Result<()> {
        match dy.device() {
            Device::Cpu(_) => {
                let sums = Array::empty(&dy.device(), [cpu::sums_len(self)], DType::F32)?;
                cpu::backward_weight(self, &dy.cpu(), &x.cpu(), &mut sums.cpu_mut(), &mut dw.cpu_mut());
                Ok(())
            }
            Device::Gpu(gpu) => self.backward_weight_split(&gpu, dy, x, dw),
        }
    }

    /// The sum runs over all output pixels of the batch while the result is small: the image rows are split into slices
    /// whose partial sums are added afterwards, in order.
    fn backward_weight_split(&self, gpu: &Gpu, dy: &Array, x: &Array, dw: &Array) -> Result<()> {
        let image_rows = self.n * self.p;
        let tiles = self.o.div_ceil(TILE) * self.patch().div_ceil(TILE);
        // Enough invocations to fill an adapter; the split depends on the shape alone.
        let n_slices = (8192 / tiles).clamp(1, 64).min(image_rows);
        let rows_per_slice = image_rows.div_ceil(n_slices);
        let n_slices = image_rows.div_ceil(rows_per_slice);
        let mut params = self.params().to_vec();
        params.push(rows_per_slice as u32);
        let grid = grid(self.o, self.patch().div_ceil(TILE), n_slices);
        let pixels = self.p * self.q;
        let (n_k, n_m) = (self.n * pixels, self.o);
        let packing = Packing { n_k, n_m, inner: pixels, outer_step: n_m * pixels, inner_step: 1, m_step: pixels };
        let dy = &packing.of(gpu, dy)?;
        if n_slices == 1 {
            return gpu.launch(&BACKWARD_WEIGHT, &[dy, x, dw], &params, grid);
        }
        let partials = Array::empty(&x.device(), [n_slices, self.o * self.patch()], DType::F32)?;
        gpu.launch(&BACKWARD_WEIGHT, &[dy, x, &partials], &params, grid)?;
        channel_sum_into(&partials, dw)
    }
}

fn grid(rows: usize, column_groups: usize, z: usize) -> Grid {
    Grid::Invocations3 { x: column_groups, y: rows.div_ceil(TILE), z }
}

struct Conv2dBackward {
    sizes: Sizes,
    x: Array,
    weight: Array,
}

impl Backward for Conv2dBackward {
    fn backward(&self, dy: &Array, inputs: &mut Destinations) -> Result<()> {
        if inputs.wants(0) {
            self.sizes.backward_input(dy, &self.weight, &inputs.place(0)?)?;
        }
        if inputs.wants(1) {
            self.sizes.backward_weight(dy, &self.x, &inputs.place(1)?)?;
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
    Case::new(name, inputs(x, w), |x| x[0].conv2d(&x[1], Some(&x[2]), Conv2d { stride: STRIDE, padding: PADDING }))
        // The longest sum is that of a weight's gradient: all output pixels.
        .tolerance(Tolerance::Sum((x[1] * w[1] * w[2]).max(x[0] * x[2] * x[3])))
}

pub static OP: Op = Op {
    name: "conv2d",
    formula: "y[n,o,p,q] = b[o] + Σ_{c,i,j} w[o,c,i,j] · x[n,c,p·s+i−pad,q·s+j−pad]",
    shaders: &["conv2d_forward", "conv2d_backward_input", "conv2d_backward_weight", "gemm_8x8", "pack", "channel_sum"],
    kernels: &[&FORWARD, &FORWARD_STRIDED, &BACKWARD_INPUT, &BACKWARD_INPUT_STRIDED, &BACKWARD_WEIGHT],
    gradient: true,
    cases: || {
        vec![
            case::<1, 1>("k3_s1_p1", [2, 3, 7, 6], [5, 3, 3]),
            case::<2, 2>("k5_s2_p2", [2, 3, 9, 8], [4, 5, 5]),
            case::<1, 0>("k3x2_s1_p0", [3, 2, 6, 5], [5, 3, 2]),
            case::<2, 0>("k1_s2_p0", [2, 5, 7, 6], [3, 1, 1]),
            case::<3, 1>("k3_s3_p1", [2, 2, 8, 11], [3, 3, 3]),
            Case::new("no_bias_k3_s1_p1", vec![Input::random([2, 3, 5, 4]), Input::random([4, 3, 3, 3])], |x| {
                x[0].conv2d(&x[1], None, Conv2d { stride: 1, padding: 1 })
            })
            .tolerance(Tolerance::Sum(40)),
            case::<1, 2>("several_tiles", [3, 9, 13, 11], [17, 5, 5]).without_differences(),
            case::<1, 1>("groups_of_images", [17, 2, 4, 3], [5, 3, 3]).without_differences(),
            case::<1, 1>("groups_of_images_several_panels", [9, 30, 3, 3], [70, 3, 3]).without_differences(),
            case::<2, 0>("groups_of_images_unpadded_s2", [17, 70, 5, 4], [20, 1, 1]).without_differences(),
            case::<1, 0>("one_pixel", [1, 1, 1, 1], [1, 1, 1]),
            case::<2, 3>("padding_exceeds_image", [1, 2, 2, 3], [2, 4, 5]),
        ]
    },
    refuses: |device| {
        let x = Tensor::from_f32(device, [1, 2, 3, 3], &[0.0; 18])?;
        let w = Tensor::from_f32(device, [1, 1, 3, 3], &[0.0; 9])?;
        x.conv2d(&w, None, Conv2d { stride: 1, padding: 1 })
    },
};
