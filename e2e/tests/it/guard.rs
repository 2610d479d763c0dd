//! The guard beside images that know nothing of it: one policy for three languages, connections that are no HTTP, and a
//! guard that comes and goes without a failed request.

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api,
    api::{ListParams, Patch, PatchParams},
};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio_util::sync::CancellationToken;
use valerix_crds::{ChaosExperiment, ChaosPhase, ResilientService, Verdict};
use valerix_e2e::{
    shop::{self, Reply},
    world::{World, eventually, is_ready},
};

mod job;
mod lives;
mod orders;
mod streams;

/// How long a service may take to come up: a Java program is compiled at its start.
const START: Duration = Duration::from_secs(90);

/// The programs of `examples/any-image`: role of the image, file, its text, and what runs it.
const PROGRAMS: [(&str, &str, &str, &str); 3] = [
    (
        "python",
        "server.py",
        include_str!("../../../examples/any-image/python/server.py"),
        "python3",
    ),
    (
        "node",
        "server.js",
        include_str!("../../../examples/any-image/node/server.js"),
        "node",
    ),
    (
        "java",
        "Server.java",
        include_str!("../../../examples/any-image/java/Server.java"),
        "java",
    ),
];

pub(crate) fn object(kind: &str, name: &str, spec: Value) -> Value {
    json!({"apiVersion": "resilience.valerix.io/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec})
}

pub(crate) async fn create(world: &World, namespace: &str, object: &Value) -> Result<()> {
    world.create(namespace, &object.to_string()).await?.text()?;
    Ok(())
}

/// The programs as a ConfigMap that services mount.
async fn programs(world: &World, namespace: &str) -> Result<()> {
    let data: BTreeMap<&str, &str> = PROGRAMS.iter().map(|(_, file, text, _)| (*file, *text)).collect();
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "programs"}, "data": data});
    create(world, namespace, &map).await
}

/// A service named `name` that runs the program of a language. One failed probe of the kubelet ends its container.
fn service(world: &World, language: &str, name: &str, more: Value) -> Result<Value> {
    let (_, file, _, program) = PROGRAMS
        .into_iter()
        .find(|(role, ..)| *role == language)
        .context("no such language")?;
    let mut spec = json!({
        "image": world.environment.images.of(language)?,
        "command": [program, format!("/programs/{file}")],
        "ports": [{"name": "http", "containerPort": 8080, "servicePort": 80}],
        "volumes": [{"name": "programs", "configMap": {"name": "programs"}}],
        "volumeMounts": [{"name": "programs", "mountPath": "/programs"}],
        "probes": {
            "startup": {"path": "/alive", "failureThreshold": 90},
            "readiness": {"path": "/alive"},
            "liveness": {"path": "/alive", "periodSeconds": 1, "failureThreshold": 1, "timeoutSeconds": 5}
        },
        "lifecycle": {"preStopSleep": "3s"},
        "chaos": {"admission": "Allowed"},
    });
    if let (Some(spec), Value::Object(more)) = (spec.as_object_mut(), more) {
        spec.extend(more);
    }
    Ok(object("ResilientService", name, spec))
}

/// The one policy of all three: it opens the circuit after three failures in a row.
fn policy() -> Value {
    json!({"targets": [{
        "name": "ledger", "url": "http://ledger",
        "timeout": {"request": "2s", "attempt": "1s", "connect": "500ms"},
        "circuitBreaker": {"consecutiveFailures": 3, "openDuration": "2s", "maxOpenDuration": "2s", "halfOpenPermits": 1}
    }]})
}

/// A bank that speaks TLS alone, with a certificate for `localhost` that is an authority of its own.
const BANK: [(&str, &str); 3] = [
    ("bank.py", include_str!("guard/bank.py")),
    (
        "bank.pem",
        include_str!("../../../services/gateway/tests/it/certificates/first.pem"),
    ),
    (
        "bank.key",
        include_str!("../../../services/gateway/tests/it/certificates/first.key.pem"),
    ),
];

