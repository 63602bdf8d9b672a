// What gemm_coop.wgsl and gemm_coop_dot.wgsl have in common: slabs of f16 in shared memory, and the sums of a tile in fragments of
// 16 × 16. A workgroup has WM × WN subgroups of 32; each owns FM × FN fragments that lie together.
//
// gemm_matrices.wgsl or gemm_emulated.wgsl say what fragments are. Operands say how they write to a slab: A_ALONG_K is 1 if
// they bring four neighbouring k of a row, and the slab is [row][k] then; 0 if they bring four rows of one k, and it is [k][row].
// Likewise B_ALONG_K with columns.
//
// SPLIT is 1 for nearly the accuracy of f32: a factor is cut in two, x = high + low, and of the four products the three that
// count are added up. high keeps ten bits behind the leading one, cut out of the bits of x: a conversion to f16 and back would do,
// but compilers fold it away, and low with it. low is less than 2⁻¹⁰ of x: it is scaled by that, and so are its sums.

const BM: u32 = 64u;
const BN: u32 = 64u;
const BK: u32 = 32u;
const WM: u32 = 2u;
const WN: u32 = 2u;
const SPLIT: u32 = 0u;
// Fours added to each row of a slab, against bank conflicts; rows stay multiples of 16 bytes, which matrices need.
const PAD: u32 = 2u;
// Fragments of a subgroup that leave side by side.
const STAGED: u32 = 1u;

const N_INVOCATIONS: u32 = 32u * WM * WN;
const FM: u32 = BM / WM / 16u;
const FN: u32 = BN / WN / 16u;

const A_WIDTH: u32 = (A_ALONG_K * BK + (1u - A_ALONG_K) * BM) / 4u + PAD;
const B_WIDTH: u32 = (B_ALONG_K * BK + (1u - B_ALONG_K) * BN) / 4u + PAD;
const A_LENGTH: u32 = A_WIDTH * (A_ALONG_K * BM + (1u - A_ALONG_K) * BK);
const B_LENGTH: u32 = B_WIDTH * (B_ALONG_K * BN + (1u - B_ALONG_K) * BK);
const A_ROUNDS: u32 = (A_ITEMS + N_INVOCATIONS - 1u) / N_INVOCATIONS;
const B_ROUNDS: u32 = (B_ITEMS + N_INVOCATIONS - 1u) / N_INVOCATIONS;

// A fragment on its way out: rows of STAGED fragments for each subgroup.
const STAGE_WIDTH: u32 = 4u * STAGED + 1u;
const STAGE_LENGTH: u32 = 16u * STAGE_WIDTH;

const LOW: f32 = 1024.0;

var<workgroup> a_slab: array<Halves, A_LENGTH>;
var<workgroup> b_slab: array<Halves, B_LENGTH>;
// The low parts of a split; else not in use.
var<workgroup> a_low: array<Halves, SPLIT * (A_LENGTH - 1u) + 1u>;
var<workgroup> b_low: array<Halves, SPLIT * (B_LENGTH - 1u) + 1u>;
var<workgroup> stage: array<vec4<f32>, WM * WN * STAGE_LENGTH>;

// The z-slice of the grid: which part of k, for products that are split, or which of several products.
var<private> slice: u32;
// Of the subgroup.
var<private> lane: u32;

struct Sums {
    high: array<FragmentC, FM * FN>,
    low: array<FragmentC, SPLIT * (FM * FN - 1u) + 1u>,
}

fn high_part(v: vec4<f32>) -> vec4<f32> {
    if SPLIT == 1u {
        return bitcast<vec4<f32>>(bitcast<vec4<u32>>(v) & vec4<u32>(0xffffe000u));
    }
    return v;
}

fn put_in_a(at: u32, v: vec4<f32>) {
    a_slab[at] = halves(high_part(v));
    // unrolled
    for (var i = 0u; i < SPLIT; i++) {
        a_low[at] = halves((v - high_part(v)) * LOW);
    }
}

fn put_in_b(at: u32, v: vec4<f32>) {
    b_slab[at] = halves(high_part(v));
    // unrolled
    for (var i = 0u; i < SPLIT; i++) {
        b_low[at] = halves((v - high_part(v)) * LOW);
    }
}

// Four rows at depth d, or four depths of row m: an operand calls one of them.
fn put_a_rows(d: u32, four: u32, v: vec4<f32>) {
    put_in_a(d * A_WIDTH + four, v);
}

fn put_a_depths(m: u32, four: u32, v: vec4<f32>) {
    put_in_a(m * A_WIDTH + four, v);
}

// Four columns at depth d, or four depths of column n.
fn put_b_columns(d: u32, four: u32, v: vec4<f32>) {
    put_in_b(d * B_WIDTH + four, v);
}

fn put_b_depths(n: u32, four: u32, v: vec4<f32>) {
    put_in_b(n * B_WIDTH + four, v);
}

// Where the fragment begins whose first element is in this row and at this depth.
fn place_in_a(row: u32, d: u32) -> u32 {
    return A_ALONG_K * (row * A_WIDTH + d / 4u) + (1u - A_ALONG_K) * (d * A_WIDTH + row / 4u);
}

fn place_in_b(column: u32, d: u32) -> u32 {
    return B_ALONG_K * (column * B_WIDTH + d / 4u) + (1u - B_ALONG_K) * (d * B_WIDTH + column / 4u);
}

// The tile's row and column, where the subgroup's fragments begin.
fn first_row_of(subgroup: u32) -> u32 {
    return subgroup / WN * (16u * FM);
}

fn first_column_of(subgroup: u32) -> u32 {
    return subgroup % WN * (16u * FN);
}

// Multiplies the slabs, and adds to the subgroup's fragments.
fn multiply_slabs(subgroup: u32, sums: ptr<function, Sums>) {
    let row = first_row_of(subgroup);
    let column = first_column_of(subgroup);
    // unrolled
    for (var d = 0u; d < BK; d += 16u) {
        var a: array<FragmentA, FM>;
        var low: array<FragmentA, FM>;
        // unrolled
        for (var i = 0u; i < FM; i++) {
            a[i] = fragment_a(place_in_a(row + 16u * i, d));
        }
        // unrolled
        for (var i = 0u; i < SPLIT * FM; i++) {
            low[i] = fragment_a_low(place_in_a(row + 16u * i, d));
        }
        // unrolled
        for (var j = 0u; j < FN; j++) {
            let b = fragment_b(place_in_b(column + 16u * j, d));
            // unrolled
            for (var s = 0u; s < SPLIT; s++) {
                let b_part = fragment_b_low(place_in_b(column + 16u * j, d));
                // unrolled
                for (var i = 0u; i < FM; i++) {
                    (*sums).low[i * FN + j] = multiply_add(a[i], b_part, (*sums).low[i * FN + j]);
                    (*sums).low[i * FN + j] = multiply_add(low[i], b, (*sums).low[i * FN + j]);
                }
            }
            // unrolled
            for (var i = 0u; i < FM; i++) {
                (*sums).high[i * FN + j] = multiply_add(a[i], b, (*sums).high[i * FN + j]);
            }
        }
    }
}
