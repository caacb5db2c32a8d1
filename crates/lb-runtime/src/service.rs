//! What systemd is told: ready, status, alive, stopping.
//!
//! Every function does nothing where no service manager listens (`NOTIFY_SOCKET` is not set). A
//! message that cannot be delivered is logged and otherwise ignored: a daemon does not stop serving
//! because its supervisor is deaf.

use std::time::Duration;

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

/// The daemon has begun to stop.
pub fn stopping() {
    notify(&[NotifyState::Stopping]);
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

fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        warn!(%error, "cannot notify the service manager");
    }
}

/// A second line would be another assignment to the service manager.
fn one_line(text: &str) -> String {
    text.split(['\n', '\r']).collect::<Vec<_>>().join(" ")
}
