//! Releases that look good until their daemons are started.

use super::super::super::repository::{NEW, PACKAGES, file, version};
use crate::{
    lab::Lab,
    repo::Repository,
    tools::{command, output},
};

/// A version whose daemons do not start.
pub(super) const BROKEN: &str = "0lb3";
/// A version whose daemons start and serve, and end two seconds later.
pub(super) const FAINT: &str = "0lb4";

const ENDS_AT_ONCE: &str = "exit 1";
/// In an orderly way, so that it costs no call; systemd then starts it again. Only as a service: it must get past the check of its
/// configuration.
const ENDS_SOON: &str =
    "test -z \"$NOTIFY_SOCKET\" || { sleep 2; kill $$; } & exec \"$0.real\" \"$@\"";

/// Adds them to a repository.
///
/// # Errors
/// When a package cannot be taken apart or put together.
pub(super) fn add(repository: &Repository) -> anyhow::Result<()> {
    let pool = repository.pool();
    for (revision, program) in [(BROKEN, ENDS_AT_ONCE), (FAINT, ENDS_SOON)] {
        for package in PACKAGES {
            let (good, broken) = (file(&pool, package, NEW)?, file(&pool, package, revision)?);
            let script = "rm -rf \"$3\"; dpkg-deb -R \"$1\" \"$3\"; sed -i \"s/^Version:.*/Version: $4/\" \"$3/DEBIAN/control\"; \
                          for f in \"$3\"/usr/bin/lb-*; do test ! -f \"$f\" || { mv \"$f\" \"$f.real\"; \
                          printf '#!/bin/sh\\n%s\\n' \"$5\" > \"$f\"; chmod 755 \"$f\"; }; done; \
                          dpkg-deb --root-owner-group -Zgzip -z1 -b \"$3\" \"$2\" > /dev/null; rm -rf \"$3\"";
            let scratch = format!("{broken}.unpacked");
            let words =
                ["-ec", script, "sh", &good, &broken, &scratch, &version(revision), program];
            output(command("sh", &words))?;
        }
    }
    repository.publish(&format!("http://{}:8080", Lab::address()))
}
