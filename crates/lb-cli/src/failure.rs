//! Why a command failed, in words and as an exit code.
//!
//! | code | meaning |
//! |---|---|
//! | 0 | done |
//! | 1 | the call failed in the worker |
//! | 64 | the command line is wrong |
//! | 65 | an argument was refused: out of range, unknown name |
//! | 69 | no balancer, no worker, unknown service |
//! | 70 | a defect |
//! | 73 | a file could not be written |
//! | 75 | overloaded or too late: try again |
//! | 77 | not permitted |
//! | 130 | stopped by Ctrl-C |

use std::{io::Write as _, path::Path, process::ExitCode};

use serde_json::json;
use tonic::{Code, Status};

use lb_client::ConnectError;
use lb_pki::FolderError;
use lb_runtime::exit;

use crate::commands::bench::run::ScenarioError;

/// An argument was refused by whom it was given to.
const REFUSED: u8 = 65;
/// The call itself failed.
const FAILED: u8 = 1;
/// Stopped by Ctrl-C.
pub(crate) const INTERRUPTED: u8 = 130;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The command line is wrong; clap explains it.
    #[error("{0}")]
    Usage(#[from] clap::Error),
    /// No balancer.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The balancer or the worker said no.
    #[error("{}", describe(.0))]
    Status(#[from] Status),
    /// A file could not be written.
    #[error("cannot write {path}: {source}")]
    Write {
        /// Which file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// A certificate could not be made, or kept.
    #[error(transparent)]
    Pki(#[from] FolderError),
    /// A scenario cannot be run.
    #[error(transparent)]
    Scenario(#[from] ScenarioError),
    /// An argument, or a file that was given, cannot be used.
    #[error("{0}")]
    Refused(String),
    /// Something on this machine does not work.
    #[error("{0:#}")]
    Other(#[from] anyhow::Error),
    /// Ctrl-C.
    #[error("stopped")]
    Interrupted,
}

fn describe(status: &Status) -> String {
    let code = code_name(status.code());
    if status.message().is_empty() {
        code.to_owned()
    } else {
        format!("{code}: {}", status.message())
    }
}

impl Failure {
    /// That this file could not be written.
    pub(crate) fn write(path: &Path, source: std::io::Error) -> Self {
        Self::Write { path: path.display().to_string(), source }
    }

    /// The exit code for scripts; see the module's table.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(error) if !error.use_stderr() => 0,
            Self::Usage(_) => exit::USAGE,
            Self::Connect(ConnectError::NoBalancer { .. } | ConnectError::Discovery(_)) => {
                exit::UNAVAILABLE
            }
            Self::Pki(FolderError::Write { .. }) | Self::Write { .. } => exit::CANTCREAT,
            Self::Connect(_) | Self::Scenario(_) | Self::Refused(_) | Self::Pki(_) => REFUSED,
            Self::Status(status) => status_exit_code(status.code()),
            Self::Other(_) => exit::SOFTWARE,
            Self::Interrupted => INTERRUPTED,
        }
    }

    /// The failure as JSON.
    pub(crate) fn json(&self) -> serde_json::Value {
        let code = match self {
            Self::Status(status) => code_name(status.code()),
            Self::Connect(ConnectError::NoBalancer { .. }) => "UNAVAILABLE",
            Self::Pki(FolderError::Write { .. }) | Self::Write { .. } | Self::Other(_) => {
                "INTERNAL"
            }
            Self::Connect(_)
            | Self::Usage(_)
            | Self::Scenario(_)
            | Self::Refused(_)
            | Self::Pki(_) => "INVALID_ARGUMENT",
            Self::Interrupted => "CANCELLED",
        };
        json!({ "error": { "code": code, "message": self.to_string() } })
    }

    /// Prints what clap has to say and returns the exit code.
    pub(crate) fn report_usage(&self) -> ExitCode {
        if let Self::Usage(error) = self {
            // If nobody reads it, the exit code still tells.
            drop(error.print());
        }
        ExitCode::from(self.exit_code())
    }

    /// Says what went wrong in one line, and returns the exit code.
    pub(crate) fn report(&self) -> ExitCode {
        drop(writeln!(std::io::stderr(), "lbctl: error: {self}"));
        ExitCode::from(self.exit_code())
    }
}

fn status_exit_code(code: Code) -> u8 {
    match code {
        Code::InvalidArgument
        | Code::OutOfRange
        | Code::AlreadyExists
        | Code::FailedPrecondition => REFUSED,
        Code::Unavailable | Code::NotFound | Code::Unimplemented => exit::UNAVAILABLE,
        Code::ResourceExhausted | Code::DeadlineExceeded | Code::Aborted => exit::TEMPFAIL,
        Code::PermissionDenied | Code::Unauthenticated => exit::NOPERM,
        Code::Cancelled => INTERRUPTED,
        _ => FAILED,
    }
}

/// The name of a gRPC status code, as the specification writes it.
pub(crate) fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}
