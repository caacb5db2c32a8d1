//! Is an attached service well? Asked once a second, the way a client would ask.
//!
//! A gRPC service is asked by `grpc.health.v1` for each service that it is registered for; one that it does not know by name stands for
//! the whole server. A server that has no health service has answered as well, so it is alive, and so is one that takes a TCP
//! connection where nothing else is wanted ([`Health::Tcp`]).

use std::{error::Error as _, io, net::SocketAddr, time::Duration};

use serde::Deserialize;
use tokio::{
    net::TcpStream,
    sync::watch,
    time::{MissedTickBehavior, interval, timeout},
};
use tonic::{Code, Status, transport::Channel};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tracing::{info, warn};

use lb_core::id::ServiceName;
use lb_runtime::exit::describe;

use super::Target;
use crate::state::StateCell;

/// A service that fails is out of rotation within about this time, if clients have not told before.
const INTERVAL: Duration = Duration::from_secs(1);
/// A server on the same machine that takes longer is not well, or has too much to do.
pub(super) const TIMEOUT: Duration = Duration::from_secs(1);
/// A service that only did not answer in time is given this many chances in a row: a pause to collect garbage is no failure.
const SILENCES: u32 = 3;

/// How to ask.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, serde::Serialize, clap::ValueEnum,
)]
#[serde(rename_all = "lowercase")]
pub enum Health {
    /// By grpc.health.v1; any answer will do of a server that does not have it
    #[default]
    Grpc,
    /// By a TCP connection
    Tcp,
}

/// What is wrong with a service.
#[derive(Debug, thiserror::Error)]
enum HealthError {
    #[error("it takes no connection at {address}")]
    Connect { address: SocketAddr, source: io::Error },
    #[error("it does not answer within {} s", TIMEOUT.as_secs())]
    Silent,
    #[error("it says that {service:?} is {status:?}")]
    NotServing { service: String, status: ServingStatus },
    #[error("it does not answer a health check (health = \"tcp\" is for what does not speak gRPC)")]
    Answer(#[source] Box<Status>),
    #[error(
        "it listens on the loopback alone, where other machines cannot reach it: let it listen on 0.0.0.0:{port}, or serve this \
         machine only (--local)"
    )]
    Loopback { port: u16 },
}

/// Looks for ever, and keeps `state` in step.
pub(super) async fn follow(mut checker: Checker, state: StateCell, looked: watch::Sender<()>) {
    let mut ticks = interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        state.set_well(checker.look().await);
        looked.send_replace(());
    }
}

/// Asks, and remembers what it was told.
#[derive(Debug)]
pub(super) struct Checker {
    health: Health,
    target: Target,
    channel: Channel,
    services: Vec<ServiceName>,
    is_well: bool,
    silences: u32,
    /// What was logged last, so that the same trouble is told once.
    known_trouble: Option<String>,
}

impl Checker {
    pub(super) fn new(
        health: Health,
        target: Target,
        channel: Channel,
        services: Vec<ServiceName>,
    ) -> Self {
        let (is_well, silences, known_trouble) = (false, 0, None);
        Self { health, target, channel, services, is_well, silences, known_trouble }
    }

    /// Whether the service is well.
    async fn look(&mut self) -> bool {
        let found = match self.ask().await {
            // Where it listens does not change while it runs.
            Ok(()) if !self.is_well && !self.target.is_reachable().await => {
                Err(HealthError::Loopback { port: self.target.dialled().port() })
            }
            found => found,
        };
        self.silences =
            if matches!(found, Err(HealthError::Silent)) { self.silences + 1 } else { 0 };
        let address = self.target.dialled();
        match found {
            Ok(()) => {
                self.known_trouble = None;
                if !std::mem::replace(&mut self.is_well, true) {
                    info!(event = "service_well", %address, "the attached service is well");
                }
            }
            Err(HealthError::Silent) if self.is_well && self.silences < SILENCES => {}
            Err(trouble) => {
                self.is_well = false;
                let text = describe(&trouble);
                if self.known_trouble.as_ref() != Some(&text) {
                    warn!(
                        event = "service_unwell", %address, cause = text,
                        "the attached service is not well and out of rotation"
                    );
                    self.known_trouble = Some(text);
                }
            }
        }
        self.is_well
    }

    async fn ask(&self) -> Result<(), HealthError> {
        let asking = async {
            match self.health {
                Health::Tcp => self.connect().await,
                Health::Grpc => self.ask_all().await,
            }
        };
        timeout(TIMEOUT, asking).await.unwrap_or(Err(HealthError::Silent))
    }

    async fn connect(&self) -> Result<(), HealthError> {
        let address = self.target.dialled();
        let connected = TcpStream::connect(address).await;
        connected.map(drop).map_err(|source| HealthError::Connect { address, source })
    }

    async fn ask_all(&self) -> Result<(), HealthError> {
        for service in &self.services {
            let known = self.ask_about(service.as_str()).await?;
            if !known {
                // Whatever it knows of the whole, it has answered.
                self.ask_about("").await?;
            }
        }
        Ok(())
    }

    /// Whether the server knows of this service, and then it is well.
    async fn ask_about(&self, service: &str) -> Result<bool, HealthError> {
        let request = HealthCheckRequest { service: service.to_owned() };
        let asked = HealthClient::new(self.channel.clone()).check(request).await;
        let status = match asked {
            Ok(answer) => match answer.into_inner().status() {
                ServingStatus::Serving => return Ok(true),
                status => {
                    return Err(HealthError::NotServing { service: service.to_owned(), status });
                }
            },
            Err(status) => status,
        };
        match (status.code(), not_connected(&status)) {
            (_, Some(kind)) => {
                let (address, source) = (self.target.dialled(), kind.into());
                Err(HealthError::Connect { address, source })
            }
            (Code::NotFound, None) => Ok(false),
            (Code::Unimplemented, None) => Ok(true),
            _ => Err(HealthError::Answer(Box::new(status))),
        }
    }
}

/// Why there was no connection to ask on, if that is what failed.
fn not_connected(status: &Status) -> Option<io::ErrorKind> {
    let mut cause = status.source();
    while let Some(error) = cause {
        let kind = error.downcast_ref::<io::Error>().map(io::Error::kind);
        if kind == Some(io::ErrorKind::ConnectionRefused) {
            return kind;
        }
        cause = error.source();
    }
    None
}
