// y[n, c, v, u] = (x − mean)·inverse_std, x the source's byte/255 at (v + dy, u + dx), mirrored first if flip, scaled by 1/step
// about the centre, bilinear between pixels; 0 outside
//
// Shapes: pixels: N·C·H·W bytes, four to a word; draws (N, 4): the bits of dy, dx, flip, step; mean (C) or (C, H, W);
// inverse_std (C); y (N, C, H, W). Places in the source are whole numbers of 1/8192 of a pixel. One invocation owns one element
// of y. CPU twin: src/ops/image_batch.rs

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

const UNIT = 4096; // the step of an image that is not scaled, half a pixel

/// Where the source is read for the place `at` along an axis of `size` pixels.
fn source(at: u32, size: u32, shift: i32, step: i32) -> i32 {
    return (2 * i32(at) + 1 - i32(size)) * step + (i32(size) - 1) * UNIT + 2 * UNIT * shift;
}

/// The source's byte at a pixel of the plane that begins at `start`; the edge is repeated.
fn byte_at(start: u32, row: i32, column: i32) -> f32 {
    let inside = vec2(clamp(row, 0, i32(params.h) - 1), clamp(column, 0, i32(params.w) - 1));
    let at = start + u32(inside.x) * params.w + u32(inside.y);
    return f32((pixels[at / 4u] >> (8u * (at % 4u))) & 255u);
}

/// The source's value at a place between its pixels.
fn between(start: u32, place: vec2<i32>) -> f32 {
    let pixel = place >> vec2(13u); // rounds down, as 2·UNIT = 2¹³
    let part = vec2<f32>(place & vec2(2 * UNIT - 1)) / f32(2 * UNIT);
    let corner = byte_at(start, pixel.x, pixel.y);
    if all(part == vec2(0.0)) { return corner; }
    let upper = mix(corner, byte_at(start, pixel.x, pixel.y + 1), part.y);
    let lower = mix(byte_at(start, pixel.x + 1, pixel.y), byte_at(start, pixel.x + 1, pixel.y + 1), part.y);
    return mix(upper, lower, part.x);
}

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
        let shift = vec2(bitcast<i32>(draws[4u * image]), bitcast<i32>(draws[4u * image + 1u]));
        let step = bitcast<i32>(draws[4u * image + 3u]);
        var place = vec2(source(row, params.h, shift.x, step), source(column, params.w, shift.y, step));
        if draws[4u * image + 2u] != 0u { place.y = (i32(params.w) - 1) * 2 * UNIT - place.y; }
        let near = (place + UNIT) >> vec2(13u);
        var value = 0.0;
        if all(near >= vec2(0)) && near.x < i32(params.h) && near.y < i32(params.w) {
            let in_plane = u32(near.x) * params.w + u32(near.y);
            let mean_at = select(channel, channel * plane_size + in_plane, params.mean_per_pixel != 0u);
            value = (between(plane * plane_size, place) * (1.0 / 255.0) - mean[mean_at]) * inverse_std[channel];
        }
        y[at] = value;
    }
}
