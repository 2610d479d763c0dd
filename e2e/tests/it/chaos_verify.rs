//! Experiments as a pipeline runs them: `valerix-operator verify`, Prometheus as a judge, one experiment after another.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::{path::PathBuf, process::Stdio, time::Duration};
use tokio::process::Command;
use uuid::Uuid;
use valerix_crds::{ChaosExperiment, Verdict};
use valerix_e2e::world::{SHOP, World};

use crate::chaos::{ended, injected};

/// What a verification came to.
struct Verified {
    code: Option<i32>,
    told: String,
    json: Value,
    junit: String,
}

/// Names, files and the program of one verification.
struct Pipeline {
    binary: PathBuf,
    kubeconfig: PathBuf,
    folder: PathBuf,
}

impl Pipeline {
    fn new(world: &World) -> Result<Self> {
        let folder = std::env::temp_dir().join(format!("valerix-verify-{}", Uuid::new_v4().simple()));
        std::fs::create_dir_all(&folder)?;
        Ok(Self {
            binary: world
                .environment
                .operator_binary
                .clone()
                .context("VALERIX_OPERATOR_BINARY is not set; `make e2e` sets it")?,
            kubeconfig: world.environment.kubeconfig.clone(),
            folder,
        })
    }

    fn command(&self, name: &str, spec: &Value) -> Result<Command> {
        let object = json!({
            "apiVersion": "resilience.valerix.io/v1alpha1", "kind": "ChaosExperiment",
            "metadata": {"name": name, "namespace": SHOP}, "spec": spec,
        });
        let path = |extension: &str| self.folder.join(format!("{name}.{extension}"));
        let file = path("yaml");
        std::fs::write(&file, serde_yaml::to_string(&object)?)?;
        let mut command = Command::new(&self.binary);
        command
            .arg("verify")
            .arg("-f")
            .arg(file)
            .args(["--timeout", "4m"])
            .arg("--json")
            .arg(path("json"))
            .arg("--junit")
            .arg(path("xml"))
            .env("KUBECONFIG", &self.kubeconfig)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .kill_on_drop(true);
        Ok(command)
    }

    fn read(&self, name: &str, output: &std::process::Output) -> Result<Verified> {
        let read = |extension: &str| std::fs::read_to_string(self.folder.join(format!("{name}.{extension}")));
        Ok(Verified {
            code: output.status.code(),
            told: String::from_utf8_lossy(&output.stdout).into_owned(),
            json: serde_json::from_str(&read("json")?).context("the report is no JSON")?,
            junit: read("xml")?,
        })
    }

    async fn verify(&self, name: &str, spec: &Value) -> Result<Verified> {
        let output = self.command(name, spec)?.output().await?;
        self.read(name, &output)
    }
}

