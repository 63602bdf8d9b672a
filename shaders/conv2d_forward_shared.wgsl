// Convolution as an implicit matrix product: rows are out-channels, columns are output pixels of the whole batch, in fours of
// one image row; k is the place (c, i, j) in a patch.
//
//   y[n, o, p, q] = b[o] + Σ_k w[o, k] · x[n, c, p·stride + i·dilation − padding, q·stride + j·dilation − padding]
//
// The holes of gemm_shared.wgsl; sizes in conv2d.wgsl. CPU twin: src/ops/conv2d/cpu.rs::forward

@group(0) @binding(0) var<storage, read> weight: array<f32>;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> bias: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;

struct Columns {
    image: u32,     // where the image starts in x
    y: u32,         // where the pixels of channel 0 start in y
    n: u32,         // pixels that exist
    top: u32,       // of the patches in x; wraps around above the image
    left: vec4<u32>,
}

fn patch_size() -> u32 {
    return params.c * params.kh * params.kw;
}

fn extent() -> Extent {
    return Extent(params.o, params.n * params.p * ((params.q + 3u) / 4u), 0u, patch_size());
}

fn columns_at(four: u32) -> Columns {
    let per_row = (params.q + 3u) / 4u;
    let row = four / per_row;
    let image = row / params.p;
    let p = row - image * params.p;
    let q = 4u * (four - row * per_row);
    let left = (vec4<u32>(q) + vec4<u32>(0u, 1u, 2u, 3u)) * params.stride - params.padding;
    return Columns(
        image * params.c * params.h * params.w,
        (image * params.o * params.p + p) * params.q + q,
        params.q - q,
        p * params.stride - params.padding,
        left,
    );
}

fn load_a(m: u32, k: u32) -> vec4<f32> {
    let at = min(vec4<u32>(m) + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(params.o - 1u)) * patch_size() + k;
    return vec4<f32>(weight[at.x], weight[at.y], weight[at.z], weight[at.w]);
}

fn load_b(columns: Columns, k: u32) -> vec4<f32> {
    let window = params.kh * params.kw;
    let c = divide(k, window);
    let i = divide(k - c * window, params.kw);
    let j = k - c * window - i * params.kw;
    let row = columns.top + i * params.dilation;
    let column = columns.left + j * params.dilation;
    let base = columns.image + (c * params.h + min(row, params.h - 1u)) * params.w;
    let at = base + min(column, vec4<u32>(params.w - 1u));
    let exists = column < vec4<u32>(select(0u, params.w, row < params.h));
    return select(vec4<f32>(0.0), vec4<f32>(x[at.x], x[at.y], x[at.z], x[at.w]), exists);
}

fn store(m: u32, columns: Columns, c: vec4<f32>) {
    var b = 0.0;
    if params.has_bias != 0u { b = bias[m]; }
    let at = columns.y + m * params.p * params.q;
    y[at] = c.x + b;
    if columns.n > 1u { y[at + 1u] = c.y + b; }
    if columns.n > 2u { y[at + 2u] = c.z + b; }
    if columns.n > 3u { y[at + 3u] = c.w + b; }
}
