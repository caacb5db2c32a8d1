//! The real process: its exit codes, its one line of explanation, and its orderly stop.

use std::{
    fs,
    net::TcpListener,
    path::Path,
    process::{Command, Output, Stdio},
};

use tokio::{io::AsyncReadExt as _, net::UnixDatagram, time::timeout};

use lb_proto::v1::{Echo, WorkerState, compute_client::ComputeClient, task::Kind};

use crate::{
    fake_registry::{FakeRegistry, PATIENCE},
    harness::task,
};

fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lb-worker"));
    command.env_clear().env("LB_LOCAL", "1").stdin(Stdio::null());
    command
}

/// Runs until it ends by itself, which must be soon.
fn run(arguments: &[&str]) -> (Option<i32>, String) {
    let Output { status, stderr, .. } = command().args(arguments).output().unwrap();
    (status.code(), String::from_utf8(stderr).unwrap())
}

#[test]
fn a_port_in_use_is_one_clear_line() {
    let holder = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = holder.local_addr().unwrap().to_string();
    let (code, text) = run(&["--listen", &address, "--lb", "127.0.0.1:1", "--log", "off"]);
    let expected = format!(
        "lb-worker: error: cannot listen on {address}: the port is in use by another program\n"
    );
    assert_eq!((code, text), (Some(69), expected));
}

#[test]
fn bad_settings_are_one_clear_line() {
    let cases: [(&[&str], &str); 7] = [
        (&["--slots", "0"], "slots is 0: expected 1 to 65535"),
        (&["--cluster", "A B"], "cluster name \"A B\" is not valid: expected"),
        (&["--listen", "somewhere"], "cannot listen on"),
        (&["--listen", "0.0.0.0:0"], "confined to this machine"),
        (&["--slowdown", "0"], "slowdown is 0: expected 0.1 to 100"),
        (&["--slots", "0", "--check-config"], "key `slots` in the command line: slots is 0"),
        (&["--log", "loud"], "log filter \"loud\" is not valid"),
    ];
    for (arguments, expected) in cases {
        let (code, text) = run(&[arguments, &["--lb", "127.0.0.1:1"]].concat());
        assert_eq!(code, Some(78), "{arguments:?}: {text}");
        assert!(text.starts_with("lb-worker: error: ") && text.contains(expected), "{text}");
        assert_eq!(text.lines().count(), 1, "{text}");
    }
}

#[test]
fn a_configuration_can_be_checked() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("worker.toml");
    let path = file.to_str().unwrap();
    fs::write(&file, "slots = 4\n[labels]\ngpu = \"a100\"\n").unwrap();
    assert_eq!(run(&["--config", path, "--check-config"]), (Some(0), String::new()));
    fs::write(&file, "slotz = 4\n").unwrap();
    let (code, text) = run(&["--config", path, "--check-config"]);
    assert_eq!(code, Some(78));
    assert!(text.contains("slotz") && text.contains("worker.toml"), "{text}");
    fs::write(&file, "slots = \"many\"\n").unwrap();
    let (code, text) = run(&["--config", path, "--check-config"]);
    assert_eq!(code, Some(78));
    assert!(text.contains("slots") && text.contains("expected an integer"), "{text}");
}

#[test]
fn a_bad_flag_is_explained() {
    let (code, text) = run(&["--slots", "many"]);
    assert_eq!(code, Some(2));
    assert!(text.contains("--slots"), "{text}");
}

#[tokio::test]
async fn sigterm_drains_and_ends_well() {
    let mut registry = FakeRegistry::start().await;
    let mut process = tokio::process::Command::from(command());
    process.args(["--id", "d1", "--slots", "2", "--lb", &registry.address.to_string()]);
    let mut process = process.stderr(Stdio::null()).kill_on_drop(true).spawn().unwrap();
    let mut stream = registry.accept(1, 60_000).await;
    assert_eq!((stream.hello.worker_id.as_str(), stream.hello.slots), ("d1", 2));
    assert_eq!(stream.hello.services, ["lb.v1.Compute"]);
    stream.report().await;
    let endpoint = format!("http://{}", stream.hello.address);
    let mut client = ComputeClient::connect(endpoint).await.unwrap();

    let id = process.id().unwrap().to_string();
    assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
    stream.report_where(|report| report.state() == WorkerState::Draining).await;
    // Picked before, arriving now.
    let result = client.run(task(Kind::Echo(Echo::default()))).await.unwrap().into_inner();
    assert_eq!(result.worker_id, "d1");
    stream.acknowledge_drain(0, 0, 1000).await;
    stream.goodbye().await;
    drop(stream);
    let status = timeout(PATIENCE, process.wait()).await.unwrap().unwrap();
    assert_eq!(status.code(), Some(0));
}

