//! Settings as flags of a command line.

use super::config::Config;
use crate::settings::{Origin, flag, text};

/// As a shell takes it.
pub fn quoted(value: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./,:=+".contains(c) || (cfg!(windows) && c == '\\');
    match value.chars().all(plain) {
        true => value.to_string(),
        false => format!("'{}'", value.replace('\'', "'\\''")),
    }
}

/// The flags that make of one configuration another, each with a space in front: ` --epochs 2 --width 0.25`. What follows from
/// others is left out.
pub fn flags_between(from: &Config, to: &Config) -> String {
    let follows = |name: &str| name == "schedule" && to.values.value("lr_steps").is_some();
    let plain = |name: &str| from.values.value(name).is_none() && to.values.origin(name) == Some(&Origin::Default);
    let differs = |name: &str| from.values.value(name) != to.values.value(name);
    let rows = to.rows();
    let changed = rows.iter().filter(|row| differs(row.name) && !follows(row.name) && !plain(row.name));
    let value = |name: &str| to.values.value(name).map(|value| format!(" {} {}", flag(name), quoted(&text(value))));
    changed.filter_map(|row| value(row.name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::continual;

    #[test]
    fn values_are_quoted_where_a_shell_needs_it() {
        assert_eq!([quoted("a/b,c:1"), quoted("a b"), quoted("it's")], ["a/b,c:1", "'a b'", r"'it'\''s'"]);
    }

    #[test]
    fn flags_name_what_differs() {
        let method = continual::spec("der++").unwrap();
        let plain = Config::of(method, &[]).unwrap();
        let other = Config::of(method, &[("epochs", "9"), ("lr_steps", "2,5"), ("mse_weight", "0.125")]).unwrap();
        assert_eq!(flags_between(&plain, &plain), "");
        assert_eq!(flags_between(&plain, &other), " --epochs 9 --lr-steps 2,5 --mse-weight 0.125");
    }
}
