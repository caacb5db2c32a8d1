//! Runs playbooks against the hosts of a cluster, and reads what they say.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Output, Stdio},
};

use anyhow::{Context as _, ensure};
use serde_json::{Map, Value, json};

use super::{super::cluster::Cluster, text, version};
use crate::{
    lab::{Host, KEY, Lab},
    repo::Repository,
    tools::{self, command, root},
};

const REQUIREMENTS: &str = "ansible/requirements.txt";
/// Connections outlive a task, so that the next one need not begin with another; they are ended at the end. Hosts are made
/// anew each time.
const SSH: &str = "-o ControlMaster=auto -o ControlPersist=60s -o ServerAliveInterval=5 -o ServerAliveCountMax=3 \
                   -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR";

/// Ansible, with an inventory of the cluster.
pub(super) struct Ansible<'a> {
    cluster: &'a Cluster,
    programs: PathBuf,
    /// For the inventory, and the sockets of ssh.
    folder: PathBuf,
    inventory: String,
    sources: PathBuf,
}

/// What a playbook has said.
pub(super) struct Recap {
    pub(super) text: String,
}

/// ansible-lint has nothing to say.
pub(super) fn lint() -> anyhow::Result<()> {
    let mut lint = command(programs()?.join("ansible-lint"), &["--profile", "production"]);
    lint.args(["--offline", "--nocolor", "-q"]).current_dir(root().join("ansible"));
    lint.env("PATH", path()?);
    tools::run(lint)
}

impl<'a> Ansible<'a> {
    pub(super) fn new(cluster: &'a Cluster, repository: &Repository) -> anyhow::Result<Self> {
        let folder = cluster.folder().join("ansible");
        fs::create_dir_all(&folder)?;
        let inventory = folder.join("hosts.json");
        let group = |hosts: &[Host]| -> Value {
            let hosts = hosts
                .iter()
                .map(|host| (host.name.clone(), json!({ "ansible_host": host.address })));
            json!({ "hosts": hosts.collect::<Map<_, _>>() })
        };
        let groups = json!({
            "lb_servers": group(cluster.balancers()),
            "lb_workers": group(cluster.workers()),
            "lb_clients": group(cluster.clients()),
        });
        let variables = json!({
            "ansible_user": "root",
            "ansible_ssh_private_key_file": cluster.folder().join(KEY),
            "lb_repo_url": format!("http://{}:8080", Lab::address()),
        });
        let all = json!({ "lb": { "vars": variables, "children": groups } });
        fs::write(&inventory, all.to_string())?;
        Ok(Self {
            cluster,
            programs: programs()?,
            inventory: text(&inventory),
            folder,
            sources: repository.folder().join("lb.sources"),
        })
    }

    /// Runs a playbook, which must do what it is for.
    pub(super) fn play(
        &self,
        playbook: &str,
        revision: &str,
        arguments: &[&str],
    ) -> anyhow::Result<Recap> {
        let (good, recap) = self.run(playbook, revision, arguments)?;
        ensure!(good, "{playbook} fails:\n{}", recap.text);
        Ok(recap)
    }

    /// Runs a playbook, which must stop.
    pub(super) fn play_fails(
        &self,
        playbook: &str,
        revision: &str,
        arguments: &[&str],
    ) -> anyhow::Result<Recap> {
        let (good, recap) = self.run(playbook, revision, arguments)?;
        ensure!(!good, "{playbook} should have failed:\n{}", recap.text);
        Ok(recap)
    }

