//! Which mode, and which files.

use std::{
    env, fmt,
    path::{Path, PathBuf},
    str::FromStr,
};

use serde::{Deserialize, Serialize};

use crate::{Role, TlsError};

/// Where the files are unless something else is said.
pub const DIRECTORY: &str = "/etc/lb/tls";
/// systemd puts credentials here.
const CREDENTIALS: &str = "CREDENTIALS_DIRECTORY";
const CA: &str = "lb-ca.crt";

/// How a process speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Plain. Nobody is known and everybody on the network can listen, and pretend to be anybody.
    Open,
    /// Encrypted; balancer and worker prove who they are.
    Tls,
    /// Encrypted; everybody proves who it is.
    Mtls,
}

impl Mode {
    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Tls => "tls",
            Self::Mtls => "mtls",
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.as_str())
    }
}

/// No mode.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown mode {0:?}: expected open, tls or mtls")]
pub struct UnknownMode(String);

impl FromStr for Mode {
    type Err = UnknownMode;

    fn from_str(text: &str) -> Result<Self, UnknownMode> {
        let all = [Self::Open, Self::Tls, Self::Mtls];
        let found = all.into_iter().find(|mode| mode.as_str() == text);
        found.ok_or_else(|| UnknownMode(text.chars().take(40).collect()))
    }
}

/// The mode alone, as a flag of a daemon says it: in its configuration it stands in a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct ModeFlag {
    mode: Mode,
}

impl FromStr for ModeFlag {
    type Err = UnknownMode;

    fn from_str(text: &str) -> Result<Self, UnknownMode> {
        Ok(Self { mode: text.parse()? })
    }
}

/// What was said about the mode and the files; by default nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Choice {
    /// The mode. Not said: the strictest that the files are there for.
    pub mode: Option<Mode>,
    /// Certificates of the authorities that are believed, PEM.
    pub ca: Option<PathBuf>,
    /// Our own certificate, with those between it and the authority after it, PEM.
    pub certificate: Option<PathBuf>,
    /// Its key, PEM.
    pub key: Option<PathBuf>,
}

/// The files of one process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Files {
    pub(crate) ca: PathBuf,
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

/// Which part a process plays: what its own certificate must say, and what its files are called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Server,
    Worker,
    Scaler,
    Client,
}

impl Part {
    pub(crate) fn may_be(self, role: Role) -> bool {
        match self {
            Self::Server => role == Role::Server,
            Self::Worker => role == Role::Worker,
            Self::Scaler => role == Role::Scaler,
            Self::Client => matches!(role, Role::Client | Role::Admin),
        }
    }

    fn file(self) -> &'static str {
        match self {
            Self::Server => "lb-server",
            Self::Worker => "lb-worker",
            Self::Scaler => "lb-scaler",
            Self::Client => "lb-client",
        }
    }

    /// For people.
    pub(crate) fn expected(self) -> &'static str {
        match self {
            Self::Server => "lb://CLUSTER/server/NAME",
            Self::Worker => "lb://CLUSTER/worker/ID",
            Self::Scaler => "lb://CLUSTER/scaler/ID",
            Self::Client => "lb://CLUSTER/client/NAME or lb://CLUSTER/admin/NAME",
        }
    }

    /// Where its files are looked for, the last place for those that are nowhere.
    fn places(self) -> Vec<PathBuf> {
        let absolute =
            |variable| env::var_os(variable).map(PathBuf::from).filter(|path| path.is_absolute());
        let own = match self {
            Self::Server | Self::Worker | Self::Scaler => absolute(CREDENTIALS),
            Self::Client => absolute("XDG_CONFIG_HOME")
                .or_else(|| Some(absolute("HOME")?.join(".config")))
                .map(|config| config.join("lb/tls")),
        };
        own.into_iter().chain([PathBuf::from(DIRECTORY)]).collect()
    }
}

impl Choice {
    /// The mode, and the files for it.
    pub(crate) fn settle(&self, part: Part) -> Result<(Mode, Files), TlsError> {
        self.settle_in(part, &part.places())
    }

