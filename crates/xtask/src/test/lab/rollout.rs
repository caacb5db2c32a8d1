//! The roll-out by Ansible: from hosts with nothing but ssh and Python to a cluster, to another version and back while
//! clients call, and what stops it.
//!
//! Playbooks run on this machine, in the lab's network, and reach the hosts by ssh, as an operator would.

mod ansible;
mod broken;
mod strict;

use std::{fs, path::Path};

use anyhow::{Context as _, ensure};
use serde_json::{Map, Value};

use self::{
    ansible::Ansible,
    broken::{BROKEN, FAINT},
};
use super::{
    super::repository::{self, NEW, OLD, version},
    FOLDER,
    cluster::Cluster,
    load::Load,
};
use crate::{
    lab::Host,
    repo::{self, Key, Repository},
    tools::{root, say},
};

/// ansible-lint has nothing to say.
///
/// # Errors
/// When it has.
pub(super) fn lint() -> anyhow::Result<()> {
    ansible::lint()
}

/// Everything that leaves the cluster as `site.yml` makes it.
///
/// # Errors
/// When something does not hold.
pub(super) fn all(cluster: &Cluster, repository: &Repository) -> anyhow::Result<()> {
    site(cluster, repository)?;
    bad_inputs(cluster, repository)?;
    strict::all(cluster, repository)?;
    scale_test(cluster, repository)?;
    upgrades(cluster, repository)?;
    strict::stop_second_worker(cluster.workers().last().context("there are workers")?)
}

/// What ends with nothing of ours on any host.
///
/// # Errors
/// When something does not hold.
pub(super) fn away(cluster: &Cluster, repository: &Repository) -> anyhow::Result<()> {
    remove(cluster, repository)?;
    modes(cluster, repository)
}

