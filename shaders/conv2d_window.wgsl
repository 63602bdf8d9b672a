// What a convolution with a kernel of 1, 3 or 5 columns needs of an image: for a four of output pixels in one image row, and one row
// of the kernel, the input pixels lie together. This window of them serves all KW columns of the kernel.
//
// conv2d_window_fours.wgsl or conv2d_window_scalars.wgsl fill the hole:
//   fn read_window(image_row: u32, left: u32, exists: bool) -> PieceB     from the row that starts at image_row in x; the first output
//                                                                         pixel's own column is left
// CPU twin: none, it moves numbers for src/ops/conv2d/cpu.rs

const KW: u32 = 3u; // rows and columns of the kernel
const STRIDE: u32 = 1u;
const WINDOW: u32 = 3u * STRIDE + KW;

struct PieceB {
    pixels: array<f32, WINDOW>,
}
