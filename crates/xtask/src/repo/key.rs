//! The key that a repository is signed with.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process,
    sync::atomic::{AtomicU32, Ordering},
};

use anyhow::Context as _;

use crate::tools::{command, output, root};

/// A private key in a key ring of its own, which is gone when this is dropped.
pub(crate) struct Key {
    ring: Ring,
    /// The public half, armoured.
    pub(crate) public: String,
}

impl Key {
    /// Reads an armoured private key.
    ///
    /// # Errors
    /// When gpg cannot read it.
    pub(crate) fn read(file: &Path) -> anyhow::Result<Self> {
        let ring = Ring::new()?;
        let shown = file.to_string_lossy();
        output(ring.gpg(&["--import", &shown]))
            .with_context(|| format!("{shown} is not a private key that gpg can read"))?;
        let public = output(ring.gpg(&["--armor", "--export"]))?;
        Ok(Self { ring, public })
    }

    /// Makes a key. Good enough to try and to test, not to publish with.
    ///
    /// # Errors
    /// When gpg cannot make it.
    pub(crate) fn new() -> anyhow::Result<Self> {
        let ring = Ring::new()?;
        let name = "lb packages, made for one checkout";
        output(ring.gpg(&["--quick-generate-key", name, "ed25519", "sign", "never"]))?;
        let public = output(ring.gpg(&["--armor", "--export"]))?;
        Ok(Self { ring, public })
    }

    /// The key of this checkout; made at first.
    pub(crate) fn of_this_checkout() -> anyhow::Result<Self> {
        let file = root().join("target/repo-key.asc");
        if !file.exists() {
            let private = output(Self::new()?.ring.gpg(&["--armor", "--export-secret-keys"]))?;
            fs::create_dir_all(root().join("target"))?;
            fs::write(&file, "")?;
            fs::set_permissions(&file, fs::Permissions::from_mode(0o600))?;
            fs::write(&file, private)?;
        }
        Self::read(&file)
    }

    /// Writes `release` into a folder: plain, with a signature beside it, and signed within, which apt prefers.
    pub(crate) fn sign(&self, release: &str, folder: &Path) -> anyhow::Result<()> {
        let file = |name: &str| folder.join(name).to_string_lossy().into_owned();
        fs::write(file("Release"), release)?;
        let (plain, beside, new) = (file("Release"), file("Release.gpg"), file("InRelease.new"));
        let beside = ["--yes", "--armor", "--detach-sign", "--output", &beside, &plain];
        output(self.ring.gpg(&beside))?;
        output(self.ring.gpg(&["--yes", "--clear-sign", "--output", &new, &plain]))?;
        // In one step, so that nobody reads half of it.
        Ok(fs::rename(new, file("InRelease"))?)
    }
}

/// A folder for gpg. Not under `target`: the socket of gpg's agent lies in it, and the path of a socket is short.
struct Ring {
    folder: PathBuf,
}

impl Ring {
    fn new() -> anyhow::Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("lb-gpg-{}-{number}", process::id()));
        fs::create_dir(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o700))?;
        Ok(Self { folder })
    }

    fn gpg(&self, arguments: &[&str]) -> process::Command {
        let mut gpg = command("gpg", &["--batch", "--quiet", "--pinentry-mode", "loopback"]);
        gpg.args(["--passphrase", ""]).args(arguments).env("GNUPGHOME", &self.folder);
        gpg
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        let mut agent = command("gpgconf", &["--kill", "all"]);
        agent.env("GNUPGHOME", &self.folder);
        // What is left after a failure here is a folder in /tmp that only we can read.
        drop(output(agent));
        drop(fs::remove_dir_all(&self.folder));
    }
}
