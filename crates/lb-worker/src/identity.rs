//! Who this worker is when nobody has said so.
//!
//! An id must stay the same over restarts, or balancers learn the worker's speed anew each time, and two workers
//! on one machine must differ. In this order:
//! 1. systemd gives the service a state directory (`$STATE_DIRECTORY`): an id is drawn once, `<host>-<8 hex digits>`, and kept there
//!    in the file `worker-id`;
//! 2. otherwise `<host>-<port>`, with the port really listened on. Stable with a fixed port; with port 0 it is new
//!    at each start, which is right for workers started by hand, several on one machine.

use std::{
    env,
    fs::{self, File},
    io::{self, Write as _},
    path::Path,
};

use tracing::warn;

use lb_core::id::{LABEL_LIMIT, WorkerId};
use lb_link::host;

const STATE_DIRECTORY: &str = "STATE_DIRECTORY";
const FILE: &str = "worker-id";
/// Room for "-" and 8 hex digits, or "-" and a port.
const SUFFIX_LIMIT: usize = 9;

/// The id of a worker that listens on `port`.
pub(crate) fn default_id(port: u16) -> WorkerId {
    let host = host::label(LABEL_LIMIT - SUFFIX_LIMIT, "worker");
    // systemd separates several directories with colons; the first is ours.
    let directory = env::var(STATE_DIRECTORY).ok();
    let directory =
        directory.as_deref().and_then(|all| all.split(':').next()).filter(|one| !one.is_empty());
    directory
        .and_then(|directory| kept_id(Path::new(directory), &host))
        .unwrap_or_else(|| numbered(&host, port))
}

fn numbered(host: &str, port: u16) -> WorkerId {
    format!("{host}-{port}").parse().expect("a host label and a number make an id")
}

/// The id kept in `directory`; drawn and kept if there is none. `None` if it cannot be kept.
fn kept_id(directory: &Path, host: &str) -> Option<WorkerId> {
    let file = directory.join(FILE);
    if let Ok(text) = fs::read_to_string(&file) {
        match text.trim().parse() {
            Ok(id) => return Some(id),
            Err(error) => {
                warn!(event = "id_not_kept", file = %file.display(), %error, "the kept worker id is not usable, drawing a new one");
            }
        }
    }
    let id: WorkerId = format!("{host}-{:08x}", fastrand::u32(..))
        .parse()
        .expect("a host label and digits make an id");
    match write_whole(&file, &format!("{id}\n")) {
        Ok(()) => Some(id),
        Err(error) => {
            warn!(event = "id_not_kept", file = %file.display(), %error, "cannot keep the worker id, deriving it from the port");
            None
        }
    }
}

/// Writes a file so that there is all of it or nothing, whenever the power goes.
fn write_whole(file: &Path, text: &str) -> io::Result<()> {
    let new = file.with_extension("new");
    let mut writer = File::create(&new)?;
    writer.write_all(text.as_bytes())?;
    writer.sync_all()?;
    fs::rename(new, file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_follows_the_host() {
        assert_eq!(numbered("node-7", 65535).as_str(), "node-7-65535");
    }

    #[test]
    fn a_kept_id_stays() {
        let directory = tempfile::tempdir().unwrap();
        let first = kept_id(directory.path(), "box").unwrap();
        assert!(first.as_str().starts_with("box-"));
        assert_eq!(kept_id(directory.path(), "other"), Some(first.clone()));
        fs::write(directory.path().join(FILE), "No Id").unwrap();
        assert_ne!(kept_id(directory.path(), "box"), Some(first));
        assert_eq!(kept_id(&directory.path().join("missing"), "box"), None);
    }
}