/// The bank, and `payer`, whose ledger it is and whose guard believes that authority.
async fn bank_and_payer(world: &World, namespace: &str) -> Result<()> {
    let map = |name: &str, data: Value| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data});
    create(world, namespace, &map("bank", json!(BTreeMap::from(BANK)))).await?;
    create(world, namespace, &map("bank-ca", json!({"ca.crt": BANK[1].1}))).await?;
    let bank = json!({
        "command": ["python3", "/programs/bank.py"],
        "ports": [{"name": "https", "containerPort": 8443, "servicePort": 443}],
        "volumes": [{"name": "programs", "configMap": {"name": "bank"}}],
        "probes": {"readiness": {"type": "TCP"}},
        "resilience": {"protocol": "None"}
    });
    create(world, namespace, &service(world, "python", "bank", bank)?).await?;
    let payer = json!({"guard": {"mode": "Sidecar"}, "resilience": {"targets": [{
        "name": "ledger", "url": "https://bank",
        "tls": {"caBundleRef": {"name": "bank-ca"}, "serverName": "localhost"}
    }]}});
    create(world, namespace, &service(world, "python", "payer", payer)?).await
}

fn config(service: &ResilientService) -> String {
    let summary = service.status.as_ref().and_then(|status| status.summary.clone());
    summary.map(|summary| summary.config).unwrap_or_default()
}

/// How many pods say that the circuit of the target is open.
fn open_circuits(service: &ResilientService, target: &str) -> i32 {
    let status = service.status.clone().unwrap_or_default();
    let circuits = status
        .circuit_breakers
        .into_iter()
        .filter(|circuit| circuit.target == target);
    circuits.map(|circuit| circuit.open).sum()
}

async fn get(world: &World, namespace: &str, service: &str, path: &str) -> Result<Reply> {
    shop::ask(world, namespace, "GET", service, path, &[], Vec::new()).await
}

/// The quickest of seven answers: what the way through the API server takes comes on top of each, and none is quicker than
/// what the guard makes of it.
async fn quickest(world: &World, namespace: &str, service: &str) -> Result<Duration> {
    let mut quickest = Duration::MAX;
    for _ in 0..7 {
        let reply = get(world, namespace, service, "/").await?;
        ensure!(reply.status == 200, "{service}: {reply:?}");
        quickest = quickest.min(reply.took);
    }
    Ok(quickest)
}

/// How often containers of the pods of a service ended, guards included.
pub(crate) async fn restarts(world: &World, namespace: &str, service: &str) -> Result<i32> {
    let selector = ListParams::default().labels(&format!("app.kubernetes.io/name={service}"));
    let pods = world.api::<Pod>(namespace).list(&selector).await?;
    let statuses = pods.items.into_iter().filter_map(|pod| pod.status);
    let containers = statuses.flat_map(|status| {
        let guards = status.init_container_statuses.into_iter().flatten();
        guards.chain(status.container_statuses.into_iter().flatten())
    });
    Ok(containers.map(|container| container.restart_count).sum())
}

async fn patch(world: &World, namespace: &str, service: &str, spec: Value) -> Result<()> {
    let services: Api<ResilientService> = world.api(namespace);
    let patch = Patch::Merge(json!({"spec": spec}));
    services.patch(service, &PatchParams::default(), &patch).await?;
    Ok(())
}

pub(crate) async fn ready(world: &World, namespace: &str, service: &str) -> Result<ResilientService> {
    world.object(namespace, service, "Ready", START, is_ready).await
}

pub(crate) fn phase(experiment: &ChaosExperiment) -> Option<ChaosPhase> {
    experiment.status.as_ref().and_then(|status| status.phase)
}

pub(crate) fn is_injected(experiment: &ChaosExperiment) -> bool {
    experiment
        .status
        .as_ref()
        .is_some_and(|status| status.injected_at.is_some())
}

pub(crate) fn has_ended(experiment: &ChaosExperiment) -> bool {
    phase(experiment).is_some_and(ChaosPhase::is_terminal)
}

