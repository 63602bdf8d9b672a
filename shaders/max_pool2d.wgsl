// y[n, c, p, q] = max over the window of size × size pixels at (p·stride − padding, q·stride − padding) of x[n, c]; pixels
// outside do not count
//
// Shapes: x (planes, H, W), y and argmax (planes, P, Q), planes = N·C. argmax is the place in the plane; the first of equal
// maxima in reading order wins, and the last of what is not a number. forward: one invocation owns one output. backward: one
// invocation owns one input pixel and gathers from the windows that cover it. forward_pairs, backward_pairs: windows of 2 × 2
// that touch, in rows that are a multiple of four long: one invocation owns two outputs, or the two rows of four pixels below
// them. CPU twin: src/ops/max_pool2d.rs

struct Params {
    planes: u32,
    h: u32,
    w: u32,
    p: u32,
    q: u32,
    size: u32,
    stride: u32,
    padding: u32,
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
    if out < params.planes * params.p * params.q {
        let at = place_of(out, params.p, params.q);
        let start = at.plane * params.h * params.w;
        let rows = covered(at.row, params.size, params.stride, params.padding, params.h);
        let columns = covered(at.column, params.size, params.stride, params.padding, params.w);
        var best_at = rows.x * params.w + columns.x;
        var best = x[start + best_at];
        for (var i = rows.x; i < rows.y; i++) {
            for (var j = columns.x; j < columns.y; j++) {
                let here = i * params.w + j;
                let value = x[start + here];
                if (value > best && !is_nan(best)) || is_nan(value) {
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
    if pixel < params.planes * params.h * params.w {
        let at = place_of(pixel, params.h, params.w);
        let here = at.row * params.w + at.column;
        let rows = covering(at.row, params.size, params.stride, params.padding, params.p);
        let columns = covering(at.column, params.size, params.stride, params.padding, params.q);
        var total = 0.0;
        for (var row = rows.x; row < rows.y; row++) {
            for (var column = columns.x; column < columns.y; column++) {
                let out = (at.plane * params.p + row) * params.q + column;
                if argmax[out] == here {
                    total += dy[out];
                }
            }
        }
        dx[pixel] = total;
    }
}

@group(0) @binding(0) var<storage, read> quads: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> y_pairs: array<vec2<f32>>;
@group(0) @binding(2) var<storage, read_write> argmax_pairs_out: array<vec2<u32>>;

@group(0) @binding(0) var<storage, read> dy_pairs: array<vec2<f32>>;
@group(0) @binding(1) var<storage, read> argmax_pairs: array<vec2<u32>>;
@group(0) @binding(2) var<storage, read_write> dx_quads: array<vec4<f32>>;

struct Best {
    value: f32,
    at: u32,
}

fn better(a: Best, b: Best) -> Best {
    let takes = (b.value > a.value && !is_nan(a.value)) || is_nan(b.value);
    return Best(select(a.value, b.value, takes), select(a.at, b.at, takes));
}

fn best_of(upper: vec2<f32>, lower: vec2<f32>, corner: u32) -> Best {
    let first = better(Best(upper.x, corner), Best(upper.y, corner + 1u));
    return better(better(first, Best(lower.x, corner + params.w)), Best(lower.y, corner + params.w + 1u));
}

@compute @workgroup_size(WG)
fn forward_pairs(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>, @builtin(local_invocation_id) lid: vec3<u32>) {
    let pair = flat_index(wid, nwg, lid.x);
    let n_columns = params.w / 4u;
    if pair < params.planes * params.p * n_columns {
        let row = pair / n_columns;
        let column = pair - row * n_columns;
        let plane = row / params.p;
        let above = 2u * (row - plane * params.p);
        let at = (plane * params.h + above) * n_columns + column;
        let upper = quads[at];
        let lower = quads[at + n_columns];
        let corner = above * params.w + 4u * column;
        let left = best_of(upper.xy, lower.xy, corner);
        let right = best_of(upper.zw, lower.zw, corner + 2u);
        y_pairs[pair] = vec2<f32>(left.value, right.value);
        argmax_pairs_out[pair] = vec2<u32>(left.at, right.at);
    }
}

@compute @workgroup_size(WG)
fn backward_pairs(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>, @builtin(local_invocation_id) lid: vec3<u32>) {
    let block = flat_index(wid, nwg, lid.x);
    let n_columns = params.w / 4u;
    let n_rows = (params.h + 1u) / 2u;
    if block < params.planes * n_rows * n_columns {
        let row = block / n_columns;
        let column = block - row * n_columns;
        let plane = row / n_rows;
        let p = row - plane * n_rows;
        let at = (plane * params.h + 2u * p) * n_columns + column;
        if p < params.p {
            let out = (plane * params.p + p) * n_columns + column;
            let gradient = dy_pairs[out].xxyy;
            let best = argmax_pairs[out].xxyy;
            let upper = vec4<u32>(2u * p * params.w + 4u * column) + vec4<u32>(0u, 1u, 2u, 3u);
            dx_quads[at] = select(vec4<f32>(0.0), gradient, best == upper);
            dx_quads[at + n_columns] = select(vec4<f32>(0.0), gradient, best == upper + vec4<u32>(params.w));
        } else {
            // The last of an odd number of rows is under no window.
            dx_quads[at] = vec4<f32>(0.0);
        }
    }
}
