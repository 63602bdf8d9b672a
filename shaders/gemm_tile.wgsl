// Skeleton of a matrix product for hardware: a workgroup computes a tile of BM rows by BN columns. Both factors pass through
// shared memory in slabs, BK deep; while one slab is multiplied the next is on its way from memory into registers.
//
//   C[m, n] = Σ_k A[m, k] · B[k, n],   k from first_k up to end_k
//
// Rows and columns are counted in fours. An invocation owns TM / 4 fours of rows and TN / 4 fours of columns, which lie apart in the
// tile so that neighbours read neighbouring vec4s of shared memory. Loops marked "unrolled" are written out, and constants get
// the values of the tile, when the kernel is put together (src/device/text.rs).
//
// The operands' files fill these holes, for A and likewise for B (gemm_fours.wgsl does for operands without a better way):
//   const A_ITEMS                                       loads that a slab takes, shared out over the invocations
//   struct PlaceA; fn place_a(first_row: u32, item: u32) -> PlaceA     what is known of a load before the loop
//   alias PieceA; fn fetch_a(place: PlaceA, k: u32, end_k: u32) -> PieceA  loads from the slab that begins at k, zeros from end_k on
//   fn put_a(item: u32, piece: PieceA)                  writes to a_slab by put_a_rows or put_a_depths
//   const A_ALONG_K                                     1 if by put_a_depths: gemm_coop.wgsl lays its slabs out accordingly
// and the op's own file these:
//   fn extent() -> Extent                               sizes, and the part of k that this z-slice of the grid adds up
//   struct Columns; fn columns_at(four: u32) -> Columns
//   fn store(m: u32, columns: Columns, c: vec4<f32>)
//
// Sums run in a fixed order: k after k.

const BM: u32 = 64u;
const BN: u32 = 64u;
const BK: u32 = 16u;
const TM: u32 = 8u;
const TN: u32 = 4u;
// Vec4s added to each row of a slab, against bank conflicts.
const PAD: u32 = 1u;

// Invocations side by side, below each other, and side by side in a subgroup of 32.
const X: u32 = BN / TN;
const Y: u32 = BM / TM;
const LANES: u32 = 8u;
const N_INVOCATIONS: u32 = X * Y;

const A_WIDTH: u32 = BM / 4u + PAD;
const B_WIDTH: u32 = BN / 4u + PAD;
const A_ROUNDS: u32 = (A_ITEMS + N_INVOCATIONS - 1u) / N_INVOCATIONS;
const B_ROUNDS: u32 = (B_ITEMS + N_INVOCATIONS - 1u) / N_INVOCATIONS;

struct Extent {
    n_rows: u32,
    n_fours: u32, // of columns
    first_k: u32,
    end_k: u32,
}

var<workgroup> a_slab: array<vec4<f32>, BK * A_WIDTH>;
var<workgroup> b_slab: array<vec4<f32>, BK * B_WIDTH>;

// The z-slice of the grid: which part of k, for products that are split, or which of several products.
var<private> slice: u32;

// How operands write to the slabs: four rows at depth d, or four depths of row m.
fn put_a_rows(d: u32, four: u32, v: vec4<f32>) {
    a_slab[d * A_WIDTH + four] = v;
}

fn put_a_depths(m: u32, four: u32, v: vec4<f32>) {
    let at = 4u * four * A_WIDTH + m / 4u;
    a_slab[at][m % 4u] = v.x;
    a_slab[at + A_WIDTH][m % 4u] = v.y;
    a_slab[at + 2u * A_WIDTH][m % 4u] = v.z;
    a_slab[at + 3u * A_WIDTH][m % 4u] = v.w;
}

// Four columns at depth d, or four depths of column n.
fn put_b_columns(d: u32, four: u32, v: vec4<f32>) {
    b_slab[d * B_WIDTH + four] = v;
}

fn put_b_depths(n: u32, four: u32, v: vec4<f32>) {
    let at = 4u * four * B_WIDTH + n / 4u;
    b_slab[at][n % 4u] = v.x;
    b_slab[at + B_WIDTH][n % 4u] = v.y;
    b_slab[at + 2u * B_WIDTH][n % 4u] = v.z;
    b_slab[at + 3u * B_WIDTH][n % 4u] = v.w;
}

