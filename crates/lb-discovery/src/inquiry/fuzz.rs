//! What is said on the network, from bytes: answers to a question, and what a table makes of them.

use super::answers::Answers;
use crate::{
    Role, Scope,
    announcement::is_label,
    instance::Instance,
    peer::ADDRESSES_LIMIT,
    table::{INSTANCES_LIMIT, Table},
};

/// Identifier of the question that all answers are taken to answer.
const QUESTION: u16 = 7;

/// Reads bytes as DNS messages, each after its length in two bytes, which the first bit says to be the pairs of one TXT record
/// instead. Whoever comes of them is put into a table, where only sound peers are, and not too many.
pub fn txt(data: &[u8]) {
    let mut answers = Answers::new(Role::Worker, QUESTION);
    let mut tables = [Table::new(Scope::Lan), Table::new(Scope::Loopback)];
    let mut rest = data;
    while let Some((length, after)) = rest.split_first_chunk() {
        let length = u16::from_be_bytes(*length);
        let end = usize::from(length & 0x7fff).min(after.len());
        let (bytes, after) = after.split_at(end);
        rest = after;
        let found =
            if length & 0x8000 == 0 { resolved(&mut answers, bytes) } else { vec![named(bytes)] };
        for table in &mut tables {
            take_in(table, &found);
        }
    }
    for table in &mut tables {
        table.sweep();
        table.sweep();
        assert!(!table.needs_inquiry(), "what nobody names again is forgotten");
    }
}

fn resolved(answers: &mut Answers, bytes: &[u8]) -> Vec<Instance> {
    let mut message = QUESTION.to_be_bytes().to_vec();
    message.extend(bytes);
    answers.take_in(&message).unwrap_or_default()
}

/// An instance with the pairs of a TXT record: each is a length in one byte, a key, `=` and a value.
fn named(mut bytes: &[u8]) -> Instance {
    let mut txt = Vec::new();
    while let Some((length, rest)) = bytes.split_first() {
        let (pair, rest) = rest.split_at(usize::from(*length).min(rest.len()));
        bytes = rest;
        let mut parts = pair.splitn(2, |byte| *byte == b'=');
        let key = String::from_utf8_lossy(parts.next().unwrap_or_default()).into_owned();
        txt.push((key, parts.next().unwrap_or_default().to_vec()));
    }
    let addresses = ["10.0.0.7", "127.0.0.1"].map(|text| text.parse().expect("an address"));
    Instance {
        name: "a._lb-worker._tcp.local.".to_owned(),
        port: 7,
        addresses: addresses.into(),
        txt,
    }
}

fn take_in(table: &mut Table, found: &[Instance]) {
    for instance in found {
        table.found(instance);
        assert!(!table.found(instance), "what is known is no change");
        if instance.port % 2 == 0 {
            table.resolved(instance);
        }
    }
    let view = table.view();
    assert!(view.len() <= INSTANCES_LIMIT);
    for ((cluster, id), peer) in view {
        assert!(is_label(&id) && is_label(&cluster));
        assert!((1..=ADDRESSES_LIMIT).contains(&peer.addresses.len()));
        assert!(peer.addresses.is_sorted() && peer.addresses.iter().all(|one| one.port() != 0));
    }
    for instance in found.iter().filter(|instance| instance.port % 3 == 0) {
        table.removed(&instance.name);
        assert!(!table.removed(&instance.name), "nobody leaves twice");
    }
}
