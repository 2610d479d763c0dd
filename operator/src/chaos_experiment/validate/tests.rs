use super::*;
use crate::chaos_experiment::testing::{limits, spec};
use serde_json::json;

#[test]
fn defaults_are_filled_in() {
    let plan = validate(
        &spec(json!({"target": {"service": "inventory"}, "podKill": {}})),
        &limits(),
    )
    .unwrap();
    assert_eq!(plan.count, Count::Pods(1));
    assert_eq!(plan.min_available, 1);
    assert_eq!(plan.min_pod_age, Duration::from_secs(30));
    assert_eq!(plan.recovery_timeout, Duration::from_secs(60));
    assert_eq!((plan.cooldown, plan.duration), (None, Duration::ZERO));
}

#[test]
fn the_operator_caps_the_duration() {
    let spec = spec(json!({"target": {"service": "inventory"}, "duration": "2h", "latency": {"delay": "1s"}}));
    let plan = validate(&spec, &limits()).unwrap();
    assert_eq!((plan.duration, plan.capped), (Duration::from_secs(600), true));
}

#[test]
fn what_cannot_be_acted_on_is_named() {
    let base = json!({"target": {"service": "inventory"}, "podKill": {}});
    for (field, value, word) in [
        ("count", json!("0%"), "spec.count"),
        ("count", json!(0), "spec.count"),
        ("schedule", json!("0 25 * * *"), "spec.schedule"),
        ("safety", json!({"minPodAge": "soon"}), "spec.safety.minPodAge"),
        ("podKill", json!({"method": "Wish"}), "spec.podKill.method"),
        (
            "steadyState",
            json!({"probes": [{"name": "a"}]}),
            "spec.steadyState.probes[0].http",
        ),
    ] {
        let mut wrong = base.clone();
        wrong[field] = value;
        let spec = spec(wrong);
        let error = validate(&spec, &limits())
            .err()
            .or_else(|| schedule(&spec).err())
            .unwrap();
        assert_eq!(error.field, word, "{error}");
    }
}

#[test]
fn a_probe_that_nobody_asks_while_the_fault_is_on_is_no_witness() {
    let with = |interval: &str, mode: &str, fault: serde_json::Value| {
        let mut value = json!({"target": {"service": "inventory"}, "steadyState": {"probes": [
            {"name": "a", "http": {"service": "order"}, "mode": mode, "interval": interval},
        ]}});
        value
            .as_object_mut()
            .unwrap()
            .extend(fault.as_object().unwrap().clone());
        validate(&spec(value), &limits()).map(|plan| plan.probes[0].interval)
    };
    let refuse = |duration: &str| json!({"refuse": {}, "duration": duration});
    assert_eq!(
        with("40s", "Continuous", refuse("40s")).unwrap(),
        Duration::from_secs(40)
    );
    assert!(with("41s", "Edge", refuse("40s")).is_ok());
    assert!(with("1h", "Continuous", json!({"podKill": {}})).is_ok());
    assert!(with("1h", "Continuous", json!({"crash": {}, "duration": "5s"})).is_ok());
    // What counts is how long the operator lets it last, here ten minutes.
    for (interval, mode, duration) in [
        ("41s", "Continuous", "40s"),
        ("41s", "OnFault", "40s"),
        ("11m", "Continuous", "2h"),
    ] {
        let error = with(interval, mode, refuse(duration)).unwrap_err().to_string();
        assert!(error.starts_with("spec.steadyState.probes[0].interval: is "), "{error}");
        assert!(error.contains("lengthen spec.duration"), "{error}");
    }
}

#[test]
fn what_the_pods_would_not_read_is_refused_by_its_field() {
    for (fault, duration, field) in [
        (
            json!({"errors": {"routes": ["GET /api/inventory?item=ps5"]}}),
            "5s",
            "spec.errors.routes[0]",
        ),
        (
            json!({"latency": {"delay": "1s", "routes": ["GET /", "GET /a#b"]}}),
            "5s",
            "spec.latency.routes[1]",
        ),
        (
            json!({"latency": {"delay": "1s", "routes": ["GET /gr\u{f6}sse"]}}),
            "5s",
            "spec.latency.routes[0]",
        ),
        (json!({"latency": {"delay": "1s"}}), "25h", "spec.duration"),
        (
            json!({"memoryStress": {"size": "65Gi"}}),
            "5s",
            "spec.memoryStress.size",
        ),
        (json!({"crash": {"times": 4}}), "5s", "spec.crash.times"),
        (json!({"cpuStress": {"workers": 65}}), "5s", "spec.cpuStress.workers"),
    ] {
        let mut wrong = json!({"target": {"service": "inventory"}, "duration": duration});
        wrong
            .as_object_mut()
            .unwrap()
            .extend(fault.as_object().unwrap().clone());
        let generous = Limits {
            max_duration: Duration::from_secs(99 * 3_600),
            probe_urls: vec![],
            ..limits()
        };
        let error = validate(&spec(wrong), &generous).unwrap_err();
        assert_eq!(error.field, field, "{error}");
    }
}

