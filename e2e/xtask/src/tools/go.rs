//! Go programs: released ones by `go install`, pinned, and the cluster program of this checkout (`e2e/cluster`).

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

use super::{find, is_program};
use crate::command::Program;
use crate::failure::WithRemedy;
use crate::paths::Paths;
use crate::steps::Log;

/// The Kubernetes that the project's own cluster runs, kind's node image holds, and manifests are checked against.
pub const KUBERNETES: &str = "1.34.3";

/// A released Go program.
#[derive(Debug, Clone, Copy)]
pub struct GoProgram {
    /// The name of the installed file.
    pub name: &'static str,
    /// The package to build.
    package: &'static str,
    /// The pinned version.
    version: &'static str,
}

/// Helm 4.
pub const HELM: GoProgram = GoProgram {
    name: "helm",
    package: "helm.sh/helm/v4/cmd/helm",
    version: "v4.3.1",
};
/// Checks manifests against schemas.
pub const KUBECONFORM: GoProgram = GoProgram {
    name: "kubeconform",
    package: "github.com/yannh/kubeconform/cmd/kubeconform",
    version: "v0.8.0",
};
/// Clusters in Docker containers; only where a Docker engine answers.
pub const KIND: GoProgram = GoProgram {
    name: "kind",
    package: "sigs.k8s.io/kind",
    version: "v0.33.0",
};

impl GoProgram {
    /// Where the program is once it is installed.
    pub fn path(&self, paths: &Paths) -> PathBuf {
        paths
            .programs()
            .join(format!("{}-{}", self.name, self.version))
            .join(self.name)
    }

    /// Installs the program unless this version is there, and returns its path.
    ///
    /// # Errors
    /// When Go is missing or the build fails.
    pub fn install(&self, paths: &Paths, log: &Log) -> Result<PathBuf> {
        let path = self.path(paths);
        if is_program(&path) {
            log.say(&format!("{} {}: there", self.name, self.version));
            return Ok(path);
        }
        log.say(&format!(
            "{} {}: building it by `go install` (up to two minutes)",
            self.name, self.version
        ));
        require_go()?;
        let folder = path.parent().context("failed to name the program's folder")?;
        Program::new("go")
            .args([
                "install",
                "-trimpath",
                "-ldflags=-s -w",
                &format!("{}@{}", self.package, self.version),
            ])
            .env("GOBIN", folder)
            .env("GOFLAGS", "")
            .env("CGO_ENABLED", "0")
            // Not in the checkout: a go.mod there must not be read.
            .in_folder(&paths.cache)
            .run(log)
            .remedy("make the Go module proxy reachable (`go env GOPROXY`), then run the same command again")?;
        Ok(path)
    }
}

/// Builds `e2e/cluster` unless the same sources were built before, and returns the program's path.
///
/// # Errors
/// When Go is missing or the build fails.
pub fn build_cluster_program(paths: &Paths, log: &Log) -> Result<PathBuf> {
    let module = paths.checkout.join("e2e/cluster");
    let path = cluster_program(paths)?;
    if is_program(&path) {
        log.say(&format!("cluster program: there ({})", path.display()));
        return Ok(path);
    }
    log.say("cluster program (Kubernetes in one binary): building it; four minutes the first time");
    require_go()?;
    let folder = path.parent().context("failed to name the program's folder")?;
    fs::create_dir_all(folder).with_context(|| format!("failed to create {}", folder.display()))?;
    // Built under another name and then renamed: a build that was cut short never looks finished.
    let unfinished = folder.join(format!("cluster.{}", std::process::id()));
    Program::new("go")
        .args(["build", "-trimpath", "-ldflags", &ldflags(KUBERNETES), "-o"])
        .arg(&unfinished)
        .arg(".")
        .env("CGO_ENABLED", "0")
        .in_folder(&module)
        .run(log)
        .remedy("make the Go module proxy reachable (`go env GOPROXY`), then run the same command again")?;
    fs::rename(&unfinished, &path).with_context(|| format!("failed to move {} into place", path.display()))?;
    Ok(path)
}

/// Where the cluster program of this checkout's sources is, built or not.
///
/// # Errors
/// When the sources cannot be read.
pub fn cluster_program(paths: &Paths) -> Result<PathBuf> {
    let key = hash_of_sources(&paths.checkout.join("e2e/cluster"))?;
    Ok(paths.programs().join(format!("cluster-{}", &key[..16])).join("cluster"))
}

