//! Many services of three pods each on a real API server, their pods kwok's: what the operator costs there, and how soon it
//! answers. What is counted has to keep its bound. What is timed is the machine's as well, API server, etcd and scheduler
//! beside the operator on it: it is told beside its bound.
//!
//! `make campaign NAME=scale ROUNDS=1000` brings up the cluster that it needs; `make e2e` leaves it out.

mod figures;
mod seen;

use anyhow::{Context, Result, ensure};
use chrono::Utc;
use figures::{Figure, Metrics, counted, quantile, timed};
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::{
    api::core::v1::Node, apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
};
use seen::Seen;
use serde_json::json;
use std::{
    env,
    time::{Duration, Instant},
};
use valerix_crds::ResilientService;
use valerix_e2e::{
    audit,
    world::{OPERATOR_NAMESPACE, World, eventually},
};

use crate::undisturbed::monitors;

/// How many services there are.
const SERVICES: &str = "VALERIX_ROUNDS";
/// One namespace has no more than half of the operator's places.
const NAMESPACES: usize = 10;
/// How many requests to the API server are under way while the services are made.
const AT_A_TIME: usize = 16;
/// The key of the label and the taint of fake nodes.
const FAKE: &str = "kwok.x-k8s.io/node";
const EDITS: usize = 50;
/// How often all others are looked at again while new ones come, and how many come each time.
const BURSTS: usize = 10;
const NEW: usize = 5;
/// Until a thousand are Ready on two cores, many times over.
const WAIT: Duration = Duration::from_secs(1800);
/// A definition comes and goes, and a status speaks of a change.
const SOON: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn many_services_of_three_pods_cost_little_and_wait_for_nobody() -> Result<()> {
    let world = World::installed().await?;
    let nodes: Api<Node> = Api::all(world.client.clone());
    let fake = ListParams::default().labels(&format!("{FAKE}=fake"));
    ensure!(
        !nodes.list(&fake).await?.items.is_empty(),
        "this cluster has no fake nodes; `make campaign NAME=scale` brings up the project's own, which has some, where no \
         Docker engine answers and KUBE_CONTEXT is not set"
    );
    world.install_operator().await?;
    // It looks at everything as well, and is not what is measured.
    let console = format!("scale -n {OPERATOR_NAMESPACE} deployment/valerix-console --replicas=0");
    world.kubectl(&console).await?.text()?;

    let services = env::var(SERVICES).unwrap_or_else(|_| "1000".to_owned());
    let scale = Scale::of(
        &world,
        services.parse::<usize>().context("VALERIX_ROUNDS is not a number")?,
    )
    .await?;
    let mut figures = Box::pin(scale.fresh()).await?;
    figures.extend(Box::pin(scale.rest()).await?);
    figures.extend(Box::pin(scale.edits()).await?);
    figures.extend(Box::pin(scale.new_ones()).await?);
    let missed: Vec<&Figure> = figures.iter().filter(|figure| figure.is_broken()).collect();
    ensure!(missed.is_empty(), "more than there may be: {missed:#?}");
    Ok(())
}

/// So many services, in namespaces of their own.
struct Scale<'a> {
    world: &'a World,
    seen: Seen,
    /// Namespace and name of each.
    services: Vec<(String, String)>,
}

impl<'a> Scale<'a> {
    async fn of(world: &'a World, services: usize) -> Result<Self> {
        ensure!(services > 0, "there is nothing to measure");
        let run = &uuid::Uuid::new_v4().simple().to_string()[..8];
        let namespaces: Vec<String> = (0..NAMESPACES).map(|number| format!("scale-{run}-{number}")).collect();
        for namespace in &namespaces {
            world.kubectl(&format!("create namespace {namespace}")).await?.text()?;
        }
        let named = |number: usize| (namespaces[number % NAMESPACES].clone(), format!("service-{number:05}"));
        Ok(Self {
            world,
            seen: Seen::follow(world.client.clone()),
            services: (0..services).map(named).collect(),
        })
    }