/// The cluster of the inventory, out of hosts with nothing on them.
///
/// # Errors
/// When a playbook fails, or changes something when it should not.
fn site(cluster: &Cluster, repository: &Repository) -> anyhow::Result<()> {
    broken::add(repository)?;
    let ansible = Ansible::new(cluster, repository)?;
    say("- Ansible: check mode tells what it would do, and does nothing");
    let recap = ansible.play("site.yml", OLD, &["--check", "--limit", &one_of_each(cluster)])?;
    ensure!(recap.changed() > 0, "check mode would change nothing on empty hosts");
    for host in cluster.hosts() {
        ensure!(
            !host.succeeds("ls /etc/apt/sources.list.d/lb.sources /etc/lb")?,
            "check mode left something behind on {}",
            host.name
        );
    }
    ensure!(!ansible.folder().join("pki").exists(), "check mode made certificates");
    say("- Ansible: site.yml installs everything, and changes nothing the second time");
    ansible.play("site.yml", OLD, &[])?;
    // What somebody has installed beside it is nobody's concern.
    repository::install(&cluster.workers()[0], &["lb-client"], NEW)?;
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
        "{{lb_scale_results: {}, lb_scale_rate: 10, lb_scale_duration: 5s, lb_scale_task: sleep 20ms, lb_scale_ready_within_s: 10}}",
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
    say("- Ansible: check mode tells what rolling.yml would drain and restart");
    let canary = &cluster.workers()[0];
    let told = ansible.play("rolling.yml", NEW, &["--check", "--limit", &canary.name])?.text;
    let order = format!("drain {}", canary.name);
    ensure!(told.contains(&order), "check mode does not tell \"{order}\":\n{told}");
    has(canary, "lb-worker", OLD)?;
    under_load(cluster, "rolling.yml upgrades", || {
        ansible.play("rolling.yml", NEW, &[])?;
        all_have(cluster, NEW)
    })?;
    // The canary, and one of each kind that could be next.
    let some = format!("{},{}", one_of_each(cluster), cluster.workers()[1].name);
    under_load(cluster, "a broken release stops at the canary", || {
        let said = ansible.play_fails("rolling.yml", BROKEN, &["--limit", &some])?;
        ensure!(said.failed() == [canary.name.as_str()], "others failed too:\n{}", said.text);
        ensure!(installed(canary, "lb-worker")? == version(BROKEN), "the canary was spared");
        cluster.workers()[1..].iter().try_for_each(|host| has(host, "lb-worker", NEW))?;
        cluster.balancers().iter().try_for_each(|host| has(host, "lb-server", NEW))
    })?;
    under_load(cluster, "so does one that serves for two seconds", || {
        let said = ansible.play_fails("rolling.yml", FAINT, &["--limit", &some])?;
        ensure!(said.failed() == [canary.name.as_str()], "others failed too:\n{}", said.text);
        let noticed = said.text.contains("has ended soon after its start");
        ensure!(noticed, "it was not the end that was noticed:\n{}", said.text);
        Ok(())
    })?;
    under_load(cluster, "rollback.yml goes back, the canary from further than the others", || {
        ansible.play("rollback.yml", OLD, &["--extra-vars", "lb_rolling_at_once=2"])?;
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
    let stops = |playbook: &str, arguments: &[&str], messages: &[&str]| {
        let said = ansible.play_fails(playbook, OLD, arguments)?;
        ensure!(said.changed() == 0, "something was changed:\n{}", said.text);
        // The output is folded.
        let text = said.text.split_whitespace().collect::<Vec<_>>().join(" ");
        let missing = messages.iter().find(|message| !text.contains(*message));
        ensure!(missing.is_none(), "expected {missing:?}:\n{}", said.text);
        Ok(())
    };
    let (balancer, drained) = (&cluster.balancers()[0], &cluster.workers()[0].name);
    let some = one_of_each(cluster);
    balancer.run(&format!("lbctl drain {drained}"))?;
    let candidate = format!("lb_version={}~rc.1-0lb1", env!("CARGO_PKG_VERSION"));
    let messages = [
        "the repository has no version",
        "this is no upgrade",
        "its worker is drained",
        "it trusts another CA",
    ];
    let arguments = ["--extra-vars", &candidate, "--extra-vars", "lb_pki_directory=/nowhere"];
    stops("rolling.yml", &limited(&some, &arguments), &messages)?;
    balancer.run(&format!("lbctl undrain {drained}"))?;
    let sources = repo::sources("http://192.0.2.1", &Key::new()?.public);
    let key = ansible.file("wrong.sources", &sources)?;
    let key = format!("lb_repo_sources_file={key}");
    stops("site.yml", &limited(&some, &["--extra-vars", &key]), &["cannot be used"])?;
    let settings = "{lb_tls_mode: open, lb_worker_config: {slotz: 2, id: w}}";
    let messages = ["unknown key `slotz`", "lb_worker_config sets id", "it runs as mtls"];
    stops("site.yml", &limited(&some, &["--extra-vars", settings]), &messages)?;
    let stranger = ["--limit", drained, "--extra-vars", "lb_worker_id=stranger"];
    stops("drain.yml", &stranger, &["No balancer knows a worker stranger"])?;
    let nobody = ansible.file("nobody.yml", "lb: {children: {lb_workers: {hosts: {h3: {}}}}}")?;
    stops("site.yml", &["--inventory", &nobody], &["The inventory has no balancer"])?;
    let absent = "lb: {children: {lb_workers: {hosts: {absent: {ansible_host: 10.90.0.250}}}}}";
    let absent = ansible.file("absent.yml", absent)?;
    let both = [ansible.inventory(), &absent].map(|file| ["--inventory", file]).concat();
    stops("site.yml", &both, &["UNREACHABLE"])?;
    let all = [&both[..], &["--extra-vars", "lb_remove_all=true"]].concat();
    stops("remove.yml", &all, &["UNREACHABLE"])
}

/// One worker leaves without a trace.
///
/// # Errors
/// When something of it stays, or a call fails.
fn remove(cluster: &Cluster, repository: &Repository) -> anyhow::Result<()> {
    let ansible = Ansible::new(cluster, repository)?;
    let leaving = cluster.workers().last().context("there are workers")?;
    strict::start_second_worker(cluster.client(0), leaving)?;
    say("- Ansible: drain.yml fails when calls do not end in time");
    let long = "systemd-run --quiet --setenv=HOME=/root --unit=lb-long-$i lbctl run sleep 1000s";
    cluster.client(0).run(&format!("for i in $(seq 20); do {long}; done"))?;
    let soon = ["--limit", &leaving.name, "--extra-vars", "lb_worker_drained_within_s=2"];
    ansible.play_fails("drain.yml", OLD, &soon)?;
    cluster.client(0).run("systemctl stop 'lb-long-*'")?;
    under_load(cluster, "drain.yml and remove.yml", || {
        ansible.play("drain.yml", OLD, &["--limit", &leaving.name])?;
        // With the second worker of this machine.
        let drained = format!("test $(lbctl workers | grep -c '^{}.*draining') = 2", leaving.name);
        cluster.client(0).run(&drained)?;
        ansible.play("remove.yml", OLD, &["--limit", &leaving.name])?;
        nothing_is_left(leaving)
    })
}

/// Into another mode and back, which takes a stop of all daemons; then nothing is left anywhere.
///
/// # Errors
/// When something of it fails, or something stays.
fn modes(cluster: &Cluster, repository: &Repository) -> anyhow::Result<()> {
    let ansible = Ansible::new(cluster, repository)?;
    let stop = |also: &str| {
        let stop = format!("systemctl stop 'lb-worker*.service' 'lb-server*.service'; {also}");
        cluster.hosts().iter().try_for_each(|host| host.run(&stop).map(drop))
    };
    say("- Ansible: from mtls to open, as operations.md says, and back");
    stop("")?;
    ansible.play("site.yml", OLD, &["--extra-vars", "lb_tls_mode=open"])?;
    cluster.client(0).run("lbctl run factorial 5")?;
    stop("rm -rf /etc/lb/tls")?;
    ansible.play("preflight.yml", OLD, &[])?;
    say("- Ansible: remove.yml removes everything everywhere");
    ansible.play("remove.yml", OLD, &["--extra-vars", "lb_remove_all=true"])?;
    cluster.hosts().iter().try_for_each(nothing_is_left)
}

fn nothing_is_left(host: &Host) -> anyhow::Result<()> {
    let left = "ls -d /etc/lb /var/lib/lb-worker /etc/apt/sources.list.d/lb.sources /usr/sbin/policy-rc.d; \
                dpkg -l 'lb-*' | grep '^[a-z][a-z]' | grep -v '^.n'; ls -l /proc/[0-9]*/exe 2>/dev/null | grep /usr/bin/lb-";
    let left = host.run(&format!("{{ {left}; }} 2>/dev/null || true"))?;
    ensure!(left.is_empty(), "something is left on {}:\n{left}", host.name);
    Ok(())
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

/// A balancer, a worker and a client, as `--limit` takes them. What one of each kind shows need not be shown by eight hosts.
fn one_of_each(cluster: &Cluster) -> String {
    let hosts = [&cluster.balancers()[0], &cluster.workers()[0], cluster.client(0)];
    hosts.map(|host| host.name.as_str()).join(",")
}

/// Arguments, and to which hosts they are limited.
fn limited<'a>(hosts: &'a str, arguments: &[&'a str]) -> Vec<&'a str> {
    [&["--limit", hosts], arguments].concat()
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