impl Drop for Pipeline {
    fn drop(&mut self) {
        // What is left of it harms nobody.
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn name(prefix: &str) -> String {
    format!("{prefix}-{}", &Uuid::new_v4().simple().to_string()[..6])
}

/// Five seconds of a little latency, judged by what Prometheus says.
fn judged_by(query: &str, comparator: &str, value: f64) -> Value {
    json!({
        "target": {"service": "inventory"}, "count": "100%", "duration": "5s", "safety": {"minPodAge": "5s"},
        "latency": {"delay": "50ms"},
        "steadyState": {"probes": [
            {"name": "prometheus", "prometheus": {
                "service": "prometheus", "port": 80, "query": query, "comparator": comparator, "value": value,
            }},
            {"name": "asked", "http": {"service": "inventory", "path": "/api/inventory/ps5"}},
        ]},
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pipeline_is_told_the_verdict_by_its_exit_code() -> Result<()> {
    let world = World::with_shop().await?;
    let pipeline = Pipeline::new(&world)?;
    let passing = name("verified");
    let seen = pipeline.verify(&passing, &judged_by("vector(1)", ">=", 1.0)).await?;
    ensure!(seen.code == Some(0) && seen.json["verdict"] == "Pass", "{}", seen.told);
    ensure!(seen.told.contains("Completed: Pass, SteadyStateHeld"), "{}", seen.told);
    ensure!(
        seen.junit.contains("failures=\"0\" errors=\"0\" skipped=\"0\""),
        "{}",
        seen.junit
    );

    // The same experiment, changed in place: a probe that does not hold before the fault, and one that has no number.
    let seen = pipeline.verify(&passing, &judged_by("vector(1)", ">", 1.0)).await?;
    ensure!(
        seen.code == Some(2) && seen.json["reason"] == "SteadyStateNotMet",
        "{}",
        seen.told
    );
    ensure!(
        seen.told.contains("the query comes to 1, which is not > 1"),
        "{}",
        seen.told
    );
    let seen = pipeline.verify(&passing, &judged_by("vector(0) / 0", ">", 1.0)).await?;
    ensure!(
        seen.code == Some(2) && seen.json["reason"] == "ProbeError",
        "{}",
        seen.told
    );
    ensure!(seen.told.contains("the value is NaN"), "{}", seen.told);

    let mut failing = judged_by("vector(1)", ">=", 1.0);
    failing["latency"]["delay"] = json!("1s");
    failing["steadyState"]["probes"][1]["http"]["expect"] = json!({"maxLatency": "500ms"});
    failing["steadyState"]["probes"][1]["failureThreshold"] = json!(1);
    let seen = pipeline.verify(&name("verified"), &failing).await?;
    ensure!(seen.code == Some(1) && seen.json["verdict"] == "Fail", "{}", seen.told);
    ensure!(
        seen.junit.contains("<failure type=\"SteadyStateDeviated\""),
        "{}",
        seen.junit
    );

    let refused = json!({"target": {"service": "inventory"}, "latency": {"delay": "1s"}});
    let seen = pipeline.verify(&name("verified"), &refused).await?;
    ensure!(seen.code == Some(2), "{}", seen.told);
    ensure!(seen.told.contains("duration is required"), "{}", seen.told);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_pipeline_leaves_no_fault() -> Result<()> {
    let world = World::with_shop().await?;
    let pipeline = Pipeline::new(&world)?;
    let name = name("interrupted");
    let mut spec = judged_by("vector(1)", ">=", 1.0);
    spec["duration"] = json!("2m");
    let child = pipeline.command(&name, &spec)?.spawn()?;
    world
        .object(SHOP, &name, "injected", Duration::from_secs(90), injected)
        .await?;
    let process = child.id().context("the program ended before it was interrupted")?;
    let killed = Command::new("kill")
        .args(["-INT", &process.to_string()])
        .status()
        .await?;
    ensure!(killed.success(), "the program could not be interrupted");
    let output = tokio::time::timeout(Duration::from_secs(60), child.wait_with_output()).await??;
    let seen = pipeline.read(&name, &output)?;
    ensure!(
        seen.code == Some(2) && seen.json["verdict"] == "Stopped",
        "{}",
        seen.told
    );
    let experiment = world.api::<ChaosExperiment>(SHOP).get(&name).await?;
    ensure!(ended(&experiment), "{:?}", experiment.status);
    ensure!(experiment.metadata.finalizers.unwrap_or_default().is_empty());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_of_files_runs_one_after_another() -> Result<()> {
    let world = World::with_shop().await?;
    let (first, second) = (name("first"), name("second"));
    let make = |name: &str, after: Option<&str>| {
        let mut spec = judged_by("vector(1)", ">=", 1.0);
        if let Some(after) = after {
            spec["after"] = json!({"experiment": after});
        }
        json!({
            "apiVersion": "resilience.valerix.io/v1alpha1", "kind": "ChaosExperiment",
            "metadata": {"name": name}, "spec": spec,
        })
        .to_string()
    };
    world.create(SHOP, &make(&second, Some(&first))).await?.text()?;
    let waits = |experiment: &ChaosExperiment| {
        let status = experiment.status.as_ref();
        status.and_then(|status| status.reason.as_deref()) == Some("WaitingForExperiment")
    };
    world
        .object(SHOP, &second, "waiting", Duration::from_secs(30), waits)
        .await?;
    world.create(SHOP, &make(&first, None)).await?.text()?;
    let limit = Duration::from_secs(180);
    let second = world
        .object(SHOP, &second, "ended", limit, ended)
        .await?
        .status
        .unwrap_or_default();
    let first = world
        .object(SHOP, &first, "ended", limit, ended)
        .await?
        .status
        .unwrap_or_default();
    ensure!(first.verdict == Some(Verdict::Pass), "{first:?}");
    ensure!(second.verdict == Some(Verdict::Pass), "{second:?}");
    ensure!(second.intent_at >= first.completed_at, "{first:?} {second:?}");

    let alone = name("alone");
    let refused = world.create(SHOP, &make(&alone, Some(&alone))).await?;
    ensure!(
        refused.all().contains("this one would wait for itself"),
        "{}",
        refused.all()
    );
    Ok(())
}