/// Both models of a fault have one set of bounds: the corners of what the schema takes are read by the pods.
#[test]
fn what_the_schema_accepts_the_pods_read() {
    let path = (0x21..0x7f_u8)
        .map(char::from)
        .filter(|letter| !"#?*".contains(*letter))
        .collect::<String>();
    let routes: Vec<_> = [
        "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT",
    ]
    .into_iter()
    .map(|method| format!("{method} /{path}"))
    .chain((0..23).map(|number| format!("GET /{{item}}/{number}{}", "x".repeat(238))))
    .collect();
    assert!(routes.len() == 32 && routes.iter().all(|route| route.len() <= 256));
    for fault in [
        json!({"latency": {"delay": "1ms", "jitter": "1ms", "percent": 1, "routes": routes}}),
        json!({"latency": {"delay": "5m", "jitter": "5m", "percent": 100}}),
        json!({"errors": {"percent": 1, "status": 400, "routes": routes}}),
        json!({"errors": {"percent": 100, "status": 599}}),
        json!({"abort": {"percent": 1, "routes": routes}}),
        json!({"refuse": {}}),
        json!({"partition": {"peer": format!("{}/{}", "n".repeat(63), "s".repeat(53)), "direction": "Egress"}}),
        json!({"crash": {"times": 3}}),
        json!({"cpuStress": {"loadPercent": 1, "workers": 64}}),
        json!({"memoryStress": {"size": "64Gi"}}),
        json!({"memoryStress": {"size": "9999999Ki"}}),
        json!({"memoryStress": {"size": "9999M"}}),
        json!({"memoryStress": {"size": "1"}}),
    ] {
        for duration in ["1s", "99999h"] {
            let mut value = json!({"target": {"service": "inventory"}, "duration": duration});
            value
                .as_object_mut()
                .unwrap()
                .extend(fault.as_object().unwrap().clone());
            let most = Limits {
                max_duration: Duration::from_secs(24 * 3_600),
                probe_urls: vec![],
                ..limits()
            };
            validate(&spec(value), &most).unwrap();
        }
    }
}

#[test]
fn only_when_it_runs_makes_no_other_run_of_a_spec() {
    let base = json!({"target": {"service": "inventory"}, "podKill": {}});
    let hash = |field: &str, value: serde_json::Value| {
        let mut changed = base.clone();
        changed[field] = value;
        spec_hash(&spec(changed))
    };
    let same = spec_hash(&spec(base.clone()));
    assert_eq!(hash("desired", json!("Stop")), same);
    assert_eq!(hash("schedule", json!("0 10 * * *")), same);
    assert_eq!(hash("startingDeadlineSeconds", json!(60)), same);
    assert_eq!(hash("concurrencyPolicy", json!("Replace")), same);
    assert_eq!(hash("excludedWindows", json!([{"from": "09:00", "to": "17:00"}])), same);
    assert_ne!(hash("dryRun", json!(true)), same);
    assert_ne!(hash("count", json!(2)), same);
    assert_ne!(hash("podKill", json!({"gracePeriodSeconds": 1})), same);
}

#[test]
fn a_prometheus_elsewhere_is_asked_only_where_the_operator_may() {
    let of = |prometheus: serde_json::Value, mode: &str| {
        let fault = if mode == "OnFault" {
            json!({"method": "Evict"})
        } else {
            json!({})
        };
        spec(json!({"target": {"service": "inventory"}, "podKill": fault,
            "steadyState": {"probes": [{"name": "rate", "mode": mode, "prometheus": prometheus}]}}))
    };
    let question = |url: &str| json!({"url": url, "query": "up", "comparator": "==", "value": 1});
    let mut limits = limits();
    let refused = |url: &str, limits: &Limits| validate(&of(question(url), "Edge"), limits).unwrap_err().to_string();
    let error = refused("http://prometheus.monitoring.svc:9090", &limits);
    assert!(
        error.starts_with("spec.steadyState.probes[0].prometheus.url: is http://prometheus"),
        "{error}"
    );
    assert!(error.contains("chaos.probeUrls"), "{error}");
    limits.probe_urls = vec![AllowedUrl::parse("http://prometheus.monitoring.svc:9090").unwrap()];
    assert!(validate(&of(question("http://prometheus.monitoring.svc:9090/"), "Edge"), &limits).is_ok());
    assert!(refused("http://169.254.169.254", &limits).contains("a link-local address"));
    let service = json!({"service": "prometheus", "query": "up", "comparator": "==", "value": 1});
    assert!(validate(&of(service.clone(), "Continuous"), &limits).is_ok());
    let error = validate(&of(service, "OnFault"), &limits).unwrap_err().to_string();
    assert!(error.contains("probes[0].mode: is OnFault"), "{error}");
}
