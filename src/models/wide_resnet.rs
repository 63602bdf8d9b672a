//! Wide residual networks (Zagoruyko and Komodakis, BMVC 2016) for small images: batch norm and ReLU come before a convolution.
//! Names of parameters are those of Xternalman's and the overhaul of features' code.

use super::Options;
use super::preact::basic_block;
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
            let ends_stage = i > 0 && block == 0;
            basic_block(b, &name, "convShortcut", options.scaled(factor * channels), stride, ends_stage);
        }
    }
    b.batch_norm("bn1", None, true);
    b.end_stage();
    b.global_avg_pool();
    b.feature();
    b.linear("fc", n_outputs);
}
