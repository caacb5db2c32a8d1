//! `lbctl pki`, and a cluster of real processes that is strict with what it has made.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use crate::support::{Daemon, Ended, lbctl};

fn pki(directory: &Path, arguments: &[&str]) -> Ended {
    let directory = directory.to_str().unwrap();
    lbctl(&[&["--cluster", "strict", "pki", "--directory", directory], arguments].concat())
}

#[test]
fn files_have_their_modes_and_are_never_overwritten_unasked() {
    let place = tempfile::tempdir().unwrap();
    let here = place.path().join("pki");
    let ended = pki(&here, &["issue", "server", "b"]);
    assert_eq!(ended.code, 65);
    assert!(ended.stderr.contains("make an authority with \"lbctl pki init\""), "{}", ended.stderr);

    assert_eq!(pki(&here, &["init"]).code, 0);
    let issue = ["issue", "worker", "w1", "--service", "a.B", "--service", "a.C"];
    let ended = pki(&here, &issue);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    assert!(ended.stdout.starts_with("lb://strict/worker/w1 for 365 days: "), "{}", ended.stdout);
    let modes = [
        "lb-ca.crt",
        "lb-ca.key",
        "worker-w1/lb-ca.crt",
        "worker-w1/lb-worker.crt",
        "worker-w1/lb-worker.key",
    ];
    let modes =
        modes.map(|file| fs::metadata(here.join(file)).unwrap().permissions().mode() & 0o777);
    assert_eq!(modes, [0o644, 0o600, 0o644, 0o644, 0o600]);

    let key = fs::read_to_string(here.join("worker-w1/lb-worker.key")).unwrap();
    for again in [&["init"][..], &issue] {
        let ended = pki(&here, again);
        assert_eq!(ended.code, 65, "{again:?}");
        assert!(
            ended.stderr.contains("is there already: nothing was written; --force"),
            "{}",
            ended.stderr
        );
    }
    assert_eq!(fs::read_to_string(here.join("worker-w1/lb-worker.key")).unwrap(), key);
    assert_eq!(pki(&here, &[&issue[..], &["--force"]].concat()).code, 0);
    assert_ne!(fs::read_to_string(here.join("worker-w1/lb-worker.key")).unwrap(), key);

    assert_eq!(pki(&here, &["issue", "worker", "w2", "--instances", "8"]).code, 0);
    assert_eq!(pki(&here, &["issue", "worker", "w3", "--instances", "1025"]).code, 64);
    let ended = pki(&here, &["issue", "worker", "w2-8"]);
    assert_eq!(ended.code, 65, "{}", ended.stderr);
    assert!(ended.stderr.contains("good for a worker of the same name"), "{}", ended.stderr);
    assert_eq!(pki(&here, &["issue", "worker", "w2-9"]).code, 0);

    let ended = pki(&here, &["issue", "worker", "W 1"]);
    assert_eq!(ended.code, 64);
    assert!(ended.stderr.contains("worker id \"W 1\" is not valid"), "{}", ended.stderr);
}

#[test]
fn what_ends_soon_is_renewed_and_nothing_else() {
    let place = tempfile::tempdir().unwrap();
    let here = place.path();
    assert_eq!(pki(here, &["init"]).code, 0);
    assert_eq!(pki(here, &["issue", "server", "b"]).code, 0);
    assert_eq!(pki(here, &["issue", "worker", "w", "--service", "a.B", "--days", "20"]).code, 0);
    let ended = pki(here, &["renew"]);
    assert_eq!((ended.code, ended.stderr.as_str()), (0, ""));
    let expected = format!("lb://strict/worker/w: {}\n", here.join("worker-w").display());
    assert_eq!(ended.stdout, expected);
    assert_eq!(pki(here, &["renew"]).stdout, "nothing ends within 30 days\n");
    // A new authority signs for nobody of the old one.
    let other = tempfile::tempdir().unwrap();
    assert_eq!(pki(other.path(), &["init"]).code, 0);
    fs::copy(other.path().join("lb-ca.key"), here.join("lb-ca.key")).unwrap();
    let ended = pki(here, &["issue", "admin", "a"]);
    assert_eq!(ended.code, 65);
    assert!(ended.stderr.contains("is not one that"), "{}", ended.stderr);
}

