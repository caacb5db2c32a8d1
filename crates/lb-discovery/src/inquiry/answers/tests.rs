use std::net::Ipv4Addr;

use hickory_proto::rr::rdata::{A, PTR, SRV};
use proptest::prelude::*;

use super::*;

const ID: u16 = 4711;
const TYPE: &str = "_lb-worker._tcp.local.";

fn answers() -> Answers {
    Answers::new(Role::Worker, ID)
}

fn name(text: &str) -> Name {
    Name::from_ascii(text).unwrap()
}

fn record(owner: &str, data: RData) -> Record {
    Record::from_rdata(name(owner), 10, data)
}

fn pointer(instance: &str) -> Record {
    record(TYPE, RData::PTR(PTR(name(&format!("{instance}.{TYPE}")))))
}

fn location(instance: &str, port: u16, host: &str) -> Record {
    record(&format!("{instance}.{TYPE}"), RData::SRV(SRV::new(0, 0, port, name(host))))
}

fn txt(instance: &str, strings: &[&str]) -> Record {
    let strings = strings.iter().map(|string| (*string).to_owned()).collect();
    record(&format!("{instance}.{TYPE}"), RData::TXT(TXT::new(strings)))
}

fn address(host: &str, address: [u8; 4]) -> Record {
    record(host, RData::A(A(Ipv4Addr::from(address))))
}

fn message(records: impl IntoIterator<Item = Record>) -> Vec<u8> {
    let mut message = Message::response(ID, OpCode::Query);
    message.add_answers(records);
    message.to_vec().unwrap()
}

/// What one responder with one service says: pointer, location, TXT, address.
fn sound() -> [Record; 4] {
    [
        pointer("a"),
        location("a", 80, "lb-a.local."),
        txt("a", &["txtvers=1", "id=a", "flag", "", "=nothing"]),
        address("lb-a.local.", [10, 0, 0, 1]),
    ]
}

fn found(port: u16, addresses: &[[u8; 4]]) -> Instance {
    let pair = |key: &str, value: &str| (key.to_owned(), value.as_bytes().to_vec());
    Instance {
        name: format!("a.{TYPE}"),
        port,
        addresses: addresses.iter().copied().map(IpAddr::from).collect(),
        txt: vec![pair("txtvers", "1"), pair("id", "a"), pair("flag", "")],
    }
}

#[test]
fn the_question_is_one_pointer_question() {
    let question = Message::from_vec(&answers().question().unwrap()).unwrap();
    assert_eq!((question.metadata.id, question.metadata.message_type), (ID, MessageType::Query));
    assert!(!question.metadata.recursion_desired);
    let [query] = &question.queries[..] else { panic!("expected one question") };
    assert_eq!((query.name().to_ascii().as_str(), query.query_type()), (TYPE, RecordType::PTR));
}

#[test]
fn one_message_is_enough_and_its_repetition_says_nothing() {
    let mut answers = answers();
    assert_eq!(answers.take_in(&message(sound())).unwrap(), [found(80, &[[10, 0, 0, 1]])]);
    assert_eq!(answers.take_in(&message(sound())).unwrap(), []);
}

#[test]
fn records_may_come_apart_and_in_any_order() {
    for rotation in 0..4 {
        let mut records = sound();
        records.rotate_left(rotation);
        let mut answers = answers();
        let (last, first) = records.split_last().unwrap();
        for record in first {
            assert_eq!(answers.take_in(&message([record.clone()])).unwrap(), []);
        }
        let found_last = answers.take_in(&message([last.clone()])).unwrap();
        assert_eq!(found_last, [found(80, &[[10, 0, 0, 1]])], "rotated by {rotation}");
    }
}

#[test]
fn what_changes_is_found_again() {
    let mut answers = answers();
    answers.take_in(&message(sound())).unwrap();
    let more = message([address("LB-A.local.", [10, 0, 0, 2])]);
    assert_eq!(answers.take_in(&more).unwrap(), [found(80, &[[10, 0, 0, 1], [10, 0, 0, 2]])]);
    let moved =
        message([location("a", 81, "other.local."), address("other.local.", [10, 0, 0, 3])]);
    assert_eq!(answers.take_in(&moved).unwrap(), [found(81, &[[10, 0, 0, 3]])]);
    let left_behind = message([address("lb-a.local.", [10, 0, 0, 4])]);
    assert_eq!(answers.take_in(&left_behind).unwrap(), []);
}

#[test]
fn names_stay_as_they_were_sent() {
    let mut answers = answers();
    let dotted = Name::from_labels(["Dr. Ä", "_lb-worker", "_tcp", "local"].map(str::as_bytes));
    let dotted = dotted.unwrap();
    let mut records = sound();
    records[0].data = RData::PTR(PTR(dotted.clone()));
    records[1].name = dotted.clone();
    records[2].name = dotted;
    let found = answers.take_in(&message(records)).unwrap();
    assert_eq!(found[0].name, format!("Dr. Ä.{TYPE}"));
}

