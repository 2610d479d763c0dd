//! Manifests as charts write them: of a demonstration shop in many languages, of one with sidecars and databases, and of
//! a small web server with everything around it. Facts of their form, with names of our own.

use super::*;
use serde_json::Value;

/// What comes of a manifest: the services, and what was said.
fn converted(manifest: &str) -> (Vec<Value>, Vec<String>) {
    let converted = convert(manifest).unwrap();
    let services = document::read(&converted.yaml)
        .unwrap()
        .into_iter()
        .map(|document| document.body);
    (services.collect(), converted.warnings)
}

fn only(manifest: &str) -> (Value, Vec<String>) {
    let (mut services, warnings) = converted(manifest);
    assert_eq!(services.len(), 1);
    (services.remove(0)["spec"].take(), warnings)
}

fn deployment(container: &str, pod: &str) -> String {
    format!(
        r#"
apiVersion: apps/v1
kind: Deployment
metadata: {{name: web}}
spec:
  selector: {{matchLabels: {{app: web}}}}
  template:
    metadata: {{labels: {{app: web}}}}
    spec:
      securityContext: {{runAsUser: 1000}}
      {pod}
      containers:
      - name: server
        image: web:1
        readinessProbe: {{exec: {{command: [ready]}}}}
        {container}
"#
    )
}

/// A service of gRPC, secured and with a second Service in front.
const FRONT: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata:
  name: front
  labels: {app: front}
spec:
  selector: {matchLabels: {app: front}}
  template:
    metadata:
      labels: {app: front}
      annotations: {sidecar.example.com/rewrite: "true"}
    spec:
      serviceAccountName: front
      terminationGracePeriodSeconds: 5
      securityContext: {fsGroup: 1000, runAsGroup: 1000, runAsNonRoot: true, runAsUser: 1000}
      containers:
      - name: server
        securityContext:
          allowPrivilegeEscalation: false
          capabilities: {drop: [ALL]}
          privileged: false
          readOnlyRootFilesystem: true
        image: front
        ports: [{containerPort: 8080}]
        readinessProbe:
          initialDelaySeconds: 10
          httpGet: {path: /_healthz, port: 8080, httpHeaders: [{name: Cookie, value: id=probe}]}
        livenessProbe: {grpc: {port: 9555}}
        env:
        - {name: PORT, value: "8080"}
        - {name: NODE_IP, valueFrom: {fieldRef: {apiVersion: v1, fieldPath: status.hostIP}}}
        resources: {requests: {cpu: 100m, memory: 64Mi}, limits: {cpu: 1, memory: 128Mi}}
