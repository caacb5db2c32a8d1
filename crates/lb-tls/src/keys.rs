//! What is in the files: read, checked, and made into what connections need.

use std::{fmt, fs, path::Path, sync::Arc, time::Duration};

use rustls::{
    ClientConfig, ServerConfig,
    client::Resumption,
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer, TrustAnchor, UnixTime, pem::PemObject},
    server::NoServerSessionStorage,
    sign::{CertifiedKey, SingleCertAndKey},
    version::TLS13,
};
use webpki::{KeyUsage, anchor_from_trusted_cert};

use lb_core::id::ClusterName;

use crate::{
    Expected, Identity, Mode, TlsError, Validity,
    choice::{Files, Part},
    verify::{Judge, JudgeOfClients, JudgeOfServers},
};

/// What is spoken inside, as TLS names it (RFC 7301).
const PROTOCOL: &[u8] = b"h2";

/// The bytes of the files, to see whether they have changed.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Bytes {
    ca: Vec<u8>,
    /// Certificate and key.
    own: Option<(Vec<u8>, Vec<u8>)>,
}

/// A key must not get into a log.
impl fmt::Debug for Bytes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Bytes").finish_non_exhaustive()
    }
}

impl Bytes {
    pub(crate) fn read(files: &Files, part: Part, mode: Mode) -> Result<Self, TlsError> {
        let read = |setting, file: &Path| {
            fs::read(file).map_err(|source| TlsError::Read {
                setting,
                file: file.to_owned(),
                source,
            })
        };
        let anonymous = matches!(part, Part::Client | Part::Scaler) && mode != Mode::Mtls;
        let own = if anonymous {
            None
        } else {
            Some((read("certificate", &files.certificate)?, read("key", &files.key)?))
        };
        Ok(Self { ca: read("ca", &files.ca)?, own })
    }
}

/// Our own certificate and key.
#[derive(Debug)]
struct Own {
    key: Arc<CertifiedKey>,
    identity: Arc<Identity>,
}

/// What connections are made with. Never changes; new files make new ones.
#[derive(Debug)]
pub(crate) struct Keys {
    pub(crate) bytes: Bytes,
    provider: Arc<CryptoProvider>,
    judge: Arc<Judge>,
    own: Option<Own>,
    /// To dial with our own certificate, or without one.
    shows_own: bool,
    /// For who dials us; not needed by a client.
    pub(crate) server: Option<Arc<ServerConfig>>,
}

impl Keys {
    /// Makes sense of the files. A certificate that is not valid at this time is no error: the clock may be wrong yet.
    pub(crate) fn new(
        bytes: Bytes,
        files: &Files,
        part: Part,
        mode: Mode,
        cluster: &ClusterName,
    ) -> Result<Self, TlsError> {
        let provider = Arc::new(ring::default_provider());
        let judge = Arc::new(Judge {
            anchors: anchors(&bytes.ca, &files.ca)?,
            algorithms: provider.signature_verification_algorithms,
            cluster: cluster.clone(),
        });
        let own = match &bytes.own {
            Some((certificate, key)) => {
                Some(own(certificate, key, files, &provider, part, cluster)?)
            }
            None => None,
        };
        let shows_own = own.is_some() && mode == Mode::Mtls;
        let mut keys = Self { bytes, provider, judge, own, shows_own, server: None };
        keys.check_chain(files, part)?;
        if let (Some(own), Part::Server | Part::Worker) = (&keys.own, part) {
            keys.server = Some(Arc::new(keys.server_config(own, mode)));
        }
        Ok(keys)
    }

    pub(crate) fn identity(&self) -> Option<&Arc<Identity>> {
        self.own.as_ref().map(|own| &own.identity)
    }

    /// How our own certificate stands. Somebody without one has nothing that could end.
    pub(crate) fn validity(&self, part: Part, now: UnixTime, margin: Duration) -> Validity {
        match self.chain(part, now) {
            Err(webpki::Error::CertExpired { .. }) => Validity::Ended,
            Err(webpki::Error::CertNotValidYet { .. }) => Validity::NotYet,
            _ => {
                let soon = UnixTime::since_unix_epoch(Duration::from_secs(now.as_secs()) + margin);
                match self.chain(part, soon) {
                    Err(webpki::Error::CertExpired { .. }) => Validity::EndsSoon,
                    _ => Validity::Good,
                }
            }
        }
    }

