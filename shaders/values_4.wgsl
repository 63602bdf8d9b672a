// What an invocation loads at once: four neighbouring numbers, where rows are a multiple of four long. Kernels written in
// terms of `Values` are joined with this file or with values_1.wgsl. CPU twin: none, it only moves numbers.

alias Values = vec4<f32>;
const N_VALUES: u32 = 4u;

fn sum_of(v: Values) -> f32 {
    return (v.x + v.y) + (v.z + v.w);
}

fn value(v: Values, i: u32) -> f32 {
    return v[i];
}

// As many of these as there are.
fn first_of(a: f32, b: f32, c: f32, d: f32) -> Values {
    return Values(a, b, c, d);
}

fn nans(v: Values) -> vec4<bool> {
    return are_nan(v);
}
