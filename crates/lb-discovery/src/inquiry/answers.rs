//! What was answered to one question: a pure collection of records, fed with messages.
//!
//! A responder with little to say puts everything into one message; one with much to say splits
//! it anywhere. So records are kept, and an instance is handed on when the last missing one came.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::IpAddr,
};

use hickory_proto::{
    op::{Header, Message, MessageType, OpCode, Query, ResponseCode},
    rr::{Name, RData, Record, RecordType, rdata::TXT},
    serialize::binary::{BinDecodable, BinDecoder, DecodeError},
};

use crate::{
    Role, announcement::TXT_RECORD_LIMIT, instance::Instance, peer::ADDRESSES_LIMIT,
    table::INSTANCES_LIMIT,
};

/// Most records that a message may say it has, all sections together. The longest message has no
/// room for more (a record takes at least 11 bytes); a header that says so lies.
const RECORDS_LIMIT: u32 = 1024;

/// Why a message is not an answer to the question; for the log at debug level only.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotAnAnswer {
    /// It is not DNS.
    #[error("it is malformed: {0}")]
    Malformed(#[from] DecodeError),
    /// It is DNS, but no answer, or one to somebody else's question.
    #[error("it does not answer the question")]
    Unasked,
    /// Its header promises too much.
    #[error("it claims to have {0} records, more than {RECORDS_LIMIT}")]
    Oversize(u32),
}

/// The records that came in answer to one question for all instances of one role.
#[derive(Debug)]
pub(super) struct Answers {
    /// Identifier of the question, repeated in each answer.
    id: u16,
    service_type: Name,
    instances: BTreeMap<Name, Records>,
    hosts: BTreeMap<Name, Host>,
}

#[derive(Debug, Default)]
struct Records {
    /// Full name as the PTR record has it.
    name: Option<String>,
    /// Port and host of the SRV record.
    location: Option<(u16, Name)>,
    /// Pairs of the TXT record.
    txt: Option<Vec<(String, Vec<u8>)>>,
}

#[derive(Debug, Default)]
struct Host {
    addresses: BTreeSet<IpAddr>,
    /// The instances that are located here.
    instances: BTreeSet<Name>,
}

impl Answers {
    pub(super) fn new(role: Role, id: u16) -> Self {
        let service_type =
            Name::from_ascii(role.service_type()).expect("our service types are DNS names");
        Self { id, service_type, instances: BTreeMap::new(), hosts: BTreeMap::new() }
    }

    /// The question as it goes over the wire.
    pub(super) fn question(&self) -> io::Result<Vec<u8>> {
        let mut message = Message::new(self.id, MessageType::Query, OpCode::Query);
        message.add_query(Query::query(self.service_type.clone(), RecordType::PTR));
        message.to_vec().map_err(io::Error::other)
    }

    /// Takes in one message and returns the instances that it completed or changed.
    pub(super) fn take_in(&mut self, message: &[u8]) -> Result<Vec<Instance>, NotAnAnswer> {
        let message = self.decode(message)?;
        let mut changed = BTreeSet::new();
        for record in message.answers.into_iter().chain(message.additionals) {
            // A lifetime of zero is a goodbye, which the subscription deals with.
            if record.ttl > 0 {
                self.keep(record, &mut changed);
            }
        }
        Ok(changed.iter().filter_map(|name| self.complete(name)).collect())
    }

    /// Reads the header first: what it says decides whether the rest is worth reading.
    fn decode(&self, message: &[u8]) -> Result<Message, NotAnAnswer> {
        let Header { metadata, counts } = Header::read(&mut BinDecoder::new(message))?;
        let asked = metadata.message_type == MessageType::Response
            && metadata.op_code == OpCode::Query
            && metadata.response_code == ResponseCode::NoError
            && metadata.id == self.id;
        if !asked {
            return Err(NotAnAnswer::Unasked);
        }
        let records = [counts.queries, counts.answers, counts.authorities, counts.additionals];
        let records = records.into_iter().map(u32::from).sum();
        if records > RECORDS_LIMIT {
            return Err(NotAnAnswer::Oversize(records));
        }
        Ok(Message::from_vec(message)?)
    }