    /// From nothing until all are Ready, and what that took.
    async fn fresh(&self) -> Result<Vec<Figure>> {
        let before = Metrics::read(self.world).await?;
        let begun = Instant::now();
        stream::iter(&self.services)
            .map(|(namespace, name)| self.create(namespace, name))
            .buffer_unordered(AT_A_TIME)
            .try_collect::<Vec<_>>()
            .await?;
        let made = begun.elapsed().as_secs_f64();
        let mut most = 0.0_f64;
        loop {
            most = most.max(Metrics::read(self.world).await?.memory());
            let ready = self.seen.ready(self.services.len());
            match tokio::time::timeout(Duration::from_secs(1), ready).await {
                Ok(seen) => break seen?,
                Err(_) if begun.elapsed() < WAIT => {}
                Err(_) => anyhow::bail!("{} of {} are Ready", self.seen.are_ready(), self.services.len()),
            }
        }
        let ready = begun.elapsed().as_secs_f64();
        let after = self.quiet().await?;
        let each = |value: f64| value / figures::count(self.services.len());
        let of_one = self.children().await?;
        let since = |figure: fn(&Metrics) -> f64| each(figure(&after) - figure(&before));
        Ok(vec![
            timed("services made", "s", made, None),
            timed("until all are Ready", "s", ready, None),
            timed("the operator's CPU for it", "s", after.cpu() - before.cpu(), None),
            timed("and for each service", "ms", 1_000.0 * since(Metrics::cpu), None),
            timed(
                "the operator's memory, most meanwhile",
                "MB",
                most / 1e6,
                Some(15.0 + 0.004 * after.objects()),
            ),
            timed("objects that it remembers", "objects", after.objects(), None),
            // A count of ready pods that holds for five seconds is written too: a few services' pods come that far apart.
            counted(
                "writes of the children of a fresh service",
                "writes",
                since(Metrics::applies),
                1.1 * of_one,
            ),
            // How often a service is looked at, and its status changes, is a matter of how its pods come.
            timed(
                "writes for a fresh service, status and events too",
                "writes",
                since(Metrics::writes),
                Some(of_one + 3.0),
            ),
            timed("looks at a fresh service", "looks", since(Metrics::looks), Some(4.0)),
        ])
    }

    /// A while without any cause: the API server itself counts. Ten minutes for a thousand services.
    async fn rest(&self) -> Result<Vec<Figure>> {
        let log = self.world.environment.audit_log.as_ref();
        let log =
            log.context("VALERIX_CLUSTER_AUDIT_LOG is not set: rest is counted from the API server's audit log")?;
        let lasts = Duration::from_millis(600 * u64::try_from(self.services.len().clamp(50, 1_000))?);
        let (from, before) = (Utc::now(), Metrics::read(self.world).await?);
        tokio::time::sleep(lasts).await;
        let (to, after) = (Utc::now(), Metrics::read(self.world).await?);
        // The log is written behind the requests.
        tokio::time::sleep(Duration::from_secs(2)).await;
        let (leases, others) = audit::counted(&audit::requests(log, from, to)?);
        eprintln!("{} at rest for {lasts:?}: {others:?}", figures::MARK);
        let no_watches = others.iter().filter(|(request, _)| !request.starts_with("watch "));
        let requests: usize = no_watches.map(|(_, count)| count).sum();
        let minutes = lasts.as_secs_f64() / 60.0;
        let cpu = 100.0 * (after.cpu() - before.cpu()) / lasts.as_secs_f64();
        Ok(vec![
            counted(
                "requests at rest, but watches and the Lease's",
                "requests",
                figures::count(requests),
                0.0,
            ),
            counted(
                "the Lease's renewals at rest, a minute",
                "requests",
                figures::count(leases) / minutes,
                30.0,
            ),
            timed("CPU at rest", "% of a core", cpu, Some(0.5)),
            timed("memory at rest", "MB", after.memory() / 1e6, None),
        ])
    }

    /// From the request until the status speaks of what it asked for, one service after the other.
    async fn edits(&self) -> Result<Vec<Figure>> {
        let (mut shown, mut answered) = (Vec::new(), Vec::new());
        // No pod moves for it: what the scheduler and kwok would do is not the operator's.
        let patch = Patch::Merge(json!({"spec": {"disruption": {"maxUnavailable": 2}}}));
        for (namespace, name) in self.services.iter().take(EDITS) {
            let services = self.world.api::<ResilientService>(namespace);
            let begun = Instant::now();
            let patched = services.patch(name, &PatchParams::default(), &patch).await?;
            answered.push(milliseconds(begun.elapsed()));
            let generation = patched.metadata.generation.context("it has no generation")?;
            let at = self.seen.observed(namespace, name, generation, SOON).await?;
            shown.push(milliseconds(at.saturating_duration_since(begun)));
        }
        Ok(vec![
            timed(
                "a change until it shows in status, p50",
                "ms",
                quantile(&mut shown, 50),
                Some(25.0),
            ),
            timed(
                "a change until it shows in status, p99",
                "ms",
                quantile(&mut shown, 99),
                Some(100.0),
            ),
            timed(
                "of that the API server's answer, p50",
                "ms",
                quantile(&mut answered, 50),
                None,
            ),
            timed(
                "of that the API server's answer, p99",
                "ms",
                quantile(&mut answered, 99),
                None,
            ),
        ])
    }

