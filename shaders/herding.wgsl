// Greedy herding: pick k minimises ‖μ − (φ[n] + Σ chosen)/k‖ over the rows not yet chosen (iCaRL, Algorithm 4).
//
// That orders the rows like ‖t − φ[n]‖² with t = k·μ − Σ chosen, so t starts at μ and moves by μ − φ[pick].
// Shapes: features (n_rows, n_columns), target and mean (n_columns), scores and chosen (n_rows), picks (m).
//   score: one invocation owns one row's score
//   pick:  one invocation finds the first smallest score, marks it, and moves the target
// CPU twin: src/ops/herding.rs

struct Params {
    n_rows: u32,
    n_columns: u32,
    k: u32,
}

@group(0) @binding(0) var<storage, read> features: array<f32>;
@group(0) @binding(1) var<storage, read> target_in: array<f32>;
@group(0) @binding(2) var<storage, read> chosen_in: array<f32>;
@group(0) @binding(3) var<storage, read_write> scores_out: array<f32>;

@group(0) @binding(1) var<storage, read> scores: array<f32>;
@group(0) @binding(2) var<storage, read> mean: array<f32>;
@group(0) @binding(3) var<storage, read_write> moving_target: array<f32>;
@group(0) @binding(4) var<storage, read_write> chosen: array<f32>;
@group(0) @binding(5) var<storage, read_write> picks: array<u32>;

@group(1) @binding(0) var<uniform> params: Params;

@compute @workgroup_size(WG)
fn score(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>, @builtin(local_invocation_id) lid: vec3<u32>) {
    let row = flat_index(wid, nwg, lid.x);
    if row < params.n_rows {
        var total = 0.0;
        for (var d = 0u; d < params.n_columns; d++) {
            let difference = target_in[d] - features[row * params.n_columns + d];
            total += difference * difference;
        }
        scores_out[row] = select(total, FLT_MAX, chosen_in[row] != 0.0);
    }
}

@compute @workgroup_size(WG)
fn pick(@builtin(local_invocation_id) lid: vec3<u32>) {
    // The first open row, should no score be a number.
    var best = lid.x;
    var lowest = FLT_MAX;
    var found = false;
    for (var row = 0u; row < params.n_rows; row++) {
        if chosen[row] == 0.0 && (!found || scores[row] < lowest) {
            lowest = scores[row];
            best = row;
            found = true;
        }
    }
    picks[params.k] = best;
    chosen[best] = 1.0;
    for (var d = 0u; d < params.n_columns; d++) {
        moving_target[d] += mean[d] - features[best * params.n_columns + d];
    }
}
