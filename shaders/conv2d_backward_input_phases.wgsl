// Input gradient of a convolution with a kernel of 3 × 3, stride 2 and padding 1, where H = 2P, W = 2Q and rows of dy are whole vec4s.
// Input pixels fall into four phases by whether their row and column are even; an even row (or column) is met by the kernel's middle
// row alone, an odd one by the last from dy's own row and the first from the next. Two dispatches: even columns have
// NV = 1 taps across, odd ones NV = 2; the z-slices of the grid are even and odd rows.
//
//   dx[n, c, 2a + s, 2b + NV − 1] = Σ_{o, i, j} w[o, c, row(i), column(j)] · dy[n, o, a + i, b + j],   i ≤ s, j < NV
//
// Columns of the product are (n, a, b) in fours of one row of dy, k is (o, i, j). The holes of gemm_a_fours.wgsl and gemm_tile.wgsl;
// sizes in conv2d.wgsl. CPU twin: src/ops/conv2d/cpu.rs::backward_input

@group(0) @binding(0) var<storage, read> weight: array<f32>;
@group(0) @binding(1) var<storage, read> dy: array<vec4<f32>>;
// dx is y of conv2d_y.wgsl.
const FIRST_BINDING: u32 = 1u;

const NV: u32 = 1u;
const B_ITEMS: u32 = BK / NV * BN / 4u;
const B_ALONG_K: u32 = 0u;

// (o, i) of a row of taps: one of them where rows are even, two where they are odd.
fn out_channel(row: u32) -> u32 {
    return row >> slice;
}

fn row_tap(row: u32) -> u32 {
    return row & slice;
}

fn extent() -> Extent {
    return Extent(params.c, params.n * params.p * params.q / 4u, 0u, params.o * (1u + slice) * NV);
}

struct Columns {
    image: u32, // in dy, in vec4s
    a: u32,
    b: u32,
    dx: u32,    // where the pixels of channel 0 are
}

fn columns_at(four: u32) -> Columns {
    let row = four / (params.q / 4u);
    let image = row / params.p;
    let a = row - image * params.p;
    let b = 4u * (four - row * (params.q / 4u));
    return Columns(
        image * params.o * params.p * params.q / 4u,
        a,
        b,
        (image * params.c * params.h + 2u * a + slice) * params.w + 2u * b + NV - 1u,
    );
}

fn load_a(m: u32, k: u32) -> vec4<f32> {
    let row = k / NV;
    // The middle, or the last and the first.
    let i = select(1u, 2u - 2u * row_tap(row), slice == 1u);
    let j = select(1u, 2u - 2u * (k % NV), NV == 2u);
    let channels = min(vec4<u32>(m) + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(params.c - 1u));
    let at = (out_channel(row) * params.c + channels) * 9u + 3u * i + j;
    return vec4<f32>(weight[at.x], weight[at.y], weight[at.z], weight[at.w]);
}

struct PieceB {
    own: vec4<f32>,
    next: f32,
}

struct PlaceB {
    columns: Columns,
    row: u32, // of the rows of taps in the slab
}

fn place_b(first_four: u32, last_four: u32, item: u32) -> PlaceB {
    return PlaceB(columns_at(min(first_four + item % (BN / 4u), last_four)), item / (BN / 4u));
}

fn fetch_b(place: PlaceB, k: u32, end_k: u32) -> PieceB {
    let row = k / NV + place.row;
    let p = place.columns.a + row_tap(row);
    let exists = row * NV < end_k && p < params.p;
    let plane = min(out_channel(row), params.o - 1u) * params.p + min(p, params.p - 1u);
    let at = place.columns.image + (plane * params.q + place.columns.b) / 4u;
    let has_next = exists && place.columns.b + 4u < params.q;
    return PieceB(select(vec4<f32>(0.0), dy[at], exists), select(0.0, dy[select(at, at + 1u, has_next)].x, has_next));
}

fn put_b(item: u32, piece: PieceB) {
    let d = item / (BN / 4u) * NV;
    put_b_columns(d, item % (BN / 4u), piece.own);
    if NV == 2u {
        put_b_columns(d + 1u, item % (BN / 4u), vec4<f32>(piece.own.yzw, piece.next));
    }
}

fn store(m: u32, columns: Columns, c: vec4<f32>) {
    let at = columns.dx + m * params.h * params.w;
    put(at, c.x);
    put(at + 2u, c.y);
    put(at + 4u, c.z);
    put(at + 6u, c.w);
}
