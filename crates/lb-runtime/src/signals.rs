//! SIGTERM and SIGINT ask for an orderly stop, a second one ends the process at once; SIGHUP asks
//! for a reload.

use std::{future::pending, io, process};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// What a shell reports for a process that a signal ended: 128 and the signal's number.
const SIGNAL_STATUS_BASE: i32 = 128;

/// The signals of this process, to be installed once and early.
#[derive(Debug)]
pub struct Signals {
    shutdown: CancellationToken,
    hangup: Signal,
}

impl Signals {
    /// Takes over SIGTERM, SIGINT and SIGHUP for the rest of the process's life.
    ///
    /// # Errors
    /// When the kernel refuses a handler.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn install() -> io::Result<Self> {
        let terminate = signal(SignalKind::terminate())?;
        let interrupt = signal(SignalKind::interrupt())?;
        let hangup = signal(SignalKind::hangup())?;
        let shutdown = CancellationToken::new();
        tokio::spawn(stop(terminate, interrupt, shutdown.clone()));
        Ok(Self { shutdown, hangup })
    }

    /// Cancelled by the first SIGTERM or SIGINT.
    pub fn shutdown(&self) -> CancellationToken {
        self.shutdown.clone()
    }

    /// Awaits the next SIGHUP. Several that arrive before it is called again count as one.
    /// Dropping the future loses none. A daemon that stops reloads no more.
    pub async fn reload(&mut self) {
        let asked = tokio::select! {
            biased;
            () = self.shutdown.cancelled() => None,
            asked = self.hangup.recv() => asked,
        };
        if asked.is_none() {
            pending::<()>().await;
        }
    }
}

async fn stop(mut terminate: Signal, mut interrupt: Signal, shutdown: CancellationToken) {
    let kind = either(&mut terminate, &mut interrupt).await;
    info!(
        event = "stopping",
        signal = kind.as_raw_value(),
        "stopping; the same again stops at once"
    );
    shutdown.cancel();
    let kind = either(&mut terminate, &mut interrupt).await;
    warn!(signal = kind.as_raw_value(), "stopping at once");
    process::exit(SIGNAL_STATUS_BASE + kind.as_raw_value());
}

async fn either(terminate: &mut Signal, interrupt: &mut Signal) -> SignalKind {
    tokio::select! {
        _ = terminate.recv() => SignalKind::terminate(),
        _ = interrupt.recv() => SignalKind::interrupt(),
    }
}
