//! Why a process cannot speak TLS.

use std::{io, path::PathBuf};

use lb_core::id::ClusterName;

use crate::{Identity, NoIdentity};

/// What is wrong with the files.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// Some of the files are there and some are not, and nobody said what that means.
    #[error(
        "{} is to be used, but there is no {}: put it there, or set the mode to open",
        there.display(), missing.display()
    )]
    Incomplete {
        /// One that is there, or was named.
        there: PathBuf,
        /// One that is not.
        missing: PathBuf,
    },
    /// A file cannot be read.
    #[error("cannot read {}: {source}", file.display())]
    Read {
        /// The setting that names it.
        setting: &'static str,
        /// Which.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Something else than PEM, or PEM of something else.
    #[error("{} holds no {expected} in PEM form", file.display())]
    Pem {
        /// The setting that names it.
        setting: &'static str,
        /// Which.
        file: PathBuf,
        /// What should be in it.
        expected: &'static str,
    },
    /// The certificate of an authority cannot be used.
    #[error("{} holds a certificate that cannot be an authority's: {source}", file.display())]
    Authority {
        /// Which.
        file: PathBuf,
        /// Why.
        source: webpki::Error,
    },
    /// A key that does not belong to the certificate, or of an unknown kind.
    #[error(
        "the key in {} does not go with the certificate in {}: {source}",
        key.display(), certificate.display()
    )]
    Key {
        /// The file of the key.
        key: PathBuf,
        /// The file of the certificate.
        certificate: PathBuf,
        /// Why.
        source: rustls::Error,
    },
    /// Our own certificate says nothing about us.
    #[error("{} cannot be used: {source}", file.display())]
    Identity {
        /// Which.
        file: PathBuf,
        /// Why.
        source: NoIdentity,
    },
    /// Our own certificate is somebody else's.
    #[error("the certificate in {} is that of {found}: expected one of {expected}", file.display())]
    Role {
        /// Which.
        file: PathBuf,
        /// Whose it is.
        found: Box<Identity>,
        /// Whose it should be.
        expected: &'static str,
    },
    /// Our own certificate is of another cluster.
    #[error("the certificate in {} is that of {found}: the cluster here is {cluster}", file.display())]
    Cluster {
        /// Which.
        file: PathBuf,
        /// Whose it is.
        found: Box<Identity>,
        /// Ours.
        cluster: ClusterName,
    },
    /// Nobody would believe our own certificate.
    #[error(
        "the certificate in {} is not one that {} vouches for: {source}",
        file.display(), ca.display()
    )]
    Chain {
        /// Which.
        file: PathBuf,
        /// The file of the authority.
        ca: PathBuf,
        /// Why.
        source: webpki::Error,
    },
    /// Read again, and it cannot be used now.
    #[error("the certificate in {} is not valid now", file.display())]
    NotValidNow {
        /// Which.
        file: PathBuf,
    },
    /// Read again, and it is another one's: whoever knows this process knows it by its old name.
    #[error(
        "the certificate in {} is that of {found}{}: this process is {running}{}",
        file.display(), found.with_instances(), running.with_instances()
    )]
    Changed {
        /// Which.
        file: PathBuf,
        /// Whose it is.
        found: Box<Identity>,
        /// Whose it was.
        running: Box<Identity>,
    },
}

impl TlsError {
    /// The setting at fault: `ca`, `certificate`, `key` or `mode`.
    pub fn setting(&self) -> &'static str {
        match self {
            Self::Incomplete { .. } => "mode",
            Self::Read { setting, .. } | Self::Pem { setting, .. } => setting,
            Self::Key { .. } => "key",
            Self::Authority { .. } => "ca",
            _ => "certificate",
        }
    }
}