    /// New ones while all others are looked at again: a kind that their children may have is installed, and goes again.
    async fn new_ones(&self) -> Result<Vec<Figure>> {
        let definitions: Api<CustomResourceDefinition> = Api::all(self.world.client.clone());
        let (mut shown, mut looks) = (Vec::new(), f64::INFINITY);
        for burst in 0..BURSTS {
            let before = self.quiet().await?;
            definitions
                .create(&PostParams::default(), &monitors::definition()?)
                .await
                .context("the cluster knows ServiceMonitors already")?;
            let begins = eventually(SOON, || async {
                let now = Metrics::read(self.world).await.ok()?;
                (now.looks() > before.looks()).then_some(())
            });
            begins.await.context("nobody looks at the services when a kind comes")?;
            for new in 0..NEW {
                let number = burst * NEW + new;
                let (namespace, name) = (
                    &self.services[number % self.services.len()].0,
                    format!("new-{number:05}"),
                );
                let begun = Instant::now();
                self.create(namespace, &name).await?;
                let at = self.seen.observed(namespace, &name, 1, SOON).await?;
                shown.push(milliseconds(at.saturating_duration_since(begun)));
            }
            let after = self.quiet().await?;
            looks = looks.min(after.looks() - before.looks());
            definitions
                .delete(monitors::DEFINITION, &DeleteParams::default())
                .await?;
            let gone = eventually(SOON, || async {
                let found = definitions.get_opt(monitors::DEFINITION).await;
                found.ok()?.is_none().then_some(())
            });
            gone.await.context("the definition does not go")?;
        }
        ensure!(
            looks >= figures::count(self.services.len()),
            "not all services were looked at again: {looks} looks"
        );
        let longest = quantile(&mut shown, 99);
        Ok(vec![
            timed(
                "a new one until its status, p50, while all others wait",
                "ms",
                quantile(&mut shown, 50),
                None,
            ),
            timed(
                "a new one until its status, p99, while all others wait",
                "ms",
                longest,
                Some(1_000.0),
            ),
        ])
    }

    async fn create(&self, namespace: &str, name: &str) -> Result<()> {
        let service = json!({
            "apiVersion": "resilience.valerix.io/v1alpha1", "kind": "ResilientService", "metadata": {"name": name},
            "spec": {
                // Nobody pulls it.
                "image": "registry.invalid/nothing:1",
                "replicas": 3,
                "ports": [{"name": "http", "containerPort": 8080, "servicePort": 80}],
                "probes": {"readiness": {"path": "/"}},
                "disruption": {"maxUnavailable": 1},
                "networkPolicy": {},
                "resilience": {"protocol": "None"},
                "nodeSelector": {FAKE: "fake"},
                "tolerations": [{"key": FAKE, "operator": "Exists"}],
            }
        });
        self.world
            .api::<ResilientService>(namespace)
            .create(&PostParams::default(), &serde_json::from_value(service)?)
            .await
            .with_context(|| format!("failed to make {namespace}/{name}"))?;
        Ok(())
    }

    /// How many children one service has.
    async fn children(&self) -> Result<f64> {
        let (namespace, name) = &self.services[0];
        let kinds = "serviceaccounts,configmaps,services,networkpolicies,poddisruptionbudgets,deployments";
        let listed = format!("get {kinds} -n {namespace} -l app.kubernetes.io/name={name} -o name");
        Ok(figures::count(
            self.world.kubectl(&listed).await?.text()?.lines().count(),
        ))
    }

    /// Waits until the operator has not looked at anything for five seconds.
    async fn quiet(&self) -> Result<Metrics> {
        let mut before = Metrics::read(self.world).await?;
        let end = Instant::now() + WAIT;
        loop {
            tokio::time::sleep(Duration::from_secs(5)).await;
            let now = Metrics::read(self.world).await?;
            // No count is as large as to be rounded.
            if (now.looks() - before.looks()).abs() < 0.5 {
                return Ok(now);
            }
            ensure!(Instant::now() < end, "the operator does not come to rest");
            before = now;
        }
    }
}

fn milliseconds(duration: Duration) -> f64 {
    1_000.0 * duration.as_secs_f64()
}
