//! An authority and what it has signed, as files:
//!
//! ```text
//! pki/lb-ca.crt          for everybody
//! pki/lb-ca.key          stays here
//! pki/worker-box-1/      everything for /etc/lb/tls of one machine
//!     lb-ca.crt  lb-worker.crt  lb-worker.key
//! ```
//!
//! Nothing is overwritten unless that was asked for, and a file is there whole or not at all.

use std::{
    fs::{self, OpenOptions, Permissions},
    io::{self, Write as _},
    ops::Range,
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use rustls::pki_types::{CertificateDer, pem::PemObject};

use lb_core::id::ClusterName;
use lb_tls::{Choice, Identity, Role, Tls, TlsError, Validity};

use crate::{Authority, AuthorityError};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// How long an authority is good. To change it means to visit every machine.
pub const AUTHORITY_LIFETIME: Duration = DAY.saturating_mul(3650);
/// How long a certificate is good, unless told otherwise: long enough for machines that nobody looks after every month.
pub const LIFETIME: Duration = DAY.saturating_mul(365);
/// What is left of it when it is time to renew it.
pub const RENEW_WITHIN: Duration = DAY.saturating_mul(30);
/// Certificates begin in the past, because the clock of another machine may be behind.
const BACKDATED: Duration = Duration::from_secs(60 * 60);

const CA_CERTIFICATE: &str = "lb-ca.crt";
const CA_KEY: &str = "lb-ca.key";
/// Everybody may read it.
const PUBLIC: u32 = 0o644;
/// Its owner alone may.
const SECRET: u32 = 0o600;

/// What went wrong with the files.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// It would be overwritten.
    #[error("{} is there already: nothing was written; --force replaces it", .0.display())]
    Exists(PathBuf),
    /// A worker and an instance of another one would have the same name.
    #[error(
        "{0} and {1} are good for a worker of the same name: nothing was written; give one of them another id"
    )]
    Namesake(Box<Identity>, Box<Identity>),
    /// There is no authority.
    #[error("there is no {}: make an authority with \"lbctl pki init\"", .0.display())]
    NoAuthority(PathBuf),
    /// Cannot be read.
    #[error("cannot read {}: {source}", file.display())]
    Read {
        /// Which.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Cannot be written.
    #[error("cannot write {}: {source}", file.display())]
    Write {
        /// Which.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The authority cannot sign.
    #[error("the authority in {} cannot be used: {source}", directory.display())]
    Authority {
        /// Where it is.
        directory: PathBuf,
        /// Why.
        source: AuthorityError,
    },
    /// What was made, or was there, would not be believed.
    #[error(transparent)]
    Unbelievable(#[from] TlsError),
}

/// Where an authority and its certificates are kept.
#[derive(Debug)]
pub struct Folder {
    directory: PathBuf,
    authority: Authority,
}

impl Folder {
    /// Makes a new authority in `directory`, which is made too.
    ///
    /// # Errors
    /// [`FolderError::Exists`] unless `force`; if it cannot be made or written.
    pub fn init(directory: &Path, cluster: ClusterName, force: bool) -> Result<Self, FolderError> {
        let key = directory.join(CA_KEY);
        if key.exists() && !force {
            return Err(FolderError::Exists(key));
        }
        let authority = Authority::new(cluster, valid(AUTHORITY_LIFETIME))
            .map_err(|source| unusable(directory, source))?;
        make(directory)?;
        write(&key, &authority.key(), SECRET)?;
        write(&directory.join(CA_CERTIFICATE), authority.certificate(), PUBLIC)?;
        Ok(Self { directory: directory.to_owned(), authority })
    }

    /// Takes the authority that is in `directory`.
    ///
    /// # Errors
    /// If there is none, or it cannot be used.
    pub fn open(directory: &Path) -> Result<Self, FolderError> {
        let (certificate, key) = (directory.join(CA_CERTIFICATE), directory.join(CA_KEY));
        if !key.exists() {
            return Err(FolderError::NoAuthority(key));
        }
        let authority = Authority::from_pem(read(&certificate)?, &read(&key)?);
        let authority = authority.map_err(|source| unusable(directory, source))?;
        Ok(Self { directory: directory.to_owned(), authority })
    }

    /// The cluster that it is for.
    pub fn cluster(&self) -> &ClusterName {
        self.authority.cluster()
    }

    /// Makes a certificate for somebody of this cluster, good for `lifetime` from now on, and returns the folder that it is in.
    ///
    /// # Errors
    /// [`FolderError::Exists`] unless `force`; if it cannot be made or written.
    pub fn issue(
        &self,
        identity: &Identity,
        lifetime: Duration,
        force: bool,
    ) -> Result<PathBuf, FolderError> {
        let folder = self.directory.join(format!("{}-{}", identity.role, identity.name));
        let choice = choice(&folder, identity.role);
        let [Some(certificate), Some(key), Some(ca)] = [choice.certificate, choice.key, choice.ca]
        else {
            unreachable!("all three are named");
        };
        if !force && let Some(there) = [&certificate, &key].into_iter().find(|file| file.exists()) {
            return Err(FolderError::Exists(there.clone()));
        }
        self.check_namesakes(identity)?;
        let issued = self.authority.issue(identity, valid(lifetime));
        let issued = issued.map_err(|source| unusable(&self.directory, source))?;
        make(&folder)?;
        write(&ca, self.authority.certificate(), PUBLIC)?;
        write(&key, &issued.key, SECRET)?;
        write(&certificate, &issued.certificate, PUBLIC)?;
        // Whoever gets it would refuse it otherwise: the key and the certificate of the authority may not belong together.
        load(&folder, identity)?;
        Ok(folder)
    }

    /// One machine's workers must not be called like another's.
    fn check_namesakes(&self, identity: &Identity) -> Result<(), FolderError> {
        if identity.role != Role::Worker {
            return Ok(());
        }
        let others = self.issued()?.into_iter().map(|(_, other)| other);
        let is_namesake = |other: &Identity| {
            other.role == Role::Worker
                && other.name != identity.name
                && (identity.is_worker(&other.name) || other.is_worker(&identity.name))
        };
        match others.into_iter().find(is_namesake) {
            None => Ok(()),
            Some(other) => Err(FolderError::Namesake(Box::new(identity.clone()), Box::new(other))),
        }
    }

    /// Makes new certificates, with new keys, in place of those that end within `margin`, and returns their folders with whose
    /// they are.
    ///
    /// # Errors
    /// The first that cannot be read or written; those before it have been renewed.
    pub fn renew(
        &self,
        margin: Duration,
        lifetime: Duration,
    ) -> Result<Vec<(PathBuf, Identity)>, FolderError> {
        let mut renewed = Vec::new();
        for (folder, identity) in self.issued()? {
            let validity = load(&folder, &identity)?.validity(SystemTime::now(), margin);
            if matches!(validity, Validity::EndsSoon | Validity::Ended) {
                renewed.push((self.issue(&identity, lifetime, true)?, identity));
            }
        }
        Ok(renewed)
    }

    /// Everybody who has a certificate here, by name of the folder.
    fn issued(&self) -> Result<Vec<(PathBuf, Identity)>, FolderError> {
        let unreadable = |source| FolderError::Read { file: self.directory.clone(), source };
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.directory).map_err(unreadable)? {
            let folder = entry.map_err(unreadable)?.path();
            let files = Role::ALL.map(|role| choice(&folder, role).certificate);
            let Some(file) = files.into_iter().flatten().find(|file| file.exists()) else {
                continue;
            };
            let certificate = read(&file)?;
            let certificate = CertificateDer::from_pem_slice(certificate.as_bytes());
            let identity = certificate.ok().and_then(|read| Identity::of(&read).ok());
            found.extend(identity.map(|identity| (folder, identity)));
        }
        found.sort_by(|(one, _), (other, _)| one.cmp(other));
        Ok(found)
    }
}

/// What to say to a process that shall use a folder that [`Folder::issue`] has filled.
pub fn choice(folder: &Path, role: Role) -> Choice {
    let name = match role {
        Role::Server => "lb-server",
        Role::Worker => "lb-worker",
        Role::Scaler => "lb-scaler",
        Role::Client | Role::Admin => "lb-client",
    };
    Choice {
        mode: None,
        ca: Some(folder.join(CA_CERTIFICATE)),
        certificate: Some(folder.join(format!("{name}.crt"))),
        key: Some(folder.join(format!("{name}.key"))),
    }
}

/// Takes what is in the folder as its process would.
fn load(folder: &Path, identity: &Identity) -> Result<Tls, TlsError> {
    let choice = choice(folder, identity.role);
    match identity.role {
        Role::Server => Tls::of_server(&choice, &identity.cluster),
        Role::Worker => Tls::of_worker(&choice, &identity.cluster),
        Role::Scaler => Tls::of_scaler(&choice, &identity.cluster),
        Role::Client | Role::Admin => Tls::of_client(&choice, &identity.cluster),
    }
}

fn valid(lifetime: Duration) -> Range<SystemTime> {
    let now = SystemTime::now();
    now - BACKDATED..now + lifetime
}

fn unusable(directory: &Path, source: AuthorityError) -> FolderError {
    FolderError::Authority { directory: directory.to_owned(), source }
}

fn read(file: &Path) -> Result<String, FolderError> {
    fs::read_to_string(file).map_err(|source| FolderError::Read { file: file.to_owned(), source })
}

fn make(directory: &Path) -> Result<(), FolderError> {
    let failed = |source| FolderError::Write { file: directory.to_owned(), source };
    fs::create_dir_all(directory).map_err(failed)
}

fn write(file: &Path, text: &str, mode: u32) -> Result<(), FolderError> {
    let new = file.with_extension("new");
    let written = (|| {
        // One that was left behind would keep its own mode.
        match fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut writer = OpenOptions::new().write(true).create_new(true).mode(mode).open(&new)?;
        // Whatever the mask of whoever runs this: a certificate is read by daemons with users of their own.
        writer.set_permissions(Permissions::from_mode(mode))?;
        writer.write_all(text.as_bytes())?;
        writer.sync_all()?;
        fs::rename(&new, file)
    })();
    written.map_err(|source| FolderError::Write { file: file.to_owned(), source })
}
