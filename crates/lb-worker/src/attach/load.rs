//! How many calls an attached service has, as it says itself: ORCA's reports apart from calls.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use tonic::{Code, Status, transport::Channel};
use tracing::{debug, info};

use crate::{
    load::Load,
    orca::{self, OrcaLoadReportRequest, open_rca_service_client::OpenRcaServiceClient},
};

/// How often reports are asked for. Many servers have a least time of their own, 30 s in some libraries.
const INTERVAL: Duration = Duration::from_secs(1);
/// After the end of a stream: the service may be starting again.
const PAUSE: Duration = Duration::from_secs(1);
/// A service that offers no reports may do so after its next upgrade.
const LONG_PAUSE: Duration = Duration::from_secs(30);

/// Reads reports for ever.
pub(super) async fn follow(channel: Channel, load: Load) {
    let mut client = OpenRcaServiceClient::new(channel);
    loop {
        let ended = listen(&mut client, &load).await;
        // What was said is void. Balancers go on counting what they send.
        load.observe(0, Instant::now());
        let offers_none = ended.is_err_and(|status| status.code() == Code::Unimplemented);
        if offers_none {
            debug!("the attached service offers no reports of its load");
        }
        sleep(if offers_none { LONG_PAUSE } else { PAUSE }).await;
    }
}

async fn listen(client: &mut OpenRcaServiceClient<Channel>, load: &Load) -> Result<(), Status> {
    let report_interval = prost_types::Duration::try_from(INTERVAL).ok();
    let mut reports =
        client.stream_core_metrics(OrcaLoadReportRequest { report_interval }).await?.into_inner();
    let mut has_told = false;
    while let Some(report) = reports.message().await? {
        let in_flight = orca::in_flight(&report, load.slots());
        if in_flight.is_some() && !std::mem::replace(&mut has_told, true) {
            info!("the attached service says how many calls it has");
        }
        load.observe(in_flight.unwrap_or(0), Instant::now());
    }
    Ok(())
}
