//! Third step: a plan as the objects that make it true. Pure: the same plan always gives the same objects.

mod autoscaler;
mod config_map;
mod deployment;
mod disruption_budget;
mod guard;
mod metadata;
mod mounts;
mod network_policy;
mod pod;
mod port;
mod probes;
mod quantities;
mod security;
mod service_account;
mod service_monitor;
mod services;
mod variables;

pub use deployment::fit_selector;
pub use disruption_budget::{is_budget_left_out, is_eviction_forbidden};
pub use metadata::selector;
pub use network_policy::Watchers;

use super::{service_monitor::ServiceMonitor, validate::Plan};
use k8s_openapi::api::{
    apps::v1::Deployment,
    autoscaling::v2::HorizontalPodAutoscaler,
    core::v1::{ConfigMap, Service, ServiceAccount},
    networking::v1::NetworkPolicy,
    policy::v1::PodDisruptionBudget,
};
use serde_json::Value;

/// Everything that the operator owns for one service. Who takes it apart does so without `..`, so that a new child
/// does not compile before it is applied and pruned.
#[derive(Clone, Debug, PartialEq)]
pub struct Resources {
    /// What the pods run as; none if the user keeps one.
    pub service_account: Option<ServiceAccount>,
    /// The documents.
    pub config_map: ConfigMap,
    /// The address of the service; none if it has no ports.
    pub service: Option<Service>,
    /// The addresses of its pods.
    pub pods_service: Service,
    /// Who may talk to the pods, where somebody may not.
    pub network_policy: Option<NetworkPolicy>,
    /// How many pods may be evicted at a time, where that is bounded.
    pub disruption_budget: Option<PodDisruptionBudget>,
    /// The pods.
    pub deployment: Deployment,
    /// Who decides how many there are, where that is measured.
    pub autoscaler: Option<HorizontalPodAutoscaler>,
    /// Who is to scrape the pods, where the cluster knows the kind.
    pub service_monitor: Option<ServiceMonitor>,
}

impl Resources {
    /// Each as Kubernetes is told of it, in the order in which they are applied.
    ///
    /// # Errors
    /// If one cannot be written as JSON, which would be a bug.
    pub fn objects(&self) -> Result<Vec<Value>, serde_json::Error> {
        let Self {
            service_account,
            config_map,
            service,
            pods_service,
            network_policy,
            disruption_budget,
            deployment,
            autoscaler,
            service_monitor,
        } = self;
        let objects = [
            serde_json::to_value(service_account)?,
            serde_json::to_value(config_map)?,
            serde_json::to_value(service)?,
            serde_json::to_value(pods_service)?,
            serde_json::to_value(network_policy)?,
            serde_json::to_value(disruption_budget)?,
            serde_json::to_value(deployment)?,
            serde_json::to_value(autoscaler)?,
            serde_json::to_value(service_monitor)?,
        ];
        Ok(objects.into_iter().filter(|object| !object.is_null()).collect())
    }
}

