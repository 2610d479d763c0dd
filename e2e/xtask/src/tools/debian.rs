//! Distribution packages by apt-get. A package counts as there when the file that it is wanted for is there, whoever
//! brought it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::find;
use crate::command::Program;
use crate::failure::WithRemedy;
use crate::steps::Log;

/// A package and what it is wanted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Package {
    /// The package's name in Debian.
    pub name: &'static str,
    /// The program or file that proves that it is there.
    pub proof: Proof,
}

/// What proves that a package is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    /// A program that can be found by name.
    Program(&'static str),
    /// A file at a fixed path.
    File(&'static str),
    /// A server program of PostgreSQL, which Debian keeps out of PATH.
    Postgres(&'static str),
}

/// What the unit and service tests need.
pub const SERVICES: &[Package] = &[
    package("postgresql", Proof::Postgres("initdb")),
    package("redis-server", Proof::Program("redis-server")),
];

/// Programs of others that have to read what ours write.
pub const READERS: &[Package] = &[package("age", Proof::Program("age"))];

/// What checks Prometheus' rules.
pub const RULES: &[Package] = &[package("prometheus", Proof::Program("promtool"))];

/// What the project's own cluster and its images need. The cluster program's `preflight` has the last word; this list
/// lets xtask say and install it before that program is built.
pub const CLUSTER: &[Package] = &[
    package("containerd", Proof::Program("containerd")),
    package("runc", Proof::Program("runc")),
    package("containernetworking-plugins", Proof::File("/usr/lib/cni/bridge")),
    package("iptables", Proof::Program("iptables")),
    package("buildah", Proof::Program("buildah")),
    package("mmdebstrap", Proof::Program("mmdebstrap")),
    package("gcc", Proof::Program("cc")),
    package("libc6-dev", Proof::File("/usr/include/stdlib.h")),
];

const fn package(name: &'static str, proof: Proof) -> Package {
    Package { name, proof }
}

/// The packages of `wanted` that are not there yet.
pub fn missing(wanted: &[Package]) -> Vec<&'static str> {
    wanted
        .iter()
        .filter(|package| !is_there(package.proof))
        .map(|package| package.name)
        .collect()
}

/// Installs what is missing of `wanted`, and says so first. Services that a package brings are not started.
///
/// # Errors
/// When something is missing and this is not Debian, the user is not root, or apt-get fails.
pub fn install(wanted: &[Package], log: &Log) -> Result<()> {
    let missing = missing(wanted);
    if missing.is_empty() {
        log.say("Debian packages: all there");
        return Ok(());
    }
    log.say(&format!("Debian packages to install: {}", missing.join(" ")));
    let by_hand = format!(
        "install by hand: apt-get update && apt-get install {}",
        missing.join(" ")
    );
    if find("apt-get").is_none() {
        return Err(anyhow::anyhow!(
            "these packages are missing, and there is no apt-get: {}",
            missing.join(" ")
        ))
        .remedy("install what these Debian packages hold by your system's own means");
    }
    if !rustix::process::geteuid().is_root() {
        return Err(anyhow::anyhow!("only root can install packages")).remedy(format!("as root, {by_hand}"));
    }
    let _quiet = QuietServices::begin()?;
    apt_get(log, &["update"]).remedy("make the package mirror reachable (see /etc/apt/sources.list)")?;
    let mut arguments = vec!["install", "--yes", "--no-install-recommends"];
    arguments.extend(&missing);
    apt_get(log, &arguments).remedy(by_hand)?;
    let still = self::missing(wanted);
    if !still.is_empty() {
        bail!(
            "apt-get succeeded, but what these packages are wanted for is still missing: {}",
            still.join(" ")
        );
    }
    Ok(())
}

/// The folder of the newest PostgreSQL server programs, for example `/usr/lib/postgresql/15/bin`.
pub fn postgres_programs() -> Option<PathBuf> {
    let mut versions: Vec<(u32, PathBuf)> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin"))))
        .filter(|(_, folder)| super::is_program(&folder.join("initdb")))
        .collect();
    versions.sort();
    let in_path = || find("initdb").and_then(|program| program.canonicalize().ok()?.parent().map(Path::to_owned));
    versions.pop().map(|(_, folder)| folder).or_else(in_path)
}

fn is_there(proof: Proof) -> bool {
    match proof {
        Proof::Program(program) => find(program).is_some(),
        Proof::File(path) => Path::new(path).exists(),
        Proof::Postgres(program) => postgres_programs().is_some_and(|folder| folder.join(program).exists()),
    }
}

fn apt_get(log: &Log, arguments: &[&str]) -> Result<()> {
    Program::new("apt-get")
        .args(arguments)
        .args(["-o", "DPkg::Lock::Timeout=300", "-o", "Acquire::Retries=3"])
        .env("DEBIAN_FRONTEND", "noninteractive")
        .run(log)
}

/// Debian's packages start their services when they are installed. Their own switch for that is this program: while it
/// is there and exits 101, nothing is started. Not touched when the host has one already.
struct QuietServices {
    ours: bool,
}

const POLICY: &str = "/usr/sbin/policy-rc.d";

impl QuietServices {
    fn begin() -> Result<Self> {
        let ours = !Path::new(POLICY).exists();
        if ours {
            fs::write(POLICY, "#!/bin/sh\nexit 101\n").with_context(|| format!("failed to write {POLICY}"))?;
            fs::set_permissions(POLICY, fs::Permissions::from_mode(0o755))
                .with_context(|| format!("failed to make {POLICY} executable"))?;
        }
        Ok(Self { ours })
    }
}

impl Drop for QuietServices {
    fn drop(&mut self) {
        if self.ours {
            drop(fs::remove_file(POLICY));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_not_there_is_missing() {
        let wanted = [
            package("dash", Proof::Program("sh")),
            package("passwd", Proof::File("/etc/passwd")),
            package("absent", Proof::Program("no-such-program")),
        ];
        assert_eq!(missing(&wanted), ["absent"]);
    }
}
