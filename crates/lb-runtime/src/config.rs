//! Configuration in layers: built-in defaults < file < environment < flags.
//!
//! The defaults are a documented TOML file that is embedded in the daemon and installed under
//! `/etc/lb` as well, so a daemon works without any file and its file can be deleted or shortened
//! at will. Each layer may say less than the one below it.
//!
//! A daemon runs for months on what is read here, so nothing is guessed or converted: a key that nobody
//! reads and a value of the wrong type are errors, and every error names the key, what was expected, and
//! the file or variable it came from.
//!
//! Variables are named after the keys: with the prefix `LB_SERVER_`, the variable
//! `LB_SERVER_LIMITS__SESSIONS` sets `sessions` in the table `limits`. Three keys that mean the
//! same to every daemon have a short name too: `LB_LOCAL`, `LB_CLUSTER`, `LB_LOG`. A list is
//! written with commas. An empty variable counts as not set.
//!
//! What is read again while the daemon runs is compared with what it runs with ([`Running`]).

mod check;
mod error;
mod key;
mod layer;
mod merge;
mod running;

use std::{env, fmt, path::PathBuf};

use serde::{Serialize, de::DeserializeOwned};
use toml::{Table, Value};

pub use self::{
    error::ConfigError,
    running::{Changes, Running},
};
use self::{
    key::Key,
    layer::{Layer, Origin},
};

/// Where the configuration of a daemon is looked for.
#[derive(Debug, Clone)]
pub struct Sources<'a> {
    /// The embedded default file: TOML with every key that has a default. A table that is empty here takes
    /// any keys.
    pub embedded: &'a str,
    /// TOML with an example of every key that has no default. Together with the defaults it says which keys
    /// there are, and of which type each is.
    pub examples: &'a str,
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

/// What was read, and where each value came from.
#[derive(Debug, Clone)]
pub struct Loaded<T> {
    /// The configuration.
    pub value: T,
    table: Table,
    layers: Vec<Layer>,
}

impl<T> Loaded<T> {
    /// The error for a value of the right type that the daemon cannot use. `key` is written with dots
    /// (`limits.sessions`).
    pub fn refuse(&self, key: &str, problem: impl fmt::Display) -> ConfigError {
        error::invalid(&Key::dotted(key), &problem.to_string(), &self.layers)
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
/// A file that cannot be read or is not TOML; a key that there is not; a value of another type than the
/// default or example, or one that `T` does not accept; a key without default that `T` needs and nobody set.
pub fn load<T: DeserializeOwned>(sources: Sources<'_>) -> Result<Loaded<T>, ConfigError> {
    let defaults = Layer::parse(sources.embedded, Origin::Defaults)?;
    let examples = Layer::parse(sources.examples, Origin::Defaults)?;
    let shape = merge::layers(&[defaults.clone(), examples])?;
    let mut layers = vec![defaults];
    layers.extend(Layer::read(&sources.file)?);
    layers.push(Layer::environment(sources.environment_prefix, &sources.environment, &shape)?);
    layers.push(Layer { table: sources.overrides, origin: Origin::CommandLine });
    for layer in &layers {
        check::layer(layer, &shape)?;
    }
    let table = merge::layers(&layers)?;
    let value = serde_path_to_error::deserialize(Value::Table(table.clone()))
        .map_err(|error| error::explain(&error, &layers))?;
    Ok(Loaded { value, table, layers })
}

#[cfg(test)]
mod tests;
