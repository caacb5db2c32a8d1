//! Keeps this worker registered with one balancer, for as long as there is hope.
//!
//! One task per balancer runs [`keep`]: dial, register, report, and when the stream is lost dial again, at first soon
//! and later more than once a second. DNS-SD only introduces a balancer; it does not say whether it lives. So the last known
//! addresses are dialled on while the balancer is announced, and for ten minutes afterwards; an
//! address given by hand is never given up. What does not depend on what a worker says is in `lb-link`.
//!
//! - [`board`] shows all live registrations, for the drain;
//! - [`link`] is one stream, from hello to goodbye;
//! - [`pace`] decides when the next report is due.

pub(crate) mod board;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod link;
mod pace;

use std::{net::IpAddr, sync::Arc};

use tokio::{
    sync::watch,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;
use tracing::info;

use lb_core::id::BalancerId;
use lb_link::{Place, Source, Trouble, dial};
use lb_proto::v1;
use lb_tls::Tls;

use self::{board::Board, link::LinkError};
use crate::{
    load::Load,
    state::{State, StateCell},
    usage::Usage,
};

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

/// Registers with everyone in `source`, until the worker leaves; then says goodbye to all.
pub(crate) async fn follow(registrar: Arc<Registrar>, source: Source) {
    let leave = registrar.leave.clone();
    lb_link::follow(source, leave, |place| keep(Arc::clone(&registrar), place)).await;
}

/// Keeps the worker registered at `place` until it leaves or the balancer is forgotten.
async fn keep(registrar: Arc<Registrar>, mut place: watch::Receiver<Place>) {
    let key = registrar.board.new_key();
    let mut keeper = Keeper { trouble: Trouble::default(), balancer: None };
    let mut states = registrar.state.changes();
    loop {
        if *states.borrow() == State::Stopping
            || place.borrow_and_update().is_forgotten(Instant::now())
        {
            return;
        }
        let here = place.borrow().clone();
        let Err(error) = keeper.attempt(&registrar, key, &here).await else { return };
        let pause = keeper.trouble.pause(&error, error.refusal());
        tokio::select! {
            () = sleep(pause) => {}
            changed = place.changed() => if changed.is_err() { return },
            _ = states.wait_for(|state| *state == State::Stopping) => return,
        }
    }
}

struct Keeper {
    trouble: Trouble,
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
        let (channel, address) = dial(place, registrar.source, &registrar.tls).await?;
        let link = link::open(registrar, key, channel, address).await?;
        info!(
            event = "registered", balancer = %link.balancer(), %address, number = %link.number(),
            "registered with a balancer"
        );
        self.trouble.is_over();
        self.balancer = Some(link.balancer().clone());
        link.run(registrar).await
    }
}
