// The window of conv2d_window.wgsl pixel by pixel, for any width and padding. CPU twin: none, it moves numbers for
// src/ops/conv2d/cpu.rs

@group(0) @binding(1) var<storage, read> x: array<f32>;

fn read_window(image_row: u32, left: u32, exists: bool) -> PieceB {
    var piece: PieceB;
    // unrolled
    for (var e = 0u; e < WINDOW; e++) {
        // Left of the image this wraps around.
        let column = left + e - params.padding;
        piece.pixels[e] = select(0.0, x[image_row + min(column, params.w - 1u)], exists && column < params.w);
    }
    return piece;
}
