//! Whatever the schema and the operator's rules accept, a real API server takes: drawn ResilientServices and those of whole
//! applications, and each child that the operator would make of one. Nothing is stored.

use anyhow::{Context, Result, ensure};
use futures::{StreamExt, stream};
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
    core::{ApiResource, DynamicObject, GroupVersionKind},
};
use serde::Deserialize;
use serde_json::{Value, json};
use std::{collections::BTreeMap, env, fs, sync::Arc};
use valerix_crds::ResilientService;
use valerix_draw::Draws;
use valerix_e2e::world::{OPERATOR_NAMESPACE, World};
use valerix_operator::{
    resilient_service::{children, violations},
    runtime::drift,
};

/// How many are drawn, unless `VALERIX_ROUNDS` says otherwise.
const ROUNDS: u64 = 100;
/// Objects that are asked about at a time.
const AT_A_TIME: usize = 4;

fn number(variable: &str, otherwise: u64) -> Result<u64> {
    match env::var(variable) {
        Ok(text) => text.parse().with_context(|| format!("{variable} is no number: {text}")),
        Err(_) => Ok(otherwise),
    }
}

fn read(object: &Value) -> Option<Arc<ResilientService>> {
    serde_json::from_value(object.clone()).ok().map(Arc::new)
}

/// Fields that the operator refuses.
fn refused(object: &Value) -> Vec<String> {
    let service = read(object).map_or_else(Vec::new, |service| violations(&service));
    service.into_iter().map(|violation| violation.field).collect()
}

/// What the API server says to an object, if it does not take it as it is.
async fn objection(client: &Client, namespace: &str, object: &Value) -> Result<Option<String>> {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let (group, version) = text("/apiVersion")
        .rsplit_once('/')
        .unwrap_or(("", text("/apiVersion")));
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, text("/kind")));
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &resource);
    let parameters = PatchParams::apply("specs").dry_run();
    Ok(
        match api
            .patch(text("/metadata/name"), &parameters, &Patch::Apply(object))
            .await
        {
            Ok(stored) => {
                let stored = serde_json::to_value(stored).context("failed to write what is stored")?;
                let seen = drift::project(object, &stored);
                // What is stored in another form looks like drift to an operator that has just started.
                differs(object, &seen, "").map(|path| format!("is stored in another form: {path}"))
            }
            Err(error) => Some(error.to_string()),
        },
    )
}

/// The first place where two values differ, with both.
fn differs(one: &Value, other: &Value, path: &str) -> Option<String> {
    match (one, other) {
        (Value::Object(fields), Value::Object(others)) => fields.iter().find_map(|(name, value)| {
            differs(
                value,
                others.get(name).unwrap_or(&Value::Null),
                &format!("{path}.{name}"),
            )
        }),
        (Value::Array(items), Value::Array(others)) if items.len() == others.len() => {
            let pairs = items.iter().zip(others).enumerate();
            pairs
                .into_iter()
                .find_map(|(index, (one, other))| differs(one, other, &format!("{path}[{index}]")))
        }
        _ => (one != other).then(|| format!("{path}: {one} became {other}")),
    }
}

/// The service, and the children that the operator would make of it.
fn with_children(mut service: Value, namespace: &str) -> Result<Vec<Value>> {
    let drawn = service.clone();
    service["metadata"]["namespace"] = json!(namespace);
    service["metadata"]["uid"] = json!("0a0a0a0a-0000-4000-8000-000000000001");
    let read = read(&service).with_context(|| format!("cannot be read: {service}"))?;
    let resources =
        children(&read, "guard:1", OPERATOR_NAMESPACE).with_context(|| format!("cannot be built: {service}"))?;
    Ok(std::iter::once(drawn).chain(resources.objects()?).collect())
}

/// What was objected to, with how often and the first specification of which.
#[derive(Default)]
struct Objections {
    asked: usize,
    found: BTreeMap<String, (usize, Value)>,
}

impl Objections {
    /// Asks about the service and each child.
    async fn ask(&mut self, client: &Client, namespace: &str, service: &Value) -> Result<()> {
        let objects = with_children(service.clone(), namespace)?;
        self.asked += objects.len();
        let mut answers = stream::iter(objects)
            .map(|object| {
                let client = client.clone();
                async move { (object["kind"].clone(), objection(&client, namespace, &object).await) }
            })
            .buffered(AT_A_TIME);
        while let Some((kind, answer)) = answers.next().await {
            if let Some(text) = answer? {
                let short: String = text.chars().take(400).collect();
                let entry = self
                    .found
                    .entry(format!("{kind}: {short}"))
                    .or_insert((0, service["spec"].clone()));
                entry.0 += 1;
            }
        }
        Ok(())
    }

    fn none(&self, of: &str) -> Result<()> {
        let told: Vec<String> = self
            .found
            .iter()
            .take(40)
            .map(|(text, (count, spec))| format!("{count} times {text}\n  first of {:.1500}", spec.to_string()))
            .collect();
        ensure!(
            self.found.is_empty(),
            "{} objections to {} objects of {of}:\n{}",
            self.found.len(),
            self.asked,
            told.join("\n")
        );
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_schema_accepts_the_api_server_takes_with_every_child() -> Result<()> {
    let (rounds, seed) = (number("VALERIX_ROUNDS", ROUNDS)?, number("VALERIX_SEED", 1)?);
    let world = World::shared().await?;
    let work = async |namespace: &str| {
        let mut draws = Draws::seeded(seed)?;
        let mut objections = Objections::default();
        for round in 0..rounds {
            let service = draws.service("order", refused);
            objections
                .ask(&world.client, namespace, &service)
                .await
                .with_context(|| format!("seed {seed}, round {round}"))?;
        }
        objections.none(&format!("{rounds} services of seed {seed}"))
    };
    world.with_namespace("specs", work).await
}

/// The applications of the examples, whose images are not at hand.
#[tokio::test(flavor = "multi_thread")]
async fn every_workload_of_the_examples_is_taken_with_every_child() -> Result<()> {
    let world = World::shared().await?;
    let work = async |namespace: &str| {
        let mut objections = Objections::default();
        let mut services = 0;
        for entry in fs::read_dir(world.environment.root.join("examples/workloads"))? {
            let text = fs::read_to_string(entry?.path())?;
            for document in serde_yaml::Deserializer::from_str(&text) {
                let service = Value::deserialize(document).context("failed to read an example")?;
                objections.ask(&world.client, namespace, &service).await?;
                services += 1;
            }
        }
        ensure!(services >= 27, "only {services} workloads were found");
        objections.none(&format!("{services} workloads"))
    };
    world.with_namespace("workloads", work).await
}
