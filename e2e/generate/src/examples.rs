//! The examples, built from the types so that they cannot drift from the API.

use crate::Files;
use anyhow::{Context, Result};
use k8s_openapi::apimachinery::pkg::{api::resource::Quantity, util::intstr::IntOrString};
use serde::Serialize;
use serde_json::Value;
use std::path::Path;
use valerix_crds::{
    ChaosExperimentSpec, ChaosTarget, ConcurrencyPolicy, DesiredState, Duration, ResilientServiceSpec,
    ResourceRequirements,
};

mod backups;
mod experiments;
mod jobs;
mod services;
mod shop;
mod workloads;

/// One file: its name, what a reader learns from it, and the objects.
struct Example {
    name: &'static str,
    about: &'static str,
    objects: Vec<Object>,
}

/// An object, and what a reader is told right before it, if anything.
struct Object {
    word: &'static str,
    value: Value,
}

impl Object {
    fn saying(self, word: &'static str) -> Self {
        Self { word, ..self }
    }
}

pub fn files() -> Result<Files> {
    let mut files = Files::new();
    for example in examples()? {
        let mut text =
            String::from("# Generated from e2e/generate/src/examples.rs; change that and run `make generate`.\n");
        text.push_str(&comment(example.about));
        for Object { word, value } in &example.objects {
            text.push_str("---\n");
            text.push_str(&comment(word));
            text.push_str(&crate::yaml::write(value).context("failed to write an example as YAML")?);
        }
        files.insert(Path::new("examples").join(format!("{}.yaml", example.name)), text);
    }
    Ok(files)
}

fn comment(text: &str) -> String {
    text.lines().map(|line| format!("# {line}\n")).collect()
}

fn examples() -> Result<Vec<Example>> {
    let mut all = vec![
        Example {
            name: "service-any-image",
            about: "A service of an image that knows nothing of Valerix: deployed, kept true, never asked for a report.",
            objects: vec![object(&services::any_image())?],
        },
        Example {
            name: "service-guarded",
            about: "A service of an image that knows nothing of Valerix, with a guard beside it that obeys the policy in its place: a breaker,\ndeadlines and retries towards the ledger, whose address the program finds in VALERIX_TARGET_LEDGER_URL, and a bound on\nconnections to Redis (VALERIX_TARGET_CACHE_ADDR). It consents to experiments.",
            objects: vec![object(&services::guarded()?)?],
        },
        Example {
            name: "job-guarded",
            about: "A Job with a guard beside it, which no kind of ours deploys: the guard is a native sidecar, begins before the program and\nends after it. One read of the ledger, tried again by the guard where it fails; VALERIX_TARGET_LEDGER_URL is the guard's.",
            objects: vec![object(&jobs::policy()?)?, object(&jobs::guarded()?)?],
        },
        Example {
            name: "service-with-breaker",
            about: "A service that calls another one: deadlines, a breaker that opens after three failures, consent to experiments.\nIts image links the resilience library (or speaks its report protocol).",
            objects: vec![object(&services::with_breaker()?)?],
        },
        Example {
            name: "service-with-limits",
            about: "A service that many call: five orders in ten seconds for each customer, counted once for all replicas; a limit of\nrequests at a time that measures itself and lets suggestions go first; orders only with an Idempotency-Key.",
            objects: vec![object(&services::with_limits()?)?],
        },
        Example {
            name: "service-of-a-manifest",
            about: "What a Deployment, a Service, a HorizontalPodAutoscaler, a PodDisruptionBudget and a NetworkPolicy of a public chart say,\nas one service: podinfo, with a volume, a user of its own, a probe by command and room to grow.",
            objects: vec![object(&services::of_a_manifest()?)?],
        },
        Example {
            name: "workloads/online-boutique",
            about: "Every Deployment of Online Boutique 0.10.0 (GoogleCloudPlatform/microservices-demo) with its Service, as one service each:\ngRPC that the kubelet asks by itself, a user of its own, five seconds to end.",
            objects: workloads::online_boutique::workloads()?,
        },
        Example {
            name: "workloads/sock-shop",
            about: "Every Deployment of Sock Shop (microservices-demo/microservices-demo) with its Service, as one service each: capabilities\nby name, databases that begin as root, a container beside another.",
            objects: workloads::sock_shop::workloads()?,
        },
        Example {
            name: "chaos-pod-kill",
            about: "Evicts one pod of `inventory` and judges whether orders are still accepted meanwhile.",
            objects: vec![object(&experiments::pod_kill())?],
        },
        Example {
            name: "chaos-latency",
            about: "Delays every request to `inventory` by three seconds for twenty seconds.",
            objects: vec![object(&experiments::latency()?)?],
        },
        Example {
            name: "chaos-errors-on-schedule",
            about: "Every working day but Friday at ten, Berlin time, seven of ten stock deductions fail for one minute.",
            objects: vec![object(&experiments::errors_on_schedule()?)?],
        },
        Example {
            name: "backup-daily",
            about: "Two databases, one checked archive a day on a claim. Needs the Secrets and the claim that it names.",
            objects: vec![object(&backups::backup())?],
        },
        Example {
            name: "backup-s3",
            about: "The same into a bucket of an S3-compatible store: one conditional write a day. Needs the bucket and the Secrets.",
            objects: vec![object(&backups::backup_into_bucket())?],
        },
        Example {
            name: "restore-new-database",
            about: "Gives one database of the newest archive back under a name of its own. Nothing that is there is touched.",
            objects: vec![object(&backups::restore_new())?],
        },
        Example {
            name: "restore-replace",
            about: "Puts the database of one day in the place of the living one, which is kept aside, closed, for three days.",
            objects: vec![object(&backups::restore_replacing()?)?],
        },
        Example {
            name: "restore-lost-cluster",
            about: "The cluster is gone, its bucket is not: everything of one archive, with the roles that the new server lacks.",
            objects: vec![object(&backups::restore_lost())?],
        },
    ];
    for (name, about, experiment) in shop::experiments()? {
        all.push(Example {
            name,
            about,
            objects: vec![object(&experiment)?],
        });
    }
    Ok(all)
}

