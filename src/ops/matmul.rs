//! Matrix product with transposition flags. Twins: `shaders/matmul.wgsl` on `gemm_8x8.wgsl`; on `gemm_tile.wgsl` `matmul_tile.wgsl`
//! where rows lie in whole vec4s, else `matmul_fours.wgsl`.

use super::case::{Case, Input, Op, Tolerance};
use super::channel_sum::channel_sum_into;
use super::coop;
use super::gemm::{Matrix, gemm_rows};
use super::tiles::{
    A_ALONG_K, A_FOURS, B_FOURS, Candidate, GEMM_8X8, GEMM_TILE, PACK, Packing, TILE, Tile, all_tiles, n_splits, plan,
    plan_crosswise, register, register_grid,
};
use crate::device::{Array, DType, Device, Family, Gpu, Kernel, Matrices};
use crate::error::{Error, Result};
use crate::shape::Shape;
use crate::tensor::{Backward, Destinations, Tensor};
use rayon::prelude::*;

static FORWARD: Kernel =
    register("matmul", &[GEMM_8X8, include_str!("../../shaders/matmul.wgsl")], "rrw", &[("DEPTH", 4.0)]);

const SIZES: &str = include_str!("../../shaders/matmul_tile.wgsl");
const A_ALONG_ROWS: &str = include_str!("../../shaders/matmul_a_along_rows.wgsl");
const B_ALONG_K: &str = include_str!("../../shaders/matmul_b_along_k.wgsl");
const B_ALONG_COLUMNS: &str = include_str!("../../shaders/matmul_b_along_columns.wgsl");
/// By whether a is transposed, then b.
static WHOLE: [[Family; 2]; 2] = [
    [
        Family::new("matmul", &[GEMM_TILE, SIZES, A_ALONG_K, B_ALONG_COLUMNS], "multiply", "rrw"),
        Family::new("matmul nt", &[GEMM_TILE, SIZES, A_ALONG_K, B_ALONG_K], "multiply", "rrw"),
    ],
    [
        Family::new("matmul tn", &[GEMM_TILE, SIZES, A_ALONG_ROWS, B_ALONG_COLUMNS], "multiply", "rrw"),
        Family::new("matmul tt", &[GEMM_TILE, SIZES, A_ALONG_ROWS, B_ALONG_K], "multiply", "rrw"),
    ],
];
static FOURS: Family = Family::new(
    "matmul fours",
    &[GEMM_TILE, A_FOURS, B_FOURS, include_str!("../../shaders/matmul_fours.wgsl")],
    "multiply",
    "rrw",
);

/// Every kernel of a product by tiles, on an adapter with so much shared memory.
pub fn tile_kernels(bytes: usize) -> Vec<&'static Kernel> {
    let families = WHOLE.iter().flatten().chain([&FOURS]);
    families.flat_map(|family| all_tiles(bytes, 1).into_iter().map(|tile| tile.kernel(family, &[]))).collect()
}

/// Those on units for small matrices.
pub fn matrix_kernels(matrices: Matrices, bytes: usize) -> Vec<&'static Kernel> {
    let families = WHOLE.iter().flatten().chain([&FOURS]);
    families.flat_map(|family| coop::twins(family, 1, &[], matrices, bytes)).collect()
}

/// A matrix as it is stored, and whether it takes part transposed.
#[derive(Clone, Copy)]
pub struct Operand<'a> {
    pub array: &'a Array,
    pub transposed: bool,
}

impl Operand<'_> {
    /// Rows and columns after transposition.
    fn sizes(&self) -> (usize, usize) {
        let (rows, columns) = self.array.shape().rows_cols();
        if self.transposed { (columns, rows) } else { (rows, columns) }
    }

    /// Steps in the buffer from row to row and from column to column.
    fn strides(&self) -> (usize, usize) {
        let (_, columns) = self.array.shape().rows_cols();
        if self.transposed { (1, columns) } else { (columns, 1) }
    }

    fn flipped(self) -> Self {
        Operand { transposed: !self.transposed, ..self }
    }
}

