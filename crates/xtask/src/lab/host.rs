//! One host: a container with a systemd of its own.

use std::{
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
    process::{self, Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};

use super::{Image, Lab, cgroup, tied, wait_until};
use crate::tools::output;

/// A host boots in about two seconds on an idle machine.
const BOOT_TIMEOUT: Duration = Duration::from_secs(120);
/// Where a host sees the folder that is shared with it.
pub(crate) const SHARED: &str = "/srv/lb";

/// A running host. Dropping it is as pulling its plug.
pub(crate) struct Host {
    /// What it calls itself.
    pub(crate) name: String,
    nspawn: Child,
    /// Its process 1, as this machine sees it.
    leader: u32,
}

impl Host {
    pub(super) fn boot(
        lab: &Lab,
        image: &Image,
        number: usize,
        shared: &Path,
    ) -> anyhow::Result<Self> {
        let name = format!("h{number}");
        let folder = lab.folder.join(&name);
        let upper = prepare(&folder, &name, number)?;
        let console = folder.join("console.log");
        let groups = cgroup::make(process::id(), &name).context("cannot make cgroups")?;
        // Interfaces are named after the machine, so labs side by side need different ones.
        let machine = format!("{name}-{}", process::id());
        let script = script(&folder, image.root(), &upper, &groups);
        let mut nspawn = lab.inside("unshare", &["--mount", "--", "sh", "-ec", &script, "sh"]);
        nspawn.args(["--quiet", "--boot", "--register=no", "--keep-unit"]);
        nspawn.arg(format!("--machine={machine}")).arg(format!("--hostname={name}"));
        nspawn.arg(format!("--bind-ro={}:{SHARED}", shared.display()));
        nspawn.args(["--network-bridge=br0", "--link-journal=no", "--resolv-conf=off"]);
        nspawn.args(["--timezone=off", "--suppress-sync=yes", "--console=read-only"]);
        let log = File::create(&console)?;
        nspawn.stdout(log.try_clone()?).stderr(log);
        let nspawn = nspawn.spawn().context("cannot start systemd-nspawn")?;
        let mut host = Self { name, nspawn, leader: 0 };
        host.await_boot().with_context(|| {
            let shown = fs::read_to_string(&console).unwrap_or_default();
            format!("{} does not come up; its console says:\n{shown}", host.name)
        })?;
        Ok(host)
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

    /// A shell command in the host, with a plain environment and no input.
    pub(crate) fn command(&self, script: &str) -> Command {
        let mut command = tied("nsenter");
        command.args(["--target", &self.leader.to_string(), "--all", "--", "env", "-i"]);
        command.args(["HOME=/root", "LANG=C.UTF-8", "DEBIAN_FRONTEND=noninteractive"]);
        command.arg("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        command.args(["sh", "-ec", script]);
        command
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

    fn await_boot(&mut self) -> anyhow::Result<()> {
        let nspawn = self.nspawn.id();
        wait_until("its systemd to start", BOOT_TIMEOUT, || {
            if let Some(status) = self.nspawn.try_wait()? {
                bail!("systemd-nspawn ended: {status}");
            }
            self.leader = find_leader(nspawn).unwrap_or_default();
            Ok(self.leader != 0)
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
}

impl Drop for Host {
    fn drop(&mut self) {
        if self.leader != 0 && self.nspawn.try_wait().is_ok_and(|ended| ended.is_none()) {
            // With its process 1 the kernel ends everything in the host.
            let leader = self.leader.to_string();
            drop(output(crate::tools::command("kill", &["-KILL", &leader])));
        } else {
            drop(self.nspawn.kill());
        }
        drop(self.nspawn.wait());
    }
}

/// Makes the folders of a host, with the few files that differ from host to host.
fn prepare(folder: &Path, name: &str, number: usize) -> anyhow::Result<PathBuf> {
    let upper = folder.join("upper");
    for made in [folder.join("work"), folder.join("root"), upper.join("etc/systemd/network")] {
        fs::create_dir_all(made)?;
    }
    let id = fs::read_to_string("/proc/sys/kernel/random/uuid")?.replace('-', "");
    let network = format!(
        "[Match]\nName=host0\n[Network]\nAddress=10.90.0.{}/24\nLinkLocalAddressing=ipv6\nIPv6AcceptRA=no\nDHCP=no\n",
        10 + number
    );
    fs::write(upper.join("etc/hostname"), format!("{name}\n"))?;
    fs::write(upper.join("etc/machine-id"), id)?;
    fs::write(upper.join("etc/systemd/network/10-host0.network"), network)?;
    Ok(upper)
}

/// Joins the cgroups and mounts the host's root, in a mount namespace that ends with it, then becomes nspawn.
fn script(folder: &Path, lower: &Path, upper: &Path, groups: &[PathBuf]) -> String {
    let join = groups.iter().map(|group| format!("echo $$ > {}/cgroup.procs; ", group.display()));
    let join = join.collect::<Vec<_>>().concat();
    let root = folder.join("root");
    format!(
        "{join}mount -t overlay lb-lab -o lowerdir={},upperdir={},workdir={} {root}; \
         exec systemd-nspawn --directory={root} \"$@\"",
        lower.display(),
        upper.display(),
        folder.join("work").display(),
        root = root.display(),
    )
}

/// The host's process 1: a child of nspawn that has become systemd.
fn find_leader(nspawn: u32) -> Option<u32> {
    let children = fs::read_to_string(format!("/proc/{nspawn}/task/{nspawn}/children")).ok()?;
    let leader = children.split_whitespace().next()?.parse().ok()?;
    let program = fs::read_link(format!("/proc/{leader}/exe")).ok()?;
    program.ends_with("systemd").then_some(leader)
}
