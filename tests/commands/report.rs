//! `report.html` is complete, self-contained and well-formed, and depends on the run folder alone.

use crate::common::program::{fails, native, succeeds, unsealed};
use engram::continual;
use engram::data::{Dataset, Images};
use engram::experiment::results::{Metrics, RunFolder, Timing};
use engram::experiment::sink::{Listener, Sink, TaskFinished};
use engram::experiment::{Config, run};
use engram::report::{REPORT_FILE, ReportPage, write_run, write_seeds};
use engram::{Device, Error};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

const TINY: &str = "--limit-per-task 60 --epochs 1 --memory 40 --device cpu --quiet";
/// The same for a method without a memory.
const PLAIN: &str = "--limit-per-task 60 --epochs 1 --device cpu --quiet";

fn read(path: impl AsRef<Path>) -> String {
    std::fs::read_to_string(path).unwrap()
}

/// The page with the checks that every page must pass.
#[track_caller]
fn sound(path: &Path) -> String {
    let html = read(path);
    for wanted in ["<!doctype html>\n<html lang=\"en\">", "<meta charset=\"utf-8\">", "<title>", "prefers-color-scheme"]
    {
        assert!(html.contains(wanted), "no {wanted}");
    }
    let text = without_data(&html);
    for bad in ["http:", "https:", "//", "<script", "onload=", "onerror=", "@import", "url(", "NaN", "inf %"] {
        let found = text.find(bad).map(|at| text[..at].chars().rev().take(60).collect::<String>());
        assert!(found.is_none(), "{bad} after (backwards) {}", found.unwrap());
    }
    let targets = html.match_indices("href=\"#").map(|(at, start)| html[at + start.len()..].split('"').next().unwrap());
    for target in targets {
        assert_eq!(html.matches(&format!("id=\"{target}\"")).count(), 1, "{target}");
    }
    balanced(&html);
    html
}

/// The page without the data of its pictures.
fn without_data(html: &str) -> String {
    let mut parts = html.split("base64,");
    let first = parts.next().unwrap().to_string();
    parts.fold(first, |all, part| all + part.split_once('"').unwrap().1)
}

/// Every element that is opened is closed, in the right order.
#[track_caller]
fn balanced(html: &str) {
    let mut open = Vec::new();
    let body = html.replace(&html[html.find("<style>").unwrap()..html.find("</style>").unwrap()], "<style>");
    for (at, _) in body.match_indices('<') {
        let tag = &body[at + 1..at + body[at..].find('>').expect("a tag without end")];
        let name: String = tag.trim_start_matches('/').chars().take_while(char::is_ascii_alphanumeric).collect();
        let void = ["meta", "link", "img", "br"].contains(&name.as_str()) || tag.ends_with('/') || name.is_empty();
        match tag.starts_with('/') {
            true => assert_eq!(open.pop().as_deref(), Some(name.as_str()), "near {}", &body[at.saturating_sub(80)..at]),
            false if !void => open.push(name),
            false => {}
        }
    }
    assert_eq!(open, [] as [&str; 0]);
}

fn pictures(html: &str) -> Vec<image::DynamicImage> {
    use base64::Engine;
    let decode = |data: &str| {
        let bytes = base64::engine::general_purpose::STANDARD.decode(data.split('"').next().unwrap()).unwrap();
        image::load_from_memory(&bytes).unwrap()
    };
    html.split("src=\"data:image/png;base64,").skip(1).map(decode).collect()
}

