//! The images of the product: one per role, put together by buildah or Docker, tagged by content and cached as archives, so
//! that nothing that is unchanged is built, kept or loaded twice.

mod programs;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

use crate::command::Program;
use crate::failure::WithRemedy;
use crate::paths::Paths;
use crate::shop::Table;
use crate::steps::Log;
pub use programs::{Profile, Programs, compile, kept};

/// What an image is for, and the binary in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Role {
    /// The image's name.
    pub name: String,
    /// The program in it.
    binary: String,
    /// Its recipe in `e2e/images`.
    dockerfile: &'static str,
}

impl Role {
    /// What its Dockerfile has to be told.
    fn argument(&self) -> String {
        if self.dockerfile == BACKUP {
            let majors = std::env::var(POSTGRES_MAJORS).unwrap_or_else(|_| "15".into());
            return format!("{POSTGRES_MAJORS}={majors}");
        }
        format!("PROGRAM={}", self.binary)
    }
}

/// Every image that this workspace makes: the operator, the backup runner, the guard, the console, and each service of the
/// shop.
///
/// # Errors
/// When the table of services cannot be read.
pub fn roles(checkout: &Path) -> Result<Vec<Role>> {
    let role = |name: &str, binary: &str, dockerfile| Role {
        name: name.to_owned(),
        binary: binary.to_owned(),
        dockerfile,
    };
    let shop = Table::read(checkout)?;
    let own = [
        role("operator", "valerix-operator", "Dockerfile"),
        role("backup", "backup", BACKUP),
        role("guard", "guard", "Dockerfile"),
        role("console", "console", "Dockerfile"),
    ];
    let services = shop.rows().map(|(name, _)| role(name, name, "Dockerfile"));
    Ok(own.into_iter().chain(services).collect())
}

/// The distribution that images are made from. The same names on both builders: Docker pulls them, and
/// [`crate::clusters`] makes them in buildah's storage from the distribution's packages.
pub const BASE: &str = "docker.io/library/debian:bookworm-slim";
/// How the backup runner's image is made.
const BACKUP: &str = "backup.Dockerfile";
/// PostgreSQL: the shop's database, and the source of the backup runner's client programs.
pub const POSTGRES: &str = "docker.io/library/postgres:15-bookworm";
/// Names the major versions of PostgreSQL that the backup runner's image holds, for example `15 16 17 18`; without it the base's.
const POSTGRES_MAJORS: &str = "POSTGRES_MAJORS";
/// Redis: the shop's event streams.
pub const REDIS: &str = "docker.io/library/redis:7.0-bookworm";

/// Prometheus: what the demo and the tests ask for its metrics.
pub const PROMETHEUS: &str = "docker.io/prom/prometheus:v2.42.0";

/// Three languages by role, for programs that know nothing of this product. Only the tests need them.
pub const LANGUAGES: [(&str, &str); 3] = [
    ("python", "docker.io/library/python:3.11-slim-bookworm"),
    ("node", "docker.io/library/node:18-bookworm-slim"),
    ("java", "docker.io/library/eclipse-temurin:17-jdk"),
];

/// The program that builds images.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Builder {
    /// Needs no daemon; the bases are local images.
    Buildah,
    /// A Docker engine; the bases are pulled.
    Docker,
}

/// A built image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Its role's name.
    pub role: String,
    /// The full reference, for example `docker.io/valerix/order:0123456789abcdef`.
    pub reference: String,
    /// An OCI archive of it; none with Docker, whose engine holds the image.
    pub archive: Option<PathBuf>,
}

