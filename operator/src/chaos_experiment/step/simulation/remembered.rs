//! What is remembered of a run: who was hurt, when, and what came in its place.

use super::*;
use valerix_crds::AskedBy;

fn over(spec: Value) -> Cluster {
    let mut cluster = Cluster::new(spec);
    cluster.run(3_000, &mut |_| Mishap::None);
    assert!(cluster.is_over(), "{:#?}", cluster.status());
    cluster
}

#[test]
fn each_victim_is_remembered_with_what_took_its_place() {
    let spec = json!({
        "target": {"service": "inventory"}, "podKill": {}, "count": 1, "safety": {"minAvailable": 0},
    });
    let cluster = over(spec);
    let status = cluster.status();
    let victim = &status.targets[0];
    let (went, replaced, ready) = (
        victim.active_at.unwrap(),
        victim.replaced_at.unwrap(),
        victim.ready_again_at.unwrap(),
    );
    assert!(replaced >= went - TimeDelta::seconds(1), "{victim:?}");
    let late = (ready - replaced - REPLACEMENT).abs();
    assert!(late < TimeDelta::milliseconds(1_200), "{victim:?}");
    let past = &status.history[0];
    assert_eq!(past.targets, status.targets);
    assert_eq!(
        (past.asked_by, past.began_at),
        (Some(AskedBy::Creation), status.intent_at)
    );
    assert_eq!(past.message, status.message);
}

#[test]
fn a_process_that_was_ended_is_ready_again_in_its_own_pod() {
    let spec = json!({
        "target": {"service": "inventory"}, "crash": {}, "duration": "20s", "safety": {"minAvailable": 0},
    });
    let cluster = over(spec);
    let victim = &cluster.status().targets[0];
    assert_eq!(victim.replaced_at, None);
    let ready = victim.ready_again_at.unwrap();
    assert!(ready + TimeDelta::seconds(1) > victim.active_at.unwrap(), "{victim:?}");
}

#[test]
fn nobody_was_replaced_where_nobody_went() {
    let cluster = over(json!({"target": {"service": "inventory"}, "latency": {"delay": "1s"}, "duration": "5s"}));
    let victim = &cluster.status().targets[0];
    assert!(victim.active_at.is_some());
    assert_eq!((victim.replaced_at, victim.ready_again_at), (None, None));
}
