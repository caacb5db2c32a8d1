//! Configuration in layers: built-in defaults < file < environment < flags.
//!
//! The defaults are a documented TOML file that is embedded in the daemon and installed under
//! `/etc/lb` as well, so a daemon works without any file and its file can be deleted or shortened
//! at will. Each layer may say less than the one below it.
//!
//! A daemon runs for months on what is read here, so nothing is guessed: a key that nobody reads
//! and a value of the wrong type are errors, and every error names the key, what was expected, and
//! the file or variable it came from.
//!
//! Variables are named after the keys: with the prefix `LB_SERVER_`, the variable
//! `LB_SERVER_LIMITS__SESSIONS` sets `sessions` in the table `limits`. Three keys that mean the
//! same to every daemon have a short name too: `LB_LOCAL`, `LB_CLUSTER`, `LB_LOG`. A list is
//! written with commas. An empty variable counts as not set.

mod check;
mod error;
mod layer;

use std::{env, path::PathBuf};

use ::config::Config;
use serde::{Serialize, de::DeserializeOwned};
use toml::Table;

pub use error::ConfigError;
use layer::{Layer, Origin};

/// Where the configuration of a daemon is looked for.
#[derive(Debug, Clone)]
pub struct Sources<'a> {
    /// The embedded default file: TOML with every key that has a default. Its values also say
    /// which type a key has.
    pub embedded: &'a str,
    /// The file of the machine.
    pub file: FileChoice,
    /// Variables and their values; usually [`process_environment`].
    pub environment: Vec<(String, String)>,
    /// What the daemon's own variables begin with, such as `LB_SERVER_`.
    pub environment_prefix: &'a str,
    /// What was said on the command line; usually from [`overrides`].
    pub overrides: Table,
}

/// The file layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileChoice {
    /// The usual place: no error when there is no file.
    Optional(PathBuf),
    /// A file that was asked for: it must exist.
    Required(PathBuf),
    /// No file at all.
    None,
}

impl FileChoice {
    /// The file that was asked for, or else `/etc/lb/NAME.toml` if there is one.
    pub fn new(explicit: Option<PathBuf>, name: &str) -> Self {
        match explicit {
            Some(path) => Self::Required(path),
            None => Self::Optional(PathBuf::from(format!("/etc/lb/{name}.toml"))),
        }
    }
}

/// The variables of this process; those that are not UTF-8 are left out.
pub fn process_environment() -> Vec<(String, String)> {
    env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

/// Turns parsed flags into the topmost layer. What is `None` says nothing.
///
/// # Errors
/// When a flag has no counterpart in TOML: an integer above 2^63 - 1, for one.
pub fn overrides(flags: &impl Serialize) -> Result<Table, ConfigError> {
    Table::try_from(flags).map_err(ConfigError::Flags)
}

/// Reads and merges all layers, and turns the result into a `T`.
///
/// # Errors
/// A file that cannot be read or is not TOML; a key that `T` does not have; a value of another type
/// than the default, or one that `T` does not accept; a key without default that nobody set.
pub fn load<T: DeserializeOwned>(sources: Sources<'_>) -> Result<T, ConfigError> {
    let defaults = Layer::parse(sources.embedded, Origin::Defaults)?;
    let mut layers = vec![defaults.clone()];
    layers.extend(Layer::read(&sources.file)?);
    layers.push(Layer::environment(
        sources.environment_prefix,
        &sources.environment,
        &defaults.table,
    )?);
    layers.push(Layer { table: sources.overrides, origin: Origin::CommandLine });
    for layer in &layers {
        check::types(layer, &defaults.table)?;
    }
    merge(&layers)
}

/// Merges the layers, lowest first, and reports what is wrong with the place it came from.
fn merge<T: DeserializeOwned>(layers: &[Layer]) -> Result<T, ConfigError> {
    let mut builder = Config::builder();
    for layer in layers {
        let source =
            Config::try_from(&layer.table).map_err(|error| error::explain(error, layers))?;
        builder = builder.add_source(source);
    }
    let merged = builder.build().map_err(|error| error::explain(error, layers))?;
    let mut unknown = None;
    let note_first = |path: serde_ignored::Path<'_>| {
        unknown.get_or_insert_with(|| path.to_string());
    };
    let value = serde_ignored::deserialize(merged, note_first)
        .map_err(|error| error::explain(error, layers))?;
    match unknown {
        Some(key) => Err(error::unknown_key(&key, "", layers)),
        None => Ok(value),
    }
}

#[cfg(test)]
mod tests;
