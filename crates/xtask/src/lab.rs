//! A lab: hosts with a real systemd, each in a container, on one network that leads nowhere else.
//!
//! It needs root and nothing of the machine's own systemd. All of it lives in a network namespace of its own, with a
//! bridge; hosts are overlays over an [`Image`]. Namespaces and mounts belong to processes that the kernel ends with
//! this one, so nothing stays, however it ends; only the lab's folder and cgroups could, and the next lab removes those.
//! A lab that is to stay is held by a process of its own, see [`holder`].

mod cable;
mod cgroup;
mod command;
mod holder;
mod host;
mod image;
mod ssh;
mod unit;

use std::{
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::{self, Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};

use self::host::Site;
use crate::tools::{self, command, output};

pub(crate) use self::{
    cable::Lost,
    command::{Arguments, run},
    host::{Host, SHARED},
    image::{Image, release},
    ssh::KEY,
};

/// Where the folders of labs lie. Not under `target`, which may itself be an overlay: those do not nest.
const LABS: &str = "/var/tmp/lb-lab";
/// The bridge's own address. Hosts get those above it; they exist in the lab only.
const BRIDGE: &str = "10.90.0.1/24";
/// The file in a lab's folder that names the process that keeps its network.
const KEEPER: &str = "keeper";
/// Where nspawn makes a folder and a lock for each machine, which stay when it is killed.
const NSPAWN: &str = "/run/systemd/nspawn";
/// How many watches on files all hosts of all labs may have together. One has about ten, and the usual 128 are too few.
const WATCHES: (&str, u32) = ("/proc/sys/fs/inotify/max_user_instances", 2048);
/// How often a condition is looked at while it is awaited.
const POLL: Duration = Duration::from_millis(50);
/// A namespace is made in milliseconds; this is a busy machine.
const NAMESPACE_TIMEOUT: Duration = Duration::from_secs(10);
/// The kernel ends a host in milliseconds.
const REMOVE_TIMEOUT: Duration = Duration::from_secs(20);

/// A network and the hosts on it. Dropping it ends them all.
pub(crate) struct Lab {
    /// A process that does nothing but keep the network namespace.
    keeper: Child,
    folder: PathBuf,
    hosts: usize,
}

impl Lab {
    /// Makes the network.
    ///
    /// # Errors
    /// When this machine does not allow it, or a program is missing.
    pub(crate) fn new() -> anyhow::Result<Self> {
        tools::need(&[("systemd-nspawn", "systemd-container"), ("ip", "iproute2")])?;
        remove_leftovers()?;
        allow_watches()?;
        let mut keeper = tied("unshare");
        keeper.args(["--net", "--", "sleep", "infinity"]);
        let keeper = keeper.spawn().context("cannot start unshare")?;
        let folder = Path::new(LABS).join(process::id().to_string());
        fs::create_dir_all(&folder)?;
        ssh::make_key(&folder)?;
        let lab = Self { keeper, folder, hosts: 0 };
        lab.await_namespace()?;
        for line in [
            "link set lo up",
            // Without somebody who asks who listens, a snooping bridge forgets the groups of multicast DNS.
            "link add br0 type bridge mcast_snooping 0",
            &format!("address add {BRIDGE} dev br0"),
            "link set br0 up",
        ] {
            let words: Vec<_> = line.split(' ').collect();
            output(lab.inside("ip", &words))?;
        }
        Ok(lab)
    }

    /// Boots a host and waits until it is up.
    ///
    /// # Errors
    /// When it does not come up; says what its console shows.
    pub(crate) fn boot(&mut self, image: &Image, shared: &Path) -> anyhow::Result<Host> {
        let mut host = self.host(image, shared)?;
        host.boot()?;
        Ok(host)
    }

    /// Boots hosts at once and waits until all are up.
    ///
    /// # Errors
    /// When one does not come up; says what its console shows.
    pub(crate) fn boot_all(
        &mut self,
        image: &Image,
        shared: &Path,
        count: usize,
    ) -> anyhow::Result<Vec<Host>> {
        let mut hosts = Vec::new();
        for _ in 0..count {
            let mut host = self.host(image, shared)?;
            host.switch_on()?;
            hosts.push(host);
        }
        hosts.iter_mut().try_for_each(Host::await_boot)?;
        Ok(hosts)
    }

    fn host(&mut self, image: &Image, shared: &Path) -> anyhow::Result<Host> {
        self.hosts += 1;
        let (folder, keeper) = (self.folder.clone(), self.keeper.id());
        let site = Site { folder, keeper, image: image.clone(), shared: shared.to_path_buf() };
        Host::new(site, self.hosts)
    }

    /// A program in the lab's network, but otherwise on this machine.
    pub(crate) fn inside(&self, program: &str, arguments: &[&str]) -> Command {
        inside(self.keeper.id(), program, arguments)
    }

    /// The lab's own address, as hosts see it.
    pub(crate) fn address() -> &'static str {
        BRIDGE.split('/').next().unwrap_or(BRIDGE)
    }

    /// A folder for files that are gone with the lab.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    fn await_namespace(&self) -> anyhow::Result<()> {
        let ours = fs::read_link("/proc/self/ns/net")?;
        let path = format!("/proc/{}/ns/net", self.keeper.id());
        wait_until("the network namespace", NAMESPACE_TIMEOUT, || {
            Ok(fs::read_link(&path).is_ok_and(|theirs| theirs != ours))
        })
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        // Hosts hold the namespace too; they are dropped before, as they borrow nothing of it but its name.
        drop(self.keeper.kill());
        drop(self.keeper.wait());
        drop(remove(process::id()));
    }
}

