// Fragments of gemm_fragments.wgsl as cooperative matrices: 16 × 16 numbers that the 32 invocations of a subgroup hold together.
// Factors are f16; products are exact and added up in f32. gemm_emulated.wgsl does the same in plain WGSL.

enable f16;
enable wgpu_cooperative_matrix;

// Four numbers of a slab.
alias Halves = vec4<f16>;
alias FragmentA = coop_mat16x16<f16, A>;
alias FragmentB = coop_mat16x16<f16, B>;
alias FragmentC = coop_mat16x16<f32, C>;

fn halves(v: vec4<f32>) -> Halves {
    return Halves(v);
}

// coopLoadT reads numbers that lie row by row, coopLoad those that lie column by column.
fn fragment_a(at: u32) -> FragmentA {
    if A_ALONG_K == 1u {
        return coopLoadT<FragmentA>(&a_slab[at], A_WIDTH);
    }
    return coopLoad<FragmentA>(&a_slab[at], A_WIDTH);
}

fn fragment_a_low(at: u32) -> FragmentA {
    if A_ALONG_K == 1u {
        return coopLoadT<FragmentA>(&a_low[at], A_WIDTH);
    }
    return coopLoad<FragmentA>(&a_low[at], A_WIDTH);
}

fn fragment_b(at: u32) -> FragmentB {
    if B_ALONG_K == 1u {
        return coopLoad<FragmentB>(&b_slab[at], B_WIDTH);
    }
    return coopLoadT<FragmentB>(&b_slab[at], B_WIDTH);
}

fn fragment_b_low(at: u32) -> FragmentB {
    if B_ALONG_K == 1u {
        return coopLoad<FragmentB>(&b_low[at], B_WIDTH);
    }
    return coopLoadT<FragmentB>(&b_low[at], B_WIDTH);
}

fn multiply_add(a: FragmentA, b: FragmentB, c: FragmentC) -> FragmentC {
    return coopMultiplyAdd(a, b, c);
}

// c + factor · low
fn combine(c: FragmentC, low: FragmentC, factor: f32) -> FragmentC {
    return c + low * factor;
}

fn put_on_stage(c: FragmentC, at: u32) {
    coopStoreT(c, &stage[at], STAGE_WIDTH);
}
