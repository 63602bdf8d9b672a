// What tells sgd.wgsl and adam.wgsl whether a step is to be skipped: where a gradient overflowed (gradient_scale.wgsl).
// CPU twin: src/ops/optimizer_steps.rs

// Behind the vectors of the optimiser.
const STATE: u32 = 3u;

@group(0) @binding(STATE) var<storage, read> state: array<f32>;

fn is_skipped() -> bool {
    return state[3] != 0.0;
}
