// What an invocation loads at once: one number, where rows are not a multiple of four long. The twin of values_4.wgsl.
// CPU twin: none, it only moves numbers.

alias Values = f32;
const N_VALUES: u32 = 1u;

fn sum_of(v: Values) -> f32 {
    return v;
}

fn value(v: Values, i: u32) -> f32 {
    return v;
}

// As many of these as there are.
fn first_of(a: f32, b: f32, c: f32, d: f32) -> Values {
    return a;
}

fn nans(v: Values) -> bool {
    return is_nan(v);
}
