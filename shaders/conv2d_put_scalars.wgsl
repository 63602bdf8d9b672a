// Puts the first n of four neighbouring pixels, one by one: for image rows of any length. CPU twin: none, it moves numbers for
// src/ops/conv2d/cpu.rs

fn put_four(at: u32, n: u32, value: vec4<f32>) {
    put(at, value.x);
    if n > 1u { put(at + 1u, value.y); }
    if n > 2u { put(at + 2u, value.z); }
    if n > 3u { put(at + 3u, value.w); }
}
