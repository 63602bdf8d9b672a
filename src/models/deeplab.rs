//! Networks that answer for pixels: DeepLab (Chen et al., "Rethinking atrous convolution for semantic image segmentation", 2017), a small one
//! and a tiny one for tests. Names of parameters are torchvision's where it has them.

use super::Options;
use crate::nn::Builder;
use crate::ops::Conv2d;

/// Two convolutions and a classifier, without batch norms.
pub fn fcn3(b: &mut Builder, options: &Options, n_outputs: usize) {
    b.conv("conv1", options.scaled(16), 3, Conv2d::new(1, 1), true);
    b.relu();
    b.end_stage();
    b.conv("conv2", options.scaled(32), 3, Conv2d::new(2, 1), true);
    b.feature_map();
    b.relu();
    b.end_stage();
    classifier(b, "conv3", n_outputs);
}

/// Three residual blocks behind a stem of stride 2, the last by dilation instead of a stride, and a pyramid of four branches: about
/// 0.36 million parameters.
pub fn lite(b: &mut Builder, options: &Options, n_outputs: usize) {
    let [first, second, third, pyramid] = [32, 64, 96, 64].map(|channels| options.scaled(channels));
    b.conv("backbone.conv1", first, 3, Conv2d::new(2, 1), false);
    b.batch_norm("backbone.bn1", None, true);
    for (i, (channels, stride, dilation)) in [(first, 1, 1), (second, 2, 1), (third, 1, 2)].into_iter().enumerate() {
        let name = format!("backbone.layer{}.0", i + 1);
        dilated_block(b, &name, channels, stride, dilation);
        b.name(&name);
        b.end_stage();
    }
    aspp(b, "classifier.0", pyramid, &[2, 4]);
    b.feature_map();
    classifier(b, "classifier.1", n_outputs);
}

/// A 1×1 convolution with an output per class, as large as the images.
fn classifier(b: &mut Builder, name: &str, n_outputs: usize) {
    b.conv_uniform(name, n_outputs, 1, Conv2d::new(1, 0));
    b.resize(None);
}

/// relu(x + bn(conv(relu(bn(conv(x)))))) with 3×3 convolutions, where x goes through a 1×1 convolution if its shape is another.
fn dilated_block(b: &mut Builder, name: &str, channels: usize, stride: usize, dilation: usize) {
    const INPUT: usize = 0;
    const PROJECTED: usize = 1;
    let conv = |stride| Conv2d { stride, padding: dilation, dilation };
    let mut residual = INPUT;
    b.keep(INPUT);
    if stride > 1 || b.shape[0] != channels {
        b.conv(&format!("{name}.downsample.0"), channels, 1, Conv2d::new(stride, 0), false);
        b.batch_norm(&format!("{name}.downsample.1"), None, false);
        residual = PROJECTED;
        b.keep(residual);
        b.resume(INPUT);
    }
    b.conv(&format!("{name}.conv1"), channels, 3, conv(stride), false);
    b.batch_norm(&format!("{name}.bn1"), None, true);
    b.conv(&format!("{name}.conv2"), channels, 3, conv(1), false);
    b.batch_norm(&format!("{name}.bn2"), Some(residual), true);
}

/// The pyramid: a 1×1 convolution, a 3×3 one for each rate of dilation, and the mean over the image, all behind each other and through a
/// 1×1 convolution. What leaves it is called `aspp`.
fn aspp(b: &mut Builder, name: &str, channels: usize, rates: &[usize]) {
    const INPUT: usize = 0;
    b.keep(INPUT);
    let branches: Vec<usize> = (1..=rates.len() + 2).collect();
    let step = |b: &mut Builder, name: String, norm: String, kernel: usize, geometry: Conv2d| {
        b.conv(&name, channels, kernel, geometry, false);
        b.batch_norm(&norm, None, true);
    };
    let part = |i: usize, layer: usize| format!("{name}.convs.{i}.{layer}");
    step(b, part(0, 0), part(0, 1), 1, Conv2d::new(1, 0));
    b.keep(1);
    for (i, &rate) in (1..).zip(rates) {
        b.resume(INPUT);
        step(b, part(i, 0), part(i, 1), 3, Conv2d { stride: 1, padding: rate, dilation: rate });
        b.keep(i + 1);
    }
    b.resume(INPUT);
    b.image_pool();
    let pooled = rates.len() + 1;
    step(b, part(pooled, 1), part(pooled, 2), 1, Conv2d::new(1, 0));
    b.resize(Some(INPUT));
    b.keep(pooled + 1);
    b.concat(&branches);
    step(b, format!("{name}.project.0"), format!("{name}.project.1"), 1, Conv2d::new(1, 0));
    b.name("aspp");
}
