// Nothing more becomes of a direct convolution's results than that they are put. CPU twin: none, it computes nothing

fn note(index: u32, image: u32, top: u32, first_m: u32, sums: ptr<function, array<vec4<f32>, ROWS * TO>>) {}