/// A file named kubectl that is the cluster program's kubectl on the cluster `name`, so that people and tests can call
/// it like any other.
///
/// # Errors
/// When the file cannot be written.
pub fn kubectl_for(name: &str, cluster_program: &Path) -> Result<PathBuf> {
    use std::os::unix::fs::PermissionsExt;
    let folder = cluster_program.with_file_name(name);
    let path = folder.join("kubectl");
    if !is_program(&path) {
        fs::create_dir_all(&folder).with_context(|| format!("failed to create {}", folder.display()))?;
        let text = format!(
            "#!/bin/sh\nexec '{}' kubectl --name {name} \"$@\"\n",
            cluster_program.display()
        );
        let unfinished = folder.join(format!("kubectl.{}", std::process::id()));
        fs::write(&unfinished, text).with_context(|| format!("failed to write {}", unfinished.display()))?;
        fs::set_permissions(&unfinished, fs::Permissions::from_mode(0o755))
            .and_then(|()| fs::rename(&unfinished, &path))
            .with_context(|| format!("failed to make {}", path.display()))?;
    }
    Ok(path)
}

/// Fails with the remedy when Go is not there.
///
/// # Errors
/// When `go` is not in PATH.
pub fn require_go() -> Result<()> {
    find("go")
        .map(|_| ())
        .context("go was not found")
        .remedy("install Go 1.26 or newer: https://go.dev/dl")
}

/// The version that the Kubernetes components report, as their own release builds set it.
fn ldflags(kubernetes: &str) -> String {
    let mut parts = kubernetes.split('.');
    let (major, minor) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let mut flags = String::from("-s -w");
    for package in ["k8s.io/component-base/version", "k8s.io/client-go/pkg/version"] {
        for (name, value) in [
            ("gitVersion", format!("v{kubernetes}")),
            ("gitMajor", major.to_owned()),
            ("gitMinor", minor.to_owned()),
        ] {
            flags.push_str(&format!(" -X {package}.{name}={value}"));
        }
    }
    flags
}

/// A hash of everything in the module that the build reads: names and contents, tests left out.
fn hash_of_sources(module: &Path) -> Result<String> {
    let mut files = Vec::new();
    list_files(module, &mut files)?;
    files.sort();
    let mut hasher = Sha256::new();
    hasher.update(ldflags(KUBERNETES));
    for file in files {
        let name = file
            .strip_prefix(module)
            .unwrap_or(&file)
            .to_string_lossy()
            .into_owned();
        let contents = fs::read(&file).with_context(|| format!("failed to read {}", file.display()))?;
        hasher.update(format!("{name}\0{}\0", contents.len()));
        hasher.update(contents);
    }
    Ok(hex::encode(hasher.finalize()))
}

fn list_files(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("failed to list {}", folder.display()))? {
        let path = entry
            .with_context(|| format!("failed to list {}", folder.display()))?
            .path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if path.is_dir() {
            list_files(&path, files)?;
        } else if !name.ends_with("_test.go") && !name.ends_with(".md") {
            files.push(path.clone());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_follows_sources_and_nothing_else() {
        let folder = tempfile::tempdir().expect("a folder");
        let module = folder.path();
        fs::create_dir(module.join("internal")).expect("a folder");
        fs::write(module.join("main.go"), "package main").expect("a file");
        let first = hash_of_sources(module).expect("a hash");
        fs::write(module.join("main_test.go"), "package main").expect("a file");
        fs::write(module.join("README.md"), "text").expect("a file");
        assert_eq!(hash_of_sources(module).expect("a hash"), first);
        fs::write(module.join("internal/a.go"), "package internal").expect("a file");
        let second = hash_of_sources(module).expect("a hash");
        assert_ne!(second, first);
        fs::rename(module.join("internal/a.go"), module.join("internal/b.go")).expect("a rename");
        assert_ne!(hash_of_sources(module).expect("a hash"), second);
    }

    #[test]
    fn components_report_the_pinned_version() {
        let flags = ldflags("1.34.3");
        assert!(flags.contains("-X k8s.io/component-base/version.gitVersion=v1.34.3"));
        assert!(flags.contains("-X k8s.io/client-go/pkg/version.gitMinor=34"));
    }
}