    /// Where the inventory is, and what playbooks make beside it.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(super) fn inventory(&self) -> &str {
        &self.inventory
    }

    /// Writes a file that is gone with the lab; returns its path.
    pub(super) fn file(&self, name: &str, content: &str) -> anyhow::Result<String> {
        let path = self.folder.join(name);
        fs::write(&path, content)?;
        Ok(text(&path))
    }

    fn run(
        &self,
        playbook: &str,
        revision: &str,
        arguments: &[&str],
    ) -> anyhow::Result<(bool, Recap)> {
        let program = text(&self.programs.join("ansible-playbook"));
        let mut play = self.cluster.inside(&program, &[playbook]);
        if !arguments.contains(&"--inventory") {
            play.args(["--inventory", &self.inventory]);
        }
        let known = [
            format!("lb_version={}", version(revision)),
            format!("lb_repo_sources_file={}", self.sources.display()),
        ];
        for variable in &known {
            play.args(["--extra-vars", variable]);
        }
        play.args(arguments).current_dir(root().join("ansible")).stdin(Stdio::null());
        play.env("ANSIBLE_SSH_ARGS", SSH);
        play.env("ANSIBLE_SSH_CONTROL_PATH_DIR", &self.folder);
        play.env("ANSIBLE_HOME", &self.folder).env("ANSIBLE_NOCOLOR", "1").env("PATH", path()?);
        let Output { status, stdout, stderr } =
            play.output().context("cannot start ansible-playbook")?;
        let said = [stdout, stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
        Ok((status.success(), Recap { text: said.concat() }))
    }
}

impl Drop for Ansible<'_> {
    fn drop(&mut self) {
        // Connections that wait for another task hold the lab's network.
        for entry in fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            let socket = format!("ControlPath={}", entry.path().display());
            let words = ["-o", &socket, "-O", "exit", "lab"];
            drop(command("ssh", &words).stdin(Stdio::null()).output());
        }
    }
}

impl Recap {
    /// Changes on all hosts.
    pub(super) fn changed(&self) -> u64 {
        self.lines().map(|(_, counts)| count(counts, "changed")).sum()
    }

    /// The hosts on which something failed.
    pub(super) fn failed(&self) -> Vec<&str> {
        let failed = |counts| count(counts, "failed") + count(counts, "unreachable") > 0;
        self.lines().filter(|(_, counts)| failed(counts)).map(|(host, _)| host).collect()
    }

    /// Hosts, and what is counted of them.
    fn lines(&self) -> impl Iterator<Item = (&str, &str)> {
        let recap = self.text.split_once("PLAY RECAP").map_or("", |(_, recap)| recap);
        let lines = recap.lines().filter_map(|line| line.split_once(':'));
        let lines = lines.filter(|(_, counts)| counts.contains("changed="));
        lines.map(|(host, counts)| (host.trim(), counts))
    }
}

fn count(counts: &str, what: &str) -> u64 {
    let mut pairs = counts.split_whitespace().filter_map(|pair| pair.split_once('='));
    pairs.find(|(name, _)| *name == what).and_then(|(_, count)| count.parse().ok()).unwrap_or(0)
}

/// Where the programs of Ansible are; they are installed at first.
fn programs() -> anyhow::Result<PathBuf> {
    let python = tools::python("target/ansible", REQUIREMENTS, "ansiblelint")?;
    Ok(python.parent().unwrap_or(Path::new("/")).to_path_buf())
}

/// The search path, with those programs first: they start each other.
fn path() -> anyhow::Result<String> {
    let old = std::env::var("PATH").unwrap_or_default();
    Ok(format!("{}:{old}", programs()?.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recap_tells_what_changed_and_what_failed() {
        let text = "PLAY [x] ***\nok: [h1]\n\nPLAY RECAP ***\n\
                    h1   : ok=3  changed=2  unreachable=0  failed=0  skipped=1\n\
                    h2   : ok=3  changed=1  unreachable=0  failed=1  skipped=1\n\
                    h3   : ok=0  changed=0  unreachable=1  failed=0  skipped=0\n";
        let recap = Recap { text: text.to_owned() };
        assert_eq!(recap.changed(), 3);
        assert_eq!(recap.failed(), ["h2", "h3"]);
        assert_eq!(Recap { text: String::new() }.changed(), 0);
    }
}
