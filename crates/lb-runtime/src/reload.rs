//! What a daemon says when it has read its configuration again.
//!
//! In the log: one line for what is in force from now on, one for what needs a restart, or one for what is wrong. In
//! `systemctl status`: the last two as well, as long as they are true.

use std::error::Error;

use tracing::{error, info};

use crate::{
    config::{Changes, Loaded, Running},
    exit::describe,
    service,
};

/// One daemon's reloads.
#[derive(Debug)]
pub struct Reloads {
    running: Running,
    status: String,
}

impl Reloads {
    /// Of a daemon that has just told the service manager `status`, and runs with `loaded`. The keys `live`, written with
    /// dots, can be changed while it runs.
    pub fn new<T>(status: String, loaded: &Loaded<T>, live: &[&str]) -> Self {
        Self { running: Running::new(loaded, live), status }
    }

    /// The live keys of `loaded` are in force.
    pub fn applied<T>(&mut self, loaded: &Loaded<T>) {
        let Changes { applied, restart } = self.running.adopt(loaded);
        if applied.is_empty() && restart.is_empty() {
            info!(event = "reloaded", applied = "nothing new", "configuration read again");
        }
        if !applied.is_empty() {
            info!(event = "reloaded", applied = applied.join(", "), "configuration read again");
        }
        let mut status = self.status.clone();
        if !restart.is_empty() {
            let keys = restart.join(", ");
            status = format!("{status}; a restart is needed for {keys}");
            info!(event = "restart_needed", keys, "changes that need a restart");
        }
        service::ready(&status);
    }

    /// The configuration cannot be used, and nothing has changed.
    pub fn refused(&self, problem: &dyn Error) {
        let problem = describe(problem);
        let status = format!("{}; the configuration is not valid: {problem}", self.status);
        error!(event = "reload_refused", error = problem, "the configuration stays as it was");
        service::ready(&status);
    }
}
