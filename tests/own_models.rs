//! Networks of one's own: registered by a program, or listed in a file. Both go through the one builder, so a built-in model
//! that is printed and read again has the same bits, and what does not fit is refused with the layer's name.

mod common;

use common::program::{fails, json, succeeds};
use common::runs::{glyphs, trained};
use engram::continual;
use engram::experiment::checkpoint::CHECKPOINT_FILE;
use engram::experiment::results::RunFolder;
use engram::experiment::saved::{ModelCard, Predictor};
use engram::experiment::sink::{Listener, Progress, Silent, Sink};
use engram::experiment::{Config, resume, run};
use engram::models::{self, LayerList, ModelSpec, Network, Options, OutputKind, Shortcut};
use engram::nn::Builder;
use engram::ops::{Conv2d, Mode};
use engram::optim::{Kind, Optimizer};
use engram::rng::{Purpose, Rng};
use engram::{Device, Error, Tensor};
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

fn read(text: &str) -> engram::Result<LayerList> {
    LayerList::from_json(&serde_json::from_str(text).unwrap(), "net.json")
}

/// Three steps on the same images; the weights by name before and after.
fn weights_on_the_way(network: &Network) -> [Vec<u8>; 2] {
    let device = Device::cpu();
    let mut rng = Rng::keyed(5, Purpose::Test, 0);
    let [c, h, w] = network.input;
    let values: Vec<f32> = (0..4 * c * h * w).map(|_| rng.range(-1.0, 1.0)).collect();
    let x = Tensor::from_f32(&device, [4, c, h, w], &values).unwrap();
    let labels = match network.kind {
        OutputKind::Classes => Tensor::from_u32(&device, [4], &[0, 1, 2, 1]).unwrap(),
        OutputKind::Pixels => {
            let labels: Vec<u32> = (0..4 * h * w).map(|i| i as u32 % 3).collect();
            Tensor::from_u32(&device, [4, h, w], &labels).unwrap()
        }
    };
    let mut optimizer = Optimizer::new(Kind::Sgd, 0.9, 1e-4, &network.parameters).unwrap();
    let before = network.to_safetensors().unwrap();
    for _ in 0..3 {
        let loss = network.forward(&x, Mode::Train).unwrap().logits.cross_entropy(&labels, 3).unwrap();
        network.parameters.backward(&loss).unwrap();
        optimizer.step(&network.parameters, 0.01).unwrap();
    }
    [before, network.to_safetensors().unwrap()]
}

#[test]
fn every_printed_model_has_the_bits_of_the_built_in_one() {
    let narrow = Options { width: 0.125, ..Options::default() };
    let other = Options { shortcut: Some(Shortcut::B), last_relu: false, bn_epsilon: 1e-4, ..narrow };
    for (spec, options) in models::ALL.iter().flat_map(|spec| [(spec, narrow), (spec, other)]) {
        let list = LayerList::of_model(spec, spec.input, &options).unwrap();
        let from_file = read(&list.to_text()).unwrap();
        assert_eq!(from_file, list, "{}", spec.name);
        let device = Device::cpu();
        let ours = Network::from_list("net.json", &from_file, spec.input, 3, &device, 7).unwrap();
        let theirs = Network::with_options(spec.name, &options, spec.input, 3, &device, 7).unwrap();
        assert_eq!((ours.n_features, ours.macs), (theirs.n_features, theirs.macs), "{}", spec.name);
        let places = |network: &Network| format!("{:?}", network.places());
        assert_eq!(places(&ours), places(&theirs), "{}", spec.name);
        assert_eq!(ours.list(), theirs.list());
        let (ours, theirs) = (weights_on_the_way(&ours), weights_on_the_way(&theirs));
        assert_ne!(theirs[0], theirs[1], "{} learns nothing", spec.name);
        assert!(ours == theirs, "{}: the network from a file has other weights", spec.name);
    }
}

