// Lays a matrix out for a gemm skeleton: four neighbouring rows m in one vec4, k outermost.
//
//   packed[k, m] = origin[(k / inner)·outer_step + (k mod inner)·inner_step + m·m_step], 0 for m ≥ n_m and for k ≥ n_k
//
// Shapes: packed (⌈n_k/4⌉·4, ⌈n_m/4⌉·4). The two steps of k reach every layout that a matrix or a convolution needs.
// One invocation owns one vec4. CPU twin: none is needed, src/ops/matmul.rs reads its operands by strides

struct Params {
    n_k: u32,
    n_m: u32,
    inner: u32,
    outer_step: u32,
    inner_step: u32,
    m_step: u32,
}

@group(0) @binding(0) var<storage, read> origin: array<f32>;
@group(0) @binding(1) var<storage, read_write> packed: array<vec4<f32>>;
@group(1) @binding(0) var<uniform> params: Params;

fn element(base: u32, m: u32, exists: bool) -> f32 {
    return select(0.0, origin[base + min(m, params.n_m - 1u) * params.m_step], exists && m < params.n_m);
}

@compute @workgroup_size(WG)
fn pack(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>, @builtin(local_invocation_id) lid: vec3<u32>) {
    let i = flat_index(wid, nwg, lid.x);
    let width = (params.n_m + 3u) / 4u;
    let row = i / width;
    if row < (params.n_k + 3u) / 4u * 4u {
        let m = 4u * (i - row * width);
        let exists = row < params.n_k;
        let k = min(row, params.n_k - 1u);
        let outer = k / params.inner;
        let base = outer * params.outer_step + (k - outer * params.inner) * params.inner_step;
        packed[i] = vec4<f32>(element(base, m, exists), element(base, m + 1u, exists), element(base, m + 2u, exists), element(base, m + 3u, exists));
    }
}
