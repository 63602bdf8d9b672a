// A of gemm_tile.wgsl, read four neighbouring rows at a time where they lie. The op's own file fills the hole:
//   fn load_a(m: u32, k: u32) -> vec4<f32>     A[m … m + 3, k]; what stands for rows that do not exist is not used

const A_ITEMS: u32 = BK * BM / 4u;
const A_ALONG_K: u32 = 0u;
alias PieceA = vec4<f32>;

struct PlaceA {
    m: u32,
    d: u32,
}

// Neighbours take neighbouring k, which lie together in most layouts.
fn place_a(first_row: u32, item: u32) -> PlaceA {
    return PlaceA(first_row + 4u * (item / BK), item % BK);
}

fn fetch_a(place: PlaceA, k: u32, end_k: u32) -> PieceA {
    if k + place.d < end_k {
        return load_a(place.m, k + place.d);
    }
    return vec4<f32>(0.0);
}

fn put_a(item: u32, piece: PieceA) {
    put_a_rows(item % BK, item / BK, piece);
}
