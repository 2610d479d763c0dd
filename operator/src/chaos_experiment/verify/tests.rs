//! `verify` against a fake API server, with an operator that does the runs.

use super::*;
use crate::chaos_experiment::wire_tests::shop::{EXPERIMENT, EXPERIMENTS, SERVICE, Shop, latency};
use crate::fake_api::Fault;
use http::Method;
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;
use valerix_crds::Verdict;
use valerix_crds::names::RUN_ANNOTATION;

/// What was told so far; clones share it.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<Vec<u8>>>);

impl Write for Told {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Told {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

/// A verification that goes on.
struct Verification {
    task: AbortOnDropHandle<Outcome>,
    interrupt: mpsc::Sender<()>,
    told: Told,
}

impl Verification {
    fn of(shop: &Shop, request: Request, timeout: Duration) -> Self {
        let (interrupt, interrupts) = mpsc::channel(2);
        let told = Told::default();
        let (client, mut output) = (shop.api.client(), told.clone());
        let task = tokio::spawn(async move {
            let mut outcome = Outcome::new("shop".into(), request.name.clone());
            if let Err(error) = run(client, &request, timeout, &mut outcome, interrupts, &mut output).await {
                outcome.error = Some(error.to_string());
            }
            outcome
        });
        Self {
            task: AbortOnDropHandle::new(task),
            interrupt,
            told,
        }
    }

