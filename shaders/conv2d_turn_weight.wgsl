// The weight of a convolution turned by half a turn, with its channels exchanged: with it the input gradient for a stride of 1 is
// a forward pass over dy whose patches lie in one piece.
//
//   turned[c, o, t] = w[o, c, T − 1 − t]          w (O, C, T), turned (C, O, T), T = KH·KW
//
// One invocation owns one element. CPU twin: src/ops/conv2d/cpu.rs::backward_input

struct Params {
    n_out: u32,
    n_in: u32,
    window: u32, // T
}

@group(0) @binding(0) var<storage, read> weight: array<f32>;
@group(0) @binding(1) var<storage, read_write> turned: array<f32>;
@group(1) @binding(0) var<uniform> params: Params;

@compute @workgroup_size(WG)
fn turn(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>, @builtin(local_invocation_id) lid: vec3<u32>) {
    let i = flat_index(wid, nwg, lid.x);
    if i < params.n_out * params.n_in * params.window {
        let row = i / params.window;
        let c = row / params.n_out;
        let o = row - c * params.n_out;
        turned[i] = weight[(o * params.n_in + c + 1u) * params.window - 1u - (i - row * params.window)];
    }
}
