//! The shop on this machine without Kubernetes, for whoever writes a service: every service a process, with a PostgreSQL and a
//! Redis of its own, until Ctrl-C. What a service reads is also written to a file, so that one that is left out here can be
//! started by hand in its place.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::command::{Program, Running};
use crate::failure::WithRemedy;
use crate::interrupt;
use crate::paths::Paths;
use crate::services::{Services, ends_with_xtask, wait_until};
use crate::shop::{ADMIN, Place, Row, Table, admin_password};
use crate::steps::{Log, Steps};
use crate::tools::debian;
use crate::workspace;

const COMMAND: &str = "shop-local";

/// Which services are started.
#[derive(Debug, Default, clap::Args)]
pub struct Selection {
    /// Starts these services alone.
    #[arg(long, value_delimiter = ',', conflicts_with = "without")]
    pub only: Vec<String>,
    /// Starts all services but these.
    #[arg(long, value_delimiter = ',')]
    pub without: Vec<String>,
}

impl Selection {
    fn contains(&self, name: &str) -> bool {
        let named = |names: &[String]| names.iter().any(|other| other == name);
        (self.only.is_empty() || named(&self.only)) && !named(&self.without)
    }
}

/// Brings the shop up, says where each service is, and waits for Ctrl-C.
///
/// # Errors
/// When a service is unknown, a port is taken, something does not compile or does not get ready, or a service ends by itself.
pub fn run(paths: &Paths, selection: &Selection) -> Result<()> {
    let table = Table::read(&paths.checkout)?;
    table.require(&selection.only)?;
    table.require(&selection.without)?;
    let chosen: Vec<(&str, &Row)> = table.rows().filter(|(name, _)| selection.contains(name)).collect();
    chosen.iter().try_for_each(|(name, row)| require_ports(name, row))?;

    let mut steps = Steps::begin(paths.logs(COMMAND))?;
    steps.run("Installing PostgreSQL and Redis", |log| {
        debian::install(debian::SERVICES, log)
    })?;
    let programs = steps.run("Compiling the services", |log| {
        let programs = chosen
            .iter()
            .map(|(name, _)| (*name, paths.checkout.join("target/bin/shop").join(name)));
        let programs: Vec<(&str, PathBuf)> = programs.collect();
        workspace::build(paths, workspace::PROGRAMS, &programs, log)?;
        Ok(programs.into_iter().collect::<BTreeMap<_, _>>())
    })?;
    let servers = steps.run("Starting PostgreSQL and Redis", |log| {
        let servers = Services::start(log)?;
        create_databases(&table, &servers.database_url, log)?;
        Ok(servers)
    })?;
    let folder = paths.checkout.join("target").join(COMMAND);
    let secret = secret()?;
    let place = Place {
        postgres: servers.database_url.trim_end_matches("/postgres"),
        redis: &servers.redis_url,
        secret: &secret,
        folder: &folder,
    };
    for (name, row) in table.rows() {
        write_environment(&folder, name, &table.environment(name, row, &place))?;
    }
    let mut running = steps.run("Starting the services", |log| {
        let mut running = BTreeMap::new();
        for (name, row) in &chosen {
            let log = Log::create(log_of(paths, name))?;
            let environment = table.environment(name, row, &place);
            let program = environment
                .iter()
                .fold(ends_with_xtask(&programs[name]), |program, (variable, value)| {
                    program.env(variable, value)
                });
            running.insert(*name, program.start(&log)?);
        }
        for (name, row) in &chosen {
            let Some(process) = running.get_mut(name) else { continue };
            wait_until(name, process, || is_ready(row.port).unwrap_or(false))
                .with_context(|| format!("failed to start {name}"))
                .remedy(format!("read {}", log_of(paths, name).display()))?;
        }
        log.say("every service is ready");
        Ok(running)
    })?;
    println!("\n{}", summary(paths, &table, &chosen, &folder, &secret));
    let ended = watch(&mut running);
    println!("\nEnding the shop");
    drop(running);
    drop(servers);
    match ended {
        None => Ok(()),
        Some(name) => {
            Err(anyhow::anyhow!("{name} ended by itself")).remedy(format!("read {}", log_of(paths, &name).display()))
        }
    }
}

fn log_of(paths: &Paths, name: &str) -> PathBuf {
    paths.logs(COMMAND).join(format!("{name}.service.log"))
}

/// Fails when somebody listens where the service would.
fn require_ports(name: &str, row: &Row) -> Result<()> {
    for port in [row.port, row.report_port()] {
        TcpListener::bind(("127.0.0.1", port))
            .with_context(|| format!("failed to take port {port} of 127.0.0.1 for {name}"))
            .remedy(format!(
                "end what listens there, or leave the service out: make shop-local WITHOUT={name}"
            ))?;
    }
    Ok(())
}

