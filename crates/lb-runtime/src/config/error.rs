//! What can be wrong with a configuration, in words for the person who wrote it.

use std::{io, path::PathBuf};

use toml::Table;

use super::{
    key::Key,
    layer::{Layer, origin_of},
};

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
    #[error("unknown key `{key}` in {origin}: expected {expected}")]
    UnknownKey {
        /// The key with its tables, joined by dots.
        key: String,
        /// The file, variable or command line.
        origin: String,
        /// The keys that there are.
        expected: String,
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
    /// The layers cannot be laid over one another.
    #[error("cannot merge the layers of the configuration")]
    Merge(#[source] config::ConfigError),
    /// Something is wrong that belongs to no single key.
    #[error("configuration: {0}")]
    Other(String),
    /// The flags cannot be written as TOML.
    #[error("the command line cannot be turned into configuration")]
    Flags(#[source] toml::ser::Error),
}

/// How much of a value an error repeats, in characters.
const QUOTE_LIMIT: usize = 80;

/// Names a key that nobody reads, and those that there are beside it.
pub(super) fn unknown_key(key: &Key, known: &Table, origin: &str) -> ConfigError {
    let mut names: Vec<String> = known.keys().map(|name| format!("`{name}`")).collect();
    names.sort();
    let last = names.pop().unwrap_or_default();
    let expected = if names.is_empty() { last } else { format!("{} or {last}", names.join(", ")) };
    ConfigError::UnknownKey { key: quote(&key.to_string()), origin: origin.to_owned(), expected }
}

/// Names a value that is not acceptable, and the place it came from.
pub(super) fn invalid(key: &Key, message: &str, layers: &[Layer]) -> ConfigError {
    match origin_of(key, layers) {
        Some(origin) => {
            ConfigError::Invalid { key: key.to_string(), origin, message: one_line(message) }
        }
        None => ConfigError::Other(one_line(message)),
    }
}

/// Turns what deserialisation said into an error with key and origin.
pub(super) fn explain(
    error: &serde_path_to_error::Error<toml::de::Error>,
    layers: &[Layer],
) -> ConfigError {
    let key = Key::of(error.path());
    let message = error.inner().message();
    if let Some(field) = message.strip_prefix("missing field `") {
        return ConfigError::Missing(key.child(field.trim_end_matches('`')).to_string());
    }
    let mismatch = ["invalid type: ", "invalid value: "]
        .iter()
        .find_map(|prefix| message.strip_prefix(prefix)?.rsplit_once(", expected "));
    match mismatch {
        Some((found, expected)) => {
            let found = quote(&found.replace('`', ""));
            invalid(&key, &format!("expected {}, found {found}", plain(expected)), layers)
        }
        None => invalid(&key, message, layers),
    }
}

/// What serde expects, in words.
fn plain(expected: &str) -> &str {
    match expected {
        "u16" => "an integer from 0 to 65535",
        "u32" => "an integer from 0 to 4294967295",
        "u64" | "usize" => "an integer of at least 0",
        "a string" => "text",
        other => other,
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
