//! `engram distill` on the command line.

use crate::common::program::{fails, native, succeeds};
use engram::distill;
use engram::experiment::distillation::{Arm, DistillResults};
use std::path::Path;
use tempfile::TempDir;

const TINY: &str = "distill --device cpu --teacher-limit 300 --teacher-epochs 2 --student-width 0.1 --limit 60 \
                    --epochs 3";

fn results(folder: &Path) -> DistillResults {
    serde_json::from_str(&std::fs::read_to_string(folder.join("metrics.json")).unwrap()).unwrap()
}

#[test]
fn a_distillation_from_the_command_line() {
    let dir = TempDir::new().unwrap();
    let command = format!("{TINY} --teacher mlp --seeds 2 --train-fraction 1,0.5 --omit-class 3 --out a");
    let first = succeeds(&dir, &command);
    for wanted in ["distilled − scratch", "never shown class 3", "Over the number of labelled images", "report.html"]
    {
        assert!(first.out.contains(wanted), "'{wanted}' is not in:\n{}", first.out);
    }
    assert!(first.out.lines().all(|line| line.chars().count() <= 80), "{}", first.out);
    let a = results(&dir.path().join("a"));
    assert!(a.complete && a.students.len() == 8 && a.comparisons().len() == 2);
    assert_eq!(a.students.iter().map(|s| s.n_images).max(), Some(54), "60 images but those of class 3");
    assert!(a.terms.iter().any(|term| term.record.term == "kd" && term.record.gradient_norm > Some(0.0)));
    for arm in [Arm::Scratch, Arm::Distilled] {
        assert!(a.students.iter().any(|student| student.arm == arm && student.omitted.is_some()));
    }
    let page = std::fs::read_to_string(dir.path().join("a/report.html")).unwrap();
    for wanted in ["With and without the teacher", "never shown", "Over the amount of data", "--omit-class 3", "hinton"]
    {
        assert!(page.contains(wanted), "'{wanted}' is not on the page");
    }
    assert!(std::fs::read_to_string(dir.path().join("a/terms.csv")).unwrap().lines().count() > 10);

    // The same again from its own settings: the teacher comes from the cache, the numbers are the same.
    let again = succeeds(&dir, "distill --config a/config.json --out b --quiet").out;
    assert_eq!(again.lines().count(), 1, "{again}");
    let b = results(&dir.path().join("b"));
    assert!(b.teachers[0].origin.contains("trained before"), "{}", b.teachers[0].origin);
    let accuracies = |results: &DistillResults| results.students.iter().map(|s| s.accuracy).collect::<Vec<_>>();
    assert_eq!(accuracies(&a), accuracies(&b));

    // Teacher and students are asked about the class that the students never saw.
    let asked = |found: Option<engram::experiment::distillation::Omitted>| found.map(|one| (one.class, one.n_images));
    assert_eq!(asked(a.teacher_omitted), asked(a.students[0].omitted));
    assert!(asked(a.teacher_omitted).is_some_and(|(class, n)| class == 3 && n > 50), "{:?}", a.teacher_omitted);
    for network in ["  teacher ", "  scratch ", "  distilled "] {
        assert!(first.out.lines().any(|line| line.starts_with(network) && line.contains("; with ")), "{}", first.out);
    }

    // There is nothing to go on with, and no other setting to go on with.
    std::fs::create_dir(dir.path().join("of-a-method")).unwrap();
    std::fs::write(dir.path().join("of-a-method/config.json"), r#"{ "method": "icarl", "epochs": 4 }"#).unwrap();
    for (flags, wanted) in [
        ("a", "complete"),
        ("a --epochs 9 --lr 1", "leave out --epochs, --lr"),
        ("runs", "no distillation"),
        ("of-a-method", "engram icarl --resume of-a-method"),
    ] {
        fails(&dir, &format!("distill --resume {flags}"), 2, &[wanted]);
    }

    // The page can be made again; a folder with results is not overwritten.
    let page = dir.path().join("a/report.html");
    std::fs::remove_file(&page).unwrap();
    succeeds(&dir, "report a");
    assert!(page.exists());
    fails(&dir, &format!("{TINY} --out a"), 2, &["--force"]);

    // A teacher from a file: our own, and one of another architecture.
    let cached = std::fs::read_dir(dir.path().join("runs/teachers")).unwrap().next().unwrap().unwrap().path();
    let file = cached.join("teacher.safetensors").strip_prefix(&dir).unwrap().display().to_string();
    succeeds(&dir, &format!("{TINY} --teacher mlp --seeds 1 --out c --teacher-weights {file}"));
    let c = results(&dir.path().join("c"));
    assert_eq!((c.teacher_accuracy, c.teachers[0].seconds_training), (a.teacher_accuracy, None));
    let (wrong, wider) = ("--teacher cnn", "--teacher mlp --teacher-width 2");
    fails(&dir, &format!("{TINY} --out d {wrong} --teacher-weights {file}"), 1, &["'conv1.weight'"]);
    fails(&dir, &format!("{TINY} --out d {wider} --teacher-weights {file}"), 1, &["'fc1.weight'", "512"]);

    let command = format!("distill show --temperature --device cpu --teacher mlp --teacher-weights {file}");
    let drawn = succeeds(&dir, &command).out;
    assert!(drawn.contains("T = 100") && drawn.contains('█'), "{drawn}");
}

#[test]
fn wrong_use_is_named() {
    let dir = TempDir::new().unwrap();
    for (flags, wanted) in [
        ("--scheme nothing", "unknown scheme 'nothing'"),
        ("--preset nothing", "unknown preset 'nothing'"),
        ("--temperature 0", "--temperature 0"),
        ("--temperature -4", "--temperature -4"),
        ("--weight ce=0,kd=0", "all weights of 'hinton' are 0"),
        ("--weight kd=0", "nothing comes from the teacher"),
        ("--weight hint=1", "no such term"),
        ("--weight kd", "a term and a number"),
        ("--alpha-on-ce 2", "kd=-1"),
        ("--alpha-on-ce 0.1 --alpha-on-kd 0.1", "both set the weights"),
        ("--scheme fitnets --layers stage9", "no layer 'stage9'"),
        ("--scheme attention", "no stage"),
        ("--scheme rkd --teacher cnn,cnn", "one teacher"),
        ("--teacher nothing", "unknown model 'nothing'"),
        ("--teacher-weights a,b", "2 files of weights for 1 teachers"),
        ("--teacher-weights nowhere.safetensors", "nowhere.safetensors"),
        ("--train-fraction 0.5,0", "--train-fraction 0"),
        ("--omit-class 10", "the classes are 0 to 9"),
        ("--limit 5", "limit"),
        ("--seeds 0", "--seeds"),
        ("--lr -1", "--lr"),
        ("show", "--temperature"),
        ("show nothing", "unknown scheme"),
        ("show --temperature --image 99999 --teacher mlp --device cpu", "--image 99999"),
    ] {
        let code = if flags.contains("nowhere") { 1 } else { 2 };
        fails(&dir, &format!("distill {flags}"), code, &[wanted]);
    }
    assert!(!dir.path().join("runs").exists(), "nothing was trained, and no folder made");
}

#[test]
fn schemes_are_listed_and_shown() {
    let dir = TempDir::new().unwrap();
    let list = succeeds(&dir, "distill list").out;
    for spec in distill::ALL {
        assert!(list.contains(spec.name));
        let shown = succeeds(&dir, &format!("distill show {}", spec.name)).out;
        assert!(shown.contains(spec.paper.split(',').next().unwrap()), "{shown}");
        assert!(shown.lines().all(|line| line.chars().count() <= 80), "{shown}");
    }
}

#[test]
fn schemes_stand_side_by_side() {
    let dir = TempDir::new().unwrap();
    let shared = "distill --device cpu --teacher mlp --teacher-limit 300 --teacher-epochs 2 --student cnn --student-width 0.25 \
                  --limit 60 --epochs 2 --seeds 2";
    let command = format!("{shared} --schemes hinton,dml,byot,born-again --of born-again:generations=2 --out s");
    let first = succeeds(&dir, &command).out;
    for wanted in ["scratch", "hinton", "all peers", "all exits", "all generations", "schemes.csv", "labels alone"] {
        assert!(first.contains(wanted), "'{wanted}' is not in:\n{first}");
    }
    assert!(first.lines().all(|line| line.chars().count() <= 80), "{first}");
    let [hinton, dml, born_again] =
        ["hinton", "dml", "born-again"].map(|name| results(&dir.path().join("s").join(name)));
    assert!(hinton.complete && dml.complete && born_again.complete);
    // Students from labels alone are trained once.
    let scratch = |results: &DistillResults| {
        let own = results.students.iter().filter(|student| student.arm == Arm::Scratch);
        own.map(|student| (student.accuracy, student.seconds_training)).collect::<Vec<_>>()
    };
    assert_eq!((scratch(&hinton).len(), scratch(&hinton)), (2, scratch(&dml)));
    assert_eq!(scratch(&hinton), scratch(&born_again));
    assert!(
        hinton.students.iter().all(|s| s.agreement.is_some()) && dml.students.iter().all(|s| s.agreement.is_none())
    );
    let csv = std::fs::read_to_string(dir.path().join("s/schemes.csv")).unwrap();
    assert_eq!(csv.lines().count(), 5, "{csv}");
    let page = std::fs::read_to_string(dir.path().join("s/dml/report.html")).unwrap();
    for wanted in ["What else answers", "all peers", "together with others", "online"] {
        assert!(page.contains(wanted), "'{wanted}' is not on the page");
    }
    let page = std::fs::read_to_string(dir.path().join("s/report.html")).unwrap();
    for wanted in
        ["4 schemes on cnn", "Gain over labels alone", "all exits", "href=\"born-again/report.html\"", "MiB held"]
    {
        assert!(page.contains(wanted), "'{wanted}' is not on the page");
    }
    std::fs::remove_file(dir.path().join("s/report.html")).unwrap();
    assert!(succeeds(&dir, "report s").out.contains(&native("s/report.html")));
    assert_eq!(std::fs::read_to_string(dir.path().join("s/report.html")).unwrap(), page, "a function of the folder");
    // The same command goes on, and has nothing left to do; other settings want another folder.
    let again = succeeds(&dir, &command).out;
    assert!(!again.contains("scheme 1 of") && again.contains("all peers"), "{again}");
    fails(
        &dir,
        &format!("{} --schemes hinton --out s", shared.replace("--limit 60", "--limit 70")),
        2,
        &["--limit", "--out"],
    );

    // The list: what is passed on, over who teaches.
    let list = succeeds(&dir, "distill list").out;
    for wanted in
        ["response   hinton, dkd, logit-mse", "dml, one", "byot, born-again", "feature    fitnets, attention, ofd"]
    {
        assert!(list.contains(wanted), "'{wanted}' is not in:\n{list}");
    }
    let shown = succeeds(&dir, "distill show one").out;
    for wanted in ["--branches", "--rampup", "online", "Lan, Zhu and Gong"] {
        assert!(shown.contains(wanted), "'{wanted}' is not in:\n{shown}");
    }
    let help = succeeds(&dir, "distill --help").out;
    assert!(help.contains("--generations") && help.contains("--schemes"));
    for (flags, wanted) in [
        ("--scheme one --student cnn --branches 1", "--branches 1"),
        ("--scheme one --student mlp", "earlier stage"),
        ("--scheme one --teacher cnn", "without a trained teacher"),
        ("--scheme dml --branches 2", "a setting of one"),
        ("--schemes hinton,hinton", "twice"),
        ("--schemes hinton,nothing", "unknown scheme 'nothing'"),
        ("--schemes hinton,dkd --temperature 2", "--of SCHEME:temperature=VALUE"),
        ("--schemes hinton,dkd --branches 2", "no scheme of --schemes"),
        ("--schemes hinton,dkd --of one:branches=2", "none of --schemes"),
        ("--schemes hinton,dkd --of hinton", "SCHEME:FLAG=VALUE"),
        ("--schemes hinton,dkd --scheme one", "--scheme"),
        ("--of hinton:temperature=2", "--schemes"),
    ] {
        fails(&dir, &format!("distill {flags}"), 2, &[wanted]);
    }
}
