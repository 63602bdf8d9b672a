// Skeleton of a matrix product for hardware, like gemm_tile.wgsl, for factors that lie along k: the slabs keep them so, as vec4s
// of k, and what is added up are dot products of vec4s.
//
//   C[m, n] = Σ_k A[m, k] · B[n, k],   k in fours from first_four up to end_four
//
// A workgroup computes BM rows by BN columns, BK deep at a time; an invocation owns TM rows and TN columns that lie apart. The
// loops marked "unrolled" are written out (src/device/text.rs). The operands' file fills the holes, for A and likewise for B:
//   struct Four; fn four_at(four: u32, end_four: u32) -> Four        where four k lie, once for all loads of a slab
//   const A_ITEMS                                                    loads that a slab takes; load i is at four i mod BF of the slab
//   struct PlaceA; fn place_a(first_row: u32, item: u32) -> PlaceA   what is known of a load before the loop
//   alias PieceA; fn fetch_a(place: PlaceA, four: Four) -> PieceA    zeros from end_four on
//   fn put_a(item: u32, piece: PieceA)                               writes to a_slab by put_a_depths
// and these:
//   fn extent() -> Extent                                            sizes, and the part of k that this z-slice of the grid adds up
//   fn store(m: u32, n: u32, c: f32)

const BM: u32 = 64u;
const BN: u32 = 96u;
const BK: u32 = 16u;
const TM: u32 = 8u;
const TN: u32 = 6u;
const PAD: u32 = 1u;

const X: u32 = BN / TN;
const Y: u32 = BM / TM;
const LANES: u32 = 8u;
const N_INVOCATIONS: u32 = X * Y;

// Fours of k in a slab; it divides the number of invocations.
const BF: u32 = BK / 4u;
const A_WIDTH: u32 = BF + PAD;
const B_WIDTH: u32 = BF + PAD;
const A_ROUNDS: u32 = (A_ITEMS + N_INVOCATIONS - 1u) / N_INVOCATIONS;
const B_ROUNDS: u32 = (B_ITEMS + N_INVOCATIONS - 1u) / N_INVOCATIONS;

struct Extent {
    n_rows: u32,
    n_columns: u32,
    first_four: u32,
    end_four: u32,
}

var<workgroup> a_slab: array<vec4<f32>, BM * A_WIDTH>;
var<workgroup> b_slab: array<vec4<f32>, BN * B_WIDTH>;

// The z-slice of the grid: which part of k.
var<private> slice: u32;

// How operands write to the slabs: four depths of row m, or of column n.
fn put_a_depths(m: u32, four: u32, v: vec4<f32>) {
    a_slab[m * A_WIDTH + four] = v;
}

fn put_b_depths(n: u32, four: u32, v: vec4<f32>) {
    b_slab[n * B_WIDTH + four] = v;
}

@compute @workgroup_size(N_INVOCATIONS)
fn multiply(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) index: u32) {
    slice = wid.z;
    let extent = extent();
    let first_row = wid.y * BM;
    let first_column = wid.x * BN;
    let subgroup = index / 32u;
    let lane = index % 32u;
    let x = subgroup % (X / LANES) * LANES + lane % LANES;
    let y = subgroup / (X / LANES) * (32u / LANES) + lane / LANES;

    var a_places: array<PlaceA, A_ROUNDS>;
    var b_places: array<PlaceB, B_ROUNDS>;
    var a_next: array<PieceA, A_ROUNDS>;
    var b_next: array<PieceB, B_ROUNDS>;
    let first = four_at(extent.first_four + index % BF, extent.end_four);
    // unrolled
    for (var i = 0u; i < A_ROUNDS; i++) {
        a_places[i] = place_a(first_row, (index + i * N_INVOCATIONS) % A_ITEMS);
        a_next[i] = fetch_a(a_places[i], first);
    }
    // unrolled
    for (var i = 0u; i < B_ROUNDS; i++) {
        b_places[i] = place_b(first_column, (index + i * N_INVOCATIONS) % B_ITEMS);
        b_next[i] = fetch_b(b_places[i], first);
    }

    var c: array<f32, TM * TN>;
    for (var k = extent.first_four; k < extent.end_four; k += BF) {
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
        let next = four_at(k + BF + index % BF, extent.end_four);
        // unrolled
        for (var i = 0u; i < A_ROUNDS; i++) {
            a_next[i] = fetch_a(a_places[i], next);
        }
        // unrolled
        for (var i = 0u; i < B_ROUNDS; i++) {
            b_next[i] = fetch_b(b_places[i], next);
        }
        // unrolled
        for (var f = 0u; f < BF; f++) {
            var columns: array<vec4<f32>, TN>;
            // unrolled
            for (var j = 0u; j < TN; j++) {
                columns[j] = b_slab[(j * X + x) * B_WIDTH + f];
            }
            // unrolled
            for (var i = 0u; i < TM; i++) {
                let row = a_slab[(i * Y + y) * A_WIDTH + f];
                // unrolled
                for (var j = 0u; j < TN; j++) {
                    c[i * TN + j] = fma(row.x, columns[j].x, fma(row.y, columns[j].y, fma(row.z, columns[j].z, fma(row.w, columns[j].w, c[i * TN + j]))));
                }
            }
        }
        workgroupBarrier();
    }

    // unrolled
    for (var i = 0u; i < TM; i++) {
        let m = first_row + i * Y + y;
        // unrolled
        for (var j = 0u; j < TN; j++) {
            let n = first_column + j * X + x;
            if m < extent.n_rows && n < extent.n_columns {
                store(m, n, c[i * TN + j]);
            }
        }
    }
}
