// Skeleton of a matrix product with a register tile of 8 rows by 8 columns and no shared memory, for adapters that run in
// software: what they pay for is loads and turns of a loop.
//
//   C[m, n] = Σ_outer Σ_inner Σ_d A[k, m] · B(outer, inner, d, n),   k = origin + outer·outer_step + inner·inner_step + d·d_step
//
// A comes packed (pack.wgsl): four neighbouring rows m in one vec4, so that most loads are wide. B is whatever the op's own
// file makes of it. A convolution has one (outer, inner) per channel and kernel row (its weight gradient: one per piece of an
// image row), so that index arithmetic is done once for all d, and neighbouring d can share loads.
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

// The number of d where it is 1, 3, 4 or 5: written out, it needs no loop. 0: any other.
override DEPTH: u32 = 0u;

struct Extent {
    n_rows: u32,
    n_column_groups: u32,
    depth: u32,
    n_inner: u32,
    first_outer: u32,
    end_outer: u32,
    origin: u32,
    outer_step: u32,
    inner_step: u32,
    d_step: u32,
}

// (K, rows), four rows to a vec4, the last filled up with zeros.
@group(0) @binding(0) var<storage, read> a: array<vec4<f32>>;

// The z-slice of the grid: which part of outer, for products that are split, or which of several products.
var<private> slice: u32;

struct Tile {
    c00: vec4<f32>, c01: vec4<f32>,
    c10: vec4<f32>, c11: vec4<f32>,
    c20: vec4<f32>, c21: vec4<f32>,
    c30: vec4<f32>, c31: vec4<f32>,
    c40: vec4<f32>, c41: vec4<f32>,
    c50: vec4<f32>, c51: vec4<f32>,
    c60: vec4<f32>, c61: vec4<f32>,
    c70: vec4<f32>, c71: vec4<f32>,
}

// Where A is read: the vec4 of rows 0 to 3, how far from it that of rows 4 to 7 is, and how far the next d.
struct Place {
    at: u32,
    second: u32,
    step: u32,
}

// Adds the product of one d.
fn add_product(tile: ptr<function, Tile>, window: ptr<function, Window>, place: ptr<function, Place>, d: u32) {
    advance(window, d);
    let a0 = a[(*place).at];
    let a1 = a[(*place).at + (*place).second];
    (*place).at += (*place).step;
    let b0 = (*window).b0;
    let b1 = (*window).b1;
    (*tile).c00 = fma(a0.xxxx, b0, (*tile).c00); (*tile).c01 = fma(a0.xxxx, b1, (*tile).c01);
    (*tile).c10 = fma(a0.yyyy, b0, (*tile).c10); (*tile).c11 = fma(a0.yyyy, b1, (*tile).c11);
    (*tile).c20 = fma(a0.zzzz, b0, (*tile).c20); (*tile).c21 = fma(a0.zzzz, b1, (*tile).c21);
    (*tile).c30 = fma(a0.wwww, b0, (*tile).c30); (*tile).c31 = fma(a0.wwww, b1, (*tile).c31);
    (*tile).c40 = fma(a1.xxxx, b0, (*tile).c40); (*tile).c41 = fma(a1.xxxx, b1, (*tile).c41);
    (*tile).c50 = fma(a1.yyyy, b0, (*tile).c50); (*tile).c51 = fma(a1.yyyy, b1, (*tile).c51);
    (*tile).c60 = fma(a1.zzzz, b0, (*tile).c60); (*tile).c61 = fma(a1.zzzz, b1, (*tile).c61);
    (*tile).c70 = fma(a1.wwww, b0, (*tile).c70); (*tile).c71 = fma(a1.wwww, b1, (*tile).c71);
}

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
    // Rows 4 to 7 may not exist: then rows 0 to 3 are computed twice.
    var place = Place(0u, min(1u, a_width - 1u - m / 4u), extent.d_step * a_width);

    var tile = Tile();
    // One loop in place of two: software adapters pay for each level of nesting at every turn.
    var outer = extent.first_outer;
    var inner = 0u;
    for (var left = (extent.end_outer - extent.first_outer) * extent.n_inner; left > 0u; left--) {
        place.at = (extent.origin + outer * extent.outer_step + inner * extent.inner_step) * a_width + m / 4u;
        var window = start(columns, outer, inner);
        if DEPTH == 0u {
            for (var d = 0u; d < extent.depth; d++) {
                add_product(&tile, &window, &place, d);
            }
        } else {
            add_product(&tile, &window, &place, 0u);
            if DEPTH > 1u {
                add_product(&tile, &window, &place, 1u);
                add_product(&tile, &window, &place, 2u);
            }
            if DEPTH > 3u {
                add_product(&tile, &window, &place, 3u);
            }
            if DEPTH > 4u {
                add_product(&tile, &window, &place, 4u);
            }
        }
        inner++;
        if inner == extent.n_inner {
            inner = 0u;
            outer++;
        }
    }

    store(m, columns, tile.c00, tile.c01);
    if m + 1u < extent.n_rows { store(m + 1u, columns, tile.c10, tile.c11); }
    if m + 2u < extent.n_rows { store(m + 2u, columns, tile.c20, tile.c21); }
    if m + 3u < extent.n_rows { store(m + 3u, columns, tile.c30, tile.c31); }
    if m + 4u < extent.n_rows { store(m + 4u, columns, tile.c40, tile.c41); }
    if m + 5u < extent.n_rows { store(m + 5u, columns, tile.c50, tile.c51); }
    if m + 6u < extent.n_rows { store(m + 6u, columns, tile.c60, tile.c61); }
    if m + 7u < extent.n_rows { store(m + 7u, columns, tile.c70, tile.c71); }
}
