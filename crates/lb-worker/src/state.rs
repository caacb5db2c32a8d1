//! What this worker does at the moment. It is kept in one place, so that every balancer is told the same.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use tokio::sync::watch;

use lb_proto::v1;

/// What a worker does at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// Takes calls.
    Serving,
    /// Would take calls, but the service that it stands beside is not well.
    Unwell,
    /// Finishes what it has and wants nothing new, by an operator's order; it may be taken back.
    Draining,
    /// The same, on its way out; nothing brings it back.
    Stopping,
}

impl State {
    /// How reports put it.
    pub(crate) fn to_proto(self) -> v1::WorkerState {
        match self {
            Self::Serving => v1::WorkerState::Serving,
            Self::Unwell | Self::Draining | Self::Stopping => v1::WorkerState::Draining,
        }
    }
}

/// The one place where the state stands.
#[derive(Debug, Clone)]
pub(crate) struct StateCell {
    state: watch::Sender<State>,
    /// Changed and read under the lock of `state`.
    is_well: Arc<AtomicBool>,
}

impl StateCell {
    pub(crate) fn new() -> Self {
        Self { state: watch::Sender::new(State::Serving), is_well: Arc::new(AtomicBool::new(true)) }
    }

    pub(crate) fn changes(&self) -> watch::Receiver<State> {
        self.state.subscribe()
    }

    /// An operator's order. A worker that stops already does not change its mind.
    pub(crate) fn order(&self, wanted: State) -> bool {
        self.state.send_if_modified(|state| {
            let wanted = self.as_it_is(wanted);
            let changes = *state != wanted && *state != State::Stopping;
            if changes {
                *state = wanted;
            }
            changes
        })
    }

    /// Whether the service is well. Who was drained by an order stays so.
    pub(crate) fn set_well(&self, is_well: bool) {
        self.state.send_if_modified(|state| {
            self.is_well.store(is_well, Ordering::Relaxed);
            let before = *state;
            if matches!(before, State::Serving | State::Unwell) {
                *state = self.as_it_is(State::Serving);
            }
            *state != before
        });
    }

    /// The worker will leave.
    pub(crate) fn stop(&self) {
        self.state.send_replace(State::Stopping);
    }

    fn as_it_is(&self, wanted: State) -> State {
        match wanted {
            State::Serving if !self.is_well.load(Ordering::Relaxed) => State::Unwell,
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stopping_is_final() {
        let state = StateCell::new();
        assert!(state.order(State::Draining));
        assert!(!state.order(State::Draining));
        assert!(state.order(State::Serving));
        state.stop();
        assert!(!state.order(State::Serving));
        assert_eq!(*state.changes().borrow(), State::Stopping);
    }

    #[test]
    fn an_order_and_the_service_itself_must_both_agree() {
        let cell = StateCell::new();
        let state = || *cell.changes().borrow();
        cell.set_well(false);
        assert_eq!(state(), State::Unwell);
        assert!(!cell.order(State::Serving));
        assert!(cell.order(State::Draining));
        cell.set_well(true);
        assert_eq!(state(), State::Draining);
        cell.set_well(false);
        assert!(cell.order(State::Serving));
        assert_eq!(state(), State::Unwell);
        cell.set_well(true);
        assert_eq!(state(), State::Serving);
    }
}
