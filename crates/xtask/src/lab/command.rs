//! `cargo xtask lab`: a lab to work in, which stays until it is taken down.

use std::{
    env, fs,
    io::{BufRead as _, BufReader},
    os::unix::process::CommandExt as _,
    path::PathBuf,
    process::{self, Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use clap::{Args, Subcommand};

use super::{
    KEEPER,
    cable::Lost,
    cgroup, holder,
    image::{Image, release},
    obstacle, remove, ssh,
};
use crate::tools::{self, command, print, root, say};

/// Where a checkout finds its lab: a link to the lab's folder, which is named after the process that holds it.
const LINK: &str = "target/lab";
/// What the holder has to say while it makes a lab, and later.
const LOG: &str = "target/lab.log";
/// Addresses of hosts end in 11 and more, below the broadcast address.
const MAX_HOSTS: usize = 200;

/// A host boots, or stops, in a few seconds; either has two minutes.
const PATIENCE: Duration = Duration::from_secs(150);
/// A lab goes down in a second; if its holder is busy, it goes down without.
const LITTLE_PATIENCE: Duration = Duration::from_secs(5);

/// What `cargo xtask lab` is asked for.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Boot a lab with this many hosts: h1, h2 …
    Up { hosts: usize },
    /// Log in to a host as root, or run a command there
    Ssh {
        host: String,
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<String>,
    },
    /// Run a program of this machine in the lab's network, with the lab's folder in `LB_LAB`; `down` ends it
    Run {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
        command: Vec<String>,
    },
    /// Cut the power of a host
    Kill { host: String },
    /// Shut a host down
    Stop { host: String },
    /// Switch a host on again
    Boot { host: String },
    /// Cut the network cable of a host
    Cut { host: String },
    /// Lose packets of a host silently
    Drop {
        host: String,
        #[arg(value_enum, default_value = "both")]
        lost: Lost,
    },
    /// Undo `cut` and `drop`
    Heal { host: String },
    /// Give a host another address, of 10.90.0.0/24
    Address { host: String, address: String },
    /// List the hosts
    Status,
    /// Take the lab down; nothing of it stays
    Down,
    /// Be the process that holds a lab
    #[command(hide = true)]
    Hold { hosts: usize },
}

/// Does what is asked for.
///
/// # Errors
/// When it cannot be done; says why.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let order = match &arguments.action {
        Action::Up { hosts } => return up(*hosts),
        Action::Hold { hosts } => return holder::hold(*hosts, &root().join(LINK)),
        Action::Down => return down(),
        Action::Ssh { host, command } => return log_in(host, command),
        Action::Run { command } => return inside(command),
        Action::Status => "status".to_owned(),
        Action::Kill { host } => format!("kill {host}"),
        Action::Stop { host } => format!("stop {host}"),
        Action::Boot { host } => format!("boot {host}"),
        Action::Cut { host } => format!("cut {host}"),
        Action::Heal { host } => format!("heal {host}"),
        Action::Drop { host, lost } => format!("drop {host} {lost:?}"),
        Action::Address { host, address } => format!("address {host} {address}"),
    };
    print(&holder::ask(&folder()?, &order, PATIENCE)?)
}

/// Starts a process that holds a lab, and waits until its hosts are up.
fn up(hosts: usize) -> anyhow::Result<()> {
    ensure!((1..=MAX_HOSTS).contains(&hosts), "a lab has 1 to {MAX_HOSTS} hosts, not {hosts}");
    if let Some(obstacle) = obstacle() {
        bail!("a lab {obstacle}");
    }
    if let Some((_, true)) = found() {
        bail!("a lab is up; `cargo xtask lab status` shows it, `cargo xtask lab down` ends it");
    }
    // Of one whose holder was killed.
    down()?;
    // Here, where it can be seen that it takes a minute.
    Image::of(&release()?)?;
    let log = root().join(LOG);
    let mut hold = command("setsid", &[]);
    hold.arg(env::current_exe()?).args(["lab", "hold", &hosts.to_string()]);
    hold.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(fs::File::create(&log)?);
    let mut holder = hold.spawn().context("cannot start setsid")?;
    let said = holder.stdout.take().context("a pipe was asked for")?;
    let mut line = String::new();
    BufReader::new(said).read_line(&mut line)?;
    if line.trim() != holder::READY {
        holder.wait()?;
        down()?;
        bail!("no lab: {}", fs::read_to_string(log)?.trim_end());
    }
    print(&holder::ask(&folder()?, "status", PATIENCE)?)?;
    say(&format!("ssh -F {LINK}/{} works by `cargo xtask lab run`", ssh::CONFIG));
    Ok(())
}

/// Ends the lab of this checkout, if there is one, whether its holder lives or not.
fn down() -> anyhow::Result<()> {
    let Some((holder, lives)) = found() else { return Ok(()) };
    if lives {
        // In good order if it listens; it may also be waiting for a host.
        drop(holder::ask(&root().join(LINK), "down", LITTLE_PATIENCE));
        drop(command("kill", &["-KILL", &holder.to_string()]).stderr(Stdio::null()).status());
    }
    remove(holder)?;
    Ok(fs::remove_file(root().join(LINK))?)
}

/// The process that holds the lab of this checkout, and whether it lives.
fn found() -> Option<(u32, bool)> {
    let holder: u32 = fs::read_link(root().join(LINK)).ok()?.file_name()?.to_str()?.parse().ok()?;
    // Another process may have its number now.
    let words = fs::read_to_string(format!("/proc/{holder}/cmdline")).unwrap_or_default();
    Some((holder, words.contains("\0lab\0hold\0")))
}

/// The folder of the lab of this checkout.
fn folder() -> anyhow::Result<PathBuf> {
    match found() {
        Some((_, true)) => Ok(fs::read_link(root().join(LINK))?),
        Some((_, false)) => bail!("the lab has crashed; `cargo xtask lab up` makes a new one"),
        None => bail!("there is no lab; `cargo xtask lab up` makes one"),
    }
}

/// Becomes ssh.
fn log_in(host: &str, words: &[String]) -> anyhow::Result<()> {
    tools::need(&[("ssh", "openssh-client")])?;
    let config = folder()?.join(ssh::CONFIG);
    let ssh = ["ssh", "-F", &config.to_string_lossy(), host].map(ToOwned::to_owned);
    inside(&[&ssh, words].concat())
}

/// Becomes a program in the lab's network. It is in a cgroup of the lab, by which `down` finds it and its children.
fn inside(words: &[String]) -> anyhow::Result<()> {
    let folder = folder()?;
    let (holder, _) = found().context("there is no lab")?;
    for group in cgroup::make(holder, "run")? {
        fs::write(group.join("cgroup.procs"), process::id().to_string())?;
    }
    let keeper = fs::read_to_string(folder.join(KEEPER))?;
    let mut program = Command::new("nsenter");
    program.arg(format!("--net=/proc/{keeper}/ns/net")).arg("--").args(words);
    // In the folder where it was asked for.
    program.env("LB_LAB", &folder);
    Err(program.exec()).context("cannot start nsenter")
}
