//! What a daemon does about a registration that it has not got: how long it waits, and what it tells.

use std::{error::Error, time::Duration};

use tonic::Code;
use tracing::{debug, error, warn};

use lb_runtime::exit::describe;

use crate::backoff::Backoff;

/// A refusal that names no time to retry needs somebody to change something; looking this often finds out, and costs nothing.
const REFUSED_RETRY: Duration = Duration::from_secs(30);
/// A balancer may ask for patience, but not for more than this.
const REFUSED_RETRY_MOST: Duration = Duration::from_secs(60);

/// A balancer has said no.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("refused ({code:?}): {reason}")]
pub struct Refusal {
    /// What is wrong, as a gRPC status.
    pub code: Code,
    /// For people.
    pub reason: String,
    /// When to ask again; zero: not before something changed.
    pub retry_after: Duration,
}

/// What has gone wrong with one balancer so far.
#[derive(Debug)]
pub struct Trouble {
    backoff: Backoff,
    /// What was logged last, so that the same trouble is told once.
    known: Option<String>,
}

impl Default for Trouble {
    fn default() -> Self {
        Self { backoff: Backoff::new(), known: None }
    }
}

impl Trouble {
    /// There is a registration: the next trouble is a new one.
    pub fn is_over(&mut self) {
        self.backoff.reset();
        self.known = None;
    }

    /// Tells of what went wrong, and returns how long to wait before the next attempt. `refusal` is the balancer's word, if
    /// it had one.
    pub fn pause(&mut self, problem: &dyn Error, refusal: Option<&Refusal>) -> Duration {
        let news = self.is_news(problem);
        let Some(Refusal { code, reason, retry_after }) = refusal else {
            if news {
                warn!(
                    event = "registration_lost",
                    error = describe(problem),
                    "no registration with a balancer, trying on"
                );
            }
            return self.backoff.next(fastrand::f64());
        };
        if retry_after.is_zero() {
            if news {
                error!(
                    event = "registration_refused",
                    ?code,
                    reason,
                    "a balancer refuses this daemon"
                );
            }
            return REFUSED_RETRY;
        }
        if news {
            warn!(
                event = "registration_deferred",
                ?code,
                reason,
                ?retry_after,
                "a balancer refuses this daemon for now"
            );
        }
        (*retry_after).min(REFUSED_RETRY_MOST)
    }

    fn is_news(&mut self, problem: &dyn Error) -> bool {
        let text = problem.to_string();
        if self.known.as_ref() == Some(&text) {
            debug!(error = %text, "still no registration with a balancer");
            return false;
        }
        self.known = Some(text);
        true
    }
}
