//! `engram models`: sizes of all models, and the layers of one.

use super::settings::ModelFlags;
use crate::error::{Error, Result};
use crate::models::{self, MODEL, ModelSettings, Options};
use crate::nn::LayerInfo;
use crate::report::{hang, message, thousands};
use crate::settings::{Origin, Values, resolve};
use clap::{Args, Subcommand};

/// Without a subcommand the models are listed.
#[derive(Args)]
pub struct ModelsArgs {
    #[command(subcommand)]
    command: Option<ModelsCommand>,
}

#[derive(Subcommand)]
enum ModelsCommand {
    /// List models, as without a subcommand
    List,
    /// Print the layers of a model
    Show(ShowArgs),
}

#[derive(Args)]
struct ShowArgs {
    /// Which, for example resnet32, or a file of layers such as net.json
    name: String,
    /// Images: channels×height×width [default: the model's]
    #[arg(long, value_name = "CxHxW")]
    input: Option<String>,
    /// Outputs, one for each class. A file of layers has none: they come with the data
    #[arg(long, value_name = "N", default_value_t = 10, conflicts_with = "json")]
    outputs: usize,
    /// Print the layers as a file that --model takes
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    settings: ModelFlags,
}

/// Lists or shows.
pub fn run(args: ModelsArgs) -> Result<()> {
    match args.command {
        Some(ModelsCommand::Show(args)) => show(args),
        Some(ModelsCommand::List) | None => list(),
    }
}

fn list() -> Result<()> {
    println!("{:<11} {:>10} {:>12} {:>8}  layers", "model", "images", "parameters", "MMAC");
    for spec in models::all() {
        let [c, h, w] = spec.input;
        let (n_parameters, macs) = totals(&spec.layers(spec.input, 10, &Options::default())?);
        let (n_parameters, mmac) = (thousands(n_parameters as u64), macs as f64 / 1e6);
        let sizes = format!("{c}×{h}×{w}");
        print!("{}", hang(&format!("{:<11} {sizes:>10} {n_parameters:>12} {mmac:>8.2}  ", spec.name), spec.summary));
    }
    println!("\nWith ten outputs. MMAC: million multiply–accumulates of one image, forward.");
    println!("Layer by layer: engram models show NAME. In a run: --model NAME --width FACTOR.");
    println!("A network of your own: engram models show NAME --json > net.json, then\n--model net.json.");
    Ok(())
}

fn totals(layers: &[LayerInfo]) -> (usize, u64) {
    (layers.iter().map(|layer| layer.n_parameters).sum(), layers.iter().map(|layer| layer.macs).sum())
}

fn show(args: ShowArgs) -> Result<()> {
    let model = settings(&args.name, args.settings.0)?;
    let input = args.input.as_deref().map_or_else(|| model.input(), parse_input)?;
    if args.json {
        print!("{}", model.list(input)?.to_text());
        return Ok(());
    }
    let layers = model.table(input, args.outputs)?;
    let shape = |[c, h, w]: [usize; 3]| format!("{c}×{h}×{w}");
    let summary = if model.layers.is_some() { "a list of layers" } else { models::spec(&model.model)?.summary };
    println!("{}", message(&format!("{}: {summary}", model.model)));
    println!("{:<20} {:<27} {:>10} {:>10} {:>9}", "layer", "", "result", "parameters", "MMAC");
    println!("{:<20} {:<27} {:>10}", "images", "", shape(input));
    for layer in &layers {
        let n_parameters = if layer.n_parameters == 0 { String::new() } else { thousands(layer.n_parameters as u64) };
        let mmac = if layer.macs == 0 { String::new() } else { format!("{:.3}", layer.macs as f64 / 1e6) };
        let (name, what, shape) = (&layer.name, &layer.what, shape(layer.shape));
        println!("{}", format!("{name:<20} {what:<27} {shape:>10} {n_parameters:>10} {mmac:>9}").trim_end());
    }
    let (n_parameters, macs) = totals(&layers);
    println!("{:<20} {:<27} {:>10} {:>10} {:>9.3}", "all", "", "", thousands(n_parameters as u64), macs as f64 / 1e6);
    Ok(())
}

/// A model with what is changed about it.
fn settings(name: &str, changed: Values) -> Result<ModelSettings> {
    let given = ModelSettings::read_file(changed.set(&MODEL[0], name, Origin::Flag)?)?;
    let rows = ModelSettings::rows(&given)?;
    let foreign = given.names().filter(|name| !rows.iter().any(|row| row.name == *name));
    if let Some(error) = foreign.filter_map(|name| ModelSettings::refuse(&given, name)).next() {
        return Err(error);
    }
    ModelSettings::of(&resolve(name, &rows, given)?)
}

/// `3x32x32`.
fn parse_input(text: &str) -> Result<[usize; 3]> {
    let sizes: Vec<usize> = text.split(['x', '×']).filter_map(|size| size.parse().ok()).collect();
    match <[usize; 3]>::try_from(sizes) {
        Ok(input) if text.split(['x', '×']).count() == 3 && !input.contains(&0) => Ok(input),
        _ => Err(Error::usage(format!("--input {text}: channels×height×width, such as 3x32x32"))),
    }
}