#[tokio::test(flavor = "multi_thread")]
async fn one_policy_holds_for_three_languages() -> Result<()> {
    let world = World::shared().await?;
    world
        .with_namespace("guard", async |namespace| {
            programs(&world, namespace).await?;
            let unguarded = json!({"resilience": {"protocol": "None"}});
            create(&world, namespace, &service(&world, "python", "ledger", unguarded)?).await?;
            let languages = PROGRAMS.map(|(role, ..)| role);
            for language in languages {
                let guarded = json!({"guard": {"mode": "Sidecar"}, "resilience": policy()});
                create(&world, namespace, &service(&world, language, language, guarded)?).await?;
            }
            bank_and_payer(&world, namespace).await?;
            for name in ["ledger", "python", "node", "java", "bank", "payer"] {
                ready(&world, namespace, name).await?;
            }
            let reply = get(&world, namespace, "payer", "/order").await?;
            ensure!(reply.status == 200, "the payer's guard makes the TLS: {reply:?}");
            for language in languages {
                let service = ready(&world, namespace, language).await?;
                ensure!(config(&service) == "1/1", "{language}: CONFIG {}", config(&service));
                let reply = get(&world, namespace, language, "/order").await?;
                ensure!(reply.status == 200, "{language}: {reply:?}");
            }
            circuits_open_and_close(&world, namespace, &languages).await?;
            faults_reach_clients_and_no_probe(&world, namespace, &languages).await
        })
        .await
}

/// The ledger goes away and comes back.
async fn circuits_open_and_close(world: &World, namespace: &str, languages: &[&str]) -> Result<()> {
    patch(world, namespace, "ledger", json!({"replicas": 0})).await?;
    for language in languages {
        let opened = eventually(Duration::from_secs(20), || async {
            let reply = get(world, namespace, language, "/order").await.ok()?;
            let services: Api<ResilientService> = world.api(namespace);
            let service = services.get(language).await.ok()?;
            (reply.status >= 500 && open_circuits(&service, "ledger") == 1).then_some(())
        })
        .await;
        opened.with_context(|| format!("{language}: status shows no open circuit"))?;
        let reply = get(world, namespace, language, "/").await?;
        ensure!(reply.status == 200, "{language} serves what needs no ledger: {reply:?}");
    }
    patch(world, namespace, "ledger", json!({"replicas": 1})).await?;
    ready(world, namespace, "ledger").await?;
    for language in languages {
        let closed = eventually(Duration::from_secs(20), || async {
            let reply = get(world, namespace, language, "/order").await.ok()?;
            let services: Api<ResilientService> = world.api(namespace);
            let service = services.get(language).await.ok()?;
            (reply.status == 200 && open_circuits(&service, "ledger") == 0).then_some(())
        })
        .await;
        closed.with_context(|| format!("{language}: the circuit does not close"))?;
    }
    Ok(())
}

