// Skeleton of a matrix product with a register tile of 8 rows by 8 columns and no shared memory.
//
//   C[m, n] = Σ_tap Σ_d A(m, tap, d) · B(tap, d, n)        m < n_rows, n < n_columns, d < depth
//
// A plain product has one tap; a convolution has one tap per kernel position (its weight gradient: one per image row),
// so that index arithmetic is done once per tap and not once per product.
//
// The op's own file fills the holes, four rows or columns at a time:
//   fn extent() -> Extent                              sizes, and the taps that this z-slice of the grid adds up
//   fn rows_at(m: vec4<u32>) -> vec4<u32>              what is known of four rows before the loops
//   fn columns_at(n: vec4<u32>) -> Columns             … of four columns
//   fn tap_at(columns: Columns, tap: u32) -> Tap       … and of four columns once per tap
//   fn load_a(rows: vec4<u32>, tap: u32, d: u32) -> vec4<f32>
//   fn load_b(tap: Tap, d: u32) -> vec4<f32>
//   fn store(m: u32, n: u32, value: vec4<f32>)         columns n to n + 3; must skip those >= n_columns
//
// One invocation owns 8 neighbouring rows and 8 neighbouring columns. Surplus rows and columns compute a copy of the
// last one, which is not stored. Sums run in a fixed order.

override WG_X: u32 = 8u;
override WG_Y: u32 = 8u;

struct Extent {
    n_rows: u32,
    n_columns: u32,
    depth: u32,
    first_tap: u32,
    end_tap: u32,
}

// The z-slice of the grid: which part of the taps, for products that are split.
var<private> slice: u32;

@compute @workgroup_size(WG_X, WG_Y)
fn multiply(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_id) lid: vec3<u32>) {
    slice = wid.z;
    let extent = extent();
    let m = (wid.y * WG_Y + lid.y) * 8u;
    let n = (wid.x * WG_X + lid.x) * 8u;
    if m >= extent.n_rows || n >= extent.n_columns {
        return;
    }
    let last_row = vec4<u32>(extent.n_rows - 1u);
    let last_column = vec4<u32>(extent.n_columns - 1u);
    let step = vec4<u32>(0u, 1u, 2u, 3u);
    let rows0 = rows_at(min(m + 0u + step, last_row));
    let rows1 = rows_at(min(m + 4u + step, last_row));
    let columns0 = columns_at(min(n + 0u + step, last_column));
    let columns1 = columns_at(min(n + 4u + step, last_column));

    var c0_0 = vec4<f32>(0.0); var c0_1 = vec4<f32>(0.0);
    var c1_0 = vec4<f32>(0.0); var c1_1 = vec4<f32>(0.0);
    var c2_0 = vec4<f32>(0.0); var c2_1 = vec4<f32>(0.0);
    var c3_0 = vec4<f32>(0.0); var c3_1 = vec4<f32>(0.0);
    var c4_0 = vec4<f32>(0.0); var c4_1 = vec4<f32>(0.0);
    var c5_0 = vec4<f32>(0.0); var c5_1 = vec4<f32>(0.0);
    var c6_0 = vec4<f32>(0.0); var c6_1 = vec4<f32>(0.0);
    var c7_0 = vec4<f32>(0.0); var c7_1 = vec4<f32>(0.0);

    for (var tap = extent.first_tap; tap < extent.end_tap; tap++) {
        let tap0 = tap_at(columns0, tap);
        let tap1 = tap_at(columns1, tap);
        for (var d = 0u; d < extent.depth; d++) {
            let a0 = load_a(rows0, tap, d);
            let a1 = load_a(rows1, tap, d);
            let b0 = load_b(tap0, d);
            let b1 = load_b(tap1, d);
            c0_0 = fma(a0.xxxx, b0, c0_0); c0_1 = fma(a0.xxxx, b1, c0_1);
            c1_0 = fma(a0.yyyy, b0, c1_0); c1_1 = fma(a0.yyyy, b1, c1_1);
            c2_0 = fma(a0.zzzz, b0, c2_0); c2_1 = fma(a0.zzzz, b1, c2_1);
            c3_0 = fma(a0.wwww, b0, c3_0); c3_1 = fma(a0.wwww, b1, c3_1);
            c4_0 = fma(a1.xxxx, b0, c4_0); c4_1 = fma(a1.xxxx, b1, c4_1);
            c5_0 = fma(a1.yyyy, b0, c5_0); c5_1 = fma(a1.yyyy, b1, c5_1);
            c6_0 = fma(a1.zzzz, b0, c6_0); c6_1 = fma(a1.zzzz, b1, c6_1);
            c7_0 = fma(a1.wwww, b0, c7_0); c7_1 = fma(a1.wwww, b1, c7_1);
        }
    }

    if m + 0u < extent.n_rows { store(m + 0u, n + 0u, c0_0); store(m + 0u, n + 4u, c0_1); }
    if m + 1u < extent.n_rows { store(m + 1u, n + 0u, c1_0); store(m + 1u, n + 4u, c1_1); }
    if m + 2u < extent.n_rows { store(m + 2u, n + 0u, c2_0); store(m + 2u, n + 4u, c2_1); }
    if m + 3u < extent.n_rows { store(m + 3u, n + 0u, c3_0); store(m + 3u, n + 4u, c3_1); }
    if m + 4u < extent.n_rows { store(m + 4u, n + 0u, c4_0); store(m + 4u, n + 4u, c4_1); }
    if m + 5u < extent.n_rows { store(m + 5u, n + 0u, c5_0); store(m + 5u, n + 4u, c5_1); }
    if m + 6u < extent.n_rows { store(m + 6u, n + 0u, c6_0); store(m + 6u, n + 4u, c6_1); }
    if m + 7u < extent.n_rows { store(m + 7u, n + 0u, c7_0); store(m + 7u, n + 4u, c7_1); }
}
