//! One host: a container with a systemd of its own.

use std::{
    fs::{self, File},
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{self, Child, Command, Stdio},
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, bail, ensure};

use super::{Image, cable::Cable, cgroup, ssh, tied, wait_until};
use crate::tools::{command, output};

/// A host boots in about two seconds on an idle machine.
const BOOT_TIMEOUT: Duration = Duration::from_secs(120);
/// Daemons of hosts have up to a minute to end; then systemd kills them.
const STOP_TIMEOUT: Duration = Duration::from_secs(120);
/// Where a host sees the folder that is shared with it.
pub(crate) const SHARED: &str = "/srv/lb";
/// Where a host finds its address.
const NETWORK: &str = "etc/systemd/network/10-host0.network";

/// What the hosts of a lab are made of.
#[derive(Clone)]
pub(super) struct Site {
    /// The lab's folder.
    pub(super) folder: PathBuf,
    /// The process that keeps the lab's network.
    pub(super) keeper: u32,
    pub(super) image: Image,
    /// A folder of this machine that hosts can read.
    pub(super) shared: PathBuf,
}

/// A host, switched on or off. Dropping it is as pulling its plug.
pub(crate) struct Host {
    /// What it calls itself.
    pub(crate) name: String,
    pub(crate) address: String,
    pub(crate) cable: Cable,
    site: Site,
    /// While it is on.
    running: Option<Running>,
}

struct Running {
    nspawn: Child,
    /// The host's process 1, as this machine sees it. 0 until it is there.
    leader: u32,
}

impl Host {
    /// A host that is off.
    pub(super) fn new(site: Site, number: usize) -> anyhow::Result<Self> {
        let name = format!("h{number}");
        let address = format!("10.90.0.{}", 10 + number);
        prepare(&site.folder.join(&name), &name, &address, &ssh::public_key(&site.folder)?)?;
        // Interfaces are named after the machine, and machines of labs side by side must differ.
        let cable = Cable::new(site.keeper, format!("vb-{name}-{}", process::id()));
        Ok(Self { name, address, cable, site, running: None })
    }

    /// Switches it on and waits until it is up. What was written before stays, also after its power was cut.
    ///
    /// # Errors
    /// When it is on already, or does not come up; says what its console shows.
    pub(crate) fn boot(&mut self) -> anyhow::Result<()> {
        self.switch_on()?;
        self.await_boot()
    }

    /// Begins to boot.
    pub(super) fn switch_on(&mut self) -> anyhow::Result<()> {
        ensure!(!self.is_on(), "{} is on already", self.name);
        self.running = None;
        self.cable.renew()?;
        let folder = self.folder();
        let groups = cgroup::make(process::id(), &self.name).context("cannot make cgroups")?;
        let script = script(&folder, self.site.image.root(), &groups);
        let mut nspawn = super::inside(self.site.keeper, "unshare", &["--mount", "--", "sh"]);
        nspawn.args(["-ec", &script, "sh", "--quiet", "--boot", "--register=no", "--keep-unit"]);
        nspawn.arg(format!("--machine={}-{}", self.name, process::id()));
        nspawn.arg(format!("--hostname={}", self.name));
        nspawn.arg(format!("--bind-ro={}:{SHARED}", self.site.shared.display()));
        nspawn.args(["--network-bridge=br0", "--link-journal=no", "--resolv-conf=off"]);
        nspawn.args(["--timezone=off", "--suppress-sync=yes", "--console=read-only"]);
        let log = File::create(folder.join("console.log"))?;
        nspawn.stdout(log.try_clone()?).stderr(log);
        let nspawn = nspawn.spawn().context("cannot start systemd-nspawn")?;
        self.running = Some(Running { nspawn, leader: 0 });
        Ok(())
    }

    /// Waits until everything that starts at its boot has started.
    pub(super) fn await_boot(&mut self) -> anyhow::Result<()> {
        self.await_systemd().with_context(|| {
            let console = self.folder().join("console.log");
            let shown = fs::read_to_string(console).unwrap_or_default();
            format!("{} does not come up; its console says:\n{shown}", self.name)
        })
    }

