//! A grid in parts, for several processes or machines that share a folder, and for the schedulers that start them.

use crate::experiment::command_line::quoted;
use std::fmt::Write;

/// Part `part` of `n`, counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    /// Which.
    pub part: usize,
    /// Of how many.
    pub n: usize,
}

/// What a part may be called.
const FORMS: &str = "a part such as 1/4, from 1/N to N/N; or auto in a Slurm array job, and auto/N in a Kubernetes job with \
                     indexed completions";

impl Shard {
    /// `2/4`; or `auto`, and `auto/4` where the scheduler does not say how many parts there are, by the variables that
    /// `variable` knows: Slurm's of array jobs, or the index of a Kubernetes job's completion.
    ///
    /// # Errors
    /// What is needed instead.
    pub fn parse(text: &str, variable: impl Fn(&str) -> Option<String>) -> Result<Shard, String> {
        let (part, n) = text.split_once('/').map_or((text, None), |(part, n)| (part, Some(n)));
        let n = n.map(|n| n.parse().map_err(|_| FORMS.to_string())).transpose()?;
        let shard = match (part, n) {
            ("auto", n) => Shard::of_scheduler(n, &variable)?,
            (part, Some(n)) => Shard { part: part.parse().map_err(|_| FORMS.to_string())?, n },
            _ => return Err(FORMS.into()),
        };
        match (1..=shard.n).contains(&shard.part) {
            true => Ok(shard),
            false => Err(FORMS.into()),
        }
    }

    fn of_scheduler(n: Option<usize>, variable: &impl Fn(&str) -> Option<String>) -> Result<Shard, String> {
        let number = |name: &str| variable(name).and_then(|text| text.trim().parse::<usize>().ok());
        if let Some(id) = number("SLURM_ARRAY_TASK_ID") {
            let needed = |name: &str| number(name).ok_or(format!("Slurm set SLURM_ARRAY_TASK_ID and no {name}"));
            let (first, last) = (needed("SLURM_ARRAY_TASK_MIN")?, needed("SLURM_ARRAY_TASK_MAX")?);
            let count = needed("SLURM_ARRAY_TASK_COUNT")?;
            // --array=0-30:10 has steps between its numbers.
            let step = if count > 1 { last.saturating_sub(first) / (count - 1) } else { 1 };
            let place = id.saturating_sub(first) / step.max(1);
            if first + place * step.max(1) != id || n.is_some_and(|n| n != count) {
                return Err(format!(
                    "the array has {count} tasks from {first} to {last}, and this is {id}: an even array is needed"
                ));
            }
            return Ok(Shard { part: place + 1, n: count });
        }
        match (number("JOB_COMPLETION_INDEX"), n.or_else(|| number("JOB_COMPLETIONS"))) {
            (Some(index), Some(n)) => Ok(Shard { part: index + 1, n }),
            (Some(_), None) => {
                Err("Kubernetes says which part this is, and not of how many: auto/N, or JOB_COMPLETIONS in the job"
                    .into())
            }
            (None, _) => {
                Err("auto: neither SLURM_ARRAY_TASK_ID nor JOB_COMPLETION_INDEX is set, as a scheduler would".into())
            }
        }
    }

    /// Whether the run of this number, from 0, is in this part.
    pub fn has(self, i: usize) -> bool {
        i % self.n == self.part - 1
    }
}

/// A job script for Slurm: an array of so many tasks, each a part of the grid. `command` is the comparison, without a part, as
/// words; it runs in `folder`.
pub fn slurm_script(command: &[String], folder: &str, n_tasks: usize) -> String {
    let line: Vec<String> = command.iter().map(|word| quoted(word)).collect();
    let mut script = String::from("#!/bin/bash\n");
    let _ = write!(
        script,
        "#SBATCH --job-name=engram-compare\n#SBATCH --array=1-{n_tasks}\n#SBATCH --requeue\n\
         # A minute before the time is over the run is saved; the same script goes on with it.\n\
         #SBATCH --signal=B:TERM@60\n\
         # What your cluster wants besides, such as:\n\
         ##SBATCH --time=02:00:00\n##SBATCH --gres=gpu:1\n##SBATCH --cpus-per-task=8\n\
         cd {} || exit 1\nexec {} --shard auto\n",
        quoted(folder),
        line.join(" ")
    );
    script
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str, variables: &[(&str, &str)]) -> Result<Shard, String> {
        Shard::parse(text, |name| variables.iter().find(|(known, _)| *known == name).map(|(_, text)| text.to_string()))
    }

    #[test]
    fn parts_are_counted_from_one() {
        assert_eq!(parse("2/4", &[]), Ok(Shard { part: 2, n: 4 }));
        for wrong in ["0/4", "5/4", "1", "a/4", "1/a", "1/0", "auto"] {
            assert!(parse(wrong, &[]).is_err(), "{wrong}");
        }
        let of_ten = |part| (0..10).filter(|&i| Shard { part, n: 3 }.has(i)).collect::<Vec<_>>();
        assert_eq!([of_ten(1), of_ten(2), of_ten(3)].concat(), [0, 3, 6, 9, 1, 4, 7, 2, 5, 8]);
    }

    #[test]
    fn schedulers_say_which_part_it_is() {
        let slurm = |id, first, last, count| {
            parse(
                "auto",
                &[
                    ("SLURM_ARRAY_TASK_ID", id),
                    ("SLURM_ARRAY_TASK_MIN", first),
                    ("SLURM_ARRAY_TASK_MAX", last),
                    ("SLURM_ARRAY_TASK_COUNT", count),
                ],
            )
        };
        assert_eq!(slurm("3", "1", "4", "4"), Ok(Shard { part: 3, n: 4 }));
        assert_eq!(slurm("0", "0", "3", "4"), Ok(Shard { part: 1, n: 4 }));
        assert_eq!(slurm("20", "0", "30", "4"), Ok(Shard { part: 3, n: 4 }));
        assert_eq!(slurm("7", "7", "7", "1"), Ok(Shard { part: 1, n: 1 }));
        assert!(slurm("2", "1", "7", "3").unwrap_err().contains("even"), "1,2,7");
        assert_eq!(parse("auto/8", &[("JOB_COMPLETION_INDEX", "7")]), Ok(Shard { part: 8, n: 8 }));
        assert!(parse("auto", &[("JOB_COMPLETION_INDEX", "7")]).unwrap_err().contains("auto/N"));
    }

    #[test]
    fn a_job_script_is_an_array_of_parts() {
        let words = ["engram", "compare", "er", "finetune", "--out", "a b"].map(String::from);
        let script = slurm_script(&words, "/home/me", 8);
        assert!(script.contains("#SBATCH --array=1-8\n"), "{script}");
        assert!(script.ends_with("exec engram compare er finetune --out 'a b' --shard auto\n"), "{script}");
    }
}
