// A-GEM: g = g − (⟨g, r⟩/⟨r, r⟩)·r if ⟨g, r⟩ < 0, else g
//
// Shapes: g, r (n), the flat gradient and that of the memory; partials (2·n_partials), dots (2). Two dots in a fixed order
// (strided partial sums, each by the invocations of a row, see rows.wgsl, then their sum), then an axpy that reads its factor from
// dots, so that the host never waits. CPU twin: src/ops/project.rs

struct Params {
    n: u32,
    n_partials: u32,
}

@group(0) @binding(0) var<storage, read> g: array<f32>;
@group(0) @binding(1) var<storage, read> r: array<f32>;
@group(0) @binding(2) var<storage, read_write> partials: array<f32>;

@group(0) @binding(0) var<storage, read> all_partials: array<f32>;
@group(0) @binding(1) var<storage, read_write> dots: array<f32>;

@group(0) @binding(0) var<storage, read> the_dots: array<f32>;
@group(0) @binding(1) var<storage, read> memory: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> gradient: array<vec4<f32>>;
@group(1) @binding(0) var<uniform> params: Params;

@compute @workgroup_size(WG)
fn partial(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>, @builtin(local_invocation_id) lid: vec3<u32>) {
    let row = row_of(flat_index(wid, nwg, lid.x), params.n_partials);
    var dot_gr = 0.0;
    var dot_rr = 0.0;
    for (var k = row.row * ROW + row.lane; k < params.n; k += params.n_partials * ROW) {
        dot_gr += g[k] * r[k];
        dot_rr += r[k] * r[k];
    }
    dot_gr = sum_of_row(row.lane, dot_gr);
    dot_rr = sum_of_row(row.lane, dot_rr);
    if row.exists && row.lane == 0u {
        partials[2u * row.row] = dot_gr;
        partials[2u * row.row + 1u] = dot_rr;
    }
}

@compute @workgroup_size(WG)
fn finish(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>, @builtin(local_invocation_id) lid: vec3<u32>) {
    let row = row_of(flat_index(wid, nwg, lid.x), 1u);
    var dot_gr = 0.0;
    var dot_rr = 0.0;
    for (var i = row.lane; i < params.n_partials; i += ROW) {
        dot_gr += all_partials[2u * i];
        dot_rr += all_partials[2u * i + 1u];
    }
    dot_gr = sum_of_row(row.lane, dot_gr);
    dot_rr = sum_of_row(row.lane, dot_rr);
    if row.exists && row.lane == 0u {
        dots[0] = dot_gr;
        dots[1] = dot_rr;
    }
}

@compute @workgroup_size(WG)
fn subtract(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>, @builtin(local_invocation_id) lid: vec3<u32>) {
    let i = flat_index(wid, nwg, lid.x);
    if 4u * i < params.n && the_dots[0] < 0.0 {
        let factor = the_dots[0] / the_dots[1];
        gradient[i] = keep_inside(gradient[i] - factor * memory[i], i, params.n);
    }
}
