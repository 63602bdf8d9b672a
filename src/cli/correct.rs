//! Commands that correct what a learner knows: `rename`, `merge`, `forget`.

use crate::device::Device;
use crate::error::Result;
use crate::records::lock::Lock;
use crate::report::{message, printable};
use crate::session::{NOT_UNLEARNED, Picture, Session, Way, read_files};
use clap::Args;
use std::path::{Path, PathBuf};

#[derive(Args)]
pub struct RenameArgs {
    /// The learner
    #[arg(value_name = "FILE")]
    learner: PathBuf,
    /// The class
    #[arg(value_name = "CLASS")]
    from: String,
    /// Its new name
    #[arg(value_name = "NAME")]
    to: String,
}

#[derive(Args)]
pub struct MergeArgs {
    /// The learner
    #[arg(value_name = "FILE")]
    learner: PathBuf,
    /// The class that ends
    #[arg(value_name = "CLASS")]
    from: String,
    /// The class that its pictures become
    #[arg(value_name = "INTO")]
    into: String,
}

#[derive(Args)]
pub struct ForgetArgs {
    /// The learner
    #[arg(value_name = "FILE")]
    learner: PathBuf,
    /// The class to forget
    #[arg(value_name = "CLASS", required_unless_present = "pictures", conflicts_with = "pictures")]
    class: Option<String>,
    /// A picture to forget, whatever its class; may be given several times
    #[arg(long = "picture", value_name = "FILE")]
    pictures: Vec<PathBuf>,
}

/// Changes a learner that is there, and writes it again.
fn changed<R>(path: &Path, change: impl FnOnce(&mut Session) -> Result<R>) -> Result<R> {
    let _lock = Lock::of_file(path)?;
    let mut session = Session::load(path, &Device::cpu())?;
    let result = change(&mut session)?;
    session.save(path)?;
    Ok(result)
}

/// Gives a class another name.
pub fn rename(args: &RenameArgs) -> Result<()> {
    changed(&args.learner, |session| session.rename(&args.from, &args.to))?;
    println!("{} is called {} now", printable(&args.from), printable(&args.to));
    Ok(())
}

/// Makes two classes one.
pub fn merge(args: &MergeArgs) -> Result<()> {
    let n = changed(&args.learner, |session| session.merge(&args.from, &args.into))?;
    println!("{} is part of {} now, which has {n} pictures", printable(&args.from), printable(&args.into));
    Ok(())
}

/// Forgets a class or pictures.
pub fn forget(args: &ForgetArgs) -> Result<()> {
    if let Some(class) = &args.class {
        let (forgotten, grows) =
            changed(&args.learner, |session| forgetting(session, |session| session.forget(class)))?;
        println!("{} is forgotten, with {} pictures", printable(class), forgotten.n_pictures);
        tell_not_unlearned(grows);
        return Ok(());
    }
    let (forgotten, grows) = changed(&args.learner, |session| {
        forgetting(session, |session| {
            let (pictures, errors) = read_files(&args.pictures, session.frame());
            if let Some(error) = errors.into_iter().next() {
                return Err(error);
            }
            let pictures: Vec<Picture> = pictures.into_iter().map(|(_, picture)| picture).collect();
            session.forget_pictures(&pictures)
        })
    })?;
    let classes = if forgotten.n_classes > 0 { ", the last of a class among them" } else { "" };
    println!("{} pictures are forgotten{classes}", forgotten.n_pictures);
    tell_not_unlearned(grows);
    Ok(())
}

/// What was forgotten, and whether the network had been trained on it.
fn forgetting<R>(session: &mut Session, forget: impl FnOnce(&mut Session) -> Result<R>) -> Result<(R, bool)> {
    let grows = session.method().is_some_and(Way::grows);
    Ok((forget(session)?, grows))
}

fn tell_not_unlearned(grows: bool) {
    if grows {
        eprint!("{}", message(&format!("note: {NOT_UNLEARNED}")));
    }
}
