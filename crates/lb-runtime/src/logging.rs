//! Log lines to the journal under systemd, to standard error otherwise.
//!
//! Levels mean: ERROR, somebody must act; WARN, degraded and going on; INFO, a change of state that
//! an operator wants to see; DEBUG, per request; TRACE, for whoever changes the code.
//!
//! In the journal each field is searchable (`journalctl LB_WORKER=alpha`), which it would not be in
//! text captured from standard error, and each kind of event has an explanation ([`crate::events`]).

mod journal;

use std::{
    env,
    fs::File,
    io::{self, IsTerminal},
    os::{fd::AsFd, unix::fs::MetadataExt},
};

use tracing_subscriber::{
    EnvFilter, Registry,
    filter::{LevelFilter, ParseError},
    fmt,
    layer::{Layer, SubscriberExt},
    reload,
    util::{SubscriberInitExt, TryInitError},
};

use self::journal::{Journal, Promises};
use crate::exit;

/// Libraries that write a line per packet or frame at the levels that are useful for our own code.
/// A filter that names one of them overrules this.
const QUIET: &str =
    "mdns_sd=warn,h2=warn,hyper=warn,hyper_util=warn,tower=warn,tonic=warn,mio=warn";

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The filter is malformed.
    #[error(
        "log filter {filter:?} is not valid: expected a level (error, warn, info, debug, trace, off) \
         or target=level pairs separated by commas"
    )]
    Filter {
        /// The filter.
        filter: String,
        /// What the parser says.
        source: ParseError,
    },
    /// A subscriber is installed already.
    #[error("logging was set up twice")]
    AlreadyInitialised(#[source] TryInitError),
    /// The subscriber is gone, so its filter cannot be changed.
    #[error("logging has ended")]
    Ended(#[source] reload::Error),
}

/// Changes the filter while the daemon runs.
#[derive(Debug, Clone)]
pub struct LogHandle {
    filter: reload::Handle<EnvFilter, Registry>,
}

impl LogHandle {
    /// Replaces the filter.
    ///
    /// # Errors
    /// A malformed filter; the old one stays.
    pub fn set_filter(&self, filter: &str) -> Result<(), LogError> {
        self.filter.reload(parse_filter(filter)?).map_err(LogError::Ended)
    }
}

/// Sets up logging for the process, once. `identifier` is the daemon's name in the journal; `filter`
/// is a level or `target=level` pairs, such as `info,lb_server=debug`.
///
/// # Errors
/// A malformed filter; a second call.
pub fn init(identifier: &str, filter: &str) -> Result<LogHandle, LogError> {
    let (filter, handle) = reload::Layer::new(parse_filter(filter)?);
    let (output, journal_failure) = output(identifier);
    tracing_subscriber::registry()
        .with(filter.and_then(output))
        .with(cfg!(debug_assertions).then_some(Promises))
        .try_init()
        .map_err(LogError::AlreadyInitialised)?;
    if let Some(error) = journal_failure {
        tracing::warn!(%error, "the journal cannot be reached, logging to standard error");
    }
    Ok(LogHandle { filter: handle })
}

/// Checks a filter without setting it.
///
/// # Errors
/// A malformed filter.
pub fn check(filter: &str) -> Result<(), LogError> {
    parse_filter(filter).map(drop)
}

/// Writes why a daemon ends to the journal, with an explanation, even if the log was never set up. Returns false where
/// there is no journal.
pub(crate) fn last_words(identifier: &str, code: u8, text: &str) -> bool {
    let Some(Ok(journal)) = to_journal().then(|| Journal::new(identifier)) else { return false };
    tracing::subscriber::with_default(Registry::default().with(journal), || {
        if code == exit::CONFIG {
            tracing::error!(event = "configuration_refused", "{text}");
        } else {
            tracing::error!(event = "failed", "{text}");
        }
    });
    true
}

type Output = Box<dyn Layer<Registry> + Send + Sync>;

/// The journal if systemd connected us to it; a journal that cannot be reached is no reason not to
/// run.
fn output(identifier: &str) -> (Output, Option<io::Error>) {
    if !to_journal() {
        return (standard_error(), None);
    }
    match Journal::new(identifier) {
        Ok(journal) => (journal.boxed(), None),
        Err(error) => (standard_error(), Some(error)),
    }
}

fn to_journal() -> bool {
    is_journal(env::var("JOURNAL_STREAM").ok().as_deref(), standard_error_file())
}

fn standard_error() -> Output {
    let colour = io::stderr().is_terminal() && env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
    fmt::layer().compact().with_ansi(colour).with_writer(io::stderr).boxed()
}

/// Whether standard error still is the journal's socket. `JOURNAL_STREAM` says which it was when
/// systemd started something; the variable is inherited by shells, so it alone says little, and
/// `INVOCATION_ID` says less: a terminal inside a systemd session has both.
fn is_journal(journal_stream: Option<&str>, standard_error: Option<(u64, u64)>) -> bool {
    let number = |text: &str| text.parse::<u64>().ok();
    let expected = journal_stream
        .and_then(|text| text.split_once(':'))
        .and_then(|(device, inode)| Some((number(device)?, number(inode)?)));
    expected.is_some() && expected == standard_error
}

/// Device and inode of standard error.
fn standard_error_file() -> Option<(u64, u64)> {
    let copy = io::stderr().as_fd().try_clone_to_owned().ok()?;
    let metadata = File::from(copy).metadata().ok()?;
    Some((metadata.dev(), metadata.ino()))
}

fn parse_filter(filter: &str) -> Result<EnvFilter, LogError> {
    let invalid = |source| LogError::Filter { filter: filter.to_owned(), source };
    // The parser takes an unknown level for the name of a target, and nothing for `error`.
    for directive in filter.split(',').map(str::trim) {
        let level = if directive.is_empty() { "nothing" } else { directive };
        if !level.contains(['=', '[', ':']) {
            level.parse::<LevelFilter>().map_err(|error| invalid(error.into()))?;
        }
    }
    EnvFilter::builder().parse(format!("{QUIET},{filter}")).map_err(invalid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_quiet_unless_named() {
        let shown = parse_filter("debug").unwrap().to_string();
        assert!(shown.contains("mdns_sd=warn") && shown.contains("debug"), "{shown}");
        let shown = parse_filter("info,mdns_sd=trace").unwrap().to_string();
        assert!(shown.contains("mdns_sd=trace") && !shown.contains("mdns_sd=warn"), "{shown}");
    }

    #[test]
    fn a_bad_filter_says_what_is_expected() {
        for filter in ["verbose", "lb_server=loud", "info,inof", "a=b=c", ""] {
            let error = parse_filter(filter).unwrap_err().to_string();
            let expected = format!("log filter {filter:?} is not valid: expected a level");
            assert!(error.starts_with(&expected), "{error}");
        }
        for filter in ["info", "WARN", "off", "info,lb_server=debug", "lb_core::policy=trace"] {
            parse_filter(filter).unwrap();
        }
    }

    #[test]
    fn the_journal_is_recognised_by_its_socket() {
        assert!(is_journal(Some("8:1234"), Some((8, 1234))));
        assert!(!is_journal(Some("8:1234"), Some((8, 99))), "standard error was redirected");
        assert!(!is_journal(Some("8:1234"), None));
        assert!(!is_journal(Some("nonsense"), Some((8, 1234))));
        assert!(!is_journal(None, Some((8, 1234))));
    }

    #[test]
    fn standard_error_has_a_device_and_an_inode() {
        assert!(standard_error_file().is_some());
    }
}
