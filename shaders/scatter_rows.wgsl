// table[slots[k]] = x[k]; rows whose slot is not in the table are left out
//
// Shapes: x (n_rows, n_columns), slots (n_rows), different from each other where they are in the table, table (n_slots,
// n_columns). One invocation owns one element of x. CPU twin: src/ops/scatter_rows.rs

struct Params {
    n_rows: u32,
    n_columns: u32,
    n_slots: u32,
}

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> slots: array<u32>;
@group(0) @binding(2) var<storage, read_write> table: array<f32>;
@group(1) @binding(0) var<uniform> params: Params;

@compute @workgroup_size(WG)
fn scatter(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>, @builtin(local_invocation_id) lid: vec3<u32>) {
    let i = flat_index(wid, nwg, lid.x);
    if i < params.n_rows * params.n_columns {
        let row = i / params.n_columns;
        if slots[row] < params.n_slots {
            table[slots[row] * params.n_columns + i - row * params.n_columns] = x[i];
        }
    }
}
