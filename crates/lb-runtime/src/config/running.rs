//! What a daemon runs with, against what it reads later.
//!
//! Some keys take effect while the daemon runs, the others when it is started anew. So what it runs with is after a
//! reload neither the old configuration nor the new one, and is kept here.

use toml::{Table, Value};

use super::{Loaded, error::quote, key::Key};

/// What a daemon runs with.
#[derive(Debug, Clone)]
pub struct Running {
    table: Table,
    live: Vec<Key>,
}

/// How a configuration differs from the one before.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Changes {
    /// `key = value` for each that is in force from now on.
    pub applied: Vec<String>,
    /// Each key that needs a restart.
    pub restart: Vec<String>,
}

impl Running {
    /// Just started with `loaded`. The keys `live`, written with dots, can be changed while it runs.
    pub fn new<T>(loaded: &Loaded<T>, live: &[&str]) -> Self {
        let live = live.iter().map(|key| Key::dotted(key)).collect();
        Self { table: loaded.table.clone(), live }
    }

    /// Takes over the live keys of `loaded`, and says what is different.
    pub fn adopt<T>(&mut self, loaded: &Loaded<T>) -> Changes {
        let mut different = Vec::new();
        differences(&self.table, &loaded.table, &Key::default(), &mut different);
        let mut changes = Changes::default();
        for key in different {
            if !self.live.iter().any(|live| live.holds(&key)) {
                changes.restart.push(key.to_string());
                continue;
            }
            if let Some(value) = key.find(&loaded.table) {
                changes.applied.push(format!("{key} = {}", quote(&value.to_string())));
                key.insert(&mut self.table, value.clone());
            } else {
                changes.applied.push(format!("{key} not set"));
                key.remove(&mut self.table);
            }
        }
        changes
    }
}

fn differences(old: &Table, new: &Table, prefix: &Key, found: &mut Vec<Key>) {
    let mut names: Vec<&String> = old.keys().chain(new.keys()).collect();
    names.sort();
    names.dedup();
    for name in names {
        let key = prefix.child(name);
        match (old.get(name), new.get(name)) {
            (Some(Value::Table(old)), Some(Value::Table(new))) => {
                differences(old, new, &key, found);
            }
            (old, new) if old == new => {}
            _ => found.push(key),
        }
    }
}
