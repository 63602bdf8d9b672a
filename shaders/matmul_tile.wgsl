// Matrix products y = op(a) · op(b), where op transposes or not, on gemm_tile.wgsl: rows and columns lie in whole vec4s.
//
//   y[s, m, n] = Σ_k A[s, m, k] · B[s, k, n]          y (S, M, N)
//
// gemm_a_along_k.wgsl or matmul_a_along_rows.wgsl read A, matmul_b_along_….wgsl B. A deep product with few tiles is split: each
// of n_splits slices of y holds the sum over its own per_split k, and column_sums adds the slices in order.
// CPU twin: src/ops/matmul.rs

struct Params {
    n_rows: u32,
    n_columns: u32,
    depth: u32,
    // Numbers from row to row of what is stored; rows of a are those of A or, where A is transposed, its depths.
    a_row: u32,
    b_row: u32,
    // Numbers from product to product of a stack.
    a_slice: u32,
    b_slice: u32,
    n_splits: u32,
    per_split: u32,
}

@group(0) @binding(0) var<storage, read> a: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> b: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> y: array<vec4<f32>>;
@group(1) @binding(0) var<uniform> params: Params;

alias Columns = u32;

fn extent() -> Extent {
    let first = slice % params.n_splits * params.per_split;
    return Extent(params.n_rows, params.n_columns / 4u, first, min(first + params.per_split, params.depth));
}

// Where row m of A starts, as it is stored untransposed.
fn a_row(m: u32) -> u32 {
    return (slice / params.n_splits * params.a_slice + min(m, params.n_rows - 1u) * params.a_row) / 4u;
}

fn columns_at(four: u32) -> Columns {
    return four;
}

fn store(m: u32, columns: Columns, c: vec4<f32>) {
    y[(slice * params.n_rows + m) * params.n_columns / 4u + columns] = c;
}
