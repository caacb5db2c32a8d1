//! Domain errors as gRPC statuses, in one place.

use tonic::{Code, Status};

use lb_core::{
    registry::{Refusal, ReportError, UnknownWorker},
    snapshot::PickError,
};
use lb_proto::parse::ParseError;

use crate::{owner::Stopping, scaling};

/// The gRPC status that a domain error becomes.
pub(crate) trait IntoStatus {
    fn into_status(self) -> Status;
}

impl IntoStatus for ParseError {
    fn into_status(self) -> Status {
        Status::invalid_argument(self.to_string())
    }
}

impl IntoStatus for Stopping {
    fn into_status(self) -> Status {
        Status::unavailable(self.to_string())
    }
}

impl IntoStatus for UnknownWorker {
    fn into_status(self) -> Status {
        Status::not_found(self.to_string())
    }
}

impl IntoStatus for ReportError {
    fn into_status(self) -> Status {
        match self {
            Self::NotRegistered(_) => Status::failed_precondition(self.to_string()),
            Self::Impossible(_) => Status::invalid_argument(self.to_string()),
        }
    }
}

impl IntoStatus for Refusal {
    fn into_status(self) -> Status {
        let code = match self {
            Self::Taken { .. } => Code::AlreadyExists,
            Self::Full => Code::ResourceExhausted,
        };
        Status::new(code, self.to_string())
    }
}

impl IntoStatus for scaling::Refusal {
    fn into_status(self) -> Status {
        let code = match self {
            Self::Taken(_) => Code::AlreadyExists,
            Self::Full => Code::ResourceExhausted,
            Self::OtherService(_) => Code::FailedPrecondition,
        };
        Status::new(code, self.to_string())
    }
}

/// What a failed pick is called on the wire. The message names the service.
pub(crate) fn pick_status(error: PickError, service: &str) -> Status {
    let code = match error {
        PickError::UnknownService => Code::NotFound,
        PickError::NoWorker | PickError::NoneAllowed => Code::Unavailable,
    };
    let shown: String = service.chars().take(lb_core::id::SERVICE_NAME_LIMIT).collect();
    Status::new(code, format!("service {shown}: {error}"))
}
