//! A configuration from bytes.

use std::{collections::BTreeMap, env, fs, process};

use lb_runtime::config::{self, FileChoice, Sources};

use super::{DEFAULTS, ENVIRONMENT_PREFIX, EXAMPLES, Raw};

/// Reads bytes as a configuration file and, after a NUL each, as variables of the environment (`NAME=value`). Whatever is
/// wrong with them is said in one line.
pub fn config(data: &[u8]) {
    let mut parts = data.split(|byte| *byte == 0);
    let path = env::temp_dir().join(format!("lb-fuzz-worker-{}.toml", process::id()));
    fs::write(&path, parts.next().unwrap_or_default()).expect("the temporary folder takes a file");
    let pair = |part: &[u8]| {
        let (name, value) = str::from_utf8(part).ok()?.split_once('=')?;
        Some((name.to_owned(), value.to_owned()))
    };
    let loaded = Raw::read(Sources {
        embedded: DEFAULTS,
        examples: EXAMPLES,
        file: FileChoice::Required(path),
        environment: parts.filter_map(pair).collect(),
        environment_prefix: ENVIRONMENT_PREFIX,
        overrides: config::overrides(&BTreeMap::<&str, &str>::new()).expect("no flags"),
    });
    if let Err(error) = loaded {
        let error = error.to_string();
        assert!(!error.contains('\n'), "more than one line: {error}");
        assert!(error.len() < 2000, "an error of {} bytes", error.len());
    }
}
