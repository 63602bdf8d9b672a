//! By which classifier a run is judged, and what classifiers may answer.

use crate::common::program::{TINY, engram, json, succeeds};
use crate::common::runs::{Pairs, config, config_of, glyphs, trained, try_config};
use engram::continual::{self, Batch, Classifier, Learner, Loss, Method, MethodSpec, spec};
use engram::data::{Dataset, Scenario, Target};
use engram::experiment::results::{main_classifier, ordered_classifiers};
use engram::experiment::sink::Silent;
use engram::experiment::{Config, run};
use engram::nn::Output;
use engram::ops::Mode;
use engram::{Device, Result, Tensor};
use std::collections::BTreeSet;
use std::sync::atomic::AtomicBool;
use std::sync::{LazyLock, Mutex};

static GLYPHS: LazyLock<Dataset> = LazyLock::new(|| glyphs(240, 100));

const SHORT: Pairs = &[
    ("model", "mlp"),
    ("width", "0.125"),
    ("classes_per_task", "4"),
    ("memory", "40"),
    ("epochs", "1"),
    ("batch_size", "16"),
];

#[test]
fn the_methods_own_classifier_is_what_everything_goes_by() {
    let dir = tempfile::tempdir().unwrap();
    for (method, own, others) in [("hybrid3", "network", ["nme", "ncm"]), ("icarl", "nme", ["network", "ncm"])] {
        let said = succeeds(&dir, &format!("{method} {TINY} --max-tasks 2 --eval-every 1 --out {method}")).out;
        assert!(said.contains(&format!("(classifier: {own})")), "{said}");
        let metrics = json(dir.path().join(method).join("metrics.json"));
        let names: Vec<&str> =
            metrics["judged_by"].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap()).collect();
        assert_eq!(names, [own, others[0], others[1]]);
        let last = metrics["any_time"].as_array().unwrap().last().unwrap()["accuracy"].clone();
        assert_eq!(last, metrics["classifiers"][own]["final_accuracy"], "{method}: any-time accuracy");
        let csv = std::fs::read_to_string(dir.path().join(method).join("accuracy.csv")).unwrap();
        assert!(csv.lines().nth(1).unwrap().starts_with(&format!("{own},")), "{csv}");
        let page = std::fs::read_to_string(dir.path().join(method).join("report.html")).unwrap();
        assert!(page.contains(&format!("those of the classifier {own} (")), "{method}: the page");
        let said = succeeds(&dir, &format!("predict {method} {method}/exemplars/0/01.png --json")).out;
        assert!(said.contains(&format!("\"classifier\": \"{own}\"")), "{said}");
    }
    let compared = succeeds(&dir, &format!("compare hybrid3 icarl {TINY} --max-tasks 2 --seeds 1 --out both"));
    let csv = std::fs::read_to_string(dir.path().join("both/comparison.csv")).unwrap();
    let row = |method: &str| csv.lines().find(|line| line.starts_with(method)).unwrap().to_string();
    assert!(row("hybrid3,").contains(",network,") && row("icarl,").contains(",nme,"), "{csv}\n{}", compared.out);
}

/// Whose second classifier is the network.
struct Contrary;

const SMALLEST: Classifier = Classifier { name: "aaa-smallest", explanation: "smallest output", by_means: false };
const CONTRARY: [Classifier; 2] = [Classifier::NETWORK, SMALLEST];

impl Method for Contrary {
    fn observe(&mut self, learner: &Learner, batch: &Batch) -> Result<Loss> {
        let logits = learner.network.forward(&batch.x, Mode::Train)?.logits;
        Ok(Loss::single("cross_entropy", logits.cross_entropy(&batch.labels, batch.n_seen)?))
    }

    fn classifiers(&self) -> &'static [Classifier] {
        &CONTRARY
    }

    fn scores(&self, output: &Output, classifier: &Classifier) -> Result<Tensor> {
        match *classifier {
            SMALLEST => output.logits.scale(-1.0),
            _ => Ok(output.logits.clone()),
        }
    }
}

static SPEC: MethodSpec = MethodSpec {
    name: "contrary",
    summary: "answers what it does not think",
    build: |_| Box::new(Contrary),
    ..MethodSpec::BASE
};

/// A name that comes first in the alphabet is not first for that.
#[test]
fn classifiers_of_a_method_of_ones_own_keep_their_order() {
    let config = config_of(&SPEC, SHORT, &[("scenario", "domain")]);
    let metrics = run(&config, &GLYPHS, &Device::cpu(), None, &mut Silent, &AtomicBool::new(false)).unwrap();
    assert_eq!(ordered_classifiers(&metrics).map(|(name, _)| name).collect::<Vec<_>>(), ["network", "aaa-smallest"]);
    assert_eq!(main_classifier(&metrics).unwrap().0, "network");
    assert_eq!(metrics.judged_by[1].explanation, "smallest output");
    // Both can answer about a task before it is learnt.
    for result in metrics.classifiers.values() {
        assert!(result.before.len() == 2 && result.forward_transfer().is_some());
    }
    let [network, smallest] = ["network", "aaa-smallest"].map(|name| &metrics.classifiers[name].before);
    assert_ne!(network, smallest);
}

