// y[n, i] = −(1/K)·Σ_{c < K} t[c]·ln q[c],  t = softmax of the teacher's first K channels,
// q[0] = p[0] + Σ_{K ≤ c < n_active} p[c],  q[c] = p[c] else,  p = softmax of the first n_active channels of x
// dx[c] = dy·(p[c] − t[c])/K for 0 < c < K,  dy·(p[c] − t[0]·p[c]/q[0])/K for the others
//
// Shapes: x (N, C, plane), teacher (N, D, plane), y (n_pixels) = (N, plane), K = n_old. One invocation owns one pixel.
// CPU twin: src/ops/pixel_distillation.rs

struct Params {
    n_pixels: u32,
    c: u32,
    plane: u32,
    d: u32,
    n_old: u32,
    n_active: u32,
}

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> teacher: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

@group(0) @binding(2) var<storage, read> dy: array<f32>;
@group(0) @binding(3) var<storage, read_write> dx: array<f32>;

@group(1) @binding(0) var<uniform> params: Params;

// Where the pixel's numbers of channel 0 are among maps of so many channels.
fn start_of(pixel: u32, channels: u32) -> u32 {
    let image = pixel / params.plane;
    return pixel + image * (channels - 1u) * params.plane;
}

// A largest number, and Σ exp(number − largest).
struct Softened {
    largest: f32,
    total: f32,
}

fn soften_teacher(start: u32) -> Softened {
    var largest = -FLT_MAX;
    for (var c = 0u; c < params.n_old; c++) {
        largest = max(largest, teacher[start + c * params.plane]);
    }
    var total = 0.0;
    for (var c = 0u; c < params.n_old; c++) {
        total += exp(teacher[start + c * params.plane] - largest);
    }
    return Softened(largest, total);
}

// Of the first channel and those from `next` on.
fn soften_student(start: u32, next: u32) -> Softened {
    var largest = x[start];
    for (var c = next; c < params.n_active; c++) {
        largest = max(largest, x[start + c * params.plane]);
    }
    var total = exp(x[start] - largest);
    for (var c = next; c < params.n_active; c++) {
        total += exp(x[start + c * params.plane] - largest);
    }
    return Softened(largest, total);
}

@compute @workgroup_size(WG)
fn forward(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>, @builtin(local_invocation_id) lid: vec3<u32>) {
    let pixel = flat_index(wid, nwg, lid.x);
    if pixel < params.n_pixels {
        let start = start_of(pixel, params.c);
        let taught = start_of(pixel, params.d);
        let t = soften_teacher(taught);
        let all = soften_student(start, 1u);
        let merged = soften_student(start, params.n_old);
        let t0 = exp(teacher[taught] - t.largest) / t.total;
        var loss = t0 * ((log(all.total) - log(merged.total)) + (all.largest - merged.largest));
        for (var c = 1u; c < params.n_old; c++) {
            let probability = exp(teacher[taught + c * params.plane] - t.largest) / t.total;
            loss += probability * (log(all.total) + (all.largest - x[start + c * params.plane]));
        }
        y[pixel] = loss / f32(params.n_old);
    }
}

@compute @workgroup_size(WG)
fn backward(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>, @builtin(local_invocation_id) lid: vec3<u32>) {
    let pixel = flat_index(wid, nwg, lid.x);
    if pixel < params.n_pixels {
        let start = start_of(pixel, params.c);
        let taught = start_of(pixel, params.d);
        let t = soften_teacher(taught);
        let all = soften_student(start, 1u);
        let merged = soften_student(start, params.n_old);
        let t0 = exp(teacher[taught] - t.largest) / t.total;
        let scale = dy[pixel] / f32(params.n_old);
        for (var c = 0u; c < params.c; c++) {
            let at = start + c * params.plane;
            var wanted = t0 * exp(x[at] - merged.largest) / merged.total;
            if c > 0u && c < params.n_old {
                wanted = exp(teacher[taught + c * params.plane] - t.largest) / t.total;
            }
            dx[at] = select(0.0, scale * (exp(x[at] - all.largest) / all.total - wanted), c < params.n_active);
        }
    }
}
