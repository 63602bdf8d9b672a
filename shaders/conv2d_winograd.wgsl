// Convolution of 3 × 3 kernels with a stride of 1 by fewer products: Winograd's F(2×2, 3×3) (Lavin and Gray, "Fast Algorithms for
// Convolutional Neural Networks", CVPR 2016). A tile of 2 × 2 outputs y needs 4 × 4 inputs d. With the kernel g, all of them seen as
// matrices,
//
//   y = Aᵀ·[(G·g·Gᵀ) ⊙ (Bᵀ·d·B)]·A        Bᵀ = 1  0 −1  0    G = 1   0   0    Aᵀ = 1 1  1  0
//                                              0  1  1  0        ½   ½   ½         0 1 −1 −1
//   dg = Gᵀ·[(A·dy·Aᵀ) ⊙ (Bᵀ·d·B)]·G           0 −1  1  0        ½  −½   ½
//                                              0  1  0 −1        0   0   1
//
// A transformed tile has 16 points. At each of them the products, summed over channels or, for dg, over tiles, are a product of
// matrices (matmul_tile.wgsl). This file has the transforms around it but that of y, which is in conv2d_winograd_y.wgsl; sizes in
// conv2d.wgsl. Shapes, with T tiles of the batch, filled up to whole fours by zeros:
//
//   inputs             x (N, C, H, W) → (16, C, T)           gradients         dy (N, O, P, Q) → (16, O, T)
//   weights            w (O, C, 3, 3) → (16, C, O)           weight_gradients  (16, O, C) → dw (O, C, 3, 3)
//
// One invocation owns one tile of one channel, or one kernel. Loops marked "unrolled" are written out (src/device/text.rs).
// CPU twin: src/ops/conv2d/winograd/transforms.rs

// 1 for an input gradient: the kernels, w (C, O, 3, 3) then, are turned by half a turn. Such a kernel has the same transformed
// numbers at other points: G times a column turned over is G times the column, the first and the last number exchanged.
const TURNED: u32 = 0u;

@group(0) @binding(0) var<storage, read> origin: array<f32>;
@group(0) @binding(1) var<storage, read_write> transformed: array<f32>;

struct Tile {
    image: u32,
    row: u32,   // of its first output
    column: u32,
    exists: bool,
}

// Tiles of the batch, in whole fours.
fn n_tiles() -> u32 {
    return (params.n * ((params.p + 1u) / 2u) * ((params.q + 1u) / 2u) + 3u) / 4u * 4u;
}

fn tile_at(number: u32) -> Tile {
    let columns = (params.q + 1u) / 2u;
    let of_image = (params.p + 1u) / 2u * columns;
    let image = number / of_image;
    let rest = number - image * of_image;
    let row = rest / columns;
    return Tile(min(image, params.n - 1u), 2u * row, 2u * (rest - row * columns), image < params.n);
}

// Every matrix below is a list of rows. Each function multiplies from the left; from the right it is used between two transpositions.

fn b_transposed(d: mat4x4<f32>) -> mat4x4<f32> {
    return mat4x4<f32>(d[0] - d[2], d[1] + d[2], d[2] - d[1], d[1] - d[3]);
}

fn inputs_of(channel: u32, tile: Tile) -> mat4x4<f32> {
    let plane = (tile.image * params.c + channel) * params.h;
    var d: mat4x4<f32>;
    // unrolled
    for (var r = 0u; r < 4u; r++) {
        // Before the image these wrap around.
        let u = tile.row + r - params.padding;
        // unrolled
        for (var s = 0u; s < 4u; s++) {
            let v = tile.column + s - params.padding;
            let pixel = origin[(plane + min(u, params.h - 1u)) * params.w + min(v, params.w - 1u)];
            d[r][s] = select(0.0, pixel, tile.exists && u < params.h && v < params.w);
        }
    }
    return d;
}

