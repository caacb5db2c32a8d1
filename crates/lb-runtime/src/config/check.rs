//! Types of values, measured by the built-in defaults.
//!
//! The `config` crate converts freely: 2.7 becomes 3 and `true` becomes 1. In the file of a daemon
//! that is a mistake to be told about, so each layer is compared with the defaults before the merge.

use toml::{Table, Value};

use super::{
    ConfigError,
    error::quote,
    layer::{Layer, Origin},
};

/// Finds the first value that has another type than the default of its key.
pub(super) fn types(layer: &Layer, defaults: &Table) -> Result<(), ConfigError> {
    table(&layer.table, defaults, "", &layer.origin)
}

fn table(
    found: &Table,
    defaults: &Table,
    prefix: &str,
    origin: &Origin,
) -> Result<(), ConfigError> {
    for (name, value) in found {
        let Some(default) = defaults.get(name) else { continue };
        let key = format!("{prefix}{name}");
        match (value, default) {
            (Value::Table(value), Value::Table(default)) => {
                table(value, default, &format!("{key}."), origin)?;
            }
            (Value::Integer(_), Value::Float(_)) => {}
            _ if value.same_type(default) => {}
            _ => return Err(wrong_type(&key, &origin.describe(&key), default, value)),
        }
    }
    Ok(())
}

/// Reads a variable as the type of its key's default.
pub(super) fn from_text(
    text: &str,
    default: Option<&Value>,
    key: &str,
    variable: &str,
) -> Result<Value, ConfigError> {
    let as_text = || Value::String(text.to_owned());
    let parsed = match default {
        Some(Value::Boolean(_)) => boolean(text).map(Value::Boolean),
        Some(Value::Integer(_)) => text.parse().ok().map(Value::Integer),
        Some(Value::Float(_)) => text.parse().ok().map(Value::Float),
        Some(Value::Array(_)) => Some(list(text)),
        _ => Some(as_text()),
    };
    match (parsed, default) {
        (Some(value), _) => Ok(value),
        (None, Some(default)) => {
            let origin = format!("the environment variable {variable}");
            Err(wrong_type(key, &origin, default, &as_text()))
        }
        (None, None) => Ok(as_text()),
    }
}

/// What people write for a switch in an environment.
fn boolean(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "1" | "true" | "yes" | "on" => Some(true),
        "0" | "false" | "no" | "off" => Some(false),
        _ => None,
    }
}

fn list(text: &str) -> Value {
    let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
    Value::Array(items.map(|item| Value::String(item.to_owned())).collect())
}

fn wrong_type(key: &str, origin: &str, expected: &Value, found: &Value) -> ConfigError {
    let value = match found {
        Value::Table(_) | Value::Array(_) => String::new(),
        scalar => format!(" {}", quote(&scalar.to_string())),
    };
    ConfigError::WrongType {
        key: key.to_owned(),
        origin: origin.to_owned(),
        expected: type_name(expected).to_owned(),
        found: format!("{}{value}", type_name(found)),
    }
}

fn type_name(value: &Value) -> &'static str {
    match value {
        Value::String(_) => "text",
        Value::Integer(_) => "an integer",
        Value::Float(_) => "a number",
        Value::Boolean(_) => "true or false",
        Value::Datetime(_) => "a date",
        Value::Array(_) => "a list",
        Value::Table(_) => "a table",
    }
}
