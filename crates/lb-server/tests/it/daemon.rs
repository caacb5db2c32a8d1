//! The real process, with the test as its service manager: what it says, what it obeys, how it ends.

use std::{
    fs,
    io::Read as _,
    net::{SocketAddr, TcpListener},
    os::fd::OwnedFd,
    os::unix::net::UnixDatagram,
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
    sync::mpsc,
    time::Duration,
};

use tempfile::TempDir;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

use lb_core::policy::PolicyKind;
use lb_discovery::Scope;
use lb_proto::v1::{GetPolicyRequest, SetPolicyRequest, admin_client::AdminClient};
use lb_server::{Limits, Server, Settings};

/// Far above what anything here takes, so that only a hang reaches it.
const PATIENCE: Duration = Duration::from_secs(20);

/// Comes with the listening socket, for the manager to keep.
const KEEP: &str = "FDSTORE=1\nFDNAME=kept\n";

/// A service manager's side of one daemon.
struct Manager {
    socket: UnixDatagram,
    directory: TempDir,
}

impl Manager {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let socket = UnixDatagram::bind(directory.path().join("notify")).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { socket, directory }
    }

    fn file(&self) -> PathBuf {
        self.directory.path().join("lb-server.toml")
    }

    fn write(&self, configuration: &str) {
        fs::write(self.file(), configuration).unwrap();
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("LB_LOCAL", "1")
            .env("LB_SERVER_CONFIG", self.file())
            .env("NOTIFY_SOCKET", self.directory.path().join("notify"))
            .stdin(Stdio::null())
            .stderr(Stdio::piped());
        command
    }

    /// Starts it with the configuration written before.
    fn start(&self) -> Daemon {
        Daemon { child: self.command(env!("CARGO_BIN_EXE_lb-server")).spawn().unwrap() }
    }

    /// Starts it with a socket that listens, named as `lb-server.socket` does, unless `name` says otherwise.
    fn activate(&self, socket: &TcpListener, name: &str) -> Daemon {
        let socket: OwnedFd = socket.try_clone().unwrap().into();
        // A shell puts the descriptor where it belongs, and it alone knows the process number in time.
        let script = r#"LISTEN_PID=$$ exec "$0" 3<&0 0</dev/null"#;
        let mut command = self.command("/bin/sh");
        command.args(["-c", script, env!("CARGO_BIN_EXE_lb-server")]);
        command.env("LISTEN_FDS", "1").env("LISTEN_FDNAMES", name).stdin(socket);
        Daemon { child: command.spawn().unwrap() }
    }

    fn message(&self) -> String {
        let mut buffer = [0; 4096];
        let length = self.socket.recv(&mut buffer).expect("a message in time");
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }

    /// What it says when it is ready for the first time, having opened a socket of its own.
    fn started(&self) -> (String, SocketAddr) {
        assert_eq!(self.message(), KEEP);
        self.ready()
    }

    /// What it says when it is ready, and where it listens.
    fn ready(&self) -> (String, SocketAddr) {
        let message = self.message();
        let status =
            message.strip_prefix("READY=1\nSTATUS=").unwrap_or_else(|| panic!("{message}"));
        let status = status.trim_end().to_owned();
        let address = status.strip_prefix("serving on ").unwrap().split(';').next().unwrap();
        let address = address.parse().unwrap();
        (status, address)
    }

    /// The status after a reload.
    fn reloaded(&self) -> String {
        let message = self.message();
        assert!(message.starts_with("RELOADING=1\nMONOTONIC_USEC="), "{message}");
        self.ready().0
    }
}

struct Daemon {
    child: Child,
}

impl Daemon {
    fn send(&self, signal: &str) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args([signal, &id]).status().unwrap().success());
    }

    /// How it ends, and everything it has said.
    fn end(mut self) -> (Option<i32>, String) {
        let mut text = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut text).unwrap();
        (self.child.wait().unwrap().code(), text)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // A test that failed leaves nothing behind; one that did not has waited for the end already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

async fn admin(address: SocketAddr) -> AdminClient<Channel> {
    AdminClient::connect(format!("http://{address}")).await.unwrap()
}

