//! The roll-out by Ansible: from hosts with nothing but ssh and Python to a cluster, to another version and back while
//! clients call, and what stops it.
//!
//! Playbooks run on this machine, in the lab's network, and reach the hosts by ssh, as an operator would.

mod ansible;
mod broken;
mod strict;

use std::{fs, path::Path, time::Instant};

use anyhow::{Context as _, ensure};
use serde_json::{Map, Value};

use self::ansible::Ansible;
use super::{
    super::repository::{NEW, OLD, version},
    FOLDER,
    cluster::Cluster,
    load::Load,
};
use crate::{
    lab::Host,
    repo::Repository,
    tools::{root, say},
};

/// A version whose daemons do not start.
const BROKEN: &str = "0lb3";

/// ansible-lint has nothing to say.
///
/// # Errors
/// When it has.
pub(super) fn lint() -> anyhow::Result<()> {
    ansible::lint()
}

/// Everything: ends with the cluster as `site.yml` makes it.
///
/// # Errors
/// When something does not hold.
pub(super) fn all(cluster: &Cluster, repository: &Repository) -> anyhow::Result<()> {
    let started = Instant::now();
    site(cluster, repository)?;
    bad_inputs(cluster, repository)?;
    strict::all(cluster, repository)?;
    scale_test(cluster, repository)?;
    upgrades(cluster, repository)?;
    remove(cluster, repository)?;
    say(&format!("  all of Ansible took {:.0?}", started.elapsed()));
    Ok(())
}

/// The cluster of the inventory, out of hosts with nothing on them.
///
/// # Errors
/// When a playbook fails, or changes something when it should not.
fn site(cluster: &Cluster, repository: &Repository) -> anyhow::Result<()> {
    broken::add(repository, BROKEN)?;
    let ansible = Ansible::new(cluster, repository)?;
    say("- Ansible: check mode tells what it would do, and does nothing");
    let recap = ansible.play("site.yml", OLD, &["--check"])?;
    ensure!(recap.changed() > 0, "check mode would change nothing on empty hosts");
    for host in cluster.hosts() {
        ensure!(
            !host.succeeds("ls /etc/apt/sources.list.d/lb.sources /etc/lb")?,
            "check mode left something behind on {}",
            host.name
        );
    }
    say("- Ansible: site.yml installs everything, and changes nothing the second time");
    ansible.play("site.yml", OLD, &[])?;
    let again = ansible.play("site.yml", OLD, &[])?;
    ensure!(again.changed() == 0, "a second run changes something:\n{}", again.text);
    Ok(())
}

/// All client hosts call at once, under three policies, and one report is made of it.
///
/// # Errors
/// When a call fails, or a result is missing.
fn scale_test(cluster: &Cluster, repository: &Repository) -> anyhow::Result<()> {
    say("- Ansible: scale-test.yml, from all client hosts at once under three policies");
    let results = root().join(FOLDER).join("scale-test");
    drop(fs::remove_dir_all(&results));
    let variables = format!(
        "{{lb_scale_results: {}, lb_scale_rate: 10, lb_scale_duration: 5s, lb_scale_task: sleep 20ms, lb_scale_ready_within_s: 15}}",
        results.display()
    );
    Ansible::new(cluster, repository)?.play(
        "scale-test.yml",
        OLD,
        &["--extra-vars", &variables],
    )?;
    let result = fs::read_to_string(results.join("result.json")).context("a merged result")?;
    let result: Value = serde_json::from_str(&result)?;
    let spreads = result["spreads"].as_array().context("a result has spreads")?;
    ensure!(spreads.len() == 3, "there are results of {} policies", spreads.len());
    for spread in spreads {
        let (policy, failures) = (&spread["name"], &spread["failures"]);
        ensure!(spread["requests"].as_u64() > Some(50), "{policy} made few calls: {spread}");
        ensure!(failures.as_object().is_some_and(Map::is_empty), "{policy}: {failures}");
        let times = match spread["response"]["p99_us"]["median"].as_f64() {
            Some(p99_us) => format!("p99 {:.0} ms", p99_us / 1e3),
            None => "no times, because the rate was not kept".to_owned(),
        };
        say(&format!("  {policy}: {} calls, {times}", spread["requests"]));
    }
    for host in cluster.hosts().iter().filter(|host| !is_client(cluster, host)) {
        let journal = results.join(format!("journal-{}.json", host.name));
        ensure!(journal.exists(), "there is no journal of {}", host.name);
    }
    Ok(())
}

/// To another version under load; a broken one stops at the canary, and going back heals it.
///
/// # Errors
/// When a call fails, or a host has another version than it should.
fn upgrades(cluster: &Cluster, repository: &Repository) -> anyhow::Result<()> {
    let ansible = Ansible::new(cluster, repository)?;
    under_load(cluster, "rolling.yml upgrades", || {
        ansible.play("rolling.yml", NEW, &[])?;
        all_have(cluster, NEW)
    })?;
    let canary = &cluster.workers()[0];
    under_load(cluster, "a broken release stops at the canary", || {
        let said = ansible.play_fails("rolling.yml", BROKEN, &[])?;
        ensure!(said.failed() == [canary.name.as_str()], "others failed too:\n{}", said.text);
        ensure!(installed(canary, "lb-worker")? == version(BROKEN), "the canary was spared");
        cluster.workers()[1..].iter().try_for_each(|host| has(host, "lb-worker", NEW))?;
        cluster.balancers().iter().try_for_each(|host| has(host, "lb-server", NEW))
    })?;
    under_load(cluster, "rollback.yml brings the canary back", || {
        ansible.play("rollback.yml", NEW, &[])?;
        all_have(cluster, NEW)
    })?;
    under_load(cluster, "rollback.yml goes back to the version before", || {
        ansible.play("rollback.yml", OLD, &[])?;
        all_have(cluster, OLD)
    })
}

