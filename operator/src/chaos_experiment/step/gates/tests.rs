use super::*;
use crate::chaos_experiment::testing::{World, at};
use rstest::rstest;
use serde_json::json;

fn refusal(world: &World) -> &'static str {
    match world.victims() {
        Err(Hold::Refused(ending)) => ending.reason.as_str(),
        Err(Hold::Waiting { reason, .. }) => reason,
        Ok(_) => "-",
    }
}

#[rstest]
#[case::fine(|_: &mut World| {}, "-")]
#[case::missing(|world: &mut World| world.observed.service = None, "TargetNotFound")]
#[case::no_consent(|world: &mut World| world.service().admitted = false, "NotAdmitted")]
#[case::paused(|world: &mut World| world.service().paused = true, "ServicePaused")]
#[case::no_document(|world: &mut World| world.observed.document = None, "TargetNotFound")]
#[case::rollout(|world: &mut World| world.workload().progressing = true, "RolloutInProgress")]
#[case::no_pods(|world: &mut World| world.observed.pods.clear(), "NoTargets")]
#[case::unready(|world: &mut World| world.observed.pods.iter_mut().for_each(|pod| pod.ready = false), "NoTargets")]
#[case::one_is_going(|world: &mut World| world.observed.pods[0].removal = Removal::Deleted(at(100)), "NotEnoughPods")]
#[case::too_many(|world: &mut World| world.spec["count"] = json!(3), "NotEnoughPods")]
#[case::percent_rounds_down(|world: &mut World| world.spec["count"] = json!("49%"), "NoTargets")]
#[case::all_of_them(|world: &mut World| world.spec["count"] = json!("100%"), "NotEnoughPods")]
#[case::other_namespace(|world: &mut World| world.namespace = "other".into(), "EvictionNotAllowed")]
#[case::denied(|world: &mut World| world.namespace = "kube-system".into(), "NamespaceDenied")]
#[case::busy(|world: &mut World| world.lock_by_another(), "TargetBusy")]
#[case::not_judged_yet(|world: &mut World| world.observed.busy = Some("other".into()), "TargetBusy")]
#[case::config_does_not_matter(|world: &mut World| world.service().config_applied = false, "-")]
#[case::cooldown(|world: &mut World| {
    world.spec["safety"] = json!({"cooldown": "5m"});
    world.observed.last_fault_ended_at = Some(world.observed.now - TimeDelta::seconds(299));
}, "Cooldown")]
#[case::cooled(|world: &mut World| {
    world.spec["safety"] = json!({"cooldown": "5m"});
    world.observed.last_fault_ended_at = Some(world.observed.now - TimeDelta::seconds(300));
}, "-")]
#[case::by_hand_there_is_none(|world: &mut World| world.observed.last_fault_ended_at = Some(world.observed.now), "-")]
fn every_gate_of_a_pod_kill(#[case] change: fn(&mut World), #[case] expected: &str) {
    let mut world = World::pod_kill();
    change(&mut world);
    assert_eq!(refusal(&world), expected);
}

#[rstest]
#[case::all_of_them(|world: &mut World| world.spec["count"] = json!("100%"), "-")]
#[case::rollout_does_not_matter(|world: &mut World| world.workload().progressing = true, "-")]
#[case::no_report(|world: &mut World| world.service().reports = false, "ReportMissing")]
#[case::skewed(|world: &mut World| {
    world.report_of(0).skew = TimeDelta::milliseconds(-2_001);
    world.report_of(1).skew = TimeDelta::milliseconds(2_001);
}, "ClockSkew")]
#[case::one_skewed(|world: &mut World| world.report_of(0).skew = TimeDelta::seconds(3), "-")]
#[case::stale_pods(|world: &mut World| world.service().config_applied = false, "WaitingForConfig")]
#[case::elsewhere(|world: &mut World| world.namespace = "other".into(), "-")]
fn every_gate_of_latency(#[case] change: fn(&mut World), #[case] expected: &str) {
    let mut world = World::latency();
    change(&mut world);
    assert_eq!(refusal(&world), expected);
}

const SEES_REQUESTS: GuardView = GuardView { sees_requests: true };
const TCP_ALONE: GuardView = GuardView { sees_requests: false };

