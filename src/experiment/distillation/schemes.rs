//! Several schemes on one student, side by side: what each gains over labels alone, what it costs, and which to use.

use super::results::{Arm, DistillResults, OtherResult};
use crate::experiment::metrics::mean_sd;
use crate::experiment::statistics::paired_difference;
use serde::Serialize;
use std::fmt::Write as _;

/// What is known of a scheme: at the first part of the images that it was compared at.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Standing {
    /// Its name.
    pub scheme: String,
    /// Pairs of students.
    pub n_pairs: usize,
    /// Of the students from labels alone: mean and standard deviation, as fractions.
    pub scratch: (f64, f64),
    /// Of those by the scheme.
    pub accuracy: (f64, f64),
    /// Their accuracies, by seed.
    pub accuracies: Vec<(u64, f64)>,
    /// The paired difference with its 95 % interval by Student's t: (low, mean, high); `None` for a single pair.
    pub gain: Option<(f64, f64, f64)>,
    /// Seconds of a training by the scheme, without that of a teacher.
    pub seconds: f64,
    /// The same over that of labels alone.
    pub times: f64,
    /// Seconds of the teachers' trainings, if they were trained here.
    pub seconds_teacher: f64,
    /// Bytes of all buffers: the most that was needed at once.
    pub held_bytes: u64,
    /// What else answers best: its name and mean accuracy.
    pub best_other: Option<(String, f64)>,
}

impl Standing {
    /// `None` if no pair is finished.
    pub fn of(results: &DistillResults) -> Option<Standing> {
        let comparisons = results.comparisons();
        let first = comparisons.first()?;
        let number = |arm, of: fn(&super::StudentResult) -> f64| first.mean_sd(arm, of);
        let [scratch, distilled] =
            [&first.scratch, &first.distilled].map(|all| all.iter().map(|s| s.accuracy).collect::<Vec<f64>>());
        let seconds = number(Arm::Distilled, |student| student.seconds_training).0;
        let others = first.others(|other: &OtherResult| other.accuracy);
        let best = others.into_iter().max_by(|a, b| a.1.total_cmp(&b.1));
        Some(Standing {
            scheme: results.scheme.clone(),
            n_pairs: scratch.len(),
            scratch: mean_sd(&scratch),
            accuracy: mean_sd(&distilled),
            accuracies: first.distilled.iter().map(|student| (student.seed, student.accuracy)).collect(),
            gain: paired_difference(&distilled, &scratch),
            seconds,
            times: seconds / number(Arm::Scratch, |student| student.seconds_training).0,
            seconds_teacher: results.teachers.iter().filter_map(|teacher| teacher.seconds_training).sum(),
            held_bytes: results.held_bytes,
            best_other: best.map(|(other, mean, _)| (other.name.clone(), mean)),
        })
    }

    /// What its pairs say.
    pub fn verdict(&self) -> Verdict {
        match self.gain {
            None => Verdict::Unknown,
            Some((low, _, _)) if low > 0.0 => Verdict::Gains,
            Some((_, _, high)) if high < 0.0 => Verdict::Loses,
            Some(_) => Verdict::Undecided,
        }
    }

    /// How far it lies above another, by the seeds that both have: (low, mean, high).
    pub fn above(&self, other: &Standing) -> Option<(f64, f64, f64)> {
        let twin = |seed: u64| other.accuracies.iter().find(|(own, _)| *own == seed).map(|(_, accuracy)| *accuracy);
        let pairs = self.accuracies.iter().filter_map(|(seed, accuracy)| Some((*accuracy, twin(*seed)?)));
        let (a, b): (Vec<f64>, Vec<f64>) = pairs.unzip();
        paired_difference(&a, &b)
    }
}

/// Where the interval of a gain lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Above 0.
    Gains,
    /// Around 0.
    Undecided,
    /// Below 0.
    Loses,
    /// There is none: it takes two pairs.
    Unknown,
}