    /// What to dial somebody with. Sessions are not resumed: a resumed one would not be judged again, and connections live long.
    pub(crate) fn client(&self, expected: Expected) -> ClientConfig {
        let judge = JudgeOfServers { judge: Arc::clone(&self.judge), expected };
        let builder = ClientConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(&[&TLS13])
            .expect("the provider knows TLS 1.3")
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(judge));
        let mut config = match self.own.as_ref().filter(|_| self.shows_own) {
            Some(own) => {
                let key = SingleCertAndKey::from(Arc::clone(&own.key));
                builder.with_client_cert_resolver(Arc::new(key))
            }
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![PROTOCOL.to_vec()];
        config.resumption = Resumption::disabled();
        config.enable_sni = false;
        config
    }

    fn server_config(&self, own: &Own, mode: Mode) -> ServerConfig {
        let builder = ServerConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(&[&TLS13])
            .expect("the provider knows TLS 1.3");
        let builder = if mode == Mode::Mtls {
            let judge = JudgeOfClients { judge: Arc::clone(&self.judge) };
            builder.with_client_cert_verifier(Arc::new(judge))
        } else {
            builder.with_no_client_auth()
        };
        let key = SingleCertAndKey::from(Arc::clone(&own.key));
        let mut config = builder.with_cert_resolver(Arc::new(key));
        config.alpn_protocols = vec![PROTOCOL.to_vec()];
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        config
    }

    /// That others will believe our own certificate, leaving aside the time.
    fn check_chain(&self, files: &Files, part: Part) -> Result<(), TlsError> {
        match self.chain(part, UnixTime::now()) {
            Ok(())
            | Err(webpki::Error::CertExpired { .. } | webpki::Error::CertNotValidYet { .. }) => {
                Ok(())
            }
            Err(source) => {
                let (file, ca) = (files.certificate.clone(), files.ca.clone());
                Err(TlsError::Chain { file, ca, source })
            }
        }
    }

    fn chain(&self, part: Part, time: UnixTime) -> Result<(), webpki::Error> {
        let Some((leaf, between)) = self.own.as_ref().and_then(|own| own.key.cert.split_first())
        else {
            return Ok(());
        };
        let usage = match part {
            Part::Server | Part::Worker => KeyUsage::server_auth(),
            Part::Scaler | Part::Client => KeyUsage::client_auth(),
        };
        self.judge.check_chain(leaf, between, usage, time)?;
        if part == Part::Worker {
            self.judge.check_chain(leaf, between, KeyUsage::client_auth(), time)?;
        }
        Ok(())
    }
}

fn certificates(
    pem: &[u8],
    setting: &'static str,
    file: &Path,
) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let none = || TlsError::Pem { setting, file: file.to_owned(), expected: "certificate" };
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    read.ok().filter(|all| !all.is_empty()).ok_or_else(none)
}

fn anchors(pem: &[u8], file: &Path) -> Result<Vec<TrustAnchor<'static>>, TlsError> {
    let anchor = |certificate: &CertificateDer<'_>| {
        let anchor = anchor_from_trusted_cert(certificate).map(|anchor| anchor.to_owned());
        anchor.map_err(|source| TlsError::Authority { file: file.to_owned(), source })
    };
    certificates(pem, "ca", file)?.iter().map(anchor).collect()
}

fn own(
    certificate: &[u8],
    key: &[u8],
    files: &Files,
    provider: &CryptoProvider,
    part: Part,
    cluster: &ClusterName,
) -> Result<Own, TlsError> {
    let file = || files.certificate.clone();
    let chain = certificates(certificate, "certificate", &files.certificate)?;
    let no_key =
        |_| TlsError::Pem { setting: "key", file: files.key.clone(), expected: "private key" };
    let key = PrivateKeyDer::from_pem_slice(key).map_err(no_key)?;
    let identity = Identity::of(&chain[0]);
    let identity = identity.map_err(|source| TlsError::Identity { file: file(), source })?;
    let mismatch = |source| TlsError::Key { key: files.key.clone(), certificate: file(), source };
    let key = CertifiedKey::from_der(chain, key, provider).map_err(mismatch)?;
    let found = Box::new(identity);
    if !part.may_be(found.role) {
        return Err(TlsError::Role { file: file(), found, expected: part.expected() });
    }
    if found.cluster != *cluster {
        return Err(TlsError::Cluster { file: file(), found, cluster: cluster.clone() });
    }
    Ok(Own { key: Arc::new(key), identity: Arc::new(*found) })
}
