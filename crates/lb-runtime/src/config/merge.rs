//! Layer over layer, by the crate `config`.
//!
//! Only the merging is its own: a value keeps its type on the way there and back, and what it becomes is decided by the
//! checks around. (The crate itself would turn 1.5 into 1 and "4" into 4 where a whole number is asked for.)

use config::{
    Config, ConfigBuilder, ConfigError as MergeError, Map, Source, Value as Merged, ValueKind,
    builder::DefaultState,
};
use toml::{Table, Value};

use super::{ConfigError, Layer};

/// Lays each layer over those before it: tables are merged key by key, everything else is replaced.
pub(super) fn layers(layers: &[Layer]) -> Result<Table, ConfigError> {
    let lay =
        |builder: ConfigBuilder<DefaultState>, layer: &Layer| builder.add_source(layer.clone());
    let merged = layers.iter().fold(Config::builder(), lay).build();
    match back(merged.map_err(ConfigError::Merge)?.cache) {
        Some(Value::Table(table)) => Ok(table),
        _ => Ok(Table::new()),
    }
}

impl Source for Layer {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Merged>, MergeError> {
        Ok(there_all(&self.table))
    }
}

fn there_all(table: &Table) -> Map<String, Merged> {
    table.iter().map(|(name, value)| (name.clone(), there(value))).collect()
}

fn there(value: &Value) -> Merged {
    let kind = match value {
        Value::String(text) => ValueKind::String(text.clone()),
        Value::Integer(number) => ValueKind::I64(*number),
        Value::Float(number) => ValueKind::Float(*number),
        Value::Boolean(truth) => ValueKind::Boolean(*truth),
        // No key of ours is a date.
        Value::Datetime(date) => ValueKind::String(date.to_string()),
        Value::Array(values) => ValueKind::Array(values.iter().map(there).collect()),
        Value::Table(table) => ValueKind::Table(there_all(table)),
    };
    Merged::new(None, kind)
}

/// `None` for what TOML cannot say; no layer can have said it.
fn back(merged: Merged) -> Option<Value> {
    Some(match merged.kind {
        ValueKind::String(text) => Value::String(text),
        ValueKind::I64(number) => Value::Integer(number),
        ValueKind::Float(number) => Value::Float(number),
        ValueKind::Boolean(truth) => Value::Boolean(truth),
        ValueKind::Array(values) => Value::Array(values.into_iter().filter_map(back).collect()),
        ValueKind::Table(table) => {
            let kept = |(name, value)| Some((name, back(value)?));
            Value::Table(table.into_iter().filter_map(kept).collect())
        }
        _ => return None,
    })
}
