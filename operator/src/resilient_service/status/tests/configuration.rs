//! When a configuration counts as applied, and when it is overdue.

use super::*;

#[test]
fn config_applied_says_what_pods_say() {
    let service = service(spec(2));
    let current = || Some(json!({"policy": {"hash": hash(&service)}}));
    let rejecting = Some(json!({"policy": {"hash": "old", "error": "version is 9"}}));
    let mut unreachable = pod(2, Some(json!({"policy": {"hash": "old"}})));
    unreachable.1.contact = Contact {
        answered_at: Some(now() - chrono::TimeDelta::seconds(241)),
        failing: Some(Failing {
            since: now(),
            error: "no answer in time".into(),
        }),
    };
    let mut silent = pod(2, None);
    silent.1.contact.failing = Some(Failing {
        since: now(),
        error: "connection refused".into(),
    });
    let short = &hash(&service)[..12];
    let cases = [
        (vec![], "False/WaitingForPods", "no pod is ready yet".to_owned(), (0, 0)),
        (
            vec![pod(1, current()), pod(2, Some(json!({"policy": {"hash": "old"}})))],
            "False/WaitingForPods",
            format!("1 of 2 ready pods run configuration {short}; pod order-2 still runs another one"),
            (1, 0),
        ),
        (
            vec![pod(1, current()), silent],
            "False/WaitingForPods",
            format!(
                "1 of 2 ready pods run configuration {short}; pod order-2 has not reported yet: connection refused (an image without the library needs spec.guard.mode: Sidecar, or spec.resilience.protocol: None)"
            ),
            (1, 0),
        ),
        (
            vec![pod(1, current()), unreachable],
            "Unknown/PodUnreachable",
            format!("1 of 2 ready pods run configuration {short}; pod order-2 has not answered for 240s"),
            (1, 0),
        ),
        (
            vec![pod(1, current()), pod(2, rejecting)],
            "False/RejectedByPods",
            format!(
                "1 of 2 ready pods run configuration {short}; pod order-2 refuses it and keeps the last good one: version is 9"
            ),
            (1, 1),
        ),
    ];
    for (pods, expected, message, counts) in cases {
        let status = judge(&service, &seen(2, 2, pods));
        let condition = find_condition(&status.conditions, "ConfigApplied").unwrap();
        assert_eq!(format!("{}/{}", condition.status, condition.reason), expected);
        assert_eq!(condition.message, message);
        let config = status.config.unwrap();
        assert_eq!((config.applied_replicas, config.rejected_replicas), counts);
    }
}

#[test]
fn waiting_has_a_deadline() {
    let service = service(spec(1));
    let observed = seen(1, 1, vec![pod(1, Some(json!({"policy": {"hash": "old"}})))]);
    let after = |second| {
        let remembered = Remembered {
            awaited_since: Some(now()),
            ..Remembered::default()
        };
        let later = now() + chrono::TimeDelta::seconds(second);
        super::super::status(&service, &observed, &work(&service), remembered, later)
    };
    for (second, left) in [(0, 60), (59, 1)] {
        let judged = after(second);
        assert_eq!(shown(&judged.status, "ConfigApplied"), "False/WaitingForPods");
        assert_eq!(judged.look_again, Some(Duration::from_secs(left)));
    }
    let judged = after(60);
    assert_eq!(
        (shown(&judged.status, "ConfigApplied").as_str(), judged.look_again),
        ("False/DeadlineExceeded", None)
    );
    assert_eq!(shown(&judged.status, "Stalled"), "True/DeadlineExceeded");
    // An operator that starts now does not begin anew, and forgets it for another configuration.
    let current = hash(&service);
    assert_eq!(
        overdue_since(&judged.status, &current),
        Some(now() + chrono::TimeDelta::seconds(60))
    );
    assert_eq!(overdue_since(&judged.status, "another"), None);
    assert_eq!(overdue_since(&after(59).status, &current), None);
}

