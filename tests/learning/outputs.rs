//! Which outputs a loss runs over: those of the row's own task, those of classes that have come, or all.

use super::steps::*;
use engram::continual::{TaskData, Unseen};
use engram::{Device, Tensor};

/// Where the task is known, a loss runs over the outputs of each row's own task.
#[test]
fn heads_mask_the_loss() {
    let mut learner = learner("mlp", &Device::cpu());
    learner.heads = vec![0..4, 4..10];
    let rows = [[0.5, -1.0, 2.0, 0.0, 3.0, 1.0, -2.0, 0.0, 0.5, 1.5]; 2];
    let logits = Tensor::from_f32(&learner.device, [2, 10], &rows.concat()).unwrap().with_gradient();
    let loss = learner.cross_entropy(&logits, &[2, 5], 10).unwrap();
    let ce = |outputs: std::ops::Range<usize>, label: usize| {
        let sum: f64 = rows[0][outputs].iter().map(|&x| f64::from(x).exp()).sum();
        sum.ln() - f64::from(rows[0][label])
    };
    let expected = (ce(0..4, 2) + ce(4..10, 5)) / 2.0;
    assert!((f64::from(loss.item().unwrap()) - expected).abs() < 1e-6);
    let gradient = loss.backward().unwrap().get(&logits).unwrap().to_vec().unwrap();
    assert!(gradient[4..10].iter().chain(&gradient[10..14]).all(|g| *g == 0.0), "{gradient:?}");
}

/// Outputs of classes that have not come are left out of a loss, or take part; a head of its own wins.
#[test]
fn unseen_outputs_compete_when_they_are_told_to() {
    let mut learner = learner("mlp", &Device::cpu());
    let row = [0.5, -1.0, 2.0, 0.0, 3.0, 1.0, -2.0, 0.0, 0.5, 1.5];
    let logits = Tensor::from_f32(&learner.device, [1, 10], &row).unwrap();
    let task = TaskData { n_seen: 4, labels: 0..4, ..task(&learner, 0, 4) };
    for (unseen, n_outputs) in [(Unseen::Masked, 4), (Unseen::Compete, 10)] {
        learner.unseen = unseen;
        assert_eq!(learner.active_outputs(&task), 0..n_outputs);
        let sum: f64 = row[..n_outputs].iter().map(|&x| f64::from(x).exp()).sum();
        let loss = learner.cross_entropy(&logits, &[2], 4).unwrap().item().unwrap();
        assert!((f64::from(loss) - (sum.ln() - 2.0)).abs() < 1e-6, "{unseen:?}: {loss}");
    }
    learner.heads = vec![0..4, 4..10];
    assert_eq!(learner.active_outputs(&task), task.labels);
    let sum: f64 = row[..4].iter().map(|&x| f64::from(x).exp()).sum();
    let loss = learner.cross_entropy(&logits, &[2], 4).unwrap().item().unwrap();
    assert!((f64::from(loss) - (sum.ln() - 2.0)).abs() < 1e-6, "{loss}");
}
