//! Networks that answer for pixels: DeepLab (Chen et al., "Rethinking atrous convolution for semantic image segmentation",
//! 2017), a small one and a tiny one for tests. Names of parameters are torchvision's where it has them.

use super::{KEPT_BRANCH, Options};
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

/// Three residual blocks behind a stem of stride 2, the last by dilation instead of a stride, and a pyramid of four branches:
/// about 0.36 million parameters.
pub fn lite(b: &mut Builder, options: &Options, n_outputs: usize) {
    network(b, options, n_outputs, plain);
}

/// The same with a second branch beside every 3×3 convolution of a block and every convolution of the pyramid, for RCIL (Zhang
/// et al., CVPR 2022): what leaves both is the mean of either, and the convolution with the name `…_kept` can take the other
/// in.
pub fn lite_with_branches(b: &mut Builder, options: &Options, n_outputs: usize) {
    network(b, options, n_outputs, two_branches);
}

/// DeepLab-v3 on the residual networks of so many blocks a stage, with an output stride of 16: the stem of ImageNet (7×7 of
/// stride 2, pooled by 2), the last stage by dilation instead of a stride, a pyramid of rates 6, 12 and 18, and one more 3×3
/// convolution.
pub fn v3(b: &mut Builder, options: &Options, n_blocks: [usize; 4], n_outputs: usize) {
    let widths = [64, 128, 256, 512].map(|channels| options.scaled(channels));
    b.conv("backbone.conv1", widths[0], 7, Conv2d::new(2, 3), false);
    b.batch_norm("backbone.bn1", None, true);
    b.max_pool_with(3, 2, 1);
    for (i, (channels, n_blocks)) in widths.into_iter().zip(n_blocks).enumerate() {
        for block in 0..n_blocks {
            let stride = if (i == 1 || i == 2) && block == 0 { 2 } else { 1 };
            let name = format!("backbone.layer{}.{block}", i + 1);
            dilated_block(b, &name, channels, stride, if i == 3 { 2 } else { 1 }, plain);
        }
        b.end_stage();
    }
    let channels = options.scaled(256);
    aspp(b, "classifier.0", channels, &[6, 12, 18], plain);
    b.conv("classifier.1", channels, 3, Conv2d::new(1, 1), false);
    b.batch_norm("classifier.2", None, true);
    b.feature_map();
    classifier(b, "classifier.4", n_outputs);
}

/// What a convolution is made of.
struct Unit<'a> {
    conv: &'a str,
    norm: &'a str,
    channels: usize,
    kernel: usize,
    geometry: Conv2d,
    /// The slot of what is added before the ReLU.
    residual: Option<usize>,
    /// The name of what comes out.
    name: Option<&'a str>,
}

/// Adds a convolution with its batch norm, the sum and a ReLU.
type AddUnit = fn(&mut Builder, Unit);

fn plain(b: &mut Builder, unit: Unit) {
    b.conv(unit.conv, unit.channels, unit.kernel, unit.geometry, false);
    b.batch_norm(unit.norm, unit.residual, true);
    if let Some(name) = unit.name {
        b.name(name);
    }
}

fn two_branches(b: &mut Builder, unit: Unit) {
    const BOTH: usize = 20;
    const KEPT: usize = 21;
    b.keep(BOTH);
    b.conv(&format!("{}{KEPT_BRANCH}", unit.conv), unit.channels, unit.kernel, unit.geometry, true);
    b.keep(KEPT);
    b.resume(BOTH);
    b.conv(unit.conv, unit.channels, unit.kernel, unit.geometry, false);
    b.batch_norm(unit.norm, None, false);
    b.mean_slot(KEPT);
    if let Some(slot) = unit.residual {
        b.add_slot(slot);
    }
    if let Some(name) = unit.name {
        b.name(name);
    }
    b.relu();
}

fn network(b: &mut Builder, options: &Options, n_outputs: usize, add: AddUnit) {
    let [first, second, third, pyramid] = [32, 64, 96, 64].map(|channels| options.scaled(channels));
    b.conv("backbone.conv1", first, 3, Conv2d::new(2, 1), false);
    b.batch_norm("backbone.bn1", None, true);
    for (i, (channels, stride, dilation)) in [(first, 1, 1), (second, 2, 1), (third, 1, 2)].into_iter().enumerate() {
        let name = format!("backbone.layer{}.0", i + 1);
        dilated_block(b, &name, channels, stride, dilation, add);
        b.end_stage();
    }
    aspp(b, "classifier.0", pyramid, &[2, 4], add);
    b.feature_map();
    classifier(b, "classifier.1", n_outputs);
}

/// A 1×1 convolution with an output per class, as large as the images.
fn classifier(b: &mut Builder, name: &str, n_outputs: usize) {
    b.conv_uniform(name, n_outputs, 1, Conv2d::new(1, 0));
    b.resize(None);
}

/// relu(x + unit(relu(unit(x)))) with 3×3 convolutions, where x goes through a 1×1 convolution if its shape is another.
fn dilated_block(b: &mut Builder, name: &str, channels: usize, stride: usize, dilation: usize, add: AddUnit) {
    const INPUT: usize = 0;
    const PROJECTED: usize = 1;
    let mut residual = INPUT;
    b.keep(INPUT);
    if stride > 1 || b.shape[0] != channels {
        b.conv(&format!("{name}.downsample.0"), channels, 1, Conv2d::new(stride, 0), false);
        b.batch_norm(&format!("{name}.downsample.1"), None, false);
        residual = PROJECTED;
        b.keep(residual);
        b.resume(INPUT);
    }
    for (i, stride, residual, name_of_block) in [(1, stride, None, None), (2, 1, Some(residual), Some(name))] {
        let [conv, norm] = &[format!("{name}.conv{i}"), format!("{name}.bn{i}")];
        let geometry = Conv2d { stride, padding: dilation, dilation };
        add(b, Unit { conv, norm, channels, kernel: 3, geometry, residual, name: name_of_block });
    }
}

/// The pyramid: a 1×1 convolution, a 3×3 one for each rate of dilation, and the mean over the image, all behind each other and
/// through a 1×1 convolution. What leaves it is called `aspp`.
fn aspp(b: &mut Builder, name: &str, channels: usize, rates: &[usize], add: AddUnit) {
    const INPUT: usize = 0;
    b.keep(INPUT);
    let part = |i: usize, layer: usize| format!("{name}.convs.{i}.{layer}");
    let unit = |b: &mut Builder, add: AddUnit, names: [String; 2], kernel: usize, geometry: Conv2d| {
        let [conv, norm] = &names;
        add(b, Unit { conv, norm, channels, kernel, geometry, residual: None, name: None });
    };
    let one = Conv2d::new(1, 0);
    let dilated = rates.iter().map(|&rate| (3, Conv2d { stride: 1, padding: rate, dilation: rate }));
    for (i, (kernel, geometry)) in std::iter::once((1, one)).chain(dilated).enumerate() {
        b.resume(INPUT);
        unit(b, add, [part(i, 0), part(i, 1)], kernel, geometry);
        b.keep(i + 1);
    }
    b.resume(INPUT);
    b.image_pool();
    let pooled = rates.len() + 1;
    unit(b, plain, [part(pooled, 1), part(pooled, 2)], 1, one);
    b.resize(Some(INPUT));
    b.keep(pooled + 1);
    let branches: Vec<usize> = (1..=pooled + 1).collect();
    b.concat(&branches);
    unit(b, plain, [format!("{name}.project.0"), format!("{name}.project.1")], 1, one);
    b.name("aspp");
}