/// Requests are late by as much as asked, or fail; the kubelet, which asks the containers, sees nothing of it.
async fn faults_reach_clients_and_no_probe(world: &World, namespace: &str, languages: &[&str]) -> Result<()> {
    for language in languages {
        let before = quickest(world, namespace, language).await?;
        let name = format!("{language}-slow");
        let latency = json!({
            "target": {"service": language}, "safety": {"minPodAge": "1s"}, "duration": "8s",
            "latency": {"delay": "600ms"}
        });
        create(world, namespace, &object("ChaosExperiment", &name, latency)).await?;
        let within = Duration::from_secs(30);
        world.object(namespace, &name, "injected", within, is_injected).await?;
        let slowed = quickest(world, namespace, language).await?;
        eprintln!("{language}: {before:?}, then {slowed:?}");
        ensure!(
            (600..=660).contains(&slowed.as_millis()) && before.as_millis() < 300,
            "{language}: the quickest took {slowed:?}, and {before:?} without the 600 ms that were asked for"
        );
        let ended = world.object(namespace, &name, "the end", within, has_ended).await?;
        ensure!(phase(&ended) == Some(ChaosPhase::Completed), "{:?}", ended.status);
    }
    let errors = json!({
        "target": {"service": "node"}, "safety": {"minPodAge": "1s"}, "duration": "6s",
        "errors": {"percent": 100, "status": 503}
    });
    create(world, namespace, &object("ChaosExperiment", "node-broken", errors)).await?;
    let within = Duration::from_secs(30);
    world
        .object(namespace, "node-broken", "injected", within, is_injected)
        .await?;
    let reply = get(world, namespace, "node", "/alive").await?;
    ensure!(
        reply.status == 503,
        "the path of the kubelet's probes fails for clients: {reply:?}"
    );
    world
        .object(namespace, "node-broken", "the end", within, has_ended)
        .await?;
    for language in languages {
        let ended = restarts(world, namespace, language).await?;
        ensure!(ended == 0, "{language}: containers ended {ended} times");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cache_that_is_no_http_is_refused_and_the_verdict_says_so() -> Result<()> {
    let world = World::shared().await?;
    world
        .with_namespace("guard", async |namespace| {
            programs(&world, namespace).await?;
            let cache = json!({
                "image": world.environment.images.of("redis")?,
                "command": ["redis-server", "--save", "", "--dir", "/tmp"],
                "ports": [{"name": "redis", "containerPort": 6379}],
                "probes": {"readiness": {"type": "TCP"}},
                "chaos": {"admission": "Allowed"},
                "guard": {"mode": "Sidecar", "inbound": {"ports": [{"name": "redis", "protocol": "TCP"}]}}
            });
            create(&world, namespace, &object("ResilientService", "cache", cache)).await?;
            let client = json!({"guard": {"mode": "Sidecar"}, "resilience": {"targets": [{
                "name": "cache", "url": "tcp://cache:6379", "timeout": {"connect": "500ms"}
            }]}});
            create(&world, namespace, &service(&world, "python", "client", client)?).await?;
            ready(&world, namespace, "cache").await?;
            ready(&world, namespace, "client").await?;
            let reply = get(&world, namespace, "client", "/ping").await?;
            ensure!(reply.status == 200, "PING through two guards: {reply:?}");

            let errors =
                json!({"target": {"service": "cache"}, "safety": {"minPodAge": "1s"}, "duration": "5s", "errors": {}});
            create(&world, namespace, &object("ChaosExperiment", "forged", errors)).await?;
            let within = Duration::from_secs(30);
            let forged = world.object(namespace, "forged", "the end", within, has_ended).await?;
            let told = forged.status.and_then(|status| status.message).unwrap_or_default();
            ensure!(told.contains("spec.errors") && told.contains("use latency"), "{told}");

            let refuse = json!({
                "target": {"service": "cache"}, "duration": "20s", "refuse": {},
                "safety": {"minPodAge": "1s", "minAvailable": 0},
                "steadyState": {"recoveryTimeout": "30s", "probes": [{
                    "name": "cached", "failureThreshold": 2, "http": {"service": "client", "path": "/ping"}
                }]}
            });
            create(&world, namespace, &object("ChaosExperiment", "gone", refuse)).await?;
            world.object(namespace, "gone", "injected", within, is_injected).await?;
            let seen = eventually(Duration::from_secs(10), || async {
                let reply = get(&world, namespace, "client", "/ping").await.ok()?;
                (reply.status == 503).then_some(())
            })
            .await;
            seen.context("the client finds the cache as before")?;
            let gone = world
                .object(namespace, "gone", "the end", Duration::from_secs(60), has_ended)
                .await?;
            let status = gone.status.unwrap_or_default();
            ensure!(status.verdict == Some(Verdict::Fail), "{status:?}");
            let back = eventually(Duration::from_secs(20), || async {
                let reply = get(&world, namespace, "client", "/ping").await.ok()?;
                (reply.status == 200).then_some(())
            })
            .await;
            back.context("the cache does not come back")
        })
        .await
}

/// Twenty requests a second until it is ended.
struct Load {
    stop: CancellationToken,
    task: tokio::task::JoinHandle<(usize, Vec<String>)>,
}

impl Load {
    fn start(world: &Arc<World>, namespace: &str, service: &'static str) -> Self {
        let stop = CancellationToken::new();
        let (world, namespace, stopped) = (Arc::clone(world), namespace.to_owned(), stop.clone());
        let task = tokio::spawn(async move {
            let mut ticks = tokio::time::interval(Duration::from_millis(50));
            let mut asked = tokio::task::JoinSet::new();
            let started = Instant::now();
            while !stopped.is_cancelled() {
                ticks.tick().await;
                let (world, namespace) = (Arc::clone(&world), namespace.clone());
                asked.spawn(async move {
                    let at = started.elapsed();
                    match get(&world, &namespace, service, "/").await {
                        Ok(reply) if reply.status == 200 => None,
                        Ok(reply) => Some(format!("after {at:.1?}: {} {}", reply.status, reply.body)),
                        Err(error) => Some(format!("after {at:.1?}: {error:#}")),
                    }
                });
            }
            let outcomes = asked.join_all().await;
            let total = outcomes.len();
            (total, outcomes.into_iter().flatten().collect())
        });
        Self { stop, task }
    }

    async fn end(self) -> Result<usize> {
        self.stop.cancel();
        let (total, failed) = self.task.await.context("the load panicked")?;
        ensure!(
            failed.is_empty(),
            "{} of {total} requests failed: {failed:#?}",
            failed.len()
        );
        Ok(total)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guard_comes_is_rolled_and_goes_without_a_failed_request() -> Result<()> {
    let world = Arc::new(World::shared().await?);
    world
        .with_namespace("guard", async |namespace| {
            programs(&world, namespace).await?;
            // What is judged is the way of the requests; a kubelet that is kept waiting on a busy machine does not end the program.
            let probes = json!({"startup": {"path": "/alive", "failureThreshold": 90}, "readiness": {"path": "/alive"}});
            let two = json!({"replicas": 2, "resilience": {"protocol": "None"}, "probes": probes, "networkPolicy": {"ingressFrom": [{"ipBlock": {"cidr": "0.0.0.0/0"}}]}});
            create(&world, namespace, &service(&world, "python", "python", two)?).await?;
            ready(&world, namespace, "python").await?;
            let watch = lives::Watch::start(&world, namespace, "python");
            let load = Load::start(&world, namespace, "python");
            for (what, change) in [
                ("on", json!({"guard": {"mode": "Sidecar"}, "resilience": null})),
                ("rolled", json!({"podAnnotations": {"example.com/restarted": "once"}})),
                ("off", json!({"guard": {"mode": "Off"}, "resilience": {"protocol": "None"}})),
            ] {
                let started = Instant::now();
                patch(&world, namespace, "python", change).await?;
                let service = ready(&world, namespace, "python").await?;
                ensure!(config(&service) == "2/2", "{what}: CONFIG {}", config(&service));
                eprintln!("{what} after {:.1} s", started.elapsed().as_secs_f64());
                let guards = guards(&world, namespace).await?;
                ensure!((guards > 0) == (what != "off"), "{what}: {guards} guards");
            }
            let total = load.end().await?;
            ensure!(total > 100, "only {total} requests were sent");
            // Both with a guard at first, and both that came after them.
            let ended = eventually(Duration::from_secs(60), || async {
                Some(watch.lives()).filter(|lives| lives.len() >= 4)
            })
            .await;
            for (pod, lives) in ended.context("of a pod with a guard the end was not told")? {
                lives.in_order().with_context(|| pod)?;
            }
            Ok(())
        })
        .await
}

/// Guards in the pods of `python` that are to stay.
async fn guards(world: &World, namespace: &str) -> Result<usize> {
    let selector = ListParams::default().labels("app.kubernetes.io/name=python");
    let pods = world.api::<Pod>(namespace).list(&selector).await?;
    let stay = pods
        .items
        .iter()
        .filter(|pod| pod.metadata.deletion_timestamp.is_none());
    let containers = stay.flat_map(|pod| pod.spec.iter().flat_map(|spec| spec.init_containers.iter().flatten()));
    Ok(containers.filter(|container| container.name == "valerix-guard").count())
}
