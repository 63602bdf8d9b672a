// y[n, c, p, q] = the mean of the window of KH × KW pixels at (p·SH − PH, q·SW − PW) of x[n, c], zero outside the image
//
// Shapes: x (planes, H, W), y (planes, P, Q), planes = N·C. forward: one invocation owns one output. backward: one invocation
// owns one input pixel and gathers from the windows that cover it. CPU twin: src/ops/avg_pool2d.rs

struct Params {
    planes: u32,
    h: u32,
    w: u32,
    p: u32,
    q: u32,
    kh: u32,
    kw: u32,
    sh: u32,
    sw: u32,
    ph: u32,
    pw: u32,
}

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
@group(1) @binding(0) var<uniform> params: Params;

@group(0) @binding(0) var<storage, read> dy: array<f32>;
@group(0) @binding(1) var<storage, read_write> dx: array<f32>;

fn area() -> f32 {
    return f32(params.kh) * f32(params.kw);
}

// The pixels of an axis that the window with this number covers: the first, and the one behind the last.
fn covered(window: u32, kernel: u32, stride: u32, padding: u32, n: u32) -> vec2<u32> {
    let start = window * stride;
    return vec2<u32>(max(start, padding) - padding, min(max(start + kernel, padding) - padding, n));
}

// The windows of an axis that cover this pixel: the first, and the one behind the last.
fn covering(pixel: u32, kernel: u32, stride: u32, padding: u32, n: u32) -> vec2<u32> {
    let at = pixel + padding;
    let first = (max(at + 1u, kernel) - kernel + stride - 1u) / stride;
    return vec2<u32>(first, min(at / stride + 1u, n));
}

@compute @workgroup_size(WG)
fn forward(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>, @builtin(local_invocation_id) lid: vec3<u32>) {
    let out = flat_index(wid, nwg, lid.x);
    let outputs = params.p * params.q;
    if out < params.planes * outputs {
        let plane = out / outputs;
        let p = (out - plane * outputs) / params.q;
        let q = out - plane * outputs - p * params.q;
        let rows = covered(p, params.kh, params.sh, params.ph, params.h);
        let columns = covered(q, params.kw, params.sw, params.pw, params.w);
        var total = 0.0;
        for (var i = rows.x; i < rows.y; i++) {
            let along_row = (plane * params.h + i) * params.w;
            var part = 0.0;
            for (var j = columns.x; j < columns.y; j++) {
                part += x[along_row + j];
            }
            total += part;
        }
        y[out] = total / area();
    }
}

@compute @workgroup_size(WG)
fn backward(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>, @builtin(local_invocation_id) lid: vec3<u32>) {
    let pixel = flat_index(wid, nwg, lid.x);
    let pixels = params.h * params.w;
    if pixel < params.planes * pixels {
        let plane = pixel / pixels;
        let i = (pixel - plane * pixels) / params.w;
        let j = pixel - plane * pixels - i * params.w;
        let rows = covering(i, params.kh, params.sh, params.ph, params.p);
        let columns = covering(j, params.kw, params.sw, params.pw, params.q);
        var total = 0.0;
        for (var p = rows.x; p < rows.y; p++) {
            let along_row = (plane * params.p + p) * params.q;
            var part = 0.0;
            for (var q = columns.x; q < columns.y; q++) {
                part += dy[along_row + q];
            }
            total += part;
        }
        dx[pixel] = total / area();
    }
}
