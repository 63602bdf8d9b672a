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

@compute @workgroup_size(WG)
fn forward(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>, @builtin(local_invocation_id) lid: vec3<u32>) {
    let out = flat_index(wid, nwg, lid.x);
    if out < params.planes * params.p * params.q {
        let at = place_of(out, params.p, params.q);
        let rows = covered(at.row, params.kh, params.sh, params.ph, params.h);
        let columns = covered(at.column, params.kw, params.sw, params.pw, params.w);
        var total = 0.0;
        for (var i = rows.x; i < rows.y; i++) {
            let along_row = (at.plane * params.h + i) * params.w;
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
    if pixel < params.planes * params.h * params.w {
        let at = place_of(pixel, params.h, params.w);
        let rows = covering(at.row, params.kh, params.sh, params.ph, params.p);
        let columns = covering(at.column, params.kw, params.sw, params.pw, params.q);
        var total = 0.0;
        for (var p = rows.x; p < rows.y; p++) {
            let along_row = (at.plane * params.p + p) * params.q;
            var part = 0.0;
            for (var q = columns.x; q < columns.y; q++) {
                part += dy[along_row + q];
            }
            total += part;
        }
        dx[pixel] = total / area();
    }
}
