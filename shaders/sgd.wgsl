// g = gradient + weight_decay·w;  v = momentum·v + a·g;  w = w − b·v: (a, b) is (1, lr), or (lr, 1) for a velocity of steps
//
// Shapes: all (n), the flat vectors of a model; weight decay acts on the first n_decayed. One invocation owns four
// neighbouring parameters and changes them in place, unless step_always.wgsl or step_unless_overflow.wgsl skips the step.
// CPU twin: src/ops/optimizer_steps.rs

struct Params {
    n: u32,
    n_decayed: u32,
    into_velocity: f32,
    into_weights: f32,
    momentum: f32,
    weight_decay: f32,
}

@group(0) @binding(0) var<storage, read> gradient: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> w: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> velocity: array<vec4<f32>>;
@group(1) @binding(0) var<uniform> params: Params;

@compute @workgroup_size(WG)
fn step(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>, @builtin(local_invocation_id) lid: vec3<u32>) {
    let i = flat_index(wid, nwg, lid.x);
    if 4u * i < params.n && !is_skipped() {
        let decay = keep_inside(vec4<f32>(params.weight_decay), i, params.n_decayed);
        let v = params.momentum * velocity[i] + params.into_velocity * (gradient[i] + decay * w[i]);
        velocity[i] = keep_inside(v, i, params.n);
        w[i] = keep_inside(w[i] - params.into_weights * v, i, params.n);
    }
}
