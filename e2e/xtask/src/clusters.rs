//! The clusters that commands work on: prepares what they need, brings them up and down, loads images, and tells how
//! to reach them. Which one it is was decided by [`crate::cluster_choice`].

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::cluster_choice::{Choice, Refusal, Seen, choose};
use crate::command::Program;
use crate::failure::WithRemedy;
use crate::images::{self, Builder, Image};
use crate::paths::Paths;
use crate::steps::Log;
use crate::tools::{debian, find, go};

/// The cluster that lives as long as the tests.
pub const TEST: &str = "test";

/// One cluster by name: `demo` is left running for a person, `test` lives as long as the tests.
pub struct Cluster<'a> {
    name: &'static str,
    choice: Choice,
    paths: &'a Paths,
    nodes: Option<u8>,
    fake_nodes: Option<u16>,
}

/// What a program needs to talk to a cluster.
#[derive(Debug, Clone)]
pub struct Access {
    /// A kubeconfig whose current context is the cluster, whatever the user's own kubeconfig says.
    pub kubeconfig: PathBuf,
    /// The API server's audit log, where xtask can read it.
    pub audit_log: Option<PathBuf>,
}

impl<'a> Cluster<'a> {
    /// Looks round and decides which cluster `name` is.
    ///
    /// # Errors
    /// When nothing can be chosen; the remedy says what to set.
    pub fn choose(name: &'static str, paths: &'a Paths) -> Result<Self> {
        let seen = Seen {
            kube_context: std::env::var("KUBE_CONTEXT").ok(),
            registry: std::env::var("REGISTRY").ok(),
            docker_engine: find("docker").is_some() && Program::new("docker").arg("info").succeeds(),
            linux: cfg!(target_os = "linux"),
        };
        Ok(Self {
            name,
            choice: with_its_remedy(choose(&seen))?,
            paths,
            nodes: None,
            fake_nodes: None,
        })
    }

    /// With so many nodes, each in a zone of its own, where the cluster is the project's own: a user's has those it has.
    pub fn with_nodes(self, nodes: Option<u8>) -> Self {
        Self { nodes, ..self }
    }

    /// With so many nodes more whose pods are kwok's and run nothing.
    ///
    /// # Errors
    /// On any cluster but the project's own, which alone can have some.
    pub fn with_fake_nodes(self, fake_nodes: Option<u16>) -> Result<Self> {
        if fake_nodes.is_some() {
            with_its_remedy(self.choice.may_have_fake_nodes())?;
        }
        Ok(Self { fake_nodes, ..self })
    }

    /// One line about which cluster it is and why.
    pub fn describe(&self) -> String {
        match &self.choice {
            Choice::Context { context, registry } => {
                format!("the context {context} (KUBE_CONTEXT); images go to {registry}")
            }
            Choice::Kind => format!("kind cluster {} (a Docker engine answers)", self.kind_name()),
            Choice::Own => format!(
                "the project's own cluster {} on this host (no Docker engine answers)",
                self.name
            ),
        }
    }

    /// Installs what the cluster needs and makes the images that others start from.
    ///
    /// # Errors
    /// When something cannot be installed or made.
    pub fn prepare(&self, log: &Log) -> Result<()> {
        self.install_tools(log)?;
        self.prepare_base_images(log)
    }

    /// Says what will be installed, and installs what is missing.
    fn install_tools(&self, log: &Log) -> Result<()> {
        match self.choice {
            Choice::Own => {
                debian::install(debian::CLUSTER, log)?;
                let program = go::build_cluster_program(self.paths, log)?;
                // The cluster program knows best what it needs, kernel modules included.
                let prepared = Program::new(program).args(["preflight", "--install"]).run(log);
                prepared
                    .context("this host lacks what a cluster needs")
                    .remedy("do what each line above says")?;
                if self.fake_nodes.is_some() {
                    go::install_kwok(self.paths, log)?;
                }
            }
            Choice::Kind => {
                go::KIND.install(self.paths, log)?;
                require_kubectl()?;
            }
            Choice::Context { .. } => drop(require_kubectl()?),
        }
        go::HELM.install(self.paths, log)?;
        Ok(())
    }

    /// Makes the base images that [`images::build`] starts from, where they are not pulled.
    fn prepare_base_images(&self, log: &Log) -> Result<()> {
        if self.builder() == Builder::Docker {
            return Ok(());
        }
        let program = go::build_cluster_program(self.paths, log)?;
        // Here and not when the cluster comes up: it is given a time for that, and installing a JDK takes its own.
        for base in ["base"].into_iter().chain(self.pod_images()) {
            Program::new(&program).args(["image", base]).run(log)?;
        }
        Ok(())
    }

