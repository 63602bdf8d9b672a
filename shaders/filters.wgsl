// sums: y[o] = factor·Σ_i flat[start[o] + i] (divided by the length if `mean`, added to y[o] if `adds`)
// dots: y[t, l] = Σ_{o in tensor l} u[t, o]·sums[o]
// add:  g[start[o] + i] += factor·Σ_t coefficients[t, l(o)]·u[t, o] for every i < length[o]
//
// Shapes: flat and g (the flat vectors of a model); filters (n_filters) of (start, length); tensors (n_tensors) of (first filter,
// filters); tensor_of (n_filters); u (n_tasks, n_filters); sums (n_filters); y (n_filters) or (n_tasks, n_tensors); coefficients
// (n_tasks, n_tensors). Who owns a filter, or a dot product, see rows.wgsl. CPU twin: src/ops/filters.rs

struct Params {
    n_rows: u32,
    n_filters: u32,
    n_tensors: u32,
    n_tasks: u32,
    factor: f32,
    mean: u32,
    adds: u32,
}

@group(0) @binding(0) var<storage, read> filters: array<vec2<u32>>;
@group(0) @binding(1) var<storage, read> flat: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

@group(0) @binding(0) var<storage, read> tensors: array<vec2<u32>>;
@group(0) @binding(1) var<storage, read> dot_u: array<f32>;
@group(0) @binding(2) var<storage, read> sums_of_filters: array<f32>;
@group(0) @binding(3) var<storage, read_write> products: array<f32>;

@group(0) @binding(1) var<storage, read> tensor_of: array<u32>;
@group(0) @binding(2) var<storage, read> u: array<f32>;
@group(0) @binding(3) var<storage, read> coefficients: array<f32>;
@group(0) @binding(4) var<storage, read_write> g: array<f32>;

@group(1) @binding(0) var<uniform> params: Params;

@compute @workgroup_size(WG)
fn sums(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>, @builtin(local_invocation_id) lid: vec3<u32>) {
    let row = row_of(flat_index(wid, nwg, lid.x), params.n_rows);
    let filter = filters[row.row];
    var part = 0.0;
    for (var i = row.lane; i < filter.y; i += ROW) {
        part += flat[filter.x + i];
    }
    let total = sum_of_row(row.lane, part);
    if row.exists && row.lane == 0u {
        let divisor = select(1.0, f32(filter.y), params.mean == 1u);
        let before = select(0.0, y[row.row], params.adds == 1u);
        y[row.row] = before + params.factor * total / divisor;
    }
}

@compute @workgroup_size(WG)
fn dots(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>, @builtin(local_invocation_id) lid: vec3<u32>) {
    let row = row_of(flat_index(wid, nwg, lid.x), params.n_rows);
    let tensor = tensors[row.row % params.n_tensors];
    let task = row.row / params.n_tensors * params.n_filters;
    var part = 0.0;
    for (var o = tensor.x + row.lane; o < tensor.x + tensor.y; o += ROW) {
        part += dot_u[task + o] * sums_of_filters[o];
    }
    let total = sum_of_row(row.lane, part);
    if row.exists && row.lane == 0u {
        products[row.row] = total;
    }
}

@compute @workgroup_size(WG)
fn add(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>, @builtin(local_invocation_id) lid: vec3<u32>) {
    let row = row_of(flat_index(wid, nwg, lid.x), params.n_rows);
    if row.exists {
        var total = 0.0;
        for (var t = 0u; t < params.n_tasks; t += 1u) {
            total += coefficients[t * params.n_tensors + tensor_of[row.row]] * u[t * params.n_filters + row.row];
        }
        let filter = filters[row.row];
        for (var i = row.lane; i < filter.y; i += ROW) {
            g[filter.x + i] += params.factor * total;
        }
    }
}
