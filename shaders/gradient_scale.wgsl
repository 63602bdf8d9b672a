// Gradients of a loss that was scaled by a power of two, so that they are not too small for f16.
//
// unscale: g = g / scale, exactly; what is not finite becomes 0 and sets the flag overflowed.
// settle: before a step, looks at the flag and lowers it. Where it was set the step is to be skipped, and the scale halves; after
// growth_interval steps in a row without overflow it doubles.
//
// Shapes: gradient (n), state (5), flag (1). The flag is an integer that can only be set: the order in which invocations do so
// changes nothing. CPU twin: src/ops/gradient_scale.rs

struct Params {
    n: u32,
    growth_interval: u32,
    smallest: f32,
    largest: f32,
}

struct State {
    scale: f32,
    inverse: f32,
    n_good: f32, // steps since the scale last changed
    skips: f32,  // 1 if the step that comes next is to be skipped
    n_skipped: f32,
}

@group(0) @binding(0) var<storage, read> scaled_by: State;
@group(0) @binding(1) var<storage, read_write> gradient: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> overflowed: atomic<u32>;

@group(0) @binding(0) var<storage, read_write> state: State;
@group(0) @binding(1) var<storage, read_write> flag: atomic<u32>;
@group(1) @binding(0) var<uniform> params: Params;

@compute @workgroup_size(WG)
fn unscale(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>, @builtin(local_invocation_id) lid: vec3<u32>) {
    let i = flat_index(wid, nwg, lid.x);
    if 4u * i < params.n {
        let g = gradient[i];
        // Infinities and what is not a number have all bits of the exponent set.
        let finite = (bitcast<vec4<u32>>(g) & vec4<u32>(0x7f800000u)) != vec4<u32>(0x7f800000u);
        if !all(finite) {
            atomicStore(&overflowed, 1u);
        }
        gradient[i] = select(vec4<f32>(0.0), g * scaled_by.inverse, finite);
    }
}

@compute @workgroup_size(WG)
fn settle(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_id) lid: vec3<u32>) {
    if wid.x != 0u || lid.x != 0u {
        return;
    }
    if atomicLoad(&flag) != 0u {
        atomicStore(&flag, 0u);
        state.skips = 1.0;
        state.n_skipped += 1.0;
        state.n_good = 0.0;
        if state.scale > params.smallest {
            state.scale *= 0.5;
            state.inverse *= 2.0;
        }
    } else {
        state.skips = 0.0;
        state.n_good += 1.0;
        if state.n_good >= f32(params.growth_interval) {
            state.n_good = 0.0;
            if state.scale < params.largest {
                state.scale *= 2.0;
                state.inverse *= 0.5;
            }
        }
    }
}
