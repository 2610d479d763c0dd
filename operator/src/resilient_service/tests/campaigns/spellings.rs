//! An operator that starts over what stands writes nothing, in whatever form the specification says it: the API server
//! keeps quantities in its own form, fills in what is left out, and leaves out what says nothing.

use super::{super::skew, *};
use valerix_draw::Draws;

/// The same amounts and others, as people write them.
const QUANTITIES: [&str; 24] = [
    "0", "0.0", "1", "1.0", "1000m", "1500m", "0.5", ".5", "1.", "2000", "2k", "1e3", "1E3", "10e2", "5e-1", "1000k",
    "1M", "1Ki", "1024Ki", "1024Mi", "1.5Gi", "0.0001Gi", "0.5Ki", "0.0001",
];

/// Variables.
fn variables() -> Vec<Value> {
    let from = |source: Value| json!({"env": [{"name": "A", "valueFrom": source}]});
    vec![
        json!({}),
        json!({"env": [{"name": "A"}, {"name": "B", "value": ""}, {"name": "C", "value": "$(B)"}]}),
        from(json!({"fieldRef": {"fieldPath": "metadata.name"}})),
        from(json!({"configMapKeyRef": {"name": "a", "key": "b"}})),
        from(json!({"configMapKeyRef": {"name": "a", "key": "b", "optional": false}})),
        from(json!({"secretKeyRef": {"name": "a", "key": "b", "optional": true}})),
        json!({"envFrom": [{"configMapRef": {"name": "a"}}, {"secretRef": {"name": "b"}, "prefix": "B_"}]}),
    ]
}

/// Ports, and who asks at them.
fn ports() -> Vec<Value> {
    let http = json!({"name": "http", "containerPort": 8080});
    vec![
        json!({"ports": [http]}),
        json!({"ports": [{"name": "http", "containerPort": 8080, "servicePort": 8080}]}),
        json!({"ports": [http, {"name": "admin", "containerPort": 81, "servicePort": 80}], "service": {"type": "NodePort"},
            "probes": {"readiness": {"path": "/", "initialDelaySeconds": 0}, "liveness": {"type": "TCP", "port": "admin"}}}),
        json!({"ports": [http], "probes": {"startup": {"type": "GRPC"}, "readiness": {"path": "/", "scheme": "HTTP",
            "httpHeaders": [{"name": "Host", "value": "a"}]}}, "service": {"type": "LoadBalancer", "annotations": {}}}),
        json!({"ports": [], "networkPolicy": {"ingressFrom": [], "egressTo": [{"podSelector": {}}]}}),
        json!({"ports": [http], "networkPolicy": {"mode": "None"}}),
    ]
}

/// What need not be said, and is; how many, in numbers and in percent.
fn words() -> Vec<Value> {
    vec![
        json!({"minReadySeconds": 0, "strategy": {"maxSurge": "25%", "maxUnavailable": 0}, "volumeMounts": []}),
        json!({"strategy": {"maxSurge": "1", "maxUnavailable": "0%"}, "imagePullPolicy": "IfNotPresent"}),
        json!({"strategy": {"type": "Recreate"}, "lifecycle": {"preStopSleep": "0s"}, "command": [""], "args": ["", "a"]}),
        json!({"podOverrides": {"hostNetwork": false, "hostPID": false, "hostIPC": false, "enableServiceLinks": true,
            "shareProcessNamespace": false, "dnsPolicy": "ClusterFirst", "hostAliases": []}}),
        json!({"securityContext": {"runAsNonRoot": false, "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": false,
            "capabilities": {"add": [], "drop": []}, "supplementalGroups": []}}),
        json!({"tolerations": [{"operator": "Exists"}, {"key": "a", "value": ""}], "nodeSelector": {"a": ""}, "affinity": {}}),
        json!({"topologySpread": {"mode": "None"}, "disruption": {"minAvailable": "50%"}, "replicas": 4}),
    ]
}