/// What is refused because of a guard names the field, what is wrong, and what to write instead.
#[rstest]
#[case::requests(SEES_REQUESTS, json!({"errors": {"routes": ["GET /a"]}}), "-")]
#[case::routes(SEES_REQUESTS, json!({"latency": {"delay": "1s", "routes": ["GET /a"]}}), "-")]
#[case::its_process(SEES_REQUESTS, json!({"crash": {"times": 1}}), "spec: Crash acts on the process that obeys it")]
#[case::its_processor(SEES_REQUESTS, json!({"cpuStress": {"loadPercent": 1, "workers": 1}}), "spec: CpuStress acts on the process that obeys it")]
#[case::its_memory(SEES_REQUESTS, json!({"memoryStress": {"size": "1Mi"}}), "spec: MemoryStress acts on the process that obeys it")]
#[case::connections_are_late(TCP_ALONE, json!({"latency": {"delay": "1s"}}), "-")]
#[case::connections_are_refused(TCP_ALONE, json!({"refuse": {}}), "-")]
#[case::connections_are_cut(TCP_ALONE, json!({"abort": {"percent": 50}}), "-")]
#[case::connections_are_lost(TCP_ALONE, json!({"partition": {"peer": "order", "direction": "Egress"}}), "-")]
#[case::of_a_caller(SEES_REQUESTS, json!({"partition": {"peer": "order", "direction": "Ingress"}}), "-")]
#[case::of_nobody(TCP_ALONE, json!({"partition": {"peer": "order", "direction": "Ingress"}}), "spec.partition.direction Ingress acts on requests")]
#[case::evicted(TCP_ALONE, json!({"podKill": {}}), "-")]
#[case::no_answer_to_forge(TCP_ALONE, json!({"errors": {}}), "spec.errors acts on requests")]
#[case::no_route(TCP_ALONE, json!({"latency": {"delay": "1s", "routes": ["GET /a"]}}), "spec.latency.routes acts on requests")]
#[case::no_route_to_abort(TCP_ALONE, json!({"abort": {"percent": 50, "routes": ["GET /a"]}}), "spec.abort.routes acts on requests")]
fn a_guard_is_asked_for_what_it_can_do(
    #[case] guard: GuardView,
    #[case] fault: serde_json::Value,
    #[case] expected: &str,
) {
    let mut world = World::latency();
    if let Some(spec) = world.spec.as_object_mut() {
        spec.remove("latency");
        spec.extend(fault.as_object().unwrap().clone());
    }
    world
        .observed
        .pods
        .iter_mut()
        .for_each(|pod| pod.ready_since = Some(at(0)));
    world.add_pods(2);
    world.service().guard = Some(guard);
    let told = match world.victims() {
        Err(Hold::Refused(ending)) => {
            assert_eq!(ending.reason, Reason::InvalidSpec, "{}", ending.message);
            assert!(ending.message.contains("; use "), "{}", ending.message);
            ending.message
        }
        Err(Hold::Waiting { message, .. }) => message,
        Ok(_) => "-".to_owned(),
    };
    assert!(told.starts_with(expected), "{told}");
}

fn placed() -> World {
    let mut world = World::latency();
    world.add_pods(2);
    for (index, pod) in world.observed.pods.iter_mut().enumerate() {
        pod.zone = Some(format!("west-{}", index % 2));
        pod.labels = [(
            "track".to_owned(),
            if index < 2 { "canary" } else { "stable" }.to_owned(),
        )]
        .into();
    }
    world
}

#[test]
fn only_pods_of_the_zone_and_with_the_labels_are_hurt() {
    let mut world = placed();
    world.spec["count"] = json!("50%");
    world.spec["target"] = json!({"service": "inventory", "zone": "west-1"});
    let victims = world.victims().unwrap();
    assert_eq!(victims.len(), 1, "half of two, not of four");
    assert_eq!(victims[0].zone.as_deref(), Some("west-1"));

    world.spec["target"]["podSelector"] = json!({"matchLabels": {"track": "stable"}});
    assert_eq!(refusal(&world), "NoTargets", "half of one is nobody");
    world.spec["count"] = json!(1);
    let victims = world.victims().unwrap();
    assert_eq!(victims[0].uid, "pod-uid-3");

    let spared = spared(&world.plan(), &world.observed, &victims);
    let reasons: Vec<_> = spared
        .iter()
        .map(|pod| (pod.pod.as_str(), pod.reason.as_str()))
        .collect();
    assert_eq!(
        reasons,
        [
            ("inventory-0", "it is in west-0 and not in spec.target.zone west-1"),
            (
                "inventory-1",
                "it has no label track=stable, which spec.target.podSelector asks for"
            ),
            ("inventory-2", "it is in west-0 and not in spec.target.zone west-1"),
        ]
    );
}

#[test]
fn a_pod_whose_zone_is_not_known_is_in_none() {
    let mut world = placed();
    world.spec["target"] = json!({"service": "inventory", "zone": "west-1"});
    world.observed.pods.iter_mut().for_each(|pod| pod.zone = None);
    let Err(Hold::Refused(ending)) = world.victims() else {
        panic!("somebody was chosen")
    };
    assert!(
        ending.message.contains("of inventory in zone west-1"),
        "{}",
        ending.message
    );
}

