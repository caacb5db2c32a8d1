//! One instance of a service as it was resolved, whichever way its records came; not checked yet.

use std::net::IpAddr;

use mdns_sd::{ResolvedService, ScopedIp};

/// The records of one instance put together. [`crate::Peer`] is what becomes of a sound one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Instance {
    /// Full name with its final dot, labels as they were sent: what a goodbye carries.
    pub(crate) name: String,
    /// Port of the SRV record.
    pub(crate) port: u16,
    /// Addresses of the host that the SRV record names.
    pub(crate) addresses: Vec<IpAddr>,
    /// Pairs of the TXT record in their order; a key without a value has an empty one.
    pub(crate) txt: Vec<(String, Vec<u8>)>,
}

impl From<&ResolvedService> for Instance {
    fn from(service: &ResolvedService) -> Self {
        let pairs = service.txt_properties.iter();
        Self {
            name: service.fullname.clone(),
            port: service.port,
            addresses: service.addresses.iter().map(ScopedIp::to_ip_addr).collect(),
            txt: pairs
                .map(|pair| (pair.key().to_owned(), pair.val().unwrap_or_default().to_vec()))
                .collect(),
        }
    }
}
