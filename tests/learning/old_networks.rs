//! Continual methods whose old network teaches: it stays as it was, and may teach by a scheme of distillation.

use super::steps::{batch, build, learner, step, task, vector};
use crate::common::runs::{Pairs, Weights, config, glyphs, trained, try_config};
use engram::continual;
use engram::experiment::results::RunFolder;
use engram::experiment::sink::{Listener, Progress, Silent, Sink, Started};
use engram::experiment::{resume, run};
use engram::optim::{Kind, Optimizer};
use engram::{Device, Error};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use tempfile::TempDir;

const SHORT: Pairs = &[
    ("classes_per_task", "5"),
    ("limit_per_task", "60"),
    ("epochs", "1"),
    ("batch_size", "20"),
    ("width", "0.25"),
    ("memory", "20"),
];

/// The weights that a method ends in.
fn weights(method: &str, more: Pairs) -> Weights {
    trained(&config(method, SHORT, more), &glyphs(400, 100)).1
}

#[test]
fn every_scheme_takes_the_place_of_a_method_s_own() {
    let schemes = ["hinton", "logit-mse", "fitnets", "attention", "rkd", "similarity"];
    for method in ["lwf", "icarl"] {
        let own = weights(method, &[("model", "cnn")]);
        for scheme in schemes {
            let other = weights(method, &[("model", "cnn"), ("distill", scheme)]);
            assert!(other != own, "{method} by {scheme} is {method}");
            assert!(other.keys().eq(own.keys()), "{method} by {scheme}: nothing is trained along");
        }
    }
    // What is compared before a ReLU is cut off where the batch norm says.
    let resnet: Pairs = &[("model", "resnet20"), ("width", "0.125")];
    let by_ofd = [resnet, &[("distill", "ofd")]].concat();
    assert!(weights("lwf", &by_ofd) != weights("lwf", resnet));
    // Stored outputs take schemes of outputs.
    for method in ["der", "der++"] {
        let own = weights(method, &[("model", "cnn")]);
        for scheme in ["hinton", "dkd"] {
            assert!(weights(method, &[("model", "cnn"), ("distill", scheme)]) != own, "{method} by {scheme}");
        }
        assert!(weights(method, &[("model", "cnn"), ("distill", "logit-mse")]) == own, "{method}: its own term");
    }
}

#[test]
fn a_scheme_of_no_weight_is_plain_training() {
    let plain = weights("finetune", &[("model", "cnn")]);
    for scheme in ["hinton", "attention", "similarity"] {
        let settings = [("model", "cnn"), ("kd_weight", "0"), ("distill", scheme)];
        assert!(weights("lwf", &settings) == plain, "{scheme}");
    }
}

#[test]
fn what_does_not_fit_is_refused_before_anything_is_learned() {
    let dataset = glyphs(400, 100);
    let never = AtomicBool::new(false);
    for (method, model, scheme, wanted) in [
        ("lwf", "cnn", "dkd", "labelled class"),
        ("lwf", "cnn", "ofd", "batch norm"),
        ("icarl", "mlp", "attention", "no stage"),
        ("der", "cnn", "attention", "hinton, dkd, logit-mse"),
    ] {
        let settings: Pairs = &[("model", model), ("distill", scheme)];
        let config = config(method, SHORT, settings);
        let error = run(&config, &dataset, &Device::cpu(), None, &mut Silent, &never).unwrap_err();
        assert!(error.exit_code() == 2 && error.to_string().contains(wanted), "{method} {scheme}: {error}");
    }
    for (method, scheme) in [("lwf", "one"), ("finetune", "hinton"), ("lwf", "nothing")] {
        let spec = continual::spec(method).unwrap();
        assert!(try_config(spec, SHORT, &[("distill", scheme)]).is_err(), "{method} {scheme}");
    }
}

/// Interrupts in a step of the second task.
struct Interrupt<'a>(&'a AtomicBool, usize);

impl Listener for Interrupt<'_> {
    fn training(&mut self, _started: &Started) {
        self.1 += 1;
    }

    fn progress(&mut self, progress: &Progress) {
        if self.1 == 2 && progress.batch == 2 {
            self.0.store(true, Relaxed);
        }
    }
}

impl Sink for Interrupt<'_> {}

#[test]
fn a_teaching_network_comes_back_from_a_checkpoint() {
    let (dir, dataset, never) = (TempDir::new().unwrap(), glyphs(400, 100), AtomicBool::new(false));
    for (method, model, scheme) in [("lwf", "resnet20", "ofd"), ("icarl", "cnn", "attention")] {
        let settings: Pairs = &[("model", model), ("distill", scheme), ("width", "0.125")];
        let config = config(method, SHORT, settings);
        let folder = |name: &str| RunFolder::create(&dir.path().join(method).join(name), false).unwrap();
        let (whole, broken, flag) = (folder("whole"), folder("broken"), AtomicBool::new(false));
        run(&config, &dataset, &Device::cpu(), Some(&whole), &mut Silent, &never).unwrap();
        let first = run(&config, &dataset, &Device::cpu(), Some(&broken), &mut Interrupt(&flag, 0), &flag);
        assert!(matches!(first, Err(Error::Interrupted)), "{method}");
        resume(&config, &dataset, &Device::cpu(), &broken, &mut Silent, &never).unwrap();
        let bytes = |folder: &RunFolder| std::fs::read(folder.path().join("model.safetensors")).unwrap();
        assert!(bytes(&whole) == bytes(&broken), "{method} by {scheme}: another model");
    }
}

/// The frozen network of LwF is the one before the task, to the last bit, all through the task.
#[test]
fn a_teacher_never_changes() {
    let learner = learner("resnet20", &Device::cpu());
    let mut optimizer = Optimizer::new(Kind::Adam, 0.0, 0.0, &learner.network.parameters).unwrap();
    let mut lwf = build("lwf", &[]);
    let before = learner.network.parameters.values().to_vec().unwrap();
    let statistics = learner.network.statistics.values().unwrap().to_vec().unwrap();
    lwf.begin_task(&learner, &task(&learner, 1, 4)).unwrap();
    for key in 0..4 {
        step(&mut *lwf, &learner, &mut optimizer, &batch(&learner, &[1, 2, 3, 4], key, 10), 0.01);
        assert_eq!(vector(&mut *lwf, "old.parameters"), before);
        assert_eq!(vector(&mut *lwf, "old.statistics"), statistics);
    }
    assert_ne!(learner.network.parameters.values().to_vec().unwrap(), before);
}