/// A run by the command line: from a file as from the table, complete when the file is gone.
#[test]
fn a_run_from_a_file_is_that_of_the_model_and_needs_the_file_no_more() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let usual = "--limit-per-task 40 --epochs 2 --memory 20 --device cpu --quiet";
    for (name, flags) in [("cnn", "--width 0.25"), ("resnet20", "--width 0.25 --shortcut b")] {
        let printed = succeeds(&dir, &format!("models show {name} {flags} --input 1x28x28 --json")).out;
        std::fs::write(at("net.json"), printed).unwrap();
        let shown = succeeds(&dir, "models show net.json").out;
        let theirs = succeeds(&dir, &format!("models show {name} {flags} --input 1x28x28")).out;
        let table =
            |text: &str| text.lines().skip_while(|line| !line.is_empty()).map(str::to_string).collect::<Vec<_>>();
        assert_eq!(table(&shown), table(&theirs));

        let weights = |run: &str| std::fs::read(at(run).join("model.safetensors")).unwrap();
        succeeds(&dir, &format!("icarl {usual} --model {name} {flags} --out built-in"));
        succeeds(&dir, &format!("icarl {usual} --model net.json --out whole"));
        assert_eq!(weights("whole"), weights("built-in"), "{name}");
        succeeds(&dir, &format!("icarl {usual} --model net.json --out stopped --stop-after 0.05"));
        fails(&dir, "icarl --resume stopped --model cnn", 2, &["--model"]);

        std::fs::rename(at("net.json"), at("elsewhere.json")).unwrap();
        succeeds(&dir, "icarl --resume stopped --quiet");
        assert_eq!(weights("stopped"), weights("whole"), "{name}");
        succeeds(&dir, "report stopped");
        let page = std::fs::read_to_string(at("stopped/report.html")).unwrap();
        assert!(page.contains("--model net.json"), "the page has no command");
        succeeds(&dir, "icarl --config whole/config.json --out again --quiet");
        assert_eq!(weights("again"), weights("whole"), "{name}");
        let picture = image::GrayImage::from_fn(28, 28, |x, _| image::Luma([(9 * x) as u8]));
        picture.save(at("picture.png")).unwrap();
        let answer = |run: &str| succeeds(&dir, &format!("predict {run} picture.png --json --device cpu")).out;
        assert_eq!(answer("stopped"), answer("built-in"), "{name}");
        assert!(json(at("built-in/model.json")).get("layers").is_none(), "the table has it");
        for run in ["built-in", "whole", "stopped", "again"] {
            std::fs::remove_dir_all(at(run)).unwrap();
        }
    }
}

#[test]
fn seeds_and_comparisons_take_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let printed = succeeds(&dir, "models show mlp --width 0.25 --json").out;
    std::fs::write(dir.path().join("net.json"), printed).unwrap();
    let usual = "--limit-per-task 40 --epochs 1 --device cpu --model net.json --seeds 2 --max-tasks 2";
    succeeds(&dir, &format!("finetune {usual} --out seeds --quiet"));
    succeeds(&dir, &format!("compare finetune er --memory 20 {usual} --out grid"));
    std::fs::remove_file(dir.path().join("net.json")).unwrap();
    succeeds(&dir, "report grid");
    let metrics = json(dir.path().join("seeds/seed-2/metrics.json"));
    assert_eq!(metrics["model"], "net.json");
}

#[test]
fn what_a_file_says_is_final() {
    let dir = tempfile::tempdir().unwrap();
    let printed = succeeds(&dir, "models show resnet20 --width 0.25 --json").out;
    std::fs::write(dir.path().join("net.json"), printed).unwrap();
    for flag in ["--width 2", "--shortcut b", "--bn-epsilon 0.1", "--last-relu false"] {
        let name = flag.split(' ').next().unwrap();
        fails(&dir, &format!("finetune --model net.json {flag}"), 2, &[name, "net.json", "no effect"]);
        fails(&dir, &format!("models show net.json {flag}"), 2, &[name, "net.json", "no effect"]);
    }
    fails(&dir, "models show mlp --shortcut b", 2, &["--shortcut", "mlp", "resnet20"]);
    fails(&dir, "finetune --model missing.json", 2, &["missing.json", "cannot read"]);
    fails(&dir, "distill --student net.json", 2, &["net.json", "unknown model"]);
    // Grey images: the list is for colour.
    fails(&dir, "finetune --model net.json --device cpu --out run", 2, &["net.json", "3×32×32", "1×28×28", "input"]);
    assert!(!dir.path().join("run").exists(), "a folder was made for a run that cannot be");
    fails(&dir, "models show resnet20 --json --outputs 5", 2, &["--outputs", "--json"]);
    fails(&dir, "finetune --model resnet", 2, &["unknown model", "Did you mean 'resnet20'?"]);
}

