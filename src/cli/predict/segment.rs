//! Answers of a run on images with masks: two PNG files for each picture, the classes laid over it and the mask by itself.

use super::{Found, PredictArgs, tell};
use crate::cli::warn;
use crate::data::sheet::{over, save};
use crate::error::{Error, Result};
use crate::experiment::saved::Predictor;
use crate::experiment::segmented::mask_png;
use crate::records::{create_folder, write_atomically};
use crate::report::printable;
use image::{Rgb, RgbImage};
use serde::Serialize;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Where answers go unless somebody says otherwise.
const FOLDER: &str = "predictions";

/// The JSON of one image.
#[derive(Serialize)]
struct Answer {
    image: String,
    overlay: String,
    mask: String,
    changes: Vec<String>,
    shares: Vec<Share>,
}

/// How much of an image is of a class.
#[derive(Serialize)]
struct Share {
    class: u32,
    name: String,
    share: f64,
}

/// Writes the files, and prints what is on each picture.
pub(super) fn answer(args: &PredictArgs, pictures: &[Found]) -> Result<()> {
    if args.classifier.is_some() {
        return Err(Error::usage("--classifier has no effect here: a run on images with masks has the network alone"));
    }
    let (device, warning) = args.device.open()?;
    warning.iter().for_each(|warning| warn(warning));
    let predictor = Predictor::load(&args.run, &device)?;
    let card = &predictor.card;
    let pixels: Vec<u8> = pictures.iter().flat_map(|(_, picture)| &picture.pixels).copied().collect();
    let masks = predictor.segment(pixels)?;
    tell(args, card, pictures);
    let out = args.out.clone().unwrap_or_else(|| PathBuf::from(FOLDER));
    create_folder(&out)?;
    let mut taken = BTreeSet::new();
    let mut answers = Vec::new();
    for ((path, picture), mask) in pictures.iter().zip(&masks) {
        let stem = name_in(path, &mut taken);
        let (overlay, file) = (out.join(format!("{stem}-overlay.png")), out.join(format!("{stem}-mask.png")));
        save(&overlaid(card.input, &picture.pixels, mask), &overlay)?;
        write_atomically(&file, &mask_png(card.input[1], card.input[2], mask))?;
        let shares = card.classes.iter().map(|class| {
            let n = mask.iter().filter(|&&one| u32::from(one) == class.class).count();
            Share { class: class.class, name: class.name.clone(), share: n as f64 / mask.len() as f64 }
        });
        answers.push(Answer {
            image: path.display().to_string(),
            overlay: overlay.display().to_string(),
            mask: file.display().to_string(),
            changes: picture.changes.clone(),
            shares: shares.filter(|share| share.share > 0.0).collect(),
        });
    }
    if args.json {
        println!("{}", serde_json::to_string_pretty(&answers).expect("bug: answers that are no JSON"));
        return Ok(());
    }
    println!("{} on {}, the class of every pixel", card.method, printable(&card.dataset));
    for Answer { image, overlay, mask, mut shares, .. } in answers {
        println!("\n{}", printable(&image));
        shares.sort_by(|a, b| b.share.total_cmp(&a.share));
        for one in shares.iter().take(args.top_k) {
            println!("  {:5.1} %  {}", 100.0 * one.share, printable(&one.name));
        }
        println!("  {}\n  {}", printable(&overlay), printable(&mask));
    }
    Ok(())
}

/// A name for the files of a picture that no other picture has.
fn name_in(path: &Path, taken: &mut BTreeSet<String>) -> String {
    let stem = path.file_stem().map_or_else(|| "picture".into(), |stem| stem.to_string_lossy().into_owned());
    let numbered = (2..).map(|i| format!("{stem}-{i}"));
    let name = [stem.clone()].into_iter().chain(numbered).find(|name| !taken.contains(name));
    let name = name.expect("bug: all numbers are taken");
    taken.insert(name.clone());
    name
}

/// The picture as the network saw it, with the classes over it.
fn overlaid([channels, height, width]: [usize; 3], pixels: &[u8], mask: &[u8]) -> RgbImage {
    RgbImage::from_fn(width as u32, height as u32, |x, y| {
        let at = y as usize * width + x as usize;
        over(Rgb([0, 1, 2].map(|channel| pixels[(channel % channels) * height * width + at])), mask[at])
    })
}
