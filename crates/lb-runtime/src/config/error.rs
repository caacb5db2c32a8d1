//! What can be wrong with a configuration, in words for the person who wrote it.

use std::{io, path::PathBuf};

use super::layer::{Layer, origin_of};

/// A configuration that cannot be used. Each message is one line.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file exists, or was asked for, and cannot be read.
    #[error("cannot read the configuration file {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Not TOML.
    #[error("{origin}, line {line}, column {column}: {message}")]
    Syntax {
        /// The file.
        origin: String,
        /// Line, from 1.
        line: usize,
        /// Column in characters, from 1.
        column: usize,
        /// What the parser expected.
        message: String,
    },
    /// A key that nobody reads.
    #[error("unknown key `{key}` in {origin}{hint}")]
    UnknownKey {
        /// The key with its tables, joined by dots.
        key: String,
        /// The file, variable or command line.
        origin: String,
        /// Nothing, or `; ` and what was expected.
        hint: String,
    },
    /// A value of the wrong type.
    #[error("key `{key}` in {origin}: expected {expected}, found {found}")]
    WrongType {
        /// The key with its tables, joined by dots.
        key: String,
        /// The file, variable or command line.
        origin: String,
        /// Type that was expected.
        expected: String,
        /// Type and value that was found.
        found: String,
    },
    /// A value of the right type that is not acceptable.
    #[error("key `{key}` in {origin}: {message}")]
    Invalid {
        /// The key with its tables, joined by dots.
        key: String,
        /// The file, variable or command line.
        origin: String,
        /// What was expected.
        message: String,
    },
    /// A key without a default that nobody set.
    #[error("key `{0}` is not set and has no default")]
    Missing(String),
    /// Something is wrong that belongs to no single key.
    #[error("configuration: {0}")]
    Other(String),
    /// The flags cannot be written as TOML.
    #[error("the command line cannot be turned into configuration")]
    Flags(#[source] toml::ser::Error),
}

/// How much of a value an error repeats, in characters.
const QUOTE_LIMIT: usize = 80;

/// Names a key that nobody reads.
pub(super) fn unknown_key(key: &str, hint: &str, layers: &[Layer]) -> ConfigError {
    let origin = origin_of(key, layers).unwrap_or_else(|| "the configuration".to_owned());
    ConfigError::UnknownKey { key: key.to_owned(), origin, hint: hint.to_owned() }
}

/// Turns what the merge or the deserialisation said into an error with key and origin.
pub(super) fn explain(error: config::ConfigError, layers: &[Layer]) -> ConfigError {
    use config::ConfigError as Merge;
    match error {
        Merge::NotFound(key) => ConfigError::Missing(key),
        Merge::Type { unexpected, expected, key: Some(key), .. } => ConfigError::WrongType {
            origin: origin_of(&key, layers).unwrap_or_else(|| "the configuration".to_owned()),
            expected: expected.to_owned(),
            found: quote(&unexpected.to_string().replace('`', "")),
            key,
        },
        Merge::At { error, key: Some(key), .. } => refused(&key, &error.to_string(), layers),
        other => refused("", &other.to_string(), layers),
    }
}

/// `message` is serde's. Where the type denies unknown fields itself, it names the field, and `key`
/// is the table that holds it.
fn refused(key: &str, message: &str, layers: &[Layer]) -> ConfigError {
    let field = message.strip_prefix("unknown field `").and_then(|rest| rest.split_once('`'));
    if let Some((field, rest)) = field {
        let key = if key.is_empty() { field.to_owned() } else { format!("{key}.{field}") };
        return unknown_key(&key, &rest.replacen(", expected", "; expected", 1), layers);
    }
    if let Some(field) = message.strip_prefix("missing field `") {
        let field = field.trim_end_matches('`');
        let dot = if key.is_empty() { "" } else { "." };
        return ConfigError::Missing(format!("{key}{dot}{field}"));
    }
    match origin_of(key, layers) {
        Some(origin) => {
            ConfigError::Invalid { key: key.to_owned(), origin, message: one_line(message) }
        }
        None => ConfigError::Other(one_line(message)),
    }
}

/// Shortens what is repeated from the configuration.
pub(super) fn quote(text: &str) -> String {
    let mut quoted: String = text.chars().take(QUOTE_LIMIT).collect();
    if quoted.len() < text.len() {
        quoted.push('…');
    }
    one_line(&quoted)
}

/// Makes one line of a message that has several.
pub(super) fn one_line(text: &str) -> String {
    text.split('\n').map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(", ")
}
