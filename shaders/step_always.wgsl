// What tells sgd.wgsl and adam.wgsl whether a step is to be skipped: none is. CPU twin: src/ops/optimizer_steps.rs

fn is_skipped() -> bool {
    return false;
}