    fn settle_in(&self, part: Part, places: &[PathBuf]) -> Result<(Mode, Files), TlsError> {
        let find = |said: &Option<PathBuf>, name: &str| match said {
            Some(path) => path.clone(),
            None => find(places, name),
        };
        let files = Files {
            ca: find(&self.ca, CA),
            certificate: find(&self.certificate, &format!("{}.crt", part.file())),
            key: find(&self.key, &format!("{}.key", part.file())),
        };
        match self.mode {
            Some(mode) => Ok((mode, files)),
            None => Ok((self.found(part, &files)?, files)),
        }
    }

    /// The strictest mode that there are files for. A file that was named counts: whoever names one wants it used.
    fn found(&self, part: Part, files: &Files) -> Result<Mode, TlsError> {
        let there = |said: &Option<PathBuf>, path: &Path| said.is_some() || path.exists();
        let all = [
            (there(&self.ca, &files.ca), &files.ca),
            (there(&self.certificate, &files.certificate), &files.certificate),
            (there(&self.key, &files.key), &files.key),
        ];
        let present = all.iter().find(|(there, _)| *there);
        let missing = all.iter().find(|(there, _)| !there);
        match (present, missing) {
            (None, _) => Ok(Mode::Open),
            (_, None) => Ok(Mode::Mtls),
            _ if part == Part::Client && !all[1].0 && !all[2].0 => Ok(Mode::Tls),
            (Some((_, there)), Some((_, missing))) => {
                Err(TlsError::Incomplete { there: (*there).clone(), missing: (*missing).clone() })
            }
        }
    }
}

fn find(places: &[PathBuf], name: &str) -> PathBuf {
    let mut candidates = places.iter().map(|place| place.join(name));
    let last = candidates.next_back().unwrap_or_else(|| Path::new(DIRECTORY).join(name));
    candidates.find(|path| path.exists()).unwrap_or(last)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn settle(part: Part, places: &[PathBuf]) -> Result<(Mode, Files), TlsError> {
        Choice::default().settle_in(part, places)
    }

    #[test]
    fn the_files_that_are_there_decide() {
        let (own, common) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let places = [own.path().to_owned(), common.path().to_owned()];
        let mode = |part| settle(part, &places).map(|(mode, _)| mode);
        assert_eq!(mode(Part::Worker).unwrap(), Mode::Open);
        fs::write(common.path().join("lb-ca.crt"), "").unwrap();
        assert_eq!(mode(Part::Client).unwrap(), Mode::Tls);
        let error = mode(Part::Worker).unwrap_err().to_string();
        assert!(error.contains("lb-worker.crt"), "{error}");
        for name in ["lb-worker.crt", "lb-worker.key", "lb-client.key"] {
            fs::write(own.path().join(name), "").unwrap();
        }
        assert_eq!(mode(Part::Worker).unwrap(), Mode::Mtls);
        let error = mode(Part::Client).unwrap_err().to_string();
        assert!(error.contains("lb-client.crt"), "{error}");
        let (_, files) = settle(Part::Worker, &places).unwrap();
        assert_eq!(
            (files.ca, files.key),
            (common.path().join(CA), own.path().join("lb-worker.key"))
        );
    }

    #[test]
    fn what_was_said_counts() {
        let nowhere = tempfile::tempdir().unwrap();
        let places = [nowhere.path().to_owned()];
        let said = Choice { mode: Some(Mode::Tls), ..Choice::default() };
        assert_eq!(said.settle_in(Part::Server, &places).unwrap().0, Mode::Tls);
        let said = Choice { key: Some("k".into()), ..Choice::default() };
        let error = said.settle_in(Part::Server, &places).unwrap_err().to_string();
        assert!(
            error.starts_with("k is to be used, but") && error.contains("lb-ca.crt"),
            "{error}"
        );
        let said = Choice { mode: Some(Mode::Open), ..said };
        assert_eq!(said.settle_in(Part::Server, &places).unwrap().0, Mode::Open);
        let error = "on".parse::<Mode>().unwrap_err().to_string();
        assert_eq!(error, "unknown mode \"on\": expected open, tls or mtls");
    }
}
