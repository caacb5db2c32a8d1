//! A signed apt repository of the packages: versions side by side, so that a machine can go back to an older one.
//!
//! ```text
//! pool/                          all packages of all versions
//! dists/stable/InRelease         the index of indexes, signed
//! dists/stable/main/binary-*/    the lists of packages, by name and by hash
//! lb.sources                     what a machine needs to know, with the key: goes to /etc/apt/sources.list.d
//! ```
//!
//! A list is found by its hash, so a machine that reads `InRelease` just before a publication still gets the lists
//! that it names.

mod key;

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use clap::{Args, Subcommand};

use crate::{
    package::{self, Speed},
    tools::{self, command, output, root, say},
};
pub(crate) use key::Key;

const DIST: &str = "dists/stable";
const POOL: &str = "pool";

/// What `cargo xtask repo` is asked for.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    action: Option<Action>,
    #[command(flatten)]
    options: Options,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Serve the repository by HTTP until it is interrupted
    Serve {
        /// Where to listen
        #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:8080")]
        listen: std::net::SocketAddr,
    },
}

#[derive(Debug, Args)]
struct Options {
    /// Debian revision: the part of the version behind "-"; "0" says that the package is not Debian's own
    #[arg(long, value_name = "REVISION", default_value = "0lb1")]
    revision: String,
    /// Private key to sign with, as gpg exports it, armoured and without passphrase; one is made under target without it
    #[arg(long, value_name = "FILE", global = true)]
    key: Option<PathBuf>,
    /// The address that machines will use; without it that of the time before, or of this folder
    #[arg(long, value_name = "URL", global = true)]
    url: Option<String>,
}

/// Builds the packages and publishes them in `target/repo`, or serves what is there.
///
/// # Errors
/// When a program that is needed is missing, or fails.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let Options { revision, key, url } = &arguments.options;
    let repository = Repository::new(root().join("target/repo"), key.as_deref())?;
    match &arguments.action {
        None => {
            package::build(revision, &repository.pool(), Speed::Full)?;
            let url = url.clone().or_else(|| repository.url());
            let here = || format!("file://{}", repository.folder.display());
            repository.publish(&url.unwrap_or_else(here))?;
            let sources = repository.folder.join("lb.sources");
            say(&format!("copy {} to /etc/apt/sources.list.d/", sources.display()));
            Ok(())
        }
        Some(Action::Serve { listen }) => {
            let here = format!("http://{listen}");
            repository.publish(url.as_deref().unwrap_or(&here))?;
            repository.serve(*listen)
        }
    }
}

/// A repository in a folder.
pub(crate) struct Repository {
    folder: PathBuf,
    key: Key,
}

impl Repository {
    /// A repository in this folder, signed with this key or else with the one of this checkout.
    pub(crate) fn new(folder: PathBuf, key: Option<&Path>) -> anyhow::Result<Self> {
        tools::need(&[("apt-ftparchive", "apt-utils"), ("gpg", "gnupg")])?;
        let key = match key {
            Some(file) => Key::read(file)?,
            None => Key::of_this_checkout()?,
        };
        Ok(Self { folder, key })
    }

    /// Where its packages go before they are published.
    pub(crate) fn pool(&self) -> PathBuf {
        self.folder.join(POOL)
    }

    /// Where it is.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Where machines have found it so far.
    fn url(&self) -> Option<String> {
        let sources = fs::read_to_string(self.folder.join("lb.sources")).ok()?;
        sources.lines().find_map(|line| Some(line.strip_prefix("URIs: ")?.to_owned()))
    }

