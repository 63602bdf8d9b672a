// Input gradient of a convolution with a kernel of one element and stride 2, where H = 2P, W = 2Q and rows of dy are whole vec4s: of
// every two rows and columns only the first receives a gradient.
//
//   dx[n, c, 2p, 2q] = Σ_o w[o, c] · dy[n, o, p, q],   0 elsewhere
//
// Columns of the product are output pixels in fours of one row, k is o. The holes of gemm_a_fours.wgsl and gemm_b_fours.wgsl on
// gemm_tile.wgsl; sizes in conv2d.wgsl. CPU twin: src/ops/conv2d/cpu.rs::backward_input

@group(0) @binding(0) var<storage, read> weight: array<f32>;
@group(0) @binding(1) var<storage, read> dy: array<vec4<f32>>;
// dx is y of conv2d_y_fours.wgsl.
const FIRST_BINDING: u32 = 1u;

struct Columns {
    dy: u32, // in vec4s, of out-channel 0
    dx: u32, // of in-channel 0
}

fn extent() -> Extent {
    return Extent(params.c, params.n * params.p * params.q / 4u, 0u, params.o);
}

fn columns_at(four: u32) -> Columns {
    let row = four / (params.q / 4u);
    let image = row / params.p;
    let p = row - image * params.p;
    let q = four - row * (params.q / 4u);
    return Columns(
        (image * params.o * params.p + p) * params.q / 4u + q,
        (image * params.c * params.h + 2u * p) * params.w + 8u * q,
    );
}

fn load_a(m: u32, k: u32) -> vec4<f32> {
    let at = k * params.c + min(vec4<u32>(m) + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(params.c - 1u));
    return vec4<f32>(weight[at.x], weight[at.y], weight[at.z], weight[at.w]);
}

fn load_b(columns: Columns, k: u32) -> vec4<f32> {
    return dy[columns.dy + k * (params.p * params.q / 4u)];
}

fn store(m: u32, columns: Columns, c: vec4<f32>) {
    let at = columns.dx + m * params.h * params.w;
    put_four(at, 4u, vec4<f32>(c.x, 0.0, c.y, 0.0));
    put_four(at + 4u, 4u, vec4<f32>(c.z, 0.0, c.w, 0.0));
    if params.adds == 0u {
        put_four(at + params.w, 4u, vec4<f32>(0.0));
        put_four(at + params.w + 4u, 4u, vec4<f32>(0.0));
    }
}
