//! Residual networks (He et al., "Deep residual learning for image recognition", CVPR 2016). The stem is a 3×3
//! convolution, for small images, or that of the paper. Names of parameters are torchvision's.

use super::{Options, Shortcut, Stem};
use crate::nn::Builder;
use crate::ops::Conv2d;

/// The CIFAR networks of section 4.2: three stages of `n_blocks` blocks, 16, 32 and 64 channels wide. The last layer starts as
/// in iCaRL's code.
pub fn cifar(b: &mut Builder, options: &Options, n_blocks: usize, n_outputs: usize) {
    let stages = [16, 32, 64].map(|channels| (options.scaled(channels), n_blocks));
    small_stem(b, stages[0].0);
    network(b, options, &stages, options.shortcut.unwrap_or(Shortcut::A));
    b.linear_normal("fc", n_outputs);
}

/// ResNet-18 and 34 of table 1, four stages, 64 to 512 channels wide.
pub fn imagenet(b: &mut Builder, options: &Options, n_blocks: [usize; 4], n_outputs: usize) {
    let widths = [64, 128, 256, 512].map(|channels| options.scaled(channels));
    let stages: Vec<(usize, usize)> = widths.into_iter().zip(n_blocks).collect();
    match options.stem {
        Stem::Small => small_stem(b, stages[0].0),
        Stem::Large => {
            b.conv("conv1", stages[0].0, 7, Conv2d::new(2, 3), false);
            b.batch_norm("bn1", None, true);
            b.max_pool_with(3, 2, 1);
        }
    }
    network(b, options, &stages, options.shortcut.unwrap_or(Shortcut::B));
    b.linear("fc", n_outputs);
}

fn small_stem(b: &mut Builder, channels: usize) {
    b.conv("conv1", channels, 3, Conv2d::new(1, 1), false);
    b.batch_norm("bn1", None, true);
}

/// Stages of (channels, blocks); every one but the first halves the image.
fn network(b: &mut Builder, options: &Options, stages: &[(usize, usize)], shortcut: Shortcut) {
    for (i, &(channels, n_blocks)) in stages.iter().enumerate() {
        for block in 0..n_blocks {
            let stride = if i > 0 && block == 0 { 2 } else { 1 };
            let last = i + 1 == stages.len() && block + 1 == n_blocks;
            let relu = !last || options.last_relu;
            let name = format!("layer{}.{block}", i + 1);
            basic_block(b, &name, channels, stride, shortcut, relu);
            b.name(&name);
        }
        b.end_stage();
    }
    b.global_avg_pool();
    b.feature();
}

/// relu(x + bn(conv(relu(bn(conv(x)))))), where x goes through the shortcut if its shape is another.
fn basic_block(b: &mut Builder, name: &str, channels: usize, stride: usize, shortcut: Shortcut, relu: bool) {
    const INPUT: usize = 0;
    const PROJECTED: usize = 1;
    let same = stride == 1 && b.shape[0] == channels;
    b.keep(INPUT);
    let mut residual = INPUT;
    // Option A is the batch norm's own business: it takes every other pixel and leaves the new channels alone.
    if !same && shortcut == Shortcut::B {
        b.conv(&format!("{name}.downsample.0"), channels, 1, Conv2d::new(stride, 0), false);
        b.batch_norm(&format!("{name}.downsample.1"), None, false);
        residual = PROJECTED;
        b.keep(residual);
        b.resume(INPUT);
    }
    b.conv(&format!("{name}.conv1"), channels, 3, Conv2d::new(stride, 1), false);
    b.batch_norm(&format!("{name}.bn1"), None, true);
    b.conv(&format!("{name}.conv2"), channels, 3, Conv2d::new(1, 1), false);
    b.batch_norm(&format!("{name}.bn2"), Some(residual), relu);
}