/// The list that `docs/adding.md` shows is one, with what it leaves out as the table beside it says.
#[test]
fn the_list_of_the_page_is_built() {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/adding.md")).unwrap();
    let text = page.split("```json\n").nth(1).unwrap().split("```").next().unwrap();
    let network = Network::from_list("net.json", &read(text).unwrap(), [1, 28, 28], 10, &Device::cpu(), 1).unwrap();
    assert_eq!(network.parameters.n_parameters(), (9 * 16 + 16) + 32 + 9 * 16 * 16 + 32 + (16 * 10 + 10));
    let full = read(&network.list().to_text()).unwrap();
    let same = Network::from_list("net.json", &full, [1, 28, 28], 10, &Device::cpu(), 1).unwrap();
    assert_eq!(same.to_safetensors().unwrap(), network.to_safetensors().unwrap());
    let usual = r#""out": 16, "kernel": 3, "stride": 1, "padding": 1, "dilation": 1, "bias": true, "init": "he""#;
    assert!(network.list().to_text().contains(usual), "{}", network.list().to_text());
    assert!(network.tap("stage1").is_ok());
}

/// A small valid list, and what is done to it.
fn spoiled(change: impl Fn(&mut Vec<Value>)) -> String {
    let mut layers = vec![
        json!({"kind": "conv", "name": "conv1", "in": 1, "out": 4, "kernel": 3, "padding": 1}),
        json!({"kind": "batch-norm", "name": "bn1", "relu": true}),
        json!({"kind": "keep", "slot": 0}),
        json!({"kind": "conv", "name": "conv2", "out": 4, "kernel": 3, "padding": 1, "bias": false}),
        json!({"kind": "batch-norm", "name": "bn2", "add": 0, "relu": true}),
        json!({"kind": "max-pool", "size": 2}),
        json!({"kind": "global-avg-pool"}),
        json!({"kind": "feature"}),
        json!({"kind": "linear", "name": "fc"}),
    ];
    change(&mut layers);
    json!({"format": 1, "input": [1, 8, 8], "layers": layers}).to_string()
}