impl Tensor {
    /// y = self · other. Shapes: (M, K) · (K, N) → (M, N). da = dy · bᵀ, db = aᵀ · dy.
    ///
    /// # Errors
    /// If the inner sizes differ or an input is no matrix.
    pub fn matmul(&self, other: &Tensor) -> Result<Tensor> {
        self.matmul_transposed(false, other, false)
    }

    /// y = op(self) · op(other), where a flag transposes an operand: stored (K, M) or (N, K) then.
    ///
    /// # Errors
    /// If the inner sizes differ or an input is no matrix.
    pub fn matmul_transposed(&self, transpose: bool, other: &Tensor, transpose_other: bool) -> Result<Tensor> {
        for x in [self, other] {
            x.expect_f32("matmul")?;
            if x.shape().len() != 2 {
                return Err(Error::op("matmul", format!("{} is not the shape of a matrix", x.shape())));
            }
        }
        self.expect_same_device("matmul", other)?;
        let a = Operand { array: self.array(), transposed: transpose };
        let b = Operand { array: other.array(), transposed: transpose_other };
        let ((m, k), (k_other, n)) = (a.sizes(), b.sizes());
        if k != k_other {
            return Err(Error::op("matmul", format!("{m}×{k} cannot be multiplied with {k_other}×{n}")));
        }
        let y = Array::empty(&self.device(), [m, n], DType::F32)?;
        multiply(a, b, &y)?;
        let saved = MatmulBackward {
            a: self.array().clone(),
            transpose_a: transpose,
            b: other.array().clone(),
            transpose_b: transpose_other,
        };
        Ok(Tensor::from_op("matmul", y, &[self, other], || saved))
    }
}

/// y ← op(a) · op(b).
pub fn multiply(a: Operand, b: Operand, y: &Array) -> Result<()> {
    let ((m, k), (_, n)) = (a.sizes(), b.sizes());
    let ((a_row, a_depth), (b_depth, b_column)) = (a.strides(), b.strides());
    match y.device() {
        Device::Cpu(_) => {
            let (a, b) = (a.array.cpu(), b.array.cpu());
            // Pieces of rows, at most 8 of them: the split depends on the shape alone.
            let rows = m.div_ceil(8).next_multiple_of(8).max((1 << 15) / (n * k).max(1));
            y.cpu_mut().par_chunks_mut(rows * n).enumerate().for_each(|(piece, y)| {
                let a = Matrix { data: &a[piece * rows * a_row..], row: a_row, column: a_depth };
                let b = Matrix { data: &b, row: b_depth, column: b_column };
                gemm_rows(y.len() / n, k, n, a, b, y, false);
            });
            Ok(())
        }
        Device::Gpu(gpu) => {
            if !gpu.is_software() {
                let a = Stack { array: a.array, row: a_row, column: a_depth, slice: 0 };
                let b = Stack { array: b.array, row: b_depth, column: b_column, slice: 0 };
                return multiply_by(planned(&gpu, [m, n], a), &gpu, [1, m, k, n], a, b, y);
            }
            gpu.expect_turns("matmul", k.div_ceil(4))?;
            let a = Packing { n_k: k, n_m: m, inner: k, outer_step: 0, inner_step: a_depth, m_step: a_row }
                .of(&gpu, a.array)?;
            let b = Packing { n_k: k, n_m: n, inner: k, outer_step: 0, inner_step: b_depth, m_step: b_column }
                .of(&gpu, b.array)?;
            let grid = register_grid(m, n.div_ceil(TILE), 1);
            gpu.launch(&FORWARD, &[&a, &b, y], &[m as u32, n as u32, k as u32], grid)
        }
    }
}

/// Matrices of one shape in a buffer, and the steps in it from row to row, from column to column and to the next matrix.
#[derive(Clone, Copy)]
pub struct Stack<'a> {
    pub array: &'a Array,
    pub row: usize,
    pub column: usize,
    pub slice: usize,
}

