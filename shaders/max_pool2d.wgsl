// y[n, c, p, q] = max over the window of size × size pixels at (p·stride, q·stride) of x[n, c]
//
// Shapes: x (planes, H, W), y and argmax (planes, P, Q), planes = N·C. argmax is the place in the plane; the first of equal
// maxima in reading order wins. forward: one invocation owns one output. backward: one invocation owns one input pixel and
// gathers from the windows that cover it. CPU twin: src/ops/max_pool2d.rs

struct Params {
    planes: u32,
    h: u32,
    w: u32,
    p: u32,
    q: u32,
    size: u32,
    stride: u32,
}

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
@group(0) @binding(2) var<storage, read_write> argmax_out: array<u32>;

@group(0) @binding(0) var<storage, read> dy: array<f32>;
@group(0) @binding(1) var<storage, read> argmax: array<u32>;
@group(0) @binding(2) var<storage, read_write> dx: array<f32>;

@group(1) @binding(0) var<uniform> params: Params;

@compute @workgroup_size(WG)
fn forward(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>, @builtin(local_invocation_id) lid: vec3<u32>) {
    let out = flat_index(wid, nwg, lid.x);
    let outputs = params.p * params.q;
    if out < params.planes * outputs {
        let plane = out / outputs;
        let row = (out - plane * outputs) / params.q;
        let column = out - plane * outputs - row * params.q;
        let start = plane * params.h * params.w;
        let corner = row * params.stride * params.w + column * params.stride;
        var best = x[start + corner];
        var best_at = corner;
        for (var i = 0u; i < params.size; i++) {
            for (var j = 0u; j < params.size; j++) {
                let here = corner + i * params.w + j;
                let value = x[start + here];
                if value > best {
                    best = value;
                    best_at = here;
                }
            }
        }
        y[out] = best;
        argmax_out[out] = best_at;
    }
}

@compute @workgroup_size(WG)
fn backward(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>, @builtin(local_invocation_id) lid: vec3<u32>) {
    let pixel = flat_index(wid, nwg, lid.x);
    let pixels = params.h * params.w;
    if pixel < params.planes * pixels {
        let plane = pixel / pixels;
        let here = pixel - plane * pixels;
        let v = here / params.w;
        let u = here - v * params.w;
        // Windows that start at most size − 1 pixels before this one.
        let first_row = (max(v + 1u, params.size) - params.size + params.stride - 1u) / params.stride;
        let end_row = min(v / params.stride + 1u, params.p);
        let first_column = (max(u + 1u, params.size) - params.size + params.stride - 1u) / params.stride;
        let end_column = min(u / params.stride + 1u, params.q);
        var total = 0.0;
        for (var row = first_row; row < end_row; row++) {
            for (var column = first_column; column < end_column; column++) {
                let out = (plane * params.p + row) * params.q + column;
                if argmax[out] == here {
                    total += dy[out];
                }
            }
        }
        dx[pixel] = total;
    }
}
