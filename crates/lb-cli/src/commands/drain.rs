//! `lbctl drain` and `lbctl undrain`.

use clap::Args;
use serde_json::json;

use lb_proto::v1::{DrainRequest, UndrainRequest, admin_client::AdminClient};

use crate::{context::Common, failure::Failure};

/// Which worker.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Id of the worker
    #[arg(value_name = "ID")]
    worker: String,
}

pub(crate) async fn drain(common: &Common, arguments: Arguments) -> Result<(), Failure> {
    let worker_id = arguments.worker;
    let mut admin = AdminClient::new(common.balancer().await?);
    let answer = admin.drain(DrainRequest { worker_id: worker_id.clone() }).await?.into_inner();
    let text = format!("{worker_id} gets no more calls; {} still in it", answer.outstanding);
    let json =
        json!({ "worker": worker_id, "state": "draining", "outstanding": answer.outstanding });
    Ok(common.printer().print(&text, &json)?)
}

pub(crate) async fn undrain(common: &Common, arguments: Arguments) -> Result<(), Failure> {
    let worker_id = arguments.worker;
    let mut admin = AdminClient::new(common.balancer().await?);
    admin.undrain(UndrainRequest { worker_id: worker_id.clone() }).await?;
    let text = format!("{worker_id} has been told to take calls again");
    Ok(common.printer().print(&text, &json!({ "worker": worker_id, "state": "serving" }))?)
}
