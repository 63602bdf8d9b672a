// B of gemm_tile.wgsl, read four neighbouring columns at a time where they lie. The op's own file fills the hole:
//   fn load_b(columns: Columns, k: u32) -> vec4<f32>       B[k, of these columns]; what stands for surplus columns is not used

const B_ITEMS: u32 = BK * BN / 4u;
const B_ALONG_K: u32 = 0u;
alias PieceB = vec4<f32>;

struct PlaceB {
    columns: Columns,
    d: u32,
}

fn place_b(first_four: u32, last_four: u32, item: u32) -> PlaceB {
    return PlaceB(columns_at(min(first_four + item % (BN / 4u), last_four)), item / (BN / 4u));
}

fn fetch_b(place: PlaceB, k: u32, end_k: u32) -> PieceB {
    if k + place.d < end_k {
        return load_b(place.columns, k + place.d);
    }
    return vec4<f32>(0.0);
}

fn put_b(item: u32, piece: PieceB) {
    put_b_columns(item / (BN / 4u), item % (BN / 4u), piece);
}