/// An object as JSON without its empty status.
fn object<K: Serialize>(resource: &K) -> Result<Object> {
    let mut value = serde_json::to_value(resource).context("failed to write an example as JSON")?;
    if let Some(map) = value.as_object_mut() {
        map.remove("status");
    }
    Ok(Object { word: "", value })
}

/// CPU and memory, as asked for and at most.
fn resources(requests: (&str, &str), limits: (&str, &str)) -> ResourceRequirements {
    let quantities = |(cpu, memory): (&str, &str)| {
        [("cpu", cpu), ("memory", memory)]
            .map(|(name, amount)| (name.to_owned(), Quantity(amount.to_owned())))
            .into()
    };
    ResourceRequirements {
        requests: quantities(requests),
        limits: quantities(limits),
    }
}

/// What is said of a service when only its image is: a field that has no default is added here.
fn service(image: &str) -> ResilientServiceSpec {
    ResilientServiceSpec {
        image: image.into(),
        image_pull_policy: None,
        image_pull_secrets: vec![],
        replicas: 1,
        command: vec![],
        args: vec![],
        env: vec![],
        env_from: vec![],
        ports: vec![],
        service: None,
        volumes: vec![],
        volume_mounts: vec![],
        init_containers: vec![],
        security_context: None,
        service_account_name: None,
        node_selector: Default::default(),
        tolerations: vec![],
        affinity: None,
        priority_class_name: None,
        pod_overrides: None,
        resources: None,
        probes: None,
        pod_labels: Default::default(),
        pod_annotations: Default::default(),
        termination_grace_period_seconds: 45,
        lifecycle: None,
        strategy: None,
        min_ready_seconds: None,
        progress_deadline_seconds: None,
        autoscaling: None,
        disruption: None,
        topology_spread: None,
        network_policy: None,
        monitoring: None,
        config_reload: None,
        chaos: None,
        resilience: None,
        guard: None,
        paused: false,
    }
}

/// The same of an experiment on `inventory`, still without a fault.
fn experiment() -> ChaosExperimentSpec {
    ChaosExperimentSpec {
        desired: DesiredState::Run,
        target: ChaosTarget {
            service: "inventory".into(),
            zone: None,
            pod_selector: None,
        },
        pod_kill: None,
        latency: None,
        errors: None,
        abort: None,
        refuse: None,
        partition: None,
        crash: None,
        cpu_stress: None,
        memory_stress: None,
        count: IntOrString::Int(1),
        duration: None,
        schedule: None,
        time_zone: None,
        starting_deadline_seconds: None,
        concurrency_policy: ConcurrencyPolicy::Forbid,
        excluded_windows: vec![],
        suspend: false,
        dry_run: false,
        after: None,
        safety: None,
        steady_state: None,
    }
}

fn duration(text: &str) -> Result<Duration> {
    text.parse()
        .with_context(|| format!("failed to read the duration {text}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::{collections::BTreeSet, sync::Arc};
    use valerix_crds::ResilientService;
    use valerix_operator::{convert::convert, resilient_service::children, runtime::drift::project};

    #[test]
    fn all_of_them_can_be_applied_to_one_namespace() {
        let mut seen = BTreeSet::new();
        for example in examples().unwrap() {
            for Object { value, .. } in &example.objects {
                let named = (value["kind"].to_string(), value["metadata"]["name"].to_string());
                assert!(seen.insert(named.clone()), "{named:?} is there twice: {}", example.name);
            }
        }
    }

    /// What the operator would make of it is read by the converter, which knows Deployments and nothing of how they are built.
    #[test]
    fn what_is_made_of_a_service_says_what_it_says() {
        let objects = examples().unwrap().into_iter().flat_map(|example| example.objects);
        let services: Vec<Value> = objects
            .map(|object| object.value)
            .filter(|value| value["kind"] == json!("ResilientService") && value["spec"].get("guard").is_none())
            .collect();
        assert!(services.len() > 27, "{}", services.len());
        let lost: Vec<String> = services.into_iter().filter_map(lost).collect();
        assert!(lost.is_empty(), "{}", lost.join("\n"));
    }

    /// What is not there any more, or is there otherwise, once it was built and converted.
    fn lost(mut service: Value) -> Option<String> {
        let name = service["metadata"]["name"].clone();
        service["metadata"]["namespace"] = json!("shop");
        service["metadata"]["uid"] = json!("uid");
        let read: Arc<ResilientService> = Arc::new(serde_json::from_value(service.clone()).unwrap());
        let children = match children(&read, "guard:1", "valerix-system") {
            Ok(children) => children,
            Err(violations) => return Some(format!("{name}: {violations}")),
        };
        let manifest = json!({"apiVersion": "v1", "kind": "List", "items": children.objects().unwrap()});
        let converted = convert(&manifest.to_string()).unwrap().yaml;
        let found: Value = serde_yaml::from_str(converted.trim_start_matches("---\n")).unwrap();
        let wanted = &mut service["spec"];
        // Manifests have no word for what pods report and for consent, none for a pause of no length, and a NetworkPolicy stays.
        for field in ["resilience", "chaos", "lifecycle", "networkPolicy"] {
            wanted.as_object_mut().unwrap().remove(field);
        }
        let seen = project(wanted, &found["spec"]);
        (seen != *wanted).then(|| format!("{name}: {seen} of {wanted}"))
    }
}