/// What cannot work stops with one clear message before anything is changed.
///
/// # Errors
/// When it does not.
fn bad_inputs(cluster: &Cluster, repository: &Repository) -> anyhow::Result<()> {
    say("- Ansible: what cannot work stops before anything is changed");
    let ansible = Ansible::new(cluster, repository)?;
    let stops = |arguments: &[&str], revision: &str, message: &str| {
        let said = ansible.play_fails("site.yml", revision, arguments)?;
        ensure!(said.changed() == 0, "something was changed:\n{}", said.text);
        // The output is folded.
        let text = said.text.split_whitespace().collect::<Vec<_>>().join(" ");
        ensure!(text.contains(message), "expected \"{message}\":\n{}", said.text);
        Ok(())
    };
    stops(&[], "9lb9", "the repository has no version")?;
    let key = ansible.file("wrong.sources", &ansible.sources()?.replacen(" mDME", " mDMF", 1))?;
    stops(&["--extra-vars", &format!("lb_repo_sources_file={key}")], OLD, "cannot be used")?;
    let unknown = "{lb_worker_config: {slotz: 2}}";
    stops(&["--extra-vars", unknown], OLD, "unknown key `slotz`")?;
    stops(&["--extra-vars", "lb_tls_mode=open"], OLD, "lb_tls_mode is open, and it runs as mtls")?;
    let nobody = ansible.file("nobody.yml", "lb: {children: {lb_workers: {hosts: {h3: {}}}}}")?;
    stops(&["--inventory", &nobody], OLD, "The inventory has no balancer")?;
    let absent = "lb: {children: {lb_workers: {hosts: {absent: {ansible_host: 10.90.0.250}}}}}";
    let absent = ansible.file("absent.yml", absent)?;
    let both = [ansible.inventory(), &absent].map(|file| ["--inventory", file]).concat();
    stops(&both, OLD, "UNREACHABLE")
}

/// One worker leaves without a trace, and comes back.
///
/// # Errors
/// When something of it stays, or a call fails.
fn remove(cluster: &Cluster, repository: &Repository) -> anyhow::Result<()> {
    let ansible = Ansible::new(cluster, repository)?;
    under_load(cluster, "drain.yml, remove.yml, and site.yml again", || {
        let leaving = cluster.workers().last().context("there are workers")?;
        ansible.play("drain.yml", OLD, &["--limit", &leaving.name])?;
        ansible.play("remove.yml", OLD, &["--limit", &leaving.name])?;
        let left = "ls -d /etc/lb /var/lib/lb-worker /etc/apt/sources.list.d/lb.sources; dpkg -l 'lb-*' | grep '^[a-z]i'";
        ensure!(!leaving.succeeds(left)?, "something is left on {}", leaving.name);
        ansible.play("site.yml", OLD, &[]).map(drop)
    })
}

/// Does something while all clients call; no call may fail.
fn under_load(
    cluster: &Cluster,
    what: &str,
    act: impl FnOnce() -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    say(&format!("- Ansible, under load: {what}"));
    let mut load = Load::start(cluster)?;
    act().context(what.to_owned())?;
    let failed: Vec<_> = load.calls()?.iter().filter(|call| !call.is_answered()).cloned().collect();
    let (calls, _) = load.end(cluster)?;
    ensure!(failed.is_empty(), "{what}: of {calls} calls failed {failed:#?}");
    say(&format!("  {calls} calls, no failure"));
    Ok(())
}

fn is_client(cluster: &Cluster, host: &Host) -> bool {
    cluster.clients().iter().any(|client| client.name == host.name)
}

fn all_have(cluster: &Cluster, revision: &str) -> anyhow::Result<()> {
    cluster.workers().iter().try_for_each(|host| has(host, "lb-worker", revision))?;
    cluster.balancers().iter().try_for_each(|host| has(host, "lb-server", revision))?;
    cluster.clients().iter().try_for_each(|host| has(host, "lb-client", revision))
}

/// A package in this version, and no program of another one.
fn has(host: &Host, package: &str, revision: &str) -> anyhow::Result<()> {
    let found = installed(host, package)?;
    ensure!(found == version(revision), "{} has {package} {found}", host.name);
    let old =
        host.succeeds("ls -l /proc/[0-9]*/exe 2>/dev/null | grep -q '/usr/bin/lb-.*deleted'")?;
    ensure!(!old, "{} still runs an older program", host.name);
    Ok(())
}

fn installed(host: &Host, package: &str) -> anyhow::Result<String> {
    host.run(&format!("dpkg-query --show --showformat='${{Version}}' {package}"))
}

/// A path as text.
fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