#[test]
fn a_run_leaves_a_page_with_everything_on_it() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    succeeds(dir.path(), &format!("icarl {TINY} --out out"));
    let html = sound(&out.join(REPORT_FILE));
    let ids = ["accuracy", "tasks", "forgetting", "confusion", "exemplars", "loss", "cost", "settings", "repeat"];
    for id in ids {
        assert!(html.contains(&format!("<section id=\"{id}\">")), "no section {id}");
    }
    assert!(!html.contains("Incomplete"));
    let metrics: Metrics = serde_json::from_str(&read(out.join("metrics.json"))).unwrap();
    let percent = |a: f64| format!("{:.1}", (1000.0 * a).round() / 10.0);
    for (name, result) in &metrics.classifiers {
        assert!(html.contains(&format!("<caption><span>{name}: accuracy in percent")), "{name}");
        for (t, row) in result.matrix.iter().enumerate() {
            for accuracy in row.iter().flatten() {
                assert!(html.contains(&format!(">{}</td>", percent(*accuracy))), "{name} after task {t}: {accuracy}");
            }
            assert!(html.contains(&format!("<td>{} %</td>", percent(result.seen_accuracy[t]))));
        }
        assert!(html.contains(&format!("predicted class (columns), classifier {name}</span></caption>")));
    }
    // Entries above the diagonal, of three classifiers.
    assert_eq!(html.matches("<td class=\"none\">–</td>").count(), 3 * 10);
    assert!(html.contains("of 2,000 test images correctly") && html.contains("guessing would give 10.0 %"));

    let pictures = pictures(&html);
    assert_eq!(pictures.len(), 40);
    assert!(pictures.iter().all(|picture| (picture.width(), picture.height()) == (28, 28)));
    assert_eq!(html.matches("alt=\"exemplar ").count(), 40);
    assert_eq!(pictures[0], image::open(out.join("exemplars/0/01.png")).unwrap());

    // Without memory there are no exemplars; all at once there is nothing to compare.
    succeeds(dir.path(), &format!("finetune {PLAIN} --out finetune"));
    let html = sound(&dir.path().join("finetune").join(REPORT_FILE));
    assert!(!html.contains("id=\"exemplars\"") && html.contains("id=\"forgetting\""));
    assert!(!dir.path().join("finetune/exemplars").exists());
    succeeds(dir.path(), &format!("joint {PLAIN} --out joint"));
    let html = sound(&dir.path().join("joint").join(REPORT_FILE));
    assert!(html.contains("10 classes at once") && html.contains("id=\"confusion\""));
    assert!(!html.contains("id=\"forgetting\"") && !html.contains("id=\"accuracy\""));
}

#[test]
fn the_command_on_the_page_repeats_the_run() {
    let dir = tempfile::tempdir().unwrap();
    let longer = TINY.replace("--epochs 1", "--epochs 3");
    succeeds(dir.path(), &format!("icarl {longer} --lr 0.0005 --lr-steps 1,2 --class-order seed:3 --seed 7 --out a"));
    let html = read(dir.path().join("a").join(REPORT_FILE));
    let command = html.split("<pre><code><span>engram ").nth(1).unwrap().split("</code>").next().unwrap();
    let command = command.replace("<span>", "").replace("</span>", "");
    assert!(command.contains("--lr 0.0005") && command.contains("--class-order seed:3"), "{command}");
    assert!(
        html.replace("</span> <span>", " ").contains("engram learn FILE.engram --from-run ."),
        "how a learner goes on"
    );
    succeeds(dir.path(), &format!("{command} --quiet --out b"));
    for name in ["metrics.json", "model.safetensors", "class_means.safetensors"] {
        let [a, b] = ["a", "b"].map(|run| std::fs::read(dir.path().join(run).join(name)).unwrap());
        assert!(a == b, "{name}");
    }
}

