// Skeleton of a matrix product with a register tile of 8 rows by 8 columns and no shared memory.
//
//   C[m, n] = Σ_outer Σ_inner Σ_d A[k, m] · B(outer, inner, d, n),   k = (outer·n_inner + inner)·depth + d
//
// A comes packed (pack.wgsl): four neighbouring rows m in one vec4, so that most loads are wide. B is whatever the op's own
// file makes of it. A plain product has one (outer, inner); a convolution has one per channel and kernel row (its weight
// gradient: one per image row), so that index arithmetic is done once for all d, and neighbouring d can share loads.
//
// The op's own file fills the holes, eight neighbouring columns at a time:
//   fn extent() -> Extent                               sizes, and the part of outer that this z-slice of the grid adds up
//   struct Columns; fn columns_at(group: u32) -> Columns  what is known of columns 8·group … 8·group + 7 before the loops
//   struct Window { b0: vec4<f32>, b1: vec4<f32>, … }   the eight numbers of B, and what is needed to get the next
//   fn start(columns: Columns, outer: u32, inner: u32) -> Window   before d = 0
//   fn advance(window: ptr<function, Window>, d: u32)   makes b0 and b1 those of d
//   fn store(m: u32, columns: Columns, c0: vec4<f32>, c1: vec4<f32>)
//
// One invocation owns 8 rows and 8 columns of C. Sums run in a fixed order.

override WG_X: u32 = 8u;
override WG_Y: u32 = 8u;

struct Extent {
    n_rows: u32,
    n_column_groups: u32,
    depth: u32,
    n_inner: u32,
    first_outer: u32,
    end_outer: u32,
}

// (K, rows), four rows to a vec4, the last filled up with zeros.
@group(0) @binding(0) var<storage, read> a: array<vec4<f32>>;

// The z-slice of the grid: which part of outer, for products that are split.
var<private> slice: u32;

@compute @workgroup_size(WG_X, WG_Y)
fn multiply(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_id) lid: vec3<u32>) {
    slice = wid.z;
    let extent = extent();
    let m = (wid.y * WG_Y + lid.y) * 8u;
    let column_group = wid.x * WG_X + lid.x;
    if m >= extent.n_rows || column_group >= extent.n_column_groups {
        return;
    }
    let columns = columns_at(column_group);
    let a_width = (extent.n_rows + 3u) / 4u;
    var at0 = extent.first_outer * extent.n_inner * extent.depth * a_width + m / 4u;
    // Rows 4 to 7 may not exist: then rows 0 to 3 are computed twice.
    let second = min(1u, a_width - 1u - m / 4u);

    var c00 = vec4<f32>(0.0); var c01 = vec4<f32>(0.0);
    var c10 = vec4<f32>(0.0); var c11 = vec4<f32>(0.0);
    var c20 = vec4<f32>(0.0); var c21 = vec4<f32>(0.0);
    var c30 = vec4<f32>(0.0); var c31 = vec4<f32>(0.0);
    var c40 = vec4<f32>(0.0); var c41 = vec4<f32>(0.0);
    var c50 = vec4<f32>(0.0); var c51 = vec4<f32>(0.0);
    var c60 = vec4<f32>(0.0); var c61 = vec4<f32>(0.0);
    var c70 = vec4<f32>(0.0); var c71 = vec4<f32>(0.0);

    for (var outer = extent.first_outer; outer < extent.end_outer; outer++) {
    for (var inner = 0u; inner < extent.n_inner; inner++) {
        var window = start(columns, outer, inner);
        for (var d = 0u; d < extent.depth; d++) {
            advance(&window, d);
            let a0 = a[at0];
            let a1 = a[at0 + second];
            at0 += a_width;
            c00 = fma(a0.xxxx, window.b0, c00); c01 = fma(a0.xxxx, window.b1, c01);
            c10 = fma(a0.yyyy, window.b0, c10); c11 = fma(a0.yyyy, window.b1, c11);
            c20 = fma(a0.zzzz, window.b0, c20); c21 = fma(a0.zzzz, window.b1, c21);
            c30 = fma(a0.wwww, window.b0, c30); c31 = fma(a0.wwww, window.b1, c31);
            c40 = fma(a1.xxxx, window.b0, c40); c41 = fma(a1.xxxx, window.b1, c41);
            c50 = fma(a1.yyyy, window.b0, c50); c51 = fma(a1.yyyy, window.b1, c51);
            c60 = fma(a1.zzzz, window.b0, c60); c61 = fma(a1.zzzz, window.b1, c61);
            c70 = fma(a1.wwww, window.b0, c70); c71 = fma(a1.wwww, window.b1, c71);
        }
    }
    }

    store(m, columns, c00, c01);
    if m + 1u < extent.n_rows { store(m + 1u, columns, c10, c11); }
    if m + 2u < extent.n_rows { store(m + 2u, columns, c20, c21); }
    if m + 3u < extent.n_rows { store(m + 3u, columns, c30, c31); }
    if m + 4u < extent.n_rows { store(m + 4u, columns, c40, c41); }
    if m + 5u < extent.n_rows { store(m + 5u, columns, c50, c51); }
    if m + 6u < extent.n_rows { store(m + 6u, columns, c60, c61); }
    if m + 7u < extent.n_rows { store(m + 7u, columns, c70, c71); }
}
