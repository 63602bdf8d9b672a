// Convolution with a kernel of 3 × 3, stride 1 and padding 1 for few out-channels, without a product of matrices: a workgroup keeps
// a band of image rows, CK channels at a time, and the weights of BO out-channels in shared memory; an invocation computes TO
// out-channels × ROWS rows × 4 pixels.
//
//   sum[n, o, p, q] = Σ_{c, i, j} w[o, c, i, j] · x[n, c, p + i − 1, q + j − 1]
//
// Image rows are W4 vec4s. The weight is read by load_a of conv2d_weight_scalars.wgsl or, for an input gradient,
// conv2d_weight_flipped.wgsl; sizes in conv2d.wgsl, what becomes of the sum in conv2d_bias.wgsl or conv2d_norm.wgsl. The hole
//   fn note(index, image, top, first_m, sums)     what else becomes of an invocation's results, by all invocations together
// is filled by conv2d_direct_end.wgsl or conv2d_direct_moments.wgsl. Loops marked "unrolled" are written out (src/device/text.rs).
// CPU twin: src/ops/conv2d/cpu.rs::forward

const W4: u32 = 8u;
const BO: u32 = 16u;
const TO: u32 = 4u;
const ROWS: u32 = 2u;
const BAND: u32 = 16u;
const CK: u32 = 4u;
// Invocations that share out-channels: they lie side by side.
const N_STRIPS: u32 = W4 * (BAND / ROWS);
const N_INVOCATIONS: u32 = N_STRIPS * (BO / TO);

// A row of the band has a vec4 of zeros at either end, and there is a row above and below.
const ROW: u32 = W4 + 2u;
const BAND_ROWS: u32 = BAND + 2u;

@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;

var<workgroup> band: array<vec4<f32>, CK * BAND_ROWS * ROW>;
// (CK, 3, 3, BO)
var<workgroup> taps: array<vec4<f32>, CK * 9u * BO / 4u>;

@compute @workgroup_size(N_INVOCATIONS)
fn convolve(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) index: u32) {
    let image = wid.x;
    let top = wid.y * BAND;
    let first_o = wid.z * BO;
    let v = index % W4;
    let strip = index % N_STRIPS / W4;
    let out_four = index / N_STRIPS;
    for (var i = index; i < 2u * CK * BAND_ROWS; i += N_INVOCATIONS) {
        band[i / 2u * ROW + i % 2u * (W4 + 1u)] = vec4<f32>(0.0);
    }
    var sums: array<vec4<f32>, ROWS * TO>;
    for (var first_c = 0u; first_c < params.c; first_c += CK) {
        workgroupBarrier();
        for (var i = index; i < CK * BAND_ROWS * W4; i += N_INVOCATIONS) {
            let row = i / W4;
            let c = first_c + row / BAND_ROWS;
            // Above the image this wraps around.
            let u = top + row % BAND_ROWS - 1u;
            let image_row = (image * params.c + min(c, params.c - 1u)) * params.h + min(u, params.h - 1u);
            band[row * ROW + 1u + i % W4] = select(vec4<f32>(0.0), x[image_row * W4 + i % W4], c < params.c && u < params.h);
        }
        for (var i = index; i < CK * 9u * BO / 4u; i += N_INVOCATIONS) {
            let tap = i % (CK * 9u);
            let four = i / (CK * 9u);
            taps[tap * (BO / 4u) + four] = load_a(first_o + 4u * four, min(9u * first_c + tap, 9u * params.c - 1u));
        }
        workgroupBarrier();
        for (var k = 0u; k < CK; k++) {
            // Every row of the band as the three columns of the kernel meet it.
            var shifted: array<vec4<f32>, 3u * (ROWS + 2u)>;
            let at = (k * BAND_ROWS + strip * ROWS) * ROW + v;
            // unrolled
            for (var r = 0u; r < ROWS + 2u; r++) {
                let own = band[at + r * ROW + 1u];
                shifted[3u * r] = vec4<f32>(band[at + r * ROW].w, own.xyz);
                shifted[3u * r + 1u] = own;
                shifted[3u * r + 2u] = vec4<f32>(own.yzw, band[at + r * ROW + 2u].x);
            }
            // unrolled
            for (var t = 0u; t < 9u; t++) {
                // unrolled
                for (var f = 0u; f < TO / 4u; f++) {
                    let w = taps[(9u * k + t) * (BO / 4u) + out_four * (TO / 4u) + f];
                    // unrolled
                    for (var r = 0u; r < ROWS; r++) {
                        // unrolled
                        for (var o = 0u; o < 4u; o++) {
                            sums[r * TO + 4u * f + o] = fma(vec4<f32>(w[o]), shifted[3u * (r + t / 3u) + t % 3u], sums[r * TO + 4u * f + o]);
                        }
                    }
                }
            }
        }
    }
    let row = top + strip * ROWS;
    // unrolled
    for (var o = 0u; o < TO; o++) {
        let m = first_o + out_four * TO + o;
        let by = affine(min(m, params.o - 1u));
        // unrolled
        for (var r = 0u; r < ROWS; r++) {
            sums[r * TO + o] = fma(sums[r * TO + o], by.xxxx, by.yyyy);
            if m < params.o && row + r < params.h {
                put_four(4u * (((image * params.o + m) * params.h + row + r) * W4 + v), 4u, sums[r * TO + o]);
            }
        }
    }
    note(index, image, top, first_o + out_four * TO, &sums);
}
