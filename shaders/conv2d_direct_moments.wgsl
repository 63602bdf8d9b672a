// What the batch norm after a direct convolution needs of its results: count, mean and Σ (y − mean)² of each out-channel in each
// workgroup's band of rows, the partials of batch_norm_moments.wgsl. An invocation has TO = 4 channels, one in each component.
// CPU twin: src/ops/batch_norm/cpu.rs::channels

@group(0) @binding(FIRST_BINDING + 2u) var<storage, read_write> partials: array<vec4<f32>>;

// The sum over the invocations that share out-channels. The band of the image is no longer needed.
fn over_strips(index: u32, part: vec4<f32>) -> vec4<f32> {
    let own = index % N_STRIPS;
    workgroupBarrier();
    band[index] = part;
    workgroupBarrier();
    var n = N_STRIPS;
    while n > 1u {
        let half = (n + 1u) / 2u;
        if own + half < n {
            band[index] += band[index + half];
        }
        workgroupBarrier();
        n = half;
    }
    return band[index - own];
}

fn note(index: u32, image: u32, top: u32, first_m: u32, sums: ptr<function, array<vec4<f32>, ROWS * TO>>) {
    let row = top + index % N_STRIPS / W4 * ROWS;
    var part = vec4<f32>(0.0);
    // unrolled
    for (var r = 0u; r < ROWS; r++) {
        if row + r < params.h {
            // unrolled
            for (var o = 0u; o < TO; o++) {
                part[o] += dot((*sums)[r * TO + o], vec4<f32>(1.0));
            }
        }
    }
    let count = f32(4u * W4 * min(BAND, params.h - top));
    let mean = over_strips(index, part) / count;
    part = vec4<f32>(0.0);
    // unrolled
    for (var r = 0u; r < ROWS; r++) {
        if row + r < params.h {
            // unrolled
            for (var o = 0u; o < TO; o++) {
                let d = (*sums)[r * TO + o] - vec4<f32>(mean[o]);
                part[o] += dot(d, d);
            }
        }
    }
    let m2 = over_strips(index, part);
    let m = first_m + index % N_STRIPS;
    if index % N_STRIPS < TO && m < params.o {
        let n_bands = (params.h + BAND - 1u) / BAND;
        let o = index % N_STRIPS;
        partials[(m * params.n + image) * n_bands + top / BAND] = vec4<f32>(count, mean[o], m2[o], 0.0);
    }
}
