//! The programs that go into the images: compiled by one cargo call on this machine, or in Docker where this machine's programs
//! would not run in an image.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};

use super::{Builder, Role, roles};
use crate::command::Program;
use crate::paths::Paths;
use crate::steps::Log;
use crate::{page, workspace};

/// How programs are compiled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// As the tests are, so that every dependency is compiled once for both.
    Dev,
    /// For clusters that matter.
    Release,
}

impl Profile {
    /// cargo's name of the profile, and of the folder that it builds into.
    const fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::Dev => ("dev", "debug"),
            Self::Release => ("release", "release"),
        }
    }
}

/// Where the binaries are compiled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Compiler {
    /// By this machine's cargo.
    Host,
    /// In a container (`e2e/images/build.Dockerfile`).
    Docker,
}

/// The compiled programs, one folder per role, each the build context of its image. Removed when dropped.
pub struct Programs {
    pub(super) path: PathBuf,
    pub(super) roles: Vec<Role>,
}

/// Compiles the workspace's programs. Those that run on this host are kept in `target/bin`, see [`kept`].
///
/// # Errors
/// When something does not compile.
pub fn compile(paths: &Paths, builder: Builder, profile: Profile, log: &Log) -> Result<Programs> {
    let programs = Programs {
        path: paths.cache.join(format!("images/context-{}", std::process::id())),
        roles: roles(&paths.checkout)?,
    };
    page::build(paths, log)?;
    fs::create_dir_all(&programs.path).with_context(|| format!("failed to create {}", programs.path.display()))?;
    let binary = |role: &Role| programs.path.join(&role.name).join(&role.binary);
    let here = compiler(std::env::consts::OS, host_glibc(log).as_deref(), builder) == Compiler::Host;
    let mut copies = Vec::new();
    if here {
        copies.extend(programs.roles.iter().map(|role| (role.binary.as_str(), binary(role))));
    }
    match profile {
        Profile::Dev => {
            copies.push(("demo", kept(paths, "demo")));
            if here {
                copies.push(("valerix-operator", kept(paths, "valerix-operator")));
            }
            let selection = if here {
                workspace::PROGRAMS
            } else {
                &["--package=valerix-e2e", "--bins"]
            };
            workspace::build(paths, selection, &copies, log)?;
        }
        Profile::Release if here => {
            let packages = programs
                .roles
                .iter()
                .map(|role| format!("--package=valerix-{}", role.name));
            let arguments: Vec<String> = ["--release".into(), "--bins".into()]
                .into_iter()
                .chain(packages)
                .collect();
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            workspace::build(paths, &arguments, &copies, log)?;
        }
        Profile::Release => {}
    }
    if !here {
        programs.compile_in_docker(paths, profile, log)?;
    }
    Ok(programs)
}

/// This checkout's copy of a program as [`compile`] made it last, for whoever runs it on this host.
pub fn kept(paths: &Paths, program: &str) -> PathBuf {
    paths.checkout.join("target/bin").join(program)
}

impl Programs {
    fn compile_in_docker(&self, paths: &Paths, profile: Profile, log: &Log) -> Result<()> {
        log.say("compiling in Docker, because this host's programs would not run in the images");
        let (profile, folder) = profile.names();
        Program::new("docker")
            .args(["build", "--file", "e2e/images/build.Dockerfile"])
            .args(["--build-arg", &format!("PROFILE={profile}")])
            .args(["--build-arg", &format!("FOLDER={folder}"), "--output"])
            .arg(format!("type=local,dest={}", self.path.join("all").display()))
            .arg(".")
            .in_folder(&paths.checkout)
            .run(log)?;
        for role in &self.roles {
            let context = self.path.join(&role.name);
            fs::create_dir_all(&context).with_context(|| format!("failed to create {}", context.display()))?;
            fs::rename(self.path.join("all").join(&role.binary), context.join(&role.binary))
                .with_context(|| format!("the build in Docker has no binary {}", role.binary))?;
        }
        Ok(())
    }
}

impl Drop for Programs {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.path));
    }
}

/// The newest C library that programs may need to run in [`super::BASE`].
const BASE_GLIBC: (u32, u32) = (2, 36);

/// Programs of a Linux host run in the base when the host's C library is not newer than the base's. Without Docker
/// there is no other way, and the image build then says what does not fit.
fn compiler(system: &str, glibc: Option<&str>, builder: Builder) -> Compiler {
    let fits = glibc
        .and_then(parse_version)
        .is_some_and(|version| version <= BASE_GLIBC);
    if builder == Builder::Buildah || (system == "linux" && fits) {
        Compiler::Host
    } else {
        Compiler::Docker
    }
}

fn parse_version(text: &str) -> Option<(u32, u32)> {
    let (major, minor) = text.split_whitespace().last()?.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// For example `glibc 2.36`; nothing on systems without one.
fn host_glibc(log: &Log) -> Option<String> {
    Program::new("getconf").arg("GNU_LIBC_VERSION").read(log).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn binaries_are_compiled_where_they_fit_the_base() {
        assert_eq!(compiler("linux", Some("glibc 2.36\n"), Builder::Docker), Compiler::Host);
        assert_eq!(
            compiler("linux", Some("glibc 2.39\n"), Builder::Docker),
            Compiler::Docker
        );
        assert_eq!(compiler("linux", None, Builder::Docker), Compiler::Docker);
        assert_eq!(compiler("macos", None, Builder::Docker), Compiler::Docker);
        assert_eq!(
            compiler("linux", Some("glibc 2.39\n"), Builder::Buildah),
            Compiler::Host
        );
    }
}
