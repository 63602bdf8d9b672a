//! `engram segment METHOD`: a method on images with a class for each pixel.

use super::run::{self, RunArgs};
use crate::continual::{self, MethodSpec};
use crate::data::{Target, stream_rows};
use crate::error::{Error, Result};
use crate::experiment::{self, Config};
use crate::report::fit;
use crate::settings::{Origin, Setting, Usual, Values, text};
use clap::Args;

/// The data set unless another one is named.
const DATASET: (&str, &str) = ("dataset", "shape-city");

/// Flags.
#[derive(Args)]
pub struct SegmentArgs {
    /// Which method: see below
    #[arg(value_name = "METHOD")]
    method: String,
    #[command(flatten)]
    run: RunArgs,
}

/// The methods that learn from masks.
fn methods() -> impl Iterator<Item = &'static MethodSpec> {
    continual::all().into_iter().filter(|method| method.targets.contains(&Target::Mask))
}

/// Settings whose default is another one here, with what to say of it.
fn own_defaults() -> Result<Vec<(&'static Setting, String)>> {
    let resolved: Result<Vec<Values>> = methods().map(|method| Ok(Config::resolve(method, usual()?)?.values)).collect();
    let resolved = resolved?;
    let own = experiment::every_row().into_iter().filter_map(|row| {
        let value = resolved.iter().find_map(|values| values.value(row.name))?;
        let default = match row.default {
            Usual::Is(default) if row.kind.parse(default).as_ref() == Ok(value) => return None,
            Usual::Is(_) => text(value),
            _ => format!("{} for {}", text(value), DATASET.1),
        };
        Some((row, format!("{} [default: {default}]", row.help)))
    });
    Ok(own.collect())
}

/// With a help text of what plays a part, at most 80 columns wide.
pub fn with_help(command: clap::Command) -> clap::Command {
    let own: Vec<&str> = methods().flat_map(experiment::rows).map(|row| row.name).collect();
    let stream: Vec<&str> = stream_rows(Target::Mask).map(|row| row.name).collect();
    let of_other_streams = stream_rows(Target::Class).map(|row| row.name).filter(|name| !stream.contains(name));
    let foreign = experiment::every_row().into_iter().map(|row| row.name).filter(|name| !own.contains(name));
    let hidden: Vec<&str> = foreign.chain(of_other_streams).collect();
    let command = hidden.into_iter().fold(command, |command, name| command.mut_arg(name, |arg| arg.hide(true)));
    let own = own_defaults().expect("bug: a method on the usual data set makes no sense");
    let command = own.into_iter().fold(command, |command, (row, help)| command.mut_arg(row.name, |arg| arg.help(help)));
    let mut text = String::from("Methods (engram methods show NAME says more):\n");
    for method in methods() {
        let summary = method.summary.split([':', ',', '(']).next().unwrap_or_default().trim();
        text += &format!("  {:<12} {}\n", method.name, fit(summary, 64));
    }
    text += "\nExamples:\n  engram segment finetune\n      five classes on a ground, in three tasks that bring 3, 1 and 1 of them\n  \
             engram segment joint --scenario domain --steps 4-1-1\n      the same classes in every task, drawn in other styles\n  \
             engram segment lwf --setup disjoint --seeds 3\n  engram segment finetune --dataset masks:VOC2012 --image-format rgb128\n  \
             engram compare finetune lwf joint --task segmentation\n  engram predict RUN PICTURE.png --out answers\n";
    command.after_help(text).term_width(80)
}

/// Runs a method with every seed.
pub fn run(args: SegmentArgs) -> Result<()> {
    let method = continual::spec(&args.method)?;
    if !method.targets.contains(&Target::Mask) {
        let known: Vec<&str> = methods().map(|method| method.name).collect();
        return Err(Error::usage(format!(
            "{} does not learn from masks; methods that do are {}",
            method.name,
            known.join(", ")
        )));
    }
    run::run_above(method, args.run, usual()?, expect_masks)
}

/// # Errors
/// If the data set has a class for each image.
fn expect_masks(config: &Config) -> Result<()> {
    let (dataset, target) = (&config.data.dataset, config.data.source().target());
    match target {
        Target::Mask => Ok(()),
        Target::Class => {
            let (method, has) = (config.method.name, target.described());
            Err(Error::usage(format!("{dataset} has {has}: engram {method} --dataset {dataset} learns from it")))
        }
    }
}

/// What stands below all other settings where pixels are learned from.
pub fn usual() -> Result<Values> {
    Values::of(&experiment::every_row(), &[DATASET], &Origin::Preset("segment".into()))
}
