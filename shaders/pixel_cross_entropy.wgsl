// y[n, i] = ln Σ_c exp x[n, c, i] − ln Σ_{c ∈ G} exp x[n, c, i] over the first n_active channels
// dx[n, c, i] = dy[n, i]·(softmax(x)[c] − softmax over G[c])
//
// G is the class label[n, i], or all of the first n_merged if it is one of those; y and dx are 0 where the label is IGNORE.
// Shapes: x (N, C, plane), labels and y (n_pixels) = (N, plane). One invocation owns one pixel.
// CPU twin: src/ops/pixel_cross_entropy.rs

struct Params {
    n_pixels: u32,
    c: u32,
    plane: u32,
    n_active: u32,
    n_merged: u32,
}

const IGNORE: u32 = 0xffffffffu;

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> labels: array<u32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

@group(0) @binding(2) var<storage, read> dy: array<f32>;
@group(0) @binding(3) var<storage, read_write> dx: array<f32>;

@group(1) @binding(0) var<uniform> params: Params;

// A label that is not active makes the loss not a number, which the host notices.
fn nan_unless(valid: bool) -> f32 {
    return select(bitcast<f32>(0x7fc00000u | params.n_pixels), 0.0, valid);
}

// Where the pixel's numbers of channel 0 are.
fn start_of(pixel: u32) -> u32 {
    let image = pixel / params.plane;
    return pixel + image * (params.c - 1u) * params.plane;
}

// The channels that a label stands for: the first, and the one behind the last.
fn group_of(label: u32) -> vec2<u32> {
    let class_idx = min(label, params.n_active - 1u);
    return select(vec2<u32>(class_idx, class_idx + 1u), vec2<u32>(0u, params.n_merged), class_idx < params.n_merged);
}

// The largest number of some channels, and Σ exp(x − largest).
fn soften(start: u32, channels: vec2<u32>) -> vec2<f32> {
    var largest = -FLT_MAX;
    for (var c = channels.x; c < channels.y; c++) {
        largest = max(largest, x[start + c * params.plane]);
    }
    var total = 0.0;
    for (var c = channels.x; c < channels.y; c++) {
        total += exp(x[start + c * params.plane] - largest);
    }
    return vec2<f32>(largest, total);
}

@compute @workgroup_size(WG)
fn forward(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>, @builtin(local_invocation_id) lid: vec3<u32>) {
    let pixel = flat_index(wid, nwg, lid.x);
    if pixel < params.n_pixels {
        let label = labels[pixel];
        let start = start_of(pixel);
        let all = soften(start, vec2<u32>(0u, params.n_active));
        let own = soften(start, group_of(label));
        let loss = (log(all.y) - log(own.y)) + (all.x - own.x) + nan_unless(label < params.n_active);
        y[pixel] = select(loss, 0.0, label == IGNORE);
    }
}

@compute @workgroup_size(WG)
fn backward(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>, @builtin(local_invocation_id) lid: vec3<u32>) {
    let pixel = flat_index(wid, nwg, lid.x);
    if pixel < params.n_pixels {
        let label = labels[pixel];
        let start = start_of(pixel);
        let all = soften(start, vec2<u32>(0u, params.n_active));
        let group = group_of(label);
        let own = soften(start, group);
        let counts = label != IGNORE;
        for (var c = 0u; c < params.c; c++) {
            let at = start + c * params.plane;
            let of_group = select(0.0, exp(x[at] - own.x) / own.y, c >= group.x && c < group.y);
            let gradient = dy[pixel] * (exp(x[at] - all.x) / all.y - of_group) + nan_unless(label < params.n_active);
            dx[at] = select(0.0, gradient, counts && c < params.n_active);
        }
    }
}
