// Matrix product with transposition flags: y = op(a) · op(b).
//
//   y[m, n] = Σ_k a(m, k) · b(k, n)          a is stored (m, k) or (k, m), b (k, n) or (n, k), y (m, n)
//
// The holes of a gemm skeleton. CPU twin: src/ops/matmul.rs

struct Params {
    n_rows: u32,
    n_columns: u32,
    depth: u32,
    a_row: u32,    // step in a from row to row
    a_depth: u32,  // … and from k to k + 1
    b_column: u32, // step in b from column to column
    b_depth: u32,
}

@group(0) @binding(0) var<storage, read> a: array<f32>;
@group(0) @binding(1) var<storage, read> b: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;
@group(1) @binding(0) var<uniform> params: Params;

struct Columns { base: vec4<u32> }
struct Tap { base: vec4<u32> }

fn extent() -> Extent {
    return Extent(params.n_rows, params.n_columns, params.depth, 0u, 1u);
}

fn rows_at(m: vec4<u32>) -> vec4<u32> {
    return m * params.a_row;
}

fn columns_at(n: vec4<u32>) -> Columns {
    return Columns(n * params.b_column);
}

fn tap_at(columns: Columns, tap: u32) -> Tap {
    return Tap(columns.base);
}

fn load_a(rows: vec4<u32>, tap: u32, d: u32) -> vec4<f32> {
    let at = rows + d * params.a_depth;
    return vec4<f32>(a[at.x], a[at.y], a[at.z], a[at.w]);
}

fn load_b(tap: Tap, d: u32) -> vec4<f32> {
    let at = tap.base + d * params.b_depth;
    return vec4<f32>(b[at.x], b[at.y], b[at.z], b[at.w]);
}

fn store(m: u32, n: u32, value: vec4<f32>) {
    let at = m * params.n_columns + n;
    let end = params.n_columns - min(n, params.n_columns);
    if end > 0u { y[at] = value.x; }
    if end > 1u { y[at + 1u] = value.y; }
    if end > 2u { y[at + 2u] = value.z; }
    if end > 3u { y[at + 3u] = value.w; }
}
