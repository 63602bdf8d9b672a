// The window of conv2d_window.wgsl where image rows lie in whole vec4s and the padding is KW / 2: aligned vec4s and what is needed of
// their neighbours. CPU twin: none, it moves numbers for src/ops/conv2d/cpu.rs

@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;

// A vec4 with the four pixels before the first output pixel's own, and those from it on.
const N_BLOCKS: u32 = 1u + (WINDOW - KW / 2u + 3u) / 4u;

fn read_window(image_row: u32, left: u32, exists: bool) -> PieceB {
    let row = image_row / 4u;
    var blocks: array<vec4<f32>, N_BLOCKS>;
    // unrolled
    for (var i = 0u; i < N_BLOCKS; i++) {
        // Left of the image this wraps around.
        let column = left + 4u * i - 4u;
        blocks[i] = select(vec4<f32>(0.0), x[row + min(column, params.w - 4u) / 4u], exists && column < params.w);
    }
    var piece: PieceB;
    // unrolled
    for (var e = 0u; e < WINDOW; e++) {
        piece.pixels[e] = blocks[(e + 4u - KW / 2u) / 4u][(e + 4u - KW / 2u) % 4u];
    }
    return piece;
}
