//! A lab that outlives the command that made it: a process holds it and does to it what other commands ask for.
//!
//! One line is asked, and what there is to say is answered. All is done by the main thread, one after another: the kernel
//! ends the hosts with the thread that started them.

use std::{
    fs,
    io::{self, BufRead as _, BufReader, Write as _},
    net::Ipv4Addr,
    os::unix::{
        fs::symlink,
        net::{UnixListener, UnixStream},
    },
    path::Path,
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use clap::ValueEnum as _;

use super::{Host, Image, KEEPER, Lab, cable::Lost, image::release, ssh};
use crate::tools::{print, root};

/// Where the holder listens, in the folder of the lab.
const SOCKET: &str = "socket";
/// What an answer begins with when something has gone wrong.
const ERROR: &str = "error: ";
/// What the holder says when all hosts are up.
pub(super) const READY: &str = "ready";

/// Asks the holder of the lab in this folder, and waits so long for its answer.
///
/// # Errors
/// When there is none, and what the holder says has gone wrong.
pub(super) fn ask(folder: &Path, line: &str, limit: Duration) -> anyhow::Result<String> {
    let socket = folder.join(SOCKET);
    let stream = UnixStream::connect(&socket)
        .with_context(|| format!("nobody listens at {}", socket.display()))?;
    stream.set_read_timeout(Some(limit))?;
    writeln!(&stream, "{line}")?;
    let answer = io::read_to_string(&stream).context("the lab's holder does not answer")?;
    match answer.strip_prefix(ERROR) {
        Some(error) => bail!("{}", error.trim_end()),
        None => Ok(answer),
    }
}

/// Makes a lab, lets `pointer` lead to its folder, and holds it until it is told to end, or killed.
///
/// # Errors
/// When the lab cannot be made.
pub(super) fn hold(hosts: usize, pointer: &Path) -> anyhow::Result<()> {
    let mut lab = Lab::new()?;
    fs::write(lab.folder().join(KEEPER), lab.keeper.id().to_string())?;
    // Packages, if there are any: a repository for the hosts.
    let shared = root().join("target/repo");
    fs::create_dir_all(&shared)?;
    // Fails if there is another one: one lab for each checkout.
    symlink(lab.folder(), pointer).with_context(|| format!("cannot make {}", pointer.display()))?;
    let mut hosts = lab.boot_all(&Image::of(&release()?)?, &shared, hosts)?;
    ssh::configure(lab.folder(), &hosts)?;
    let listener = UnixListener::bind(lab.folder().join(SOCKET))?;
    print(&format!("{READY}\n"))?;
    for stream in listener.incoming() {
        let stream = stream?;
        let mut line = String::new();
        // Who asks may be gone again; that is no reason to end.
        drop(BufReader::new(&stream).read_line(&mut line));
        let words: Vec<_> = line.split_whitespace().collect();
        if words == ["down"] {
            drop(hosts);
            return Ok(());
        }
        let answer =
            obey(&lab, &mut hosts, &words).unwrap_or_else(|error| format!("{ERROR}{error:#}\n"));
        drop((&stream).write_all(answer.as_bytes()));
    }
    Ok(())
}

/// Does one thing; returns what there is to say.
fn obey(lab: &Lab, hosts: &mut [Host], words: &[&str]) -> anyhow::Result<String> {
    let (action, name, argument) = match *words {
        ["status"] => return Ok(hosts.iter_mut().map(status).collect()),
        [action, name] => (action, name, None),
        [action, name, argument] => (action, name, Some(argument)),
        _ => bail!("{words:?} is no order"),
    };
    let names: Vec<_> = hosts.iter().map(|host| host.name.clone()).collect();
    let host = hosts.iter_mut().find(|host| host.name == name);
    let host = host.with_context(|| format!("no host {name}; there are {}", names.join(", ")))?;
    ensure!(host.is_on() || action == "boot", "{name} is off");
    match (action, argument) {
        ("boot", None) => host.boot()?,
        ("stop", None) => host.stop()?,
        ("kill", None) => host.cut_power()?,
        ("cut", None) => host.cable.cut()?,
        ("heal", None) => host.cable.heal()?,
        ("drop", Some(lost)) => {
            host.cable.lose(Lost::from_str(lost, true).map_err(anyhow::Error::msg)?)?;
        }
        ("address", Some(address)) => {
            let _is_one: Ipv4Addr =
                address.parse().with_context(|| format!("{address}: no IPv4 address"))?;
            host.move_to(address)?;
            ssh::configure(lab.folder(), hosts)?;
        }
        _ => bail!("{words:?} is no order"),
    }
    Ok(String::new())
}

fn status(host: &mut Host) -> String {
    let on = host.is_on();
    let Host { name, address, cable, .. } = host;
    let state = if on { cable.to_string() } else { "off".to_owned() };
    format!("{name:<4} {address:<14} {state}\n")
}
