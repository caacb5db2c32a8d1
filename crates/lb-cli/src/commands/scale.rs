//! `lbctl scale`: how many workers there should be, and why.

use std::{fmt::Write as _, time::Duration};

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use lb_proto::v1::{
    ScaleHost, ScaleInstance, ScaleMode, ScaleStatusRequest, ScaleStatusResponse, SetScaleRequest,
    admin_client::AdminClient,
};

use crate::{context::Common, failure::Failure, output::table};

/// What to do.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

/// What to do.
#[derive(Debug, Subcommand)]
enum Action {
    /// Show how many workers are wanted, why, and what each host does
    Status,
    /// Show the last plan: what it changed where, and why
    Plan,
    /// Set the number of workers by hand, whatever the demand
    Set {
        /// How many, 0 to 10000
        #[arg(value_name = "COUNT")]
        count: u32,
    },
    /// Start and stop nothing any more
    Pause,
    /// Let the demand decide again
    Resume,
}

const HEAD: [&str; 7] = ["HOST", "INSTANCE", "STATE", "WORKER", "CALLS", "WANTED", "WHY"];
const MIB: u64 = 1 << 20;

pub(crate) async fn run(common: &Common, arguments: Arguments) -> Result<(), Failure> {
    let mut admin = AdminClient::new(common.balancer().await?);
    let set = |mode: ScaleMode, count| SetScaleRequest { mode: mode.into(), count };
    let status = match arguments.action {
        Action::Status | Action::Plan => admin.scale_status(ScaleStatusRequest {}).await?,
        Action::Set { count } => admin.set_scale(set(ScaleMode::Set, count)).await?,
        Action::Pause => admin.set_scale(set(ScaleMode::Paused, 0)).await?,
        Action::Resume => admin.set_scale(set(ScaleMode::Auto, 0)).await?,
    };
    let status = status.into_inner();
    let text = match arguments.action {
        Action::Status => describe(&status),
        Action::Plan if status.last_decision.is_empty() => {
            format!("nothing has been planned yet: {}", status.state)
        }
        Action::Plan => status.last_decision.clone(),
        Action::Set { .. } | Action::Pause | Action::Resume => summary(&status),
    };
    Ok(common.printer().print(&text, &as_json(&status))?)
}

/// One line: by whom, how many, how many there are.
fn summary(status: &ScaleStatusResponse) -> String {
    let mode = match status.mode() {
        ScaleMode::Set => format!("set to {} by hand", status.set_to),
        ScaleMode::Paused => "paused by hand".into(),
        ScaleMode::Auto | ScaleMode::Unspecified => "by demand".into(),
    };
    let wanted = status.desired.map_or("nothing planned yet".into(), |desired| {
        format!("{desired} wanted, {} ready", status.ready)
    });
    let ScaleStatusResponse { service, min, max, missing, .. } = status;
    let mut text = format!("{service}: {mode}, {wanted}, between {min} and {max}");
    if *missing > 0 {
        put(&mut text, format_args!("; no host has room for {missing} of them"));
    }
    text
}

fn describe(status: &ScaleStatusResponse) -> String {
    let mut text = summary(status);
    if let Some(demand) = &status.demand {
        let per_slot = f64::from(demand.outstanding) / f64::from(demand.slots.max(1));
        put(
            &mut text,
            format_args!(
                "\ndemand: {} calls on {} slots of {} workers, {per_slot:.2} per slot, target {:.2}",
                demand.outstanding, demand.slots, demand.workers, status.target
            ),
        );
    }
    put(&mut text, format_args!("\nstate: {}", status.state));
    let last = status.last_decision.lines().next().unwrap_or("nothing has been planned yet");
    put(&mut text, format_args!("\nlast decision: {last}"));
    for host in &status.hosts {
        put(&mut text, format_args!("\n{}", describe_host(host)));
    }
    let instances = status
        .hosts
        .iter()
        .flat_map(|host| host.instances.iter().map(move |instance| row(host, instance)));
    let rows: Vec<_> = instances.collect();
    if !rows.is_empty() {
        put(&mut text, format_args!("\n\n{}", table(&HEAD, rows)));
    }
    text
}

