//! The cluster with the charts installed, and the two locks that let tests share it.

use crate::{
    environment::Environment,
    kubectl::{self, Output},
};
use anyhow::{Context, Error, Result, bail};
use futures::FutureExt;
use k8s_openapi::{NamespaceResourceScope, api::core::v1::Namespace, apimachinery::pkg::apis::meta::v1::Condition};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{DeleteParams, ListParams, ObjectMeta, PostParams},
    config::{KubeConfigOptions, Kubeconfig},
    runtime::wait::await_condition,
};
use serde::{Deserialize, de::DeserializeOwned};
use std::{
    collections::BTreeMap,
    fmt::{self, Debug},
    future::Future,
    panic::{AssertUnwindSafe, resume_unwind},
    time::{Duration, Instant},
};
use tokio::sync::{Mutex, MutexGuard, OnceCell, RwLock, RwLockReadGuard, RwLockWriteGuard};
use valerix_crds::{ChaosExperiment, ResilientService, names::condition as types};

/// Namespace of the operator.
pub const OPERATOR_NAMESPACE: &str = "valerix-system";
/// Namespace of the shop.
pub const SHOP: &str = "shop";
/// The operator's ServiceAccount as the audit log names it.
pub const OPERATOR_USER: &str = "system:serviceaccount:valerix-system:valerix-operator";

/// Set to leave a failed test's namespace as it is, for a person to look at.
const KEEP: &str = "VALERIX_KEEP";

/// One service of the shop, as the chart's table has it.
#[derive(Clone, Debug, Deserialize)]
pub struct ShopService {
    /// The port that its container listens on.
    pub port: u16,
    /// Its database, if it has one.
    pub database: Option<String>,
    /// The services that it asks in its own name.
    #[serde(default)]
    pub calls: Vec<String>,
}

/// The shop's services by name.
///
/// # Errors
/// If the chart's table is not one.
pub fn shop_services() -> Result<BTreeMap<String, ShopService>> {
    serde_yaml::from_str(include_str!("../../charts/valerix-shop/services.yaml"))
        .context("failed to read charts/valerix-shop/services.yaml")
}

/// An error that ends with everything worth seeing of its namespace.
#[derive(Debug)]
struct Told(String);