    /// The images of others that pods run; those of the tests alone are for the project's own cluster.
    fn pod_images(&self) -> Vec<&'static str> {
        let mut found = vec!["postgres", "redis", "prometheus"];
        if matches!(self.choice, Choice::Own) && self.name == TEST {
            found.extend(images::LANGUAGES.map(|(role, _)| role));
        }
        found
    }

    /// The program that builds images for this cluster.
    pub fn builder(&self) -> Builder {
        let buildah = matches!(self.choice, Choice::Own) || (self.in_context() && find("buildah").is_some());
        if buildah { Builder::Buildah } else { Builder::Docker }
    }

    /// Brings the cluster up; at once when it is up.
    ///
    /// # Errors
    /// When the cluster does not come up, or the named context does not answer.
    pub fn up(&self, log: &Log) -> Result<Access> {
        match &self.choice {
            Choice::Own => {
                let nodes = self.nodes.map(|nodes| format!("--nodes={nodes}"));
                let mut up = self
                    .own(&["up", "--with-images", &self.pod_images().join(",")])
                    .args(nodes);
                if let Some(fake_nodes) = self.fake_nodes {
                    up = up
                        .arg(format!("--fake-nodes={fake_nodes}"))
                        .arg("--kwok")
                        .arg(go::install_kwok(self.paths, log)?);
                }
                up.run(log)?;
            }
            Choice::Kind => self.kind_up(log)?,
            Choice::Context { context, .. } => {
                let flat = Program::new("kubectl")
                    .args(["config", "view", "--raw", "--minify", "--flatten", "--context", context])
                    .read(log)
                    .remedy(format!("check that `kubectl --context {context} get nodes` works"))?;
                write_private(&self.kubeconfig_copy(), &flat)?;
            }
        }
        self.access(log)
    }

    /// How to reach the cluster.
    ///
    /// # Errors
    /// When it is not up.
    pub fn access(&self, log: &Log) -> Result<Access> {
        let remedy = format!("bring it up first: make {}", self.name);
        let kubeconfig = match self.choice {
            Choice::Own => {
                let program = go::cluster_program(self.paths)?;
                if !program.exists() {
                    return Err(anyhow::anyhow!("the cluster {} is not up", self.name)).remedy(remedy);
                }
                let printed = self.own(&["kubeconfig"]).read(log).remedy(&remedy)?;
                PathBuf::from(printed.trim())
            }
            Choice::Kind | Choice::Context { .. } => self.kubeconfig_copy(),
        };
        if !kubeconfig.exists() {
            return Err(anyhow::anyhow!(
                "the cluster {} is not up: no {}",
                self.name,
                kubeconfig.display()
            ))
            .remedy(remedy);
        }
        let audit_log = kubeconfig.with_file_name("audit.log");
        Ok(Access {
            kubeconfig,
            audit_log: Some(audit_log).filter(|path| path.exists()),
        })
    }

    /// A kubectl for the cluster.
    ///
    /// # Errors
    /// When kubectl is not there.
    pub fn kubectl(&self) -> Result<PathBuf> {
        match self.choice {
            Choice::Own => go::kubectl_for(self.name, &go::cluster_program(self.paths)?),
            Choice::Kind | Choice::Context { .. } => require_kubectl(),
        }
    }

    /// A program of the end-to-end tests' crate with what `e2e/src/environment.rs` reads.
    ///
    /// # Errors
    /// When kubectl or Helm is not there.
    pub fn harness(&self, program: &Path, access: &Access, images: &BTreeMap<String, String>) -> Result<Program> {
        let images = serde_json::to_string(images).context("failed to write the images' references as JSON")?;
        let mut program = Program::new(program)
            .env("KUBECONFIG", &access.kubeconfig)
            .env("VALERIX_E2E_KUBECONFIG", &access.kubeconfig)
            .env("VALERIX_IMAGES", images)
            .env("VALERIX_HELM", go::HELM.path(self.paths)?)
            .env("VALERIX_KUBECTL", self.kubectl()?)
            .env("VALERIX_OPERATOR_BINARY", images::kept(self.paths, "valerix-operator"));
        if matches!(self.choice, Choice::Own) {
            program = program.env("VALERIX_CLUSTER_PROGRAM", go::cluster_program(self.paths)?);
        }
        if let Some(audit_log) = &access.audit_log {
            program = program.env("VALERIX_CLUSTER_AUDIT_LOG", audit_log);
        }
        Ok(program)
    }

    /// Makes `images`, and the public ones that tests use, usable in the cluster; returns all references by role.
    ///
    /// # Errors
    /// When an image cannot be loaded or pushed.
    pub fn load(&self, images: &[Image], log: &Log) -> Result<BTreeMap<String, String>> {
        let images = match &self.choice {
            Choice::Context { registry, .. } => images::push(self.builder(), images, registry, log)?,
            Choice::Kind => {
                let references = images.iter().map(|image| image.reference.as_str());
                self.kind(&["load", "docker-image", "--name", &self.kind_name()])?
                    .args(references)
                    .run(log)?;
                images.to_vec()
            }
            Choice::Own => {
                self.load_into_own(images, log)?;
                images.to_vec()
            }
        };
        // These come with our own cluster; every other cluster pulls them.
        let public = [
            ("postgres", images::POSTGRES),
            ("redis", images::REDIS),
            ("prometheus", images::PROMETHEUS),
        ];
        let public = public.into_iter().chain(images::LANGUAGES);
        let public = public.map(|(role, reference)| (role.to_owned(), reference.to_owned()));
        Ok(images
            .into_iter()
            .map(|image| (image.role, image.reference))
            .chain(public)
            .collect())
    }

    /// Removes the cluster and everything in it. In a context of the user's, what was installed is left: removing it
    /// is Helm's work, not ours.
    ///
    /// # Errors
    /// When something is left.
    pub fn down(&self, log: &Log) -> Result<()> {
        match self.choice {
            Choice::Own => {
                // Without the program nothing was ever brought up by these sources; another build can still do it.
                let Some(program) = self.any_cluster_program()? else {
                    return Ok(());
                };
                let down = Program::new(program)
                    .args(["down", "--name", self.name])
                    .during_cleanup();
                down.run(log)
            }
            Choice::Kind => {
                let kind = self
                    .kind(&["delete", "cluster", "--name", &self.kind_name()])?
                    .during_cleanup();
                if go::KIND.path(self.paths)?.exists() {
                    kind.run(log)?;
                }
                drop(fs::remove_file(self.kubeconfig_copy()));
                Ok(())
            }
            Choice::Context { .. } => {
                drop(fs::remove_file(self.kubeconfig_copy()));
                Ok(())
            }
        }
    }

    /// True for a cluster of the user's that was named by `KUBE_CONTEXT`.
    fn in_context(&self) -> bool {
        matches!(self.choice, Choice::Context { .. })
    }

    fn own(&self, arguments: &[&str]) -> Program {
        // A failure to read the sources shows when the program is started.
        let program = go::cluster_program(self.paths).unwrap_or_default();
        let (command, rest) = arguments.split_at(1.min(arguments.len()));
        Program::new(program)
            .args(command)
            .args(["--name", self.name])
            .args(rest)
    }

    /// Loads the archives of images that the node does not have yet.
    fn load_into_own(&self, images: &[Image], log: &Log) -> Result<()> {
        let present = Program::new(self.kubectl()?)
            .env("KUBECONFIG", self.access(log)?.kubeconfig)
            .args([
                "get",
                "nodes",
                "--output=jsonpath={.items[*].status.images[*].names[*]}",
            ])
            .read(log)?;
        let present: BTreeSet<&str> = present.split_whitespace().collect();
        let absent = images
            .iter()
            .filter(|image| !present.contains(image.reference.as_str()));
        let archives: Vec<&Path> = absent.filter_map(|image| image.archive.as_deref()).collect();
        log.say(&format!(
            "{} of {} images are new to the cluster",
            archives.len(),
            images.len()
        ));
        if archives.is_empty() {
            return Ok(());
        }
        self.own(&["load-image"]).args(archives).run(log)
    }

    /// This checkout's cluster program, else the one that was built last.
    fn any_cluster_program(&self) -> Result<Option<PathBuf>> {
        let ours = go::cluster_program(self.paths)?;
        if ours.exists() {
            return Ok(Some(ours));
        }
        let others = fs::read_dir(self.paths.programs())
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path());
        let built = others
            .filter(|folder| {
                folder
                    .file_name()
                    .is_some_and(|name| name.to_string_lossy().starts_with("cluster-"))
            })
            .map(|folder| folder.join("cluster"))
            .filter_map(|program| Some((program.metadata().ok()?.modified().ok()?, program)));
        Ok(built.max().map(|(_, program)| program))
    }

    fn kind(&self, arguments: &[&str]) -> Result<Program> {
        Ok(Program::new(go::KIND.path(self.paths)?).args(arguments))
    }

    fn kind_name(&self) -> String {
        format!("valerix-{}", self.name)
    }

    fn kind_up(&self, log: &Log) -> Result<()> {
        let name = self.kind_name();
        let clusters = self.kind(&["get", "clusters"])?.read(log)?;
        let kubeconfig = self.kubeconfig_copy();
        if clusters.lines().any(|line| line == name) {
            let flat = self.kind(&["get", "kubeconfig", "--name", &name])?.read(log)?;
            return write_private(&kubeconfig, &flat);
        }
        self.kind(&["create", "cluster", "--wait", "180s", "--name", &name])?
            .args(["--image", &format!("kindest/node:v{}", go::KUBERNETES), "--kubeconfig"])
            .arg(&kubeconfig)
            .run(log)
    }

    fn kubeconfig_copy(&self) -> PathBuf {
        self.paths.cache.join(format!("kubeconfig-{}", self.name))
    }
}

fn with_its_remedy<T>(chosen: Result<T, Refusal>) -> Result<T> {
    let remedy = chosen.as_ref().err().map(Refusal::remedy);
    chosen.remedy(remedy.unwrap_or_default())
}

fn require_kubectl() -> Result<PathBuf> {
    find("kubectl")
        .context("kubectl was not found")
        .remedy("install kubectl 1.33 or newer: https://kubernetes.io/docs/tasks/tools")
}

fn write_private(path: &Path, text: &str) -> Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    if text.trim().is_empty() {
        bail!("the kubeconfig is empty");
    }
    drop(fs::remove_file(path));
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .with_context(|| format!("failed to create {}", path.display()))?;
    file.write_all(text.as_bytes())
        .with_context(|| format!("failed to write {}", path.display()))
}
