//! New files, while connections live.

use std::{
    net::SocketAddr,
    time::{Duration, SystemTime},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_stream::StreamExt as _;

use lb_tls::{Choice, Expected, Identity, Incoming, Reload, Role, Stream, Tls, Validity};

use crate::support::{Lab, identity, listen, load, meet, overwrite};

fn refused(tls: &Tls) -> String {
    match tls.reload() {
        Reload::Refused(error) => error.to_string(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn new_connections_use_new_files_and_old_ones_stay() {
    let lab = Lab::new();
    let files = lab.issue_for(&identity(Role::Server, "b"), -10, 10);
    let server = load(Role::Server, &files).unwrap();
    let client = lab.tls(Role::Client, "c");
    let (listener, address) = listen().await;
    let mut incoming = Incoming::new(listener, server.clone());
    let serving = tokio::spawn(async move {
        while let Some(stream) = incoming.next().await {
            let (mut said, mut answer) = tokio::io::split(stream.unwrap());
            tokio::spawn(async move { tokio::io::copy(&mut said, &mut answer).await });
        }
    });
    let mut before = speak(&client, address).await;

    assert!(matches!(server.reload(), Reload::Unchanged));
    lab.issue(&identity(Role::Server, "b"));
    assert!(matches!(server.reload(), Reload::Renewed));
    assert!(matches!(server.reload(), Reload::Unchanged));
    speak(&client, address).await;
    echo(&mut before).await;
    serving.abort();
}

async fn speak(tls: &Tls, address: SocketAddr) -> Stream {
    let stream = TcpStream::connect(address).await.unwrap();
    let mut stream = tls.connect(stream, Expected::Server).await.unwrap();
    echo(&mut stream).await;
    stream
}

async fn echo(stream: &mut Stream) {
    let mut heard = [0; 5];
    stream.write_all(b"hello").await.unwrap();
    stream.read_exact(&mut heard).await.unwrap();
    assert_eq!(&heard, b"hello");
}

#[tokio::test]
async fn files_that_cannot_be_used_change_nothing_and_are_told_once() {
    let lab = Lab::new();
    let own = identity(Role::Worker, "w");
    let files = lab.issue(&own);
    let node = load(Role::Worker, &files).unwrap();
    let Choice { ca: Some(ca), certificate: Some(certificate), key: Some(key), .. } = &files else {
        unreachable!()
    };
    let good = std::fs::read_to_string(key).unwrap();

    overwrite(key, "no key");
    assert!(refused(&node).ends_with("lb-worker.key holds no private key in PEM form"));
    assert!(matches!(node.reload(), Reload::StillRefused));
    overwrite(key, &good);
    assert!(matches!(node.reload(), Reload::Unchanged));

    lab.issue_for(&own, -20, -10);
    assert!(refused(&node).ends_with("lb-worker.crt is not valid now"));
    lab.issue(&own);
    overwrite(key, &good);
    assert!(refused(&node).contains("does not go with the certificate in"));
    overwrite(
        certificate,
        &lab.authority.issue(&identity(Role::Worker, "v"), valid()).unwrap().certificate,
    );
    assert!(refused(&node).contains("does not go with"));
    let other = lab.authority.issue(&identity(Role::Worker, "v"), valid()).unwrap();
    overwrite(certificate, &other.certificate);
    overwrite(key, &other.key);
    assert!(
        refused(&node).ends_with("that of lb://lab/worker/v: this process is lb://lab/worker/w")
    );
    overwrite(ca, Lab::new().authority.certificate());
    assert!(refused(&node).contains("is not one that"));
    std::fs::remove_file(ca).unwrap();
    assert!(refused(&node).starts_with("cannot read"));

    // All the while it can be reached as before.
    let (result, _) = meet(&node, &lab.tls(Role::Client, "c"), crate::support::worker("w")).await;
    result.unwrap();
    lab.issue(&own);
    assert!(matches!(node.reload(), Reload::Renewed));
}

/// Several processes may share a certificate: one for fewer of them may not be this one's any more.
#[test]
fn a_certificate_for_fewer_instances_is_refused() {
    let lab = Lab::new();
    let shared = |instances| Identity { instances, ..identity(Role::Worker, "w") };
    let node = load(Role::Worker, &lab.issue(&shared(8))).unwrap();
    lab.issue(&shared(4));
    assert!(
        refused(&node).ends_with(
            "that of lb://lab/worker/w and its instances 1 to 4: this process is lb://lab/worker/w and its instances 1 to 8"
        )
    );
    lab.issue(&shared(9));
    assert!(matches!(node.reload(), Reload::Renewed));
}

#[test]
fn what_is_wrong_at_the_start_is_said() {
    let lab = Lab::new();
    let worker = lab.issue(&identity(Role::Worker, "w"));
    let error = |role, choice: &Choice| {
        let error = load(role, choice).unwrap_err();
        (error.setting(), error.to_string())
    };
    let (setting, text) = error(Role::Server, &worker);
    assert_eq!(setting, "certificate");
    assert!(
        text.ends_with("is that of lb://lab/worker/w: expected one of lb://CLUSTER/server/NAME"),
        "{text}"
    );
    let missing = Choice { ca: Some("/nowhere/ca".into()), ..worker.clone() };
    let (setting, text) = error(Role::Worker, &missing);
    assert_eq!(
        (setting, text.as_str()),
        ("ca", "cannot read /nowhere/ca: No such file or directory (os error 2)")
    );
    let swapped = Choice { key: worker.certificate.clone(), ..worker.clone() };
    let (setting, text) = error(Role::Worker, &swapped);
    assert_eq!(setting, "key");
    assert!(text.ends_with("holds no private key in PEM form"), "{text}");
    let nobody = Choice { certificate: worker.ca.clone(), ..worker };
    assert!(
        error(Role::Worker, &nobody).1.contains("cannot be used: the certificate's name"),
        "{:?}",
        error(Role::Worker, &nobody)
    );
}

#[test]
fn the_end_of_a_certificate_is_seen_coming() {
    let lab = Lab::new();
    let margin = Duration::from_secs(14 * 24 * 60 * 60);
    for (from, to, expected) in [
        (-1, 20, Validity::Good),
        (-1, 10, Validity::EndsSoon),
        (-10, -1, Validity::Ended),
        (1, 10, Validity::NotYet),
    ] {
        let files = lab.issue_for(&identity(Role::Server, "b"), from, to);
        let found = load(Role::Server, &files).unwrap().validity(SystemTime::now(), margin);
        assert_eq!(found, expected, "{from} to {to}");
    }
    assert_eq!(Tls::open().validity(SystemTime::now(), margin), Validity::Good);
}

fn valid() -> std::ops::Range<SystemTime> {
    let now = SystemTime::now();
    now - Duration::from_secs(60)..now + Duration::from_secs(600)
}
