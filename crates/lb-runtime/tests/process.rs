//! What only a process of its own can show: messages to the service manager, signals, exit status
//! and the lines on standard error.
//!
//! Each test starts this very program again for the one ignored test `child`, with a variable that
//! says which part it plays. Both sides wait for each other's messages, never for time.

use std::{
    env, future,
    os::unix::net::UnixDatagram,
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
    time::Duration,
};

use lb_runtime::{logging, service, signals::Signals};
use tempfile::TempDir;

/// The variable that says which part the child plays.
const PART: &str = "LB_TEST_PART";

/// A child and the socket on which it notifies us.
struct Supervised {
    child: Child,
    socket: UnixDatagram,
    _directory: TempDir,
}

impl Supervised {
    fn start(part: &str, variables: &[(&str, &str)]) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let path: PathBuf = directory.path().join("notify");
        let socket = UnixDatagram::bind(&path).expect("a socket");
        // Far above what a message takes, so that only a hang reaches it.
        socket.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
        let child = Command::new(env::current_exe().expect("this program"))
            .args(["--ignored", "--exact", "--nocapture", "child"])
            .env("NOTIFY_SOCKET", &path)
            .env(PART, part)
            .env_remove("WATCHDOG_PID")
            .env_remove("WATCHDOG_USEC")
            .envs(variables.iter().copied())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("a child");
        Self { child, socket, _directory: directory }
    }

    fn message(&self) -> String {
        let mut buffer = [0; 1024];
        let length = self.socket.recv(&mut buffer).expect("a message in time");
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    }

    fn send(&self, signal: &str) {
        let command = format!("kill -{signal} {}", self.child.id());
        let status = Command::new("sh").args(["-c", &command]).status().expect("sh");
        assert!(status.success(), "{command}");
    }

    fn finish(self) -> Output {
        self.child.wait_with_output().expect("an exit status")
    }
}

#[test]
fn the_service_manager_hears_every_state() {
    let supervised = Supervised::start("states", &[("WATCHDOG_USEC", "3000000")]);
    assert_eq!(supervised.message(), "READY=1\nSTATUS=serving on port 1\n");
    assert_eq!(supervised.message(), "STATUS=feed every 1.5s READY=0\n");
    assert_eq!(supervised.message(), "WATCHDOG=1\n");
    assert_eq!(supervised.message(), "STOPPING=1\nEXTEND_TIMEOUT_USEC=7000000\n");
    assert!(supervised.finish().status.success());
}

#[test]
fn without_a_watchdog_there_is_no_interval() {
    for variables in [&[][..], &[("WATCHDOG_USEC", "0")], &[("WATCHDOG_USEC", "soon")]] {
        let supervised = Supervised::start("watchdog", variables);
        assert_eq!(supervised.message(), "STATUS=None\n");
        assert!(supervised.finish().status.success());
    }
}

#[test]
fn a_service_manager_that_cannot_be_reached_stops_nobody() {
    let supervised = Supervised::start("states", &[("NOTIFY_SOCKET", "/nonexistent/notify")]);
    assert!(supervised.finish().status.success());
}

#[test]
fn one_signal_stops_and_a_second_ends() {
    for (signal, status) in [("TERM", 143), ("INT", 130)] {
        let supervised = Supervised::start("signals", &[]);
        assert!(supervised.message().starts_with("READY=1"));
        for _ in 0..2 {
            supervised.send("HUP");
            assert_eq!(supervised.message(), "STATUS=reloaded\n");
        }
        supervised.send(signal);
        assert_eq!(supervised.message(), "STOPPING=1\nEXTEND_TIMEOUT_USEC=7000000\n");
        supervised.send(signal);
        assert_eq!(supervised.finish().status.code(), Some(status));
    }
}

#[test]
fn the_log_goes_to_standard_error_and_its_filter_can_be_changed() {
    let output = Supervised::start("logging", &[("JOURNAL_STREAM", "1:1")]).finish();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    for expected in ["first line", "worker=\"alpha\"", "third line", "bridged line"] {
        assert!(text.contains(expected), "{expected} is missing in {text}");
    }
    for unwanted in ["second line", "packet line", "\u{1b}["] {
        assert!(!text.contains(unwanted), "{unwanted} is in {text}");
    }
}

#[test]
#[ignore = "the other tests start it"]
fn child() {
    match env::var(PART).as_deref() {
        Ok("states") => states(),
        Ok("watchdog") => service::status(&format!("{:?}", service::watchdog_interval())),
        Ok("signals") => signals(),
        Ok("logging") => log(),
        _ => {}
    }
}

fn states() {
    service::ready("serving on port 1");
    let interval = service::watchdog_interval().unwrap_or_default();
    service::status(&format!("feed every {interval:?}\nREADY=0"));
    service::feed_watchdog();
    service::stopping(Duration::from_secs(7));
}

#[tokio::main(flavor = "current_thread")]
async fn signals() {
    let mut signals = Signals::install().expect("handlers");
    let shutdown = signals.shutdown();
    service::ready("");
    loop {
        tokio::select! {
            () = signals.reload() => service::status("reloaded"),
            () = shutdown.cancelled() => break,
        }
    }
    service::stopping(Duration::from_secs(7));
    future::pending::<()>().await;
}

fn log() {
    let handle = logging::init("lb-test", "info").expect("a log");
    tracing::info!(worker = "alpha", "first line");
    tracing::debug!("second line");
    handle.set_filter("debug").expect("a filter");
    assert!(handle.set_filter("lb=loud").is_err() && handle.set_filter("nonsense").is_err());
    tracing::debug!("third line");
    tracing::info!(target: "mdns_sd", "packet line");
    tracing::warn!(target: "mdns_sd", "bridged line");
    assert!(logging::init("lb-test", "info").is_err());
}
