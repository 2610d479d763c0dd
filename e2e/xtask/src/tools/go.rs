//! Go programs: released ones, pinned by the `tool` lines of a `go.mod`, and the cluster program of this checkout
//! (`e2e/cluster`).

use std::collections::BTreeSet;
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

/// The oldest Go 1 that builds every module that the tests need: the newest `go` line among them. kwok's, which only a
/// campaign needs, asks for a newer one itself.
const GO_MINOR: u32 = 25;

/// What to do when Go finds no sources.
const PROXY: &str = "make the Go module proxy reachable (`go env GOPROXY`), then run the same command again";

/// A released Go program.
#[derive(Debug, Clone, Copy)]
pub struct GoProgram {
    /// The name of the installed file.
    pub name: &'static str,
    /// The folder of the `go.mod` that pins it.
    module: &'static str,
    /// The package to build.
    package: &'static str,
    /// Variables, without the ending `Major` or `Minor`, that are told which Kubernetes the program is for.
    kubernetes: &'static [&'static str],
}

/// Helm 4, of the same module graph as the cluster program: what the two have in common is compiled once.
pub const HELM: GoProgram = GoProgram {
    name: "helm",
    module: "e2e/cluster",
    package: "helm.sh/helm/v4/cmd/helm",
    // As its own Makefile does. Without them it takes every chart for one that is to run on Kubernetes 1.20.
    kubernetes: &[
        "helm.sh/helm/v4/pkg/chart/common.k8sVersion",
        "helm.sh/helm/v4/pkg/chart/v2/lint/rules.k8sVersion",
        "helm.sh/helm/v4/internal/chart/v3/lint/rules.k8sVersion",
        "helm.sh/helm/v4/internal/version.kubeClientVersion",
    ],
};
/// Checks manifests against schemas.
pub const KUBECONFORM: GoProgram = GoProgram {
    name: "kubeconform",
    module: "e2e/tools",
    package: "github.com/yannh/kubeconform/cmd/kubeconform",
    kubernetes: &[],
};
/// Asks a server what the standard of HTTP/2 does.
pub const H2SPEC: GoProgram = GoProgram {
    name: "h2spec",
    module: "e2e/tools",
    package: "github.com/summerwind/h2spec/cmd/h2spec",
    kubernetes: &[],
};
/// An S3 server over a folder.
pub const VERSITYGW: GoProgram = GoProgram {
    name: "versitygw",
    module: "e2e/store",
    package: "github.com/versity/versitygw/cmd/versitygw",
    kubernetes: &[],
};
/// Plays the kubelets of fake nodes.
const KWOK: GoProgram = GoProgram {
    name: "kwok",
    module: "e2e/kwok",
    package: "sigs.k8s.io/kwok/cmd/kwok",
    kubernetes: &[],
};
/// What becomes of nodes and pods, in the folder `kustomize/stage` of kwok's module: all is well, and at once.
const STAGES: [&str; 5] = [
    "node/fast/node-initialize.yaml",
    "node/heartbeat-with-lease/node-heartbeat-with-lease.yaml",
    "pod/fast/pod-ready.yaml",
    "pod/fast/pod-complete.yaml",
    "pod/fast/pod-delete.yaml",
];
/// Clusters in Docker containers; only where a Docker engine answers.
pub const KIND: GoProgram = GoProgram {
    name: "kind",
    module: "e2e/tools",
    package: "sigs.k8s.io/kind",
    kubernetes: &[],
};

impl GoProgram {
    /// Where the program is once it is built.
    ///
    /// # Errors
    /// When its `go.mod` does not pin it.
    pub fn path(&self, paths: &Paths) -> Result<PathBuf> {
        let file = paths.checkout.join(self.module).join("go.mod");
        let text = fs::read_to_string(&file).with_context(|| format!("failed to read {}", file.display()))?;
        let version =
            pinned(&text, self.package).with_context(|| format!("{} does not pin {}", file.display(), self.package))?;
        let folder = match self.kubernetes {
            [] => format!("{}-{version}", self.name),
            _ => format!("{}-{version}-for-{KUBERNETES}", self.name),
        };
        Ok(paths.programs().join(folder).join(self.name))
    }

    /// Builds the program unless this version is there, and returns its path.
    ///
    /// # Errors
    /// When Go is missing or the build fails.
    pub fn install(&self, paths: &Paths, log: &Log) -> Result<PathBuf> {
        let path = self.path(paths)?;
        if is_program(&path) {
            log.say(&format!("{}: there ({})", self.name, path.display()));
            return Ok(path);
        }
        log.say(&format!("{}: building it from its sources, once", self.name));
        go_build(
            &paths.checkout.join(self.module),
            self.package,
            &self.ldflags(),
            &path,
            log,
        )?;
        Ok(path)
    }

