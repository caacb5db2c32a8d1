//! One layer: a TOML table and where it came from.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use toml::Table;

use super::{
    ConfigError, FileChoice, check,
    error::{one_line, quote},
    key::Key,
};

/// What every daemon's variables may also be called.
const COMMON_VARIABLES: [(&str, &str); 3] =
    [("LB_LOCAL", "local"), ("LB_CLUSTER", "cluster"), ("LB_LOG", "log")];
/// What follows the prefix in the variable that names the file itself, which is not a key of it.
const FILE_VARIABLE: &str = "CONFIG";
/// What separates a table from its key in the name of a variable.
const TABLE_SEPARATOR: &str = "__";

/// A table of settings.
#[derive(Debug, Clone)]
pub(super) struct Layer {
    pub(super) table: Table,
    pub(super) origin: Origin,
}

/// Where a layer came from.
#[derive(Debug, Clone)]
pub(super) enum Origin {
    Defaults,
    File(PathBuf),
    /// Name of the variable for each key.
    Environment(BTreeMap<Key, String>),
    CommandLine,
}

impl Origin {
    /// Names the place for the reader of an error.
    pub(super) fn describe(&self, key: &Key) -> String {
        match self {
            Self::Defaults => "the built-in defaults".to_owned(),
            Self::File(path) => path.display().to_string(),
            Self::Environment(variables) => {
                let found = variables.iter().find(|(candidate, _)| key.holds(candidate));
                found.map_or("the environment".to_owned(), |(_, name)| variable(name))
            }
            Self::CommandLine => "the command line".to_owned(),
        }
    }
}

/// Names a variable; its name may hold anything.
pub(super) fn variable(name: &str) -> String {
    format!("the environment variable {}", quote(name))
}

/// The place where `key` has its value from: the topmost layer that has it.
pub(super) fn origin_of(key: &Key, layers: &[Layer]) -> Option<String> {
    let layer = layers.iter().rev().find(|layer| key.find(&layer.table).is_some())?;
    Some(layer.origin.describe(key))
}

impl Layer {
    /// Reads the file layer, if there is one.
    pub(super) fn read(choice: &FileChoice) -> Result<Option<Self>, ConfigError> {
        let (path, required): (&Path, bool) = match choice {
            FileChoice::None => return Ok(None),
            FileChoice::Optional(path) => (path, false),
            FileChoice::Required(path) => (path, true),
        };
        match fs::read_to_string(path) {
            Ok(text) => Self::parse(&text, Origin::File(path.to_owned())).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound && !required => Ok(None),
            Err(source) => Err(ConfigError::Read { path: path.to_owned(), source }),
        }
    }

    pub(super) fn parse(text: &str, origin: Origin) -> Result<Self, ConfigError> {
        match text.parse() {
            Ok(table) => Ok(Self { table, origin }),
            Err(error) => Err(syntax_error(text, &origin, &error)),
        }
    }

    /// Collects the variables that begin with `prefix`, and the common ones below them. A value
    /// takes the type of its key in `shape`; where there is none it stays text.
    pub(super) fn environment(
        prefix: &str,
        variables: &[(String, String)],
        shape: &Table,
    ) -> Result<Self, ConfigError> {
        let mut table = Table::new();
        let mut names = BTreeMap::new();
        for (key, name, text) in ordered(prefix, variables) {
            let value = check::from_text(text, key.find(shape), &key, name)?;
            key.insert(&mut table, value);
            names.insert(key, name.to_owned());
        }
        Ok(Self { table, origin: Origin::Environment(names) })
    }
}

/// Key, variable and value of all variables that matter, the common ones first so that a daemon's
/// own overrule them, and in one order whatever the process was given.
fn ordered<'a>(prefix: &str, variables: &'a [(String, String)]) -> Vec<(Key, &'a str, &'a str)> {
    let mut found = Vec::new();
    for (name, text) in variables.iter().filter(|(_, text)| !text.is_empty()) {
        if let Some((_, key)) = COMMON_VARIABLES.iter().find(|(common, _)| common == name) {
            found.push((0, Key::dotted(key), name.as_str(), text.as_str()));
        } else if let Some(rest) = name.strip_prefix(prefix).filter(|rest| *rest != FILE_VARIABLE) {
            let key = rest.to_ascii_lowercase().split(TABLE_SEPARATOR).map(str::to_owned).collect();
            found.push((1, key, name.as_str(), text.as_str()));
        }
    }
    found.sort();
    found.into_iter().map(|(_, key, name, text)| (key, name, text)).collect()
}

fn syntax_error(text: &str, origin: &Origin, error: &toml::de::Error) -> ConfigError {
    let start = error.span().map_or(text.len(), |span| span.start.min(text.len()));
    let before = text.get(..start).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |index| index + 1);
    ConfigError::Syntax {
        origin: origin.describe(&Key::default()),
        line: before.matches('\n').count() + 1,
        column: before[line_start..].chars().count() + 1,
        message: one_line(error.message()),
    }
}
