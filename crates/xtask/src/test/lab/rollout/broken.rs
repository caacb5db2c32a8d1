//! A release that looks good until its daemons are started.

use super::super::super::repository::{NEW, PACKAGES, file, version};
use crate::{
    lab::Lab,
    repo::Repository,
    tools::{command, output},
};

/// Adds it to a repository, with daemons that end at once.
///
/// # Errors
/// When a package cannot be taken apart or put together.
pub(super) fn add(repository: &Repository, revision: &str) -> anyhow::Result<()> {
    let pool = repository.pool();
    for package in PACKAGES {
        let (good, broken) = (file(&pool, package, NEW)?, file(&pool, package, revision)?);
        let script = "rm -rf \"$3\"; dpkg-deb -R \"$1\" \"$3\"; sed -i \"s/^Version:.*/Version: $4/\" \"$3/DEBIAN/control\"; \
                      for f in \"$3\"/usr/bin/lb-*; do test ! -f \"$f\" || printf '#!/bin/sh\\nexit 1\\n' > \"$f\"; done; \
                      dpkg-deb --root-owner-group -Zgzip -z1 -b \"$3\" \"$2\" > /dev/null; rm -rf \"$3\"";
        let scratch = format!("{broken}.unpacked");
        let words = ["-ec", script, "sh", &good, &broken, &scratch, &version(revision)];
        output(command("sh", &words))?;
    }
    repository.publish(&format!("http://{}:8080", Lab::address()))
}
