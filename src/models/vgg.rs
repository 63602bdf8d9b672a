//! VGG networks (Simonyan and Zisserman 2015) for small images: 3×3 convolutions in five stages, then linear layers.

use super::Options;
use crate::nn::Builder;
use crate::ops::Conv2d;

const SAME: Conv2d = Conv2d::new(1, 1);

/// Configuration A with batch norm and a single linear layer, as usual for CIFAR. Parameters are named `features.N.…` by
/// their place among convolutions, norms, ReLUs and pools, as torchvision names them.
pub fn vgg11(b: &mut Builder, options: &Options, n_outputs: usize) {
    let stages: [&[usize]; 5] = [&[64], &[128], &[256, 256], &[512, 512], &[512, 512]];
    let mut at = 0;
    for stage in stages {
        for &channels in stage {
            b.conv(&format!("features.{at}"), options.scaled(channels), 3, SAME, true);
            b.batch_norm(&format!("features.{}", at + 1), None, true);
            at += 3;
        }
        b.end_stage();
        b.max_pool(2);
        at += 1;
    }
    b.feature();
    b.linear("classifier", n_outputs);
}

/// "VGG11-slim" of the continual-learning literature (Aljundi et al., "Selfless sequential learning", ICLR 2019): six
/// convolutions, no batch norm, two hidden linear layers of 500.
pub fn vgg11_slim(b: &mut Builder, options: &Options, n_outputs: usize) {
    let stages: [&[usize]; 4] = [&[64], &[128], &[256, 256], &[512, 512]];
    let mut at = 0;
    for (i, stage) in stages.into_iter().enumerate() {
        for &channels in stage {
            b.conv(&format!("features.{at}"), options.scaled(channels), 3, SAME, true);
            b.relu();
            at += 2;
        }
        b.end_stage();
        if i < 3 {
            b.max_pool(2);
            at += 1;
        }
    }
    b.linear("classifier.0", options.scaled(500));
    b.relu();
    b.linear("classifier.2", options.scaled(500));
    b.feature();
    b.relu();
    b.linear("classifier.4", n_outputs);
}
