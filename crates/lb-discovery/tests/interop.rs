//! The same words on the wire as an independent implementation: python-zeroconf, both ways.
//!
//! `LB_TEST_PYTHON` names a python that can `import zeroconf`. Without it the tests say that they
//! are skipped, except where `CI=true`: there they fail.

#[path = "common/support.rs"]
#[expect(unreachable_pub, dead_code, reason = "helpers of several tests")]
mod support;

use std::{env, path::Path, process::Stdio};

use lb_discovery::{Change, Role};
use support::{PATIENCE, announcement, discovery, down, next, shown, unique};
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStdout, Command},
    time::timeout,
};

#[expect(clippy::print_stderr, reason = "whoever runs the tests must see that some did not run")]
fn python() -> Option<String> {
    let python = env::var("LB_TEST_PYTHON").ok().filter(|python| !python.is_empty());
    if python.is_none() {
        let must_run = env::var("CI").is_ok_and(|value| value == "true");
        assert!(!must_run, "LB_TEST_PYTHON must name a python with zeroconf where CI=true");
        eprintln!("skipped: LB_TEST_PYTHON does not name a python with zeroconf");
    }
    python
}

fn start(python: &str, script: &str, arguments: &[&str]) -> (Child, Lines<BufReader<ChildStdout>>) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(script);
    let mut child = Command::new(python)
        .arg(script)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("LB_TEST_PYTHON can be started");
    let output = child.stdout.take().expect("its output is piped");
    (child, BufReader::new(output).lines())
}

async fn line(lines: &mut Lines<BufReader<ChildStdout>>) -> String {
    let line = timeout(PATIENCE, lines.next_line()).await.expect("a line in time");
    line.expect("readable output").expect("another line before the script ends")
}

#[tokio::test]
async fn zeroconf_sees_what_we_announce() {
    let Some(python) = python() else { return };
    let (id, cluster) = (unique("ours"), unique("cluster"));
    let service_type = Role::Worker.service_type();
    let (mut child, mut lines) = start(&python, "zeroconf_browse.py", &[service_type, &id]);
    assert!(line(&mut lines).await.contains("browsing"));
    let server = discovery();
    let advertisement = server.advertise(announcement(&id, &cluster, 7101)).await.unwrap();
    let resolved = line(&mut lines).await;
    for part in [
        r#""event": "resolved""#,
        &format!(r#""name": "{id}.{service_type}""#),
        &format!(r#""host": "lb-{id}.local.""#),
        r#""addresses": ["127.0.0.1"]"#,
        r#""port": 7101"#,
        &format!(r#""id": "{id}""#),
        &format!(r#""cluster": "{cluster}""#),
        r#""zone": "a""#,
        r#""first": "txtvers=1""#,
    ] {
        assert!(resolved.contains(part), "{part} is missing in {resolved}");
    }
    advertisement.withdraw().await;
    assert!(line(&mut lines).await.contains("removed"));
    assert!(timeout(PATIENCE, child.wait()).await.unwrap().unwrap().success());
}

#[tokio::test]
async fn we_see_what_zeroconf_announces() {
    let Some(python) = python() else { return };
    let (id, cluster) = (unique("theirs"), unique("cluster"));
    let client = discovery();
    let mut browse = client.browse(Role::Balancer, &cluster);
    let (mut child, mut lines) = start(
        &python,
        "zeroconf_advertise.py",
        &[
            Role::Balancer.service_type(),
            // Not the id: the identity is in the TXT record.
            &format!("the balancer of {id}"),
            "7102",
            "txtvers=1",
            &format!("id={id}"),
            &format!("cluster={cluster}"),
            "Zone=b",
        ],
    );
    let Change::Up(peer) = next(&mut browse).await else { panic!("expected the peer to be up") };
    assert_eq!(peer.id, id);
    assert_eq!(shown(&peer), ["127.0.0.1:7102"]);
    assert_eq!(peer.txt.get("zone").map(String::as_str), Some("b"));
    assert!(line(&mut lines).await.contains("announced"));
    drop(child.stdin.take());
    down(&mut browse, &id).await;
    assert!(timeout(PATIENCE, child.wait()).await.unwrap().unwrap().success());
}
