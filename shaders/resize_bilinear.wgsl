// y[n, c, p, q] = the plane x[n, c] between its pixels, linearly along either axis, at ((p + ½)·H/P − ½, (q + ½)·W/Q − ½),
// where it ends with its outermost pixels
//
// Shapes: x (planes, H, W), y (planes, P, Q), planes = N·C. Places are fractions of whole numbers, so that all devices agree on
// them. forward: one invocation owns one output. backward: one invocation owns one input pixel and gathers from the outputs
// that it has a share in. CPU twin: src/ops/resize_bilinear.rs

struct Params {
    planes: u32,
    h: u32,
    w: u32,
    p: u32,
    q: u32,
}

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
@group(1) @binding(0) var<uniform> params: Params;

// The two inputs that an output lies between along an axis, and how far it is from the first to the second.
struct Between {
    lower: u32,
    upper: u32,
    t: f32,
}

fn between(output: u32, n_in: u32, n_out: u32) -> Between {
    let doubled = (2u * output + 1u) * n_in;
    let place = max(doubled, n_out) - n_out;
    let lower = min(place / (2u * n_out), n_in - 1u);
    return Between(lower, min(lower + 1u, n_in - 1u), f32(place - lower * 2u * n_out) / f32(2u * n_out));
}

// What the output takes of an input.
fn share(at: Between, input: u32) -> f32 {
    return select(0.0, 1.0 - at.t, input == at.lower) + select(0.0, at.t, input == at.upper);
}

// The first output that may have a share of an input, and the one behind the last.
fn outputs_of(input: u32, n_in: u32, n_out: u32) -> vec2<u32> {
    let first = (max(2u * input, 1u) - 1u) * n_out / (2u * n_in);
    let last = (2u * input + 3u) * n_out / (2u * n_in);
    return vec2<u32>(select(first, 0u, input == 0u), select(min(last + 1u, n_out), n_out, input + 1u == n_in));
}

@compute @workgroup_size(WG)
fn forward(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>, @builtin(local_invocation_id) lid: vec3<u32>) {
    let out = flat_index(wid, nwg, lid.x);
    if out < params.planes * params.p * params.q {
        let at = place_of(out, params.p, params.q);
        let row = between(at.row, params.h, params.p);
        let column = between(at.column, params.w, params.q);
        let upper = (at.plane * params.h + row.lower) * params.w;
        let lower = (at.plane * params.h + row.upper) * params.w;
        let left = (1.0 - row.t) * x[upper + column.lower] + row.t * x[lower + column.lower];
        let right = (1.0 - row.t) * x[upper + column.upper] + row.t * x[lower + column.upper];
        y[out] = (1.0 - column.t) * left + column.t * right;
    }
}

@group(0) @binding(0) var<storage, read> dy: array<f32>;
@group(0) @binding(1) var<storage, read_write> dx: array<f32>;

@compute @workgroup_size(WG)
fn backward(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>, @builtin(local_invocation_id) lid: vec3<u32>) {
    let pixel = flat_index(wid, nwg, lid.x);
    if pixel < params.planes * params.h * params.w {
        let at = place_of(pixel, params.h, params.w);
        let rows = outputs_of(at.row, params.h, params.p);
        let columns = outputs_of(at.column, params.w, params.q);
        var total = 0.0;
        for (var p = rows.x; p < rows.y; p++) {
            let along_row = (at.plane * params.p + p) * params.q;
            var part = 0.0;
            for (var q = columns.x; q < columns.y; q++) {
                part += share(between(q, params.w, params.q), at.column) * dy[along_row + q];
            }
            total += share(between(p, params.h, params.p), at.row) * part;
        }
        dx[pixel] = total;
    }
}