/// Makes the image of every role whose content is new.
///
/// # Errors
/// When an image build fails.
pub fn build(paths: &Paths, builder: Builder, programs: &Programs, log: &Log) -> Result<Vec<Image>> {
    let bases = BTreeMap::from([
        (BASE, base_id(builder, BASE, log)?),
        (POSTGRES, base_id(builder, POSTGRES, log)?),
    ]);
    let archives = paths.cache.join("images");
    let mut images = Vec::new();
    for role in &programs.roles {
        let dockerfile = paths.checkout.join("e2e/images").join(role.dockerfile);
        let text = fs::read(&dockerfile).with_context(|| format!("failed to read {}", dockerfile.display()))?;
        let context = programs.path.join(&role.name);
        let binary = context.join(&role.binary);
        let program = fs::read(&binary).context("failed to read a binary")?;
        let argument = role.argument();
        let used = bases
            .iter()
            .filter(|(base, _)| contains(&text, base.as_bytes()))
            .map(|(_, id)| id.as_bytes())
            .chain([argument.as_bytes()]);
        let tag = content_tag(&text, &program, used);
        let reference = format!("docker.io/valerix/{}:{tag}", role.name);
        let archive = (builder == Builder::Buildah).then(|| archives.join(format!("{}-{tag}.tar", role.name)));
        if exists(builder, &reference, archive.as_deref()) {
            log.say(&format!("{reference}: unchanged"));
        } else {
            build_one(
                builder,
                (&dockerfile, &argument),
                &context,
                &reference,
                archive.as_deref(),
                log,
            )?;
            log.say(&format!("{reference}: built"));
        }
        if let Some(archive) = &archive {
            forget_older(&role.name, archive);
        }
        images.push(Image {
            role: role.name.clone(),
            reference,
            archive,
        });
    }
    Ok(images)
}

/// Pushes `images` to `registry` and returns them under their names there.
///
/// # Errors
/// When a push fails.
pub fn push(builder: Builder, images: &[Image], registry: &str, log: &Log) -> Result<Vec<Image>> {
    let mut pushed = Vec::new();
    for image in images {
        let name = image.reference.rsplit('/').next().unwrap_or(&image.reference);
        let reference = format!("{registry}/{name}");
        match (builder, &image.archive) {
            (Builder::Buildah, Some(archive)) => {
                let loaded = Program::new("buildah")
                    .args(["pull", "--quiet"])
                    .arg(format!("oci-archive:{}", archive.display()))
                    .read(log)?;
                let target = format!("docker://{reference}");
                Program::new("buildah").args(["push", loaded.trim(), &target]).run(log)
            }
            _ => Program::new("docker")
                .args(["tag", &image.reference, &reference])
                .run(log)
                .and_then(|()| Program::new("docker").args(["push", &reference]).run(log)),
        }
        .remedy(format!(
            "log in to the registry of {reference} (`docker login` or `buildah login`)"
        ))?;
        pushed.push(Image {
            role: image.role.clone(),
            reference,
            archive: None,
        });
    }
    Ok(pushed)
}

/// Sixteen hexadecimal digits that change with whatever the image is made of.
fn content_tag<'a>(dockerfile: &'a [u8], binary: &'a [u8], bases: impl Iterator<Item = &'a [u8]>) -> String {
    let mut hasher = Sha256::new();
    for part in [dockerfile, binary].into_iter().chain(bases) {
        hasher.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        hasher.update(part);
    }
    hex::encode(hasher.finalize())[..16].to_owned()
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

fn base_id(builder: Builder, reference: &str, log: &Log) -> Result<String> {
    let id = match builder {
        Builder::Buildah => Program::new("buildah")
            .args(["inspect", "--type=image", "--format", "{{.FromImageID}}", reference])
            .read(log),
        Builder::Docker => {
            let inspect = || {
                Program::new("docker")
                    .args(["image", "inspect", "--format", "{{.Id}}", reference])
                    .read(log)
            };
            inspect().or_else(|_| {
                log.say(&format!("pulling {reference}"));
                Program::new("docker").args(["pull", "--quiet", reference]).run(log)?;
                inspect()
            })
        }
    };
    Ok(id?.trim().to_owned())
}

fn exists(builder: Builder, reference: &str, archive: Option<&Path>) -> bool {
    match builder {
        Builder::Buildah => archive.is_some_and(Path::exists),
        Builder::Docker => Program::new("docker").args(["image", "inspect", reference]).succeeds(),
    }
}

/// How buildah says that it could not seal the copy of itself that a step runs in: the kernel refuses while it has a page of
/// it in hand, for example to reclaim memory. Nothing of the image is wrong.
const SEALING: &str = "sealing memfd copy: Device or resource busy";

fn build_one(
    builder: Builder,
    (dockerfile, argument): (&Path, &str),
    context: &Path,
    reference: &str,
    archive: Option<&Path>,
    log: &Log,
) -> Result<()> {
    let Some(archive) = archive.filter(|_| builder == Builder::Buildah) else {
        let docker = Program::new("docker")
            .args(["build", "--tag", reference, "--build-arg", argument, "--file"])
            .arg(dockerfile)
            .arg(context);
        return docker.run(log);
    };
    let bud = || {
        Program::new("buildah")
            // chroot is the isolation that needs no right that a container lacks.
            .args([
                "bud",
                "--isolation=chroot",
                "--pull-never",
                "--layers=false",
                "--timestamp=0",
                "--build-arg",
                argument,
                "--tag",
                reference,
                "--file",
            ])
            .arg(dockerfile)
            .arg(context)
    };
    let mut busy = false;
    let built = bud().run_seeing(log, |line| busy |= line.contains(SEALING));
    if built.is_err() && busy {
        log.say(&format!(
            "{reference}: the kernel was busy with a page of buildah's, once more"
        ));
        bud().run(log)?;
    } else {
        built?;
    }
    let unfinished = archive.with_extension(format!("unfinished-{}", std::process::id()));
    Program::new("buildah")
        .args(["push", "--quiet", reference])
        .arg(format!("oci-archive:{}:{reference}", unfinished.display()))
        .run(log)?;
    fs::rename(&unfinished, archive).with_context(|| format!("failed to move {} into place", archive.display()))?;
    // The archive is what counts; buildah's own copy would only fill the disk.
    Program::new("buildah").args(["rmi", reference]).run(log)
}

/// Keeps the three newest archives of a role beside the one in use.
fn forget_older(role: &str, in_use: &Path) {
    let Some(folder) = in_use.parent() else { return };
    let mut archives: Vec<_> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path != in_use && is_archive_of(role, path))
        .filter_map(|path| Some((path.metadata().ok()?.modified().ok()?, path)))
        .collect();
    archives.sort();
    archives.reverse();
    for (_, path) in archives.into_iter().skip(3) {
        drop(fs::remove_file(path));
    }
}