    async fn end(self) -> (Outcome, String) {
        let outcome = tokio::time::timeout(Duration::from_secs(60), self.task).await;
        (outcome.expect("the verification ends").unwrap(), self.told.text())
    }
}

/// A file with this spec.
fn file(mut spec: Value) -> Request {
    spec["target"] = json!({"service": "inventory"});
    let object = json!({
        "apiVersion": "resilience.valerix.io/v1alpha1", "kind": "ChaosExperiment",
        "metadata": {"name": "test"}, "spec": spec,
    });
    request::parse("experiment.yaml", &object.to_string(), Some("shop")).unwrap()
}

fn by_name(name: &str) -> Request {
    Request {
        name: name.into(),
        namespace: None,
        object: None,
    }
}

/// A second of latency, judged by a condition of the service.
fn judged() -> Value {
    let mut spec = latency("1s");
    spec["steadyState"] = json!({"probes": [{
        "name": "applied", "interval": "200ms", "failureThreshold": 1,
        "condition": {"name": "inventory", "type": "ConfigApplied"},
    }]});
    spec
}

fn set_condition(shop: &Shop, value: &str) {
    let condition = json!([{
        "type": "ConfigApplied", "status": value, "reason": "Set", "message": "",
        "observedGeneration": 1, "lastTransitionTime": "2026-11-21T10:00:00Z",
    }]);
    shop.api.merge(SERVICE, json!({"status": {"conditions": condition}}));
}

const MINUTE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_run_that_passes_is_told_step_by_step_and_can_be_asked_for_again() {
    let shop = Shop::open();
    let _operator = shop.operator();
    let (outcome, told) = Verification::of(&shop, file(judged()), MINUTE).end().await;
    assert_eq!(
        (outcome.verdict(), outcome.exit_code()),
        (Some(Verdict::Pass), 0),
        "{told}"
    );
    let mut at = 0;
    for step in [
        " asked for",
        "Running: Latency for 2 of 2 ready pods",
        "the fault is on in 2/2 targets",
        "the fault is over",
        "steady again",
        "Completed: Pass, SteadyStateHeld",
    ] {
        let found = told[at..]
            .find(step)
            .unwrap_or_else(|| panic!("{step} is missing or too early: {told}"));
        at += found;
    }
    assert_eq!(told.matches("pod inventory-0: Active").count(), 1, "{told}");
    assert_eq!(outcome.json()["targets"].as_array().unwrap().len(), 2);
    assert!(outcome.json()["probes"][0]["passed"].as_u64().unwrap() > 0);

    // The same file once more, and then the experiment as it stands: each is a run of its own.
    let (again, told) = Verification::of(&shop, file(judged()), MINUTE).end().await;
    assert_eq!(again.exit_code(), 0, "{told}");
    let (by_name, told) = Verification::of(&shop, by_name("test"), MINUTE).end().await;
    assert_eq!(by_name.exit_code(), 0, "{told}");
    let stands = shop.api.get(EXPERIMENT).unwrap()["status"]["run"].clone();
    assert_eq!(stands, json!(by_name.run));
    assert!(by_name.run != again.run && again.run != outcome.run);
}

#[tokio::test]
async fn a_run_that_fails_ends_with_one_and_says_which_probe() {
    let shop = Shop::open();
    let _operator = shop.operator();
    let mut spec = judged();
    spec["duration"] = json!("30s");
    let verification = Verification::of(&shop, file(spec), MINUTE);
    shop.until(|status| !status["injectedAt"].is_null()).await;
    set_condition(&shop, "False");
    // The deviation ends the fault; the steady state is then awaited.
    shop.until(|status| status["verdict"] == json!("Fail")).await;
    set_condition(&shop, "True");
    let (outcome, told) = verification.end().await;
    assert_eq!(
        (outcome.verdict(), outcome.exit_code()),
        (Some(Verdict::Fail), 1),
        "{told}"
    );
    assert!(told.contains("probe applied failed for the first time: "), "{told}");
    assert!(told.contains("Completed: Fail, SteadyStateDeviated"), "{told}");
    assert!(outcome.junit().contains("<failure type=\"SteadyStateDeviated\""));
}

#[tokio::test]
async fn a_run_that_was_skipped_ends_with_two() {
    let shop = Shop::open();
    shop.api
        .merge(SERVICE, json!({"spec": {"chaos": {"admission": "Denied"}}}));
    let _operator = shop.operator();
    let (outcome, told) = Verification::of(&shop, file(judged()), MINUTE).end().await;
    assert_eq!(
        (outcome.verdict(), outcome.exit_code()),
        (Some(Verdict::Skipped), 2),
        "{told}"
    );
    assert!(
        told.contains("Skipped: Skipped, NotAdmitted: spec.target.service"),
        "{told}"
    );
    assert!(outcome.junit().contains("<skipped message=\"NotAdmitted: "));
}

#[tokio::test]
async fn an_interrupt_stops_the_run_and_waits_until_its_fault_is_gone() {
    let shop = Shop::open();
    let _operator = shop.operator();
    let verification = Verification::of(&shop, file(latency("60s")), MINUTE);
    shop.until(|status| !status["injectedAt"].is_null()).await;
    verification.interrupt.send(()).await.unwrap();
    let (outcome, told) = verification.end().await;
    assert_eq!(
        (outcome.verdict(), outcome.exit_code()),
        (Some(Verdict::Stopped), 2),
        "{told}"
    );
    assert!(told.contains("asked for the run to be stopped"), "{told}");
    assert!(told.contains("Stopped: Stopped, AbortedByUser"), "{told}");
    assert_eq!(shop.entries(), 0, "the fault is gone when the process ends");
}

#[tokio::test]
async fn without_an_operator_the_time_is_up_and_the_run_never_begins() {
    let shop = Shop::open();
    let (outcome, told) = Verification::of(&shop, file(judged()), Duration::from_secs(1))
        .end()
        .await;
    assert_eq!(outcome.exit_code(), 2, "{told}");
    let error = outcome.error.unwrap();
    assert!(error.contains("no operator has taken the run up"), "{error}");
    assert!(error.contains("the run had not begun and will not"), "{error}");
    let left = shop.api.get(EXPERIMENT).unwrap();
    assert_eq!(
        (
            &left["spec"]["desired"],
            &left["metadata"]["annotations"][RUN_ANNOTATION]
        ),
        (&json!("Stop"), &Value::Null)
    );
    // An operator that comes later runs nothing.
    let _operator = shop.operator();
    let status = shop.until(|status| !status["phase"].is_null()).await;
    assert_eq!(
        (&status["phase"], &status["run"]),
        (&json!("Pending"), &Value::Null),
        "{status:#}"
    );
}

/// A run of somebody else is under way: it goes on, and only what was asked for here is taken back.
#[tokio::test]
async fn a_time_that_is_up_leaves_the_run_of_another_alone() {
    let shop = Shop::open();
    let _operator = shop.operator();
    shop.experiment(latency("60s"));
    shop.until(|status| !status["injectedAt"].is_null()).await;
    let (outcome, told) = Verification::of(&shop, by_name("test"), Duration::from_secs(1))
        .end()
        .await;
    assert_eq!(outcome.exit_code(), 2, "{told}");
    let error = outcome.error.unwrap();
    assert!(error.contains("the run had not begun and will not"), "{error}");
    let left = shop.api.get(EXPERIMENT).unwrap();
    assert_ne!(left["spec"]["desired"], json!("Stop"), "{left:#}");
    assert_eq!(left["metadata"]["annotations"][RUN_ANNOTATION], Value::Null, "{left:#}");
    assert_eq!(
        (&left["status"]["phase"], shop.entries()),
        (&json!("Running"), 1),
        "{left:#}"
    );
}

#[tokio::test]
async fn a_schedule_that_nobody_can_read_is_said_at_once() {
    let shop = Shop::open();
    let _operator = shop.operator();
    let mut spec = judged();
    (spec["schedule"], spec["timeZone"]) = (json!("0 10 * * *"), json!("Europe/Atlantis"));
    // The second time the experiment stands there already.
    for _ in 0..2 {
        let (outcome, told) = Verification::of(&shop, file(spec.clone()), MINUTE).end().await;
        assert_eq!(outcome.exit_code(), 2, "{told}");
        let error = outcome.error.unwrap();
        assert!(error.contains("spec.timeZone: is `Europe/Atlantis`"), "{error}");
    }
}

#[test]
fn a_report_of_a_run_that_another_followed_names_its_victims() {
    let target = json!({"pod": "inventory-0", "uid": "u", "state": "Recovered", "activeAt": "2026-11-21T10:00:01Z"});
    let past: PastRun = serde_json::from_value(json!({
        "run": "ours", "type": "Latency", "at": "2026-11-21T10:00:09Z", "verdict": "Fail", "reason": "SteadyStateDeviated",
        "message": "the steady state broke", "beganAt": "2026-11-21T10:00:00Z", "targets": [target],
    }))
    .unwrap();
    let mut outcome = Outcome::new("shop".into(), "test".into());
    outcome.status = Some(from_history(&past, ChaosExperimentStatus::default()));
    let report = outcome.json();
    assert_eq!(
        (&report["targets"][0]["pod"], &report["message"], &report["type"]),
        (
            &json!("inventory-0"),
            &json!("the steady state broke"),
            &json!("Latency")
        )
    );
    assert_eq!(report["intentAt"], json!("2026-11-21T10:00:00Z"));
    assert!(
        outcome.summary().contains("Latency injected 1/1"),
        "{}",
        outcome.summary()
    );
    // What was seen while it ran is not forgotten for it.
    let seen = ChaosExperimentStatus {
        seed: Some("seed".into()),
        targets: vec![past.targets[0].clone(); 12],
        ..ChaosExperimentStatus::default()
    };
    let both = from_history(&past, seen);
    assert_eq!(
        (both.seed.as_deref(), both.targets.len(), both.verdict),
        (Some("seed"), 12, Some(Verdict::Fail))
    );
}

#[tokio::test]
async fn a_deleted_experiment_is_no_verdict() {
    let shop = Shop::open();
    let _operator = shop.operator();
    let verification = Verification::of(&shop, file(latency("60s")), MINUTE);
    shop.until(|status| !status["injectedAt"].is_null()).await;
    shop.api.delete(EXPERIMENT);
    let (outcome, told) = verification.end().await;
    // Its end may be seen before it goes.
    assert_eq!(outcome.exit_code(), 2, "{told}");
    let deleted = outcome
        .error
        .is_some_and(|error| error.contains("experiment test was deleted"));
    assert!(deleted || told.contains("the experiment is being deleted"), "{told}");
}

#[tokio::test]
async fn what_cannot_be_asked_for_is_said_with_its_remedy() {
    let error = |outcome: Outcome| outcome.error.unwrap();
    let shop = Shop::open();
    let (outcome, _) = Verification::of(&shop, by_name("nobody"), MINUTE).end().await;
    let text = error(outcome);
    assert!(
        text.contains("experiment nobody") && text.contains("correct the name"),
        "{text}"
    );

    shop.api.create(
        EXPERIMENTS,
        json!({
            "apiVersion": "resilience.valerix.io/v1alpha1", "kind": "ChaosExperiment", "metadata": {"name": "test"},
            "spec": {"target": {"service": "inventory"}, "podKill": {}, "desired": "Stop"},
        }),
    );
    let (outcome, _) = Verification::of(&shop, by_name("test"), MINUTE).end().await;
    let text = error(outcome);
    assert!(text.contains("spec.desired is Stop"), "{text}");

    for (code, expected) in [
        (403, "verify needs get, list, watch, create, update and patch"),
        (
            404,
            "CustomResourceDefinition chaosexperiments.resilience.valerix.io is missing",
        ),
        (422, "failed to apply experiment test: injected"),
    ] {
        shop.api.inject(move |request| {
            let applies = request.is_write() && request.path.starts_with(EXPERIMENTS);
            (applies && request.method != Method::DELETE).then_some(Fault::Refuse(code))
        });
        let (outcome, _) = Verification::of(&shop, file(judged()), MINUTE).end().await;
        assert_eq!(outcome.exit_code(), 2);
        let text = error(outcome);
        assert!(text.contains(expected), "{code}: {text}");
    }
}

#[tokio::test]
async fn a_report_that_cannot_be_written_is_said_before_anything_is_hurt() {
    use clap::Parser;
    #[derive(Parser)]
    struct Arguments {
        #[command(flatten)]
        settings: VerifySettings,
    }
    let settings = Arguments::parse_from([
        "verify",
        "-f",
        "/nowhere/experiment.yaml",
        "--junit",
        "/nowhere/junit.xml",
    ]);
    let mut told = Told::default();
    let code = verify(settings.settings, mpsc::channel(1).1, &mut told).await;
    assert_eq!(code, 2);
    assert!(
        told.text().contains("failed to write /nowhere/junit.xml"),
        "{}",
        told.text()
    );
    // A name or a file, and not both.
    for arguments in [
        vec!["verify"],
        vec!["verify", "a", "-f", "b"],
        vec!["verify", "a", "--timeout", "0s"],
    ] {
        assert!(Arguments::try_parse_from(arguments).is_err());
    }
}
