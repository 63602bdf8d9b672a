//! Pre-activation residual networks (He et al., "Identity mappings in deep residual networks", ECCV 2016) for small images, as the
//! literature on task-incremental learning has them (Adam-NSCL, DFD, VDFD): four stages, a 3×3 stem without pooling, a batch norm
//! and ReLU before the pooling. Names of parameters are those of that code.

use super::Options;
use crate::nn::Builder;
use crate::ops::Conv2d;

/// Four stages of so many blocks, 64 to 512 channels wide. A stage is named where its values enter the ReLU: behind the batch norm
/// that the next stage, or the pooling, begins with.
pub fn imagenet(b: &mut Builder, options: &Options, n_blocks: [usize; 4], n_outputs: usize) {
    let widths = [64, 128, 256, 512].map(|channels| options.scaled(channels));
    b.conv("conv1", widths[0], 3, Conv2d::new(1, 1), false);
    for (i, (channels, n_blocks)) in widths.into_iter().zip(n_blocks).enumerate() {
        for block in 0..n_blocks {
            let stride = if i > 0 && block == 0 { 2 } else { 1 };
            let name = format!("stage{}.{block}", i + 1);
            let ends_stage = i > 0 && block == 0;
            basic_block(b, &name, "shortcut.0", channels, stride, ends_stage);
        }
    }
    b.batch_norm("bn_last", None, true);
    b.end_stage();
    b.global_avg_pool();
    b.feature();
    b.linear("last", n_outputs);
}

/// x' + conv(relu(bn(conv(a)))) with a = relu(bn(x)), where x' is x, or a 1×1 convolution of a, called `shortcut`, if the shape changes.
/// Where the block `ends_stage`, the stage before is named where its values enter the ReLU.
pub(super) fn basic_block(
    b: &mut Builder,
    name: &str,
    shortcut: &str,
    channels: usize,
    stride: usize,
    ends_stage: bool,
) {
    const SHORTCUT: usize = 0;
    const ACTIVATED: usize = 1;
    let same = stride == 1 && b.shape[0] == channels && !ends_stage;
    if same {
        b.keep(SHORTCUT);
    }
    b.batch_norm(&format!("{name}.bn1"), None, true);
    if ends_stage {
        b.end_stage();
    }
    if !same {
        b.keep(ACTIVATED);
        b.conv(&format!("{name}.{shortcut}"), channels, 1, Conv2d::new(stride, 0), false);
        b.keep(SHORTCUT);
        b.resume(ACTIVATED);
    }
    b.conv(&format!("{name}.conv1"), channels, 3, Conv2d::new(stride, 1), false);
    b.batch_norm(&format!("{name}.bn2"), None, true);
    b.conv(&format!("{name}.conv2"), channels, 3, Conv2d::new(1, 1), false);
    b.add_slot(SHORTCUT);
    b.name(name);
}