/// Class means know nothing of a task that has not been learnt; the network does.
#[test]
fn forward_transfer_is_measured_of_what_can_answer() {
    let (metrics, _) = trained(&config("icarl", SHORT, &[("scenario", "task")]), &GLYPHS);
    assert_eq!(metrics.classifiers["network"].before.len(), 2);
    assert!(metrics.classifiers["nme"].before.is_empty() && metrics.classifiers["nme"].forward_transfer().is_none());
}

/// Before the first exemplars are chosen, nearest means know no class, and of a running task's classes none either.
#[test]
fn nearest_means_answer_nothing_before_they_are_there() {
    let (metrics, _) = trained(&config("icarl", SHORT, &[("eval_every", "1")]), &GLYPHS);
    let of_first_task = metrics.any_time.iter().filter(|point| point.n_images < 96);
    assert!(of_first_task.clone().count() > 3);
    assert!(of_first_task.clone().all(|point| point.accuracy == 0.0), "{:?}", metrics.any_time);
    let later = metrics.any_time.iter().find(|point| point.n_images > 140).unwrap();
    assert!(later.accuracy > 0.0 && later.accuracy <= 0.5, "four of eight classes have means: {later:?}");
}

/// Hardly trained, so that outputs of classes to come are not the smallest yet.
#[test]
fn all_classes_are_candidates_for_every_method_that_is_told_so() {
    let of_classes = |spec: &&MethodSpec| !spec.sees_everything && spec.targets.contains(&Target::Class);
    let (told, others): (Vec<_>, Vec<_>) =
        continual::ALL.iter().filter(of_classes).partition(|spec| spec.goes_by("candidates"));
    for spec in others {
        let refused = Config::of(spec, &[("candidates", "all")]).err();
        assert!(refused.is_some_and(|error| error.to_string().contains("--candidates")), "{}", spec.name);
    }
    for spec in told {
        let accuracy = |candidates| {
            // Hardly trained; GDumb has a rate of its own.
            let usual = &[SHORT, &[("lr", "1e-6")]].concat();
            let (metrics, _) = trained(&config_of(spec, usual, &[("candidates", candidates)]), &GLYPHS);
            let network = &metrics.classifiers["network"];
            (network.seen_accuracy.clone(), metrics.judged_by)
        };
        let ((seen, _), (all, _)) = (accuracy("seen"), accuracy("all"));
        if spec.name != "gdumb" {
            // GDumb's networks have a rate of their own.
            assert!(all[0] < seen[0], "{}: {all:?}, not below {seen:?}", spec.name);
        }
        assert!(all.iter().zip(&seen).all(|(all, seen)| all <= seen), "{}: {all:?}, {seen:?}", spec.name);
        assert_eq!(all.last(), seen.last(), "{}: in the end all classes have come", spec.name);
    }
    for scenario in [Scenario::Task, Scenario::Domain] {
        let settings = &[("scenario", scenario.name()), ("candidates", "all")];
        let message = try_config(spec("er").unwrap(), SHORT, settings).unwrap_err().to_string();
        assert!(message.contains("--candidates") && message.contains(scenario.name()), "{message}");
    }
}

/// What a row says of exemplars and of an old network must be something that it has.
#[test]
fn deviations_are_those_of_the_method() {
    for spec in continual::ALL {
        let deviations = spec.deviations.join("\n");
        for (word, has) in [
            ("K/t", spec.has("memory_rounding")),
            ("--memory-rounding", spec.has("memory_rounding")),
            ("--herding", spec.has("memory_rounding")),
            ("exemplar", spec.uses_memory()),
            ("old network", spec.memory.contains("old network")),
            ("class means", spec.memory.contains("class means")),
        ] {
            assert!(has || !deviations.contains(word), "{} has no {word}:\n{deviations}", spec.name);
        }
    }
    let dir = tempfile::tempdir().unwrap();
    assert!(engram(&dir, "methods show icarl").out.contains("⌈K/t⌉"));
    assert!(!engram(&dir, "methods show lwf-mc").out.contains("⌈K/t⌉"));
}

/// Keeps what it was told of classes seen.
struct Told;

static TOLD: Mutex<BTreeSet<(usize, usize)>> = Mutex::new(BTreeSet::new());
static TOLD_SPEC: MethodSpec = MethodSpec { name: "told", build: |_| Box::new(Told), ..MethodSpec::BASE };

impl Method for Told {
    fn observe(&mut self, _learner: &Learner, batch: &Batch) -> Result<Loss> {
        TOLD.lock().unwrap().insert((batch.n_old, batch.n_seen));
        Ok(Loss(Vec::new()))
    }
}

/// A blurry stream has no first task: what a method is told of the classes seen is the same from beginning to end.
#[test]
fn a_blurry_stream_shows_no_boundary() {
    trained(&config_of(&TOLD_SPEC, SHORT, &[("blurry", "20")]), &GLYPHS);
    assert_eq!(TOLD.lock().unwrap().iter().copied().collect::<Vec<_>>(), [(10, 10)]);
    let one = |method: &str| trained(&config(method, SHORT, &[("blurry", "20"), ("max_tasks", "1")]), &GLYPHS).1;
    assert!(one("er-ace") != one("finetune"), "ER-ACE restricts nothing in what would be a first task");
}
