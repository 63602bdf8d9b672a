// The end of a convolution by conv2d_winograd.wgsl: y = Aᵀ·m·A of the products m at the points of a tile.
//
//   products (16, O, T) → y (N, O, P, Q)
//
// What becomes of a sum, and where it goes, is in conv2d_bias.wgsl and conv2d_y.wgsl or in conv2d_norm.wgsl and conv2d_folded.wgsl;
// sizes in conv2d.wgsl. One invocation owns one tile of one out-channel. CPU twin: src/ops/conv2d/winograd/transforms.rs

@group(0) @binding(0) var<storage, read> products: array<f32>;

@compute @workgroup_size(WG)
fn outputs(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>, @builtin(local_invocation_id) lid: vec3<u32>) {
    let i = flat_index(wid, nwg, lid.x);
    let columns = (params.q + 1u) / 2u;
    let of_image = (params.p + 1u) / 2u * columns;
    let n_tiles = (params.n * of_image + 3u) / 4u * 4u;
    let channel = i / n_tiles;
    let number = i - channel * n_tiles;
    let image = number / of_image;
    if channel < params.o && image < params.n {
        var m: mat4x4<f32>;
        // unrolled
        for (var point = 0u; point < 16u; point++) {
            m[point / 4u][point % 4u] = products[point * params.o * n_tiles + i];
        }
        let rows = transpose(mat2x4<f32>(m[0] + m[1] + m[2], m[1] - m[2] - m[3]));
        // A list of columns.
        let y = mat2x2<f32>(rows[0] + rows[1] + rows[2], rows[1] - rows[2] - rows[3]);
        let by = affine(channel);
        let row = (number - image * of_image) / columns;
        let u = 2u * row;
        let v = 2u * (number - image * of_image - row * columns);
        let at = ((image * params.o + channel) * params.p + u) * params.q + v;
        put(at, fma(y[0][0], by.x, by.y));
        if v + 1u < params.q { put(at + 1u, fma(y[1][0], by.x, by.y)); }
        if u + 1u < params.p {
            put(at + params.q, fma(y[0][1], by.x, by.y));
            if v + 1u < params.q { put(at + params.q + 1u, fma(y[1][1], by.x, by.y)); }
        }
    }
}
