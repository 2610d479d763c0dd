//! PostgreSQL behind a guard, asked by a client behind another: statements pass, a fault is what the client sees of it, and
//! afterwards all is as before.

use anyhow::{Context, Result, ensure};
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use valerix_crds::{ChaosExperiment, ChaosPhase};
use valerix_e2e::{
    kubectl::{Output, kubectl_with},
    world::{World, eventually},
};

use crate::guard::{create, has_ended, is_injected, object, phase, ready, restarts};

pub(crate) const PASSWORD: &str = "of-a-test";
/// Asks for the statement that bash has as `$0`, where the client's guard listens for the database.
const ASK: &str = r#"ask() {
    /usr/lib/postgresql/15/bin/psql -X -h "${VALERIX_TARGET_DATABASE_ADDR%:*}" -p "${VALERIX_TARGET_DATABASE_ADDR##*:}" \
        -U postgres -d postgres -v ON_ERROR_STOP=1 -Atc "$1"
}"#;
/// Milliseconds that each of seven clients takes, from its start to its end with one row.
const TIMES: &str = r#"for turn in 1 2 3 4 5 6 7; do
    began=$EPOCHREALTIME; ask 'select 1' >/dev/null || exit; ended=$EPOCHREALTIME
    echo $(((${ended/./} - ${began/./}) / 1000))
done"#;
/// A statement that is under way for longer than the test.
const LONG: &str = "select pg_sleep(600)";
const WITHIN: Duration = Duration::from_secs(30);

/// As the shop's chart has it with `postgres.guarded`, but for the volume.
pub(crate) fn database(world: &World) -> Result<Value> {
    let is_ready = json!(["pg_isready", "-q", "-h", "127.0.0.1", "-U", "postgres"]);
    let spec = json!({
        "image": world.environment.images.of("postgres")?,
        "args": ["-c", "unix_socket_directories=/tmp"],
        "ports": [{"name": "postgres", "containerPort": 5432}],
        "env": [
            {"name": "PGDATA", "value": "/var/lib/postgresql/data/pgdata"},
            {"name": "PGHOST", "value": "/tmp"},
            {"name": "POSTGRES_PASSWORD", "value": PASSWORD}
        ],
        "securityContext": {"runAsUser": 999, "runAsGroup": 999, "fsGroup": 999},
        "volumes": [{"name": "data", "emptyDir": {}}, {"name": "run", "emptyDir": {}}],
        "volumeMounts": [
            {"name": "data", "mountPath": "/var/lib/postgresql/data"},
            {"name": "run", "mountPath": "/var/run/postgresql"}
        ],
        "probes": {
            "startup": {"type": "Exec", "command": is_ready, "failureThreshold": 120},
            "readiness": {"type": "Exec", "command": is_ready, "periodSeconds": 5, "timeoutSeconds": 3}
        },
        "chaos": {"admission": "Allowed"},
        "guard": {"mode": "Sidecar", "inbound": {"ports": [{"name": "postgres", "protocol": "TCP"}]}}
    });
    Ok(object("ResilientService", "database", spec))
}

/// Holds PostgreSQL's programs and a guard, and does nothing by itself.
fn client(world: &World) -> Result<Value> {
    let spec = json!({
        "image": world.environment.images.of("postgres")?,
        // The first process of a container has no default for the signal.
        "command": ["bash", "-c", "trap exit TERM; sleep infinity & wait"],
        "env": [{"name": "PGPASSWORD", "value": PASSWORD}, {"name": "PGCONNECT_TIMEOUT", "value": "10"}],
        "securityContext": {"runAsUser": 999, "runAsGroup": 999},
        "guard": {"mode": "Sidecar"},
        "resilience": {"targets": [{"name": "database", "url": "tcp://database:5432", "timeout": {"connect": "500ms"}}]}
    });
    Ok(object("ResilientService", "client", spec))
}

/// Runs a script in the client's container.
async fn run(world: &World, namespace: &str, script: &str, argument: &str) -> Result<Output> {
    let script = format!("{ASK}\n{script}");
    #[rustfmt::skip]
    let arguments = [
        "exec", "-n", namespace, "deployment/client", "-c", "client", "--", "bash", "-c", &script, argument,
    ];
    kubectl_with(&world.environment, &arguments, None).await
}

