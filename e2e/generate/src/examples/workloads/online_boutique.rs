//! Online Boutique (GoogleCloudPlatform/microservices-demo), release 0.10.0: eleven programs, a Redis, and an option.

use super::{no_pause, port, texts, variables, workload};
use crate::examples::{Object, resources, service, services::verbatim};
use anyhow::Result;
use serde_json::json;
use valerix_crds::{
    ContainerPort, HttpHeader, ProbeSpec, ProbeType, Probes, ResilientServiceSpec, ResourceRequirements,
    SecurityContext, ServiceExposure, ServiceType, VolumeMount,
};

/// How long a probe waits for the process, and for its next question. Unit: seconds; none is the kind's own.
type Pace = (Option<i32>, Option<i32>);

pub fn workloads() -> Result<Vec<Object>> {
    let port = |number: i32| vec![("PORT", number.to_string())];
    let quiet = |number: i32| [port(number), vec![("DISABLE_PROFILER", "1".to_owned())]].concat();
    Ok(vec![
        frontend()?,
        of("cartservice", {
            let mut spec = server(
                7070,
                (Some(15), None),
                (Some(15), Some(10)),
                tight("200m", "64Mi", "300m", "128Mi"),
            );
            spec.env = variables(&[("REDIS_ADDR", "redis-cart:6379")]);
            brief(spec)?
        })?
        .saying("Its carts are in redis-cart, whose loss costs carts and nothing else."),
        redis_cart()?,
        of("checkoutservice", {
            let mut spec = server(5050, AT_ONCE, AT_ONCE, small());
            spec.env = variables(&[
                ("PORT", "5050"),
                ("PRODUCT_CATALOG_SERVICE_ADDR", "productcatalogservice:3550"),
                ("SHIPPING_SERVICE_ADDR", "shippingservice:50051"),
                ("PAYMENT_SERVICE_ADDR", "paymentservice:50051"),
                ("EMAIL_SERVICE_ADDR", "emailservice:5000"),
                ("CURRENCY_SERVICE_ADDR", "currencyservice:7000"),
                ("CART_SERVICE_ADDR", "cartservice:7070"),
            ]);
            spec
        })?,
        of(
            "currencyservice",
            brief(with(server(7000, AT_ONCE, AT_ONCE, small()), &quiet(7000)))?,
        )?,
        of("emailservice", {
            let mut spec = brief(with(server(8080, OFTEN, OFTEN, small()), &quiet(8080)))?;
            spec.ports[0].service_port = Some(5000);
            spec
        })?
        .saying("Listens on 8080 and is called on 5000."),
        of(
            "paymentservice",
            brief(with(server(50051, AT_ONCE, AT_ONCE, small()), &quiet(50051)))?,
        )?,
        of(
            "productcatalogservice",
            brief(with(server(3550, AT_ONCE, AT_ONCE, small()), &quiet(3550)))?,
        )?,
        of("recommendationservice", {
            let mut spec = server(8080, OFTEN, OFTEN, tight("100m", "220Mi", "200m", "450Mi"));
            spec.env = variables(&[
                ("PORT", "8080"),
                ("PRODUCT_CATALOG_SERVICE_ADDR", "productcatalogservice:3550"),
                ("DISABLE_PROFILER", "1"),
            ]);
            brief(spec)?
        })?,
        of(
            "shippingservice",
            with(server(50051, OFTEN, AT_ONCE, small()), &quiet(50051)),
        )?,
        of("adservice", {
            let late = (Some(20), Some(15));
            brief(with(
                server(9555, late, late, tight("200m", "180Mi", "300m", "300Mi")),
                &port(9555),
            ))?
        })?
        .saying("A JVM: its probes wait for it."),
        loadgenerator()?,
        shopping_assistant()?,
    ])
}

const AT_ONCE: Pace = (None, None);
const OFTEN: Pace = (None, Some(5));

fn of(name: &str, spec: ResilientServiceSpec) -> Result<Object> {
    let image = match spec.image.as_str() {
        "" => format!("gcr.io/google-samples/microservices-demo/{name}:v0.10.0"),
        other => other.to_owned(),
    };
    workload("app", name, ResilientServiceSpec { image, ..spec })
}

/// What all of them say: one user, and nothing beyond the restricted profile.
fn restricted() -> ResilientServiceSpec {
    ResilientServiceSpec {
        security_context: Some(SecurityContext {
            run_as_user: Some(1000),
            run_as_group: Some(1000),
            fs_group: Some(1000),
            ..Default::default()
        }),
        ..service("")
    }
}

/// A server of gRPC, which is asked by the kubelet itself.
fn server(number: i32, readiness: Pace, liveness: Pace, resources: ResourceRequirements) -> ResilientServiceSpec {
    let probe = |(initial_delay_seconds, period_seconds)| {
        Some(ProbeSpec {
            kind: Some(ProbeType::GRPC),
            initial_delay_seconds,
            period_seconds,
            ..Default::default()
        })
    };
    ResilientServiceSpec {
        ports: vec![port("grpc", number)],
        probes: Some(Probes {
            startup: None,
            readiness: probe(readiness),
            liveness: probe(liveness),
        }),
        resources: Some(resources),
        ..restricted()
    }
}

fn with(spec: ResilientServiceSpec, env: &[(&str, String)]) -> ResilientServiceSpec {
    let env: Vec<_> = env.iter().map(|(name, value)| (*name, value.as_str())).collect();
    ResilientServiceSpec {
        env: variables(&env),
        ..spec
    }
}

