//! A network written outside the crate: LeNet-5 (LeCun et al., "Gradient-based learning applied to document recognition", 1998)
//! with ReLUs and max-pools, trained by engram's own loop beside one from the table.
//!
//! ```text
//! cargo run --release --example custom_model                          # beside the built-in mlp
//! cargo run --release --example custom_model -- icarl --model lenet   # any command, which knows it by name
//! ```

use engram::cli;
use engram::continual;
use engram::data;
use engram::experiment::{Config, run, sink::Silent};
use engram::models::{self, ModelSpec};
use engram::ops::Conv2d;
use engram::{Device, Result};
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::AtomicBool;

/// The row that the crate's table would have.
static LENET: ModelSpec = ModelSpec {
    name: "lenet",
    summary: "5×5 conv 6 – pool 2 – 5×5 conv 16 – pool 2 – linear 120 – linear 84 (feature) – linear (LeCun et al. 1998)",
    input: [1, 28, 28],
    build: |b, options, n_outputs| {
        // The builder follows the shape: 1×28×28, 6×28×28, 6×14×14, 16×10×10, 16×5×5. `scaled` obeys --width.
        b.conv_uniform("conv1", options.scaled(6), 5, Conv2d::new(1, 2));
        b.relu();
        b.end_stage();
        b.max_pool(2);
        b.conv_uniform("conv2", options.scaled(16), 5, Conv2d::new(1, 0));
        b.relu();
        b.end_stage();
        b.max_pool(2);
        b.linear("fc1", options.scaled(120));
        b.relu();
        b.linear("fc2", options.scaled(84));
        // What nearest-mean classifiers and distillation compare: once, before the last layer.
        b.feature();
        b.relu();
        b.linear("fc3", n_outputs);
    },
    ..ModelSpec::BASE
};

fn main() -> ExitCode {
    models::register(&LENET).expect("the name is free");
    if std::env::args().len() > 1 {
        return cli::main();
    }
    match beside_mlp() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn beside_mlp() -> Result<()> {
    let dataset = data::spec("glyphs")?.load(Path::new("unused: the set is built in"))?;
    println!("ten classes at once, 100 images each; accuracy on the test images\n");
    println!("{:<8} {:>10} {:>10}", "model", "parameters", "accuracy");
    let mut accuracies = Vec::new();
    for model in ["mlp", LENET.name] {
        // What is not set here is the data set's own recipe; the same settings as the flags of the command line.
        let settings = [("model", model), ("limit_per_task", "1000"), ("classes_per_task", "10"), ("epochs", "10")];
        let config = Config::of(continual::spec("joint")?, &settings)?;
        // No folder: nothing is written. `Silent` drops the events that `report::Console` would print.
        let metrics = run(&config, &dataset, &Device::cpu(), None, &mut Silent, &AtomicBool::new(false))?;
        let accuracy = metrics.classifiers["network"].final_accuracy().expect("one task");
        let layers = config.model.table([1, 28, 28], 10)?;
        let n_parameters: usize = layers.iter().map(|layer| layer.n_parameters).sum();
        println!("{model:<8} {n_parameters:>10} {:>8.1} %", 100.0 * accuracy);
        accuracies.push(accuracy);
    }
    assert!(accuracies[1] > accuracies[0], "convolutions should be better at pictures");
    Ok(())
}
