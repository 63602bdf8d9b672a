// Sizes of a convolution, shared by its three passes and by both skeletons of a matrix product.

struct Params {
    n: u32, c: u32, h: u32, w: u32,       // x (N, C, H, W)
    o: u32, kh: u32, kw: u32,             // weight (O, C, KH, KW)
    p: u32, q: u32,                       // y (N, O, P, Q)
    stride: u32,
    padding: u32,
    dilation: u32,
    // The common divisor of stride and dilation.
    divisor: u32,
    has_bias: u32,
    // Weight gradient: how many of its terms (image rows or pixels) a slice adds up.
    per_slice: u32,
    // Of a batch norm that is folded in: whether a residual is added, what is added to variances, the smallest result.
    has_residual: u32,
    epsilon: f32,
    lowest: f32,
}
@group(1) @binding(0) var<uniform> params: Params;

// Along one axis of the image, the input pixels of one phase: phase, phase + stride, …. With phases apart, no tap of the
// kernel meets a pixel that the stride skips. Pixel number `at` of the phase receives tap first + t·tap_step from the output
// at (begin + at) − t·output_step.
struct Phase {
    n_pixels: u32,
    first: u32,
    n_taps: u32,
    tap_step: u32,
    begin: u32,       // may wrap around below zero
    output_step: u32,
}

fn phase_of(phase: u32, n_pixels: u32, kernel: u32) -> Phase {
    let tap_step = params.stride / params.divisor;
    // The first tap that reaches this phase: phase + padding − first·dilation is a multiple of the stride.
    let back = params.stride - params.dilation % params.stride;
    var first = 0u;
    while first < tap_step && (phase + params.padding + first * back) % params.stride != 0u {
        first++;
    }
    let exists = first < tap_step && first < kernel;
    let n_taps = select(0u, (kernel + tap_step - 1u - first) / tap_step, exists);
    let begin = (i32(phase + params.padding) - i32(first * params.dilation)) / i32(params.stride);
    let pixels = (n_pixels + params.stride - 1u - phase) / params.stride;
    return Phase(pixels, first, n_taps, tap_step, u32(begin), params.dilation / params.divisor);
}

// ⌊a / b⌋ for a < 2²⁰: exact, and quicker than the processors' integer division.
fn divide(a: u32, b: u32) -> u32 {
    return u32((f32(a) + 0.5) / f32(b));
}
