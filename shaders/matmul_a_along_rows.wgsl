// A of matmul_tile.wgsl as it is stored transposed, (K, M): four rows at a time, as they lie in the slab.
// CPU twin: none, it moves numbers for src/ops/matmul.rs

const A_ITEMS: u32 = BK * BM / 4u;
const A_ALONG_K: u32 = 0u;
alias PieceA = vec4<f32>;

struct PlaceA {
    at: u32, // four rows of depth 0 in a, in vec4s
    d: u32,
}

fn place_a(first_row: u32, item: u32) -> PlaceA {
    let m = min(first_row + 4u * (item % (BM / 4u)), params.n_rows - 4u);
    return PlaceA((slice / params.n_splits * params.a_slice + m) / 4u, item / (BM / 4u));
}

fn fetch_a(place: PlaceA, k: u32, end_k: u32) -> PieceA {
    if k + place.d < end_k {
        return a[place.at + (k + place.d) * params.a_row / 4u];
    }
    return vec4<f32>(0.0);
}

fn put_a(item: u32, piece: PieceA) {
    put_a_rows(item / (BM / 4u), item % (BM / 4u), piece);
}