#[test]
fn what_does_not_fit_is_refused_by_layer() {
    let set = |i: usize, field: &'static str, value: Value| {
        spoiled(move |layers| {
            layers[i][field] = value.clone();
        })
    };
    let insert = |i: usize, layer: Value| spoiled(move |layers| layers.insert(i, layer.clone()));
    let remove = |i: usize| {
        spoiled(move |layers| {
            layers.remove(i);
        })
    };
    read(&spoiled(|_| ())).unwrap();
    read(&insert(5, json!({"kind": "add", "slot": 0}))).unwrap();
    let huge = usize::MAX;
    let long = spoiled(|layers| drop(layers.splice(0..0, vec![json!({"kind": "relu"}); 5000])));
    let cases = [
        (set(0, "in", json!(3)), "layer 1 (conv1)", "takes 3 channels, and 1 arrive"),
        (set(1, "in", json!(5)), "layer 2 (bn1)", "takes 5 channels, and 4 arrive"),
        (set(8, "in", json!(5)), "layer 9 (fc)", "takes 5 numbers, and 4 arrive"),
        (set(3, "out", json!(3)), "layer 5 (bn2)", "slot 0 keeps 4×8×8, which cannot be added to 3×8×8"),
        (set(3, "padding", json!(0)), "layer 5 (bn2)", "cannot be added to 4×6×6"),
        (set(4, "add", json!(7)), "layer 5 (bn2)", "nothing was kept in slot 7"),
        (set(4, "add", json!(huge)), "layer 5 (bn2)", "nothing was kept in slot"),
        (set(2, "slot", json!(huge)), "layer 3 (keep)", "the slots are 0 to 63"),
        (set(4, "epsilon", json!(-1)), "layer 5 (bn2)", "epsilon -1"),
        (insert(6, json!({"kind": "resume", "slot": 1})), "layer 7 (resume)", "nothing was kept in slot 1"),
        (insert(6, json!({"kind": "add", "slot": 1})), "layer 7 (add)", "nothing was kept in slot 1"),
        (
            insert(6, json!({"kind": "add", "slot": 0})),
            "layer 7 (add)",
            "slot 0 keeps 4×8×8, which cannot be added to 4×4×4",
        ),
        (insert(5, json!({"kind": "mean", "slot": 1})), "layer 6 (mean)", "nothing was kept in slot 1"),
        (
            insert(6, json!({"kind": "mean", "slot": 0})),
            "layer 7 (mean)",
            "slot 0 keeps 4×8×8, which cannot be added to 4×4×4",
        ),
        (insert(5, json!({"kind": "concat", "slots": []})), "layer 6 (concat)", "empty"),
        (insert(5, json!({"kind": "concat", "slots": [0, 3]})), "layer 6 (concat)", "nothing was kept in slot 3"),
        (insert(5, json!({"kind": "resize", "slot": 9})), "layer 6 (resize)", "nothing was kept in slot 9"),
        (insert(7, json!({"kind": "resize"})), "layer 8 (resize)", "takes a map of channels"),
        (insert(7, json!({"kind": "image-pool"})), "layer 8 (image-pool)", "takes a map of channels"),
        (insert(7, json!({"kind": "feature-map"})), "layer 8 (feature-map)", "takes a map of channels"),
        (insert(5, json!({"kind": "feature-map"})), "layer 9 (feature)", "a network has one"),
        (
            spoiled(|layers| {
                layers[7] = json!({"kind": "relu"});
                layers.insert(5, json!({"kind": "feature-map"}));
            }),
            "a feature mark goes with a linear layer",
            "a feature-map mark with a convolution",
        ),
        (set(5, "padding", json!(2)), "layer 6 (max-pool)", "at most half of the window"),
        (set(5, "stride", json!(0)), "layer 6 (max-pool)", "the stride is at least 1"),
        (set(0, "kernel", json!(11)), "layer 1 (conv1)", "11×11 convolution does not fit a map of 8×8"),
        (set(0, "kernel", json!(huge)), "layer 1 (conv1)", "at most 1024"),
        (set(0, "padding", json!(huge)), "layer 1 (conv1)", "at most 1024"),
        (set(0, "stride", json!(0)), "layer 1 (conv1)", "at least 1"),
        (set(0, "out", json!(0)), "layer 1 (conv1)", "at least 1"),
        (set(0, "out", json!(huge)), "layer 1 (conv1)", "numbers for one image"),
        (set(0, "out", json!(100_000)), "layer 5 (bn2)", "slot 0 keeps 100000×8×8"),
        (set(5, "size", json!(9)), "layer 6 (max-pool)", "8×8 cannot be pooled by 9"),
        (set(5, "size", json!(0)), "layer 6 (max-pool)", "cannot be pooled by 0"),
        (remove(7), "feature", "put a feature mark before the last linear layer"),
        (insert(7, json!({"kind": "feature"})), "layer 9 (feature)", "a network has one"),
        (insert(7, json!({"kind": "max-pool", "size": 1})), "layer 8 (max-pool)", "takes a map of channels"),
        (insert(8, json!({"kind": "conv", "name": "c", "out": 1, "kernel": 1})), "layer 9 (c)", "takes a map"),
        (insert(8, json!({"kind": "linear", "name": "l"})), "layer 9 (l)", "\"out\" is missing"),
        (insert(8, json!({"kind": "linear", "name": "l", "out": huge})), "layer 9 (l)", "numbers for one image"),
        (insert(0, json!({"kind": "linear", "name": "l", "out": 16_777_216})), "layer 1 (l)", "parameters"),
        (set(8, "out", json!(10)), "layer 9 (fc)", "leave \"out\" out"),
        (remove(8), "last layer", "linear"),
        (spoiled(Vec::clear), "last layer", "linear"),
        (set(3, "name", json!("conv1")), "layer 4 (conv1)", "is taken"),
        (set(3, "name", json!("")), "layer 4 ()", "a name has"),
        (set(3, "name", json!("a\u{1b}[2J/../b")), "layer 4", "a name has"),
        (insert(0, json!({"kind": "name", "name": "x"})), "layer 1 (x)", "no layer before it"),
        (insert(0, json!({"kind": "stage"})), "layer 1 (stage)", "no layer before it"),
        (set(3, "kind", json!("convolution")), "layer 4 (conv2)", "unknown variant `convolution`"),
        (set(3, "strides", json!(2)), "layer 4 (conv2)", "unknown field `strides`"),
        (set(6, "size", json!(2)), "layer 7 (global-avg-pool)", "unknown field `size`"),
        (set(3, "out", json!(-3)), "layer 4 (conv2)", "-3"),
        (set(3, "out", json!("4")), "layer 4 (conv2)", "invalid type: string"),
        (insert(0, json!(7)), "layer 1", "7"),
        (long, "layer 4097 (relu)", "at most 4096 layers"),
        (r#"{"format": 1, "input": [1, 8, 8]}"#.into(), "no list of layers", "missing field `layers`"),
        (r#"{"format": 1, "input": [1, 8], "layers": []}"#.into(), "no list of layers", "3"),
        (r#"{"format": 1, "input": [1, 0, 8], "layers": []}"#.into(), "input", "from 1 to"),
        (r#"{"format": 1, "input": [16384, 16384, 16384], "layers": []}"#.into(), "numbers for one image", "16384"),
        (r#"{"format": 2, "input": [1, 8, 8], "layers": []}"#.into(), "format 2", "format 1"),
        (r#"{"format": 1, "input": [1, 8, 8], "layers": [], "layer": []}"#.into(), "unknown field", "layer"),
        ("[1, 2]".into(), "no list of layers", "net.json"),
        ("3".into(), "no list of layers", "net.json"),
    ];
    for (text, place, why) in cases {
        let start = &text[..text.len().min(600)];
        let error = read(&text).map(drop).expect_err(start);
        assert!(matches!(error, Error::Usage(_)), "{error}");
        let message = error.to_string();
        assert!(message.starts_with("net.json: "), "{message}");
        assert!(message.contains(place) && message.contains(why), "no {place:?} and {why:?} in\n{message}\n{start}");
        assert!(message.len() < 700 && !message.contains('\u{1b}'), "{message}");
    }
}

/// Whatever is accepted runs: layers in random order, most of which do not fit.
#[test]
fn a_list_that_is_accepted_runs() {
    let device = Device::cpu();
    let mut rng = Rng::keyed(11, Purpose::Test, 0);
    let mut n_accepted = 0;
    for round in 0..3000 {
        let mut pick = |n: u32| rng.below(n) as usize;
        let mut layers = Vec::new();
        for i in 0..1 + pick(7) {
            let name = format!("l{i}");
            layers.push(match pick(12) {
                0 | 1 => json!({"kind": "conv", "name": name, "out": 1 + pick(4), "kernel": 1 + pick(3),
                    "padding": pick(3), "stride": 1 + pick(2), "bias": pick(2) == 0, "dilation": 1 + pick(2)}),
                2 | 3 => json!({"kind": "batch-norm", "name": name, "relu": pick(2) == 0}),
                4 | 5 => json!({"kind": "batch-norm", "name": name, "add": pick(2)}),
                6 => json!({"kind": "relu"}),
                7 => json!({"kind": "max-pool", "size": 1 + pick(3)}),
                8 => json!({"kind": "global-avg-pool"}),
                9 => json!({"kind": "linear", "name": name, "out": 1 + pick(5)}),
                10 => json!({"kind": "keep", "slot": pick(2)}),
                _ => match pick(4) {
                    0 => json!({"kind": "resume", "slot": pick(2)}),
                    3 => json!({"kind": "add", "slot": pick(2)}),
                    1 => json!({"kind": "stage"}),
                    _ => json!({"kind": "name", "name": name}),
                },
            });
        }
        layers.insert(pick(layers.len() as u32 + 1), json!({"kind": "feature"}));
        layers.push(json!({"kind": "linear", "name": "last"}));
        let text = json!({"format": 1, "input": [2, 6, 5], "layers": layers}).to_string();
        let Ok(list) = read(&text) else { continue };
        n_accepted += 1;
        let network = Network::from_list("net.json", &list, [2, 6, 5], 3, &device, round).unwrap();
        let x = Tensor::from_f32(&device, [3, 2, 6, 5], &[0.5; 180]).unwrap();
        let taps: Vec<_> = network.places().iter().flat_map(|place| [place.tap(true), place.tap(false)]).collect();
        for mode in [Mode::Train, Mode::Eval] {
            let (output, values) = network.forward_with(&x, mode, &taps).unwrap_or_else(|e| panic!("{e}\n{text}"));
            assert_eq!(*output.features.shape(), [3, network.n_features], "{text}");
            assert_eq!(values.len(), taps.len());
            let labels = Tensor::from_u32(&device, [3], &[0, 1, 2]).unwrap();
            let loss = output.logits.cross_entropy(&labels, 3).unwrap();
            network.parameters.backward(&loss).unwrap_or_else(|e| panic!("{e}\n{text}"));
        }
    }
    assert!(n_accepted > 300, "only {n_accepted} lists were accepted");
}

/// A residual block of one's own, in three stages.
fn ladder(b: &mut Builder, options: &Options, n_outputs: usize) {
    b.conv("stem", options.scaled(4), 3, Conv2d::new(2, 1), false);
    b.batch_norm("stem_bn", None, true);
    b.keep(0);
    b.conv("conv", options.scaled(4), 3, Conv2d::new(1, 1), false);
    b.batch_norm("bn", Some(0), true);
    b.end_stage();
    b.global_avg_pool();
    b.feature();
    b.linear("fc", n_outputs);
}

static LADDER: ModelSpec = ModelSpec { name: "ladder", summary: "a residual block", build: ladder, ..ModelSpec::BASE };
static TAKEN: ModelSpec = ModelSpec { name: "cnn", build: ladder, ..ModelSpec::BASE };
static NO_FEATURE: ModelSpec =
    ModelSpec { name: "no-feature", build: |b, _, n_outputs| b.linear("fc", n_outputs), ..ModelSpec::BASE };
static OTHER_OUTPUTS: ModelSpec = ModelSpec {
    name: "other-outputs",
    build: |b, _, n_outputs| {
        b.feature();
        b.linear("fc", n_outputs + 1);
    },
    ..ModelSpec::BASE
};

fn register() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        for model in [&LADDER, &NO_FEATURE, &OTHER_OUTPUTS] {
            models::register(model).unwrap();
        }
    });
}

#[test]
fn models_are_registered_once_and_checked_where_they_are_built() {
    register();
    for model in [&LADDER, &TAKEN] {
        let error = models::register(model).unwrap_err().to_string();
        assert_eq!(error, format!("there is a model '{}' already", model.name));
    }
    assert!(models::all().iter().any(|spec| spec.name == "ladder"));
    assert_eq!(models::spec("ladder").unwrap().summary, "a residual block");
    let near = models::spec("lader").unwrap_err().to_string();
    assert!(near.contains("Did you mean 'ladder'?"), "{near}");
    let build = |name: &str| Network::new(name, [1, 8, 8], 3, &Device::cpu(), 1).map(drop);
    assert!(build("no-feature").unwrap_err().to_string().contains("feature"));
    assert!(build("other-outputs").unwrap_err().to_string().contains("last layer"));
    build("ladder").unwrap();
}

/// Interrupts after some batches.
struct Interrupt<'a>(usize, &'a AtomicBool);

impl Sink for Interrupt<'_> {}

impl Listener for Interrupt<'_> {
    fn progress(&mut self, _: &Progress) {
        self.0 -= 1;
        self.1.store(self.0 == 0, Relaxed);
    }
}

