//! The service every `lb-worker` has built in: small tasks of known cost.
//!
//! A request is parsed once into a [`Task`] that holds only sound values; a task knows nothing of
//! gRPC. Work that needs a CPU runs on a thread of its own and asks a [`Cancel`] every millisecond or
//! so whether anybody still waits for it.

mod burn;
mod cancel;
mod factorial;
mod primes;
mod service;
mod sum;
mod task;

pub use self::{
    cancel::{Cancel, Cancelled},
    service::{ComputeService, RESULT_LIMIT},
    task::{
        BURN_LIMIT, FACTORIAL_LIMIT, PAYLOAD_LIMIT, PRIMES_LIMIT, SLEEP_LIMIT, SUM_LIMIT, Task,
        TaskError, Value,
    },
};