    fn await_systemd(&mut self) -> anyhow::Result<()> {
        let running = self.running.as_mut().context("it is off")?;
        wait_until("its systemd to start", BOOT_TIMEOUT, || {
            if let Some(status) = running.nspawn.try_wait()? {
                bail!("systemd-nspawn ended: {status}");
            }
            running.leader = find_leader(running.nspawn.id()).unwrap_or_default();
            Ok(running.leader != 0)
        })?;
        // Not `is-system-running --wait`, which returns at once while there is no D-Bus yet.
        self.wait_for("systemctl is-system-running | grep -qx running", BOOT_TIMEOUT)?;
        // Of the older hierarchies only systemd's own is writable at first, and limits would be ignored.
        self.run(
            "for c in memory pids cpu; do test ! -d /sys/fs/cgroup/$c || \
             mount -o remount,bind,rw,nosuid,nodev,noexec /sys/fs/cgroup/$c; done; systemctl daemon-reexec",
        )?;
        Ok(())
    }

    /// Shuts it down as an operator does.
    ///
    /// # Errors
    /// When it is off, or does not end.
    pub(crate) fn stop(&mut self) -> anyhow::Result<()> {
        let name = &self.name;
        let running = self.running.as_mut().with_context(|| format!("{name} is off"))?;
        // nspawn tells the host's process 1.
        output(command("kill", &["-TERM", &running.nspawn.id().to_string()]))?;
        let nspawn = &mut running.nspawn;
        wait_until(&format!("{name} to stop"), STOP_TIMEOUT, || Ok(nspawn.try_wait()?.is_some()))?;
        self.running = None;
        Ok(())
    }

    /// Cuts its power: nobody hears of it again, nothing is closed.
    ///
    /// # Errors
    /// When it is off.
    pub(crate) fn cut_power(&mut self) -> anyhow::Result<()> {
        ensure!(self.is_on(), "{} is off", self.name);
        // What the kernel would still say for the processes that it ends does not get out any more.
        self.cable.cut()?;
        self.running = None;
        Ok(())
    }

    /// Whether it is on: switched on, and not ended by itself.
    pub(crate) fn is_on(&mut self) -> bool {
        let nspawn = self.running.as_mut().map(|running| &mut running.nspawn);
        nspawn.is_some_and(|nspawn| nspawn.try_wait().is_ok_and(|ended| ended.is_none()))
    }

    /// Gives it another address, which it keeps. Returns when it began to change.
    ///
    /// # Errors
    /// When it is off, or does not take the address.
    pub(crate) fn move_to(&mut self, address: &str) -> anyhow::Result<SystemTime> {
        self.write(&format!("/{NETWORK}"), &network(address))?;
        self.run("networkctl reload")?;
        let begun = SystemTime::now();
        self.run("networkctl reconfigure host0")?;
        let has = format!("ip -4 -oneline address show dev host0 | grep -qF ' {address}/'");
        self.wait_for(&has, BOOT_TIMEOUT)?;
        address.clone_into(&mut self.address);
        Ok(begun)
    }

    /// Runs a shell command in the host and returns what it prints.
    ///
    /// # Errors
    /// When it fails; with what it says.
    pub(crate) fn run(&self, script: &str) -> anyhow::Result<String> {
        output(self.command(script)).with_context(|| format!("in {}: {script}", self.name))
    }

    /// Whether a shell command in the host succeeds.
    ///
    /// # Errors
    /// When it cannot be started.
    pub(crate) fn succeeds(&self, script: &str) -> anyhow::Result<bool> {
        let mut command = self.command(script);
        Ok(command.stdout(Stdio::null()).stderr(Stdio::null()).status()?.success())
    }

