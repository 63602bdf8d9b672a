//! `engram export`: a classifier for other programs.

use super::predict::tell_of_incomplete;
use super::settings::choice;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::experiment::results::RESULT_FILES;
use crate::experiment::saved::Predictor;
use crate::models::export::{Export, Format};
use crate::records::{create_folder, write_atomically};
use crate::report::message;
use crate::session::Session;
use clap::Args;
use std::path::{Path, PathBuf};

#[derive(Args)]
pub struct ExportArgs {
    /// A learner, or the folder of a run
    #[arg(value_name = "FILE|RUN")]
    from: PathBuf,
    /// For which programs: onnx (one file) or torch (a folder with model.py and its numbers)
    #[arg(long, value_name = "FORMAT", hide_possible_values = true, value_parser = choice::<Format>())]
    to: Format,
    /// The file, or the folder for torch
    #[arg(long, value_name = "PATH")]
    out: PathBuf,
    /// nme (nearest mean of exemplars), network, or another that the run evaluated [default: the method's own]
    #[arg(long, value_name = "NAME")]
    classifier: Option<String>,
    /// Overwrite what is there
    #[arg(long)]
    force: bool,
}

/// Reads the learner or the run and writes what other programs read. Weights are copied, so it needs no device but the CPU.
pub fn run(args: &ExportArgs) -> Result<()> {
    if args.from.is_file() {
        if args.classifier.is_some() {
            return Err(Error::usage(
                "--classifier has no effect here: a learner has one; engram learn --method changes it",
            ));
        }
        let session = Session::load(&args.from, &Device::cpu())?;
        write(&session.export()?, args)?;
        if session.mixes_colours() {
            let note = "note: some of its pictures are grey and some have colours. The learner averages the features of coloured pictures \
                        with those of their mirror images, and not of grey ones; the exported model does so for all, so of grey pictures \
                        its answers may be others";
            eprint!("{}", message(note));
        }
        return Ok(());
    }
    let predictor = Predictor::load(&args.from, &Device::cpu())?;
    let classifier = args.classifier.as_ref().unwrap_or(&predictor.card.classifiers[0]);
    let export = predictor.export(classifier)?;
    write(&export, args)?;
    tell_of_incomplete(&predictor.card);
    Ok(())
}

/// Writes the file or the folder, each file whole or not at all, and prints the paths.
fn write(export: &Export, args: &ExportArgs) -> Result<()> {
    let ExportArgs { from, to: format, out, force, .. } = args;
    let (format, force) = (*format, *force);
    let wanted_folder = format == Format::Torch;
    if out.exists() && out.is_dir() != wanted_folder {
        let (is, needs) = if wanted_folder { ("a file", "a folder") } else { ("a folder", "a file") };
        return Err(Error::usage(format!("--out {}: this is {is}, and the format needs {needs}", out.display())));
    }
    let files = export.files(format)?;
    let path_of = |name: &str| if wanted_folder { out.join(name) } else { out.clone() };
    let is_source = |path: &Path| match (path.canonicalize(), from.canonicalize()) {
        (Ok(path), Ok(from)) => path == from || RESULT_FILES.iter().any(|name| path == from.join(name)),
        _ => false,
    };
    if let Some(own) = files.iter().map(|(name, _)| path_of(name)).find(|path| is_source(path)) {
        return Err(Error::usage(format!("--out: {} is what is exported; name another path", own.display())));
    }
    if let Some(there) = files.iter().map(|(name, _)| path_of(name)).find(|path| path.exists() && !force) {
        let message = format!("{} exists; --force overwrites it, --out PATH names another", there.display());
        return Err(Error::usage(message));
    }
    match (wanted_folder, out.parent()) {
        (true, _) => create_folder(out)?,
        (false, Some(folder)) if !folder.as_os_str().is_empty() => create_folder(folder)?,
        _ => {}
    }
    for (name, content) in &files {
        let path = path_of(name);
        write_atomically(&path, content)?;
        println!("{}", path.display());
    }
    Ok(())
}
