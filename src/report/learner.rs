//! What a learner that is kept has learned and can tell apart.

use super::text::{bytes, counted, fit, percent, thousands};
use super::{hang, message, printable};
use crate::session::{Answer, Estimate, Judged, Learned, Session, Way};
use crate::settings::Choose;

/// Columns of a class's name.
const NAME: usize = 32;
/// Confusions and classes that a text lists.
const MOST: usize = 5;

fn name(text: &str) -> String {
    fit(&printable(text), NAME)
}

/// A row per class that was learned: `left_out` counts what of it could not be read.
pub fn learned_text(learned: &Learned, left_out: impl Fn(&str) -> usize) -> String {
    let width = learned.classes.iter().map(|class| name(&class.name).chars().count()).max().unwrap_or(0).max(5);
    let judges = learned.classes.iter().any(|class| class.n_held_out > 0);
    let held = |text: String| if judges { format!("  {text:>8}") } else { String::new() };
    let title = held("held out".into());
    let mut text =
        format!("{:<width$}  {:>6}{title}  {:>6}  {:>8}  {:>9}\n", "class", "added", "known", "left out", "now");
    for class in &learned.classes {
        let known = class.n_known + class.n_moved;
        let (added, now) = (thousands(class.n_added as u64), thousands(class.n_now as u64));
        let new = if class.is_new { "  new" } else { "" };
        let left_out = left_out(&class.name);
        let held = held(class.n_held_out.to_string());
        text += &format!("{:<width$}  {added:>6}{held}  {known:>6}  {left_out:>8}  {now:>9}{new}\n", name(&class.name));
        if class.n_moved > 0 {
            text += &format!("  {} known as another class, and moved here\n", counted(class.n_moved, "was", "were"));
        }
    }
    text
}

/// How well classes are told apart, with what is said about how that was found out.
pub fn estimate_text(session: &Session) -> String {
    let Some(method) = session.method() else { return "It knows no class yet.\n".into() };
    let chosen = if session.settings().method.is_some() { "" } else { ", chosen by the pictures" };
    let (method, n) = (method.name(), session.classes().len());
    let Some(estimate) = session.estimate() else {
        let why = match n {
            0 | 1 => "there is one class only",
            _ if session.method().is_some_and(Way::grows) => "no picture could be held out",
            _ => "no class has two pictures",
        };
        return message(&format!("Told apart by {method}{chosen}. How well cannot be said: {why}."));
    };
    let how = match estimate.judged {
        Judged::OneByOne => "each picture judged by all others".to_string(),
        Judged::InParts => "in ten parts, each judged by the other nine".to_string(),
        Judged::HeldOut => format!("{} held out for it", counted(estimate.n, "picture", "pictures")),
    };
    let alone = session.classes().iter().filter(|class| class.n == 1).count();
    let alone = match alone {
        0 => String::new(),
        n => format!(" {} with one picture could not be judged.", counted(n, "class", "classes")),
    };
    message(&format!("Told apart by {method}{chosen}: {}; {how}.{alone}", accuracy_text(estimate)))
        + &confusions_text(session, estimate)
}

/// `45 of 50 right, 90.0 % (95 %: 78.6 to 95.7 %)`.
pub fn accuracy_text(estimate: &Estimate) -> String {
    let (low, high) = estimate.interval();
    let (n, right) = (thousands(estimate.n as u64), thousands(estimate.n_right as u64));
    format!("{right} of {n} right, {} (95 %: {} to {})", percent(estimate.accuracy()), percent(low), percent(high))
}

/// What was most often taken for what.
pub fn confusions_text(session: &Session, estimate: &Estimate) -> String {
    let class = |label: usize| name(&session.classes()[label].name);
    let most = estimate.confusions.iter().take(MOST);
    let said: Vec<String> = most
        .map(|one| {
            format!(
                "{} taken for {} ({} of {})",
                class(one.truth),
                class(one.answer),
                one.n,
                estimate.per_class[one.truth].0
            )
        })
        .collect();
    if said.is_empty() { String::new() } else { message(&format!("Most confused: {}.", said.join(", "))) }
}

/// What a session knows, class by class, and how large it is.
pub fn session_text(session: &Session, n_bytes: u64) -> String {
    let [c, h, w] = session.input();
    let backbone = printable(session.backbone().name());
    let features = if session.method().is_some_and(Way::grows) { "trained on from" } else { "features of" };
    let exemplars = counted(session.exemplars().len(), "kept as it came", "kept as they came");
    let mut text = message(&format!(
        "{}, {}, {exemplars}; {}; {features} {backbone}, which takes {c}×{h}×{w}.",
        counted(session.classes().len(), "class", "classes"),
        counted(session.n_pictures(), "picture", "pictures"),
        bytes(n_bytes),
    ));
    text += &estimate_text(session);
    let width = session.classes().iter().map(|class| name(&class.name).chars().count()).max().unwrap_or(0).max(5);
    text += &format!("\n{:<width$}  {:>8}  {:>9}  {:>8}\n", "class", "pictures", "exemplars", "right");
    for (label, class) in session.classes().iter().enumerate() {
        let kept = session.exemplars().images().labels.iter().filter(|own| **own as usize == label).count();
        let right = session.estimate().map(|estimate| estimate.per_class[label]).filter(|(n, _)| *n > 0);
        let right = right.map_or("–".into(), |(n, right)| percent(right as f64 / n as f64));
        text += &format!("{:<width$}  {:>8}  {kept:>9}  {right:>8}\n", name(&class.name), thousands(class.n as u64));
    }
    if !session.history().is_empty() {
        text += "\nWhat was done, the oldest first:\n";
        for event in session.history() {
            let n = counted(event.n, "picture", "pictures");
            text += &hang(&format!("  {:<8} ", event.what), &format!("{} ({n})", printable(&event.class)));
        }
    }
    text
}

/// The answer to one picture: its likeliest classes, and why.
pub fn answer_text(session: &Session, path: &str, answer: &Answer, top_k: usize) -> String {
    let class = |label: usize| name(&session.classes()[label].name);
    let shown = &answer.ranked[..top_k.min(answer.ranked.len())];
    let width = shown.iter().map(|one| class(one.label).chars().count()).max().unwrap_or(0);
    let none = if answer.is_known { "" } else { ": none of these, as far as can be told" };
    let mut text = format!("\n{}{none}\n", printable(path));
    for one in shown {
        text += &format!("  {:<width$}  {:>7}\n", class(one.label), percent(one.confidence));
    }
    let nearest = &answer.nearest;
    let (file, of) = (name(&nearest.name), class(nearest.label));
    text + &format!("  nearest: {file} of {of}, similarity {:.2}\n", nearest.similarity)
}