impl Stack<'_> {
    /// Whether what lies along a stored row comes in whole vec4s: of (rows, columns) numbers along it.
    fn is_whole(&self, rows: usize, columns: usize) -> bool {
        let (along, step) = if self.is_transposed() { (rows, self.column) } else { (columns, self.row) };
        self.row.min(self.column) == 1 && [along, step, self.slice].iter().all(|size| size.is_multiple_of(4))
    }

    fn is_transposed(&self) -> bool {
        self.column != 1
    }
}

/// The tile of a product of a and so many columns, in the adapter's precision.
fn planned(gpu: &Gpu, [m, n]: [usize; 2], a: Stack) -> Tile {
    match gpu.matrices() {
        None if !a.is_transposed() => plan_crosswise(gpu, m, n, 1),
        _ => coop::plan(gpu, m, n, 1, 1),
    }
}

/// y\[s\] ← a\[s\] · b\[s\] by the tiles in shared memory, in f32. Shapes: (S, M, K) · (S, K, N) → (S, M, N); sizes are S, M, K, N.
pub fn multiply_stack(gpu: &Gpu, [s, m, k, n]: [usize; 4], a: Stack, b: Stack, y: &Array) -> Result<()> {
    multiply_by(plan(gpu, m, n, s, 1), gpu, [s, m, k, n], a, b, y)
}

/// The same with a given tile.
pub fn multiply_by(tile: Tile, gpu: &Gpu, [s, m, k, n]: [usize; 4], a: Stack, b: Stack, y: &Array) -> Result<()> {
    let splits = if s == 1 { n_splits(tile, m, n, k) } else { 1 };
    let per_split = k.div_ceil(splits).next_multiple_of(16);
    let splits = k.div_ceil(per_split);
    let whole = n.is_multiple_of(4) && a.is_whole(m, k) && b.is_whole(k, n);
    let (kernel, params) = if whole {
        let family = &WHOLE[usize::from(a.is_transposed())][usize::from(b.is_transposed())];
        let (a_row, b_row) = (a.row.max(a.column), b.row.max(b.column));
        (tile.kernel(family, &[]), vec![m, n, k, a_row, b_row, a.slice, b.slice, splits, per_split])
    } else {
        let sizes = vec![m, n, k, a.row, a.column, b.row, b.column, a.slice, b.slice, splits, per_split];
        (tile.kernel(&FOURS, &[]), sizes)
    };
    let params: Vec<u32> = params.into_iter().map(|size| size as u32).collect();
    let grid = tile.grid(m, n, s * splits);
    if splits == 1 {
        return gpu.launch(kernel, &[a.array, b.array, y], &params, grid);
    }
    let partials = Array::empty(&y.device(), [splits, m * n], DType::F32)?;
    gpu.launch(kernel, &[a.array, b.array, &partials], &params, grid)?;
    channel_sum_into(&partials, &y.reshape([m * n])?)
}

/// Every way to compute a product on this adapter; flags transpose.
pub fn candidates<'a>(
    gpu: &'a Gpu,
    (a, transpose_a): (&'a Tensor, bool),
    (b, transpose_b): (&'a Tensor, bool),
) -> Result<Vec<Candidate<'a>>> {
    let a = Operand { array: a.array(), transposed: transpose_a };
    let b = Operand { array: b.array(), transposed: transpose_b };
    let ((m, k), (_, n)) = (a.sizes(), b.sizes());
    let y = Array::empty(&a.array.device(), [m, n], DType::F32)?;
    let stack = |operand: Operand<'a>| {
        let (row, column) = operand.strides();
        Stack { array: operand.array, row, column, slice: 0 }
    };
    let (a, b) = (stack(a), stack(b));
    let planned = planned(gpu, [m, n], a);
    let all = coop::all_tiles(gpu, 1).into_iter();
    let candidates = all.map(|tile| {
        let y = y.clone();
        Candidate::new(tile.label(), tile == planned, move || multiply_by(tile, gpu, [1, m, k, n], a, b, &y))
    });
    Ok(candidates.collect())
}

