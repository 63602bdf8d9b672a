//! Losses of continual segmentation as functions of tensors: logits and features are maps (N, C, H, W), labels (N, H, W).
//! Results have shape \[1\]; an old network's tensors get no gradient. Class 0 is the background: while a class is unknown its
//! pixels are called that.

use crate::error::{Error, Result};
use crate::models::{Network, OutputKind};
use crate::ops::{Conv2d, PseudoLabels, Windows};
use crate::tensor::Tensor;

/// Cross-entropy in which all `n_old` old classes count as background: in new data their pixels are called that. The mean over
/// the pixels whose label is known. Where it is an old class, it is background too (Cermelli et al., "Modeling the background
/// for incremental learning in semantic segmentation", CVPR 2020, equation 5).
///
/// # Errors
/// If the shapes do not fit.
pub fn unbiased_cross_entropy(logits: &Tensor, labels: &Tensor, n_old: usize, n_seen: usize) -> Result<Tensor> {
    logits.pixel_cross_entropy(labels, n_seen, n_old)?.sum()?.mul(&labels.share_of_labels()?)
}

/// Distillation in which the new classes count as background, as they did for the old network (ibid., equation 7): the mean
/// over pixels of −(1/n_old)·Σ_c t\[c\]·ln q\[c\].
///
/// # Errors
/// If the shapes do not fit.
pub fn unbiased_distillation(logits: &Tensor, old: &Tensor, n_old: usize, n_seen: usize) -> Result<Tensor> {
    logits.pixel_distillation(old, n_old, n_seen)?.mean()
}

/// Plain distillation over the old classes: the mean over pixels of −(1/n_old)·Σ_c t\[c\]·ln p\[c\], with the softmax of either
/// over the old classes alone.
///
/// # Errors
/// If the shapes do not fit.
pub fn distillation(logits: &Tensor, old: &Tensor, n_old: usize) -> Result<Tensor> {
    logits.pixel_distillation(old, n_old, n_old)?.mean()
}

/// Cross-entropy with the labels that an old network gave (Douillard et al., "PLOP: learning without forgetting for continual
/// semantic segmentation", CVPR 2021, equations 7 to 9): the loss of each image is multiplied with the share of its pixels that
/// the old network was sure of. The mean over all pixels, also those that no label is known of.
///
/// # Errors
/// If the shapes do not fit.
pub fn adaptive_cross_entropy(logits: &Tensor, pseudo: &PseudoLabels, n_seen: usize) -> Result<Tensor> {
    let losses = logits.pixel_cross_entropy(&pseudo.labels, n_seen, 0)?;
    let (n, pixels) = losses.shape().rows_cols();
    losses.reshape([n, pixels])?.row_mean()?.mul(&pseudo.accepted)?.mean()
}

/// The logits of old classes, with those of new classes added to the background's: (N, C, H, W) → (N, n_old, H, W).
///
/// # Errors
/// If there are no such classes.
pub fn new_as_background(logits: &Tensor, n_old: usize, n_seen: usize) -> Result<Tensor> {
    let logits = logits.narrow_channels(0..n_seen)?;
    if n_old >= n_seen {
        return Ok(logits);
    }
    let goes_to = |c: usize| if c < n_old { c } else { 0 };
    let sums: Vec<f32> = (0..n_old * n_seen).map(|i| f32::from(goes_to(i % n_seen) == i / n_seen)).collect();
    let weight = Tensor::from_f32(&logits.device(), [n_old, n_seen, 1, 1], &sums)?;
    logits.conv2d(&weight, None, Conv2d::new(1, 0))
}

/// How far the maps of two networks are apart, as squares: a² − b².
fn difference_of_squares(new: &Tensor, old: &Tensor) -> Result<Tensor> {
    if new.shape() != old.shape() || new.shape().len() != 4 {
        let (new, old) = (new.shape(), old.shape());
        return Err(Error::op("pixel_losses", format!("maps {new} and {old} are not of one shape N×C×H×W")));
    }
    let old = old.detach();
    new.mul(new)?.sub(&old.mul(&old)?)
}

