//! Numbers and lists as a person reads them.

pub use crate::data::files::thousands;
use crate::experiment::measures::Unit;
use crate::experiment::metrics::mean_sd;

/// A fraction as `93.1 %`.
pub(super) fn percent(fraction: f64) -> String {
    format!("{:.1} %", hundredfold(fraction))
}

/// A difference of fractions, in percentage points, as `4.2 points`.
pub(super) fn points(difference: f64) -> String {
    format!("{:.1} points", hundredfold(difference))
}

/// A measure's value, in its unit.
pub(super) fn in_unit(unit: Unit, value: f64) -> String {
    match unit {
        Unit::Percent => percent(value),
        Unit::Points => points(value),
    }
}

/// A measure over several runs, `93.1 ± 0.4` in percent or points: of one without a deviation, of none a dash.
pub(super) fn mean_and_sd(values: &[f64]) -> String {
    let (mean, sd) = mean_sd(values);
    match values.len() {
        0 => "–".into(),
        1 => format!("{:.1}", hundredfold(mean)),
        _ => format!("{:.1} ± {:.1}", hundredfold(mean), hundredfold(sd)),
    }
}

/// With its first letter large.
pub(super) fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or(String::new(), |first| first.to_uppercase().chain(letters).collect())
}

/// Times 100, rounded to one decimal, and never −0.
pub(super) fn hundredfold(fraction: f64) -> f64 {
    (fraction * 1000.0).round() / 10.0 + 0.0
}

/// `512 bytes`, `5.0 KiB`, `1.5 MiB`, `2.0 GiB`.
pub(super) fn bytes(n: u64) -> String {
    const KIB: f64 = 1024.0;
    let x = n as f64;
    match n {
        0..1_024 => format!("{n} bytes"),
        1_024..1_048_576 => format!("{:.1} KiB", x / KIB),
        1_048_576..1_073_741_824 => format!("{:.1} MiB", x / KIB / KIB),
        _ => format!("{:.1} GiB", x / KIB / KIB / KIB),
    }
}

/// `42.0 s`, `12 min 5 s`, `3 h 20 min`.
pub(super) fn duration(seconds: f64) -> String {
    let whole = seconds.round() as u64;
    match whole {
        0..90 => format!("{seconds:.1} s"),
        90..5400 => format!("{} min {} s", whole / 60, whole % 60),
        _ => format!("{} h {} min", whole / 3600, whole % 3600 / 60),
    }
}

/// `1 task`, `2 tasks`, `1 class`, `2 classes`.
pub(super) fn counted(n: usize, one: &str, many: &str) -> String {
    format!("{} {}", thousands(n as u64), if n == 1 { one } else { many })
}

/// Class names within `width` columns: `0 1`, `0-9` for consecutive numbers, `cat dog +8` where not all fit.
pub(super) fn classes<S: AsRef<str>>(names: &[S], width: usize) -> String {
    let names: Vec<&str> = names.iter().map(AsRef::as_ref).collect();
    if let (true, Some(first), Some(last)) = (names.len() > 3, names.first(), names.last()) {
        let numbers: Vec<u32> = names.iter().map_while(|name| name.parse().ok()).collect();
        if numbers.len() == names.len() && numbers.windows(2).all(|pair| pair[1] == pair[0].wrapping_add(1)) {
            return fit(&format!("{first}-{last}"), width);
        }
    }
    let shown = |n: usize| match names.len() - n {
        0 => names.join(" "),
        rest => format!("{} +{rest}", names[..n].join(" ")),
    };
    let best = (1..=names.len()).rev().map(shown).find(|text| text.chars().count() <= width);
    best.unwrap_or_else(|| fit(&names.join(" "), width))
}

/// A text without what would steer a terminal: names may come from a stranger.
pub fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && !['\n', '\t'].contains(&c) { '\u{fffd}' } else { c }).collect()
}

/// Cuts a text to `width` columns, with `…` for what is lost.
pub fn fit(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_string();
    }
    text.chars().take(width.saturating_sub(1)).chain(['…']).collect()
}

/// Breaks the lines of a message that are too long, and goes on two columns further in; the others stay as they are.
pub fn message(text: &str) -> String {
    let text = &printable(text);
    let lines = text.lines().map(|line| match line.chars().count() <= super::WIDTH {
        true => format!("{line}\n"),
        false => {
            let (line, indent) = (line.trim_start(), line.chars().take_while(|c| *c == ' ').count());
            format!("{}{}", " ".repeat(indent), fill(line, indent, indent + 2))
        }
    });
    lines.collect()
}

