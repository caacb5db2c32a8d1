//! Which keys there are and of which type, measured by the defaults and examples.

use toml::{Table, Value};

use super::{
    ConfigError,
    error::{quote, unknown_key},
    key::Key,
    layer::{self, Layer, Origin},
};

/// Finds the first key that there is not, or value that has another type than it should.
pub(super) fn layer(layer: &Layer, shape: &Table) -> Result<(), ConfigError> {
    table(&layer.table, shape, &Key::default(), &layer.origin)
}

fn table(found: &Table, shape: &Table, prefix: &Key, origin: &Origin) -> Result<(), ConfigError> {
    // A table without defaults takes any keys.
    if shape.is_empty() && !prefix.is_empty() {
        return Ok(());
    }
    for (name, value) in found {
        let key = prefix.child(name);
        match (value, shape.get(name)) {
            (_, None) => return Err(unknown_key(&key, shape, &origin.describe(&key))),
            (Value::Table(value), Some(Value::Table(shape))) => table(value, shape, &key, origin)?,
            (Value::Integer(_), Some(Value::Float(_))) => {}
            (_, Some(expected)) if value.same_type(expected) => {}
            (_, Some(expected)) => {
                return Err(wrong_type(&key, &origin.describe(&key), expected, value));
            }
        }
    }
    Ok(())
}

/// Reads a variable as the type that its key has.
pub(super) fn from_text(
    text: &str,
    expected: Option<&Value>,
    key: &Key,
    variable: &str,
) -> Result<Value, ConfigError> {
    let as_text = || Value::String(text.to_owned());
    let parsed = match expected {
        Some(Value::Boolean(_)) => boolean(text).map(Value::Boolean),
        Some(Value::Integer(_)) => text.parse().ok().map(Value::Integer),
        Some(Value::Float(_)) => text.parse().ok().map(Value::Float),
        Some(Value::Array(_)) => Some(list(text)),
        _ => Some(as_text()),
    };
    match (parsed, expected) {
        (Some(value), _) => Ok(value),
        (None, Some(expected)) => {
            Err(wrong_type(key, &layer::variable(variable), expected, &as_text()))
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

fn wrong_type(key: &Key, origin: &str, expected: &Value, found: &Value) -> ConfigError {
    let value = match found {
        Value::Table(_) | Value::Array(_) => String::new(),
        scalar => format!(" {}", quote(&scalar.to_string())),
    };
    ConfigError::WrongType {
        key: key.to_string(),
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