impl fmt::Display for Told {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for Told {}

static INSTALLED: OnceCell<()> = OnceCell::const_new();
/// Held for reading by tests that need a working operator, for writing by those that stop, kill or count it.
static OPERATOR: RwLock<()> = RwLock::const_new(());
/// Held by tests that disturb the shop's services.
static SHOP_LOCK: Mutex<()> = Mutex::const_new(());

/// A test's view of the cluster. Dropping it lets the next test go on.
pub struct World {
    /// What the tests were told.
    pub environment: Environment,
    /// A client with all rights.
    pub client: Client,
    operator: OperatorLock,
    shop: Option<MutexGuard<'static, ()>>,
}

enum OperatorLock {
    Shared(#[allow(dead_code, reason = "held for its drop")] RwLockReadGuard<'static, ()>),
    Exclusive(#[allow(dead_code, reason = "held for its drop")] RwLockWriteGuard<'static, ()>),
}

impl World {
    /// Beside other tests, in a namespace of its own.
    ///
    /// # Errors
    /// If the charts cannot be installed.
    pub async fn shared() -> Result<Self> {
        Self::new(OperatorLock::Shared(OPERATOR.read().await), None).await
    }

    /// Beside others that leave the shop alone.
    ///
    /// # Errors
    /// If the charts cannot be installed.
    pub async fn with_shop() -> Result<Self> {
        let operator = OPERATOR.read().await;
        let shop = SHOP_LOCK.lock().await;
        Self::new(OperatorLock::Shared(operator), Some(shop)).await
    }

    /// Alone: the operator may be stopped, killed and counted.
    ///
    /// # Errors
    /// If the charts cannot be installed.
    pub async fn alone() -> Result<Self> {
        Self::new(OperatorLock::Exclusive(OPERATOR.write().await), None).await
    }

    /// On a cluster as it is: nothing is installed.
    ///
    /// # Errors
    /// If the cluster cannot be reached.
    pub async fn installed() -> Result<Self> {
        Self::connect(OperatorLock::Shared(OPERATOR.read().await), None).await
    }

    async fn new(operator: OperatorLock, shop: Option<MutexGuard<'static, ()>>) -> Result<Self> {
        let world = Self::connect(operator, shop).await?;
        INSTALLED.get_or_try_init(|| world.install()).await?;
        if world.shop.is_some() || matches!(world.operator, OperatorLock::Exclusive(_)) {
            world.end_experiments().await?;
        }
        Ok(world)
    }

    /// A test that failed may have left a fault in the shop: it would fail those that come after it.
    async fn end_experiments(&self) -> Result<()> {
        let experiments = self.api::<ChaosExperiment>(SHOP);
        for experiment in experiments.list(&ListParams::default()).await? {
            if !experiment.finalizers().is_empty() {
                let name = experiment.name_any();
                experiments.delete(&name, &DeleteParams::default()).await?;
                let (experiments, name) = (&experiments, &name);
                eventually(Duration::from_secs(60), || async move {
                    experiments.get_opt(name).await.ok()?.is_none().then_some(())
                })
                .await
                .with_context(|| format!("experiment {name} of an earlier test does not end"))?;
            }
        }
        Ok(())
    }

    async fn connect(operator: OperatorLock, shop: Option<MutexGuard<'static, ()>>) -> Result<Self> {
        // A second call only finds that a provider is installed.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let environment = Environment::read()?;
        let kubeconfig = Kubeconfig::read_from(&environment.kubeconfig).context("failed to read the kubeconfig")?;
        let mut config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
            .await
            .context("failed to use the kubeconfig")?;
        // A service's 503 is an answer to be seen, not to be asked again for.
        config.default_retry = false;
        let client = Client::try_from(config).context("failed to build a client")?;
        Ok(Self {
            environment,
            client,
            operator,
            shop,
        })
    }

    /// Installs both charts and waits until they are ready; a second call changes nothing.
    ///
    /// # Errors
    /// With everything that helm printed.
    pub async fn install(&self) -> Result<()> {
        self.install_operator().await?;
        let images = &self.environment.images;
        let mut arguments = vec!["--namespace".into(), SHOP.to_owned(), "--create-namespace".into()];
        let services = shop_services()?;
        for role in services
            .keys()
            .map(String::as_str)
            .chain(["postgres", "redis", "prometheus"])
        {
            arguments.extend(["--set".into(), format!("images.{role}={}", images.of(role)?)]);
        }
        arguments.extend(["--set".into(), "resources.requests.cpu=5m".into()]);
        arguments.extend([
            "--set".into(),
            "monitoring.prometheus.enabled=true,monitoring.prometheus.interval=5s".into(),
        ]);
        if let Some(values) = &self.environment.shop_values {
            arguments.extend(["--set".into(), values.clone()]);
        }
        self.upgrade("valerix-shop", "charts/valerix-shop", &arguments).await
    }

    /// Installs the operator's chart.
    ///
    /// # Errors
    /// With everything that helm printed.
    pub async fn install_operator(&self) -> Result<()> {
        let images = &self.environment.images;
        ensure_namespace(&self.client, SHOP).await?;
        let (repository, tag) = images
            .of("operator")?
            .rsplit_once(':')
            .context("the operator's image has no tag")?;
        let arguments = [
            "--namespace".into(),
            OPERATOR_NAMESPACE.to_owned(),
            "--create-namespace".into(),
            "--set".into(),
            format!("image.repository={repository},image.tag={tag}"),
            "--set".into(),
            format!(
                "backup.image={},guard.image={}",
                images.of("backup")?,
                images.of("guard")?
            ),
            "--set".into(),
            "chaos.namespaces={shop}".into(),
            "--set".into(),
            format!("console.enabled=true,console.image.reference={}", images.of("console")?),
            "--set".into(),
            "console.gatewayUrl=http://gateway.shop.svc,console.resources.requests.cpu=5m".into(),
        ];
        self.upgrade("valerix", "charts/valerix", &arguments).await
    }

    async fn upgrade(&self, release: &str, chart: &str, arguments: &[String]) -> Result<()> {
        let chart = self.environment.root.join(chart);
        let chart = chart.to_string_lossy();
        // Tests patch what the chart sets; the chart takes it back.
        let mut all = vec![
            "upgrade",
            "--install",
            release,
            &chart,
            "--force-conflicts",
            "--wait",
            "--timeout",
            "180s",
        ];
        all.extend(arguments.iter().map(String::as_str));
        let output = kubectl::helm(&self.environment, &all).await?;
        if output.success {
            return Ok(());
        }
        let pods = self.kubectl("get pods,rsvc,events -A -o wide").await?.all();
        bail!("failed to install {release}: {}\n{pods}", output.all())
    }

    /// Runs kubectl with arguments separated by blanks.
    ///
    /// # Errors
    /// If kubectl could not be started.
    pub async fn kubectl(&self, arguments: &str) -> Result<Output> {
        kubectl::kubectl(&self.environment, arguments).await
    }

    /// `kubectl create -f -` in a namespace.
    ///
    /// # Errors
    /// If kubectl could not be started.
    pub async fn create(&self, namespace: &str, manifest: &str) -> Result<Output> {
        kubectl::kubectl_with(
            &self.environment,
            &["create", "-n", namespace, "-f", "-"],
            Some(manifest),
        )
        .await
    }

    /// The objects of a kind in a namespace.
    pub fn api<K>(&self, namespace: &str) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), namespace)
    }