/// Five seconds to end, all of them the process' own.
fn brief(spec: ResilientServiceSpec) -> Result<ResilientServiceSpec> {
    Ok(ResilientServiceSpec {
        termination_grace_period_seconds: 5,
        lifecycle: no_pause()?,
        ..spec
    })
}

fn tight(cpu: &str, memory: &str, most_cpu: &str, most_memory: &str) -> ResourceRequirements {
    resources((cpu, memory), (most_cpu, most_memory))
}

fn small() -> ResourceRequirements {
    tight("100m", "64Mi", "200m", "128Mi")
}

fn http(service_port: Option<i32>) -> ContainerPort {
    ContainerPort {
        service_port,
        ..port("http", 8080)
    }
}

/// Istio's own way of letting probes through.
fn rewritten() -> ResilientServiceSpec {
    ResilientServiceSpec {
        pod_annotations: texts([("sidecar.istio.io/rewriteAppHTTPProbers", "true")]),
        ..restricted()
    }
}

fn frontend() -> Result<Object> {
    let probe = |cookie: &str| {
        Some(ProbeSpec {
            path: Some("/_healthz".into()),
            http_headers: vec![HttpHeader {
                name: "Cookie".into(),
                value: cookie.into(),
            }],
            initial_delay_seconds: Some(10),
            ..Default::default()
        })
    };
    let spec = ResilientServiceSpec {
        ports: vec![http(Some(80))],
        service: Some(ServiceExposure {
            kind: Some(ServiceType::LoadBalancer),
            ..Default::default()
        }),
        env: variables(&[
            ("PORT", "8080"),
            ("PRODUCT_CATALOG_SERVICE_ADDR", "productcatalogservice:3550"),
            ("CURRENCY_SERVICE_ADDR", "currencyservice:7000"),
            ("CART_SERVICE_ADDR", "cartservice:7070"),
            ("RECOMMENDATION_SERVICE_ADDR", "recommendationservice:8080"),
            ("SHIPPING_SERVICE_ADDR", "shippingservice:50051"),
            ("CHECKOUT_SERVICE_ADDR", "checkoutservice:5050"),
            ("AD_SERVICE_ADDR", "adservice:9555"),
            ("SHOPPING_ASSISTANT_SERVICE_ADDR", "shoppingassistantservice:80"),
            ("ENABLE_PROFILER", "0"),
        ]),
        probes: Some(Probes {
            startup: None,
            readiness: probe("shop_session-id=x-readiness-probe"),
            liveness: probe("shop_session-id=x-liveness-probe"),
        }),
        resources: Some(small()),
        ..rewritten()
    };
    Ok(of("frontend", spec)?.saying(
        "Their two Services, one inside and one with an address of its own, are one: a LoadBalancer has both. The probes' cookie\nkeeps the shop from making a session for each.",
    ))
}

fn redis_cart() -> Result<Object> {
    let probe = || {
        Some(ProbeSpec {
            kind: Some(ProbeType::TCP),
            period_seconds: Some(5),
            ..Default::default()
        })
    };
    let spec = ResilientServiceSpec {
        image: "redis:alpine".into(),
        ports: vec![port("tcp-redis", 6379)],
        volumes: vec![verbatim(json!({"name": "redis-data", "emptyDir": {}}))?],
        volume_mounts: vec![VolumeMount {
            name: "redis-data".into(),
            mount_path: "/data".into(),
            sub_path: None,
            read_only: None,
        }],
        probes: Some(Probes {
            startup: None,
            readiness: probe(),
            liveness: probe(),
        }),
        resources: Some(tight("70m", "200Mi", "125m", "256Mi")),
        ..restricted()
    };
    Ok(of("redis-cart", spec)?.saying("A server with state that a new pod begins without: an emptyDir, as theirs."))
}

fn loadgenerator() -> Result<Object> {
    let waits = "until wget -q -O /dev/null \"http://$FRONTEND_ADDR\"; do sleep 10; done";
    let frontend = json!([{"name": "FRONTEND_ADDR", "value": "frontend:80"}]);
    let wait =
        json!({"name": "frontend-check", "image": "busybox:latest", "command": ["sh", "-c", waits], "env": frontend});
    let spec = ResilientServiceSpec {
        init_containers: vec![verbatim(wait)?],
        env: variables(&[("FRONTEND_ADDR", "frontend:80"), ("USERS", "10")]),
        resources: Some(tight("300m", "256Mi", "500m", "512Mi")),
        ..rewritten()
    };
    Ok(of("loadgenerator", brief(spec)?)?.saying("Nobody calls it: no port, so no Service. It begins when the front end answers; what its init container may do is as\nin its own."))
}

fn shopping_assistant() -> Result<Object> {
    let settings = [
        "GOOGLE_API_KEY",
        "ALLOYDB_CLUSTER_NAME",
        "ALLOYDB_INSTANCE_NAME",
        "ALLOYDB_DATABASE_NAME",
        "ALLOYDB_TABLE_NAME",
        "ALLOYDB_SECRET_NAME",
        "PROJECT_ID",
        "REGION",
    ];
    let settings: Vec<_> = settings.map(|name| (name, format!("{name}_VAL"))).into();
    let mut spec = with(restricted(), &settings);
    spec.ports = vec![http(Some(80))];
    spec.resources = Some(small());
    if let Some(security) = &mut spec.security_context {
        security.read_only_root_filesystem = Some(false);
    }
    Ok(of("shoppingassistantservice", brief(spec)?)?.saying(
        "Theirs only where it is asked for: write your own values. It writes to its image's files, which is loosened by name.",
    ))
}