#[test]
fn a_page_is_a_function_of_the_folder() {
    let dir = tempfile::tempdir().unwrap();
    succeeds(dir.path(), &format!("icarl {TINY} --out out"));
    let page = dir.path().join("out").join(REPORT_FILE);
    let html = read(&page);
    std::fs::remove_file(&page).unwrap();
    assert_eq!(succeeds(&dir, "report out").out.trim(), Path::new("out").join(REPORT_FILE).display().to_string());
    assert_eq!(read(&page), html);

    // Names of classes are data.
    for name in ["model.json", "exemplars/index.json"] {
        let path = dir.path().join("out").join(name);
        let text = unsealed(&read(&path));
        std::fs::write(&path, text.replace("\"name\": \"3\"", r#""name": "<b>&\"'</script>""#)).unwrap();
    }
    succeeds(dir.path(), "report out");
    let html = sound(&page);
    assert!(html.contains("&lt;b&gt;&amp;&quot;&#39;&lt;/script&gt;") && !html.contains("<b>"));

    for (arguments, code, words) in
        [("report nowhere", 2, "no such run"), ("report .", 2, "holds runs"), ("report", 2, "<DIR>")]
    {
        fails(&dir, arguments, code, &[words]);
    }
    std::fs::write(dir.path().join("out/timing.json"), "{").unwrap();
    fails(&dir, "report out", 1, &["timing.json"]);
    assert_eq!(read(&page), html, "a failure leaves the old page");
}

#[test]
fn seeds_have_a_page_of_means() {
    let dir = tempfile::tempdir().unwrap();
    let text = succeeds(&dir, &format!("icarl {TINY} --classes-per-task 5 --seed 4 --seeds 2 --out out")).out;
    let root = dir.path().join("out");
    assert!(text.contains(&native("out/report.html")), "{text}");
    let html = sound(&root.join(REPORT_FILE));
    let seen = |seed: u64| -> f64 {
        let metrics: Metrics = serde_json::from_str(&read(root.join(format!("seed-{seed}/metrics.json")))).unwrap();
        metrics.classifiers["nme"].final_accuracy().unwrap()
    };
    let (a, b) = (seen(4), seen(5));
    let [mean, sd] = [(a + b) / 2.0, (a - b).abs() / 2f64.sqrt()].map(|x| (1000.0 * x).round() / 10.0);
    assert!(html.contains(&format!("<dd>{mean:.1} ± {sd:.1}</dd>")), "{mean} {sd}");
    for wanted in [
        "href=\"seed-4/report.html\"",
        "href=\"seed-5/report.html\"",
        "<span>--seed 4</span> <span>--seeds 2</span>",
        "id=\"accuracy\"",
    ] {
        assert!(html.contains(wanted), "no {wanted}");
    }
    sound(&root.join("seed-4").join(REPORT_FILE));

    let before = read(root.join(REPORT_FILE));
    assert_eq!(succeeds(&dir, "report out").out.lines().count(), 3);
    assert_eq!(read(root.join(REPORT_FILE)), before);
    fails(&dir, &format!("icarl {TINY} --seed 8 --seeds 2 --out out"), 2, &["report.html", "--force"]);

    // A seed that is not there yet is said; another experiment is refused.
    let mut folders: Vec<PathBuf> = [4, 5, 6].map(|seed| root.join(format!("seed-{seed}"))).into();
    write_seeds(&root, &folders).unwrap();
    assert!(sound(&root.join(REPORT_FILE)).contains("2 of 3 seeds are finished"));
    succeeds(dir.path(), &format!("icarl {TINY} --classes-per-task 2 --seed 6 --out out/seed-6"));
    let error = write_seeds(&root, &folders).unwrap_err();
    assert!(error.exit_code() == 2 && error.to_string().contains("differ in more than their seed"), "{error}");
    folders.clear();
    assert_eq!(write_seeds(&root, &folders).unwrap_err().exit_code(), 2);
}

// ------------------------------------------------------------------------------------------------ runs of many classes

/// 100 classes of 8×8 colour pictures with names that need care; ten pictures for training and two for testing each.
fn hundred_classes() -> Dataset {
    let images = |per_class: usize| {
        let mut images = Images {
            channels: 3,
            height: 8,
            width: 8,
            pixels: Vec::new(),
            labels: Vec::new(),
            views: Vec::new(),
            masks: Vec::new(),
        };
        for i in 0..100 * per_class {
            let class = i % 100;
            images.labels.push(class as u32);
            images.pixels.extend((0..192).map(|p| ((class * 37 + p * (1 + class % 7) + i / 100 * 3) % 256) as u8));
        }
        Arc::new(images)
    };
    Dataset {
        name: "a<b".into(),
        class_names: (0..100).map(|class| format!("<i>kind & \"{class}\"")).collect(),
        train: images(10),
        test: images(2),
        mean: vec![0.5; 3],
        std: vec![0.25; 3],
        flips: false,
        notes: Vec::new(),
        left_out: Vec::new(),
        domains: Vec::new(),
    }
}

struct StopAfter<'a>(usize, &'a AtomicBool);

impl Listener for StopAfter<'_> {}

impl Sink for StopAfter<'_> {
    fn task_finished(&mut self, task: &TaskFinished) {
        self.1.store(task.task + 1 == self.0, Relaxed);
    }

    fn run_finished(&mut self, _: &Metrics, _: &Timing, _: Option<&Path>) {
        assert_eq!(self.0, 0, "the run was to be stopped");
    }
}

/// Ten tasks of ten classes, ended after some of them; 0 for never.
fn run_hundred_classes(folder: &Path, stop_after: usize) {
    let settings = [("model", "mlp"), ("memory", "200"), ("epochs", "1"), ("classes_per_task", "10")];
    let config = Config::of(continual::spec("icarl").unwrap(), &settings).unwrap();
    let folder = RunFolder::create(folder, false).unwrap();
    folder.write_json("config.json", &config).unwrap();
    let interrupted = AtomicBool::new(false);
    let mut page = ReportPage::new(folder.path());
    let mut stop = StopAfter(stop_after, &interrupted);
    let mut sink: [&mut dyn Sink; 2] = [&mut page, &mut stop];
    let result = run(&config, &hundred_classes(), &Device::cpu(), Some(&folder), &mut sink, &interrupted);
    assert_eq!(matches!(result, Err(Error::Interrupted)), stop_after > 0);
    page.finish().unwrap();
}

