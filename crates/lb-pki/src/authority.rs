//! A key that signs, and what it says of others.

use std::{
    fmt,
    ops::Range,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SanType, date_time_ymd, string::Ia5String,
};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use webpki::EndEntityCert;

use lb_core::id::ClusterName;
use lb_tls::{Identity, Role};

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// The certificate of the authority is not one of ours.
    #[error("it is no certificate that \"lbctl pki init\" has made")]
    Foreign,
    /// The key cannot be read, or a certificate cannot be made.
    #[error(transparent)]
    Make(#[from] rcgen::Error),
}

/// Signs for one cluster.
#[derive(Debug)]
pub struct Authority {
    cluster: ClusterName,
    key: KeyPair,
    certificate: String,
}

/// A certificate and its key, both PEM.
#[derive(Clone)]
pub struct Issued {
    /// The certificate.
    pub certificate: String,
    /// Its key.
    pub key: String,
}

impl fmt::Debug for Issued {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = formatter.debug_struct("Issued");
        shown.field("certificate", &self.certificate).finish_non_exhaustive()
    }
}

impl Authority {
    /// A new one, with a new key.
    ///
    /// # Errors
    /// [`AuthorityError::Make`], if there is no randomness to be had.
    pub fn new(cluster: ClusterName, valid: Range<SystemTime>) -> Result<Self, AuthorityError> {
        let key = KeyPair::generate()?;
        let mut parameters = parameters(&title(&cluster), valid);
        parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        parameters.subject_alt_names = vec![uri(mark(&cluster))?];
        let certificate = parameters.self_signed(&key)?.pem();
        Ok(Self { cluster, key, certificate })
    }

    /// One that was made before.
    ///
    /// # Errors
    /// See [`AuthorityError`].
    pub fn from_pem(certificate: String, key: &str) -> Result<Self, AuthorityError> {
        let cluster = cluster(&certificate).ok_or(AuthorityError::Foreign)?;
        Ok(Self { cluster, key: KeyPair::from_pem(key)?, certificate })
    }

    /// The cluster that it signs for.
    pub fn cluster(&self) -> &ClusterName {
        &self.cluster
    }

    /// Its certificate, PEM.
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// Its key, PEM.
    pub fn key(&self) -> String {
        self.key.serialize_pem()
    }

    /// A certificate with a new key. Whether the identity is of this cluster is the caller's business.
    ///
    /// # Errors
    /// [`AuthorityError::Make`].
    pub fn issue(
        &self,
        identity: &Identity,
        valid: Range<SystemTime>,
    ) -> Result<Issued, AuthorityError> {
        let key = KeyPair::generate()?;
        let mut leaf = parameters(&format!("{} {}", identity.role, identity.name), valid);
        leaf.is_ca = IsCa::ExplicitNoCa;
        leaf.use_authority_key_identifier_extension = true;
        leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        leaf.extended_key_usages = purposes(identity.role);
        let names = identity.uris().into_iter().map(uri);
        // Nobody of ours asks for them. A gRPC library that balances by xDS looks for the name of the service that it calls.
        let services = identity.services.iter().map(|service| dns(service.as_str()));
        leaf.subject_alt_names = names.chain(services).collect::<Result<_, _>>()?;
        let mut authority = CertificateParams::default();
        authority.distinguished_name = named(&title(&self.cluster));
        let issuer = Issuer::from_params(&authority, &self.key);
        let certificate = leaf.signed_by(&key, &issuer)?.pem();
        Ok(Issued { certificate, key: key.serialize_pem() })
    }
}

fn purposes(role: Role) -> Vec<ExtendedKeyUsagePurpose> {
    let (server, client) =
        (ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth);
    match role {
        Role::Server => vec![server],
        // It serves clients and dials balancers.
        Role::Worker => vec![server, client],
        Role::Scaler | Role::Client | Role::Admin => vec![client],
    }
}

fn parameters(title: &str, valid: Range<SystemTime>) -> CertificateParams {
    let mut parameters = CertificateParams::default();
    parameters.distinguished_name = named(title);
    let epoch = date_time_ymd(1970, 1, 1);
    let since = |time: SystemTime| time.duration_since(UNIX_EPOCH).unwrap_or_default();
    // A certificate knows whole seconds.
    let whole = |time| Duration::from_secs(since(time).as_secs());
    parameters.not_before = epoch + whole(valid.start);
    parameters.not_after = epoch + whole(valid.end);
    parameters
}

fn named(title: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, title);
    name
}

fn uri(text: String) -> Result<SanType, rcgen::Error> {
    Ok(SanType::URI(Ia5String::try_from(text)?))
}

fn dns(text: &str) -> Result<SanType, rcgen::Error> {
    Ok(SanType::DnsName(Ia5String::try_from(text)?))
}

/// The subject of an authority, and so the issuer of what it signs: the two must be the same.
fn title(cluster: &ClusterName) -> String {
    format!("lb CA {cluster}")
}

/// By this an authority knows its cluster again.
fn mark(cluster: &ClusterName) -> String {
    format!("lb://{cluster}/ca")
}

fn cluster(pem: &str) -> Option<ClusterName> {
    let certificate = CertificateDer::from_pem_slice(pem.as_bytes()).ok()?;
    let certificate = EndEntityCert::try_from(&certificate).ok()?;
    let cluster = |uri: &str| uri.strip_prefix("lb://")?.strip_suffix("/ca")?.parse().ok();
    certificate.valid_uri_names().find_map(cluster)
}