/// Everything that counts in a quantity, in this spelling, and what Kubernetes would fill in said or not.
fn amounts(quantity: &str, is_said: bool) -> Value {
    let resources = json!({"requests": {"cpu": quantity}, "limits": {"cpu": quantity, "ephemeral-storage": quantity}});
    let mut beside = json!({"name": "beside", "image": "a:1", "resources": resources,
        "env": [{"name": "A", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu", "divisor": quantity}}}]});
    if is_said {
        let said = json!({"tty": false, "stdin": false, "ports": [{"containerPort": 99, "hostPort": 0, "protocol": "TCP"}],
            "workingDir": "", "terminationMessagePolicy": "File"});
        json_patch::merge(&mut beside, &said);
    }
    let mut before = beside.clone();
    before["name"] = json!("before");
    let target = json!({"type": "AverageValue", "averageValue": quantity});
    let file = json!({"path": "cpu", "resourceFieldRef": {"containerName": "beside", "resource": "limits.cpu", "divisor": quantity}});
    json!({
        "initContainers": [before],
        "podOverrides": {"overhead": {"cpu": quantity}, "containers": [beside]},
        "volumes": [
            {"name": "a", "emptyDir": {"sizeLimit": quantity}},
            {"name": "b", "ephemeral": {"volumeClaimTemplate": {"spec": {
                "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": quantity}}}}}},
            {"name": "c", "downwardAPI": {"items": [file]}},
            {"name": "d", "projected": {"sources": [{"downwardAPI": {"items": [file]}}]}}
        ],
        "volumeMounts": [{"name": "a", "mountPath": "/a", "readOnly": false}],
        "autoscaling": {
            "maxReplicas": 3,
            "metrics": [
                {"type": "Pods", "pods": {"metric": {"name": "queue"}, "target": target}},
                {"type": "External", "external": {"metric": {"name": "depth"}, "target": {"type": "Value", "value": quantity}}}
            ],
            "behavior": {"scaleUp": {"stabilizationWindowSeconds": 0}}
        }
    })
}

/// A service of the table: each form of each kind comes in its turn, beside others from one seed to the next.
fn of_the_table(round: usize, random: &mut StdRng) -> Value {
    let mut spec = order()["spec"].clone();
    let quantity = QUANTITIES[round % QUANTITIES.len()];
    json_patch::merge(&mut spec, &amounts(quantity, round.is_multiple_of(2)));
    // What the schema lets pass here has no exponent, and a digit on either side of the point.
    if !quantity.contains(['e', 'E']) && !quantity.starts_with('.') && !quantity.ends_with('.') {
        let map = json!({"cpu": quantity, "memory": quantity});
        json_patch::merge(&mut spec, &json!({"resources": {"requests": map, "limits": map}}));
    }
    let in_turn = |forms: Vec<Value>| forms[round % forms.len()].clone();
    let by_chance = |forms: Vec<Value>, random: &mut StdRng| forms.choose(random).unwrap().clone();
    json_patch::merge(&mut spec, &in_turn(words()));
    json_patch::merge(&mut spec, &by_chance(variables(), random));
    json_patch::merge(&mut spec, &by_chance(ports(), random));
    spec
}

#[tokio::test(start_paused = true)]
async fn a_restart_over_what_is_said_in_any_form_writes_nothing() {
    let (rounds, seed) = (number("VALERIX_ROUNDS", 48), number("VALERIX_SEED", 2_026));
    let rounds = usize::try_from(rounds).unwrap();
    let (mut random, mut draws) = (StdRng::seed_from_u64(seed), Draws::seeded(seed).unwrap());
    let api = FakeApi::with_forms();
    with_monitors(&api);
    let name = |round: usize| format!("s{round:04}");
    for round in 0..rounds {
        // Each third is one that nobody wrote.
        let mut service = match round % 3 {
            2 => draws.service(&name(round), in_the_way),
            _ => json!({"spec": of_the_table(round - round / 3, &mut random)}),
        };
        service["apiVersion"] = order()["apiVersion"].clone();
        service["kind"] = order()["kind"].clone();
        service["metadata"] = json!({"name": name(round), "namespace": "shop", "uid": format!("uid-of-{round}")});
        assert_eq!(in_the_way(&service), Vec::<String>::new(), "{service}");
        api.create(SERVICES, service);
    }
    let first = Operator::start(&api);
    settle(&api, REST).await;
    for round in 0..rounds {
        let service = api.get(&format!("{SERVICES}/{}", name(round))).unwrap();
        assert!(says_all_stands(&service), "seed {seed}, {service}");
    }
    drop(first);

    api.forget_requests();
    let second = Operator::start(&api);
    tokio::time::sleep(LONG_REST).await;
    assert!(second.count("Success") >= u64::try_from(rounds).unwrap());
    let written = api.requests().into_iter().filter(is_operators);
    let told: Vec<String> = written
        .map(|request| {
            let stored = drift::project(&request.body, &api.get(&request.path).unwrap_or_default());
            let differs = skew::lost(&request.body, &stored, "").unwrap_or_default();
            format!("{} {}: {differs}", request.method, request.path)
        })
        .collect();
    assert!(told.is_empty(), "seed {seed}: {told:#?}");
}