---
apiVersion: v1
kind: Service
metadata: {name: front}
spec: {type: ClusterIP, selector: {app: front}, ports: [{name: http, port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: front-external}
spec: {type: LoadBalancer, selector: {app: front}, ports: [{name: http, port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: front}
"#;

#[test]
fn a_secured_service_behind_two_services() {
    let (spec, warnings) = only(FRONT);
    assert_eq!(
        spec["ports"],
        json!([{"name": "http", "containerPort": 8080, "servicePort": 80}, {"name": "port-9555", "containerPort": 9555}])
    );
    let readiness = json!({"path": "/_healthz", "httpHeaders": [{"name": "Cookie", "value": "id=probe"}], "initialDelaySeconds": 10});
    assert_eq!(
        spec["probes"],
        json!({"readiness": readiness, "liveness": {"type": "GRPC", "port": "port-9555"}})
    );
    assert_eq!(
        spec["securityContext"],
        json!({
            "runAsUser": 1000, "runAsGroup": 1000, "fsGroup": 1000, "runAsNonRoot": true, "allowPrivilegeEscalation": false,
            "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]}
        })
    );
    assert_eq!(spec["serviceAccountName"], "front");
    assert_eq!(
        spec["podOverrides"],
        json!({"automountServiceAccountToken": true}),
        "its rights are of no use without"
    );
    assert_eq!(spec["terminationGracePeriodSeconds"], 5);
    assert_eq!(spec["resources"]["limits"], json!({"cpu": "1", "memory": "128Mi"}));
    assert_eq!(spec["podLabels"], json!({"app": "front"}));
    assert_eq!(spec["resilience"], json!({"protocol": "None"}));
    assert_eq!(
        warnings,
        ["Deployment front: Service front-external stays as it is: the pods keep the labels that it selects"]
    );
    let commands = convert(FRONT).unwrap().commands;
    assert_eq!(
        commands,
        ["kubectl annotate deployment/front service/front resilience.valerix.io/adopt=true"]
    );
}

/// Root with a few capabilities, a scratch volume in memory, a database beside it, scraped by annotations of its Service.
const CARTS: &str = r#"
apiVersion: v1
kind: List
items:
- apiVersion: apps/v1
  kind: Deployment
  metadata: {name: carts, namespace: shop, labels: {name: carts}}
  spec:
    replicas: 1
    selector: {matchLabels: {name: carts}}
    template:
      metadata: {labels: {name: carts}}
      spec:
        containers:
        - name: carts
          image: carts:0.4
          env: [{name: OPTIONS, value: -Xmx128m}]
          resources: {limits: {cpu: 300m, memory: 500Mi}, requests: {cpu: 100m, memory: 200Mi}}
          ports: [{containerPort: 80}]
          securityContext:
            runAsNonRoot: true
            runAsUser: 10001
            capabilities: {drop: [all], add: [NET_BIND_SERVICE]}
            readOnlyRootFilesystem: true
          volumeMounts: [{mountPath: /tmp, name: tmp-volume}]
        volumes: [{name: tmp-volume, emptyDir: {medium: Memory}}]
        nodeSelector: {beta.kubernetes.io/os: linux}
- apiVersion: v1
  kind: Service
  metadata: {name: carts, namespace: shop, annotations: {prometheus.io/scrape: "true"}}
  spec: {ports: [{port: 80, targetPort: 80}], selector: {name: carts}}
- apiVersion: v1
  kind: Service
  metadata: {name: carts, namespace: elsewhere}
  spec: {ports: [{port: 81, targetPort: 80}], selector: {name: carts}}
- apiVersion: apps/v1
  kind: StatefulSet
  metadata: {name: carts-db, namespace: shop}
"#;

#[test]
fn a_list_with_a_volume_and_capabilities() {
    let (services, warnings) = converted(CARTS);
    assert_eq!(services[0]["metadata"], json!({"name": "carts", "namespace": "shop"}));
    let spec = &services[0]["spec"];
    assert_eq!(spec["ports"], json!([{"name": "port-80", "containerPort": 80}]));
    assert_eq!(
        spec["volumes"],
        json!([{"name": "tmp-volume", "emptyDir": {"medium": "Memory"}}])
    );
    assert_eq!(
        spec["volumeMounts"],
        json!([{"name": "tmp-volume", "mountPath": "/tmp"}])
    );
    let security = json!({
        "runAsUser": 10001, "runAsNonRoot": true, "readOnlyRootFilesystem": true,
        "capabilities": {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]}, "allowPrivilegeEscalation": true
    });
    assert_eq!(
        spec["securityContext"], security,
        "as the kind spells it, and of use to the program"
    );
    assert_eq!(
        spec["service"],
        json!({"annotations": {"prometheus.io/scrape": "true"}})
    );
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(warnings[0].contains("no readinessProbe"), "{warnings:?}");
    assert!(
        warnings[1].starts_with("StatefulSet carts-db is left out"),
        "{warnings:?}"
    );
}

/// A web server with metrics, an autoscaler, a budget, and an end that waits.
const WEB: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: {name: podweb}
spec:
  minReadySeconds: 3
  revisionHistoryLimit: 5
  progressDeadlineSeconds: 60
  strategy: {type: RollingUpdate, rollingUpdate: {maxUnavailable: 0}}
  selector: {matchLabels: {app.kubernetes.io/name: podweb}}
  template:
    metadata:
      labels: {app.kubernetes.io/name: podweb, track: stable}
      annotations: {prometheus.io/port: "9797"}
    spec:
      terminationGracePeriodSeconds: 30
      topologySpreadConstraints: [{maxSkew: 1, topologyKey: zone, whenUnsatisfiable: DoNotSchedule}]
      containers:
      - name: podweb
        image: podweb:6
        imagePullPolicy: IfNotPresent
        command: [./web, --port=9898]
        workingDir: /home/app
        ports:
        - {name: http, containerPort: 9898, protocol: TCP}
        - {name: http-metrics, containerPort: 9797, protocol: TCP}
        - {name: grpc, containerPort: 9999}
        livenessProbe: {exec: {command: [webcli, check]}, initialDelaySeconds: 5, timeoutSeconds: 5, successThreshold: 1}
        readinessProbe: {httpGet: {path: /readyz, port: grpc}, periodSeconds: 10}
        startupProbe: {tcpSocket: {port: 9898}}
        lifecycle: {preStop: {exec: {command: [sh, -c, sleep 3]}}}
        volumeMounts: [{name: data, mountPath: /data, mountPropagation: None}]
        resources: {requests: {cpu: 1m}}
      volumes: [{name: data, emptyDir: {}}]
---
apiVersion: v1
kind: Service
metadata: {name: podweb}
spec:
  type: ClusterIP
  clusterIP: 10.96.0.7
  sessionAffinity: ClientIP
  ports:
  - {name: http, port: 9898, targetPort: http}
  - {name: grpc, port: 9999, targetPort: grpc, protocol: TCP, appProtocol: grpc}
  - {name: alias, port: 80, targetPort: http}
  - {name: dns, port: 53, protocol: UDP}
  selector: {app.kubernetes.io/name: podweb}
---
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: podweb}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: podweb}
  minReplicas: 2
  maxReplicas: 4
  metrics:
  - {type: Resource, resource: {name: cpu, target: {type: Utilization, averageUtilization: 99}}}
  - {type: Pods, pods: {metric: {name: requests}, target: {type: AverageValue, averageValue: "10"}}}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {name: podweb-budget}
spec: {minAvailable: 1, selector: {matchLabels: {app.kubernetes.io/name: podweb}}}
"#;

#[test]
fn a_web_server_with_everything_around_it() {
    let (spec, warnings) = only(WEB);
    assert_eq!(
        spec["ports"],
        json!([
            {"name": "http", "containerPort": 9898}, {"name": "http-metrics", "containerPort": 9797},
            {"name": "grpc", "containerPort": 9999}
        ])
    );
    assert_eq!(
        spec["autoscaling"],
        json!({
            "minReplicas": 2, "maxReplicas": 4, "targetCPUUtilizationPercentage": 99,
            "metrics": [{"type": "Pods", "pods": {"metric": {"name": "requests"}, "target": {"type": "AverageValue", "averageValue": "10"}}}]
        })
    );
    assert_eq!(spec["disruption"], json!({"minAvailable": 1}));
    assert_eq!(spec["strategy"], json!({"maxUnavailable": 0}));
    assert_eq!(spec["lifecycle"], json!({"preStopSleep": "3s"}));
    assert_eq!(
        spec["probes"],
        json!({
            "startup": {"type": "TCP"}, "readiness": {"path": "/readyz", "port": "grpc", "periodSeconds": 10},
            "liveness": {"type": "Exec", "command": ["webcli", "check"], "initialDelaySeconds": 5, "timeoutSeconds": 5}
        })
    );
    assert_eq!(spec["topologySpread"], json!({"mode": "None"}));
    assert_eq!(
        spec["podOverrides"],
        json!({
            "topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}],
            "containers": [{"name": "podweb", "workingDir": "/home/app"}]
        })
    );
    assert_eq!(spec["podLabels"], json!({"track": "stable"}));
    for expected in [
        "runs as 65532",
        "appProtocol of port 9999",
        "port 80 is left out: it leads to the same container port as 9898",
        "port 53 is left out: UDP",
        "spec.sessionAffinity is left out",
        "spec.clusterIP",
        "volumeMounts[].mountPropagation is left out",
        "delete PodDisruptionBudget podweb-budget",
    ] {
        let count = warnings.iter().filter(|warning| warning.contains(expected)).count();
        let is_told = expected != "spec.clusterIP";
        assert_eq!(count, usize::from(is_told), "{expected}: {warnings:#?}");
    }
}

#[test]
fn what_comes_of_a_conversion_can_be_deployed() {
    for manifest in [FRONT, CARTS, WEB] {
        for service in converted(manifest).0 {
            let service: ResilientService = serde_json::from_value(service).unwrap();
            assert_eq!(violations(&Arc::new(service)), []);
        }
    }
}

#[test]
fn what_cannot_be_said_is_warned_of_by_its_field() {
    for (container, pod, expected) in [
        (
            "env: [{name: A, valueFrom: {resourceFieldRef: {resource: limits.cpu}}}]",
            "",
            "env \"A\" is left out",
        ),
        (
            "ports: [{containerPort: 53, protocol: UDP}]",
            "",
            "port 53 is left out: UDP",
        ),
        ("ports: [{containerPort: 80, hostPort: 80}]", "", "hostPort of port 80"),
        (
            "lifecycle: {preStop: {httpGet: {path: /bye, port: 80}}}",
            "",
            "lifecycle.preStop is left out",
        ),
        (
            "livenessProbe: {httpGet: {path: /, port: admin}}",
            "",
            "livenessProbe asks port \"admin\"",
        ),
        (
            "livenessProbe: {tcpSocket: {port: 80, host: other}}",
            "",
            "livenessProbe.tcpSocket.host is left out",
        ),
        ("resources: {claims: [{name: gpu}]}", "", "resources.claims is left out"),
        ("securityContext: {privileged: true}", "", "is privileged"),
        ("", "nodeName: one", "nodeName is left out"),
        (
            "",
            "volumes: [{name: policy, emptyDir: {}}]",
            "volume \"policy\" has the name",
        ),
        ("", "priorityClassName: 7", "failed"),
    ] {
        let text = deployment(container, pod);
        let said = match convert(&text) {
            Ok(converted) => converted.warnings.join("\n"),
            Err(error) => error.to_string(),
        };
        assert!(said.contains(expected), "{container}{pod}: {said}");
    }
}

#[test]
fn what_a_cluster_writes_out_by_itself_is_no_wish() {
    let (spec, warnings) = only(&deployment(
        "terminationMessagePath: /dev/termination-log\n        terminationMessagePolicy: File\n        resources: {}",
        "dnsPolicy: ClusterFirst\n      restartPolicy: Always\n      schedulerName: default-scheduler\n      serviceAccount: default\n      serviceAccountName: default",
    ));
    assert_eq!(warnings, Vec::<String>::new());
    for absent in ["podOverrides", "serviceAccountName", "resources"] {
        assert_eq!(spec.get(absent), None, "{absent}");
    }
}

#[test]
fn root_keeps_what_root_images_do_at_their_start() {
    let (spec, _) = only(&deployment("securityContext: {runAsUser: 0}", ""));
    let expected = json!({
        "runAsUser": 0, "runAsNonRoot": false, "readOnlyRootFilesystem": false, "allowPrivilegeEscalation": true,
        "capabilities": {"drop": []}
    });
    assert_eq!(spec["securityContext"], expected);
}

#[test]
fn what_is_no_manifest_is_refused_with_the_remedy() {
    for (text, expected) in [
        ("", "failed to find a Deployment"),
        (
            "apiVersion: v1\nkind: Service\nmetadata: {name: a}",
            "failed to find a Deployment",
        ),
        ("kind: A\n---\nname: {{ .Values.name }}\n", "helm template"),
        ("a: [", "failed to read document 1"),
    ] {
        let error = convert(text).unwrap_err().to_string();
        assert!(error.contains(expected), "{text}: {error}");
    }
}