struct MatmulBackward {
    a: Array,
    transpose_a: bool,
    b: Array,
    transpose_b: bool,
}

impl Backward for MatmulBackward {
    fn backward(&self, dy: &Array, inputs: &mut Destinations) -> Result<()> {
        let a = Operand { array: &self.a, transposed: self.transpose_a };
        let b = Operand { array: &self.b, transposed: self.transpose_b };
        let dy = Operand { array: dy, transposed: false };
        // With y = A·B: dA = dY·Bᵀ and dB = Aᵀ·dY. A transposed operand wants the transpose of that.
        if inputs.wants(0) {
            let da = inputs.place(0)?;
            if a.transposed { multiply(b, dy.flipped(), &da)? } else { multiply(dy, b.flipped(), &da)? }
        }
        if inputs.wants(1) {
            let db = inputs.place(1)?;
            if b.transposed { multiply(dy.flipped(), a, &db)? } else { multiply(a.flipped(), dy, &db)? }
        }
        Ok(())
    }
}

fn case(name: &'static str, a: impl Into<Shape>, b: impl Into<Shape>, run: fn(&[Tensor]) -> Result<Tensor>) -> Case {
    let (a, b) = (a.into(), b.into());
    let products = a.iter().chain(b.iter()).copied().max().unwrap_or(1);
    Case::new(name, vec![Input::random(a), Input::random(b)], run).tolerance(Tolerance::Product(products))
}

pub static OP: Op = Op {
    name: "matmul",
    formula: "y = op(a) · op(b), op(x) = x or xᵀ",
    shaders: &[
        "matmul",
        "gemm_8x8",
        "pack",
        "gemm_tile",
        "matmul_tile",
        "gemm_a_along_k",
        "matmul_a_along_rows",
        "matmul_b_along_k",
        "matmul_b_along_columns",
        "matmul_fours",
        "gemm_a_fours",
        "gemm_b_fours",
    ],
    kernels: &[&PACK, &FORWARD],
    gradient: true,
    cases: || {
        vec![
            case("nn", [9, 13], [13, 5], |x| x[0].matmul(&x[1])),
            case("nt", [9, 13], [5, 13], |x| x[0].matmul_transposed(false, &x[1], true)),
            case("tn", [13, 9], [13, 5], |x| x[0].matmul_transposed(true, &x[1], false)),
            case("tt", [13, 9], [5, 13], |x| x[0].matmul_transposed(true, &x[1], true)),
            case("one", [1, 1], [1, 1], |x| x[0].matmul(&x[1])),
            case("several_tiles", [67, 33], [33, 131], |x| x[0].matmul(&x[1])).without_differences(),
            case("middling_tiles", [30, 17], [17, 129], |x| x[0].matmul(&x[1])).without_differences(),
            case("large_tiles", [2050, 5], [5, 2049], |x| x[0].matmul(&x[1])).without_differences(),
            case("whole_tiles", [64, 32], [32, 128], |x| x[0].matmul(&x[1])).without_differences(),
            case("whole_nt", [36, 28], [72, 28], |x| x[0].matmul_transposed(false, &x[1], true)).without_differences(),
            case("whole_tt", [28, 40], [68, 28], |x| x[0].matmul_transposed(true, &x[1], true)).without_differences(),
            case("split_depth", [20, 1300], [1300, 12], |x| x[0].matmul(&x[1])).without_differences(),
            case("split_depth_of_any_length", [7, 777], [777, 5], |x| x[0].matmul(&x[1])).without_differences(),
        ]
    },
    refuses: |device| {
        let a = Tensor::from_f32(device, [2, 3], &[0.0; 6])?;
        a.matmul(&a)
    },
};