    fn ldflags(&self) -> String {
        let (major, minor) = major_and_minor(KUBERNETES);
        let told = |variable: &&str| format!(" -X {variable}Major={major} -X {variable}Minor={minor}");
        format!("-s -w{}", self.kubernetes.iter().map(told).collect::<String>())
    }
}

/// The folder that kwok is in, with the stages of its module in `stages.yaml`, as the cluster program takes it.
///
/// # Errors
/// When Go is missing or the build fails.
pub fn install_kwok(paths: &Paths, log: &Log) -> Result<PathBuf> {
    let program = KWOK.install(paths, log)?;
    let folder = program.parent().context("failed to name kwok's folder")?.to_owned();
    let module = paths.checkout.join(KWOK.module);
    require_go(&module, log)?;
    // Its sources, also where the program was built before they were thrown away.
    let downloaded = go(&module)
        .args(["mod", "download", "-json", "sigs.k8s.io/kwok"])
        .read(log)
        .remedy(PROXY)?;
    let downloaded: serde_json::Value = serde_json::from_str(&downloaded).context("failed to read go's answer")?;
    let sources = downloaded["Dir"]
        .as_str()
        .context("go does not say where kwok's sources are")?;
    write_stages(&Path::new(sources).join("kustomize/stage"), &folder.join("stages.yaml"))?;
    Ok(folder)
}

/// Each time anew, as another checkout may want others, and under another name first: a part of it never looks like all.
fn write_stages(sources: &Path, path: &Path) -> Result<()> {
    let read = |file: &str| {
        let path = sources.join(file);
        fs::read_to_string(&path).with_context(|| format!("failed to read {}", path.display()))
    };
    let texts = STAGES.into_iter().map(read).collect::<Result<Vec<_>>>()?;
    let unfinished = path.with_extension(std::process::id().to_string());
    fs::write(&unfinished, texts.join("\n---\n"))
        .and_then(|()| fs::rename(&unfinished, path))
        .with_context(|| format!("failed to write {}", path.display()))
}

/// The version of the module that holds `package`, as a `go.mod` requires it.
fn pinned<'a>(go_mod: &'a str, package: &str) -> Option<&'a str> {
    go_mod.lines().find_map(|line| {
        let line = line.trim();
        let (module, version) = line.strip_prefix("require ").unwrap_or(line).split_once(' ')?;
        let version = version.split(' ').next()?;
        let holds = package
            .strip_prefix(module)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        (holds && version.starts_with('v')).then_some(version)
    })
}

/// Builds `e2e/cluster` unless the same sources were built before, and returns the program's path.
///
/// # Errors
/// When Go is missing or the build fails.
pub fn build_cluster_program(paths: &Paths, log: &Log) -> Result<PathBuf> {
    let path = cluster_program(paths)?;
    if is_program(&path) {
        log.say(&format!("cluster program: there ({})", path.display()));
        return Ok(path);
    }
    log.say("cluster program (Kubernetes in one binary): building it; about four minutes the first time");
    go_build(
        &paths.checkout.join("e2e/cluster"),
        ".",
        &ldflags(KUBERNETES),
        &path,
        log,
    )?;
    Ok(path)
}

/// go with the settings that all builds in `module` share: what one of them compiled is not compiled again.
pub fn go(module: &Path) -> Program {
    Program::new("go")
        .env("CGO_ENABLED", "0")
        // Programs are linked without what debuggers read, so it is not made in the first place.
        .env("GOFLAGS", "-trimpath -gcflags=all=-dwarf=false")
        .in_folder(module)
}

