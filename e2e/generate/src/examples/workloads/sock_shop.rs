//! Sock Shop (microservices-demo/microservices-demo): eight programs, their databases and a broker.

use super::{port, texts, variables, workload};
use crate::examples::{Object, resources, service, services::verbatim};
use anyhow::Result;
use serde_json::json;
use valerix_crds::{
    Capabilities, ContainerPort, ProbeSpec, Probes, ResilientServiceSpec, SecurityContext, ServiceExposure,
    ServiceType, VolumeMount,
};

/// What all programs in Java are told.
const JAVA: (&str, &str) = (
    "JAVA_OPTS",
    "-Xms64m -Xmx128m -XX:+UseG1GC -Djava.security.egd=file:/dev/urandom -Dspring.zipkin.enabled=false",
);
/// What a root process of theirs keeps to hand its files to another user and become that one.
const STEPS_DOWN: [&str; 3] = ["CHOWN", "SETGID", "SETUID"];

pub fn workloads() -> Result<Vec<Object>> {
    Ok(vec![
        front_end()?,
        of("carts", {
            let mut spec = scratch(program("carts:0.4.8", ("100m", "200Mi"), ("300m", "500Mi")))?;
            spec.env = variables(&[JAVA]);
            spec
        })?
        .saying(
            "What it may do beside the restricted profile is said by name: port 80 for a user that is not root, by a capability of\nthe program's file, which counts only where privileges may be gained. No probe, as theirs: its pods count as ready when\nthey run.",
        ),
        of("carts-db", mongo("mongo")?)?.saying(
            "Begins as root, as its image wants it, with what it takes to become another user and nothing else. Its data is a volume\nof the image: a new pod begins without.",
        ),
        of("catalogue", {
            let mut spec = program("catalogue:0.3.5", ("100m", "100Mi"), ("200m", "200Mi"));
            spec.command = vec!["/app".into()];
            spec.args = vec!["-port=80".into()];
            spec.probes = health("/health", 180);
            spec
        })?,
        of("catalogue-db", {
            let mut spec = as_the_image("weaveworksdemos/catalogue-db:0.3.0");
            spec.ports = vec![port("mysql", 3306)];
            spec.env = variables(&[("MYSQL_ROOT_PASSWORD", "fake_password"), ("MYSQL_DATABASE", "socksdb")]);
            spec
        })?
        .saying("Theirs says nothing of users, so it runs as its image does, as root. A real password is a `valueFrom` of a Secret."),
        of("orders", {
            let mut spec = scratch(program("orders:0.4.7", ("100m", "300Mi"), ("500m", "500Mi")))?;
            spec.env = variables(&[JAVA]);
            spec
        })?,
        of("orders-db", mongo("mongo")?)?,
        of("payment", {
            let mut spec = program("payment:0.4.3", ("99m", "100Mi"), ("200m", "200Mi"));
            spec.probes = health("/health", 180);
            spec
        })?,
        of("queue-master", {
            let mut spec = program("queue-master:0.3.1", ("100m", "300Mi"), ("300m", "500Mi"));
            spec.env = variables(&[JAVA]);
            spec.security_context = Some(unsaid());
            spec
        })?
        .saying("Theirs says nothing of users either."),
        rabbitmq()?,
        of("session-db", {
            let mut spec = stepping_down("redis:alpine", &STEPS_DOWN);
            spec.ports = vec![port("redis", 6379)];
            spec.pod_annotations = texts([("prometheus.io.scrape", "false")]);
            spec
        })?,
        of("shipping", {
            let mut spec = scratch(program("shipping:0.4.8", ("100m", "300Mi"), ("300m", "500Mi")))?;
            spec.env = variables(&[("ZIPKIN", "zipkin.jaeger.svc.cluster.local"), JAVA]);
            spec
        })?,
        of("user", {
            let mut spec = program("user:0.4.7", ("100m", "100Mi"), ("300m", "200Mi"));
            spec.env = variables(&[("mongo", "user-db:27017")]);
            spec.probes = health("/health", 180);
            spec
        })?,
        of("user-db", mongo("weaveworksdemos/user-db:0.3.0")?)?,
    ])
}

fn of(name: &str, spec: ResilientServiceSpec) -> Result<Object> {
    workload(
        "name",
        name,
        ResilientServiceSpec {
            // Theirs says beta.kubernetes.io/os, which Kubernetes has renamed.
            node_selector: texts([("kubernetes.io/os", "linux")]),
            ..spec
        },
    )
}

