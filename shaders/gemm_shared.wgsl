// Skeleton of a matrix product for hardware: a workgroup works on a tile of 8·WG_Y rows by 8·WG_X columns, whose factors pass
// through shared memory, eight k at a time.
//
//   C[m, n] = Σ_k A[m, k] · B[k, n],   k from first_k up to end_k
//
// Neither factor is copied beforehand: the op's own file reads four neighbouring rows of A, or columns of B, where they lie.
// Columns are counted in fours. The op's own file fills the holes:
//   fn extent() -> Extent                                  sizes, and the part of k that this z-slice of the grid adds up
//   struct Columns; fn columns_at(four: u32) -> Columns    what is known of columns 4·four … 4·four + 3 before the loop
//   fn load_a(m: u32, k: u32) -> vec4<f32>                 A[m … m + 3, k]; what stands for rows that do not exist is not used
//   fn load_b(columns: Columns, k: u32) -> vec4<f32>       B[k, of these columns]; as above
//   fn store(m: u32, columns: Columns, c: vec4<f32>)
//
// One invocation owns rows 4y … 4y + 3 and 4(WG_Y + y) … of the tile, and columns 4x … 4x + 3 and 4(WG_X + x) …: neighbours
// read neighbouring vec4s of shared memory. WG_Y must be even. Sums run in a fixed order.

override WG_X: u32 = 8u;
override WG_Y: u32 = 8u;

// The k of a slab.
const DEPTH: u32 = 8u;
override N_INVOCATIONS: u32 = WG_X * WG_Y;
// Vec4s of a slab side by side.
override A_WIDTH: u32 = 2u * WG_Y;
override B_WIDTH: u32 = 2u * WG_X;
override A_LENGTH: u32 = DEPTH * A_WIDTH;
override B_LENGTH: u32 = DEPTH * B_WIDTH;

struct Extent {
    n_rows: u32,
    n_fours: u32,
    first_k: u32,
    end_k: u32,
}

var<workgroup> a_slab: array<vec4<f32>, A_LENGTH>; // (DEPTH, A_WIDTH)
var<workgroup> b_slab: array<vec4<f32>, B_LENGTH>; // (DEPTH, B_WIDTH)

// The z-slice of the grid: which part of k, for products that are split, or which of several products.
var<private> slice: u32;

@compute @workgroup_size(WG_X, WG_Y)
fn multiply(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(local_invocation_id) lid: vec3<u32>,
    @builtin(local_invocation_index) index: u32,
) {
    slice = wid.z;
    let extent = extent();
    let first_row = wid.y * 8u * WG_Y;
    let first_four = wid.x * B_WIDTH;
    // An invocation loads the same columns of every slab. It takes part although there may be no columns left for it: all meet
    // at the barriers.
    let last_four = max(extent.n_fours, 1u) - 1u;
    let loaded = columns_at(min(first_four + index % B_WIDTH, last_four));

    var c00 = vec4<f32>(0.0); var c01 = vec4<f32>(0.0);
    var c10 = vec4<f32>(0.0); var c11 = vec4<f32>(0.0);
    var c20 = vec4<f32>(0.0); var c21 = vec4<f32>(0.0);
    var c30 = vec4<f32>(0.0); var c31 = vec4<f32>(0.0);
    var c40 = vec4<f32>(0.0); var c41 = vec4<f32>(0.0);
    var c50 = vec4<f32>(0.0); var c51 = vec4<f32>(0.0);
    var c60 = vec4<f32>(0.0); var c61 = vec4<f32>(0.0);
    var c70 = vec4<f32>(0.0); var c71 = vec4<f32>(0.0);

    for (var k = extent.first_k; k < extent.end_k; k += DEPTH) {
        for (var i = index; i < A_LENGTH; i += N_INVOCATIONS) {
            // Neighbours take neighbouring k, which lie together in most layouts.
            let d = i % DEPTH;
            let four = i / DEPTH;
            var a = vec4<f32>(0.0);
            if k + d < extent.end_k {
                a = load_a(first_row + 4u * four, k + d);
            }
            a_slab[d * A_WIDTH + four] = a;
        }
        for (var i = index; i < B_LENGTH; i += N_INVOCATIONS) {
            let d = i / B_WIDTH;
            var b = vec4<f32>(0.0);
            if k + d < extent.end_k {
                b = load_b(loaded, k + d);
            }
            b_slab[i] = b;
        }
        workgroupBarrier();
        for (var d = 0u; d < DEPTH; d++) {
            let a0 = a_slab[d * A_WIDTH + lid.y];
            let a1 = a_slab[d * A_WIDTH + WG_Y + lid.y];
            let b0 = b_slab[d * B_WIDTH + lid.x];
            let b1 = b_slab[d * B_WIDTH + WG_X + lid.x];
            c00 = fma(a0.xxxx, b0, c00); c01 = fma(a0.xxxx, b1, c01);
            c10 = fma(a0.yyyy, b0, c10); c11 = fma(a0.yyyy, b1, c11);
            c20 = fma(a0.zzzz, b0, c20); c21 = fma(a0.zzzz, b1, c21);
            c30 = fma(a0.wwww, b0, c30); c31 = fma(a0.wwww, b1, c31);
            c40 = fma(a1.xxxx, b0, c40); c41 = fma(a1.xxxx, b1, c41);
            c50 = fma(a1.yyyy, b0, c50); c51 = fma(a1.yyyy, b1, c51);
            c60 = fma(a1.zzzz, b0, c60); c61 = fma(a1.zzzz, b1, c61);
            c70 = fma(a1.wwww, b0, c70); c71 = fma(a1.wwww, b1, c71);
        }
        workgroupBarrier();
    }

    let m0 = first_row + 4u * lid.y;
    let m1 = m0 + 4u * WG_Y;
    let n_rows = extent.n_rows;
    let four0 = first_four + lid.x;
    if four0 < extent.n_fours {
        let columns = columns_at(four0);
        if m0 < n_rows { store(m0, columns, c00); }
        if m0 + 1u < n_rows { store(m0 + 1u, columns, c10); }
        if m0 + 2u < n_rows { store(m0 + 2u, columns, c20); }
        if m0 + 3u < n_rows { store(m0 + 3u, columns, c30); }
        if m1 < n_rows { store(m1, columns, c40); }
        if m1 + 1u < n_rows { store(m1 + 1u, columns, c50); }
        if m1 + 2u < n_rows { store(m1 + 2u, columns, c60); }
        if m1 + 3u < n_rows { store(m1 + 3u, columns, c70); }
    }
    let four1 = four0 + WG_X;
    if four1 < extent.n_fours {
        let columns = columns_at(four1);
        if m0 < n_rows { store(m0, columns, c01); }
        if m0 + 1u < n_rows { store(m0 + 1u, columns, c11); }
        if m0 + 2u < n_rows { store(m0 + 2u, columns, c21); }
        if m0 + 3u < n_rows { store(m0 + 3u, columns, c31); }
        if m1 < n_rows { store(m1, columns, c41); }
        if m1 + 1u < n_rows { store(m1 + 1u, columns, c51); }
        if m1 + 2u < n_rows { store(m1 + 2u, columns, c61); }
        if m1 + 3u < n_rows { store(m1 + 3u, columns, c71); }
    }
}