@compute @workgroup_size(WG)
fn inputs(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>, @builtin(local_invocation_id) lid: vec3<u32>) {
    let i = flat_index(wid, nwg, lid.x);
    let of_point = params.c * n_tiles();
    if i < of_point {
        let channel = i / n_tiles();
        let d = inputs_of(channel, tile_at(i - channel * n_tiles()));
        put_points(i, of_point, b_transposed(transpose(b_transposed(d))));
    }
}

@compute @workgroup_size(WG)
fn gradients(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>, @builtin(local_invocation_id) lid: vec3<u32>) {
    let i = flat_index(wid, nwg, lid.x);
    let of_point = params.o * n_tiles();
    if i < of_point {
        let channel = i / n_tiles();
        let tile = tile_at(i - channel * n_tiles());
        let plane = (tile.image * params.o + channel) * params.p;
        var dy: mat2x2<f32>;
        // unrolled
        for (var r = 0u; r < 2u; r++) {
            let u = tile.row + r;
            // unrolled
            for (var s = 0u; s < 2u; s++) {
                let v = tile.column + s;
                let gradient = origin[(plane + min(u, params.p - 1u)) * params.q + min(v, params.q - 1u)];
                dy[r][s] = select(0.0, gradient, tile.exists && u < params.p && v < params.q);
            }
        }
        let rows = transpose(mat4x2<f32>(dy[0], dy[0] + dy[1], dy[0] - dy[1], -dy[1]));
        put_points(i, of_point, mat4x4<f32>(rows[0], rows[0] + rows[1], rows[0] - rows[1], -rows[1]));
    }
}

@compute @workgroup_size(WG)
fn weights(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>, @builtin(local_invocation_id) lid: vec3<u32>) {
    let i = flat_index(wid, nwg, lid.x);
    let of_point = params.c * params.o;
    if i < of_point {
        let channel = i / params.o;
        let at = 9u * select((i - channel * params.o) * params.c + channel, i, TURNED == 1u);
        let g = mat3x3<f32>(
            origin[at], origin[at + 1u], origin[at + 2u],
            origin[at + 3u], origin[at + 4u], origin[at + 5u],
            origin[at + 6u], origin[at + 7u], origin[at + 8u],
        );
        let rows = transpose(mat4x3<f32>(g[0], 0.5 * (g[0] + g[1] + g[2]), 0.5 * (g[0] - g[1] + g[2]), g[2]));
        let sum = rows[0] + rows[2];
        var u = mat4x4<f32>(rows[0], 0.5 * (sum + rows[1]), 0.5 * (sum - rows[1]), rows[2]);
        if TURNED == 1u {
            u = mat4x4<f32>(u[3].wyzx, u[1].wyzx, u[2].wyzx, u[0].wyzx);
        }
        put_points(i, of_point, u);
    }
}

@compute @workgroup_size(WG)
fn weight_gradients(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>, @builtin(local_invocation_id) lid: vec3<u32>) {
    let i = flat_index(wid, nwg, lid.x);
    let of_point = params.c * params.o;
    if i < of_point {
        var u: mat4x4<f32>;
        // unrolled
        for (var point = 0u; point < 16u; point++) {
            u[point / 4u][point % 4u] = origin[point * of_point + i];
        }
        let columns = transpose(mat3x4<f32>(u[0] + 0.5 * (u[1] + u[2]), 0.5 * (u[1] - u[2]), 0.5 * (u[1] + u[2]) + u[3]));
        let dg = mat3x3<f32>(
            columns[0] + 0.5 * (columns[1] + columns[2]), 0.5 * (columns[1] - columns[2]), 0.5 * (columns[1] + columns[2]) + columns[3],
        );
        // unrolled
        for (var tap = 0u; tap < 9u; tap++) {
            transformed[9u * i + tap] = dg[tap % 3u][tap / 3u];
        }
    }
}

// The 16 numbers of a tile or kernel, given as a list of columns.
fn put_points(at: u32, of_point: u32, columns: mat4x4<f32>) {
    // unrolled
    for (var point = 0u; point < 16u; point++) {
        transformed[point * of_point + at] = columns[point % 4u][point / 4u];
    }
}
