//! How to log in to the hosts of a lab: with a key that is made with it, by a configuration for `ssh -F`.

use std::{fmt::Write as _, fs, path::Path};

use anyhow::Context as _;

use super::Host;
use crate::tools::{self, command, output};

/// The file in a lab's folder that lets in to its hosts.
pub(crate) const KEY: &str = "key";
pub(super) const CONFIG: &str = "ssh_config";

/// Makes the key of a lab.
///
/// # Errors
/// When it cannot be made.
pub(super) fn make_key(folder: &Path) -> anyhow::Result<()> {
    tools::need(&[("ssh-keygen", "openssh-client")])?;
    let key = folder.join(KEY);
    let mut make = command("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-C", "lb-lab", "-f"]);
    make.arg(key);
    output(make).map(drop)
}

/// What hosts let in.
///
/// # Errors
/// When there is no key.
pub(super) fn public_key(folder: &Path) -> anyhow::Result<String> {
    fs::read_to_string(folder.join(KEY).with_extension("pub")).context("the lab's key")
}

/// Writes the configuration for these hosts, by their names.
///
/// # Errors
/// When it cannot be written.
pub(super) fn configure(folder: &Path, hosts: &[Host]) -> anyhow::Result<()> {
    let mut text = String::new();
    for Host { name, address, .. } in hosts {
        writeln!(text, "Host {name}\n  HostName {address}")?;
    }
    // Hosts are made anew each time, and their keys are all the same, those of the image.
    write!(
        text,
        "Host *\n  User root\n  IdentityFile {}\n  IdentitiesOnly yes\n  BatchMode yes\n  ConnectTimeout 10\n  \
         StrictHostKeyChecking no\n  UserKnownHostsFile /dev/null\n  LogLevel ERROR\n",
        folder.join(KEY).display()
    )?;
    Ok(fs::write(folder.join(CONFIG), text)?)
}
