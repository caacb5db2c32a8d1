//! What systemd is told: ready, status, alive, stopping.
//!
//! Every function does nothing where no service manager listens (`NOTIFY_SOCKET` is not set). A
//! message that cannot be delivered is logged and otherwise ignored: a daemon does not stop serving
//! because its supervisor is deaf.

use std::{
    io,
    os::fd::BorrowedFd,
    time::{Duration, Instant},
};

use sd_notify::NotifyState;
use tracing::warn;

/// The daemon serves: to be called after the listening socket is open and the announcement is out.
pub fn ready(status: &str) {
    notify(&[NotifyState::Ready, NotifyState::Status(&one_line(status))]);
}

/// One line for `systemctl status`.
pub fn status(text: &str) {
    notify(&[NotifyState::Status(&one_line(text))]);
}

/// The daemon reads its configuration again; [`ready`] says that it has.
pub fn reloading() {
    // Without the time, systemd 253 and later would take a service of type notify-reload for broken.
    let now = NotifyState::monotonic_usec_now().ok();
    notify(&[&[NotifyState::Reloading], now.as_slice()].concat());
}

/// The daemon has begun to stop, and may take so long; where the unit allows less, this counts.
pub fn stopping(limit: Duration) {
    let extend = format!("EXTEND_TIMEOUT_USEC={}", limit.as_micros());
    notify(&[NotifyState::Stopping, NotifyState::Custom(&extend)]);
}

/// How often [`feed_watchdog`] must be called: half of what the unit's `WatchdogSec=` allows.
/// `None` without a watchdog.
pub fn watchdog_interval() -> Option<Duration> {
    sd_notify::watchdog_enabled().filter(|limit| !limit.is_zero()).map(|limit| limit / 2)
}

/// The daemon is alive. Call it from the loop that does the work, not from a timer of its own,
/// which would go on ticking while the work hangs.
pub fn feed_watchdog() {
    notify(&[NotifyState::Watchdog]);
}

/// Feeds the watchdog from a loop that turns far more often than is needed.
#[derive(Debug)]
pub struct Watchdog {
    every: Option<Duration>,
    fed: Option<Instant>,
}

impl Watchdog {
    /// The watchdog of this process, if the unit has one.
    pub fn from_environment() -> Self {
        Self { every: watchdog_interval(), fed: None }
    }

    /// The loop has turned. A message to systemd costs more than a turn, so most turns send none.
    pub fn feed(&mut self) {
        let Some(every) = self.every else { return };
        // Half of it, so that the next turn may be late.
        if self.fed.is_none_or(|fed| fed.elapsed() >= every / 2) {
            self.fed = Some(Instant::now());
            feed_watchdog();
        }
    }
}

/// Lets the service manager keep a descriptor under this name.
pub(crate) fn store(name: &str, descriptor: BorrowedFd<'_>) {
    let states = [NotifyState::FdStore, NotifyState::FdName(name)];
    tell(sd_notify::notify_with_fds(&states, &[descriptor]));
}

/// Lets it close the descriptors that it keeps under this name.
pub(crate) fn remove_stored(name: &str) {
    notify(&[NotifyState::FdStoreRemove, NotifyState::FdName(name)]);
}

fn notify(states: &[NotifyState<'_>]) {
    tell(sd_notify::notify(states));
}

fn tell(sent: io::Result<()>) {
    if let Err(error) = sent {
        warn!(%error, "cannot notify the service manager");
    }
}

/// A second line would be another assignment to the service manager.
fn one_line(text: &str) -> String {
    text.split(['\n', '\r']).collect::<Vec<_>>().join(" ")
}
