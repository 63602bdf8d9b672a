//! The numbers that describe a continual run, as pure functions on its accuracy matrix.
//!
//! `R[t][i]` is the accuracy (a fraction in 0..1) on the test images of task `i` after learning task `t`, predicting
//! among all classes seen so far; it is `None` for tasks not seen yet (`i > t`). `T` is the number of rows, tasks
//! count from 0. A run that trains once on everything (`joint`) has one row, and nothing that compares rows.
//!
//! ```
//! use engram::experiment::metrics::{backward_transfer, forgetting};
//! // The first task falls from 0.9 to 0.8 and 0.5, the second from 0.7 to 0.6.
//! let r = [vec![Some(0.9), None, None], vec![Some(0.8), Some(0.7), None], vec![Some(0.5), Some(0.6), Some(1.0)]];
//! assert_eq!(forgetting(&r).map(|f| (100.0 * f).round()), Some(25.0)); // the mean of 0.4 and 0.1
//! assert_eq!(backward_transfer(&r).map(|b| (100.0 * b).round()), Some(-25.0));
//! ```

/// Mean of the accuracies over all classes seen, taken after every task:
/// `1/T · Σ_t seen[t]`. The headline number of Rebuffi et al., "iCaRL", CVPR 2017. `None` before the first task ends.
pub fn average_incremental_accuracy(seen: &[f64]) -> Option<f64> {
    (!seen.is_empty()).then(|| mean_sd(seen).0)
}

/// Accuracy over all classes seen after the last task: `seen[T − 1]`.
pub fn final_accuracy(seen: &[f64]) -> Option<f64> {
    seen.last().copied()
}

/// ACC, the mean over tasks of the accuracy after the last: `1/T · Σ_i R[T−1][i]` (Lopez-Paz & Ranzato, NeurIPS 2017). Tasks
/// count alike, whatever their number of images: [`final_accuracy`] counts images. `None` before the first task ends.
pub fn average_accuracy(r: &[Vec<Option<f64>>]) -> Option<f64> {
    let known: Vec<f64> = r.last()?.iter().copied().flatten().collect();
    (!known.is_empty()).then(|| mean_sd(&known).0)
}

/// LA, how well tasks were learnt when they were new: `1/T · Σ_i R[i][i]` (Riemer et al., ICLR 2019). `None` without a
/// diagonal, and where several tasks were learnt at once.
pub fn learning_accuracy(r: &[Vec<Option<f64>>]) -> Option<f64> {
    if let [at_once] = r
        && at_once.iter().flatten().count() > 1
    {
        return None;
    }
    let diagonal = r.iter().enumerate().map(|(i, row)| entry(row, i)).collect::<Option<Vec<f64>>>()?;
    (!diagonal.is_empty()).then(|| mean_sd(&diagonal).0)
}

/// FWT, what earlier tasks have taught for later ones: `1/(T−1) · Σ_{i≥1} ( R[i−1][i] − b_i )` with b_i the accuracy of the
/// initial network (Lopez-Paz & Ranzato, NeurIPS 2017), from the pairs (R\[i−1\]\[i\], b_i). `None` for a single task.
pub fn forward_transfer(before: &[[f64; 2]]) -> Option<f64> {
    let gained: Vec<f64> = before.iter().map(|[just_before, initial]| just_before - initial).collect();
    (!gained.is_empty()).then(|| mean_sd(&gained).0)
}

/// The mean of accuracies measured at equal distances along the stream, its area under the curve of accuracy over images
/// (Koh et al., "Online Continual Learning on Class Incremental Blurry Task Configuration", ICLR 2022). `None` for none.
pub fn average_any_time_accuracy(accuracies: &[f64]) -> Option<f64> {
    (!accuracies.is_empty()).then(|| mean_sd(accuracies).0)
}

/// The part of the answers that is true; of the answers of two networks, the part that agrees.
pub fn accuracy(truth: &[u32], answers: &[u32]) -> f64 {
    let n_correct = truth.iter().zip(answers).filter(|(y, z)| y == z).count();
    n_correct as f64 / truth.len() as f64
}

/// The share of each label's images that were taken for it: the diagonal of a confusion matrix over its rows' sums. `None`
/// for a label without images.
pub fn accuracy_per_class(confusion: &[Vec<u32>], n_images: &[u32]) -> Vec<Option<f64>> {
    let share = |(y, &n): (usize, &u32)| (n > 0).then(|| f64::from(confusion[y][y]) / f64::from(n));
    n_images.iter().enumerate().map(share).collect()
}

/// How far old tasks have fallen from their best:
/// `1/(T−1) · Σ_{i<T−1} ( max_{i≤l<T−1} R[l][i] − R[T−1][i] )` (Chaudhry et al., "Riemannian Walk for Incremental
/// Learning", ECCV 2018). Positive is bad; negative means that old tasks got better. `None` for fewer than two rows.
pub fn forgetting(r: &[Vec<Option<f64>>]) -> Option<f64> {
    let lost = forgetting_per_task(r);
    mean_over_old_tasks(r, |i, _| lost[i])
}

