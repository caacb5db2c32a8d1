//! The name of a key: its tables and itself. A part may hold any text, dots and line ends included.

use std::fmt;

use serde_path_to_error::{Path, Segment};
use toml::{Table, Value};

/// A key, from the outermost table inwards.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) struct Key(Vec<String>);

impl Key {
    /// A key of ours, written with dots.
    pub(super) fn dotted(text: &str) -> Self {
        text.split('.').map(str::to_owned).collect()
    }

    /// Where deserialisation stopped. An index in a list is left out.
    pub(super) fn of(path: &Path) -> Self {
        let name = |segment: &Segment| match segment {
            Segment::Map { key } => Some(key.clone()),
            _ => None,
        };
        path.iter().filter_map(name).collect()
    }

    /// A key inside this one.
    pub(super) fn child(&self, name: &str) -> Self {
        let mut parts = self.0.clone();
        parts.push(name.to_owned());
        Self(parts)
    }

    /// What this key has in a layer.
    pub(super) fn find<'a>(&self, table: &'a Table) -> Option<&'a Value> {
        let (first, rest) = self.0.split_first()?;
        rest.iter().try_fold(table.get(first)?, |value, name| value.as_table()?.get(name))
    }

    /// Sets it, with the tables around it.
    pub(super) fn insert(&self, table: &mut Table, value: Value) {
        let Some((last, tables)) = self.0.split_last() else { return };
        let mut here = table;
        for name in tables {
            let entry = here.entry(name).or_insert_with(|| Value::Table(Table::new()));
            if !entry.is_table() {
                *entry = Value::Table(Table::new());
            }
            let Value::Table(inner) = entry else { unreachable!("made a table above") };
            here = inner;
        }
        here.insert(last.clone(), value);
    }

    /// Takes it out.
    pub(super) fn remove(&self, table: &mut Table) {
        let Some((last, tables)) = self.0.split_last() else { return };
        let inside =
            tables.iter().try_fold(table, |table, name| table.get_mut(name)?.as_table_mut());
        if let Some(inside) = inside {
            inside.remove(last);
        }
    }

    /// Whether `other` is this key or inside it.
    pub(super) fn holds(&self, other: &Self) -> bool {
        other.0.starts_with(&self.0)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<String> for Key {
    fn from_iter<I: IntoIterator<Item = String>>(parts: I) -> Self {
        Self(parts.into_iter().collect())
    }
}

impl fmt::Display for Key {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, part) in self.0.iter().enumerate() {
            let dot = if index == 0 { "" } else { "." };
            if part.contains(|letter: char| letter == '.' || letter.is_control()) {
                write!(formatter, "{dot}{part:?}")?;
            } else {
                write!(formatter, "{dot}{part}")?;
            }
        }
        Ok(())
    }
}
