//! The operator as a process of this host, under the proxy: the same binary, rights and settings as in the cluster, but
//! one that a test can kill at a request.

use crate::{
    proxy::Proxy,
    world::{OPERATOR_NAMESPACE, World, eventually},
};
use anyhow::{Context, Result, bail};
use k8s_openapi::api::{apps::v1::Deployment, coordination::v1::Lease, core::v1::Pod};
use kube::api::{ListParams, Patch, PatchParams};
use serde_json::json;
use std::{path::PathBuf, process::Stdio, time::Duration};
use tempfile::TempDir;
use tokio::process::{Child, Command};

/// Name of the operator's Deployment and of its ServiceAccount.
pub const OPERATOR: &str = "valerix-operator";

/// Scales the operator in the cluster and waits until that many pods are left.
///
/// # Errors
/// If they do not come or go in time.
pub async fn scale(world: &World, replicas: i32) -> Result<()> {
    let deployments = world.api::<Deployment>(OPERATOR_NAMESPACE);
    let patch = Patch::Merge(json!({"spec": {"replicas": replicas}}));
    deployments
        .patch(OPERATOR, &PatchParams::default(), &patch)
        .await
        .context("failed to scale the operator")?;
    let pods = world.api::<Pod>(OPERATOR_NAMESPACE);
    let selector = ListParams::default().labels("app.kubernetes.io/name=valerix-operator");
    let settled = eventually(Duration::from_secs(60), || async {
        let existing = pods.list(&selector).await.ok()?.items.len();
        let ready = deployments
            .get(OPERATOR)
            .await
            .ok()?
            .status?
            .ready_replicas
            .unwrap_or_default();
        (existing == usize::try_from(replicas).ok()? && ready == replicas).then_some(())
    })
    .await;
    settled.with_context(|| format!("the operator did not come to {replicas} replicas"))
}

/// The operator on this host. Dropping it kills it; [`HostOperator::end`] also brings back the one in the cluster.
pub struct HostOperator {
    child: Option<Child>,
    binary: PathBuf,
    kubeconfig: PathBuf,
    environment: Vec<(String, String)>,
    log: PathBuf,
    _folder: TempDir,
}

impl HostOperator {
    /// Takes over from the operator in the cluster, which is scaled to zero first.
    ///
    /// # Errors
    /// If the binary is not named, or it does not become the leader.
    pub async fn take_over(world: &World, proxy: &Proxy) -> Result<Self> {
        let binary = world
            .environment
            .operator_binary
            .clone()
            .context("VALERIX_OPERATOR_BINARY is not set; run the tests by `make e2e`, which sets it")?;
        scale(world, 0).await?;
        let folder = TempDir::new().context("failed to make a folder")?;
        let kubeconfig = folder.path().join("kubeconfig");
        let content = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "proxy",
            "clusters": [{"name": "proxy", "cluster": {"server": format!("http://{}", proxy.address)}}],
            "users": [{"name": "proxy", "user": {}}],
            "contexts": [{"name": "proxy", "context": {"cluster": "proxy", "user": "proxy"}}],
        });
        std::fs::write(&kubeconfig, content.to_string()).context("failed to write a kubeconfig")?;
        let mut operator = Self {
            child: None,
            binary,
            kubeconfig,
            environment: settings(world).await?,
            log: folder.path().join("log"),
            _folder: folder,
        };
        operator.start(world).await?;
        Ok(operator)
    }

    /// Starts it (again) and waits until it leads.
    ///
    /// # Errors
    /// With its log, if it does not.
    pub async fn start(&mut self, world: &World) -> Result<()> {
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.log)
            .context("failed to open a log")?;
        let child = Command::new(&self.binary)
            .arg("run")
            .env_clear()
            .envs(self.environment.iter().cloned())
            .env("KUBECONFIG", &self.kubeconfig)
            .stdin(Stdio::null())
            .stdout(log.try_clone().context("failed to open a log")?)
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .context("failed to start the operator")?;
        self.child = Some(child);
        let leases = world.api::<Lease>(OPERATOR_NAMESPACE);
        let leads = eventually(Duration::from_secs(40), || async {
            let held = leases
                .list(&ListParams::default())
                .await
                .ok()?
                .items
                .into_iter()
                .any(|lease| {
                    lease
                        .spec
                        .and_then(|spec| spec.holder_identity)
                        .is_some_and(|holder| holder.contains(HOST_UID))
                });
            held.then_some(())
        })
        .await;
        if leads.is_none() {
            bail!("the operator on this host did not become the leader:\n{}", self.log());
        }
        Ok(())
    }

    /// `kill -9`, and waits until it is gone.
    ///
    /// # Errors
    /// If it cannot be killed.
    pub async fn kill(&mut self) -> Result<()> {
        if let Some(mut child) = self.child.take() {
            child.kill().await.context("failed to kill the operator")?;
        }
        Ok(())
    }

    /// What it logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Ends it in order, and lets the one in the cluster take over again.
    ///
    /// # Errors
    /// If that one does not come back.
    pub async fn end(mut self, world: &World) -> Result<()> {
        if let Some(child) = &self.child
            && let Some(pid) = child.id()
        {
            // SIGTERM lets it give its Lease back.
            Command::new("kill")
                .arg(pid.to_string())
                .status()
                .await
                .context("failed to end the operator")?;
        }
        if let Some(mut child) = self.child.take() {
            let ended = tokio::time::timeout(Duration::from_secs(20), child.wait()).await;
            if ended.is_err() {
                child.kill().await.context("failed to kill the operator")?;
            }
        }
        scale(world, 1).await
    }
}

const HOST_UID: &str = "00000000-0000-4000-8000-00000000e2e0";

/// The settings of the operator in the cluster, with this host's identity.
async fn settings(world: &World) -> Result<Vec<(String, String)>> {
    let deployment = world
        .api::<Deployment>(OPERATOR_NAMESPACE)
        .get(OPERATOR)
        .await
        .context("failed to read the Deployment")?;
    let container = deployment
        .spec
        .and_then(|spec| spec.template.spec)
        .and_then(|spec| spec.containers.into_iter().next())
        .context("the operator's Deployment has no container")?;
    let mut settings: Vec<(String, String)> = container
        .env
        .unwrap_or_default()
        .into_iter()
        .filter_map(|variable| Some((variable.name, variable.value?)))
        .collect();
    settings.extend([
        ("POD_NAME".to_owned(), format!("host-{HOST_UID}")),
        ("POD_NAMESPACE".to_owned(), OPERATOR_NAMESPACE.to_owned()),
        ("POD_UID".to_owned(), HOST_UID.to_owned()),
        ("LISTEN_ADDRESS".to_owned(), "127.0.0.1:0".to_owned()),
    ]);
    Ok(settings)
}