async fn policy(address: SocketAddr) -> String {
    admin(address).await.get_policy(GetPolicyRequest {}).await.unwrap().into_inner().policy
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_applies_what_can_change_and_names_the_rest() {
    let manager = Manager::new();
    manager.write("listen = \":0\"\npolicy = \"random\"\n");
    let daemon = manager.start();
    let (status, address) = manager.started();
    assert_eq!(policy(address).await, "random");

    manager.write("listen = \":0\"\npolicy = \"p2c\"\n[limits]\nsessions = 7\n");
    daemon.send("-HUP");
    assert_eq!(manager.reloaded(), status);
    assert_eq!(policy(address).await, "p2c");

    // What an operator has set in between gives way to the file.
    let wanted = SetPolicyRequest { policy: "round_robin".into() };
    admin(address).await.set_policy(wanted).await.unwrap();
    manager.write("listen = \":1\"\npolicy = \"p2c\"\ncluster = \"other\"\nlog = \"debug\"\n");
    daemon.send("-HUP");
    assert_eq!(manager.reloaded(), format!("{status}; a restart is needed for cluster, listen"));
    assert_eq!(policy(address).await, "p2c");

    daemon.send("-TERM");
    assert_eq!(manager.message(), "STOPPING=1\nEXTEND_TIMEOUT_USEC=10000000\n");
    let (code, text) = daemon.end();
    assert_eq!(code, Some(0), "{text}");
    let lines = |part: &str| text.lines().filter(|line| line.contains(part)).count();
    assert_eq!(lines("applied=\"limits.sessions = 7, policy = \\\"p2c\\\"\""), 1, "{text}");
    assert_eq!(lines("applied=\"limits.sessions = 10000, log = \\\"debug\\\"\""), 1, "{text}");
    assert_eq!(lines("keys=\"cluster, listen\""), 1, "{text}");
    assert_eq!(lines("ERROR"), 0, "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_file_changes_nothing() {
    let manager = Manager::new();
    manager.write("listen = \":0\"\npolicy = \"random\"\n");
    let daemon = manager.start();
    let (status, address) = manager.started();
    let file = manager.file().display().to_string();
    for (text, problem) in [
        ("policy = \"best\"", format!("key `policy` in {file}: unknown policy \"best\"")),
        ("policy = \"p2c\"\nlog = \"loud\"", format!("key `log` in {file}: log filter")),
        ("policy = \"p2c\"\n[limits]\nsessions = 0", format!("key `limits.sessions` in {file}")),
        ("policy", format!("{file}, line 1, column 7: ")),
    ] {
        manager.write(text);
        daemon.send("-HUP");
        let found = manager.reloaded();
        let expected = format!("{status}; the configuration is not valid: {problem}");
        assert!(found.starts_with(&expected), "{found}");
        assert_eq!(policy(address).await, "random");
    }
    manager.write("listen = \":0\"\npolicy = \"random\"\n");
    daemon.send("-HUP");
    assert_eq!(manager.reloaded(), status);
    daemon.send("-TERM");
    let (_, text) = daemon.end();
    assert_eq!(text.lines().filter(|line| line.contains("ERROR")).count(), 4, "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_refuses_nobody_while_the_manager_holds_the_socket() {
    let manager = Manager::new();
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    manager.write(&format!("listen = \"{address}\"\npolicy = \"random\"\n"));
    for name in ["grpc", "kept"] {
        // Nobody is there yet: the connection waits for the process.
        let early = tokio::spawn(policy(address));
        let daemon = manager.activate(&socket, name);
        assert_eq!(early.await.unwrap(), "random");
        assert_eq!(manager.ready().1, address);
        daemon.send("-TERM");
        assert!(manager.message().starts_with("STOPPING=1"));
        assert_eq!(daemon.end().0, Some(0));
    }
}

#[test]
fn a_kept_socket_that_does_not_fit_any_more_is_given_up() {
    let manager = Manager::new();
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    manager.write("listen = \"127.0.0.2:0\"");
    let daemon = manager.activate(&socket, "kept");
    assert_eq!(manager.message(), "FDSTOREREMOVE=1\nFDNAME=kept\n");
    assert_eq!(manager.started().1.ip().to_string(), "127.0.0.2");
    daemon.send("-TERM");
    assert_eq!(daemon.end().0, Some(0));
}

#[test]
fn a_socket_unit_that_does_not_fit_is_a_mistake_in_the_configuration() {
    let manager = Manager::new();
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    manager.write("");
    let (code, text) = manager.activate(&socket, "grpc").end();
    let expected = format!(
        "the service manager listens on {address}, but the configuration says \"127.0.0.1:7460\""
    );
    assert_eq!(code, Some(78), "{text}");
    assert!(text.lines().last().unwrap().contains(&expected), "{text}");
    let (code, text) = manager.activate(&socket, "http").end();
    assert_eq!(code, Some(78), "{text}");
    assert!(
        text.contains(
            "gave a socket named \"http\": expected a single one with FileDescriptorName=grpc"
        ),
        "{text}"
    );
}

#[test]
fn a_broken_file_is_status_78_and_one_line() {
    let manager = Manager::new();
    let file = manager.file().display().to_string();
    for (text, problem) in [
        ("polcy = \"rr\"", format!("unknown key `polcy` in {file}: expected `cluster`,")),
        ("listen = 7460", format!("key `listen` in {file}: expected text, found an integer 7460")),
        ("log = \"loud\"", format!("key `log` in {file}: log filter \"loud\" is not valid")),
        ("[limits]\nwatchers = 0", format!("key `limits.watchers` in {file}: expected 1 to")),
        ("= 1", format!("{file}, line 1, column 1: ")),
    ] {
        manager.write(text);
        let start = manager.start().end();
        let binary = env!("CARGO_BIN_EXE_lb-server");
        let Output { status, stderr, .. } =
            manager.command(binary).arg("--check-config").output().unwrap();
        assert_eq!(start, (status.code(), String::from_utf8(stderr).unwrap()));
        let (code, said) = start;
        assert_eq!(code, Some(78), "{said}");
        assert!(said.starts_with(&format!("lb-server: error: {problem}")), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
}

#[test]
fn the_watchdog_is_fed() {
    let manager = Manager::new();
    manager.write("listen = \":0\"\n");
    let mut command = manager.command(env!("CARGO_BIN_EXE_lb-server"));
    let child = command.env("WATCHDOG_USEC", "4000000").spawn().unwrap();
    let _daemon = Daemon { child };
    let mut fed = 0;
    let mut buffer = [0; 64];
    while fed < 3 {
        let length = manager.socket.recv(&mut buffer).expect("a sign of life in time");
        fed += usize::from(&buffer[..length] == b"WATCHDOG=1\n");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn only_the_owner_says_that_it_lives() {
    let settings = Settings {
        listen: "127.0.0.1:0".into(),
        cluster: "test".parse().unwrap(),
        policy: PolicyKind::Random,
        scope: Scope::Loopback,
        limits: Limits { sessions: 1, watchers: 1, ..Limits::default() },
        tls: lb_server::Tls::open(),
        scale: lb_server::ScaleSettings::default(),
        xds_plain: None,
    };
    let server = Server::bind(settings).unwrap();
    let address = server.address();
    let (sign, signs) = mpsc::channel();
    let (release, hangs) = mpsc::channel::<()>();
    let alive = move || {
        sign.send(()).unwrap();
        // The owner hangs here until the other end is dropped.
        let _ = hangs.recv();
    };
    let stop = CancellationToken::new();
    let (ready, is_ready) = oneshot::channel();
    let running = tokio::spawn(server.run(stop.clone(), move || ready.send(()).unwrap(), alive));
    is_ready.await.unwrap();
    signs.recv_timeout(PATIENCE).unwrap();
    // Everything else goes on, and says nothing.
    assert_eq!(policy(address).await, "random");
    assert_eq!(policy(address).await, "random");
    assert!(signs.try_recv().is_err());
    drop(release);
    signs.recv_timeout(PATIENCE).unwrap();
    stop.cancel();
    running.await.unwrap().unwrap();
}