/// Builds a package into `path`, and tells how far it is.
fn go_build(module: &Path, package: &str, ldflags: &str, path: &Path, log: &Log) -> Result<()> {
    require_go(module, log)?;
    let folder = path.parent().context("failed to name the program's folder")?;
    fs::create_dir_all(folder).with_context(|| format!("failed to create {}", folder.display()))?;
    let listed = go(module).args(["list", "-deps", package]).read(log).remedy(PROXY)?;
    let all: BTreeSet<&str> = listed.lines().collect();
    // Built under another name and then renamed: a build that was cut short never looks finished.
    let unfinished = path.with_extension(std::process::id().to_string());
    let mut compiled = 0;
    go(module)
        .args(["build", "-v", "-ldflags", ldflags, "-o"])
        .arg(&unfinished)
        .arg(package)
        .run_seeing(log, |line| {
            if all.contains(line) {
                compiled += 1;
                log.set_progress(format!("{compiled} of {} Go packages", all.len()));
            }
        })
        .remedy(PROXY)?;
    fs::rename(&unfinished, path).with_context(|| format!("failed to move {} into place", path.display()))
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

/// Fails with the remedy when Go is not there, or older than the module that it is to build.
///
/// # Errors
/// When `go` is not in PATH, or not new enough.
pub fn require_go(module: &Path, log: &Log) -> Result<()> {
    let oldest = oldest_go(module)?;
    let remedy = format!("install Go 1.{oldest} or newer: https://go.dev/dl");
    find("go").context("go was not found").remedy(&remedy)?;
    let said = Program::new("go").args(["env", "GOVERSION"]).read(log)?;
    let minor = minor_of(&said).with_context(|| format!("failed to read Go's version {:?}", said.trim()))?;
    let is_new = (minor >= oldest).then_some(());
    is_new
        .with_context(|| format!("{} is too old", said.trim()))
        .remedy(remedy)
}

/// The oldest Go 1 for a module: its own `go` line, unless others of the same run need a newer one.
fn oldest_go(module: &Path) -> Result<u32> {
    let file = module.join("go.mod");
    let text = fs::read_to_string(&file).with_context(|| format!("failed to read {}", file.display()))?;
    let asked = text.lines().find_map(|line| line.strip_prefix("go "));
    let asked = asked.and_then(|version| minor_of(&format!("go{version}")));
    let asked = asked.with_context(|| format!("{} names no version of Go", file.display()))?;
    Ok(asked.max(GO_MINOR))
}

fn minor_of(version: &str) -> Option<u32> {
    let rest = version.trim().strip_prefix("go1.")?;
    rest.split(|other: char| !other.is_ascii_digit()).next()?.parse().ok()
}

/// The version that the Kubernetes components report, as their own release builds set it.
fn ldflags(kubernetes: &str) -> String {
    let (major, minor) = major_and_minor(kubernetes);
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

fn major_and_minor(version: &str) -> (&str, &str) {
    let mut parts = version.split('.');
    (parts.next().unwrap_or_default(), parts.next().unwrap_or_default())
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
    fn the_version_of_go_is_read_and_is_as_new_as_every_module_asks() {
        for (said, minor) in [("go1.26.8\n", Some(26)), ("go1.25rc1", Some(25)), ("devel go2", None)] {
            assert_eq!(minor_of(said), minor, "{said}");
        }
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        for (module, oldest) in [("cluster", 25), ("store", 25), ("tools", 25), ("kwok", 26)] {
            assert_eq!(oldest_go(&root.join(module)).expect("a version"), oldest, "{module}");
        }
    }

    #[test]
    fn the_stages_are_those_of_the_sources_whatever_lay_there() {
        let folder = tempfile::tempdir().expect("a folder");
        let sources = folder.path().join("sources");
        for (number, stage) in STAGES.into_iter().enumerate() {
            let file = sources.join(stage);
            fs::create_dir_all(file.parent().expect("a folder")).expect("a folder");
            fs::write(file, format!("stage: {number}")).expect("a file");
        }
        let path = folder.path().join("stages.yaml");
        fs::write(&path, "stage: 0\n---\nsta").expect("a file");
        write_stages(&sources, &path).expect("stages");
        let written = fs::read_to_string(&path).expect("a file");
        assert_eq!(
            written,
            "stage: 0\n---\nstage: 1\n---\nstage: 2\n---\nstage: 3\n---\nstage: 4"
        );
        // Whoever sees no sources leaves what is there.
        write_stages(folder.path(), &path).expect_err("there are none");
        assert_eq!(fs::read_to_string(&path).expect("a file"), written);
    }

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
    fn a_version_is_that_of_the_module_that_holds_the_package() {
        let go_mod = "tool (\n\thelm.sh/helm/v4/cmd/helm\n)\nrequire (\n\thelm.sh/helm/v4 v4.0.5 // indirect\n)\n\
                      require sigs.k8s.io/kind v0.33.0\n";
        assert_eq!(pinned(go_mod, "helm.sh/helm/v4/cmd/helm"), Some("v4.0.5"));
        assert_eq!(pinned(go_mod, "sigs.k8s.io/kind"), Some("v0.33.0"));
        assert_eq!(pinned(go_mod, "sigs.k8s.io/kindred"), None);
    }

    #[test]
    fn helm_is_told_which_kubernetes_charts_are_for() {
        let flags = HELM.ldflags();
        assert!(flags.contains("-X helm.sh/helm/v4/pkg/chart/common.k8sVersionMajor=1 "));
        assert!(flags.contains("-X helm.sh/helm/v4/pkg/chart/common.k8sVersionMinor=34"));
        assert_eq!(KIND.ldflags(), "-s -w");
    }

    #[test]
    fn components_report_the_pinned_version() {
        let flags = ldflags("1.34.3");
        assert!(flags.contains("-X k8s.io/component-base/version.gitVersion=v1.34.3"));
        assert!(flags.contains("-X k8s.io/client-go/pkg/version.gitMinor=34"));
    }
}
