// A of gemm_tile.wgsl whose rows lie in whole vec4s: four k at a time, which go to four depths of the slab. The op's own file
// declares the tensor `a` of vec4s and fills the hole:
//   fn a_row(m: u32) -> u32        where row m starts in a, in vec4s; surplus rows may be any that exist

const A_ITEMS: u32 = BM * BK / 4u;
const A_ALONG_K: u32 = 1u;
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
    put_a_depths(item / (BK / 4u), item % (BK / 4u), piece);
}