@compute @workgroup_size(N_INVOCATIONS)
fn multiply(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) n_groups: vec3<u32>,
    @builtin(local_invocation_index) index: u32,
) {
    slice = wid.z;
    let extent = extent();
    // More columns of tiles than a grid is wide go on below the rows.
    let n_row_tiles = (extent.n_rows + BM - 1u) / BM;
    let fold = wid.y / n_row_tiles;
    let first_row = (wid.y - fold * n_row_tiles) * BM;
    let first_four = (wid.x + fold * n_groups.x) * (BN / 4u);
    // A subgroup covers LANES invocations in x, the rest in y: nearly square, it reads the least shared memory.
    let subgroup = index / 32u;
    let lane = index % 32u;
    let x = subgroup % (X / LANES) * LANES + lane % LANES;
    let y = subgroup / (X / LANES) * (32u / LANES) + lane / LANES;

    // An invocation loads the same places of every slab. Surplus ones take part too: all meet at the barriers.
    var a_places: array<PlaceA, A_ROUNDS>;
    var b_places: array<PlaceB, B_ROUNDS>;
    var a_next: array<PieceA, A_ROUNDS>;
    var b_next: array<PieceB, B_ROUNDS>;
    // unrolled
    for (var i = 0u; i < A_ROUNDS; i++) {
        a_places[i] = place_a(first_row, (index + i * N_INVOCATIONS) % A_ITEMS);
        a_next[i] = fetch_a(a_places[i], extent.first_k, extent.end_k);
    }
    // unrolled
    for (var i = 0u; i < B_ROUNDS; i++) {
        b_places[i] = place_b(first_four, max(extent.n_fours, 1u) - 1u, (index + i * N_INVOCATIONS) % B_ITEMS);
        b_next[i] = fetch_b(b_places[i], extent.first_k, extent.end_k);
    }

    var c: array<vec4<f32>, TM * TN / 4u>;
    for (var k = extent.first_k; k < extent.end_k; k += BK) {
        // unrolled
        for (var i = 0u; i < A_ROUNDS; i++) {
            if (i + 1u) * N_INVOCATIONS <= A_ITEMS || index + i * N_INVOCATIONS < A_ITEMS {
                put_a(index + i * N_INVOCATIONS, a_next[i]);
            }
        }
        // unrolled
        for (var i = 0u; i < B_ROUNDS; i++) {
            if (i + 1u) * N_INVOCATIONS <= B_ITEMS || index + i * N_INVOCATIONS < B_ITEMS {
                put_b(index + i * N_INVOCATIONS, b_next[i]);
            }
        }
        workgroupBarrier();
        // unrolled
        for (var i = 0u; i < A_ROUNDS; i++) {
            a_next[i] = fetch_a(a_places[i], k + BK, extent.end_k);
        }
        // unrolled
        for (var i = 0u; i < B_ROUNDS; i++) {
            b_next[i] = fetch_b(b_places[i], k + BK, extent.end_k);
        }
        // unrolled
        for (var d = 0u; d < BK; d++) {
            var rows: array<vec4<f32>, TM / 4u>;
            var columns: array<vec4<f32>, TN / 4u>;
            // unrolled
            for (var i = 0u; i < TM / 4u; i++) {
                rows[i] = a_slab[d * A_WIDTH + i * Y + y];
            }
            // unrolled
            for (var j = 0u; j < TN / 4u; j++) {
                columns[j] = b_slab[d * B_WIDTH + j * X + x];
            }
            // unrolled
            for (var i = 0u; i < TM; i++) {
                // unrolled
                for (var j = 0u; j < TN / 4u; j++) {
                    c[i * TN / 4u + j] = fma(vec4<f32>(rows[i / 4u][i % 4u]), columns[j], c[i * TN / 4u + j]);
                }
            }
        }
        workgroupBarrier();
    }

    // unrolled
    for (var j = 0u; j < TN / 4u; j++) {
        let four = first_four + j * X + x;
        if four < extent.n_fours {
            let columns = columns_at(four);
            // unrolled
            for (var i = 0u; i < TM; i++) {
                let m = first_row + 4u * (i / 4u * Y + y) + i % 4u;
                if m < extent.n_rows {
                    store(m, columns, c[i * TN / 4u + j]);
                }
            }
        }
    }
}
