//! Keeps this worker registered with one balancer, for as long as there is hope.
//!
//! One task per balancer runs [`keep`]: dial, register, report, and when the stream is lost dial again, at first soon
//! and later more than once a second. DNS-SD only introduces a balancer; it does not say whether it lives. So the last known
//! addresses are dialled on while the balancer is announced, and for [`FORGET_AFTER`] afterwards; an
//! address given by hand is never given up.
//!
//! - [`board`] shows all live registrations, for the drain;
//! - [`link`] is one stream, from hello to goodbye;
//! - [`pace`] decides when the next report is due;
//! - [`dial`] opens connections that notice a silent peer.

mod backoff;
pub(crate) mod board;
mod dial;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod link;
mod pace;

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use tokio::{
    sync::watch,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use lb_core::id::BalancerId;
use lb_proto::v1;
use lb_runtime::exit::describe;
use lb_tls::Tls;

use self::{backoff::Backoff, board::Board, link::LinkError};
use crate::{
    load::Load,
    state::{State, StateCell},
    usage::Usage,
};

/// A balancer that was withdrawn from DNS-SD is dialled for this long: its machine may be restarting, and a worker that
/// gives up too early would wait for the next announcement.
pub(crate) const FORGET_AFTER: Duration = Duration::from_secs(600);
/// A refusal that names no time to retry needs somebody to change something; looking this often finds out, and costs nothing.
const REFUSED_RETRY: Duration = Duration::from_secs(30);
/// A balancer may ask for patience, but not for more than this.
const REFUSED_RETRY_MOST: Duration = Duration::from_secs(60);

/// What every registration of this worker shares.
#[derive(Debug)]
pub(crate) struct Registrar {
    /// The first message on every stream.
    pub(crate) hello: v1::Hello,
    /// Dial from this address, so that the balancer sees the one that `hello` names.
    pub(crate) source: Option<IpAddr>,
    pub(crate) tls: Tls,
    pub(crate) load: Load,
    pub(crate) usage: watch::Sender<Usage>,
    pub(crate) state: StateCell,
    pub(crate) board: Board,
    /// Everything is finished: say goodbye.
    pub(crate) leave: CancellationToken,
}

/// Where a balancer is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// `host:port`, given by hand; looked up at each dial.
    Static(String),
    /// Found by DNS-SD.
    Found {
        addresses: Vec<SocketAddr>,
        /// The mode that it announces; nothing to believe, but enough to say why it would not work.
        mode: Option<String>,
        /// Since when it is not announced any more.
        withdrawn: Option<Instant>,
    },
}

impl Place {
    fn is_forgotten(&self, now: Instant) -> bool {
        match self {
            Self::Static(_) | Self::Found { withdrawn: None, .. } => false,
            Self::Found { withdrawn: Some(since), .. } => {
                now.duration_since(*since) >= FORGET_AFTER
            }
        }
    }
}

/// Keeps the worker registered at `place` until it leaves or the balancer is forgotten.
pub(crate) async fn keep(registrar: Arc<Registrar>, mut place: watch::Receiver<Place>) {
    let key = registrar.board.new_key();
    let mut keeper = Keeper { backoff: Backoff::new(), known_trouble: None, balancer: None };
    let mut states = registrar.state.changes();
    loop {
        if *states.borrow() == State::Stopping
            || place.borrow_and_update().is_forgotten(Instant::now())
        {
            return;
        }
        let here = place.borrow().clone();
        let Err(error) = keeper.attempt(&registrar, key, &here).await else { return };
        let pause = keeper.pause(&error);
        tokio::select! {
            () = sleep(pause) => {}
            changed = place.changed() => if changed.is_err() { return },
            _ = states.wait_for(|state| *state == State::Stopping) => return,
        }
    }
}

struct Keeper {
    backoff: Backoff,
    /// What was logged last, so that the same trouble is told once.
    known_trouble: Option<String>,
    /// Whom the last stream was with.
    balancer: Option<BalancerId>,
}

impl Keeper {
    /// Returns `Ok` when the worker has left in order.
    async fn attempt(
        &mut self,
        registrar: &Registrar,
        key: board::Key,
        place: &Place,
    ) -> Result<(), LinkError> {
        // The same balancer may be known by two names. The stream it accepted last is the one it keeps;
        // the other stands by, or the two would throw each other out for ever.
        if let Some(balancer) = &self.balancer {
            registrar.board.wait_until_free(balancer, key).await;
        }
        let (channel, address) = dial::dial(place, registrar).await?;
        let link = link::open(registrar, key, channel, address).await?;
        info!(
            event = "registered", balancer = %link.balancer(), %address, number = %link.number(),
            "registered with a balancer"
        );
        self.backoff.reset();
        self.known_trouble = None;
        self.balancer = Some(link.balancer().clone());
        link.run(registrar).await
    }

    fn pause(&mut self, error: &LinkError) -> Duration {
        let LinkError::Refused { code, reason, retry_after } = error else {
            self.tell_once(error, || {
                warn!(
                    event = "registration_lost",
                    error = describe(error),
                    "no registration with a balancer, trying on"
                );
            });
            return self.backoff.next(fastrand::f64());
        };
        if retry_after.is_zero() {
            self.tell_once(error, || {
                error!(
                    event = "registration_refused",
                    ?code,
                    reason,
                    "a balancer refuses this worker"
                );
            });
            return REFUSED_RETRY;
        }
        self.tell_once(error, || {
            warn!(
                event = "registration_deferred",
                ?code,
                reason,
                ?retry_after,
                "a balancer refuses this worker for now"
            );
        });
        (*retry_after).min(REFUSED_RETRY_MOST)
    }

    fn tell_once(&mut self, error: &LinkError, tell: impl FnOnce()) {
        let trouble = error.to_string();
        if self.known_trouble.as_ref() == Some(&trouble) {
            debug!(error = %trouble, "still no registration with a balancer");
        } else {
            tell();
            self.known_trouble = Some(trouble);
        }
    }
}