#[test]
fn an_unreachable_pod_is_one_that_fails_for_twice_the_wait() {
    let service = service(spec(1));
    let verdict = |hash: &str, silent: i64, fails: bool| {
        let mut pod = pod(1, Some(json!({"policy": {"hash": hash}})));
        pod.1.contact = Contact {
            answered_at: Some(now() - chrono::TimeDelta::seconds(silent)),
            failing: fails.then(|| Failing {
                since: now(),
                error: "refused".into(),
            }),
        };
        shown(&judge(&service, &seen(1, 1, vec![pod])), "ConfigApplied")
    };
    let current = hash(&service);
    assert_eq!(verdict(&current, 500, false), "True/AllPodsCurrent");
    assert_eq!(verdict(&current, 239, true), "True/AllPodsCurrent");
    assert_eq!(verdict(&current, 240, true), "Unknown/PodUnreachable");
}

#[test]
fn what_pods_say_is_weighed() {
    let current = |service: &Arc<ResilientService>| Some(json!({"policy": {"hash": hash(service)}}));
    let behind = || Some(json!({"policy": {"hash": "old"}}));
    let two = service(spec(2));
    // An error beside the right hash is of an earlier document.
    let recovered = json!({"policy": {"hash": hash(&two), "error": "version is 9"}});
    let status = judge(&two, &seen(2, 2, vec![pod(1, current(&two)), pod(2, Some(recovered))]));
    assert_eq!(shown(&status, "ConfigApplied"), "True/AllPodsCurrent");
    // One pod is silent for good, another may still come: that is waited for.
    let mut unreachable = pod(1, behind());
    unreachable.1.contact = Contact {
        answered_at: Some(now() - chrono::TimeDelta::seconds(300)),
        failing: Some(Failing {
            since: now(),
            error: "refused".into(),
        }),
    };
    let status = judge(&two, &seen(2, 2, vec![unreachable, pod(2, behind())]));
    assert_eq!(shown(&status, "ConfigApplied"), "False/WaitingForPods");
    // Refused for good: somebody must act.
    let refusing = json!({"policy": {"hash": "old", "error": "version is 9"}});
    let status = judge(&two, &seen(2, 2, vec![pod(1, current(&two)), pod(2, Some(refusing))]));
    assert_eq!(shown(&status, "Stalled"), "True/RejectedByPods");
    // Scaled to zero, and a pod is still there.
    let none = service(spec(0));
    let status = judge(&none, &seen(1, 1, vec![pod(1, behind())]));
    assert_eq!(shown(&status, "ConfigApplied"), "False/WaitingForPods");
    // The first by name is told, whatever its UID.
    let (_, second) = pod(2, behind());
    let mut observed = seen(2, 2, vec![pod(1, behind())]);
    observed.ready_pods.insert("a".into(), second);
    let status = judge(&two, &observed);
    let message = &find_condition(&status.conditions, "ConfigApplied").unwrap().message;
    assert!(message.ends_with("pod order-1 still runs another one"), "{message}");
}

#[test]
fn the_deadline_is_the_one_of_the_specification() {
    let mut long = spec(1);
    long["configReload"] = json!({"deadline": "90s"});
    let service = service(long);
    let observed = seen(1, 1, vec![pod(1, Some(json!({"policy": {"hash": "other"}})))]);
    let after = |second: i64| {
        let remembered = Remembered {
            awaited_since: Some(now() - chrono::TimeDelta::seconds(second)),
            ..Remembered::default()
        };
        let judged = super::super::status(&service, &observed, &work(&service), remembered, now());
        shown(&judged.status, "ConfigApplied")
    };
    assert_eq!(after(89), "False/WaitingForPods");
    assert_eq!(after(90), "False/DeadlineExceeded");
}

#[test]
fn only_ready_pods_that_report_and_do_not_follow_can_exceed_the_deadline() {
    let late = |service: &Arc<ResilientService>, observed: &Observed| {
        let remembered = Remembered {
            awaited_since: Some(now() - chrono::TimeDelta::seconds(300)),
            ..Remembered::default()
        };
        shown(
            &super::super::status(service, observed, &work(service), remembered, now()).status,
            "ConfigApplied",
        )
    };
    let reporting = service(spec(1));
    assert_eq!(late(&reporting, &seen(1, 0, vec![])), "False/WaitingForPods");
    // A rollout that takes long is the rollout's to say.
    let silent = service(json!({"image": "redis", "replicas": 1, "resilience": {"protocol": "None"}}));
    let mut rolling = seen(2, 1, vec![pod(1, None)]);
    rolling.replica_sets = vec![replica_set("one", "0"), replica_set("two", "1")];
    assert_eq!(late(&silent, &rolling), "False/WaitingForPods");
}