/// The sum of squares of each image's numbers, (N).
fn squares(x: &Tensor) -> Result<Tensor> {
    let n = x.shape()[0];
    x.mul(x)?.reshape([n, x.n_elements() / n])?.row_sum()
}

/// The first rows and columns of maps.
fn cropped(x: &Tensor, rows: usize, columns: usize) -> Result<Tensor> {
    let &[n, c, h, w] = &*x.shape() else { return Err(Error::op("pixel_losses", "bug: no maps")) };
    let mut x = x.clone();
    if rows < h {
        x = x.reshape([n * c, h, w])?.narrow_channels(0..rows)?;
    }
    if columns < w {
        x = x.reshape([n * c * rows, w])?.narrow_channels(0..columns)?;
    }
    x.reshape([n, c, rows, columns])
}

/// Local POD (Douillard et al., CVPR 2021, equations 3 to 5): for each of the scales s the squared maps are cut into s × s
/// regions, and of each the means over its width and over its height are kept; the loss is the length of the difference of all
/// of them, a vector for each image, and the mean over images. Regions have ⌊H/s⌋ × ⌊W/s⌋ pixels; what is left over at the edge
/// is left out, and so are scales that leave no pixel.
///
/// # Errors
/// If the maps differ in shape.
pub fn local_pod(new: &Tensor, old: &Tensor, scales: &[usize]) -> Result<Tensor> {
    let difference = difference_of_squares(new, old)?;
    let (h, w) = (new.shape()[2], new.shape()[3]);
    let mut total: Option<Tensor> = None;
    for &s in scales.iter().filter(|&&s| (1..=h.min(w)).contains(&s)) {
        let (height, width) = (h / s, w / s);
        let own = cropped(&difference, s * height, s * width)?;
        for strip in [[1, width], [height, 1]] {
            let part = squares(&own.avg_pool2d(Windows::side_by_side(strip))?)?;
            total = Some(total.map_or(Ok(part.clone()), |total| total.add(&part))?);
        }
    }
    total.ok_or_else(|| Error::op("local_pod", "no scale fits the maps"))?.sqrt()?.mean()
}

/// The windows of [`pooled_cube`] in RCIL's code.
pub const CUBES: &[usize] = &[4, 8, 12, 16, 20, 24];

/// Distillation of pooled cubes along height and width (Zhang et al., "Representation compensation networks for continual
/// semantic segmentation", CVPR 2022, section 3.3): means of the squared maps over windows of each size at each pixel, with
/// zeros around; the length of the difference for each image, and the mean over windows and images.
///
/// # Errors
/// If the maps differ in shape.
pub fn pooled_cube(new: &Tensor, old: &Tensor, windows: &[usize]) -> Result<Tensor> {
    let difference = difference_of_squares(new, old)?;
    let mut total: Option<Tensor> = None;
    for &k in windows {
        let pooled = difference.avg_pool2d(Windows { kernel: [k, k], stride: [1, 1], padding: [k / 2, k / 2] })?;
        let part = squares(&pooled)?.sqrt()?.mean()?;
        total = Some(total.map_or(Ok(part.clone()), |total| total.add(&part))?);
    }
    total.ok_or_else(|| Error::op("pooled_cube", "there are no windows"))?.scale(1.0 / windows.len() as f32)
}

/// The same along channels: means over three channels that follow each other, with zeros before the first and behind the last.
///
/// # Errors
/// If the maps differ in shape.
pub fn pooled_channels(new: &Tensor, old: &Tensor) -> Result<Tensor> {
    let difference = difference_of_squares(new, old)?;
    let &[n, c, h, w] = &*new.shape() else { return Err(Error::op("pooled_channels", "bug: no maps")) };
    let columns = difference.reshape([n, 1, c, h * w])?;
    let pooled = columns.avg_pool2d(Windows { kernel: [3, 1], stride: [1, 1], padding: [1, 0] })?;
    squares(&pooled)?.sqrt()?.mean()
}

