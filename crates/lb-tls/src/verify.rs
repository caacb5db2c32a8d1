//! Who is believed: a chain to one of our authorities, and a name of our cluster.
//!
//! rustls's own verifiers ask whether the certificate is one of the host that was dialled. Here that question means
//! nothing: addresses come from DNS-SD, from anybody. What counts is who is there.

use std::sync::Arc;

use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, TrustAnchor, UnixTime},
    server::danger::{ClientCertVerified, ClientCertVerifier},
};
use webpki::{EndEntityCert, KeyUsage};

use lb_core::id::ClusterName;

use crate::{Expected, Identity, NoIdentity};

/// Why somebody with a genuine certificate is not let in.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Stranger {
    #[error(transparent)]
    Unnamed(#[from] NoIdentity),
    #[error("the peer is {found}: this is cluster {cluster}")]
    Cluster { found: Identity, cluster: ClusterName },
    #[error("the peer is {found}: expected {expected}")]
    Another { found: Identity, expected: Expected },
}

/// Judges certificates by the authorities that are believed.
#[derive(Debug)]
pub(crate) struct Judge {
    pub(crate) anchors: Vec<TrustAnchor<'static>>,
    pub(crate) algorithms: WebPkiSupportedAlgorithms,
    pub(crate) cluster: ClusterName,
}

impl Judge {
    /// Whether there is a chain of signatures from one of the authorities to this certificate, all valid at this time.
    pub(crate) fn check_chain(
        &self,
        certificate: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        usage: KeyUsage,
        time: UnixTime,
    ) -> Result<(), webpki::Error> {
        let certificate = EndEntityCert::try_from(certificate)?;
        let algorithms = self.algorithms.all;
        let verified = certificate.verify_for_usage(
            algorithms,
            &self.anchors,
            between,
            time,
            usage,
            None,
            None,
        );
        verified.map(drop)
    }

    /// Who shows this certificate, if it is one of our cluster.
    fn judge(
        &self,
        certificate: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        usage: KeyUsage,
        now: UnixTime,
    ) -> Result<Identity, Error> {
        self.check_chain(certificate, between, usage, now).map_err(|error| refusal(&error))?;
        let found = Identity::of(certificate).map_err(|error| stranger(error.into()))?;
        if found.cluster == self.cluster {
            Ok(found)
        } else {
            Err(stranger(Stranger::Cluster { found, cluster: self.cluster.clone() }))
        }
    }
}

/// The variants decide which alert the other side gets, and so what its log says.
fn refusal(error: &webpki::Error) -> Error {
    Error::InvalidCertificate(match error {
        webpki::Error::CertExpired { time, not_after } => {
            CertificateError::ExpiredContext { time: *time, not_after: *not_after }
        }
        webpki::Error::CertNotValidYet { time, not_before } => {
            CertificateError::NotValidYetContext { time: *time, not_before: *not_before }
        }
        // An authority of the same name with another key is another authority.
        webpki::Error::UnknownIssuer | webpki::Error::InvalidSignatureForPublicKey => {
            CertificateError::UnknownIssuer
        }
        webpki::Error::RequiredEkuNotFoundContext(_) => CertificateError::InvalidPurpose,
        webpki::Error::BadDer | webpki::Error::BadDerTime => CertificateError::BadEncoding,
        other => CertificateError::Other(OtherError(Arc::new(other.clone()))),
    })
}

fn stranger(stranger: Stranger) -> Error {
    Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(stranger))))
}

/// Judges whom we dial.
#[derive(Debug)]
pub(crate) struct JudgeOfServers {
    pub(crate) judge: Arc<Judge>,
    pub(crate) expected: Expected,
}

impl ServerCertVerifier for JudgeOfServers {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        _dialled: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let found = self.judge.judge(certificate, between, KeyUsage::server_auth(), now)?;
        if self.expected.is(&found) {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(stranger(Stranger::Another { found, expected: self.expected.clone() }))
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.judge.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.judge.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.judge.algorithms.supported_schemes()
    }
}

/// Judges who dials us. What it may do is another question ([`crate::rights`]).
#[derive(Debug)]
pub(crate) struct JudgeOfClients {
    pub(crate) judge: Arc<Judge>,
}

impl ClientCertVerifier for JudgeOfClients {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        certificate: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let usage = KeyUsage::client_auth();
        self.judge.judge(certificate, between, usage, now).map(|_| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.judge.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.judge.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.judge.algorithms.supported_schemes()
    }
}
