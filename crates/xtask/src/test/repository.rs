//! A signed repository of two versions, served in a lab, and how hosts take packages from it.

use std::{
    fs::{self, File},
    path::Path,
    process::{Child, Stdio},
};

use anyhow::{Context as _, bail};

use crate::{
    lab::{Host, Lab, SHARED},
    package::{self, Speed},
    repo::Repository,
    tools::{self, command, output, root},
};

pub(super) const PACKAGES: [&str; 4] = ["lb-server", "lb-worker", "lb-scaler", "lb-client"];
pub(super) const OLD: &str = "0lb1";
pub(super) const NEW: &str = "0lb2";

/// Two versions in one repository, the newer one with another default configuration.
pub(super) fn make(speed: Speed) -> anyhow::Result<Repository> {
    tools::need(&[("dpkg-shlibdeps", "dpkg-dev")])?;
    let folder = root().join("target/test-repo");
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    let repository = Repository::new(folder, None)?;
    package::build(OLD, &repository.pool(), speed)?;
    for package in PACKAGES {
        newer(&repository.pool(), package)?;
    }
    repository.publish(&format!("file://{SHARED}"))?;
    Ok(repository)
}

/// The path of a package in a folder.
pub(super) fn file(folder: &Path, package: &str, revision: &str) -> anyhow::Result<String> {
    let architecture = output(command("dpkg", &["--print-architecture"]))?;
    let name = format!("{package}_{}_{}.deb", version(revision), architecture.trim());
    Ok(folder.join(name).to_string_lossy().into_owned())
}

/// A whole version.
pub(super) fn version(revision: &str) -> String {
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

/// Serves the repository inside the lab, and writes down what is asked for.
pub(super) fn serve(lab: &Lab, folder: &Path, requests: &Path) -> anyhow::Result<Child> {
    let words = ["-m", "http.server", "--bind", Lab::address(), "8080"];
    let mut serve = lab.inside("python3", &words);
    serve.current_dir(folder).stdout(Stdio::null()).stderr(File::create(requests)?);
    Ok(serve.spawn()?)
}

/// Tells a host where packages come from, and that alone.
pub(super) fn take_packages_from(host: &Host, url: &str) -> anyhow::Result<()> {
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
pub(super) fn install(host: &Host, packages: &[&str], revision: &str) -> anyhow::Result<()> {
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