/// The answer in sentences: who gains, who cannot be told from the best, who gains most cheaply.
pub fn answer(standings: &[Standing]) -> Vec<String> {
    let names = |all: &[&Standing]| all.iter().map(|one| one.scheme.as_str()).collect::<Vec<_>>().join(", ");
    let by = |verdict| -> Vec<&Standing> { standings.iter().filter(|one| one.verdict() == verdict).collect() };
    let points = |x: f64| format!("{:+.2}", 100.0 * x);
    if standings.iter().any(|one| one.verdict() == Verdict::Unknown) {
        return vec!["A single pair shows no gain: it takes two at least (--seeds 3).".into()];
    }
    let mut sentences = Vec::new();
    let mut gaining = by(Verdict::Gains);
    gaining.sort_by(|a, b| b.accuracy.0.total_cmp(&a.accuracy.0));
    match gaining.first() {
        None => sentences.push("No scheme is shown to gain anything over labels alone.".into()),
        Some(best) => {
            let (low, mean, high) = best.gain.unwrap_or_default();
            let interval = format!("[{}, {}]", points(low), points(high));
            sentences.push(format!("Use {}: {} points over labels alone {interval}.", best.scheme, points(mean)));
            let same = |other: &&&Standing| best.above(other).is_none_or(|(low, ..)| low <= 0.0);
            let alike: Vec<&Standing> = gaining[1..].iter().filter(same).copied().collect();
            if !alike.is_empty() {
                sentences.push(format!("Not to be told from it: {}.", names(&alike)));
            }
            let cheapest = gaining.iter().min_by(|a, b| a.times.total_cmp(&b.times)).unwrap_or(best);
            if cheapest.scheme != best.scheme {
                let (_, mean, _) = cheapest.gain.unwrap_or_default();
                sentences.push(format!(
                    "The cheapest that gains is {}: {} points at {:.2} times the training of labels alone.",
                    cheapest.scheme,
                    points(mean),
                    cheapest.times
                ));
            }
        }
    }
    for (verdict, words) in
        [(Verdict::Undecided, "No difference is shown for"), (Verdict::Loses, "Worse than labels alone:")]
    {
        let those = by(verdict);
        if !those.is_empty() {
            sentences.push(format!("{words} {}.", names(&those)));
        }
    }
    sentences
}

/// A line per scheme.
pub fn csv(standings: &[Standing]) -> String {
    let mut csv = String::from(
        "scheme,pairs,scratch,scratch_sd,accuracy,accuracy_sd,gain,gain_low,gain_high,seconds,times,seconds_teacher,held_bytes,\
         best_other,best_other_accuracy\n",
    );
    for one in standings {
        let Standing { scheme, n_pairs, scratch, accuracy, seconds, times, seconds_teacher, held_bytes, .. } = one;
        let gain = one.gain.map_or(",,".into(), |(low, mean, high)| format!("{mean},{low},{high}"));
        let (name, best) = one.best_other.clone().unzip();
        let (name, best) = (name.unwrap_or_default(), best.map(|best| best.to_string()).unwrap_or_default());
        let _ = writeln!(
            csv,
            "{scheme},{n_pairs},{},{},{},{},{gain},{seconds},{times},{seconds_teacher},{held_bytes},{name},{best}",
            scratch.0, scratch.1, accuracy.0, accuracy.1
        );
    }
    csv
}

#[cfg(test)]
mod tests {
    use super::{Standing, Verdict, answer};
    use crate::experiment::statistics::paired_difference;

    fn standing(scheme: &str, scratch: [f64; 3], distilled: [f64; 3], times: f64) -> Standing {
        Standing {
            scheme: scheme.into(),
            n_pairs: 3,
            scratch: (0.0, 0.0),
            accuracy: (distilled.iter().sum::<f64>() / 3.0, 0.0),
            accuracies: (1..).zip(distilled).collect(),
            gain: paired_difference(&distilled, &scratch),
            seconds: times,
            times,
            seconds_teacher: 0.0,
            held_bytes: 0,
            best_other: None,
        }
    }

    #[test]
    fn the_answer_names_who_gains_and_who_does_not() {
        let scratch = [0.80, 0.81, 0.82];
        let all = [
            standing("far", scratch, [0.90, 0.911, 0.92], 3.0),
            standing("near", scratch, [0.90, 0.91, 0.921], 2.0),
            standing("small", scratch, [0.81, 0.821, 0.83], 1.1),
            standing("unclear", scratch, [0.70, 0.95, 0.80], 1.0),
            standing("worse", scratch, [0.70, 0.711, 0.72], 1.0),
        ];
        use Verdict::{Gains, Loses, Undecided};
        let verdicts: Vec<Verdict> = all.iter().map(Standing::verdict).collect();
        assert_eq!(verdicts, [Gains, Gains, Gains, Undecided, Loses]);
        let text = answer(&all).join(" ");
        for wanted in ["Not to be told from it: ", "cheapest that gains is small", "shown for unclear", "alone: worse"]
        {
            assert!(text.contains(wanted), "'{wanted}' is not in: {text}");
        }
        assert!(!text.contains("from it: small"), "{text}");
        assert!(answer(&all[3..]).join(" ").starts_with("No scheme"));
        let single = Standing { gain: None, ..all[0].clone() };
        assert!(answer(&[single])[0].contains("--seeds"));
    }
}
