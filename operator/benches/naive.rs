//! An operator on kube as its examples are written, which `make bench SUITE=operator` puts beside ours: every child is
//! applied at every look, every watch keeps whole objects, and nothing is compared, put off or trimmed. What it applies is
//! what ours would (`children`): the bench is about the work around that. It holds no Lease and tells no events.

use chrono::{SecondsFormat, Utc};
use futures::{Stream, StreamExt};
use k8s_openapi::{
    NamespaceResourceScope,
    api::{
        apps::v1::Deployment,
        core::v1::{ConfigMap, Service, ServiceAccount},
    },
};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{Patch, PatchParams},
    runtime::{
        Controller, WatchStreamExt,
        controller::{Action, Config},
        reflector::{self, ObjectRef, Store},
        watcher,
    },
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::json;
use std::{fmt::Debug, sync::Arc, time::Duration};
use valerix_crds::ResilientService;
use valerix_operator::{
    resilient_service::{Resources, children},
    runtime::Violations,
};

/// As many looks at a time as ours.
const CONCURRENCY: u16 = 16;
const MANAGER: &str = "naive";

struct Context {
    client: Client,
    deployments: Store<Deployment>,
}

#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("failed to read the specification: {0}")]
    Invalid(Violations),
    #[error("failed to write: {0}")]
    Api(Box<kube::Error>),
}

impl From<kube::Error> for Error {
    fn from(error: kube::Error) -> Self {
        Self::Api(Box::new(error))
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    match std::env::args().nth(1).as_deref() {
        Some("run") => {}
        Some("--version") => {
            println!("{}", version());
            return Ok(());
        }
        // `cargo bench` starts every bench, and this one would work in whichever cluster it finds.
        _ => return Ok(()),
    }
    if rustls::crypto::aws_lc_rs::default_provider().install_default().is_err() {
        anyhow::bail!("failed to install the TLS provider: another one is installed");
    }
    let client = Client::try_default().await?;
    let (deployments, changed_deployments) = watched::<Deployment>(&client);
    let ctx = Arc::new(Context {
        client: client.clone(),
        deployments,
    });
    Controller::new(Api::<ResilientService>::all(client.clone()), watcher::Config::default())
        .with_config(Config::default().concurrency(CONCURRENCY))
        .owns_stream(watched::<ServiceAccount>(&client).1)
        .owns_stream(watched::<ConfigMap>(&client).1)
        .owns_stream(watched::<Service>(&client).1)
        .owns_stream(changed_deployments)
        .run(reconcile, |_, _, _| Action::requeue(Duration::from_secs(5)), ctx)
        .for_each(|result| {
            if let Err(error) = result {
                eprintln!("{error}");
            }
            std::future::ready(())
        })
        .await;
    Ok(())
}

/// Of kube, as this workspace has locked it.
fn version() -> &'static str {
    let lock = include_str!("../../Cargo.lock");
    let found = lock.split_once("name = \"kube\"\nversion = \"");
    found
        .and_then(|(_, rest)| rest.split_once('"'))
        .map_or("unknown", |(version, _)| version)
}

/// All objects of a kind, kept whole, and each again when it has changed.
fn watched<K>(client: &Client) -> (Store<K>, impl Stream<Item = Result<K, watcher::Error>> + Send + use<K>)
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    let (store, writer) = reflector::store();
    let changes = watcher(Api::all(client.clone()), watcher::Config::default())
        .default_backoff()
        .reflect(writer)
        .touched_objects();
    (store, changes)
}

async fn reconcile(service: Arc<ResilientService>, ctx: Arc<Context>) -> Result<Action, Error> {
    let Resources {
        service_account,
        config_map,
        service: kubernetes_service,
        pods_service,
        deployment,
        ..
    } = children(&service, "", "valerix-system").map_err(Error::Invalid)?;
    if let Some(service_account) = &service_account {
        apply(&ctx.client, service_account).await?;
    }
    apply(&ctx.client, &config_map).await?;
    if let Some(kubernetes_service) = &kubernetes_service {
        apply(&ctx.client, kubernetes_service).await?;
    }
    apply(&ctx.client, &pods_service).await?;
    apply(&ctx.client, &deployment).await?;
    publish(&service, &ctx).await?;
    Ok(Action::await_change())
}

async fn apply<K>(client: &Client, desired: &K) -> Result<(), kube::Error>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + Serialize + DeserializeOwned,
{
    let api = Api::<K>::namespaced(client.clone(), &desired.namespace().unwrap_or_default());
    let parameters = PatchParams::apply(MANAGER).force();
    api.patch(&desired.name_any(), &parameters, &Patch::Apply(desired))
        .await
        .map(drop)
}

/// Ready once the Deployment has as many ready pods as it is to have, and of the newest template.
async fn publish(service: &ResilientService, ctx: &Context) -> Result<(), kube::Error> {
    let (namespace, name) = (service.namespace().unwrap_or_default(), service.name_any());
    let live = ctx.deployments.get(&ObjectRef::new(&name).within(&namespace));
    let generation = live.as_ref().and_then(|live| live.metadata.generation);
    let seen = live.and_then(|live| live.status.clone()).unwrap_or_default();
    let (ready, wanted) = (seen.ready_replicas.unwrap_or(0), service.spec.replicas);
    let is_observed = generation.is_some() && seen.observed_generation == generation;
    let is_ready = is_observed && seen.updated_replicas.unwrap_or(0) >= wanted && ready >= wanted;
    let holds = if is_ready { "True" } else { "False" };
    let mut conditions = service.status.iter().flat_map(|status| &status.conditions);
    let before = conditions.find(|condition| condition.type_ == "Ready" && condition.status == holds);
    let since = match before {
        Some(before) => json!(before.last_transition_time),
        None => json!(Utc::now().to_rfc3339_opts(SecondsFormat::Secs, true)),
    };
    let generation = service.metadata.generation;
    let status = json!({"status": {
        "observedGeneration": generation,
        "replicas": seen.replicas.unwrap_or(0),
        "readyReplicas": ready,
        "conditions": [{
            "type": "Ready", "status": holds, "observedGeneration": generation, "lastTransitionTime": since,
            "reason": if is_ready { "AllPodsReady" } else { "WaitingForPods" },
            "message": format!("{ready} of {wanted} pods are ready"),
        }]
    }});
    let api = Api::<ResilientService>::namespaced(ctx.client.clone(), &namespace);
    api.patch_status(&name, &PatchParams::default(), &Patch::Merge(&status))
        .await
        .map(drop)
}