/// The terms of [`forgetting`], one per task: `max_{i≤l<T−1} R[l][i] − R[T−1][i]`, `None` for the last task (and for one
/// that has no entries).
pub fn forgetting_per_task(r: &[Vec<Option<f64>>]) -> Vec<Option<f64>> {
    let Some((last, earlier)) = r.split_last() else { return Vec::new() };
    let lost = |i: usize| {
        let best = earlier.get(i..)?.iter().filter_map(|row| entry(row, i)).reduce(f64::max)?;
        Some(best - entry(last, i)?)
    };
    (0..r.len()).map(lost).collect()
}

/// What learning later tasks did to old ones:
/// `1/(T−1) · Σ_{i<T−1} ( R[T−1][i] − R[i][i] )` (Lopez-Paz & Ranzato, "Gradient Episodic Memory", NeurIPS 2017).
/// Negative is forgetting. `None` for fewer than two rows.
pub fn backward_transfer(r: &[Vec<Option<f64>>]) -> Option<f64> {
    mean_over_old_tasks(r, |i, now| Some(now - entry(&r[i], i)?))
}

/// `counts[y][z]`: images of label `y` that were taken for label `z`, for labels below `n`. Answers of `n` or more, classes
/// that have not come, are left out: then a row counts fewer images than there are.
///
/// # Panics
/// If the slices differ in length or a true label is `n` or more.
pub fn confusion(truth: &[u32], predicted: &[u32], n: usize) -> Vec<Vec<u32>> {
    assert_eq!(truth.len(), predicted.len(), "bug: a prediction for every image");
    let mut counts = vec![vec![0; n]; n];
    for (&y, &z) in truth.iter().zip(predicted) {
        let row = &mut counts[y as usize];
        if let Some(count) = row.get_mut(z as usize) {
            *count += 1;
        }
    }
    counts
}

/// The intersection of truth and answer over their union, of each class: `TP / (TP + FP + FN)`, from counts of pixels
/// `confusion[y][z]` of all test images together. `None` for a class that no pixel is of.
pub fn intersection_over_union(confusion: &[Vec<u32>]) -> Vec<Option<f64>> {
    let n = confusion.len();
    let total = |counts: &mut dyn Iterator<Item = &u32>| counts.map(|&n| u64::from(n)).sum::<u64>();
    let of = |y: usize| {
        let (truth, answered) = (total(&mut confusion[y].iter()), total(&mut confusion.iter().map(|row| &row[y])));
        let right = u64::from(confusion[y][y]);
        (truth > 0).then(|| right as f64 / (truth + answered - right) as f64)
    };
    (0..n).map(of).collect()
}

/// mIoU, the mean of the intersections over unions of classes that are present; `None` if none is. What segmentation is judged by
/// (Everingham et al., "The PASCAL Visual Object Classes Challenge", IJCV 2015).
pub fn mean_iou(iou: &[Option<f64>]) -> Option<f64> {
    let present: Vec<f64> = iou.iter().copied().flatten().collect();
    (!present.is_empty()).then(|| mean_sd(&present).0)
}

/// The share of pixels whose class was answered. NaN for no pixel.
pub fn pixel_accuracy(confusion: &[Vec<u32>]) -> f64 {
    let right: u64 = confusion.iter().enumerate().map(|(y, row)| u64::from(row[y])).sum();
    right as f64 / confusion.iter().flatten().map(|&n| u64::from(n)).sum::<u64>() as f64
}

/// Mean and sample standard deviation, `√( Σ(x − mean)² / (n − 1) )`. The deviation of a single value is 0, the mean
/// of none is NaN.
pub fn mean_sd(values: &[f64]) -> (f64, f64) {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    if values.len() < 2 {
        return (mean, 0.0);
    }
    let squares: f64 = values.iter().map(|x| (x - mean).powi(2)).sum();
    (mean, (squares / (n - 1.0)).sqrt())
}

/// Mean of `f(i, R[T−1][i])` over the tasks `i < T−1`; `None` if there is no such task or an entry is missing.
fn mean_over_old_tasks(r: &[Vec<Option<f64>>], f: impl Fn(usize, f64) -> Option<f64>) -> Option<f64> {
    let (last, earlier) = r.split_last()?;
    let values = (0..earlier.len()).map(|i| f(i, entry(last, i)?)).collect::<Option<Vec<f64>>>()?;
    (!values.is_empty()).then(|| mean_sd(&values).0)
}

/// Rows may be written in full, padded with `None`, or end at the diagonal.
fn entry(row: &[Option<f64>], i: usize) -> Option<f64> {
    row.get(i).copied().flatten()
}