/// Breaks a paragraph at spaces; lines after the first are indented.
pub(super) fn wrap(paragraph: &str, indent: usize) -> String {
    fill(paragraph, 0, indent)
}

/// A paragraph beside `prefix`, which stands at the left of its first line.
pub fn hang(prefix: &str, paragraph: &str) -> String {
    let width = prefix.chars().count();
    format!("{prefix}{}", fill(paragraph, width, width))
}

/// A paragraph in lines whose first starts at `column`.
fn fill(paragraph: &str, mut column: usize, indent: usize) -> String {
    let mut out = String::new();
    let mut empty = true;
    for word in paragraph.split_whitespace() {
        let width = word.chars().count();
        if !empty && column + 1 + width > super::WIDTH {
            out.push('\n');
            out.extend(std::iter::repeat_n(' ', indent));
            column = indent;
        } else if !empty {
            out.push(' ');
            column += 1;
        }
        empty = false;
        out.push_str(word);
        column += width;
    }
    out.push('\n');
    out
}

/// A command line, indented and continued with `\` before an option where it is too long. It is broken nowhere else:
/// a quoted value must stay whole.
pub(super) fn command(line: &str) -> String {
    let mut out = String::from("  ");
    let mut column = 2;
    for (i, part) in line.split(" --").enumerate() {
        let part = if i == 0 { part.to_string() } else { format!("--{part}") };
        let width = part.chars().count();
        if i > 0 && column + 1 + width + 2 > super::WIDTH {
            out.push_str(" \\\n      ");
            column = 6;
        } else if i > 0 {
            out.push(' ');
            column += 1;
        }
        out.push_str(&part);
        column += width;
    }
    out.push('\n');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        assert_eq!(percent(0.93149), "93.1 %");
        assert_eq!(percent(-0.0001), "0.0 %", "no minus before a zero");
        assert_eq!(points(0.042), "4.2 points");
        assert_eq!([7, 1_000, 12_345_678].map(thousands), ["7", "1,000", "12,345,678"]);
        assert_eq!([1_023, 5_120, 3 << 19, 1 << 31].map(bytes), ["1023 bytes", "5.0 KiB", "1.5 MiB", "2.0 GiB"]);
        assert_eq!([42.0, 725.0, 12_000.0].map(duration), ["42.0 s", "12 min 5 s", "3 h 20 min"]);
        assert_eq!(counted(1, "class", "classes"), "1 class");
    }

    #[test]
    fn class_lists_fit() {
        assert_eq!(classes(&["0", "1"], 16), "0 1");
        assert_eq!(classes(&["0", "1", "2", "3", "4"], 16), "0-4");
        assert_eq!(classes(&["3", "1", "4", "0"], 16), "3 1 4 0");
        assert_eq!(classes(&["beaver", "dolphin", "otter", "seal"], 18), "beaver dolphin +2");
        assert_eq!(classes(&["a_very_long_class_name_indeed"], 10), "a_very_lo…");
        assert_eq!(classes::<&str>(&[], 10), "");
    }

    #[test]
    fn long_text_is_broken() {
        let wrapped = wrap(&"word ".repeat(60), 2);
        assert!(wrapped.lines().count() > 3 && wrapped.lines().all(|line| line.len() <= 80));
        assert!(wrapped.lines().skip(1).all(|line| line.starts_with("  word")));

        let text = message(&format!("error: {}\n  gpu:0  a   b", "word ".repeat(60)));
        assert!(text.lines().all(|line| line.len() <= 80) && text.ends_with("word\n  gpu:0  a   b\n"), "{text}");
        let text = message(&format!("  item: {}", "word ".repeat(60)));
        let first = text.lines().next().unwrap();
        assert!(
            first.starts_with("  item:") && text.lines().skip(1).all(|line| line.starts_with("    word")),
            "{text}"
        );

        let line = format!("engram finetune --data-dir 'a b' {}", "--option value ".repeat(12).trim_end());
        let broken = command(&line);
        assert!(broken.lines().count() > 1 && broken.lines().all(|line| line.len() <= 80), "{broken}");
        let joined: Vec<&str> = broken.split_whitespace().filter(|word| *word != "\\").collect();
        assert_eq!(joined.join(" "), line);
    }
}
