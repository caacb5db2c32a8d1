//! Who gets through to whom.

use std::{io, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use lb_tls::{Choice, Expected, Identity, Incoming, Mode, Role, Tls};

use crate::support::{Lab, dial, greet, identity, listen, load, meet, rogue, worker};

/// Dials somebody with software of its own.
async fn dial_rogue(files: &Choice, client: &Tls, expected: Expected) -> String {
    let (listener, address) = listen().await;
    let rogue = rogue(files);
    let accept = async {
        let (stream, _) = listener.accept().await.unwrap();
        // However it goes: the one who dials decides.
        let _ = rogue.accept(stream).await;
    };
    let (result, ()) = tokio::join!(dial(client, address, expected), accept);
    result.unwrap_err().to_string()
}

#[tokio::test]
async fn both_know_who_the_other_is() {
    let lab = Lab::new();
    let (server, node) = (lab.tls(Role::Server, "b1"), lab.tls(Role::Worker, "w1"));
    for (role, name) in [(Role::Worker, "w1"), (Role::Client, "c1"), (Role::Admin, "a1")] {
        let caller = lab.tls(role, name);
        let (result, seen) = meet(&server, &caller, Expected::Server).await;
        let found = result.unwrap().peer().identity.clone().unwrap();
        assert_eq!(*found, identity(Role::Server, "b1"));
        let seen = seen.unwrap().identity.unwrap();
        assert_eq!(*seen, identity(role, name));
        let (result, _) = meet(&node, &caller, worker("w1")).await;
        assert_eq!(result.unwrap().peer().identity.as_deref(), Some(&identity(Role::Worker, "w1")));
    }
}

#[tokio::test]
async fn who_pretends_to_be_a_balancer_or_another_worker_is_found_out() {
    let (lab, others) = (Lab::new(), Lab::new());
    let client = lab.tls(Role::Client, "c");
    let issue = |role, name| lab.issue(&identity(role, name));
    let foreign = |role, name| others.issue(&identity(role, name));
    let stranger = Identity { cluster: "other".parse().unwrap(), ..identity(Role::Server, "s") };
    let expired = lab.issue_for(&identity(Role::Server, "old"), -30, -1);
    let unborn = lab.issue_for(&identity(Role::Server, "new"), 1, 30);
    let balancer = || Expected::Server;
    for (files, expected, said) in [
        (foreign(Role::Server, "b"), balancer(), "not from an authority that is believed"),
        (issue(Role::Worker, "w"), balancer(), "lb://lab/worker/w: expected a balancer"),
        (issue(Role::Client, "x"), balancer(), "not for this end of a connection"),
        (issue(Role::Admin, "x"), balancer(), "not for this end of a connection"),
        (lab.issue(&stranger), balancer(), "lb://other/server/s: this is cluster lab"),
        (expired, balancer(), "expired"),
        (unborn, balancer(), "not valid yet"),
        (issue(Role::Worker, "w2"), worker("w1"), "lb://lab/worker/w2: expected worker w1"),
        (issue(Role::Server, "w1"), worker("w1"), "lb://lab/server/w1: expected worker w1"),
        (issue(Role::Client, "w1"), worker("w1"), "not for this end of a connection"),
        (foreign(Role::Worker, "w1"), worker("w1"), "not from an authority that is believed"),
    ] {
        let error = dial_rogue(&files, &client, expected).await;
        assert!(error.contains(said), "{error:?} lacks {said:?}");
    }
}

#[tokio::test]
async fn who_cannot_prove_who_it_is_is_not_let_in() {
    let (lab, others) = (Lab::new(), Lab::new());
    let server = lab.tls(Role::Server, "b");
    // Believes our authority, and shows a certificate of its own.
    let mixed = |role, own: Choice| {
        let ca = lab.issue(&identity(Role::Client, "ca")).ca;
        load(role, &Choice { mode: Some(Mode::Mtls), ca, ..own })
    };
    let foreign = others.issue(&identity(Role::Client, "c"));
    let error = mixed(Role::Client, foreign).unwrap_err().to_string();
    assert!(error.contains("is not one that"), "{error}");

    let anonymous = Choice { mode: Some(Mode::Tls), ..lab.issue(&identity(Role::Client, "c")) };
    let anonymous = load(Role::Client, &anonymous).unwrap();
    let (result, seen) = meet(&server, &anonymous, Expected::Server).await;
    assert!(result.unwrap_err().to_string().contains("CertificateRequired"));
    assert!(seen.is_none());

    let ended = load(Role::Client, &lab.issue_for(&identity(Role::Client, "old"), -30, -1));
    let (result, seen) = meet(&server, &ended.unwrap(), Expected::Server).await;
    assert!(result.unwrap_err().to_string().contains("CertificateExpired"));
    assert!(seen.is_none());

    // That of a balancer is to be dialled, never to dial.
    let (result, seen) = meet(&server, &lab.tls(Role::Server, "b2"), Expected::Server).await;
    assert!(result.is_err() && seen.is_none());
}

#[tokio::test]
async fn in_tls_only_who_is_dialled_is_known() {
    let lab = Lab::new();
    let in_tls = |role, name| {
        let files = lab.issue(&identity(role, name));
        load(role, &Choice { mode: Some(Mode::Tls), ..files }).unwrap()
    };
    let (server, client) = (in_tls(Role::Server, "b"), in_tls(Role::Client, "c"));
    let (result, seen) = meet(&server, &client, Expected::Server).await;
    assert!(result.unwrap().peer().identity.is_some());
    assert!(seen.unwrap().identity.is_none());
    let (result, _) = meet(&server, &client, worker("b")).await;
    assert!(result.unwrap_err().to_string().contains("expected worker b"));
}

#[tokio::test]
async fn plain_and_protected_do_not_mix() {
    let lab = Lab::new();
    let server = lab.tls(Role::Server, "b");
    let (listener, address) = listen().await;
    let plain = async {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
        let mut heard = Vec::new();
        // A TLS alert, or nothing; never a greeting.
        let _ = stream.read_to_end(&mut heard).await;
        heard
    };
    let heard = tokio::select! {
        heard = plain => heard,
        () = greet(Incoming::new(listener, server), |_| panic!("let in")) => unreachable!(),
    };
    assert!(!heard.contains(&b'!'), "{heard:?}");

    let (open, client) = (Tls::open(), lab.tls(Role::Client, "c"));
    let (result, seen) = meet(&open, &client, Expected::Server).await;
    assert!(matches!(result, Err(error) if error.kind() == io::ErrorKind::InvalidData));
    assert!(seen.unwrap().identity.is_none());
    let (result, _) = meet(&open, &Tls::open(), Expected::Server).await;
    assert!(result.unwrap().peer().identity.is_none());
}

#[tokio::test(start_paused = true)]
async fn those_who_say_nothing_hold_up_nobody_and_do_not_stay() {
    let lab = Lab::new();
    let (server, client) = (lab.tls(Role::Server, "b"), lab.tls(Role::Client, "c"));
    let (listener, address) = listen().await;
    let mut met = 0;
    let honest = async {
        let mut silent = Vec::new();
        // More than there are places for handshakes, so some have given way already.
        for _ in 0..600 {
            silent.push(TcpStream::connect(address).await.unwrap());
        }
        dial(&client, address, Expected::Server).await.unwrap();
        // The oldest first, long before its time is over: it gave way.
        assert_eq!(silent[0].read(&mut [0; 64]).await.unwrap_or(0), 0);
        tokio::time::sleep(Duration::from_secs(6)).await;
        for stream in &mut silent {
            assert_eq!(stream.read(&mut [0; 64]).await.unwrap_or(0), 0);
        }
    };
    tokio::select! {
        () = honest => {}
        () = greet(Incoming::new(listener, server), |_| met += 1) => unreachable!(),
    }
    assert_eq!(met, 1);
}
