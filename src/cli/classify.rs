//! `engram classify`: what a learner says about pictures.

use super::learner::print_json;
use super::{DeviceArgs, INTERRUPTED, files, warn};
use crate::error::{Error, Result};
use crate::report::{answer_text, message, printable};
use crate::session::{Answer, Picture, Session, read_files};
use clap::Args;
use serde::Serialize;
use std::path::PathBuf;
use std::sync::atomic::Ordering::Relaxed;

/// Pictures in memory at a time.
const AT_ONCE: usize = 512;

#[derive(Args)]
pub struct ClassifyArgs {
    /// The learner
    #[arg(value_name = "FILE")]
    learner: PathBuf,
    /// Pictures, folders of pictures, or - for a list of them on standard input, a line each
    #[arg(value_name = "PICTURE", required = true)]
    pictures: Vec<PathBuf>,
    /// Classes shown per picture
    #[arg(long, value_name = "K", default_value_t = 3)]
    top_k: usize,
    /// Print JSON
    #[arg(long, conflicts_with = "csv")]
    json: bool,
    /// Print a line per picture: path, class, confidence, whether it is one of the classes at all, nearest picture, similarity
    #[arg(long)]
    csv: bool,
    #[command(flatten)]
    device: DeviceArgs,
}

/// Answers for all pictures, a few hundred at a time. One that cannot be read is an error in the end.
pub fn run(args: &ClassifyArgs) -> Result<()> {
    if args.top_k == 0 {
        return Err(Error::usage("--top-k must be at least 1"));
    }
    let paths = files::pictures(&args.pictures)?;
    let (device, warning) = args.device.open()?;
    if let Some(warning) = warning {
        warn(&warning);
    }
    let session = Session::load(&args.learner, &device)?;
    let (mut errors, mut all) = (Vec::new(), Vec::new());
    if args.csv {
        println!("path,class,confidence,is_known,nearest,similarity");
    }
    for paths in paths.chunks(AT_ONCE) {
        if INTERRUPTED.load(Relaxed) {
            return Err(Error::Interrupted);
        }
        let (read, unreadable) = read_files(paths, session.frame());
        errors.extend(unreadable);
        let (paths, pictures): (Vec<PathBuf>, Vec<Picture>) = read.into_iter().unzip();
        if pictures.is_empty() {
            continue;
        }
        for (path, answer) in paths.iter().zip(session.classify(&pictures)?) {
            let path = path.display().to_string();
            match (args.json, args.csv) {
                (true, _) => all.push(AnswerJson::new(&session, path, &answer, args.top_k)),
                (_, true) => println!("{}", csv_line(&session, &path, &answer)),
                _ => print!("{}", answer_text(&session, &path, &answer, args.top_k)),
            }
        }
    }
    if args.json {
        print_json(&all)?;
    }
    let Some(last) = errors.pop() else { return Ok(()) };
    errors.iter().for_each(|error| eprint!("{}", message(&format!("error: {error}"))));
    Err(last)
}

fn csv_line(session: &Session, path: &str, answer: &Answer) -> String {
    let best = answer.ranked[0];
    let (class, nearest) = (&session.classes()[best.label].name, &answer.nearest);
    let (path, class, file) = (quoted(path), quoted(class), quoted(&nearest.name));
    format!("{path},{class},{:.4},{},{file},{:.4}", best.confidence, answer.is_known, nearest.similarity)
}

/// A field of comma-separated values.
fn quoted(text: &str) -> String {
    let text = printable(text).replace('\n', " ");
    if text.contains([',', '"']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text }
}

/// The JSON of one picture.
#[derive(Serialize)]
struct AnswerJson {
    path: String,
    /// Whether it is one of the classes at all.
    is_known: bool,
    classes: Vec<RankedJson>,
    nearest: NearestJson,
}

#[derive(Serialize)]
struct RankedJson {
    name: String,
    confidence: f64,
}

#[derive(Serialize)]
struct NearestJson {
    file: String,
    class: String,
    similarity: f32,
}

impl AnswerJson {
    fn new(session: &Session, path: String, answer: &Answer, top_k: usize) -> AnswerJson {
        let class = |label: usize| session.classes()[label].name.clone();
        let shown = answer.ranked.iter().take(top_k);
        let nearest = &answer.nearest;
        AnswerJson {
            path,
            is_known: answer.is_known,
            classes: shown.map(|one| RankedJson { name: class(one.label), confidence: one.confidence }).collect(),
            nearest: NearestJson {
                file: nearest.name.clone(),
                class: class(nearest.label),
                similarity: nearest.similarity,
            },
        }
    }
}
