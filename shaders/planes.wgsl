// Where an element stands among planes of rows and columns, and which pixels of an axis belong to which windows. Windows of
// `kernel` pixels begin at window·stride − padding. CPU twin: none, there planes and rows are slices.

struct Place {
    plane: u32,
    row: u32,
    column: u32,
}

fn place_of(element: u32, rows: u32, columns: u32) -> Place {
    let row = element / columns;
    let plane = row / rows;
    return Place(plane, row - plane * rows, element - row * columns);
}

// The pixels of an axis that the window with this number covers: the first, and the one behind the last.
fn covered(window: u32, kernel: u32, stride: u32, padding: u32, n: u32) -> vec2<u32> {
    let start = window * stride;
    return vec2<u32>(max(start, padding) - padding, min(max(start + kernel, padding) - padding, n));
}

// The windows of an axis that cover this pixel: the first, and the one behind the last.
fn covering(pixel: u32, kernel: u32, stride: u32, padding: u32, n: u32) -> vec2<u32> {
    let at = pixel + padding;
    let first = (max(at + 1u, kernel) - kernel + stride - 1u) / stride;
    return vec2<u32>(first, min(at / stride + 1u, n));
}
