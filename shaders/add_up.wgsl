// The sum over the invocations of a workgroup, for kernels whose workgroups share one. Fixed order: 16 of them add what
// lies 16 apart, then everyone adds those 16; two barriers instead of one per halving. CPU twin: none, it moves partial
// sums of a kernel.

const ROOTS: u32 = 16u;
var<workgroup> parts: array<vec2<f32>, WG>;

// All invocations of the workgroup must call it, and all get the sum.
fn add_up(lane: u32, part: vec2<f32>) -> vec2<f32> {
    parts[lane] = part;
    workgroupBarrier();
    if lane < ROOTS {
        var sum = part;
        for (var i = lane + ROOTS; i < WG; i += ROOTS) {
            sum += parts[i];
        }
        parts[lane] = sum;
    }
    workgroupBarrier();
    var total = parts[0];
    for (var i = 1u; i < min(ROOTS, WG); i++) {
        total += parts[i];
    }
    // The next call overwrites what others still read.
    workgroupBarrier();
    return total;
}
