//! A cgroup for each host: systemd takes the one it is started in for the root of its own tree.
//!
//! Under the older hierarchies there is one tree per controller, under the unified one a single tree.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::Stdio,
};

use crate::tools::command;

const ROOT: &str = "/sys/fs/cgroup";
const OURS: &str = "lb-lab";

/// Makes cgroups for a host of the lab of process `pid`, one in each hierarchy.
///
/// # Errors
/// When the kernel refuses.
pub(super) fn make(pid: u32, host: &str) -> io::Result<Vec<PathBuf>> {
    let mut made = Vec::new();
    for hierarchy in hierarchies()? {
        let group = hierarchy.join(OURS).join(pid.to_string()).join(host);
        fs::create_dir_all(&group)?;
        // A new cpuset has no CPU and no memory, and takes no process before it has.
        for file in ["cpuset.cpus", "cpuset.mems"] {
            for group in [group.ancestors().nth(2), group.ancestors().nth(1), Some(&*group)] {
                let Some(group) = group.filter(|group| is_old_cpuset(group)) else { continue };
                fs::copy(hierarchy.join(file), group.join(file))?;
            }
        }
        made.push(group);
    }
    Ok(made)
}

/// Kills what is in the cgroups of the lab of process `pid`.
///
/// # Errors
/// When the kernel does not say what is in them.
pub(super) fn kill(pid: u32) -> io::Result<()> {
    for hierarchy in hierarchies()? {
        kill_tree(&hierarchy.join(OURS).join(pid.to_string()))?;
    }
    Ok(())
}

/// Removes the cgroups of the lab of process `pid`. They must be empty.
///
/// # Errors
/// When one is not.
pub(super) fn remove(pid: u32) -> io::Result<()> {
    for hierarchy in hierarchies()? {
        remove_tree(&hierarchy.join(OURS).join(pid.to_string()))?;
        // Other labs may be running.
        drop(fs::remove_dir(hierarchy.join(OURS)));
    }
    Ok(())
}

fn is_old_cpuset(group: &Path) -> bool {
    group.starts_with(Path::new(ROOT).join("cpuset"))
}

fn hierarchies() -> io::Result<Vec<PathBuf>> {
    let root = Path::new(ROOT);
    if root.join("cgroup.controllers").exists() {
        return Ok(vec![root.to_path_buf()]);
    }
    let mut found = Vec::new();
    for entry in fs::read_dir(root)? {
        let entry = entry?;
        // `cpu` is often a link to `cpu,cpuacct`.
        if entry.file_type()?.is_dir() && entry.path().join("cgroup.procs").exists() {
            found.push(entry.path());
        }
    }
    Ok(found)
}

fn kill_tree(group: &Path) -> io::Result<()> {
    let Ok(entries) = fs::read_dir(group) else { return Ok(()) };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            kill_tree(&entry.path())?;
        }
    }
    let processes = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
    // 0 is one in another process namespace: its own lab's business.
    for process in processes.lines().filter(|process| *process != "0") {
        drop(command("kill", &["-KILL", process]).stderr(Stdio::null()).status());
    }
    Ok(())
}

/// A cgroup is a directory that only goes when those in it have gone; its files do not count.
fn remove_tree(group: &Path) -> io::Result<()> {
    let Ok(entries) = fs::read_dir(group) else { return Ok(()) };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_tree(&entry.path())?;
        }
    }
    fs::remove_dir(group)
}