#[test]
fn what_a_dry_run_says_of_each_pod_that_it_spares() {
    let mut world = World::latency();
    world.add_pods(3);
    world.observed.pods[0].removal = Removal::Deleted(at(100));
    world.observed.pods[1].ready = false;
    world.report_of(2).skew = TimeDelta::seconds(3);
    world.observed.pods[3].created_at = at(90);
    let victims = vec![world.observed.pods[4].clone()];
    let spared = spared(&world.plan(), &world.observed, &victims);
    for (pod, word) in spared.iter().zip(["removed", "not ready", "clock", "minPodAge"]) {
        assert!(pod.reason.contains(word), "{pod:?}");
    }
    assert_eq!(spared.len(), 4);
}

#[test]
fn young_pods_are_awaited_just_long_enough() {
    let mut world = World::pod_kill();
    world.observed.pods[0].created_at = at(95);
    world.observed.pods[1].created_at = at(90);
    assert!(matches!(world.victims(), Err(Hold::Waiting { until, .. }) if until == at(120)));
    world.observed.now = at(120);
    assert_eq!(world.victims().unwrap()[0].uid, world.observed.pods[1].uid);
}

#[test]
fn the_lot_is_the_same_after_a_restart_and_another_in_the_next_run() {
    let mut world = World::pod_kill();
    world.add_pods(20);
    let first = world.victims().unwrap();
    assert_eq!(world.victims().unwrap(), first);
    world.observed.pods.reverse();
    assert_eq!(world.victims().unwrap(), first);
    let mut others = (0..20).map(|run| {
        world.run = format!("run-{run}");
        world.victims().unwrap()
    });
    assert!(others.any(|victims| victims != first));
}

#[test]
fn a_schedule_has_a_cooldown_of_five_minutes() {
    let mut world = World::pod_kill();
    world.observed.last_fault_ended_at = Some(world.observed.now - TimeDelta::seconds(299));
    world.scheduled = true;
    assert_eq!(refusal(&world), "Cooldown");
}

#[test]
fn what_keeps_the_service_alive_is_asked_again_when_it_fires() {
    let mut world = World::pod_kill();
    let targets: Vec<_> = world.victims().unwrap().iter().map(World::target).collect();
    assert_eq!(world.at_fire(&targets), Ok(()));
    // A node was drained since: the other pod is all that is left.
    let other = world
        .observed
        .pods
        .iter()
        .position(|pod| pod.uid != targets[0].uid)
        .unwrap();
    world.observed.pods[other].removal = Removal::Deleted(at(100));
    assert_eq!(world.at_fire(&targets).unwrap_err().reason, Reason::NotEnoughPods);
    assert_eq!(
        one_more(&world.plan(), &world.observed).unwrap_err().reason,
        Reason::NotEnoughPods
    );

    let mut world = World::pod_kill();
    world.workload().progressing = true;
    assert_eq!(world.at_fire(&targets).unwrap_err().reason, Reason::RolloutInProgress);
    let mut world = World::latency();
    world.service().admitted = false;
    assert_eq!(world.at_fire(&targets).unwrap_err().reason, Reason::NotAdmitted);
}

#[test]
fn a_target_whose_last_fault_is_not_judged_yet_is_not_hurt_again() {
    let mut world = World::latency();
    let targets = [World::target(&world.observed.pods[0])];
    assert_eq!(world.at_fire(&targets), Ok(()));
    world.observed.unjudged = Some("other".into());
    assert_eq!(world.at_fire(&targets).unwrap_err().reason, Reason::TargetBusy);
}

#[test]
fn a_process_is_not_ended_in_the_second_in_which_another_one_ended_there() {
    let mut world = World::latency();
    world.spec = json!({"target": {"service": "inventory"}, "crash": {}, "duration": "30s", "count": "50%"});
    for pod in &mut world.observed.pods {
        pod.process_ended_at = Some(at(100));
    }
    world.observed.now = at(100) + TimeDelta::milliseconds(900);
    let Err(Hold::Waiting { until, .. }) = world.victims() else {
        panic!("{:?}", world.victims())
    };
    assert_eq!(until, at(101));
    world.observed.now = until;
    assert_eq!(world.victims().unwrap().len(), 1);
    // No other fault is told from its end by that.
    world.observed.now = at(100);
    world.spec = json!({"target": {"service": "inventory"}, "refuse": {}, "duration": "30s", "count": "50%"});
    assert_eq!(world.victims().unwrap().len(), 1);
}
