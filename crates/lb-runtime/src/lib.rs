//! What every daemon shares, so that each `main` is short and they all behave alike.
//!
//! - [`activation`]: listening sockets that outlive a restart;
//! - [`config`]: layers of configuration, with messages that name the key and where it came from;
//! - [`logging`]: the journal under systemd, standard error otherwise;
//! - [`service`]: READY, STATUS, WATCHDOG and STOPPING for systemd, silent without it;
//! - [`signals`]: an orderly stop on SIGTERM and SIGINT, a reload on SIGHUP;
//! - [`events`]: the table of what operators are told;
//! - [`exit`]: exit codes and the one line that explains them;
//! - [`net`]: a listening socket from a short text;
//! - [`reload`]: what is said when the configuration was read again;
//! - [`tied`]: an end together with the parent.

pub mod activation;
pub mod config;
pub mod events;
pub mod exit;
pub mod logging;
pub mod net;
pub mod reload;
pub mod service;
pub mod signals;
pub mod tied;
