// y[n, m] = Σ_d (x[n, d] − means[m, d])²          d_own[r, d] = Σ_o 2·dy[r, o]·(own[r, d] − other[o, d])
//
// Shapes: x (N, D), means (M, D), y (N, M). forward: one invocation owns one distance. backward, for x and for the means in
// turn ("own" and "other" rows): one invocation owns one element of d_own. CPU twin: src/ops/squared_distances.rs

struct Params {
    n: u32,     // rows of x; in backward rows of own
    m: u32,     // rows of means; in backward rows of other
    d: u32,
    own_step: u32,   // step in dy to the next own row
    other_step: u32, // … and to the next other row
}

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> means: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

@group(0) @binding(0) var<storage, read> dy: array<f32>;
@group(0) @binding(1) var<storage, read> own: array<f32>;
@group(0) @binding(2) var<storage, read> other: array<f32>;
@group(0) @binding(3) var<storage, read_write> d_own: array<f32>;

@group(1) @binding(0) var<uniform> params: Params;

@compute @workgroup_size(WG)
fn forward(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>, @builtin(local_invocation_id) lid: vec3<u32>) {
    let i = flat_index(wid, nwg, lid.x);
    if i < params.n * params.m {
        let row = i / params.m;
        let mean = i - row * params.m;
        var total = 0.0;
        for (var d = 0u; d < params.d; d++) {
            let difference = x[row * params.d + d] - means[mean * params.d + d];
            total += difference * difference;
        }
        y[i] = total;
    }
}

@compute @workgroup_size(WG)
fn backward(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>, @builtin(local_invocation_id) lid: vec3<u32>) {
    let i = flat_index(wid, nwg, lid.x);
    if i < params.n * params.d {
        let row = i / params.d;
        let d = i - row * params.d;
        var total = 0.0;
        for (var o = 0u; o < params.m; o++) {
            let factor = 2.0 * dy[row * params.own_step + o * params.other_step];
            total += factor * (own[i] - other[o * params.d + d]);
        }
        d_own[i] = total;
    }
}
