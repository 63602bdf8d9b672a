//! The one place where what is set becomes the settings of a run.

use super::{Needs, Origin, Setting, Usual, Values, flag, text};
use crate::error::{Error, Result, did_you_mean};
use serde_json::Value;

/// The values of `rows`: what was given, over their defaults. What was asked for must belong to a row, be in its range and have
/// an effect; what a preset or a recipe brings along for others is dropped. `whose` names what the settings are of.
///
/// # Errors
/// [`Error::Usage`], which names the setting.
pub fn resolve(whose: &str, rows: &[&'static Setting], given: Values) -> Result<Values> {
    let foreign =
        given.0.iter().find(|(name, (_, origin))| origin.is_asked_for() && !rows.iter().any(|row| row.name == **name));
    if let Some((name, _)) = foreign {
        let known: Vec<&str> = rows.iter().map(|row| row.name).collect();
        return Err(Error::usage(format!("{whose} has no {}{}", flag(name), did_you_mean(name, &known))));
    }
    let mut values = given.only(rows);
    for row in rows {
        if let Usual::Is(default) = row.default
            && !values.0.contains_key(row.name)
        {
            values = values.set(row, default, Origin::Default)?;
        }
        if let Some((value, _)) = values.0.get(row.name) {
            row.kind.check(row, value)?;
        }
    }
    for row in rows {
        let (Some((_, origin)), Some(needs)) = (values.0.get(row.name), &row.needs) else { continue };
        if has_effect(needs, &values) {
            continue;
        }
        if origin.is_asked_for() {
            return Err(Error::usage(format!("{} has no effect here: {}", row.flag(), needs.why)));
        }
        values.0.remove(row.name);
    }
    Ok(values)
}

fn has_effect(needs: &Needs, values: &Values) -> bool {
    match values.value(needs.setting) {
        None | Some(Value::Null) => false,
        Some(_) if needs.is.is_empty() => true,
        Some(value) => {
            let value = text(value);
            needs.is.iter().any(|pattern| match pattern.strip_suffix('*') {
                Some(start) => value.starts_with(start),
                None => value == *pattern,
            })
        }
    }
}

/// The names of the settings that two resolved sets of values of `rows` have different values of.
pub fn between(rows: &[&'static Setting], a: &Values, b: &Values) -> Vec<&'static str> {
    rows.iter().map(|row| row.name).filter(|name| a.value(name) != b.value(name)).collect()
}
