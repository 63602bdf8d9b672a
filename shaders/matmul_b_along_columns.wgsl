// B of matmul_tile.wgsl as it is stored untransposed, (K, N): four columns at a time, as they lie in the slab.
// CPU twin: none, it moves numbers for src/ops/matmul.rs

const B_ITEMS: u32 = BK * BN / 4u;
const B_ALONG_K: u32 = 0u;
alias PieceB = vec4<f32>;

struct PlaceB {
    at: u32, // four columns of depth 0 in b, in vec4s
    d: u32,
}

fn place_b(first_four: u32, last_four: u32, item: u32) -> PlaceB {
    let four = min(first_four + item % (BN / 4u), last_four);
    return PlaceB(slice / params.n_splits * params.b_slice / 4u + four, item / (BN / 4u));
}

fn fetch_b(place: PlaceB, k: u32, end_k: u32) -> PieceB {
    if k + place.d < end_k {
        return b[place.at + (k + place.d) * params.b_row / 4u];
    }
    return vec4<f32>(0.0);
}

fn put_b(item: u32, piece: PieceB) {
    put_b_columns(item / (BN / 4u), item % (BN / 4u), piece);
}
