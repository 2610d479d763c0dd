//! Experiments that wait for each other.

use super::*;

const FIRST: &str = "/apis/resilience.valerix.io/v1alpha1/namespaces/shop/chaosexperiments/first";

impl Shop {
    /// A second of latency that a condition judges, under this name and after another experiment.
    fn named(&self, name: &str, after: Option<&str>) {
        let mut spec = latency("1s");
        spec["target"] = json!({"service": "inventory"});
        spec["steadyState"] = json!({"probes": [{
            "name": "applied", "interval": "200ms", "condition": {"name": "inventory", "type": "ConfigApplied"},
        }]});
        if let Some(after) = after {
            spec["after"] = json!({"experiment": after});
        }
        self.api.create(
            EXPERIMENTS,
            json!({
                "apiVersion": "resilience.valerix.io/v1alpha1", "kind": "ChaosExperiment",
                "metadata": {"name": name}, "spec": spec,
            }),
        );
    }
}

fn time(status: &Value, field: &str) -> DateTime<Utc> {
    status[field].as_str().unwrap().parse().unwrap()
}

#[tokio::test]
async fn the_second_waits_for_the_first_and_begins_when_it_has_passed() {
    let shop = Shop::open();
    let _operator = shop.operator();
    shop.named("test", Some("first"));
    let waiting = shop
        .until(|status| status["reason"] == json!("WaitingForExperiment"))
        .await;
    assert_eq!(waiting["phase"], json!("Pending"));
    assert!(
        waiting["message"].as_str().unwrap().contains("it does not exist"),
        "{waiting:#}"
    );
    assert_eq!(shop.entries(), 0);
    shop.named("first", None);
    let second = shop.over().await;
    let first = shop.api.get(FIRST).unwrap()["status"].clone();
    assert_eq!(
        (&first["verdict"], &second["verdict"]),
        (&json!("Pass"), &json!("Pass")),
        "{second:#}"
    );
    assert!(
        time(&second, "intentAt") >= time(&first, "completedAt"),
        "{first:#} {second:#}"
    );
}

#[tokio::test]
async fn the_second_is_skipped_when_the_first_did_not_pass() {
    let shop = Shop::open();
    shop.api
        .merge(SERVICE, json!({"spec": {"chaos": {"admission": "Denied"}}}));
    let _operator = shop.operator();
    shop.named("first", None);
    shop.named("test", Some("first"));
    let status = shop.over().await;
    assert_eq!(
        (&status["phase"], &status["reason"]),
        (&json!("Skipped"), &json!("PrecedingVerdict")),
        "{status:#}"
    );
    assert!(
        status["message"]
            .as_str()
            .unwrap()
            .contains("first ended with Skipped (NotAdmitted)"),
        "{status:#}"
    );
}

#[tokio::test]
async fn a_circle_is_refused_and_hurts_nobody() {
    let shop = Shop::open();
    let _operator = shop.operator();
    shop.named("test", Some("first"));
    shop.named("first", Some("test"));
    let status = shop.over().await;
    assert_eq!(
        (&status["phase"], &status["reason"]),
        (&json!("Failed"), &json!("InvalidSpec")),
        "{status:#}"
    );
    let message = status["message"].as_str().unwrap();
    assert!(message.contains("test waits for first waits for test"), "{message}");
    let first = shop
        .api
        .until(FIRST, |found| found["status"]["phase"] == json!("Failed"))
        .await;
    assert!(
        first["status"]["message"]
            .as_str()
            .unwrap()
            .contains("first waits for test waits for first")
    );
    assert_eq!(shop.entries(), 0);
}
