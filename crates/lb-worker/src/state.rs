//! What this worker does at the moment. It is kept in one place, so that every balancer is told the same.

use tokio::sync::watch;

use lb_proto::v1;

/// What a worker does at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// Takes calls.
    Serving,
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
            Self::Draining | Self::Stopping => v1::WorkerState::Draining,
        }
    }
}

/// The one place where the state stands.
#[derive(Debug, Clone)]
pub(crate) struct StateCell(watch::Sender<State>);

impl StateCell {
    pub(crate) fn new() -> Self {
        Self(watch::Sender::new(State::Serving))
    }

    pub(crate) fn changes(&self) -> watch::Receiver<State> {
        self.0.subscribe()
    }

    /// An operator's order. A worker that stops already does not change its mind.
    pub(crate) fn order(&self, wanted: State) -> bool {
        self.0.send_if_modified(|state| {
            let changes = *state != wanted && *state != State::Stopping;
            if changes {
                *state = wanted;
            }
            changes
        })
    }

    /// The worker will leave.
    pub(crate) fn stop(&self) {
        self.0.send_replace(State::Stopping);
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
}
