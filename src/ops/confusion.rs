//! How often each class is taken for each. Twin: `shaders/confusion.wgsl`.

use super::case::{Case, Fill, Input, Op, Tolerance};
use super::pixel_cross_entropy::IGNORE;
use crate::device::{Array, DType, Device, Grid, Kernel, PRELUDE, Workgroup};
use crate::error::{Error, Result};
use crate::tensor::Tensor;

static COUNT: Kernel = Kernel {
    name: "confusion.count",
    source: &[PRELUDE, include_str!("../../shaders/confusion.wgsl")],
    entry: "count",
    bindings: "rrw",
    workgroup: Workgroup::Flat,
    constants: &[],
};

/// counts[label, prediction] += 1 for each element of `labels` and its prediction, in place; those with a label or a prediction
/// that is no class, as [`IGNORE`], are left out. Shapes: predictions and labels the same, u32; counts (C, C), u32.
///
/// # Errors
/// If the shapes or types do not fit.
pub fn count_confusion(predictions: &Tensor, labels: &Tensor, counts: &Array) -> Result<()> {
    predictions.expect_u32("confusion")?;
    labels.expect_u32("confusion")?;
    counts.expect_same_device("confusion", [predictions.array(), labels.array()])?;
    let (n_classes, columns) = counts.shape().rows_cols();
    let square = counts.shape().len() == 2 && n_classes == columns && counts.dtype() == DType::U32;
    if predictions.shape() != labels.shape() || !square {
        let (predictions, labels, counts) = (predictions.shape(), labels.shape(), counts.shape());
        let why = format!("predictions {predictions}, labels {labels} and counts {counts} do not fit");
        return Err(Error::op("confusion", why));
    }
    match counts.device() {
        Device::Cpu(_) => {
            let (predictions, labels) = (predictions.array().cpu(), labels.array().cpu());
            let mut counts = counts.cpu_mut();
            for (label, prediction) in labels.iter().zip(predictions.iter()) {
                let (label, prediction) = (label.to_bits() as usize, prediction.to_bits() as usize);
                if label < n_classes && prediction < n_classes {
                    let count = &mut counts[label * n_classes + prediction];
                    *count = f32::from_bits(count.to_bits() + 1);
                }
            }
            Ok(())
        }
        Device::Gpu(gpu) => {
            let n = labels.n_elements();
            let bindings = [predictions.array(), labels.array(), counts];
            gpu.launch(&COUNT, &bindings, &[n as u32, n_classes as u32], Grid::Invocations(n))
        }
    }
}

pub static OP: Op = Op {
    name: "confusion",
    formula: "counts[label[i], prediction[i]] += 1",
    shaders: &["confusion"],
    kernels: &[&COUNT],
    gradient: false,
    cases: || {
        let indices = |bound| Input::constant([3, 17, 11], Fill::Indices(bound));
        let counts = |c: usize| Input::constant([c, c], Fill::Integers(&[0, 7, 1 << 30, 3]));
        let run = |x: &[Tensor]| {
            let counts = Array::from_u32(&x[2].device(), x[2].shape(), &x[2].to_u32()?)?;
            count_confusion(&x[0], &x[1], &counts)?;
            Ok(Tensor::constant(counts))
        };
        let some = Input::constant([3, 17, 11], Fill::Integers(&[0, 3, IGNORE, 1, 4, 9]));
        vec![
            Case::new("all", vec![indices(5), indices(5), counts(5)], run).tolerance(Tolerance::Exact),
            Case::new("some", vec![indices(6), some, counts(5)], run).tolerance(Tolerance::Exact),
        ]
    },
    refuses: |device| {
        let x = Tensor::from_u32(device, [2], &[0, 1])?;
        let counts = Array::from_u32(device, [2, 3], &[0; 6])?;
        count_confusion(&x, &x, &counts).map(|()| Tensor::constant(counts))
    },
};