/// Builds everything.
pub fn build(plan: &Plan, watchers: Watchers<'_>) -> Resources {
    Resources {
        service_account: service_account::build_service_account(plan),
        config_map: config_map::build_config_map(plan),
        service: services::build_service(plan),
        pods_service: services::build_pods_service(plan),
        network_policy: network_policy::build_network_policy(plan, watchers),
        disruption_budget: disruption_budget::build_disruption_budget(plan),
        deployment: deployment::build_deployment(plan),
        autoscaler: autoscaler::build_autoscaler(plan),
        service_monitor: service_monitor::build_service_monitor(plan),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{fixtures, validate::validate};
    use super::*;
    use serde_json::{Value, json};
    use std::sync::Arc;

    fn built(spec: serde_json::Value) -> Resources {
        let service = Arc::new(fixtures::service("order", spec));
        let mut plan = validate(&service, 2, "ghcr.io/valerix/guard:1").unwrap();
        plan.knows_monitors = true;
        built_of(&plan)
    }

    fn built_of(plan: &Plan) -> Resources {
        let watchers = Watchers {
            operator_namespace: "valerix-system",
            monitoring_namespaces: &["monitoring".to_owned()],
        };
        build(plan, watchers)
    }

    fn snapshot(name: &str, resources: &Resources) {
        insta::assert_yaml_snapshot!(name, resources.objects().unwrap());
    }

    #[test]
    fn a_minimal_service() {
        snapshot("minimal", &built(json!({"image": "nginx"})));
    }

    #[test]
    fn a_service_that_does_not_report() {
        let spec = json!({
            "image": "docker.io/library/redis:7.0-bookworm",
            "replicas": 0,
            "command": ["redis-server"],
            "ports": [{"name": "redis", "containerPort": 6379}],
            "lifecycle": {"preStopSleep": "0s"},
            "resilience": {"protocol": "None"}
        });
        snapshot("plain", &built(spec));
    }

    #[test]
    fn a_full_service() {
        snapshot("full", &built(fixtures::full_spec()));
    }

    #[test]
    fn a_guarded_service() {
        snapshot("guarded", &built(fixtures::guarded_spec()));
    }

    /// Turned on or off, a guard is another template of the pods, and nothing that an ordinary rollout does not know.
    #[test]
    fn a_guard_turned_off_is_a_service_like_any_other() {
        let mut spec = fixtures::guarded_spec();
        spec["guard"]["mode"] = json!("Off");
        for target in spec["resilience"]["targets"].as_array_mut().unwrap() {
            target["url"] = json!("http://ledger.bank.svc:8080/v1");
        }
        let off = built(spec.clone());
        spec["guard"] = json!(null);
        assert_eq!(off, built(spec));
    }

    #[test]
    fn while_pods_without_the_guard_stand_each_is_found_where_it_listens() {
        let service = Arc::new(fixtures::service("order", fixtures::guarded_spec()));
        let mut plan = validate(&service, 2, "guard:1").unwrap();
        let seen = |plan: &Plan| {
            let resources = built_of(plan);
            let ports = resources.service.unwrap().spec.unwrap().ports.unwrap();
            let targets: Vec<_> = ports.into_iter().map(|port| json!(port.target_port)).collect();
            let rules = resources.network_policy.unwrap().spec.unwrap().ingress.unwrap();
            let open = rules[0].ports.clone().unwrap();
            let open: Vec<_> = open.into_iter().map(|port| json!(port.port)).collect();
            (json!(targets), json!(open))
        };
        assert_eq!(
            seen(&plan),
            (json!([15100, 15101, 3200]), json!([3200, 9090, 9999, 15100, 15101]))
        );
        plan.has_pods_of_another_shape = true;
        assert_eq!(
            seen(&plan),
            (
                json!(["http", "events", 3200]),
                json!([3001, 3100, 3200, 9090, 9999, 15100, 15101])
            )
        );
    }

    #[test]
    fn what_the_container_is_told_of_its_surroundings_the_guard_is_told_too() {
        let mut spec = fixtures::guarded_spec();
        let from = json!({"secretKeyRef": {"name": "limits", "key": "url"}});
        spec["env"] = json!([
            {"name": "OTEL_EXPORTER_OTLP_ENDPOINT", "value": "http://collector:4317"},
            {"name": "REDIS_LIMITS_URL", "valueFrom": from},
            {"name": "SSL_CERT_FILE", "value": "/etc/authorities/own/ca.crt"},
            {"name": "PASSWORD", "value": "of nobody else"},
        ]);
        spec["volumes"] = json!([{"name": "authorities", "configMap": {"name": "authorities"}}]);
        spec["volumeMounts"] = json!([{"name": "authorities", "mountPath": "/etc/authorities"}]);
        let deployment = json!(built(spec).deployment);
        let guard = &deployment["spec"]["template"]["spec"]["initContainers"][0];
        let variable = |name: &str| {
            let env = guard["env"].as_array().unwrap();
            env.iter().find(|variable| variable["name"] == name).cloned()
        };
        assert_eq!(
            variable("OTEL_EXPORTER_OTLP_ENDPOINT").unwrap()["value"],
            "http://collector:4317"
        );
        assert_eq!(variable("REDIS_LIMITS_URL").unwrap()["valueFrom"], from);
        assert_eq!(
            variable("SSL_CERT_FILE").unwrap()["value"],
            "/etc/authorities/own/ca.crt"
        );
        assert_eq!(variable("PASSWORD"), None);
        let mounts = guard["volumeMounts"].as_array().unwrap();
        let mount = json!({"name": "authorities", "mountPath": "/etc/authorities", "readOnly": true});
        assert!(mounts.contains(&mount), "{mounts:?}");
    }

    #[test]
    fn a_guard_is_told_what_memory_it_may_use() {
        let told = |resources: Value| {
            let mut spec = fixtures::guarded_spec();
            spec["guard"]["resources"] = resources;
            let deployment = json!(built(spec).deployment);
            let env = deployment["spec"]["template"]["spec"]["initContainers"][0]["env"].clone();
            let mut env = env.as_array().unwrap().iter();
            let variable = env.find(|variable| variable["name"] == "MEMORY_LIMIT");
            variable.map(|variable| variable["value"].as_str().unwrap().to_owned())
        };
        assert_eq!(told(json!(null)).as_deref(), Some("67108864"));
        assert_eq!(
            told(json!({"limits": {"memory": "0.25Gi"}})).as_deref(),
            Some("268435456")
        );
        assert_eq!(told(json!({"requests": {"memory": "32Mi"}})), None, "nothing limits it");
    }

    #[test]
    fn authorities_of_a_target_lie_where_its_listener_looks_for_them() {
        let mut spec = fixtures::guarded_spec();
        let none = json!(built(spec.clone()).deployment).to_string();
        assert!(!none.contains("authorities"), "{none}");
        let targets = spec["resilience"]["targets"].as_array_mut().unwrap();
        for (name, tls) in [
            (
                "bank",
                json!({"caBundleRef": {"name": "bank-ca"}, "serverName": "pay.bank.example"}),
            ),
            ("tax", json!({"caBundleRef": {"name": "tax-ca", "key": "bundle.pem"}})),
            ("mail", json!({"serverName": "mail.example"})),
        ] {
            targets.push(json!({"name": name, "url": format!("https://{name}.example"), "tls": tls}));
        }
        let pod = json!(built(spec).deployment)["spec"]["template"]["spec"].take();
        let volumes = pod["volumes"].as_array().unwrap().iter();
        let volume = volumes
            .clone()
            .find(|volume| volume["name"] == "valerix-authorities")
            .unwrap();
        let source = |name: &str, key: &str, path: &str| json!({"configMap": {"name": name, "items": [{"key": key, "path": path}], "optional": true}});
        let sources = [
            source("bank-ca", "ca.crt", "bank.pem"),
            source("tax-ca", "bundle.pem", "tax.pem"),
        ];
        assert_eq!(volume["projected"]["sources"], json!(sources));
        let guard = &pod["initContainers"][0];
        let mount = json!({"name": "valerix-authorities", "mountPath": "/etc/valerix/authorities", "readOnly": true});
        assert!(guard["volumeMounts"].as_array().unwrap().contains(&mount), "{guard}");
        let mut env = guard["env"].as_array().unwrap().iter();
        let wiring = env.find(|variable| variable["name"] == "VALERIX_GUARD").unwrap()["value"].as_str();
        let wiring: Value = serde_json::from_str(wiring.unwrap()).unwrap();
        let told: Vec<_> = wiring["targets"].as_array().unwrap()[2..]
            .iter()
            .map(|target| (target["authorities"].clone(), target["serverName"].clone()))
            .collect();
        assert_eq!(
            json!(told),
            json!([
                ["/etc/valerix/authorities/bank.pem", "pay.bank.example"],
                ["/etc/valerix/authorities/tax.pem", null],
                [null, "mail.example"],
            ])
        );
    }

    #[test]
    fn what_the_user_sets_for_the_proxy_stays() {
        let mut spec = fixtures::guarded_spec();
        spec["env"] = json!([{"name": "HTTP_PROXY", "value": "http://proxy:3128"}]);
        let deployment = json!(built(spec).deployment);
        let env = deployment["spec"]["template"]["spec"]["containers"][0]["env"].clone();
        let of = |name: &str| -> Vec<_> {
            let variables = env.as_array().unwrap().iter();
            variables
                .filter(|variable| variable["name"] == name)
                .map(|variable| variable["value"].clone())
                .collect()
        };
        assert_eq!(of("HTTP_PROXY"), ["http://proxy:3128"]);
        assert_eq!(of("http_proxy"), ["http://127.0.0.1:15001"]);
        assert_eq!(of("NO_PROXY"), ["localhost,127.0.0.1,::1"]);
    }

    #[test]
    fn what_the_api_server_would_write_in_another_form_is_written_in_its_own() {
        let resources = built(json!({
            "image": "a", "env": [{"name": "EMPTY", "value": ""}],
            "resources": {"requests": {"cpu": "1000m", "memory": "1024Mi"}, "limits": {"memory": "1.5Gi"}}
        }));
        let deployment = serde_json::to_value(resources.deployment).unwrap();
        let container = &deployment["spec"]["template"]["spec"]["containers"][0];
        assert_eq!(
            container["resources"],
            json!({"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"memory": "1536Mi"}})
        );
        assert_eq!(
            container["env"].as_array().unwrap().last(),
            Some(&json!({"name": "EMPTY"}))
        );
    }

    #[test]
    fn a_number_of_pods_in_quotes_is_a_number_and_a_percentage_stays_one() {
        let resources = built(json!({
            "image": "a", "replicas": 3, "disruption": {"minAvailable": "2"},
            "strategy": {"maxSurge": "10%", "maxUnavailable": "1"}
        }));
        let budget = serde_json::to_value(resources.disruption_budget).unwrap();
        assert_eq!(budget["spec"]["minAvailable"], 2);
        let deployment = serde_json::to_value(resources.deployment).unwrap();
        let rolling = json!({"maxSurge": "10%", "maxUnavailable": 1});
        assert_eq!(deployment["spec"]["strategy"]["rollingUpdate"], rolling);
    }

    #[test]
    fn ports_of_services_target_numbers_so_that_a_renamed_one_finds_the_pods_of_before() {
        let spec = json!({"image": "a", "ports": [{"name": "http", "containerPort": 3001, "servicePort": 80}]});
        let Resources {
            service, pods_service, ..
        } = built(spec);
        let targets = |service: Service| -> Vec<_> {
            let ports = service.spec.unwrap().ports.unwrap();
            ports
                .into_iter()
                .map(|port| serde_json::to_value(port.target_port).unwrap())
                .collect()
        };
        assert_eq!(targets(service.unwrap()), [3001]);
        assert_eq!(targets(pods_service), [3001, 9090]);
    }

    #[test]
    fn building_twice_gives_the_same() {
        assert_eq!(built(fixtures::full_spec()), built(fixtures::full_spec()));
    }
}
