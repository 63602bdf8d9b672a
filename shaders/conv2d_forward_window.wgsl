// B of gemm_tile.wgsl for a convolution by windows (conv2d_window.wgsl): columns are output pixels of the whole batch, in fours of
// one image row; k is the place (c, i, j) in a patch. A window fills KW depths of the slab.
//
// Sizes in conv2d.wgsl, what becomes of the sum in conv2d_bias.wgsl or conv2d_norm.wgsl. CPU twin: src/ops/conv2d/cpu.rs::forward

const B_ITEMS: u32 = BK / KW * BN / 4u;
const B_ALONG_K: u32 = 0u;

struct Columns {
    image: u32, // where the image starts in x
    top: u32,   // row of x that the first row of the kernel meets; wraps around above the image
    left: u32,  // column of x of the first output pixel's own
    y: u32,     // where the pixels of channel 0 start in y
    n: u32,     // pixels that exist
}

fn extent() -> Extent {
    return Extent(params.o, params.n * params.p * ((params.q + 3u) / 4u), 0u, params.c * KW * KW);
}

fn columns_at(four: u32) -> Columns {
    let per_row = (params.q + 3u) / 4u;
    let row = four / per_row;
    let image = row / params.p;
    let p = row - image * params.p;
    let q = 4u * (four - row * per_row);
    return Columns(
        image * params.c * params.h * params.w,
        p * STRIDE - params.padding,
        q * STRIDE,
        (image * params.o * params.p + p) * params.q + q,
        params.q - q,
    );
}

struct PlaceB {
    columns: Columns,
    row: u32, // of the kernel's rows in the slab
}

fn place_b(first_four: u32, last_four: u32, item: u32) -> PlaceB {
    return PlaceB(columns_at(min(first_four + item % (BN / 4u), last_four)), item / (BN / 4u));
}

fn fetch_b(place: PlaceB, k: u32, end_k: u32) -> PieceB {
    let row = k / KW + place.row;
    let c = row / KW;
    let u = place.columns.top + row - c * KW;
    let exists = row * KW < end_k && u < params.h;
    let image_row = place.columns.image + (min(c, params.c - 1u) * params.h + min(u, params.h - 1u)) * params.w;
    return read_window(image_row, place.columns.left, exists);
}

fn put_b(item: u32, piece: PieceB) {
    // unrolled
    for (var j = 0u; j < KW; j++) {
        let four = vec4<f32>(piece.pixels[j], piece.pixels[j + STRIDE], piece.pixels[j + 2u * STRIDE], piece.pixels[j + 3u * STRIDE]);
        put_b_columns(item / (BN / 4u) * KW + j, item % (BN / 4u), four);
    }
}

fn store(m: u32, columns: Columns, c: vec4<f32>) {
    let by = affine(m);
    put_four(columns.y + m * params.p * params.q, columns.n, fma(c, by.xxxx, by.yyyy));
}
