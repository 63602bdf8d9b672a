// y[t·N + n, c, i, j] = x[n, c, i, j] turned t times by 90 degrees, counter-clockwise
//
// Shapes: x (N, C, S, S), y (4·N, C, S, S). One invocation owns one element of y. CPU twin: src/ops/quarter_turns.rs

struct Params {
    n: u32,      // elements of x
    side: u32,
}

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
@group(1) @binding(0) var<uniform> params: Params;

@compute @workgroup_size(WG)
fn forward(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>, @builtin(local_invocation_id) lid: vec3<u32>) {
    let at = flat_index(wid, nwg, lid.x);
    if at < 4u * params.n {
        let last = params.side - 1u;
        let pixel = at % (params.side * params.side);
        let i = pixel / params.side;
        let j = pixel % params.side;
        var from = vec2<u32>(i, j);
        switch at / params.n {
            case 1u: { from = vec2<u32>(j, last - i); }
            case 2u: { from = vec2<u32>(last - i, last - j); }
            case 3u: { from = vec2<u32>(last - j, i); }
            default: {}
        }
        y[at] = x[at % params.n - pixel + from.x * params.side + from.y];
    }
}
