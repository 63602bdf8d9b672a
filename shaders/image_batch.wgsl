// y[n, c, v, u] = (byte/255 − mean)·inverse_std at the source pixel (v + dy, u + dx), mirrored first if flip; 0 outside
//
// Shapes: pixels: N·C·H·W bytes, four to a word; draws (N, 3): the bits of dy, dx, flip; mean (C) or (C, H, W);
// inverse_std (C); y (N, C, H, W). One invocation owns one element of y. CPU twin: src/ops/image_batch.rs

struct Params {
    n: u32,
    c: u32,
    h: u32,
    w: u32,
    mean_per_pixel: u32,
}

@group(0) @binding(0) var<storage, read> pixels: array<u32>;
@group(0) @binding(1) var<storage, read> draws: array<u32>;
@group(0) @binding(2) var<storage, read> mean: array<f32>;
@group(0) @binding(3) var<storage, read> inverse_std: array<f32>;
@group(0) @binding(4) var<storage, read_write> y: array<f32>;
@group(1) @binding(0) var<uniform> params: Params;

@compute @workgroup_size(WG)
fn forward(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>, @builtin(local_invocation_id) lid: vec3<u32>) {
    let at = flat_index(wid, nwg, lid.x);
    let plane_size = params.h * params.w;
    if at < params.n * params.c * plane_size {
        let plane = at / plane_size;
        let image = plane / params.c;
        let channel = plane - image * params.c;
        let row = (at - plane * plane_size) / params.w;
        let column = at - plane * plane_size - row * params.w;
        // Above and left of the image the sum wraps around to a large number.
        let from_row = row + draws[3u * image];
        var from_column = column + draws[3u * image + 1u];
        var value = 0.0;
        if from_row < params.h && from_column < params.w {
            if draws[3u * image + 2u] != 0u { from_column = params.w - 1u - from_column; }
            let in_plane = from_row * params.w + from_column;
            let source = plane * plane_size + in_plane;
            let byte = (pixels[source / 4u] >> (8u * (source % 4u))) & 255u;
            let mean_at = select(channel, channel * plane_size + in_plane, params.mean_per_pixel != 0u);
            value = (f32(byte) * (1.0 / 255.0) - mean[mean_at]) * inverse_std[channel];
        }
        y[at] = value;
    }
}
