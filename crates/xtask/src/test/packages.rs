//! The packages on hosts with a real systemd, installed by the real apt from the signed repository.
//!
//! For each release of Debian two hosts are booted. On both, a worker; on one of them, the balancer. What is tested
//! is in the modules below; this one makes the repository and the hosts.

mod changes;
mod faults;
mod fresh;
mod load;
mod traces;

use std::{fs, path::Path};

use anyhow::{Context as _, ensure};

use super::repository::{self, NEW, OLD, PACKAGES, file, install, take_packages_from};
use crate::{
    lab::{self, Host, Image, Lab, SHARED},
    package::{self, Speed},
    repo::Repository,
    tools::{self, command, output, root, say},
};

/// Releases that the packages must work on, by code name, oldest first.
const RELEASES: [&str; 2] = ["bookworm", "trixie"];
/// Where the balancer of the first host listens.
const FIRST: &str = "10.90.0.11:7460";

/// Runs the tier.
///
/// # Errors
/// At the first thing that does not hold. Under `CI=true` also when the tier cannot run here.
pub(super) fn run() -> anyhow::Result<()> {
    let releases = releases();
    let obstacle = lab::obstacle().or_else(|| {
        releases.is_empty().then(|| format!("needs to run on one of {}", RELEASES.join(", ")))
    });
    if let Some(obstacle) = obstacle {
        return super::skip("packages", &obstacle);
    }
    tools::need(&[("lintian", "lintian"), ("mandoc", "mandoc")])?;
    let repository = repository::make(Speed::Enough)?;
    check_files(&repository.pool())?;
    for release in releases {
        let image = Image::of(release)?;
        on(&image, &repository).with_context(|| format!("on {release}"))?;
        say(&format!("{release}: the packages hold"));
    }
    Ok(())
}

/// The release of this machine and newer ones: what is built on it asks for its libraries.
fn releases() -> &'static [&'static str] {
    let own = lab::release().ok();
    let own = RELEASES.iter().position(|release| Some(*release) == own.as_deref());
    own.map_or(&[], |own| &RELEASES[own..])
}

/// Nothing to complain about in packages and pages; the same bytes a second time.
fn check_files(pool: &Path) -> anyhow::Result<()> {
    for package in PACKAGES {
        let complaints = output(command(
            "lintian",
            &["--allow-root", "--fail-on=none", &file(pool, package, OLD)?],
        ))?;
        ensure!(complaints.trim().is_empty(), "lintian says:\n{complaints}");
    }
    let pages = root().join("target/package-files/man");
    // It prints what it has to say, and fails when there is anything.
    let mut lint = command("mandoc", &["-T", "lint", "-W", "warning"]);
    for page in fs::read_dir(pages)? {
        lint.arg(page?.path());
    }
    output(lint).context("mandoc has something to say of the manual pages")?;
    check_completions(&root().join("target/package-files/completions"))?;
    let again = root().join("target/test-repo-again");
    package::put_together(&["lb-server"], OLD, &again, &package::epoch()?, Speed::Enough)?;
    let (first, second) = (file(pool, "lb-server", OLD)?, file(&again, "lb-server", OLD)?);
    ensure!(fs::read(first)? == fs::read(second)?, "lb-server differs when it is packaged again");
    Ok(fs::remove_dir_all(again)?)
}

/// Each shell can read its completions.
fn check_completions(folder: &Path) -> anyhow::Result<()> {
    tools::need(&[("bash", "bash"), ("zsh", "zsh"), ("fish", "fish")])?;
    for (shell, file) in [("bash", "lbctl.bash"), ("zsh", "_lbctl"), ("fish", "lbctl.fish")] {
        output(command(shell, &["-n", &folder.join(file).to_string_lossy()]))?;
    }
    Ok(())
}

/// Everything that is tested on one release.
fn on(image: &Image, repository: &Repository) -> anyhow::Result<()> {
    let mut lab = Lab::new()?;
    let requests = lab.folder().join("requests.log");
    let mut server = repository::serve(&lab, repository.folder(), &requests)?;
    let hosts = Hosts {
        first: lab.boot(image, repository.folder())?,
        second: lab.boot(image, repository.folder())?,
    };
    let done = hosts.all_tests(&lab).and_then(|()| fresh::reads_by_hash(&requests));
    if done.is_err() {
        for host in [&hosts.first, &hosts.second] {
            let journal = host.run("journalctl --no-pager --lines=200 --unit='lb-*'");
            say(&format!("journal of {}:\n{}", host.name, journal.unwrap_or_default()));
        }
    }
    drop(server.kill());
    drop(server.wait());
    done
}

/// The hosts of one release.
struct Hosts {
    /// Has the balancer, a worker and lbctl; reads the repository as files.
    first: Host,
    /// Has a worker and lbctl; reads the repository by HTTP.
    second: Host,
}

impl Hosts {
    fn all_tests(&self, lab: &Lab) -> anyhow::Result<()> {
        let before = traces::list(&self.first)?;
        take_packages_from(&self.first, &format!("file://{SHARED}"))?;
        take_packages_from(&self.second, &format!("http://{}:8080", Lab::address()))?;
        fresh::install(self)?;
        fresh::find_each_other(self)?;
        fresh::is_confined(self)?;
        fresh::completes(self)?;
        fresh::refuses_what_is_not_signed(self)?;
        changes::reload(self)?;
        changes::under_load(self, lab)?;
        faults::hangs(self)?;
        faults::started_by_its_socket(self)?;
        faults::broken_configuration(self)?;
        traces::purge(&self.first, &before)
    }
}