#[test]
fn what_was_not_asked_for_is_ignored() {
    let mut records = sound();
    records[0].ttl = 0;
    assert_eq!(answers().take_in(&message(records)).unwrap(), [], "a goodbye");
    let mut records = sound();
    records[0].name = name("_http._tcp.local.");
    assert_eq!(answers().take_in(&message(records)).unwrap(), [], "another type");
    let mut records = sound();
    records[0].data = RData::PTR(PTR(name("deep.er._lb-worker._tcp.local.")));
    assert_eq!(answers().take_in(&message(records)).unwrap(), [], "not an instance");

    let mut question = message(sound());
    question[2] &= 0x7f;
    assert!(matches!(answers().take_in(&question), Err(NotAnAnswer::Unasked)));
    let mut foreign = message(sound());
    foreign[0] ^= 1;
    assert!(matches!(answers().take_in(&foreign), Err(NotAnAnswer::Unasked)));
    let mut refusal = message(sound());
    refusal[3] |= 5;
    assert!(matches!(answers().take_in(&refusal), Err(NotAnAnswer::Unasked)));
    let mut boast = message(sound());
    boast[10..12].fill(0xff);
    assert!(matches!(answers().take_in(&boast), Err(NotAnAnswer::Oversize(65539))));
    assert!(matches!(answers().take_in(&[]), Err(NotAnAnswer::Malformed(_))));
}

#[test]
fn what_is_kept_is_bounded() {
    let mut answers = answers();
    for number in 0..INSTANCES_LIMIT + 100 {
        let (instance, host) = (format!("w{number}"), format!("h{number}.local."));
        let records = [
            pointer(&instance),
            location(&instance, 80, &host),
            txt(&instance, &["id=w"]),
            address(&host, [10, 0, 0, 1]),
        ];
        let found = answers.take_in(&message(records)).unwrap().len();
        assert_eq!(found, usize::from(number < INSTANCES_LIMIT), "at {number}");
    }
    for last in 0..100 {
        answers.take_in(&message([address("h0.local.", [10, 0, 1, last])])).unwrap();
    }
    assert_eq!(
        answers.complete(&name(&format!("w0.{TYPE}"))).unwrap().addresses.len(),
        ADDRESSES_LIMIT
    );
    let long = "v".repeat(250);
    let oversize = message([txt("w0", &[long.as_str(); 6])]);
    assert_eq!(answers.take_in(&oversize).unwrap(), []);
}

/// Any bytes after a header that answers the question.
fn noise() -> impl Strategy<Value = Vec<u8>> {
    let counts = prop::array::uniform4(0_u8..20);
    (counts, prop::collection::vec(any::<u8>(), 0..600)).prop_map(|(counts, body)| {
        let mut message = message([]);
        for (index, count) in counts.into_iter().enumerate() {
            message[5 + 2 * index] = count;
        }
        message.extend(body);
        message
    })
}

/// A sound message in which some bytes are others and the end may be missing.
fn damaged() -> impl Strategy<Value = Vec<u8>> {
    let damage = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6);
    (damage, any::<prop::sample::Index>(), any::<bool>()).prop_map(|(damage, end, cut)| {
        let mut message = message(sound());
        for (index, byte) in damage {
            // The header decides whether the rest is read at all: leave it sound.
            let at = 12 + index.index(message.len() - 12);
            message[at] = byte;
        }
        if cut {
            message.truncate(end.index(message.len()));
        }
        message
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_message_does_harm(
        messages in prop::collection::vec(
            prop_oneof![prop::collection::vec(any::<u8>(), 0..600), noise(), damaged()],
            1..10,
        ),
    ) {
        let mut answers = answers();
        for message in messages {
            for instance in answers.take_in(&message).unwrap_or_default() {
                prop_assert!(instance.name.ends_with('.'));
                prop_assert!((1..=ADDRESSES_LIMIT).contains(&instance.addresses.len()));
            }
        }
        prop_assert!(answers.instances.len() <= INSTANCES_LIMIT);
        prop_assert!(answers.hosts.len() <= INSTANCES_LIMIT);
    }

    #[test]
    fn a_sound_message_counts_whatever_came_before(damaged in damaged()) {
        let mut answers = answers();
        let _ignored = answers.take_in(&damaged);
        answers.take_in(&message(sound())).unwrap();
        let found = answers.complete(&name(&format!("a.{TYPE}"))).unwrap();
        prop_assert_eq!(found.port, 80);
    }
}
