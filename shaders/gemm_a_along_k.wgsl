// A of gemm_tile.wgsl whose rows lie in whole vec4s: four k at a time, which go to four depths of the slab. The op's own file
// declares the tensor `a` of vec4s and fills the hole:
//   fn a_row(m: u32) -> u32        where row m starts in a, in vec4s; surplus rows may be any that exist

const A_ITEMS: u32 = BM * BK / 4u;
alias PieceA = vec4<f32>;

struct PlaceA {
    at: u32, // the row in a
    d: u32,
}

fn place_a(first_row: u32, item: u32) -> PlaceA {
    return PlaceA(a_row(first_row + item / (BK / 4u)), 4u * (item % (BK / 4u)));
}

fn fetch_a(place: PlaceA, k: u32, end_k: u32) -> PieceA {
    if k + place.d < end_k {
        return a[place.at + (k + place.d) / 4u];
    }
    return vec4<f32>(0.0);
}

fn put_a(item: u32, piece: PieceA) {
    let m = item / (BK / 4u);
    let at = 4u * (item % (BK / 4u)) * A_WIDTH + m / 4u;
    a_slab[at][m % 4u] = piece.x;
    a_slab[at + A_WIDTH][m % 4u] = piece.y;
    a_slab[at + 2u * A_WIDTH][m % 4u] = piece.z;
    a_slab[at + 3u * A_WIDTH][m % 4u] = piece.w;
}