fn create_databases(table: &Table, url: &str, log: &Log) -> Result<()> {
    let programs = debian::postgres_programs().context("no PostgreSQL programs were found")?;
    for database in table.rows().filter_map(|(_, row)| row.database.as_deref()) {
        Program::new(programs.join("psql"))
            .args(["-d", url, "-c", &format!("CREATE DATABASE {database}")])
            .run(log)?;
    }
    Ok(())
}

/// 32 random bytes as text.
fn secret() -> Result<String> {
    let mut bytes = [0; 32];
    fs::File::open("/dev/urandom")
        .and_then(|mut random| random.read_exact(&mut bytes))
        .context("failed to read /dev/urandom")?;
    Ok(hex::encode(bytes))
}

/// One variable a line, as `env $(cat ...)` takes them: no value holds a space.
fn write_environment(folder: &Path, name: &str, environment: &BTreeMap<String, String>) -> Result<()> {
    for kind in ["policy", "state"] {
        let folder = folder.join(name).join(kind);
        fs::create_dir_all(&folder).with_context(|| format!("failed to create {}", folder.display()))?;
    }
    let mut text = String::new();
    for (variable, value) in environment {
        let _ = writeln!(text, "{variable}={value}");
    }
    let file = environment_of(folder, name);
    fs::write(&file, text).with_context(|| format!("failed to write {}", file.display()))
}

fn environment_of(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}.env"))
}

fn is_ready(port: u16) -> std::io::Result<bool> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    stream.write_all(b"GET /ready HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")?;
    let mut head = [0; 12];
    stream.read_exact(&mut head)?;
    Ok(head.ends_with(b" 200"))
}

/// A line for each service, and what a person needs to use them.
fn summary(paths: &Paths, table: &Table, chosen: &[(&str, &Row)], folder: &Path, secret: &str) -> String {
    let mut text = String::new();
    let relative = |path: PathBuf| {
        path.strip_prefix(&paths.checkout)
            .map_or_else(|_| path.clone(), Path::to_owned)
    };
    for (name, row) in table.rows() {
        let _ = if chosen.iter().any(|(started, _)| *started == name) {
            let log = relative(log_of(paths, name));
            writeln!(text, "{name:<13} {:<22} log {}", row.url(), log.display())
        } else {
            let file = relative(environment_of(folder, name));
            writeln!(
                text,
                "{name:<13} not started            env $(cat {}) cargo run -p valerix-{name}",
                file.display()
            )
        };
    }
    let _ = write!(
        text,
        "\nDocumentation of each at /docs, metrics at /metrics on its port + 6000. The admin is {ADMIN}, password {}.\n\
         Ctrl-C ends all of it.",
        admin_password(secret)
    );
    text
}

/// Waits for Ctrl-C, or for a service that ends by itself, whose name is returned.
fn watch(running: &mut BTreeMap<&str, Running>) -> Option<String> {
    loop {
        if interrupt::requested() {
            return None;
        }
        let ended = running
            .iter_mut()
            .find_map(|(name, process)| (!process.is_alive()).then_some(*name));
        if let Some(name) = ended {
            // Ctrl-C at a terminal is heard by all at once.
            return (!interrupt::requested()).then(|| name.to_owned());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_are_chosen_by_name() {
        let names = |text: &str| text.split(',').map(str::to_owned).collect::<Vec<_>>();
        let all = Selection::default();
        assert!(all.contains("order") && all.contains("auth"));
        let only = Selection {
            only: names("order,payment"),
            ..Selection::default()
        };
        assert!(only.contains("payment") && !only.contains("auth"));
        let without = Selection {
            without: names("order"),
            ..Selection::default()
        };
        assert!(!without.contains("order") && without.contains("auth"));
    }

    #[test]
    fn a_taken_port_is_named_with_the_way_out() {
        let taken = (20_000..30_000).find_map(|port| TcpListener::bind(("127.0.0.1", port)).ok());
        let port = taken
            .as_ref()
            .and_then(|taken| taken.local_addr().ok())
            .expect("a port")
            .port();
        let row: Row = serde_yaml::from_str(&format!("port: {port}")).expect("a row");
        let error = require_ports("order", &row).expect_err("taken");
        let remedy = crate::failure::remedy_of(&error).unwrap_or_default();
        assert!(
            format!("{error:#}").contains(&format!("port {port} of 127.0.0.1 for order")),
            "{error:#}"
        );
        assert!(remedy.contains("WITHOUT=order"), "{remedy}");
        drop(taken);
        require_ports("order", &row).expect("free again");
    }
}
