//! The token that ties a call to the pick it came from.
//!
//! A balancer counts what it issues, a worker counts what it sees; the difference is what is still
//! on its way. So no call is counted twice, and none is lost between the pick and the report.
//! The text form, `<balancer>/<worker number>/<class><sequence>`, travels in the call's metadata
//! under [`METADATA_KEY`]; `proto/lb/v1/balancer.proto` documents it for other languages.

use std::{fmt, str::FromStr};

use crate::id::{BalancerId, WorkerNumber};

/// The gRPC metadata key of the token.
pub const METADATA_KEY: &str = "lb-token";

/// Where a token came from, and so how the balancer learns of its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenClass {
    /// From the unary `Pick`: only the worker's reports tell.
    Picked,
    /// From a `Session`: the client reports the outcome.
    Session,
    /// For a second choice: not counted when issued, the worker's next report shows it.
    Second,
}

impl TokenClass {
    const fn letter(self) -> char {
        match self {
            Self::Picked => 'p',
            Self::Session => 's',
            Self::Second => 'x',
        }
    }
}

/// One pick, as the worker sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// The balancer process that picked.
    pub balancer: BalancerId,
    /// The registration that was picked.
    pub worker: WorkerNumber,
    /// Where the token came from.
    pub class: TokenClass,
    /// Which pick of that class and registration, from 1.
    pub sequence: u64,
}

/// A text that is no token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "not a token: expected <balancer id>/<worker number>/<p, s or x><sequence>, as in lb-1f/3/p42"
)]
pub struct TokenError;

impl fmt::Display for Token {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { balancer, worker, class, sequence } = self;
        write!(formatter, "{balancer}/{worker}/{}{sequence}", class.letter())
    }
}

impl FromStr for Token {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, TokenError> {
        let view = TokenView::parse(text).ok_or(TokenError)?;
        let balancer = view.balancer.parse().map_err(|_| TokenError)?;
        Ok(Self { balancer, worker: view.worker, class: view.class, sequence: view.sequence })
    }
}

/// A token read in place, for the worker's hot path: nothing is allocated, and the balancer's
/// id is only compared, never kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TokenView<'a> {
    /// Text in the place of the balancer's id.
    pub balancer: &'a str,
    /// The registration that was picked.
    pub worker: WorkerNumber,
    /// Where the token came from.
    pub class: TokenClass,
    /// Which pick of that class and registration.
    pub sequence: u64,
}

impl<'a> TokenView<'a> {
    /// Reads a token's text; `None` if it is not one.
    pub fn parse(text: &'a str) -> Option<Self> {
        let mut parts = text.split('/');
        let (balancer, worker, pick) = (parts.next()?, parts.next()?, parts.next()?);
        let class = match pick.as_bytes().first()? {
            b'p' => TokenClass::Picked,
            b's' => TokenClass::Session,
            b'x' => TokenClass::Second,
            _ => return None,
        };
        let worker = WorkerNumber(decimal(worker)?.try_into().ok()?);
        let sequence = decimal(&pick[1..])?;
        parts.next().is_none().then_some(Self { balancer, worker, class, sequence })
    }
}

/// Digits only: `u64::from_str` would also take a leading '+'.
fn decimal(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_form_round_trips() {
        for text in ["lb-1f/3/p42", "a/1/s1", "b/4294967295/x18446744073709551615"] {
            assert_eq!(text.parse::<Token>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for text in [
            "",
            "/",
            "//",
            "a/1/",
            "a/1/p",
            "a/1/q1",
            "a/-1/p1",
            "a/1/p+1",
            "a/1/p1/x",
            "a/1",
            "A/1/p1",
            "a/4294967296/p1",
            "a/1/p18446744073709551616",
            "a/1/é1",
        ] {
            assert!(text.parse::<Token>().is_err(), "{text:?} was accepted");
        }
    }
}
