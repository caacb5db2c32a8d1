//! What went wrong in a handshake, in words.

use std::io;

use rustls::{AlertDescription, CertificateError, Error, OtherError};

/// The same error, said so that an operator knows where to look.
pub(crate) fn plain(error: io::Error) -> io::Error {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    match inner.and_then(describe) {
        Some(text) => io::Error::new(error.kind(), text),
        None => error,
    }
}

fn describe(error: &Error) -> Option<String> {
    Some(match error {
        Error::InvalidCertificate(CertificateError::Other(OtherError(stranger))) => {
            stranger.to_string()
        }
        Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
            "the peer's certificate is not from an authority that is believed here".to_owned()
        }
        Error::InvalidCertificate(CertificateError::InvalidPurpose) => {
            "the peer's certificate is not for this end of a connection".to_owned()
        }
        Error::InvalidCertificate(problem) => format!("the peer's certificate: {problem}"),
        Error::NoCertificatesPresented => "the peer shows no certificate".to_owned(),
        Error::InvalidMessage(_) => "the peer does not speak TLS".to_owned(),
        Error::AlertReceived(AlertDescription::CertificateRequired) => {
            "the peer asks for a certificate: it speaks mtls".to_owned()
        }
        Error::AlertReceived(alert) => format!("the peer refuses the connection: {alert:?}"),
        _ => return None,
    })
}
