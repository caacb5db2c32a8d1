//! `lbctl policy`.
#![expect(clippy::doc_markdown, reason = "clap prints the comments of flags as they stand")]

use clap::Args;
use serde_json::json;

use lb_core::policy::PolicyKind;
use lb_proto::v1::{GetPolicyRequest, SetPolicyRequest, admin_client::AdminClient};

use crate::{context::Common, failure::Failure};

/// Which policy.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Policy to put in force: pick_first (first), round_robin (rr), least_load (ll), random, weighted_round_robin (wrr), p2c, ring_hash (ring), maglev or prequal
    #[arg(value_name = "NAME")]
    policy: Option<String>,
    /// Tell what a policy does, where it comes from and where it is weak; changes nothing
    #[arg(long, requires = "policy")]
    explain: bool,
}

pub(crate) async fn run(common: &Common, arguments: Arguments) -> Result<(), Failure> {
    if let (true, Some(name)) = (arguments.explain, &arguments.policy) {
        let policy: PolicyKind =
            name.parse().map_err(|error| tonic::Status::invalid_argument(format!("{error}")))?;
        let text = policy.explain();
        let json = json!({ "policy": policy.name(), "explanation": text });
        return Ok(common.printer().print(&text, &json)?);
    }
    let mut admin = AdminClient::new(common.balancer().await?);
    let answer = match arguments.policy {
        Some(policy) => admin.set_policy(SetPolicyRequest { policy }).await?,
        None => admin.get_policy(GetPolicyRequest {}).await?,
    };
    let answer = answer.into_inner();
    let json = json!({ "policy": answer.policy, "available": answer.available });
    Ok(common.printer().print(&answer.policy, &json)?)
}