#[test]
fn the_time_of_application_moves_only_when_more_pods_run_it() {
    let mut service = ResilientService::clone(&service(spec(2)));
    let wanted = hash(&Arc::new(service.clone()));
    let current = |number| pod(number, Some(json!({"policy": {"hash": wanted}})));
    let behind = |number| pod(number, Some(json!({"policy": {"hash": "old"}})));
    let mut applied_at = |pods, second| {
        let later = now() + chrono::TimeDelta::seconds(second);
        let this = Arc::new(service.clone());
        let new = status(&this, &seen(2, 2, pods), &work(&this), later).status;
        let time = new.config.as_ref().unwrap().last_applied_time;
        service.status = Some(new);
        time.map(|time| (time - now()).num_seconds())
    };
    assert_eq!(applied_at(vec![behind(1), behind(2)], 0), None);
    assert_eq!(applied_at(vec![current(1), behind(2)], 1), Some(1));
    assert_eq!(applied_at(vec![current(1), behind(2)], 2), Some(1));
    assert_eq!(applied_at(vec![current(1), current(2)], 3), Some(3));
    assert_eq!(applied_at(vec![current(1)], 4), Some(3));
    // Another configuration was in force before: this one is applied anew.
    let config = service.status.as_mut().unwrap().config.as_mut().unwrap();
    (config.hash, config.applied_replicas) = ("before".into(), 2);
    let later = now() + chrono::TimeDelta::seconds(9);
    let this = Arc::new(service.clone());
    let new = status(&this, &seen(2, 2, vec![current(1), current(2)]), &work(&this), later).status;
    assert_eq!(new.config.unwrap().last_applied_time, Some(later));
}

#[test]
fn a_pod_that_failed_to_answer_was_asked() {
    let (uid, mut silent) = pod(1, None);
    let asked = |pod: &ReadyPod| !seen(1, 1, vec![(uid.clone(), pod.clone())]).has_unasked_pods();
    assert!(!asked(&silent));
    silent.contact.failing = Some(Failing {
        since: now(),
        error: "refused".into(),
    });
    assert!(asked(&silent));
}

#[test]
fn pods_of_an_earlier_template_are_the_rollouts_to_say_however_long_it_takes() {
    let service = service(spec(2));
    let of_template = |template: &str, (uid, mut pod): (String, ReadyPod)| {
        pod.template = Some(template.into());
        (uid, pod)
    };
    let refusing = json!({"policy": {"hash": "old", "error": "version is 9"}});
    // Asked at a port that it does not have.
    let mut deaf = pod(3, None);
    deaf.1.contact.failing = Some(Failing {
        since: now(),
        error: "connection refused".into(),
    });
    let rolling = |new: Option<Value>| {
        let new = of_template("two", pod(1, new));
        let mut observed = seen(3, 3, vec![new, pod(2, Some(refusing.clone())), deaf.clone()]);
        observed.replica_sets = vec![replica_set("one", "0"), replica_set("two", "1")];
        observed
    };
    let after = |observed: &Observed, seconds: i64| {
        let since = now() - chrono::TimeDelta::seconds(seconds);
        let rollout = Rollout::of(observed, "order");
        let remembered = Remembered {
            awaited_since: observed.awaits(&hash(&service), &rollout, now()).then_some(since),
            ..Remembered::default()
        };
        super::super::status(&service, observed, &work(&service), remembered, now()).status
    };
    let current = rolling(Some(json!({"policy": {"hash": hash(&service)}})));
    let status = after(&current, 300);
    assert_eq!(shown(&status, "ConfigApplied"), "False/WaitingForPods");
    assert_eq!(shown(&status, "Stalled"), "");
    let config = status.config.clone().unwrap();
    assert_eq!((config.applied_replicas, config.rejected_replicas), (1, 0));
    let message = &find_condition(&status.conditions, "ConfigApplied").unwrap().message;
    assert!(
        message.ends_with("pod order-2 is of an earlier template and still ready"),
        "{message}"
    );
    // One that stays has its deadline all the same, and its refusal counts.
    let late = after(&rolling(Some(json!({"policy": {"hash": "old"}}))), 300);
    assert_eq!(shown(&late, "ConfigApplied"), "False/DeadlineExceeded");
    assert_eq!(
        shown(&after(&rolling(Some(refusing.clone())), 0), "Stalled"),
        "True/RejectedByPods"
    );
}

