//! Certificates are renewed while a process runs. Its files are looked at every minute, which needs nothing from the file
//! system and nothing from who renews, and finds it out in good time.

use std::time::{Duration, SystemTime};

use tokio::time::{Instant, MissedTickBehavior, interval};
use tracing::{info, warn};

use crate::{Mode, Reload, Tls, Validity};

/// How often the files are looked at.
const INTERVAL: Duration = Duration::from_secs(60);
/// A certificate that ends within this time is told of: longer than a holiday.
const ENDS_SOON: Duration = Duration::from_secs(14 * 24 * 60 * 60);
/// How often a certificate that ends, or has ended, is told of.
const REMINDER: Duration = Duration::from_secs(24 * 60 * 60);

/// Keeps up with the files, and tells of a certificate that ends. Never ends.
pub async fn follow(tls: Tls) {
    if tls.mode() == Mode::Open {
        std::future::pending::<()>().await;
    }
    let mut told: Option<(Validity, Instant)> = None;
    let mut ticks = interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        look(&tls);
        let validity = tls.validity(SystemTime::now(), ENDS_SOON);
        let is_told =
            |(what, when): (Validity, Instant)| what == validity && when.elapsed() < REMINDER;
        if !told.is_some_and(is_told) {
            tell(validity);
            told = Some((validity, Instant::now()));
        }
    }
}

/// Looks at the files once, and says what came of it.
pub fn look(tls: &Tls) {
    match tls.reload() {
        Reload::Unchanged | Reload::StillRefused => {}
        Reload::Renewed => {
            info!(event = "certificates_renewed", "new connections use the new certificates");
        }
        Reload::Refused(error) => {
            warn!(event = "certificates_refused", %error, "the old certificates stay in use");
        }
    }
}

fn tell(validity: Validity) {
    let problem = match validity {
        Validity::Good => return,
        Validity::EndsSoon => "it ends in less than two weeks",
        Validity::Ended => "it has ended: nobody takes it any more",
        Validity::NotYet => "it is not valid yet: it, or the clock of this machine, is wrong",
    };
    warn!(event = "certificate_ends", problem, "the certificate must be renewed");
}