#[test]
fn a_hundred_classes_stay_readable() {
    let dir = tempfile::tempdir().unwrap();
    run_hundred_classes(dir.path(), 0);
    let html = sound(&dir.path().join(REPORT_FILE));
    assert!(html.contains("Confusion matrix of 100 classes, classifier nme") && html.contains("class=\"cells\""));
    assert!(!html.contains("heat counts") && !html.contains("<i>kind"));
    assert_eq!(pictures(&html).len(), 200);
    assert!(html.len() < 1_000_000, "{} bytes", html.len());
    assert!(dir.path().join("exemplars/7-_i_kind____7_/01.png").is_file());
}

#[test]
fn an_interrupted_run_leaves_a_page_that_says_so() {
    let dir = tempfile::tempdir().unwrap();
    run_hundred_classes(dir.path(), 3);
    let html = sound(&dir.path().join(REPORT_FILE));
    assert!(html.contains("<strong>Incomplete:</strong> 3 of 10 tasks") && html.contains("30 classes in 3 tasks"));
    assert_eq!(write_run(dir.path()).unwrap(), dir.path().join(REPORT_FILE));
    assert_eq!(read(dir.path().join(REPORT_FILE)), html);
}

// ------------------------------------------------------------------------------------------------------- in a browser

fn browser() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let names = ["chromium", "chromium-browser", "google-chrome"];
    std::env::split_paths(&path).flat_map(|dir| names.map(|name| dir.join(name))).find(|path| path.is_file())
}

/// What the browser makes of a page in a window so wide: the title that a script of ours sets, and no complaint.
fn in_browser(browser: &Path, page: &Path, width: u32, probe: &str) -> String {
    let dir = tempfile::tempdir().unwrap();
    let copy = dir.path().join("page.html");
    let script = format!("<script>addEventListener('load', () => {{ document.title = {probe}; }});</script></body>");
    std::fs::write(&copy, read(page).replace("</body>", &script)).unwrap();
    let output = Command::new(browser)
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--dump-dom"])
        .arg(format!("--window-size={width},900"))
        .arg(format!("--user-data-dir={}", dir.path().join("profile").display()))
        .arg(format!("file://{}", copy.display()))
        .output()
        .unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(!err.contains("CONSOLE"), "{err}");
    let title = out.split("<title>").nth(1).unwrap_or_else(|| panic!("no page:\n{err}"));
    title.split("</title>").next().unwrap().to_string()
}

#[test]
fn a_browser_shows_it_without_complaint() {
    let Some(browser) = browser() else {
        // Straight to stderr: the test harness hides what a passing test prints.
        let _ = writeln!(std::io::stderr(), "SKIPPED a test of report.html: no Chromium on this machine");
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    succeeds(dir.path(), &format!("icarl {TINY} --out small"));
    run_hundred_classes(&dir.path().join("large"), 0);
    succeeds(dir.path(), &format!("compare icarl finetune {} --seeds 2 --out comparison", TINY.replace("--quiet", "")));
    let students = "--teacher mlp --teacher-limit 100 --teacher-epochs 1 --limit 100 --epochs 1 --seeds 2 --device cpu";
    succeeds(dir.path(), &format!("distill {students} --train-fraction 1,0.5 --omit-class 3 --out distillation"));
    for (run, n_pictures, n_drawings) in
        [("small", 40, 2), ("large", 200, 5), ("comparison", 40, 3), ("distillation", 0, 4)]
    {
        let page = dir.path().join(run).join(REPORT_FILE);
        let shown = "[...document.images].filter(i => i.complete && i.naturalWidth > 0).length + ' pictures'";
        assert_eq!(in_browser(&browser, &page, 1000, shown), format!("{n_pictures} pictures"), "{run}");
        let drawn = "[...document.querySelectorAll('svg')].filter(s => s.clientWidth > 0).length + ' drawings'";
        assert_eq!(in_browser(&browser, &page, 1000, drawn), format!("{n_drawings} drawings"), "{run}");
        let nothing_fetched =
            "performance.getEntriesByType('resource').filter(r => !r.name.startsWith('data:')).length + ' fetched'";
        assert_eq!(in_browser(&browser, &page, 1000, nothing_fetched), "0 fetched", "{run}");
        for width in [500, 1000] {
            let overflow =
                "(document.documentElement.scrollWidth - document.documentElement.clientWidth) + ' too wide'";
            assert_eq!(in_browser(&browser, &page, width, overflow), "0 too wide", "{run} at {width}");
        }
    }
}
