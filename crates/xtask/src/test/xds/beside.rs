//! What is tried once, without load: a service in Python as a worker, and a client in Python where there are certificates.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    net::TcpListener,
    path::Path,
    process::{Child, Stdio},
};

use anyhow::{Context as _, ensure};

use super::{
    FOLDER,
    fleet::{Fleet, program, tied},
    new_python,
};
use crate::tools::{command, output, root, run, say};

/// A service that knows nothing of us is registered by a worker beside it, called, and left alone when that worker stops.
pub(super) fn attach(fleet: &mut Fleet, bootstrap: &Path) -> anyhow::Result<()> {
    let script = format!("{FOLDER}/render.py");
    let mut service = command(new_python()?, &[&script, "serve"]);
    service.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut service = Guarded(service.spawn().context("python")?);
    let mut port = String::new();
    let said = service.0.stdout.as_mut().context("it is a pipe")?;
    BufReader::new(said).read_line(&mut port)?;
    let before = fleet.serving()?;
    fleet.attach("render", &format!("127.0.0.1:{}", port.trim()))?;
    fleet.until_serving(before + 1)?;
    let call = || {
        let mut call = command(new_python()?, &[&script, "call"]);
        call.env("GRPC_XDS_BOOTSTRAP", bootstrap);
        output(call)
    };
    let answer = call()?;
    ensure!(answer == "drawn a tree\n", "the attached service answers {answer:?}");
    fleet.stop("render")?;
    ensure!(service.0.try_wait()?.is_none(), "the service has ended with the worker beside it");
    say("a service in Python is a worker, and stays when the worker beside it stops");
    Ok(())
}

/// Under mTLS a client asks the balancer on its own machine in plain text, and calls workers with its certificate.
pub(super) fn strict() -> anyhow::Result<()> {
    let folder = root().join("target/xds/strict");
    let pki = folder.join("pki");
    if pki.exists() {
        fs::remove_dir_all(&pki)?;
    }
    fs::create_dir_all(&folder)?;
    let cluster = format!("xds-strict-{}", std::process::id());
    let make = |arguments: &[&str]| {
        let mut lbctl = command(program("lbctl"), &["--cluster", &cluster, "pki", "--directory"]);
        lbctl.arg(&pki).args(arguments);
        output(lbctl).map(drop)
    };
    make(&["init"])?;
    for (role, name) in [("server", "s"), ("worker", "w"), ("client", "c")] {
        make(&["issue", role, name])?;
    }
    let free = || anyhow::Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string());
    let (address, plain) = (free()?, free()?);
    let start = |role: &str, name: &str, flags: &[&str], variables: &[(&str, &str)]| {
        let mut daemon = tied(&format!("lb-{role}"), &cluster, "mtls");
        let own = pki.join(format!("{role}-{name}"));
        let prefix = format!("LB_{}_TLS__", role.to_uppercase());
        for (key, file) in [
            ("CA", "lb-ca.crt".to_owned()),
            ("CERTIFICATE", format!("lb-{role}.crt")),
            ("KEY", format!("lb-{role}.key")),
        ] {
            daemon.env(prefix.clone() + key, own.join(file));
        }
        daemon.args(flags).envs(variables.iter().copied());
        daemon.stderr(fs::File::create(folder.join(format!("{role}.log")))?);
        anyhow::Ok(Guarded(daemon.spawn().context("cannot start a daemon")?))
    };
    let variables = [("LB_SERVER_XDS_PLAIN", plain.as_str())];
    let _balancer = start("server", "s", &["--listen", &address], &variables)?;
    let _worker = start("worker", "w", &["--listen", "127.0.0.1:0", "--lb", &address], &[])?;
    let bootstrap = folder.join("bootstrap.json");
    let mut lbctl = command(program("lbctl"), &["--lb", &plain, "xds-bootstrap", "--out"]);
    lbctl.arg(&bootstrap);
    run(lbctl)?;
    let mut example = command(new_python()?, &["examples/python/compute.py", "10"]);
    example.arg(pki.join("client-c")).env("GRPC_XDS_BOOTSTRAP", &bootstrap);
    let answer = output(example)?;
    ensure!(answer == "w 10\n", "under mTLS the example says {answer:?}");
    say("under mTLS a client in Python calls a worker whose certificate it has checked");
    Ok(())
}

/// A process that ends when this is dropped.
struct Guarded(Child);

impl Drop for Guarded {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}
