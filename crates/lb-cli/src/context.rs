//! How every command reaches a balancer.
#![expect(clippy::doc_markdown, reason = "clap prints the comments of flags as they stand")]

use std::{path::PathBuf, time::Duration};

use clap::Args;
use tonic::transport::Channel;

use lb_client::{Balanced, Choice, ConnectError, DEFAULT_CLUSTER, Mode, Scope, Search, Tls};

use crate::output::{Format, Output};

/// Flags of every command.
#[derive(Debug, Clone, Args)]
pub(crate) struct Common {
    /// Stay on this machine: use the loopback interface, mDNS included (or LB_LOCAL=1)
    #[arg(long, global = true, env = "LB_LOCAL", value_parser = clap::builder::FalseyValueParser::new())]
    pub(crate) local: bool,
    /// Cluster to look for (or LB_CLUSTER)
    #[arg(long, global = true, env = "LB_CLUSTER", value_name = "NAME", default_value = DEFAULT_CLUSTER)]
    pub(crate) cluster: String,
    /// Address of a balancer, instead of discovery; may be repeated
    #[arg(long = "lb", global = true, value_name = "HOST:PORT")]
    pub(crate) balancers: Vec<String>,
    /// How long to look for a balancer
    #[arg(long, global = true, value_name = "TIME", default_value = "3s", value_parser = humantime::parse_duration)]
    pub(crate) wait: Duration,
    #[command(flatten)]
    pub(crate) tls: TlsFlags,
    /// How to print
    #[arg(long, short, global = true, value_enum, value_name = "FORMAT", default_value_t = Format::Text)]
    pub(crate) output: Format,
    /// Tell more: which worker, which balancer, how long each part took
    #[arg(long, short, global = true)]
    pub(crate) verbose: bool,
}

/// How to speak with balancers and workers.
#[derive(Debug, Clone, Args)]
pub(crate) struct TlsFlags {
    /// How to speak with balancers and workers: open, tls or mtls; without it the strictest that there are keys for (or LB_TLS_MODE)
    #[arg(long = "tls", global = true, env = "LB_TLS_MODE", value_name = "MODE")]
    mode: Option<Mode>,
    /// Certificate of the authority that is believed, instead of lb-ca.crt in ~/.config/lb/tls or /etc/lb/tls (or LB_TLS_CA)
    #[arg(long = "tls-ca", global = true, env = "LB_TLS_CA", value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Own certificate, instead of lb-client.crt there (or LB_TLS_CERTIFICATE)
    #[arg(
        long = "tls-certificate",
        global = true,
        env = "LB_TLS_CERTIFICATE",
        value_name = "FILE"
    )]
    certificate: Option<PathBuf>,
    /// Its key, instead of lb-client.key there (or LB_TLS_KEY)
    #[arg(long = "tls-key", global = true, env = "LB_TLS_KEY", value_name = "FILE")]
    key: Option<PathBuf>,
}

impl TlsFlags {
    fn choice(&self) -> Choice {
        let Self { mode, ca, certificate, key } = self.clone();
        Choice { mode, ca, certificate, key }
    }
}

impl Common {
    pub(crate) fn scope(&self) -> Scope {
        if self.local { Scope::Loopback } else { Scope::Lan }
    }

    pub(crate) fn search(&self) -> Result<Search, ConnectError> {
        Ok(Search {
            cluster: self.cluster.clone(),
            scope: self.scope(),
            balancers: self.balancers.clone(),
            wait: self.wait,
            tls: Tls::of_client(&self.tls.choice(), &self.cluster.parse()?)?,
        })
    }

    pub(crate) fn printer(&self) -> Output {
        Output::new(self.output)
    }

    /// A plain connection to the first balancer that answers, for its `Admin` service and single picks.
    pub(crate) async fn balancer(&self) -> Result<Channel, ConnectError> {
        Ok(lb_client::connect_balancer(&self.search()?).await?.channel)
    }

    /// A balanced channel to a service.
    pub(crate) async fn balanced(&self, service: &str) -> Result<Balanced, ConnectError> {
        Balanced::builder(service).search(self.search()?).connect().await
    }
}