#[test]
fn what_pods_refuse_counts_once_kubernetes_has_seen_which_of_them_are_to_go() {
    let mut service = ResilientService::clone(&service(spec(1)));
    let unseen = |service: &Arc<ResilientService>| {
        let refusing = json!({"policy": {"hash": "old", "error": "version is 9"}});
        let mut observed = seen(1, 1, vec![pod(1, Some(refusing))]);
        let mut newer = Deployment::clone(&observed.children.deployments[0]);
        newer.metadata.generation = Some(2);
        let written = with_outcome(service, "Deployment", Applied::Updated);
        let just_written = status(service, &observed, &written, now()).status;
        let seen = judge(service, &observed);
        observed.children.deployments = vec![Arc::new(newer)];
        [just_written, judge(service, &observed), seen]
    };
    let [just_written, lagging, seen] = unseen(&Arc::new(service.clone()));
    for status in [&just_written, &lagging] {
        assert_eq!(shown(status, "ConfigApplied"), "False/WaitingForPods");
        assert_eq!(shown(status, "Stalled"), "");
        assert_eq!(status.config.as_ref().unwrap().rejected_replicas, 0);
    }
    assert_eq!(shown(&seen, "Stalled"), "True/RejectedByPods");
    // Another number of pods is no reason to take it back.
    service.status = Some(seen);
    let [_, lagging, _] = unseen(&Arc::new(service));
    assert_eq!(shown(&lagging, "Stalled"), "True/RejectedByPods");
}

#[test]
fn a_restart_of_the_operator_makes_no_alarm_of_a_pod_that_could_not_be_asked_before() {
    let mut service = ResilientService::clone(&service(spec(2)));
    let wanted = hash(&Arc::new(service.clone()));
    let current = || Some(json!({"policy": {"hash": wanted}}));
    let mut cut_off = pod(2, current());
    cut_off.1.contact = Contact {
        answered_at: Some(now() - chrono::TimeDelta::seconds(240)),
        failing: Some(Failing {
            since: now(),
            error: "no answer in time".into(),
        }),
    };
    let this = Arc::new(service.clone());
    let before = judge(&this, &seen(2, 2, vec![pod(1, current()), cut_off.clone()]));
    assert_eq!(shown(&before, "ConfigApplied"), "Unknown/PodUnreachable");
    service.status = Some(before);
    // Its report is forgotten; that it does not answer was found anew.
    cut_off.1.report = None;
    cut_off.1.contact.answered_at = None;
    let later = |service: &ResilientService| {
        let service = Arc::new(service.clone());
        let remembered = Remembered {
            awaited_since: Some(now() - chrono::TimeDelta::seconds(300)),
            ..Remembered::default()
        };
        let observed = seen(2, 2, vec![pod(1, current()), cut_off.clone()]);
        super::super::status(&service, &observed, &work(&service), remembered, now()).status
    };
    let after = later(&service);
    assert_eq!(shown(&after, "ConfigApplied"), "Unknown/PodUnreachable");
    assert_eq!(shown(&after, "Stalled"), "");
    // A configuration that it was never heard to run is another matter.
    service.status.as_mut().unwrap().config.as_mut().unwrap().hash = "another".into();
    assert_eq!(shown(&later(&service), "ConfigApplied"), "False/DeadlineExceeded");
}