    /// Makes the indexes of what is in the pool, and signs them. `url` is where machines find this folder.
    pub(crate) fn publish(&self, url: &str) -> anyhow::Result<()> {
        let architecture = output(command("dpkg", &["--print-architecture"]))?;
        let architecture = architecture.trim();
        let dist = self.folder.join(DIST);
        let lists = dist.join("main").join(format!("binary-{architecture}"));
        let by_hash = lists.join("by-hash/SHA256");
        fs::create_dir_all(&by_hash)?;
        let mut packages = command("apt-ftparchive", &["packages", POOL]);
        packages.current_dir(&self.folder);
        fs::write(lists.join("Packages"), output(packages)?)?;
        output(command("xz", &["--keep", "--force", &path(&lists.join("Packages"))]))?;

        let mut kept = hashes(&dist.join("Release"));
        let release = self.release(architecture)?;
        kept.extend(hashes_of(&release));
        for name in ["Packages", "Packages.xz"] {
            let hash = output(command("sha256sum", &[&path(&lists.join(name))]))?;
            let hash = hash.split(' ').next().context("sha256sum prints a hash")?;
            fs::copy(lists.join(name), by_hash.join(hash))?;
        }
        self.key.sign(&release, &dist)?;
        forget(&by_hash, &kept)?;
        fs::write(self.folder.join("lb.sources"), sources(url, &self.key.public))?;
        Ok(())
    }

    fn release(&self, architecture: &str) -> anyhow::Result<String> {
        let mut release = command("apt-ftparchive", &[]);
        for (field, value) in [
            ("Origin", "lb"),
            ("Label", "lb"),
            ("Suite", "stable"),
            ("Codename", "stable"),
            ("Architectures", architecture),
            ("Components", "main"),
            ("Acquire-By-Hash", "yes"),
        ] {
            release.args(["-o", &format!("APT::FTPArchive::Release::{field}={value}")]);
        }
        // apt takes the strongest hash that is there: one kind, then, and the lists are found by it.
        for kind in ["MD5", "SHA1", "SHA512"] {
            release.args(["-o", &format!("APT::FTPArchive::{kind}=false")]);
        }
        release.args(["release", DIST]).current_dir(&self.folder);
        output(release)
    }

    /// Serves the folder until the process is interrupted.
    fn serve(&self, listen: std::net::SocketAddr) -> anyhow::Result<()> {
        let port = listen.port().to_string();
        let address = listen.ip().to_string();
        let mut serve = command("python3", &["-m", "http.server", "--bind", &address, &port]);
        serve.current_dir(&self.folder);
        say(&format!("curl -o /etc/apt/sources.list.d/lb.sources http://{listen}/lb.sources"));
        tools::run(serve)
    }
}

fn path(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// What a machine needs to know, in the format deb822.
pub(crate) fn sources(url: &str, key: &str) -> String {
    let key: String = key
        .lines()
        .map(|line| if line.is_empty() { " .\n".to_owned() } else { format!(" {line}\n") })
        .collect();
    format!("Types: deb\nURIs: {url}\nSuites: stable\nComponents: main\nSigned-By:\n{key}")
}

/// The hashes that a release file names; none when there is no such file.
fn hashes(release: &Path) -> BTreeSet<String> {
    hashes_of(&fs::read_to_string(release).unwrap_or_default())
}

fn hashes_of(release: &str) -> BTreeSet<String> {
    // SHA-256 in hexadecimal digits.
    let words = release.split_whitespace();
    words.filter(|word| word.len() == 64).map(ToOwned::to_owned).collect()
}

/// Removes lists that neither this publication nor the one before it names.
fn forget(by_hash: &Path, kept: &BTreeSet<String>) -> anyhow::Result<()> {
    for entry in fs::read_dir(by_hash)? {
        let entry = entry?;
        if !kept.contains(entry.file_name().to_string_lossy().as_ref()) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_stands_inside_the_sources() {
        let text = sources("http://box:8080", "BEGIN\n\nabc\nEND\n");
        assert_eq!(
            text,
            "Types: deb\nURIs: http://box:8080\nSuites: stable\nComponents: main\nSigned-By:\n BEGIN\n .\n abc\n END\n"
        );
    }

    #[test]
    fn only_hashes_of_the_right_length_are_taken() {
        let hash = "a".repeat(64);
        let text = format!("SHA1:\n {} 1 x\nSHA256:\n {hash} 10 main/Packages\n", "b".repeat(40));
        assert_eq!(hashes_of(&text), BTreeSet::from([hash]));
    }
}