/// Authority, certificate and key of one of those that were issued.
fn files(here: &Path, folder: &str, name: &str) -> [String; 3] {
    let names = ["lb-ca.crt".to_owned(), format!("{name}.crt"), format!("{name}.key")];
    names.map(|name| here.join(folder).join(name).display().to_string())
}

#[test]
fn a_cluster_of_processes_is_strict() {
    let place = tempfile::tempdir().unwrap();
    let here = place.path();
    assert_eq!(pki(here, &["init"]).code, 0);
    for who in ["server b", "worker w1", "client c", "admin a"] {
        let who: Vec<&str> = ["issue"].into_iter().chain(who.split(' ')).collect();
        assert_eq!(pki(here, &who).code, 0);
    }
    let configuration = |folder: &str, name: &str| {
        let path = here.join(format!("{name}.toml"));
        let [ca, certificate, key] = files(here, folder, name);
        let text = format!(
            "cluster = \"strict\"\n[tls]\nca = {ca:?}\ncertificate = {certificate:?}\nkey = {key:?}\n"
        );
        fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let server = configuration("server-b", "lb-server");
    let mut server =
        Daemon::spawn("lb-server", &["--local", "--listen", ":0", "--config", &server]);
    server.until(&["balancer ready"]);
    let worker = configuration("worker-w1", "lb-worker");
    let mut node = Daemon::spawn("lb-worker", &["--local", "--config", &worker]);
    node.until(&["registered with a balancer"]);
    server.until(&["worker takes calls"]);

    let as_holder = |folder: &str, arguments: &[&str]| {
        let [ca, certificate, key] = files(here, folder, "lb-client");
        let who = ["--tls-ca", &ca, "--tls-certificate", &certificate, "--tls-key", &key];
        lbctl(&[&["--local", "--cluster", "strict"], &who[..], arguments].concat())
    };
    let ended = as_holder("client-c", &["run", "sum", "10"]);
    assert_eq!((ended.code, ended.stdout.as_str()), (0, "55\n"), "{}", ended.stderr);
    let ended = as_holder("client-c", &["drain", "w1"]);
    assert_eq!(ended.code, 77);
    assert!(
        ended
            .stderr
            .contains("lb://strict/client/c may not call /lb.v1.Admin/Drain: only admins may"),
        "{}",
        ended.stderr
    );
    // The policy is measured that is in force; another one is not for a client to set.
    let bench = ["bench", "run", "--found", "--task", "sum 10", "--requests", "20", "--policies"];
    let ended = as_holder("client-c", &[&bench[..], &["least_load"]].concat());
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    let ended = as_holder("client-c", &[&bench[..], &["round_robin"]].concat());
    assert_eq!(ended.code, 77, "{}", ended.stderr);

    assert_eq!(as_holder("admin-a", &["drain", "w1"]).code, 0);
    assert_eq!(as_holder("admin-a", &["undrain", "w1"]).code, 0);

    let open =
        ["--local", "--cluster", "strict", "--tls", "open", "--wait", "1s", "run", "sum", "10"];
    let ended = lbctl(&open);
    assert_eq!(ended.code, 69);
    assert!(
        ended.stderr.contains("announces the mode mtls and this client speaks open"),
        "{}",
        ended.stderr
    );

    // Another id than the certificate's is a mistake that only somebody who edits can mend.
    let mut other = Daemon::spawn("lb-worker", &["--local", "--config", &worker, "--id", "w2"]);
    assert_eq!(other.exit_code(), Some(78));
    let said = other.last_words();
    assert!(
        said.contains("id is w2, but the certificate is that of lb://strict/worker/w1"),
        "{said}"
    );
}
