//! Rows of settings as flags, and what came of them as a table.

use crate::data;
use crate::error::Result;
use crate::experiment::{self, distillation};
use crate::models;
use crate::report::hang;
use crate::settings::{Choose, Kind, Origin, Setting, Values, text};
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser, ValueParser};
use clap::{Arg, ArgMatches, Args, Command, Error, FromArgMatches};
use serde_json::Value;

/// The flags of a run of any method.
pub struct RunFlags(pub Values);

/// The flags of a model.
pub struct ModelFlags(pub Values);

/// The flags of a distillation.
pub struct DistillFlags(pub Values);

fn value_parser(row: &'static Setting) -> ValueParser {
    match &row.kind {
        Kind::Choice(choices) => {
            let names = choices().into_iter().map(|choice| PossibleValue::new(choice.name).help(choice.help));
            ValueParser::from(PossibleValuesParser::new(names).map(Value::String))
        }
        _ => ValueParser::from(move |text: &str| row.kind.parse(text)),
    }
}

/// For a flag whose value is one of an enum's.
pub fn choice<T: Choose + Send + Sync>() -> impl TypedValueParser<Value = T> {
    let names = T::choices().into_iter().map(|choice| PossibleValue::new(choice.name).help(choice.help));
    PossibleValuesParser::new(names).map(|name| T::named(&name).expect("bug: a name without a value"))
}

/// A row as a flag.
fn arg(row: &'static Setting) -> Arg {
    let long: &'static str = Box::leak(row.name.replace('_', "-").into_boxed_str());
    let arg = Arg::new(row.name).long(long).value_name(row.value_name).help(row.help_text());
    let arg = arg.value_parser(value_parser(row)).allow_hyphen_values(false).allow_negative_numbers(true);
    match row.variable {
        Some(variable) => arg.env(variable),
        None => arg,
    }
}

fn augment(command: Command, rows: Vec<&'static Setting>) -> Command {
    command.args(rows.into_iter().map(arg))
}

fn given(matches: &ArgMatches, rows: Vec<&'static Setting>) -> Values {
    rows.into_iter().fold(Values::default(), |values, row| match matches.try_get_one::<Value>(row.name) {
        Ok(Some(value)) => values.with(row, value.clone(), Origin::Flag),
        _ => values,
    })
}

macro_rules! flags {
    ($flags:ident, $rows:expr) => {
        impl Args for $flags {
            fn augment_args(command: Command) -> Command {
                augment(command, $rows)
            }

            fn augment_args_for_update(command: Command) -> Command {
                augment(command, $rows)
            }
        }

        impl FromArgMatches for $flags {
            fn from_arg_matches(matches: &ArgMatches) -> std::result::Result<$flags, Error> {
                Ok($flags(given(matches, $rows)))
            }

            fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> std::result::Result<(), Error> {
                self.0 = given(matches, $rows);
                Ok(())
            }
        }
    };
}

flags!(RunFlags, experiment::every_row());
flags!(ModelFlags, models::option_rows());
flags!(DistillFlags, distillation::rows());

/// The defaults per data set as text, for `--help`.
pub fn recipes_text() -> String {
    let mut text = String::from("Defaults that depend on the data set:\n");
    let folder = ("folder", &data::folder::RECIPE);
    let recipes = data::ALL.iter().map(|spec| (spec.name, &spec.recipe)).chain([folder]);
    for (name, recipe) in recipes {
        let data::Recipe { memory, epochs, batch_size, joint_epochs, joint_batch_size } = recipe;
        text += &format!("  {name:<13} others  --epochs {epochs} --batch-size {batch_size} --memory {memory}\n");
        text += &format!("  {name:<13} joint   --epochs {joint_epochs} --batch-size {joint_batch_size}\n");
    }
    text
}

/// Every setting, its value, and where that is from.
pub fn explain(rows: &[&'static Setting], values: &Values) -> Result<()> {
    println!("{:<20} {:<22} from", "setting", "value");
    for row in rows {
        let (Some(value), Some(origin)) = (values.value(row.name), values.origin(row.name)) else { continue };
        print!("{}", hang(&format!("{:<20} {:<22} ", row.name, text(value)), &origin.to_string()));
    }
    let open: Vec<&str> = rows.iter().map(|row| row.name).filter(|name| values.value(name).is_none()).collect();
    if !open.is_empty() {
        print!("{}", hang("\nnot set: ", &open.join(", ")));
    }
    Ok(())
}