/// How often which entropy of an old network's answers came, by the class that it would choose: what the thresholds of
/// [`Tensor::pseudo_labels`] are taken from.
#[derive(Clone, Debug, PartialEq)]
pub struct EntropyHistogram {
    bins: Vec<[u64; EntropyHistogram::BINS]>,
}

impl EntropyHistogram {
    /// Parts of the range from 0 to 1.
    pub const BINS: usize = 100;

    /// An empty one for so many classes.
    pub fn new(n_classes: usize) -> EntropyHistogram {
        EntropyHistogram { bins: vec![[0; Self::BINS]; n_classes] }
    }

    /// Counts the pixels of logits (N, C, H, W) whose label is one of the classes of this histogram.
    ///
    /// # Errors
    /// If the shapes do not fit, or the device was lost.
    pub fn add(&mut self, logits: &Tensor, labels: &Tensor) -> Result<()> {
        let n_classes = self.bins.len();
        let rows = logits.narrow_channels(0..n_classes)?.to_pixels()?;
        let p = rows.softmax(1.0)?;
        let entropies = p.mul(&rows.log_softmax(1.0)?)?.row_sum()?.scale(-1.0 / (n_classes.max(2) as f32).ln())?;
        let (entropies, best) = (entropies.to_vec()?, rows.argmax_rows(n_classes)?.to_u32()?);
        let labels = labels.to_u32()?;
        if labels.len() != entropies.len() {
            return Err(Error::op("entropies", format!("{} labels of {} pixels", labels.len(), entropies.len())));
        }
        for ((label, class), entropy) in labels.into_iter().zip(best).zip(entropies) {
            if (label as usize) < n_classes {
                let bin = (entropy.max(0.0) * Self::BINS as f32) as usize;
                self.bins[class as usize][bin.min(Self::BINS - 1)] += 1;
            }
        }
        Ok(())
    }

    /// The median entropy of each class, at least `floor`: inside of its bin the entropies count as evenly spread. `floor` for
    /// a class that was never chosen.
    pub fn medians(&self, floor: f32) -> Vec<f32> {
        let median = |bins: &[u64; Self::BINS]| {
            let half = bins.iter().sum::<u64>() as f64 / 2.0;
            let mut before = 0.0;
            for (i, &count) in bins.iter().enumerate().filter(|(_, count)| **count > 0) {
                if before + count as f64 >= half {
                    return ((i as f64 + (half - before) / count as f64) / Self::BINS as f64) as f32;
                }
                before += count as f64;
            }
            0.0
        };
        self.bins.iter().map(|bins| median(bins).max(floor)).collect()
    }
}

/// Starts the outputs of new classes so that at first the network says what it said before (Cermelli et al., CVPR 2020,
/// equations 9 and 10): all of them have the weight of the background, and share its probability with it: the bias of each, and
/// of the background, is the background's less ln(new classes + 1).
///
/// # Errors
/// If the network does not answer for pixels by a convolution with a bias, or the device was lost.
pub fn start_new_classes(network: &Network, n_old: usize, n_seen: usize) -> Result<()> {
    let parameters = network.parameters.to_host()?;
    let [.., (weight_name, weight_shape, weight), (bias_name, bias_shape, bias)] = &parameters[..] else {
        return Err(Error::op("start_new_classes", "bug: a network without a last layer"));
    };
    if network.kind != OutputKind::Pixels || n_old == 0 || n_seen > network.n_outputs {
        return Err(Error::op("start_new_classes", format!("'{}' has no background to share", network.name)));
    }
    let (mut weight, mut bias) = (weight.clone(), bias.clone());
    let width = weight.len() / network.n_outputs;
    let share = bias[0] - ((n_seen - n_old + 1) as f32).ln();
    bias[0] = share;
    bias[n_old..n_seen].fill(share);
    for class in n_old..n_seen {
        weight.copy_within(0..width, class * width);
    }
    network.parameters.set(weight_name, weight_shape, &weight)?;
    network.parameters.set(bias_name, bias_shape, &bias)
}
