// B of matmul_tile.wgsl as it is stored transposed, (N, K): four k at a time, which go to four depths of the slab.
// CPU twin: none, it moves numbers for src/ops/matmul.rs

const B_ITEMS: u32 = BN * BK / 4u;
const B_ALONG_K: u32 = 1u;
alias PieceB = vec4<f32>;

struct PlaceB {
    at: u32, // the column in b, in vec4s
    d: u32,
}

fn place_b(first_four: u32, last_four: u32, item: u32) -> PlaceB {
    let n = min(4u * first_four + item / (BK / 4u), 4u * last_four + 3u);
    return PlaceB((slice / params.n_splits * params.b_slice + n * params.b_row) / 4u, 4u * (item % (BK / 4u)));
}

fn fetch_b(place: PlaceB, k: u32, end_k: u32) -> PieceB {
    if k + place.d < end_k {
        return b[place.at + (k + place.d) / 4u];
    }
    return vec4<f32>(0.0);
}

fn put_b(item: u32, piece: PieceB) {
    put_b_depths(item / (BK / 4u), item % (BK / 4u), piece);
}