fn is_archive_of(role: &str, path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.strip_prefix(role)
        .and_then(|rest| rest.strip_prefix('-'))
        .and_then(|rest| rest.strip_suffix(".tar"))
        .is_some_and(|tag| tag.len() == 16 && tag.chars().all(|character| character.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tag_follows_every_part() {
        let tag = |dockerfile: &str, binary: &str, base: &str| {
            content_tag(dockerfile.as_bytes(), binary.as_bytes(), [base.as_bytes()].into_iter())
        };
        let tags = [
            tag("a", "b", "c"),
            tag("x", "b", "c"),
            tag("a", "x", "c"),
            tag("a", "b", "x"),
            tag("ab", "", "c"),
        ];
        let different: std::collections::BTreeSet<_> = tags.iter().collect();
        assert_eq!(different.len(), tags.len());
        assert_eq!(tags[0], tag("a", "b", "c"));
        assert_eq!(tags[0].len(), 16);
    }

    #[test]
    fn only_archives_of_the_role_are_forgotten() {
        assert!(is_archive_of("order", Path::new("/c/order-0123456789abcdef.tar")));
        for other in [
            "/c/order-0123456789abcdef.tar.unfinished-1",
            "/c/orders-0123456789abcdef.tar",
            "/c/order-base.tar",
        ] {
            assert!(!is_archive_of("order", Path::new(other)), "{other}");
        }
    }

    #[test]
    fn every_role_has_a_recipe_and_a_package_that_makes_its_binary() {
        let checkout = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let roles = roles(&checkout).expect("roles");
        let names: Vec<&str> = roles.iter().map(|role| role.name.as_str()).collect();
        assert_eq!(
            names,
            [
                "operator",
                "backup",
                "guard",
                "console",
                "analytics",
                "auth",
                "gateway",
                "inventory",
                "notification",
                "order",
                "payment",
                "processor"
            ]
        );
        for role in roles {
            let recipe = fs::read_to_string(checkout.join("e2e/images").join(role.dockerfile)).expect(&role.name);
            assert!(
                recipe.contains("USER 65532:65532") && recipe.contains(BASE),
                "{}",
                role.name
            );
            let folder = checkout.join("services").join(&role.name).join("Cargo.toml");
            let manifest =
                fs::read_to_string(folder).or_else(|_| fs::read_to_string(checkout.join("operator/Cargo.toml")));
            let manifest = manifest.expect(&role.name);
            assert!(
                manifest.contains(&format!("[[bin]]\nname = \"{}\"", role.binary)),
                "{}",
                role.name
            );
        }
    }
}