/// The next message of a daemon to its service manager.
async fn message(manager: &UnixDatagram) -> String {
    let mut buffer = [0; 4096];
    let length = timeout(PATIENCE, manager.recv(&mut buffer)).await.expect("it says nothing");
    String::from_utf8(buffer[..length.unwrap()].to_vec()).unwrap()
}

fn kill(process: &tokio::process::Child, signal: &str) {
    let id = process.id().unwrap().to_string();
    assert!(Command::new("kill").args([signal, &id]).status().unwrap().success());
}

#[tokio::test]
async fn a_reload_applies_what_can_change_and_names_the_rest() {
    let directory = tempfile::tempdir().unwrap();
    let inside = |name: &str| directory.path().join(name);
    let manager = UnixDatagram::bind(inside("notify")).unwrap();
    let file = inside("worker.toml");
    let write = |file: &Path, text: &str| fs::write(file, text).unwrap();
    write(&file, "id = \"r1\"\nslots = 2\n");
    let mut registry = FakeRegistry::start().await;
    let mut process = tokio::process::Command::from(command());
    process.env("NOTIFY_SOCKET", inside("notify")).env("LB_WORKER_CONFIG", &file);
    process.args(["--lb", &registry.address.to_string()]).stderr(Stdio::piped());
    let mut process = process.kill_on_drop(true).spawn().unwrap();
    let mut stream = registry.accept(1, 60_000).await;
    stream.report_where(|report| report.slots == 2).await;
    let ready = message(&manager).await;
    let status = ready.strip_prefix("READY=1\nSTATUS=").unwrap_or_else(|| panic!("{ready}"));
    assert!(status.starts_with("worker r1 on 127.0.0.1:"), "{status}");

    write(
        &file,
        "id = \"r2\"\nslots = 3\nqueue = 0\ndrain_timeout_s = 7\n[labels]\n\"a.b\" = \"c\"\n",
    );
    kill(&process, "-HUP");
    stream.report_where(|report| report.slots == 3).await;
    assert!(message(&manager).await.starts_with("RELOADING=1\n"));
    let expected = format!(
        "READY=1\nSTATUS={}; a restart is needed for id, labels.\"a.b\"\n",
        status.trim_end()
    );
    assert_eq!(message(&manager).await, expected);

    write(&file, "slots = 1\nqueue = 100001\n");
    kill(&process, "-HUP");
    assert!(message(&manager).await.starts_with("RELOADING=1\n"));
    let expected = format!(
        "READY=1\nSTATUS={}; the configuration is not valid: key `queue` in {}: queue is 100001: \
         expected 0 to 100000\n",
        status.trim_end(),
        file.display()
    );
    assert_eq!(message(&manager).await, expected);

    kill(&process, "-TERM");
    // What the drain may take now, and some more.
    assert_eq!(message(&manager).await, "STOPPING=1\nEXTEND_TIMEOUT_USEC=17000000\n");
    let draining = stream.report_where(|report| report.state() == WorkerState::Draining).await;
    assert_eq!(draining.slots, 3);
    stream.acknowledge_drain(0, 0, 1000).await;
    stream.goodbye().await;
    drop(stream);
    let mut text = String::new();
    process.stderr.take().unwrap().read_to_string(&mut text).await.unwrap();
    assert_eq!(process.wait().await.unwrap().code(), Some(0));
    let lines = |part: &str| text.lines().filter(|line| line.contains(part)).count();
    assert_eq!(lines("applied=\"drain_timeout_s = 7, queue = 0, slots = 3\""), 1, "{text}");
    assert_eq!((lines("ERROR"), lines("keys=")), (1, 1), "{text}");
}
