// Fragments of gemm_fragments.wgsl in plain WGSL, to test everything but the instructions of gemm_matrices.wgsl where there are none: a
// fragment of a factor is the place in the slab where it starts, an invocation keeps eight columns of one row of a fragment of the sums.

// Four numbers of a slab.
alias Halves = vec2<u32>;

struct FragmentA {
    at: u32,
    is_low: bool,
}

struct FragmentB {
    at: u32,
    is_low: bool,
}

struct FragmentC {
    fours: array<vec4<f32>, 2>,
}

fn halves(v: vec4<f32>) -> Halves {
    return Halves(pack2x16float(v.xy), pack2x16float(v.zw));
}

fn numbers(halves: Halves) -> vec4<f32> {
    return vec4<f32>(unpack2x16float(halves.x), unpack2x16float(halves.y));
}

fn fragment_a(at: u32) -> FragmentA {
    return FragmentA(at, false);
}

fn fragment_a_low(at: u32) -> FragmentA {
    return FragmentA(at, true);
}

fn fragment_b(at: u32) -> FragmentB {
    return FragmentB(at, false);
}

fn fragment_b_low(at: u32) -> FragmentB {
    return FragmentB(at, true);
}

fn read_a(a: FragmentA, offset: u32) -> vec4<f32> {
    if a.is_low {
        return numbers(a_low[a.at + offset]);
    }
    return numbers(a_slab[a.at + offset]);
}

fn read_b(b: FragmentB, offset: u32) -> vec4<f32> {
    if b.is_low {
        return numbers(b_low[b.at + offset]);
    }
    return numbers(b_slab[b.at + offset]);
}

fn multiply_add(a: FragmentA, b: FragmentB, c: FragmentC) -> FragmentC {
    let row = lane / 2u;
    let column = lane % 2u * 8u;
    var sum = c;
    for (var k = 0u; k < 16u; k++) {
        var left: f32;
        if A_ALONG_K == 1u {
            left = read_a(a, row * A_WIDTH + k / 4u)[k % 4u];
        } else {
            left = read_a(a, k * A_WIDTH + row / 4u)[row % 4u];
        }
        for (var j = 0u; j < 2u; j++) {
            var right: vec4<f32>;
            if B_ALONG_K == 1u {
                for (var e = 0u; e < 4u; e++) {
                    right[e] = read_b(b, (column + 4u * j + e) * B_WIDTH + k / 4u)[k % 4u];
                }
            } else {
                right = read_b(b, k * B_WIDTH + column / 4u + j);
            }
            sum.fours[j] += left * right;
        }
    }
    return sum;
}

// c + factor · low
fn combine(c: FragmentC, low: FragmentC, factor: f32) -> FragmentC {
    var sum = c;
    for (var j = 0u; j < 2u; j++) {
        sum.fours[j] += factor * low.fours[j];
    }
    return sum;
}

fn put_on_stage(c: FragmentC, at: u32) {
    for (var j = 0u; j < 2u; j++) {
        stage[at + lane / 2u * STAGE_WIDTH + lane % 2u * 2u + j] = c.fours[j];
    }
}
