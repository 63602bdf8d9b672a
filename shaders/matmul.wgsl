// Matrix product y = a · b of packed operands; transposition is a matter of packing.
//
//   y[m, n] = Σ_k a[k, m] · b[k, n]          a (K, M) and b (K, N) packed by pack.wgsl, y (M, N)
//
// outer are fours of k, the depth is 4: beyond K the packed operands are zero. The holes of gemm_8x8.wgsl. CPU twin: src/ops/matmul.rs

struct Params {
    n_rows: u32,
    n_columns: u32,
    depth: u32,
}

@group(0) @binding(1) var<storage, read> b: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;
@group(1) @binding(0) var<uniform> params: Params;

struct Columns {
    n: u32,      // the first column
    at: u32,     // its vec4 in row 0 of b
    second: u32, // 1 if the next vec4 exists
    width: u32,  // vec4s per row of b
}

struct Window {
    b0: vec4<f32>,
    b1: vec4<f32>,
    at: u32,
    second: u32,
    width: u32,
}

fn extent() -> Extent {
    return Extent(params.n_rows, (params.n_columns + 7u) / 8u, 4u, 1u, 0u, (params.depth + 3u) / 4u, 0u, 4u, 0u, 1u);
}

fn columns_at(group: u32) -> Columns {
    let width = (params.n_columns + 3u) / 4u;
    return Columns(8u * group, 2u * group, min(1u, width - 1u - 2u * group), width);
}

fn start(columns: Columns, outer: u32, inner: u32) -> Window {
    return Window(vec4<f32>(0.0), vec4<f32>(0.0), columns.at + 4u * outer * columns.width, columns.second, columns.width);
}

fn advance(window: ptr<function, Window>, d: u32) {
    (*window).b0 = b[(*window).at];
    (*window).b1 = b[(*window).at + (*window).second];
    (*window).at += (*window).width;
}

fn store(m: u32, columns: Columns, c0: vec4<f32>, c1: vec4<f32>) {
    let at = m * params.n_columns + columns.n;
    let n = params.n_columns - columns.n;
    y[at] = c0.x;
    if n > 1u { y[at + 1u] = c0.y; }
    if n > 2u { y[at + 2u] = c0.z; }
    if n > 3u { y[at + 3u] = c0.w; }
    if n > 4u { y[at + 4u] = c1.x; }
    if n > 5u { y[at + 5u] = c1.y; }
    if n > 6u { y[at + 6u] = c1.z; }
    if n > 7u { y[at + 7u] = c1.w; }
}
