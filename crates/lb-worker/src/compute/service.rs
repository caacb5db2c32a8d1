//! The Compute service on the wire: requests in, values out, in one message or in pieces.

use std::{iter, time::Duration};

use tokio::{task::spawn_blocking, time::Instant};
use tokio_stream::Iter;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use lb_core::id::WorkerId;
use lb_proto::v1::{self, ResultChunk, TaskResult, compute_server::Compute, task_result};

use super::{
    cancel::Cancel,
    factorial::decimal_digits,
    task::{Task, Value},
};
use crate::layer::CallInfo;

/// Longest text in one message, in bytes: a quarter of what gRPC clients take by default.
pub const RESULT_LIMIT: usize = 1024 * 1024;
/// Longest text in one piece of a stream, in bytes: keeps single frames from holding up others on the connection.
const CHUNK_LIMIT: usize = 64 * 1024;

/// The built-in service. Stateless: limits and queueing are the worker's.
#[derive(Debug, Clone)]
pub struct ComputeService {
    worker: WorkerId,
}

/// A finished task, and how long it took.
struct Done {
    value: Value,
    queued_us: u64,
    service_us: u64,
}

impl ComputeService {
    /// A service that signs its results with `worker`.
    pub fn new(worker: WorkerId) -> Self {
        Self { worker }
    }
}

#[tonic::async_trait]
impl Compute for ComputeService {
    async fn run(&self, request: Request<v1::Task>) -> Result<Response<TaskResult>, Status> {
        let (task, queued) = parse(request)?;
        if let Task::Factorial(n) = task {
            // Known beforehand, so nobody computes for seconds what cannot be sent.
            check_length(decimal_digits(n))?;
        }
        let done = perform(task, queued).await?;
        if let Value::Text(text) = &done.value {
            check_length(text.len())?;
        }
        Ok(Response::new(TaskResult {
            worker_id: self.worker.to_string(),
            queued_us: done.queued_us,
            service_us: done.service_us,
            value: Some(to_proto(done.value)),
        }))
    }

    type RunStreamStream = Iter<Pieces>;

    async fn run_stream(
        &self,
        request: Request<v1::Task>,
    ) -> Result<Response<Iter<Pieces>>, Status> {
        let (task, queued) = parse(request)?;
        if let Task::Echo(_) = task {
            return Err(Status::invalid_argument("task is echo: RunStream streams text, use Run"));
        }
        let done = perform(task, queued).await?;
        let first = ResultChunk {
            text: String::new(),
            worker_id: self.worker.to_string(),
            queued_us: done.queued_us,
            service_us: done.service_us,
        };
        let pieces = Pieces { first: Some(first), text: to_text(done.value), sent: 0 };
        Ok(Response::new(tokio_stream::iter(pieces)))
    }
}

fn parse(request: Request<v1::Task>) -> Result<(Task, Duration), Status> {
    let queued = request.extensions().get::<CallInfo>().map_or(Duration::ZERO, |call| call.queued);
    let task = Task::parse(request.into_inner());
    Ok((task.map_err(|error| Status::invalid_argument(error.to_string()))?, queued))
}

async fn perform(task: Task, queued: Duration) -> Result<Done, Status> {
    let started = Instant::now();
    let value = match task {
        Task::Sleep(duration) => {
            tokio::time::sleep(duration).await;
            Value::Elapsed(started.elapsed())
        }
        task if task.needs_thread() => on_a_thread(task).await?,
        task => {
            task.run(&Cancel::default()).map_err(|error| Status::cancelled(error.to_string()))?
        }
    };
    Ok(Done { value, queued_us: microseconds(queued), service_us: microseconds(started.elapsed()) })
}

/// When this future is dropped, because the caller has gone or its deadline is over, the thread is told.
async fn on_a_thread(task: Task) -> Result<Value, Status> {
    let token = CancellationToken::new();
    let _told_when_dropped = token.clone().drop_guard();
    let work = spawn_blocking(move || task.run(&Cancel::new(token)));
    match work.await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(cancelled)) => Err(Status::cancelled(cancelled.to_string())),
        Err(error) => Err(Status::internal(format!("the task failed: {error}"))),
    }
}

fn check_length(bytes: usize) -> Result<(), Status> {
    if bytes <= RESULT_LIMIT {
        return Ok(());
    }
    Err(Status::out_of_range(format!(
        "the result has {bytes} bytes: Run answers at most {RESULT_LIMIT}, use RunStream"
    )))
}

fn to_proto(value: Value) -> task_result::Value {
    match value {
        Value::Number(number) => task_result::Value::Number(number),
        Value::Text(text) => task_result::Value::Text(text),
        Value::Elapsed(elapsed) => task_result::Value::ElapsedUs(microseconds(elapsed)),
        Value::Payload(payload) => task_result::Value::Payload(payload),
    }
}

fn to_text(value: Value) -> String {
    match value {
        Value::Number(number) => number.to_string(),
        Value::Text(text) => text,
        Value::Elapsed(elapsed) => microseconds(elapsed).to_string(),
        Value::Payload(payload) => String::from_utf8_lossy(&payload).into_owned(),
    }
}

fn microseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// A result in pieces: first who answers, then the text, cut between characters.
#[derive(Debug)]
pub struct Pieces {
    first: Option<ResultChunk>,
    text: String,
    sent: usize,
}

impl Iterator for Pieces {
    type Item = Result<ResultChunk, Status>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(first) = self.first.take() {
            return Some(Ok(first));
        }
        let rest = &self.text[self.sent..];
        if rest.is_empty() {
            return None;
        }
        let mut end = rest.len().min(CHUNK_LIMIT);
        while !rest.is_char_boundary(end) {
            end -= 1;
        }
        self.sent += end;
        Some(Ok(ResultChunk { text: rest[..end].to_owned(), ..ResultChunk::default() }))
    }
}

impl iter::FusedIterator for Pieces {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_cut_between_characters() {
        let text: String = "aß→🙂".chars().cycle().take(100_000).collect();
        let pieces = Pieces { first: Some(ResultChunk::default()), text: text.clone(), sent: 0 };
        let pieces: Vec<String> = pieces.map(|piece| piece.unwrap().text).collect();
        assert!(pieces[0].is_empty());
        assert!(pieces[1..].iter().all(|piece| (1..=CHUNK_LIMIT).contains(&piece.len())));
        assert_eq!(pieces.concat(), text);
    }
}
