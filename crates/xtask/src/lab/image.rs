//! The root of a Debian system, as hosts are made of: installed once, kept between runs, never changed.

use std::{
    fs,
    path::{Path, PathBuf},
    process,
};

use anyhow::Context as _;

use crate::tools::{self, command, output, say};

/// Where roots are kept. They belong to root and outlive a checkout.
const CACHE: &str = "/var/cache/lb-lab";
/// Grows with what is in a root, so that an old one is not taken for a new one.
const GENERATION: u32 = 3;
/// What a host has beside apt and what apt needs; hosts get nothing but our packages later, so their dependencies are
/// among it. Avahi is there to look at what we announce, the ssh server and Python for Ansible, which must need nothing
/// else, libfaketime for a clock that is wrong.
const PACKAGES: &str = "systemd-sysv,dbus,procps,iproute2,libnss-myhostname,avahi-daemon,avahi-utils,\
                        openssh-server,python3,libfaketime";

/// The root of a Debian release.
#[derive(Clone)]
pub(crate) struct Image {
    root: PathBuf,
}

impl Image {
    /// The root of a release, by its code name; installed from where this machine gets its packages if there is none.
    ///
    /// # Errors
    /// When it cannot be installed.
    pub(crate) fn of(release: &str) -> anyhow::Result<Self> {
        let root = Path::new(CACHE).join(format!("{release}-{GENERATION}"));
        if !root.exists() {
            install(release, &root).with_context(|| format!("no root of {release}"))?;
        }
        Ok(Self { root })
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }
}

fn install(release: &str, root: &Path) -> anyhow::Result<()> {
    tools::need(&[("mmdebstrap", "mmdebstrap")])?;
    // apt may not have read its sources yet.
    let source = source().or_else(|_| {
        tools::run(command("apt-get", &["update", "--quiet"]))?;
        source()
    })?;
    say(&format!("installing a root of {release} in {}", root.display()));
    fs::create_dir_all(CACHE)?;
    remove_interrupted()?;
    let new = root.with_extension(format!("new-{}", process::id()));
    let include = format!("--include={PACKAGES}");
    // Documentation is left out but for ours, which is to be seen.
    let mut make = command("mmdebstrap", &["--quiet", "--variant=apt", &include]);
    make.args([
        "--dpkgopt=path-exclude=/usr/share/doc/*",
        "--dpkgopt=path-exclude=/usr/share/locale/*",
    ]);
    make.args([
        "--dpkgopt=path-include=/usr/share/doc/lb-*",
        "--aptopt=APT::Install-Recommends \"false\"",
    ]);
    make.arg("--customize-hook=chroot \"$1\" systemctl --quiet enable systemd-networkd");
    make.arg(release).arg(&new).arg(source);
    tools::run(make)?;
    Ok(fs::rename(new, root)?)
}

/// Removes what installations have left that were interrupted.
fn remove_interrupted() -> anyhow::Result<()> {
    for entry in fs::read_dir(CACHE)? {
        let path = entry?.path();
        let process = path.extension().and_then(|name| name.to_str()?.strip_prefix("new-"));
        if process.is_some_and(|process| !Path::new("/proc").join(process).exists()) {
            fs::remove_dir_all(&path)?;
        }
    }
    Ok(())
}

/// The release of this machine, by its code name.
///
/// # Errors
/// When it has none.
pub(crate) fn release() -> anyhow::Result<String> {
    let system = fs::read_to_string("/etc/os-release").context("/etc/os-release")?;
    let own = system.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME="));
    Ok(own.context("this system has no code name")?.to_owned())
}

/// Where this machine gets Debian's packages: the source of its own release, without its updates.
fn source() -> anyhow::Result<String> {
    let wanted = format!("Debian {} main ", release()?);
    let format = ["indextargets", "--format", "$(ORIGIN) $(CODENAME) $(COMPONENT) $(REPO_URI)"];
    let targets = output(command("apt-get", &format))?;
    let source = targets.lines().find_map(|line| line.strip_prefix(&wanted));
    Ok(source.context("/etc/apt names no source of Debian's packages")?.to_owned())
}
