// Gradient of a convolution with respect to its input: rows are in-channels, columns are input pixels of the batch.
//
//   dx[n, c, u, v] = Σ_{o, i} Σ_j w[o, c, i, j] · dy[n, o, p, q]
//   where p·stride = u + padding − i·dilation, q·stride = v + padding − j·dilation
//
// outer is o, inner and depth are the taps i and j that reach the phase (conv2d.wgsl) of the pixel; each z-slice of the grid is
// a pair of phases. The weight comes packed. Eight columns are eight neighbouring pixels of one row of the phase, so for
// dilation 1 the next tap needs one new pixel: the window slides. The holes of gemm_8x8.wgsl.
// CPU twin: src/ops/conv2d/cpu.rs::backward_input

// True for dilation 1: the window slides.
override SLIDING: bool = true;

@group(0) @binding(1) var<storage, read> dy: array<f32>;
// dx is y of conv2d_y.wgsl.
const FIRST_BINDING: u32 = 1u;

struct Columns {
    image: u32,       // n
    row: u32,         // of the phase
    v: u32,           // the first of eight pixels in that row
    rows: Phase,
    columns: Phase,
}

struct Window {
    b0: vec4<f32>,
    b1: vec4<f32>,
    base: u32,  // where the row starts in dy
    x: u32,     // the column of dy that the first tap of the first pixel meets; wraps around left of it
    width: u32, // columns of dy that exist: 0 if the row does not
    step: u32,
}

fn rows() -> Phase {
    return phase_of(slice / params.stride, params.h, params.kh);
}

fn columns() -> Phase {
    return phase_of(slice % params.stride, params.w, params.kw);
}

fn extent() -> Extent {
    let rows = rows();
    let columns = columns();
    let groups = params.n * rows.n_pixels * ((columns.n_pixels + 7u) / 8u);
    let origin = rows.first * params.kw + columns.first;
    let row_step = rows.tap_step * params.kw;
    let end = select(params.o, 0u, rows.n_taps == 0u);
    return Extent(params.c, groups, columns.n_taps, rows.n_taps, 0u, end, origin, params.kh * params.kw, row_step, columns.tap_step);
}

fn columns_at(group: u32) -> Columns {
    let rows = rows();
    let columns = columns();
    let per_row = (columns.n_pixels + 7u) / 8u;
    let row = group / per_row;
    let image = row / rows.n_pixels;
    return Columns(image, row - image * rows.n_pixels, 8u * (group - row * per_row), rows, columns);
}

fn start(columns: Columns, o: u32, i: u32) -> Window {
    // Above the first output the difference wraps around to a large number.
    let row = columns.row + columns.rows.begin - i * columns.rows.output_step;
    let base = ((columns.image * params.o + o) * params.p + min(row, params.p - 1u)) * params.q;
    let first = columns.v + columns.columns.begin;
    let width = select(0u, params.q, row < params.p);
    var window = Window(vec4<f32>(0.0), vec4<f32>(0.0), base, first, width, columns.columns.output_step);
    if SLIDING {
        // Seven of the eight pixels; the first step brings the eighth from the left.
        window.b0 = four(window, first + 1u);
        window.b1 = vec4<f32>(pixel(window, first + 5u), pixel(window, first + 6u), pixel(window, first + 7u), 0.0);
    }
    return window;
}

fn advance(window: ptr<function, Window>, d: u32) {
    if SLIDING {
        (*window).b1 = vec4<f32>((*window).b0.w, (*window).b1.xyz);
        (*window).b0 = vec4<f32>(pixel(*window, (*window).x - d), (*window).b0.xyz);
    } else {
        let first = (*window).x - d * (*window).step;
        (*window).b0 = four(*window, first);
        (*window).b1 = four(*window, first + 4u);
    }
}

fn pixel(window: Window, column: u32) -> f32 {
    return select(0.0, dy[window.base + min(column, params.q - 1u)], column < window.width);
}

fn four(window: Window, x: u32) -> vec4<f32> {
    return vec4<f32>(pixel(window, x), pixel(window, x + 1u), pixel(window, x + 2u), pixel(window, x + 3u));
}

fn store(m: u32, columns: Columns, c0: vec4<f32>, c1: vec4<f32>) {
    let step = params.stride;
    let u = columns.row * step + slice / step;
    let at = ((columns.image * params.c + m) * params.h + u) * params.w + columns.v * step + slice % step;
    let n = columns.columns.n_pixels - columns.v;
    put(at, c0.x);
    if n > 1u { put(at + step, c0.y); }
    if n > 2u { put(at + 2u * step, c0.z); }
    if n > 3u { put(at + 3u * step, c0.w); }
    if n > 4u { put(at + 4u * step, c1.x); }
    if n > 5u { put(at + 5u * step, c1.y); }
    if n > 6u { put(at + 6u * step, c1.z); }
    if n > 7u { put(at + 7u * step, c1.w); }
}
