//! Wide residual networks (Zagoruyko and Komodakis, BMVC 2016) for small images: batch norm and ReLU come before a convolution.
//! Names of parameters are those of Xternalman's and the overhaul of features' code.

use super::Options;
use crate::nn::Builder;
use crate::ops::Conv2d;

/// Three stages of `n_blocks` blocks, 16, 32 and 64 channels times `factor` wide: 6·n + 4 layers deep. A stage is named where its
/// values enter the ReLU: behind the batch norm that the next stage, or the classifier, begins with.
pub fn cifar(b: &mut Builder, options: &Options, n_blocks: usize, factor: usize, n_outputs: usize) {
    b.conv("conv1", options.scaled(16), 3, Conv2d::new(1, 1), false);
    for (i, channels) in [16, 32, 64].into_iter().enumerate() {
        for block in 0..n_blocks {
            let stride = if i > 0 && block == 0 { 2 } else { 1 };
            let name = format!("block{}.layer.{block}", i + 1);
            pre_activated(b, &name, options.scaled(factor * channels), stride, i > 0 && block == 0);
        }
    }
    b.batch_norm("bn1", None, true);
    b.end_stage();
    b.global_avg_pool();
    b.feature();
    b.linear("fc", n_outputs);
}

/// x + conv(relu(bn(conv(relu(bn(x)))))); where the shape changes, a 1×1 convolution of relu(bn(x)) stands in for x.
fn pre_activated(b: &mut Builder, name: &str, channels: usize, stride: usize, ends_stage: bool) {
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
        b.conv(&format!("{name}.convShortcut"), channels, 1, Conv2d::new(stride, 0), false);
        b.keep(SHORTCUT);
        b.resume(ACTIVATED);
    }
    b.conv(&format!("{name}.conv1"), channels, 3, Conv2d::new(stride, 1), false);
    b.batch_norm(&format!("{name}.bn2"), None, true);
    b.conv(&format!("{name}.conv2"), channels, 3, Conv2d::new(1, 1), false);
    b.add_slot(SHORTCUT);
    b.name(name);
}
