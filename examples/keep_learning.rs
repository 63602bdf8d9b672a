//! A learner that goes on learning: classes come when they come, and nothing is needed from before.
//!
//! ```text
//! cargo run --release --example keep_learning
//! ```

use engram::Device;
use engram::session::{Backbone, Picture, Session, Settings};

/// A picture of one colour with some noise, in place of a file: `Picture::read` takes those.
fn picture(class: &str, i: u32) -> Picture {
    let [red, green, blue] = match class {
        "cherry" => [200, 20, 30],
        "leaf" => [30, 160, 40],
        _ => [40, 70, 210],
    };
    let noise = |at: u32| ((at * 2_654_435_761u32.wrapping_mul(i + 1)) >> 28) as u8;
    let pixels = [red, green, blue].into_iter().flat_map(|value| (0..1024).map(move |at| value + noise(at))).collect();
    Picture { name: format!("{class} {i}"), pixels }
}

fn main() -> engram::Result<()> {
    let of = |class: &str| (0..10).map(|i| (picture(class, i), class.to_string())).collect::<Vec<_>>();
    let mut session = Session::new(Backbone::open("natural32", &Device::cpu())?, Settings::default())?;
    for class in ["cherry", "leaf", "sky"] {
        session.learn(of(class))?;
        let judged =
            session.estimate().map_or("–".into(), |estimate| format!("{:.0} %", 100.0 * estimate.accuracy()));
        println!("learned {class}: {} classes, {judged} right on pictures held out", session.classes().len());
    }
    session.forget("leaf")?;
    for answer in session.classify(&[picture("cherry", 50), picture("sky", 51), picture("leaf", 52)])? {
        let best = answer.ranked[0];
        let name = &session.classes()[best.label].name;
        let known = if answer.is_known { "" } else { ", or rather none of these" };
        println!("{name}, {:.0} %{known}; nearest is {}", 100.0 * best.confidence, answer.nearest.name);
    }
    let path = std::env::temp_dir().join("colours.engram");
    session.save(&path)?;
    println!("{} bytes in {}", path.metadata().map_or(0, |found| found.len()), path.display());
    Ok(())
}
