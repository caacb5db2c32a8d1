//! `lbctl run`: one task, from discovery to its result.

use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use tonic::Response;

use lb_client::CallInfo;
use lb_proto::v1::{
    Burn, Echo, Factorial, Primes, ResultChunk, Reverse, Sleep, Sum, Task, TaskResult,
    compute_client::ComputeClient, task::Kind, task_result::Value as Answer,
};

use crate::{
    context::Common,
    failure::Failure,
    output::{Output, note},
};

/// Longest message taken from a worker, in bytes: its results have at most 1 MiB, and some frame around it.
const MESSAGE_LIMIT: usize = 2 << 20;

/// Which task.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// gRPC service that offers the tasks
    #[arg(long, global = true, value_name = "NAME", default_value = "lb.v1.Compute")]
    service: String,
    /// Give up after this time
    #[arg(long, global = true, value_name = "TIME", value_parser = humantime::parse_duration)]
    deadline: Option<Duration>,
    #[command(subcommand)]
    task: TaskArguments,
}

/// The tasks that lb-worker has built in.
#[derive(Debug, Subcommand)]
enum TaskArguments {
    /// Wait, using a slot but no CPU
    Sleep {
        /// How long: 3s, 250ms
        #[arg(value_parser = humantime::parse_duration)]
        time: Duration,
    },
    /// Add up 1 to N
    #[command(allow_negative_numbers = true)]
    Sum {
        /// Up to this number
        n: i64,
    },
    /// N!, right to the last digit
    #[command(allow_negative_numbers = true)]
    Factorial {
        /// Of this number
        n: i64,
    },
    /// A text backwards
    Reverse {
        /// The text
        text: String,
    },
    /// Use one CPU for a while
    Burn {
        /// How much CPU time: 200ms
        #[arg(value_parser = humantime::parse_duration)]
        time: Duration,
    },
    /// Count the primes up to N
    #[command(allow_negative_numbers = true)]
    Primes {
        /// Up to this number
        n: i64,
    },
    /// Get a text back at once
    Echo {
        /// The text
        text: String,
    },
}

impl TaskArguments {
    fn name(&self) -> &'static str {
        match self {
            Self::Sleep { .. } => "sleep",
            Self::Sum { .. } => "sum",
            Self::Factorial { .. } => "factorial",
            Self::Reverse { .. } => "reverse",
            Self::Burn { .. } => "burn",
            Self::Primes { .. } => "primes",
            Self::Echo { .. } => "echo",
        }
    }

    /// Results of these can be larger than a message.
    fn is_streamed(&self) -> bool {
        matches!(self, Self::Factorial { .. })
    }

    fn into_task(self) -> Task {
        Task {
            kind: Some(match self {
                Self::Sleep { time } => Kind::Sleep(Sleep { duration_us: microseconds(time) }),
                Self::Sum { n } => Kind::Sum(Sum { n }),
                Self::Factorial { n } => Kind::Factorial(Factorial { n }),
                Self::Reverse { text } => Kind::Reverse(Reverse { text }),
                Self::Burn { time } => Kind::Burn(Burn { cpu_us: microseconds(time) }),
                Self::Primes { n } => Kind::Primes(Primes { up_to: n }),
                Self::Echo { text } => Kind::Echo(Echo { payload: text.into() }),
            }),
        }
    }
}

/// A result, and what the worker says of it.
#[derive(Debug)]
struct Done {
    value: Value,
    worker: String,
    queued_us: u64,
    service_us: u64,
    /// Already printed, piece by piece.
    printed: bool,
}

/// How long each part took.
struct Times {
    discover: Duration,
    call: Duration,
    total: Duration,
}

