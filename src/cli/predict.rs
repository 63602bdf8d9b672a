//! `engram predict`: what the model of a run says about picture files.

mod segment;

use super::{DeviceArgs, files, warn};
use crate::continual::Activation;
use crate::data::Target;
use crate::data::pictures::Picture;
use crate::error::{Error, Result};
use crate::experiment::saved::{ModelCard, Prediction, Predictor};
use crate::report::{fit, message, printable};
use clap::Args;
use serde::Serialize;
use std::path::PathBuf;

/// A picture brighter than this is likely dark ink on white.
const BRIGHT: f64 = 0.6;

/// Columns of a class's name.
const MOST_OF_NAME: usize = 60;

#[derive(Args)]
pub struct PredictArgs {
    /// Folder of a run
    #[arg(value_name = "RUN")]
    run: PathBuf,
    /// Pictures of any size and colour, folders of pictures, or - for a list of them on standard input, a line each
    #[arg(value_name = "IMAGE", required = true)]
    images: Vec<PathBuf>,
    /// Classes shown per picture, at most those the run has seen
    #[arg(long, value_name = "K", default_value_t = 5)]
    top_k: usize,
    /// nme (nearest mean of exemplars), network, or another that the run evaluated [default: the method's own]
    #[arg(long, value_name = "NAME")]
    classifier: Option<String>,
    /// Swap dark and bright: for dark ink on white, where the model learnt bright strokes on black
    #[arg(long)]
    invert: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Folder for the answers of a run on images with masks: overlays and masks, PNG [default: predictions]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    #[command(flatten)]
    device: DeviceArgs,
}

/// A picture and where it is from.
type Found = (PathBuf, Picture);

/// Reads all pictures, then prints the likeliest classes of each. One that cannot be read is an error in the end.
pub fn run(args: &PredictArgs) -> Result<()> {
    if args.top_k == 0 {
        return Err(Error::usage("--top-k must be at least 1"));
    }
    // A wrong folder is told before a device is opened, which may take a while.
    let ModelCard { input, target, .. } = ModelCard::read(&args.run)?;
    if target == Target::Class && args.out.is_some() {
        return Err(Error::usage(
            "--out has no effect here: this run classifies whole pictures, and its answers are printed",
        ));
    }
    if ![1, 3].contains(&input[0]) {
        let message = format!("this model takes {} channels, and pictures have 1 or 3", input[0]);
        return Err(Error::file(&args.run, message));
    }
    let (mut pictures, mut errors): (Vec<Found>, Vec<Error>) = (Vec::new(), Vec::new());
    for path in files::pictures(&args.images)? {
        match Picture::read(&path, input) {
            Ok(picture) => pictures.push((path, if args.invert { picture.inverted() } else { picture })),
            Err(error) => errors.push(error),
        }
    }
    if !pictures.is_empty() {
        match target {
            Target::Class => answer(args, &pictures)?,
            Target::Mask => segment::answer(args, &pictures)?,
        }
    } else if args.json {
        println!("[]");
    }
    let Some(last) = errors.pop() else { return Ok(()) };
    errors.iter().for_each(|error| eprint!("{}", message(&format!("error: {error}"))));
    Err(last)
}

fn answer(args: &PredictArgs, pictures: &[Found]) -> Result<()> {
    let (device, warning) = args.device.open()?;
    if let Some(warning) = warning {
        warn(&warning);
    }
    let predictor = Predictor::load(&args.run, &device)?;
    let card = &predictor.card;
    let classifier = args.classifier.as_ref().unwrap_or(&card.classifiers[0]);
    let pixels: Vec<u8> = pictures.iter().flat_map(|(_, picture)| &picture.pixels).copied().collect();
    let predictions = predictor.predict(pixels, classifier)?;
    tell(args, card, pictures);

    let by_distance = predictor.class_means(classifier).is_some();
    let shown = predictions.iter().map(|all| &all[..args.top_k.min(all.len())]);
    if args.json {
        let rows: Vec<Answer> = pictures
            .iter()
            .zip(shown)
            .map(|((path, picture), shown)| Answer {
                image: path.display().to_string(),
                classifier,
                changes: &picture.changes,
                predictions: shown.iter().map(|one| Named::new(card, one, by_distance)).collect(),
            })
            .collect();
        println!("{}", serde_json::to_string_pretty(&rows).expect("bug: predictions that are no JSON"));
        return Ok(());
    }
    print!("{}", message(&headline(card, classifier, by_distance)));
    let names: Vec<String> = card.classes.iter().map(|class| fit(&printable(&class.name), MOST_OF_NAME)).collect();
    let width = names.iter().map(|name| name.chars().count()).max().unwrap_or(0);
    for ((path, _), shown) in pictures.iter().zip(shown) {
        println!("\n{}", printable(&path.display().to_string()));
        for (i, one) in shown.iter().enumerate() {
            let name = &names[one.label];
            let score = if by_distance { format!("{:.3}", one.score) } else { format!("{:5.1} %", 100.0 * one.score) };
            println!("{:>3}  {name:<width$}  {score}", i + 1);
        }
    }
    Ok(())
}

/// Whether the run had more to learn, on stderr.
pub fn tell_of_incomplete(card: &ModelCard) {
    let (done, all, n) = (card.n_tasks_learnt, card.n_tasks, card.classes.len());
    if done < all {
        let note =
            format!("note: the run is incomplete, {done} of {all} tasks: only the {n} classes seen can be named");
        eprint!("{}", message(&note));
    }
}

/// What was changed in the pictures, and what may be wrong, on stderr.
fn tell(args: &PredictArgs, card: &ModelCard, pictures: &[Found]) {
    tell_of_incomplete(card);
    for (path, picture) in pictures {
        let path = path.display();
        if !picture.changes.is_empty() {
            eprint!("{}", message(&format!("{path}: {}", picture.changes.join("; "))));
        }
        // Networks that learnt bright strokes on black have a dark mean.
        if card.input[0] == 1 && card.mean[0] < 0.4 && picture.brightness() > BRIGHT {
            let advice = if args.invert { "leave out --invert" } else { "try --invert" };
            let note = format!("{path}: mostly bright, but the model learnt bright strokes on a dark ground; {advice}");
            eprint!("{}", message(&note));
        }
    }
}

fn headline(card: &ModelCard, classifier: &str, by_distance: bool) -> String {
    let meaning = match (by_distance, card.activation) {
        (true, _) => "distance to the class mean (0 to 2, smaller is nearer)",
        (false, Activation::Softmax) => "probability among these classes (softmax)",
        (false, Activation::Sigmoid) => "probability of each class by itself (sigmoid)",
    };
    format!("{} on {}, {} classes; {classifier}: {meaning}", card.method, card.dataset, card.classes.len())
}

/// The JSON of one image.
#[derive(Serialize)]
struct Answer<'a> {
    image: String,
    classifier: &'a str,
    changes: &'a [String],
    predictions: Vec<Named<'a>>,
}

/// A class with either of the two scores.
#[derive(Serialize)]
struct Named<'a> {
    class: u32,
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    distance: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    probability: Option<f32>,
}

impl<'a> Named<'a> {
    fn new(card: &'a ModelCard, one: &Prediction, by_distance: bool) -> Named<'a> {
        let class = &card.classes[one.label];
        Named {
            class: class.class,
            name: &class.name,
            distance: by_distance.then_some(one.score),
            probability: (!by_distance).then_some(one.score),
        }
    }
}
