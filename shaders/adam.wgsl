// g = gradient + weight_decay·w;  m = β₁m + (1−β₁)g;  v = β₂v + (1−β₂)g²;  w = w − rate·m/(√v·scale + ε)
//
// rate = lr/(1−β₁ᵗ) and scale = 1/√(1−β₂ᵗ) are computed on the host. Shapes: all (n), the flat vectors of a model; weight
// decay acts on the first n_decayed. One invocation owns four neighbouring parameters and changes them in place, unless
// step_always.wgsl or step_unless_overflow.wgsl skips the step.
// CPU twin: src/ops/optimizer_steps.rs

struct Params {
    n: u32,
    n_decayed: u32,
    rate: f32,
    scale: f32,
    beta1: f32,
    beta2: f32,
    epsilon: f32,
    weight_decay: f32,
}

@group(0) @binding(0) var<storage, read> gradient: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> w: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> m: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> v: array<vec4<f32>>;
@group(1) @binding(0) var<uniform> params: Params;

@compute @workgroup_size(WG)
fn step(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>, @builtin(local_invocation_id) lid: vec3<u32>) {
    let i = flat_index(wid, nwg, lid.x);
    if 4u * i < params.n && !is_skipped() {
        let decay = keep_inside(vec4<f32>(params.weight_decay), i, params.n_decayed);
        let g = gradient[i] + decay * w[i];
        let first = keep_inside(params.beta1 * m[i] + (1.0 - params.beta1) * g, i, params.n);
        let second = keep_inside(params.beta2 * v[i] + (1.0 - params.beta2) * g * g, i, params.n);
        m[i] = first;
        v[i] = second;
        w[i] = keep_inside(w[i] - params.rate * first / (sqrt(second) * params.scale + params.epsilon), i, params.n);
    }
}
