//! `lbctl pick`: one unary pick, as any language would make it.

use clap::Args;
use serde_json::json;

use lb_proto::v1::{PickRequest, load_balancer_client::LoadBalancerClient};

use crate::{context::Common, failure::Failure, output::table};

/// What to pick for.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// gRPC service to call
    #[arg(long, value_name = "NAME", default_value = "lb.v1.Compute")]
    service: String,
    /// How many workers to name, best first; at most 8
    #[arg(long, value_name = "COUNT", default_value_t = 2)]
    choices: u32,
    /// Id of a worker not to pick; may be repeated
    #[arg(long, value_name = "ID")]
    exclude: Vec<String>,
    /// Label the worker must have; may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = label)]
    label: Vec<(String, String)>,
    /// Picks with the same key go to the same worker, where the policy supports it
    #[arg(long, value_name = "KEY", default_value = "")]
    affinity: String,
}

fn label(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("expected KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}

pub(crate) async fn run(common: &Common, arguments: Arguments) -> Result<(), Failure> {
    let mut client = LoadBalancerClient::new(common.balancer().await?);
    let request = PickRequest {
        service: arguments.service,
        exclude: arguments.exclude,
        affinity_key: arguments.affinity,
        labels: arguments.label.into_iter().collect(),
        choices: arguments.choices,
    };
    let answer = client.pick(request).await?.into_inner();
    let rows = answer
        .choices
        .iter()
        .map(|choice| vec![choice.worker_id.clone(), choice.address.clone(), choice.token.clone()]);
    let mut text = table(&["WORKER", "ADDRESS", "TOKEN"], rows.collect());
    if common.verbose {
        let (balancer, policy, reason) = (&answer.balancer_id, &answer.policy, &answer.reason);
        text = format!("{text}\nbalancer {balancer}, {policy}: {reason}");
    }
    let choices: Vec<_> = answer
        .choices
        .iter()
        .map(|choice| json!({ "worker": choice.worker_id, "address": choice.address, "token": choice.token }))
        .collect();
    let json = json!({
        "choices": choices,
        "balancer": answer.balancer_id,
        "policy": answer.policy,
        "reason": answer.reason,
    });
    Ok(common.printer().print(&text, &json)?)
}
