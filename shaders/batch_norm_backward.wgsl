// The backward pass of batch_norm.wgsl on software adapters, in two dispatches. dz = dy where y > lowest, else 0.
//   reduce    partials[c, s] = Σ dz and Σ dz · (x − mean) of slice s
//   backward  dbias = Σ dz, dweight = Σ dz · x̂,
//             dx = scale · (dz − (dbias + x̂ · dweight) / (N·I)), and scale · dz where mean and variance are running ones
// With a residual, whether y > lowest cannot be told from x: then reduce_residual reads y, and writes dz, which is the
// residual's gradient, for backward to read in place of dy. spread gives a residual of another shape its gradient.
// CPU twin: src/ops/batch_norm/cpu.rs::backward

@group(0) @binding(0) var<storage, read> dy: array<f32>;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> table: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> partials: array<vec2<f32>>;

// What of dy reaches the sum before the ReLU, which was z or is the result z.
fn passed(gradient: f32, z: f32) -> f32 {
    return select(0.0, gradient, z > params.lowest || is_nan(z));
}

@compute @workgroup_size(WG)
fn reduce(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_id) lid: vec3<u32>) {
    let slice = slice_of(wid, lid);
    let channel = table[slice.c];
    var sum = vec2<f32>(0.0);
    let step = WG / lanes();
    for (var n = slice.first + slice.lane / lanes(); n < slice.end; n += step) {
        let start = plane(n, slice.c);
        for (var i = slice.lane % lanes(); i < params.inner; i += lanes()) {
            let value = x[start + i];
            let dz = passed(dy[start + i], fma(value, channel.x, channel.y));
            sum += vec2<f32>(dz, dz * (value - channel.z));
        }
    }
    let total = add_up(slice.lane, sum);
    if slice.lane == 0u {
        partials[partial_at(slice.c, wid.y)] = total;
    }
}

@group(0) @binding(4) var<storage, read> y: array<f32>;
@group(0) @binding(5) var<storage, read_write> dz: array<f32>;

@compute @workgroup_size(WG)
fn reduce_residual(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_id) lid: vec3<u32>) {
    let slice = slice_of(wid, lid);
    let channel = table[slice.c];
    var sum = vec2<f32>(0.0);
    let step = WG / lanes();
    for (var n = slice.first + slice.lane / lanes(); n < slice.end; n += step) {
        let start = plane(n, slice.c);
        for (var i = slice.lane % lanes(); i < params.inner; i += lanes()) {
            let gradient = passed(dy[start + i], y[start + i]);
            dz[start + i] = gradient;
            sum += vec2<f32>(gradient, gradient * (x[start + i] - channel.z));
        }
    }
    let total = add_up(slice.lane, sum);
    if slice.lane == 0u {
        partials[partial_at(slice.c, wid.y)] = total;
    }
}

@group(0) @binding(6) var<storage, read> joined: array<vec2<f32>>;
@group(0) @binding(3) var<storage, read_write> dx: array<f32>;
@group(0) @binding(4) var<storage, read_write> dweight: array<f32>;
@group(0) @binding(5) var<storage, read_write> dbias: array<f32>;

@compute @workgroup_size(WG)
fn backward(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_id) lid: vec3<u32>) {
    let slice = slice_of(wid, lid);
    let c = slice.c;
    let channel = table[c];
    var sum = vec2<f32>(0.0);
    for (var s = slice.lane; s < params.n_slices; s += WG) {
        sum += joined[partial_at(c, s)];
    }
    let total = add_up(slice.lane, sum);
    if wid.y == 0u && slice.lane == 0u {
        dbias[c] = total.x;
        dweight[c] = total.y * channel.w;
    }
    let line = along_and_rest(channel, total);
    let step = WG / lanes();
    for (var n = slice.first + slice.lane / lanes(); n < slice.end; n += step) {
        let start = plane(n, c);
        for (var i = slice.lane % lanes(); i < params.inner; i += lanes()) {
            let value = x[start + i];
            let gradient = passed(dy[start + i], fma(value, channel.x, channel.y));
            dx[start + i] = fma(gradient, channel.x, fma(value, line.x, line.y));
        }
    }
}

@group(0) @binding(1) var<storage, read_write> dresidual: array<f32>;

// One invocation owns one element of dresidual.
@compute @workgroup_size(WG)
fn spread(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>, @builtin(local_invocation_id) lid: vec3<u32>) {
    let at = flat_index(wid, nwg, lid.x);
    if at < params.n * params.residual_c * params.residual_h * params.residual_w {
        let row = at / params.residual_w;
        let column = at - row * params.residual_w;
        let map = row / params.residual_h;
        let n = map / params.residual_c;
        let q = column / params.residual_stride;
        let p = (row - map * params.residual_h) / params.residual_stride;
        let c = map - n * params.residual_c + params.residual_first;
        let exact = q * params.residual_stride == column && p * params.residual_stride == row - map * params.residual_h;
        dresidual[at] = select(0.0, dy[plane(n, c) + p * params.width + q], exact);
    }
}