#[test]
fn a_registered_model_trains_is_saved_resumed_and_read_back() {
    register();
    let dataset = glyphs(200, 60);
    let settings = [("model", "ladder"), ("width", "2"), ("epochs", "2"), ("memory", "20"), ("batch_size", "16")];
    let config = Config::of(continual::spec("icarl").unwrap(), &settings).unwrap();
    let (metrics, weights) = trained(&config, &dataset);
    assert_eq!(metrics.model, "ladder");
    assert!(weights.contains_key("stem.weight") && weights.contains_key("bn.running_mean"));

    let dir = tempfile::tempdir().unwrap();
    let folder = RunFolder::create(&dir.path().join("run"), false).unwrap();
    let (device, flag) = (Device::cpu(), AtomicBool::new(false));
    let stopped = run(&config, &dataset, &device, Some(&folder), &mut Interrupt(12, &flag), &flag);
    assert!(matches!(stopped, Err(Error::Interrupted)) && folder.path().join(CHECKPOINT_FILE).exists());
    let resumed = resume(&config, &dataset, &device, &folder, &mut Silent, &AtomicBool::new(false)).unwrap();
    assert_eq!(resumed.classifiers["nme"].final_accuracy(), metrics.classifiers["nme"].final_accuracy());
    let predictor = Predictor::load(folder.path(), &device).unwrap();
    let ours: Vec<u8> = predictor.card.layers.as_ref().unwrap().to_text().into_bytes();
    assert_eq!(predictor.card.model, "ladder");
    let pixels = dataset.test.pixels.clone();
    let answers = predictor.predict(pixels, "nme").unwrap();
    let right = answers
        .iter()
        .zip(&dataset.test.labels)
        .filter(|(answer, label)| predictor.card.classes[answer[0].label].class == **label);
    let accuracy = right.count() as f64 / dataset.test.len() as f64;
    assert_eq!(Some(accuracy), metrics.classifiers["nme"].final_accuracy());

    // The program knows no such model, and reads the run by the layers in its card.
    image::GrayImage::new(28, 28).save(dir.path().join("black.png")).unwrap();
    succeeds(&dir, "predict run black.png --device cpu");
    let text = String::from_utf8(ours).unwrap();
    assert_eq!(read(&text).unwrap(), card(folder.path()).layers.unwrap());
}

fn card(folder: &Path) -> ModelCard {
    ModelCard::read(folder).unwrap()
}