    /// A shell command in the host, with a plain environment and no input. It fails when the host is off.
    pub(crate) fn command(&self, script: &str) -> Command {
        // There is no process 0.
        let leader = self.running.as_ref().map_or(0, |running| running.leader);
        let mut command = tied("nsenter");
        command.args(["--target", &leader.to_string(), "--all", "--", "env", "-i"]);
        command.args(["HOME=/root", "LANG=C.UTF-8", "DEBIAN_FRONTEND=noninteractive"]);
        command.arg("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        command.args(["sh", "-ec", script]);
        command
    }

    /// Where this machine sees a file of the host, also one that is in memory there.
    ///
    /// # Errors
    /// When the host is off.
    pub(crate) fn path(&self, path: &str) -> anyhow::Result<PathBuf> {
        let running = self.running.as_ref().with_context(|| format!("{} is off", self.name))?;
        Ok(PathBuf::from(format!("/proc/{}/root{path}", running.leader)))
    }

    /// Writes a file in the host.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) fn write(&self, path: &str, text: &str) -> anyhow::Result<()> {
        let mut write = self.command(&format!("mkdir -p $(dirname {path}); cat > {path}"));
        let mut child = write.stdin(Stdio::piped()).spawn()?;
        child.stdin.take().context("a pipe was asked for")?.write_all(text.as_bytes())?;
        ensure!(child.wait()?.success(), "cannot write {path} in {}", self.name);
        Ok(())
    }

    /// Waits until a shell command in the host succeeds.
    ///
    /// # Errors
    /// When it does not in time.
    pub(crate) fn wait_for(&self, script: &str, limit: Duration) -> anyhow::Result<()> {
        wait_until(&format!("{}: {script}", self.name), limit, || self.succeeds(script))
    }

    fn folder(&self) -> PathBuf {
        self.site.folder.join(&self.name)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.leader != 0 && self.nspawn.try_wait().is_ok_and(|ended| ended.is_none()) {
            // With its process 1 the kernel ends everything in the host.
            drop(output(command("kill", &["-KILL", &self.leader.to_string()])));
        } else {
            drop(self.nspawn.kill());
        }
        drop(self.nspawn.wait());
    }
}

/// Makes the folders of a host, with the few files that differ from host to host.
fn prepare(folder: &Path, name: &str, address: &str, key: &str) -> anyhow::Result<()> {
    let upper = folder.join("upper");
    let (ssh, network_file) = (upper.join("root/.ssh"), upper.join(NETWORK));
    let networks = network_file.parent().context("it is in a folder")?.to_path_buf();
    for made in [folder.join("work"), folder.join("root"), networks, ssh.clone()] {
        fs::create_dir_all(made)?;
    }
    fs::set_permissions(upper.join("root"), fs::Permissions::from_mode(0o700))?;
    fs::write(ssh.join("authorized_keys"), key)?;
    let id = fs::read_to_string("/proc/sys/kernel/random/uuid")?.replace('-', "");
    fs::write(upper.join("etc/hostname"), format!("{name}\n"))?;
    fs::write(upper.join("etc/machine-id"), id)?;
    fs::write(network_file, network(address))?;
    Ok(())
}

fn network(address: &str) -> String {
    format!(
        "[Match]\nName=host0\n[Network]\nAddress={address}/24\nLinkLocalAddressing=ipv6\nIPv6AcceptRA=no\nDHCP=no\n"
    )
}

/// Joins the cgroups and mounts the host's root, in a mount namespace that ends with it, then becomes nspawn.
fn script(folder: &Path, lower: &Path, groups: &[PathBuf]) -> String {
    let join = groups.iter().map(|group| format!("echo $$ > {}/cgroup.procs; ", group.display()));
    let join = join.collect::<Vec<_>>().concat();
    format!(
        "{join}mount -t overlay lb-lab -o lowerdir={},upperdir={},workdir={} {root}; \
         exec systemd-nspawn --directory={root} \"$@\"",
        lower.display(),
        folder.join("upper").display(),
        folder.join("work").display(),
        root = folder.join("root").display(),
    )
}

/// The host's process 1: a child of nspawn that has become systemd.
fn find_leader(nspawn: u32) -> Option<u32> {
    let children = fs::read_to_string(format!("/proc/{nspawn}/task/{nspawn}/children")).ok()?;
    let leader = children.split_whitespace().next()?.parse().ok()?;
    let program = fs::read_link(format!("/proc/{leader}/exe")).ok()?;
    program.ends_with("systemd").then_some(leader)
}
