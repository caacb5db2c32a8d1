//! `lbctl policy`.
#![expect(clippy::doc_markdown, reason = "clap prints the comments of flags as they stand")]

use clap::Args;
use serde_json::json;

use lb_proto::v1::{GetPolicyRequest, SetPolicyRequest, admin_client::AdminClient};

use crate::{context::Common, failure::Failure};

/// Which policy.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Policy to put in force: pick_first (first), round_robin (rr), least_load (ll) or random
    #[arg(value_name = "NAME")]
    policy: Option<String>,
}

pub(crate) async fn run(common: &Common, arguments: Arguments) -> Result<(), Failure> {
    let mut admin = AdminClient::new(common.balancer().await?);
    let answer = match arguments.policy {
        Some(policy) => admin.set_policy(SetPolicyRequest { policy }).await?,
        None => admin.get_policy(GetPolicyRequest {}).await?,
    };
    let answer = answer.into_inner();
    let json = json!({ "policy": answer.policy, "available": answer.available });
    Ok(common.printer().print(&answer.policy, &json)?)
}