    /// Keeps a record of interest and notes the instances for which it says something new.
    fn keep(&mut self, record: Record, changed: &mut BTreeSet<Name>) {
        match record.data {
            RData::PTR(target) if record.name == self.service_type => {
                self.keep_pointer(target.0, changed);
            }
            RData::SRV(srv) => self.keep_location(record.name, (srv.port, srv.target), changed),
            RData::TXT(txt) => self.keep_txt(record.name, &txt, changed),
            RData::A(address) => self.keep_address(record.name, address.0.into(), changed),
            RData::AAAA(address) => self.keep_address(record.name, address.0.into(), changed),
            _ => {}
        }
    }

    fn keep_pointer(&mut self, target: Name, changed: &mut BTreeSet<Name>) {
        let Some(records) = self.records(&target) else { return };
        if records.name.is_none() {
            records.name = text(&target);
            changed.insert(target);
        }
    }

    fn keep_location(&mut self, name: Name, location: (u16, Name), changed: &mut BTreeSet<Name>) {
        if !has_room(&self.hosts, &location.1) {
            return;
        }
        let Some(records) = self.records(&name) else { return };
        if records.location.as_ref() == Some(&location) {
            return;
        }
        let earlier = records.location.replace(location.clone());
        if let Some(host) = earlier.and_then(|(_, host)| self.hosts.get_mut(&host)) {
            host.instances.remove(&name);
        }
        self.hosts.entry(location.1).or_default().instances.insert(name.clone());
        changed.insert(name);
    }

    fn keep_txt(&mut self, name: Name, txt: &TXT, changed: &mut BTreeSet<Name>) {
        let bytes: usize = txt.txt_data.iter().map(|string| 1 + string.len()).sum();
        if bytes > TXT_RECORD_LIMIT {
            return;
        }
        let Some(records) = self.records(&name) else { return };
        let pairs: Vec<_> = txt.txt_data.iter().filter_map(|string| pair(string)).collect();
        if records.txt.as_ref() != Some(&pairs) {
            records.txt = Some(pairs);
            changed.insert(name);
        }
    }

    fn keep_address(&mut self, host: Name, address: IpAddr, changed: &mut BTreeSet<Name>) {
        if !has_room(&self.hosts, &host) {
            return;
        }
        let host = self.hosts.entry(host).or_default();
        if host.addresses.len() < ADDRESSES_LIMIT && host.addresses.insert(address) {
            changed.extend(host.instances.iter().cloned());
        }
    }

    /// The records of an instance, if it is one of the role and there is room for it.
    fn records(&mut self, name: &Name) -> Option<&mut Records> {
        // One label and then the type: anything else is not an instance of it.
        let is_instance = name.iter().count() == self.service_type.iter().count() + 1
            && self.service_type.zone_of(name);
        (is_instance && has_room(&self.instances, name))
            .then(|| self.instances.entry(name.clone()).or_default())
    }

    fn complete(&self, name: &Name) -> Option<Instance> {
        let Records { name, location, txt } = self.instances.get(name)?;
        let (port, host) = location.as_ref()?;
        let addresses = &self.hosts.get(host)?.addresses;
        if addresses.is_empty() {
            return None;
        }
        Some(Instance {
            name: name.clone()?,
            port: *port,
            addresses: addresses.iter().copied().collect(),
            txt: txt.clone()?,
        })
    }
}

/// Whether `name` is in the map or may be added: as many as there may be instances.
fn has_room<T>(map: &BTreeMap<Name, T>, name: &Name) -> bool {
    map.len() < INSTANCES_LIMIT || map.contains_key(name)
}

/// A name as the multicast DNS thread writes it: labels as they are, not escaped, each with a dot.
fn text(name: &Name) -> Option<String> {
    let label = |label| str::from_utf8(label).map(|label| format!("{label}."));
    name.iter().map(label).collect::<Result<_, _>>().ok()
}

/// One string of a TXT record; one without a key, or with one that is not text, means nothing.
fn pair(string: &[u8]) -> Option<(String, Vec<u8>)> {
    let end = string.iter().position(|byte| *byte == b'=').unwrap_or(string.len());
    let key = str::from_utf8(&string[..end]).ok().filter(|key| !key.is_empty())?;
    Some((key.to_owned(), string.get(end + 1..).unwrap_or_default().to_vec()))
}

#[cfg(test)]
mod tests;
