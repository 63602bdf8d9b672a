// counts[label, prediction] += 1 for each pixel whose label and prediction are classes
//
// Shapes: predictions and labels (n), counts (n_classes, n_classes). One invocation owns one pixel. Whole numbers add up to the
// same in any order. CPU twin: src/ops/confusion.rs

struct Params {
    n: u32,
    n_classes: u32,
}

@group(0) @binding(0) var<storage, read> predictions: array<u32>;
@group(0) @binding(1) var<storage, read> labels: array<u32>;
@group(0) @binding(2) var<storage, read_write> counts: array<atomic<u32>>;
@group(1) @binding(0) var<uniform> params: Params;

@compute @workgroup_size(WG)
fn count(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>, @builtin(local_invocation_id) lid: vec3<u32>) {
    let i = flat_index(wid, nwg, lid.x);
    if i < params.n {
        let label = labels[i];
        let prediction = predictions[i];
        if label < params.n_classes && prediction < params.n_classes {
            atomicAdd(&counts[label * params.n_classes + prediction], 1u);
        }
    }
}