/// What the client hears to a statement.
async fn ask(world: &World, namespace: &str, statement: &str) -> Result<Output> {
    run(world, namespace, r#"ask "$0""#, statement).await
}

async fn rows(world: &World, namespace: &str, statement: &str) -> Result<String> {
    Ok(ask(world, namespace, statement).await?.text()?.trim().to_owned())
}

/// What the quickest of seven clients takes, in milliseconds.
async fn quickest(world: &World, namespace: &str) -> Result<u32> {
    let times = run(world, namespace, TIMES, "times").await?.text()?;
    let times: Vec<u32> = times.lines().map(str::parse).collect::<Result<_, _>>()?;
    times.into_iter().min().context("nothing was measured")
}

/// Lets a fault be in force while `look` looks, and waits for its end.
async fn under<T>(
    world: &World,
    namespace: &str,
    name: &str,
    fault: Value,
    look: impl AsyncFnOnce() -> Result<T>,
) -> Result<T> {
    let mut spec = json!({
        "target": {"service": "database"}, "duration": "2m",
        "safety": {"minPodAge": "1s", "minAvailable": 0}
    });
    spec[name] = fault;
    create(world, namespace, &object("ChaosExperiment", name, spec)).await?;
    world.object(namespace, name, "injected", WITHIN, is_injected).await?;
    let seen = look().await.with_context(|| format!("under {name}"))?;
    let stop = Patch::Merge(json!({"spec": {"desired": "Stop"}}));
    let experiments = world.api::<ChaosExperiment>(namespace);
    experiments.patch(name, &PatchParams::default(), &stop).await?;
    let ended = world.object(namespace, name, "the end", WITHIN, has_ended).await?;
    ensure!(phase(&ended) == Some(ChaosPhase::Stopped), "{:?}", ended.status);
    Ok(seen)
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_is_late_is_gone_and_comes_back() -> Result<()> {
    let world = World::alone().await?;
    world
        .with_namespace("guard", async |namespace| {
            create(&world, namespace, &database(&world)?).await?;
            create(&world, namespace, &client(&world)?).await?;
            ready(&world, namespace, "database").await?;
            ready(&world, namespace, "client").await?;
            // Pods that are ready are not yet where the Service leads.
            let reached = eventually(WITHIN, || async { rows(&world, namespace, "select 1").await.ok() }).await;
            reached.context("the client does not reach the database")?;
            let made = "create table kept (what text); insert into kept values ('before')";
            rows(&world, namespace, made).await?;

            let before = quickest(&world, namespace).await?;
            under(&world, namespace, "latency", json!({"delay": "600ms"}), async || {
                let late = quickest(&world, namespace).await?;
                eprintln!("{before} ms, then {late} ms");
                // A connection is late once, and not each of the messages by which a client signs in.
                ensure!(
                    (600..before + 700).contains(&late),
                    "the quickest client took {late} ms, and {before} ms without the 600 ms that were asked for"
                );
                Ok(())
            })
            .await?;

            cut_and_refused(&world, namespace).await?;

            let back = eventually(Duration::from_secs(20), || async {
                rows(&world, namespace, "select what from kept").await.ok()
            })
            .await;
            ensure!(back.as_deref() == Some("before"), "the client finds {back:?}");
            let after = quickest(&world, namespace).await?;
            ensure!(
                after < 600,
                "a client takes {after} ms after all faults, and {before} ms before them"
            );
            for name in ["database", "client"] {
                let ended = restarts(&world, namespace, name).await?;
                ensure!(ended == 0, "{name}: containers ended {ended} times");
            }
            Ok(())
        })
        .await
}

/// A client that waits for its answer loses its connection, and one that comes is refused, both at once.
async fn cut_and_refused(world: &World, namespace: &str) -> Result<()> {
    let waiting = async {
        let heard = ask(world, namespace, LONG).await?;
        anyhow::Ok((heard, Instant::now()))
    };
    let refusing = async {
        let under_way = format!("select count(*) from pg_stat_activity where state = 'active' and query = '{LONG}'");
        let begun = eventually(WITHIN, || async {
            let open = rows(world, namespace, &under_way).await.ok()?;
            (open == "1").then_some(())
        })
        .await;
        begun.context("the long statement does not begin")?;
        let refused_at = under(world, namespace, "refuse", json!({}), async || {
            let asked = Instant::now();
            let heard = ask(world, namespace, "select 1").await?;
            let took = asked.elapsed();
            ensure!(!heard.success, "a client is let in");
            // What it waits for at the longest is a connection, ten seconds.
            ensure!(
                took < Duration::from_secs(8),
                "it takes {took:?} to be refused: {}",
                heard.all()
            );
            Ok(asked)
        });
        anyhow::Ok((refused_at.await?, Instant::now()))
    };
    let both = async { tokio::try_join!(waiting, refusing) };
    let both = tokio::time::timeout(Duration::from_secs(180), both).await;
    let ((heard, cut_at), (refused_at, over)) = both.context("a client still waits for its answer")??;
    ensure!(
        !heard.success && heard.all().contains("connection to server was lost"),
        "who waited heard: {}",
        heard.all()
    );
    ensure!(
        cut_at < refused_at + Duration::from_secs(5) && cut_at < over,
        "who waited was cut {:?} after others were refused",
        cut_at.duration_since(refused_at)
    );
    Ok(())
}