/// A program of their own, scraped by an annotation of its Service.
fn program(image: &str, requests: (&str, &str), limits: (&str, &str)) -> ResilientServiceSpec {
    ResilientServiceSpec {
        ports: vec![port("http", 80)],
        service: Some(scraped()),
        resources: Some(resources(requests, limits)),
        security_context: Some(SecurityContext {
            run_as_user: Some(10001),
            run_as_non_root: Some(true),
            read_only_root_filesystem: Some(true),
            allow_privilege_escalation: Some(true),
            capabilities: capabilities(&["NET_BIND_SERVICE"]),
            ..Default::default()
        }),
        ..service(&format!("weaveworksdemos/{image}"))
    }
}

fn scraped() -> ServiceExposure {
    ServiceExposure {
        kind: None,
        annotations: texts([("prometheus.io/scrape", "true")]),
    }
}

fn capabilities(added: &[&str]) -> Option<Capabilities> {
    Some(Capabilities {
        add: added.iter().map(|name| (*name).to_owned()).collect(),
        drop: Some(vec!["ALL".into()]),
    })
}

/// With a folder for what does not last, in memory.
fn scratch(spec: ResilientServiceSpec) -> Result<ResilientServiceSpec> {
    Ok(ResilientServiceSpec {
        volumes: vec![verbatim(
            json!({"name": "tmp-volume", "emptyDir": {"medium": "Memory"}}),
        )?],
        volume_mounts: vec![VolumeMount {
            name: "tmp-volume".into(),
            mount_path: "/tmp".into(),
            sub_path: None,
            read_only: None,
        }],
        ..spec
    })
}

fn health(path: &str, initial_delay_seconds: i32) -> Option<Probes> {
    let probe = |delay| {
        Some(ProbeSpec {
            path: Some(path.into()),
            initial_delay_seconds: Some(delay),
            period_seconds: Some(3),
            ..Default::default()
        })
    };
    Some(Probes {
        startup: None,
        readiness: probe(initial_delay_seconds),
        liveness: probe(300),
    })
}

/// Root, which the kind refuses unless it is said.
fn root() -> SecurityContext {
    SecurityContext {
        run_as_user: Some(0),
        run_as_group: Some(0),
        run_as_non_root: Some(false),
        ..Default::default()
    }
}

/// What a container may do of which nothing is said: what Kubernetes lets it.
fn unsaid() -> SecurityContext {
    SecurityContext {
        read_only_root_filesystem: Some(false),
        allow_privilege_escalation: Some(true),
        capabilities: Some(Capabilities {
            add: vec![],
            drop: Some(vec![]),
        }),
        ..root()
    }
}

fn as_the_image(image: &str) -> ResilientServiceSpec {
    ResilientServiceSpec {
        security_context: Some(unsaid()),
        ..service(image)
    }
}

fn stepping_down(image: &str, added: &[&str]) -> ResilientServiceSpec {
    ResilientServiceSpec {
        security_context: Some(SecurityContext {
            capabilities: capabilities(added),
            read_only_root_filesystem: Some(true),
            ..root()
        }),
        ..service(image)
    }
}

fn mongo(image: &str) -> Result<ResilientServiceSpec> {
    scratch(ResilientServiceSpec {
        ports: vec![port("mongo", 27017)],
        ..stepping_down(image, &STEPS_DOWN)
    })
}

fn front_end() -> Result<Object> {
    let mut spec = program("front-end:0.3.12", ("100m", "300Mi"), ("300m", "1000Mi"));
    spec.ports = vec![ContainerPort {
        name: "http".into(),
        container_port: 8079,
        service_port: Some(80),
    }];
    spec.service = Some(ServiceExposure {
        kind: Some(ServiceType::NodePort),
        ..scraped()
    });
    spec.env = variables(&[("SESSION_REDIS", "true")]);
    spec.security_context = Some(SecurityContext {
        run_as_user: Some(10001),
        ..Default::default()
    });
    spec.probes = health("/", 30);
    Ok(of("front-end", spec)?
        .saying("Reached at every node, on a port that Kubernetes chooses: theirs is always 30001."))
}

fn rabbitmq() -> Result<Object> {
    let mut spec = stepping_down(
        "rabbitmq:3.6.8-management",
        &["CHOWN", "DAC_OVERRIDE", "SETGID", "SETUID"],
    );
    spec.ports = vec![
        port("rabbitmq", 5672),
        port("management", 15672),
        port("exporter", 9090),
    ];
    spec.service = Some(ServiceExposure {
        kind: None,
        annotations: texts([("prometheus.io/scrape", "true"), ("prometheus.io/port", "9090")]),
    });
    spec.pod_annotations = texts([("prometheus.io/scrape", "false")]);
    spec.pod_overrides = Some(verbatim(
        json!({"containers": [{"name": "rabbitmq-exporter", "image": "kbudde/rabbitmq-exporter"}]}),
    )?);
    Ok(of("rabbitmq", spec)?.saying(
        "A container beside its own, the exporter, is a part of `podOverrides`. The Service offers what `ports` names, so the\nexporter's port stands there: containers of a pod share one address.",
    ))
}
