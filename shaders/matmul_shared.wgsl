// Matrix product y = op(a) · op(b), where op transposes or not: both are read by strides.
//
//   y[m, n] = Σ_k a[m·a_row + k·a_depth] · b[k·b_depth + n·b_column]          y (M, N)
//
// The holes of gemm_shared.wgsl. CPU twin: src/ops/matmul.rs

struct Params {
    n_rows: u32,
    n_columns: u32,
    depth: u32,
    a_row: u32,
    a_depth: u32,
    b_depth: u32,
    b_column: u32,
}

@group(0) @binding(0) var<storage, read> a: array<f32>;
@group(0) @binding(1) var<storage, read> b: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;
@group(1) @binding(0) var<uniform> params: Params;

struct Columns {
    n: u32,         // the first of four
    at: vec4<u32>,  // where they start in b; the last one stands for those that do not exist
}

fn extent() -> Extent {
    return Extent(params.n_rows, (params.n_columns + 3u) / 4u, 0u, params.depth);
}

fn columns_at(four: u32) -> Columns {
    let n = vec4<u32>(4u * four) + vec4<u32>(0u, 1u, 2u, 3u);
    return Columns(4u * four, min(n, vec4<u32>(params.n_columns - 1u)) * params.b_column);
}

fn load_a(m: u32, k: u32) -> vec4<f32> {
    let rows = min(vec4<u32>(m) + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(params.n_rows - 1u));
    let at = rows * params.a_row + vec4<u32>(k * params.a_depth);
    return vec4<f32>(a[at.x], a[at.y], a[at.z], a[at.w]);
}

fn load_b(columns: Columns, k: u32) -> vec4<f32> {
    let at = columns.at + vec4<u32>(k * params.b_depth);
    return vec4<f32>(b[at.x], b[at.y], b[at.z], b[at.w]);
}

fn store(m: u32, columns: Columns, c: vec4<f32>) {
    let at = m * params.n_columns + columns.n;
    let n = params.n_columns - columns.n;
    y[at] = c.x;
    if n > 1u { y[at + 1u] = c.y; }
    if n > 2u { y[at + 2u] = c.z; }
    if n > 3u { y[at + 3u] = c.w; }
}