pub(crate) async fn run(common: &Common, arguments: Arguments) -> Result<(), Failure> {
    let started = Instant::now();
    let name = arguments.task.name();
    let streamed = arguments.task.is_streamed();
    let channel = common.balanced(&arguments.service).await?;
    let discover = started.elapsed();
    let mut client = ComputeClient::new(channel).max_decoding_message_size(MESSAGE_LIMIT);
    let mut request = tonic::Request::new(arguments.task.into_task());
    if let Some(deadline) = arguments.deadline {
        request.set_timeout(deadline);
    }
    let (done, info) = if streamed {
        let response = client.run_stream(request).await?;
        let info = call_info(&response);
        (collect(response.into_inner(), common.printer()).await?, info)
    } else {
        let response = client.run(request).await?;
        let info = call_info(&response);
        (done(response.into_inner())?, info)
    };
    let total = started.elapsed();
    let pick = info.as_ref().map_or(Duration::ZERO, |info| info.pick_duration);
    let call = total.saturating_sub(discover + pick);
    print(common, name, &done, info.as_ref(), &Times { discover, call, total })
}

fn call_info<T>(response: &Response<T>) -> Option<CallInfo> {
    response.extensions().get::<CallInfo>().cloned()
}

fn done(result: TaskResult) -> Result<Done, Failure> {
    let value = match result.value {
        Some(Answer::Number(number)) => json!(number),
        Some(Answer::Text(text)) => json!(text),
        Some(Answer::ElapsedUs(elapsed)) => json!(format!("{:?}", Duration::from_micros(elapsed))),
        Some(Answer::Payload(payload)) => json!(String::from_utf8_lossy(&payload)),
        None => return Err(tonic::Status::internal("the worker sent an empty result").into()),
    };
    let TaskResult { worker_id: worker, queued_us, service_us, .. } = result;
    Ok(Done { value, worker, queued_us, service_us, printed: false })
}

async fn collect(
    mut chunks: tonic::Streaming<ResultChunk>,
    output: Output,
) -> Result<Done, Failure> {
    let mut text = String::new();
    let mut head: Option<ResultChunk> = None;
    while let Some(chunk) = chunks.message().await? {
        output.piece(&chunk.text)?;
        text.push_str(&chunk.text);
        head.get_or_insert(chunk);
    }
    let head = head.ok_or_else(|| tonic::Status::internal("the worker sent an empty result"))?;
    let ResultChunk { worker_id: worker, queued_us, service_us, .. } = head;
    Ok(Done { value: json!(text), worker, queued_us, service_us, printed: true })
}

fn print(
    common: &Common,
    task: &str,
    done: &Done,
    info: Option<&CallInfo>,
    times: &Times,
) -> Result<(), Failure> {
    let pick = info.map_or(Duration::ZERO, |info| info.pick_duration);
    let connect = info.map_or(Duration::ZERO, |info| info.connect_duration);
    let balancer = info.map(|info| info.balancer_id.to_string());
    let json = json!({
        "task": task,
        "result": done.value,
        "worker": done.worker,
        "address": info.map(|info| info.address.to_string()),
        "balancer": balancer,
        "attempts": info.map(|info| info.attempts),
        "discover_us": microseconds(times.discover),
        "pick_us": microseconds(pick),
        "connect_us": microseconds(connect),
        "queued_us": done.queued_us,
        "service_us": done.service_us,
        "call_us": microseconds(times.call),
        "total_us": microseconds(times.total),
    });
    let text = match &done.value {
        _ if done.printed => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    common.printer().print(&text, &json)?;
    if common.verbose {
        let unknown = || "unknown".to_owned();
        note(&format!(
            "worker {} at {}, balancer {}\ndiscovery {:?}, pick {:?}, connection {:?}, in the worker: waiting {:?}, working {:?}; total {:?}",
            done.worker,
            info.map_or_else(unknown, |info| info.address.to_string()),
            balancer.unwrap_or_else(unknown),
            rounded(times.discover),
            rounded(pick),
            rounded(connect),
            Duration::from_micros(done.queued_us),
            Duration::from_micros(done.service_us),
            rounded(times.total),
        ));
    }
    Ok(())
}

fn rounded(duration: Duration) -> Duration {
    Duration::from_micros(microseconds(duration))
}

fn microseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
