// Gradient of a convolution with respect to its weight by windows (conv2d_window.wgsl): rows are out-channels, columns are places
// (c, i, j) of a patch, k is an output pixel (n, p, q) of the batch, in fours of one image row.
//
//   dw[o, c, i, j] = Σ_k dy[n, o, p, q] · x[n, c, p·stride + i − padding, q·stride + j − padding]
//
// k is split over z: slice s of dw holds the sum over its own per_slice fours, and column_sums adds the slices in order. The holes
// of gemm_dot.wgsl but for dy, which conv2d_dy_fours.wgsl or conv2d_dy_scalars.wgsl read. CPU twin: src/ops/conv2d/cpu.rs::backward_weight

@group(0) @binding(2) var<storage, read_write> dw: array<f32>;

const A_ITEMS: u32 = BM * BF;
const B_ITEMS: u32 = BN / KW * BF;
const A_ALONG_K: u32 = 1u;
const B_ALONG_K: u32 = 1u;

fn extent() -> Extent {
    let first = slice * params.per_slice;
    let end = min(first + params.per_slice, params.n * params.p * ((params.q + 3u) / 4u));
    return Extent(params.o, params.c * KW * KW, first, end);
}

struct Four {
    dy: u32,    // where its pixels are in dy, of channel 0
    n: u32,     // pixels that exist
    image: u32, // where the image starts in x
    top: u32,   // row of x that the first row of the kernel meets; wraps around above the image
    left: u32,  // column of x of the first pixel's own
}

fn four_at(four: u32, end_four: u32) -> Four {
    let per_row = (params.q + 3u) / 4u;
    // Behind the end the last one stands in, with no pixels.
    let at = min(four, end_four - 1u);
    let row = at / per_row;
    let image = row / params.p;
    let p = row - image * params.p;
    let q = 4u * (at - row * per_row);
    return Four(
        image * params.o * params.p * params.q + p * params.q + q,
        select(0u, params.q - q, four < end_four),
        image * params.c * params.h * params.w,
        p * STRIDE - params.padding,
        q * STRIDE,
    );
}

struct PlaceA {
    row: u32, // where the out-channel starts in an image of dy
}
alias PieceA = vec4<f32>;

fn place_a(first_row: u32, item: u32) -> PlaceA {
    return PlaceA(min(first_row + item / BF, params.o - 1u) * params.p * params.q);
}

fn fetch_a(place: PlaceA, four: Four) -> PieceA {
    return read_dy(four.dy + place.row, four.n);
}

fn put_a(item: u32, piece: PieceA) {
    put_a_depths(item / BF, item % BF, piece);
}

struct PlaceB {
    channel: u32, // where the channel starts in an image of x
    i: u32,       // row of the kernel
}

fn place_b(first_column: u32, item: u32) -> PlaceB {
    let row = first_column / KW + item / BF;
    let c = row / KW;
    return PlaceB(min(c, params.c - 1u) * params.h * params.w, row - c * KW);
}

fn fetch_b(place: PlaceB, four: Four) -> PieceB {
    let u = four.top + place.i;
    let image_row = four.image + place.channel + min(u, params.h - 1u) * params.w;
    return read_window(image_row, four.left, four.n > 0u && u < params.h);
}

fn put_b(item: u32, piece: PieceB) {
    // unrolled
    for (var j = 0u; j < KW; j++) {
        let four = vec4<f32>(piece.pixels[j], piece.pixels[j + STRIDE], piece.pixels[j + 2u * STRIDE], piece.pixels[j + 3u * STRIDE]);
        put_b_depths(item / BF * KW + j, item % BF, four);
    }
}

fn store(m: u32, n: u32, c: f32) {
    dw[(slice * params.o + m) * (params.c * KW * KW) + n] = c;
}
