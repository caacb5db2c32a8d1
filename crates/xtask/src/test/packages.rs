//! The packages on hosts with a real systemd, installed by the real apt from the signed repository.
//!
//! For each release of Debian two hosts are booted. On both, a worker; on one of them, the balancer. What is tested
//! is in the modules below; this one makes the repository and the hosts.

mod changes;
mod faults;
mod fresh;
mod load;
mod traces;

use std::{
    env,
    fs::{self, File},
    path::Path,
    process::{Child, Stdio},
};

use anyhow::{Context as _, bail, ensure};

use crate::{
    lab::{self, Host, Image, Lab, SHARED},
    package,
    repo::Repository,
    tools::{self, command, output, root, say},
};

/// Releases that the packages must work on, by code name, oldest first.
const RELEASES: [&str; 2] = ["bookworm", "trixie"];
const PACKAGES: [&str; 3] = ["lb-server", "lb-worker", "lb-client"];
const OLD: &str = "0lb1";
const NEW: &str = "0lb2";
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
        ensure!(env::var("CI").as_deref() != Ok("true"), "the tier packages {obstacle}");
        say(&format!("skipped: {obstacle}"));
        return Ok(());
    }
    let repository = make_repository()?;
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

/// Two versions in one repository, the newer one with another default configuration.
fn make_repository() -> anyhow::Result<Repository> {
    tools::need(&[("lintian", "lintian"), ("mandoc", "mandoc"), ("dpkg-shlibdeps", "dpkg-dev")])?;
    let folder = root().join("target/test-repo");
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    let repository = Repository::new(folder, None)?;
    package::build(OLD, &repository.pool())?;
    check_files(&repository.pool())?;
    for package in PACKAGES {
        newer(&repository.pool(), package)?;
    }
    repository.publish(&format!("file://{SHARED}"))?;
    Ok(repository)
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
    package::put_together(&["lb-server"], OLD, &again, &package::epoch()?)?;
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

/// The path of a package in a folder.
fn file(folder: &Path, package: &str, revision: &str) -> anyhow::Result<String> {
    let architecture = output(command("dpkg", &["--print-architecture"]))?;
    let name = format!("{package}_{}_{}.deb", version(revision), architecture.trim());
    Ok(folder.join(name).to_string_lossy().into_owned())
}

/// A whole version.
fn version(revision: &str) -> String {
    format!("{}-{revision}", env!("CARGO_PKG_VERSION"))
}

/// Makes the newer version of a package: the same programs, so that nothing is built twice, with a further line in
/// its default configuration, so that there is something to keep when it has been edited.
fn newer(pool: &Path, package: &str) -> anyhow::Result<()> {
    let (old, new) = (file(pool, package, OLD)?, file(pool, package, NEW)?);
    let script = "rm -rf \"$3\"; dpkg-deb -R \"$1\" \"$3\"; sed -i \"s/^Version:.*/Version: $4/\" \"$3/DEBIAN/control\"; \
                  for f in \"$3\"/etc/lb/*; do test ! -f \"$f\" || echo '# Another default.' >> \"$f\"; done; \
                  dpkg-deb --root-owner-group -Zgzip -z1 -b \"$3\" \"$2\" > /dev/null; rm -rf \"$3\"";
    let scratch = format!("{new}.unpacked");
    let words = ["-ec", script, "sh", &old, &new, &scratch, &version(NEW)];
    output(command("sh", &words)).map(drop)
}

/// Everything that is tested on one release.
fn on(image: &Image, repository: &Repository) -> anyhow::Result<()> {
    let mut lab = Lab::new()?;
    let requests = lab.folder().join("requests.log");
    let mut server = serve(&lab, repository.folder(), &requests)?;
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

/// Serves the repository inside the lab, and writes down what is asked for.
fn serve(lab: &Lab, folder: &Path, requests: &Path) -> anyhow::Result<Child> {
    let words = ["-m", "http.server", "--bind", Lab::address(), "8080"];
    let mut serve = lab.inside("python3", &words);
    serve.current_dir(folder).stdout(Stdio::null()).stderr(File::create(requests)?);
    Ok(serve.spawn()?)
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

/// Tells a host where packages come from, and that alone.
fn take_packages_from(host: &Host, url: &str) -> anyhow::Result<()> {
    let sources = host.run(&format!("cat {SHARED}/lb.sources"))?;
    let lines = sources.lines().map(|line| match line.strip_prefix("URIs: ") {
        Some(_) => format!("URIs: {url}\n"),
        None => format!("{line}\n"),
    });
    host.run("rm -f /etc/apt/sources.list /etc/apt/sources.list.d/*")?;
    host.write("/etc/apt/sources.list.d/lb.sources", &lines.collect::<String>())?;
    // Without --error-on=any a bad signature is a warning.
    host.run("apt-get update --quiet --error-on=any").map(drop)
}

/// Installs a version of packages; configuration that was edited is kept, as unattended upgrades do.
fn install(host: &Host, packages: &[&str], revision: &str) -> anyhow::Result<()> {
    let wanted = packages.iter().map(|package| format!("{package}={}", version(revision)));
    let wanted = wanted.collect::<Vec<_>>().join(" ");
    let said = host.run(&format!(
        "apt-get install --yes --quiet --allow-downgrades -o Dpkg::Options::=--force-confold {wanted} 2>&1"
    ))?;
    for package in wanted.split_whitespace() {
        let (name, version) = package.split_once('=').context("name=version")?;
        let found = host.run(&format!("dpkg-query --show --showformat='${{Version}}' {name}"))?;
        if found != version {
            bail!("{name} is {found} instead of {version} after apt-get said:\n{said}");
        }
    }
    Ok(())
}