fn describe_host(host: &ScaleHost) -> String {
    let ScaleHost { host_id, min, max, executor, .. } = host;
    let registered =
        host.instances.iter().filter(|instance| instance.state == "registered").count();
    let (cores, memory) = (f64::from(host.free_millicores) / 1000.0, host.free_memory / MIB);
    let mut text = format!(
        "host {host_id}: {registered} of {min} to {max} ({executor}), {cores:.1} cores and {memory} MiB free"
    );
    if let Some(obeyed) = &host.obeyed {
        put(&mut text, format_args!(", obeys {} plan {}", obeyed.balancer_id, obeyed.generation));
    }
    if !host.connected {
        text.push_str("; its scaler is gone");
    }
    if !host.problem.is_empty() {
        put(&mut text, format_args!("; problem: {}", host.problem));
    }
    text
}

fn row(host: &ScaleHost, instance: &ScaleInstance) -> Vec<String> {
    let why = [&instance.reason, &instance.why].into_iter().find(|text| !text.is_empty());
    vec![
        host.host_id.clone(),
        instance.number.to_string(),
        instance.state.clone(),
        instance.worker_id.clone(),
        instance.outstanding.map(|count| count.to_string()).unwrap_or_default(),
        if instance.wanted { "yes" } else { "no" }.into(),
        why.cloned().unwrap_or_default(),
    ]
}

fn put(text: &mut String, what: std::fmt::Arguments<'_>) {
    text.write_fmt(what).expect("a string takes everything");
}

fn as_json(status: &ScaleStatusResponse) -> Value {
    let mode = match status.mode() {
        ScaleMode::Set => "set",
        ScaleMode::Paused => "paused",
        ScaleMode::Auto | ScaleMode::Unspecified => "auto",
    };
    let seconds = |milliseconds| Duration::from_millis(milliseconds).as_secs_f64();
    json!({
        "balancer": status.balancer_id,
        "cluster": status.cluster,
        "service": status.service,
        "mode": mode,
        "set_to": (status.mode() == ScaleMode::Set).then_some(status.set_to),
        "desired": status.desired,
        "missing": status.missing,
        "ready": status.ready,
        "min": status.min,
        "max": status.max,
        "target": status.target,
        "demand": status.demand.as_ref().map(|demand| json!({
            "outstanding": demand.outstanding,
            "slots": demand.slots,
            "workers": demand.workers,
        })),
        "state": status.state,
        "last_decision": status.last_decision,
        "generation": status.generation,
        "next_judgement_s": seconds(status.next_judgement_ms),
        "not_down_s": seconds(status.not_down_ms),
        "hosts": status.hosts.iter().map(host_as_json).collect::<Vec<_>>(),
    })
}

fn host_as_json(host: &ScaleHost) -> Value {
    json!({
        "id": host.host_id,
        "connected": host.connected,
        "min": host.min,
        "max": host.max,
        "free_millicores": host.free_millicores,
        "free_memory": host.free_memory,
        "obeys": host.obeyed.as_ref().map(|obeyed| json!({
            "balancer": obeyed.balancer_id,
            "generation": obeyed.generation,
        })),
        "problem": host.problem,
        "executor": host.executor,
        "version": host.version,
        "instances": host.instances.iter().map(instance_as_json).collect::<Vec<_>>(),
    })
}

fn instance_as_json(instance: &ScaleInstance) -> Value {
    json!({
        "number": instance.number,
        "worker": instance.worker_id,
        "state": instance.state,
        "reason": instance.reason,
        "wanted": instance.wanted,
        "why": instance.why,
        "outstanding": instance.outstanding,
    })
}