    /// Works in a fresh namespace whose name begins with `prefix`, and removes it whatever happens. A failure is told
    /// with everything worth seeing of the namespace; `VALERIX_KEEP` leaves it there.
    ///
    /// # Errors
    /// That of the work, or if the API server refuses the namespace.
    pub async fn with_namespace<T>(&self, prefix: &str, work: impl AsyncFnOnce(&str) -> Result<T>) -> Result<T> {
        let name = format!("{prefix}-{}", &uuid::Uuid::new_v4().simple().to_string()[..8]);
        ensure_namespace(&self.client, &name).await?;
        // A panic must not leave the namespace behind either.
        let mut outcome = AssertUnwindSafe(work(&name)).catch_unwind().await;
        match &mut outcome {
            Ok(Err(error)) if !error.is::<Told>() => {
                let told = Told(format!("{error:#}\n{}", self.dump(&name).await));
                *error = Error::new(told);
            }
            Err(_) => eprintln!("{}", self.dump(&name).await),
            _ => {}
        }
        if !matches!(outcome, Ok(Ok(_))) && std::env::var_os(KEEP).is_some() {
            eprintln!("{KEEP} is set: the namespace {name} is left as it is");
        } else {
            self.delete_namespace(&name).await?;
        }
        outcome.unwrap_or_else(|panic| resume_unwind(panic))
    }

    /// Deletes a namespace without waiting for its end.
    ///
    /// # Errors
    /// If the API server refuses.
    pub async fn delete_namespace(&self, name: &str) -> Result<()> {
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        namespaces
            .delete(name, &DeleteParams::background())
            .await
            .context("failed to delete a namespace")?;
        Ok(())
    }

    /// Everything worth seeing when a test of this namespace failed.
    pub async fn dump(&self, namespace: &str) -> String {
        let mut text = String::new();
        for arguments in [
            format!("get valerix,pods,jobs -n {namespace} -o wide"),
            format!("get valerix -n {namespace} -o yaml --show-managed-fields=false"),
            format!("get events -n {namespace} --sort-by=.lastTimestamp"),
            format!("logs -n {OPERATOR_NAMESPACE} deployment/valerix-operator --tail=40"),
        ] {
            if let Ok(output) = self.kubectl(&arguments).await {
                text.push_str(&format!("--- kubectl {arguments}\n{}\n", output.all()));
            }
        }
        text
    }

    /// Awaits an object of which `holds` is true; fails with the whole story of the namespace.
    ///
    /// # Errors
    /// If it does not hold in time.
    pub async fn object<K>(
        &self,
        namespace: &str,
        name: &str,
        what: &str,
        within: Duration,
        holds: impl Fn(&K) -> bool,
    ) -> Result<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + Clone
            + DeserializeOwned
            + Debug
            + Send
            + 'static,
    {
        let api = self.api::<K>(namespace);
        let until = async {
            loop {
                let condition = |object: Option<&K>| object.is_some_and(&holds);
                // A watch that broke, for example with its API server, is begun again.
                match await_condition(api.clone(), name, condition).await {
                    Ok(Some(object)) => return object,
                    _ => tokio::time::sleep(Duration::from_millis(100)).await,
                }
            }
        };
        // What it holds would be in the future of every caller.
        match tokio::time::timeout(within, Box::pin(until)).await {
            Ok(object) => Ok(object),
            Err(_) => Err(Error::new(Told(format!(
                "{name} did not come to `{what}` within {within:?}\n{}",
                self.dump(namespace).await
            )))),
        }
    }
}

/// Asks every 100 ms until there is an answer or the time is over.
pub async fn eventually<T, F>(within: Duration, mut ask: impl FnMut() -> F) -> Option<T>
where
    F: Future<Output = Option<T>>,
{
    let end = Instant::now() + within;
    loop {
        if let Some(answer) = ask().await {
            return Some(answer);
        }
        if Instant::now() >= end {
            return None;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// The condition of a type.
pub fn condition<'a>(conditions: &'a [Condition], kind: &str) -> Option<&'a Condition> {
    conditions.iter().find(|condition| condition.type_ == kind)
}

/// Whether a condition has a status.
pub fn has_condition(conditions: &[Condition], kind: &str, status: &str) -> bool {
    condition(conditions, kind).is_some_and(|condition| condition.status == status)
}

async fn ensure_namespace(client: &Client, name: &str) -> Result<()> {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let namespace = Namespace {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            ..Default::default()
        },
        ..Default::default()
    };
    match namespaces.create(&PostParams::default(), &namespace).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
        Err(error) => Err(error).context("failed to create a namespace"),
    }
}

/// Whether a service is Ready as it is specified now.
pub fn is_ready(service: &ResilientService) -> bool {
    service.status.as_ref().is_some_and(|status| {
        Some(status.observed_generation) == service.metadata.generation
            && has_condition(&status.conditions, types::READY, "True")
    })
}
