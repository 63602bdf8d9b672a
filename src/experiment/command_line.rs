//! Settings as flags of a command line.

use super::config::Config;
use serde_json::{Map, Value};

/// As a shell takes it.
pub fn quoted(value: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./,:=+".contains(c);
    match value.chars().all(plain) {
        true => value.to_string(),
        false => format!("'{}'", value.replace('\'', "'\\''")),
    }
}

/// A value of a configuration as a flag takes it.
pub fn setting_text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(values) => values.iter().map(setting_text).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    }
}

/// The flags that make of one configuration another, each with a space in front: ` --epochs 2 --width 0.25`.
pub fn flags_between(from: &Config, to: &Config) -> String {
    let (from, to) = (settings(from), settings(to));
    let changed = to.iter().filter(|(name, value)| from.get(*name) != Some(value));
    changed.map(|(name, value)| format!(" --{} {}", name.replace('_', "-"), quoted(&setting_text(value)))).collect()
}

/// Every setting by its name, the method's own options among them.
fn settings(config: &Config) -> Map<String, Value> {
    let Ok(Value::Object(mut all)) = serde_json::to_value(config) else {
        panic!("bug: a configuration is no JSON object")
    };
    if let Some(Value::Object(options)) = all.remove("options") {
        all.extend(options);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::super::Overrides;
    use super::*;
    use crate::continual;

    #[test]
    fn values_are_quoted_where_a_shell_needs_it() {
        assert_eq!([quoted("a/b,c:1"), quoted("a b"), quoted("it's")], ["a/b,c:1", "'a b'", r"'it'\''s'"]);
    }

    #[test]
    fn flags_name_what_differs() {
        let method = continual::spec("der++").unwrap();
        let plain = Overrides::default().resolve(method).unwrap();
        let mut other = Overrides { epochs: Some(9), lr_steps: Some(vec![2, 5]), ..Overrides::default() };
        other.options.mse_weight = Some(0.125);
        let other = other.resolve(method).unwrap();
        assert_eq!(flags_between(&plain, &plain), "");
        assert_eq!(flags_between(&plain, &other), " --epochs 9 --lr-steps 2,5 --mse-weight 0.125");
    }
}