/// Whether labs are possible here; the reason why not.
pub(crate) fn obstacle() -> Option<String> {
    let root = output(command("id", &["--user"])).is_ok_and(|user| user.trim() == "0");
    let debian = Path::new("/etc/debian_version").exists();
    match (root, debian) {
        (false, _) => Some("needs root, to boot a host in a container".into()),
        (_, false) => Some("needs Debian, to make the root of such a host".into()),
        _ => None,
    }
}

/// Waits for a condition.
///
/// # Errors
/// When it does not hold in time, names it; an error of the condition itself.
pub(crate) fn wait_until(
    what: &str,
    limit: Duration,
    mut holds: impl FnMut() -> anyhow::Result<bool>,
) -> anyhow::Result<()> {
    let started = Instant::now();
    while !holds()? {
        ensure!(started.elapsed() < limit, "waited {limit:?} for {what}");
        thread::sleep(POLL);
    }
    Ok(())
}

/// A program in the network that this process keeps, but otherwise on this machine.
fn inside(keeper: u32, program: &str, arguments: &[&str]) -> Command {
    // Not `ip netns exec`, which mounts another /sys and so hides the cgroups.
    let mut inside = tied("nsenter");
    inside.arg(format!("--net=/proc/{keeper}/ns/net")).arg("--").arg(program);
    inside.args(arguments);
    inside
}

/// A program that the kernel ends when this process ends.
fn tied(program: &str) -> Command {
    let mut tied = command("setpriv", &["--pdeathsig", "KILL", "--", program]);
    tied.stdin(Stdio::null());
    tied
}

/// Raises a limit of the kernel that is for the whole machine. It stays raised: other labs may need it.
fn allow_watches() -> anyhow::Result<()> {
    let (file, needed) = WATCHES;
    let allowed: u32 = fs::read_to_string(file)?.trim().parse().context(file)?;
    if allowed < needed {
        fs::write(file, needed.to_string()).with_context(|| format!("cannot raise {file}"))?;
    }
    Ok(())
}

/// Removes what labs of processes that were killed have left.
fn remove_leftovers() -> anyhow::Result<()> {
    let Ok(entries) = fs::read_dir(LABS) else { return Ok(()) };
    for entry in entries {
        let Ok(pid) = entry?.file_name().to_string_lossy().parse::<u32>() else { continue };
        if !Path::new("/proc").join(pid.to_string()).exists() {
            remove(pid)?;
        }
    }
    Ok(())
}

/// Removes what the lab of process `pid` has left when that has ended or is about to: processes, cgroups and folders.
fn remove(pid: u32) -> anyhow::Result<()> {
    wait_until(&format!("the hosts of process {pid} to end"), REMOVE_TIMEOUT, || {
        cgroup::kill(pid)?;
        Ok(cgroup::remove(pid).is_ok())
    })?;
    let folder = Path::new(LABS).join(pid.to_string());
    remove_traces_of_nspawn(pid, &folder);
    if let Err(error) = fs::remove_dir_all(&folder)
        && error.kind() != io::ErrorKind::NotFound
    {
        bail!("cannot remove {}, of an older lab: {error}", folder.display());
    }
    // Other labs may be running.
    drop(fs::remove_dir(LABS));
    Ok(())
}

fn remove_traces_of_nspawn(pid: u32, folder: &Path) {
    let entries = |folder: &Path| fs::read_dir(folder).into_iter().flatten().flatten();
    for host in entries(folder) {
        let machine = format!("{}-{pid}", host.file_name().to_string_lossy());
        drop(fs::remove_dir(Path::new(NSPAWN).join("propagate").join(machine)));
        // A lock is named after the root's device and inode; the latter is that of the overlay's upper folder.
        let Ok(upper) = fs::metadata(host.path().join("upper")) else { continue };
        let end = format!(":{}", upper.ino());
        for lock in entries(&Path::new(NSPAWN).join("locks")) {
            if lock.file_name().to_string_lossy().ends_with(&end) {
                drop(fs::remove_file(lock.path()));
            }
        }
    }
}
