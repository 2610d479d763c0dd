//! Commands: each is one write of an object in the name of whoever gives it. What may be done, and what is well-formed,
//! is for the API server and the operator to say.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use kube::api::{DynamicObject, Patch, PatchParams};
use kube::{Api as KubeApi, Client, Resource};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;
use valerix_crds::names::RUN_ANNOTATION;
use valerix_kit::api::{Api, Operation};
use valerix_kit::extract::{Json, Path};
use valerix_kit::identity::Access;
use valerix_kit::problem::Problem;

use super::names;
use crate::kinds::Kind;
use crate::state::AppState;
use crate::viewer::{Commander, Viewer};

/// An object to create.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct NewObject {
    /// The namespace that it is to be in.
    #[schemars(length(min = 1, max = 63))]
    namespace: String,
    /// Its name.
    #[schemars(length(min = 1, max = 63))]
    name: String,
    /// Its spec; the API server checks it.
    #[schemars(with = "serde_json::Map<String, Value>")]
    spec: Value,
    /// Whether the API server is only asked what it would say: nothing is written.
    #[serde(default)]
    check: bool,
}

/// The object that was written.
#[derive(Serialize, JsonSchema)]
struct Written {
    /// Its namespace.
    namespace: String,
    /// Its name.
    name: String,
}

pub(super) fn routes(api: Api<AppState>) -> Api<AppState> {
    let command = |summary| {
        Operation::new(summary, Access::Open)
            .answer::<Written>(200, "The object that was written")
            .problem(401, "One has not signed in")
            .problem(403, "One may not do it, or the request does not come from the page")
            .problem(404, "There is no such object")
    };
    let creation = |summary| {
        let example = json!({"namespace": "shop", "name": "slow-auth", "spec": {}, "check": true});
        Operation::new(summary, Access::Open)
            .body::<NewObject>(example)
            .answer::<Written>(200, "It would be accepted: nothing was written")
            .answer::<Written>(201, "The object that was created")
            .problem(401, "One has not signed in")
            .problem(403, "One may not do it, or the request does not come from the page")
            .problem(409, "There is one of that name")
            .problem(
                422,
                "The API server refuses it, in its own words, field by field where it says so",
            )
    };
    let experiment = "/api/experiments/{namespace}/{name}";
    let begin = creation("Create an experiment, which begins at once unless it has a schedule");
    api.post("/api/experiments", begin_experiment, begin)
        .post(
            "/api/restores",
            begin_restore,
            creation("Have databases given back from an archive"),
        )
        .post(
            &format!("{experiment}/stop"),
            stop,
            command("Stop an experiment, which recovers at once"),
        )
        .post(&format!("{experiment}/run"), run, command("Run an experiment again"))
        .post(
            "/api/policies/{namespace}/{name}/run",
            back_up,
            command("Run today's backup by hand; a day has one archive"),
        )
}

async fn begin_experiment(
    State(state): State<AppState>,
    commander: Commander,
    Json(new): Json<NewObject>,
) -> Result<Response, Problem> {
    create(&state, commander, Kind::ChaosExperiment, new).await
}

async fn begin_restore(
    State(state): State<AppState>,
    commander: Commander,
    Json(new): Json<NewObject>,
) -> Result<Response, Problem> {
    create(&state, commander, Kind::Restore, new).await
}

async fn create(state: &AppState, commander: Commander, kind: Kind, new: NewObject) -> Result<Response, Problem> {
    names::check("/namespace", &new.namespace)?;
    let viewer = commander.viewer();
    let object = json!({
        "apiVersion": format!("{}/{}", valerix_crds::GROUP, valerix_crds::VERSION),
        "kind": kind.name(),
        "metadata": {"name": new.name, "namespace": new.namespace},
        "spec": new.spec,
    });
    let written = strictly(&viewer.client(state), kind, &new.namespace, &object, new.check).await;
    written.map_err(|error| viewer.refused(&error, state))?;
    let status = if new.check { StatusCode::OK } else { StatusCode::CREATED };
    let written = Written {
        namespace: new.namespace,
        name: new.name,
    };
    Ok((status, Json(written)).into_response())
}

/// Creates an object, or asks whether that would go where `check`; a field that is misspelt is refused instead of dropped,
/// which kube has no parameter for.
async fn strictly(
    client: &Client,
    kind: Kind,
    namespace: &str,
    object: &Value,
    check: bool,
) -> Result<DynamicObject, kube::Error> {
    let path = DynamicObject::url_path(&kind.resource(), Some(namespace));
    let body = serde_json::to_vec(object).map_err(kube::Error::SerdeError)?;
    let dry_run = if check { "&dryRun=All" } else { "" };
    let query = format!("fieldManager=valerix-console&fieldValidation=Strict{dry_run}");
    let request = http::Request::post(format!("{path}?{query}"))
        .header(http::header::CONTENT_TYPE, "application/json")
        .body(body)
        .map_err(kube::Error::HttpError)?;
    client.request(request).await
}

async fn stop(
    State(state): State<AppState>,
    commander: Commander,
    Path((namespace, name)): Path<(String, String)>,
) -> Result<Json<Written>, Problem> {
    let change = json!({"spec": {"desired": "Stop"}});
    patch(&state, commander, Kind::ChaosExperiment, (namespace, name), change).await
}

async fn run(
    State(state): State<AppState>,
    commander: Commander,
    Path((namespace, name)): Path<(String, String)>,
) -> Result<Json<Written>, Problem> {
    let mut change = ask_for_a_run();
    change["spec"] = json!({"desired": "Run"});
    patch(&state, commander, Kind::ChaosExperiment, (namespace, name), change).await
}

async fn back_up(
    State(state): State<AppState>,
    commander: Commander,
    Path((namespace, name)): Path<(String, String)>,
) -> Result<Json<Written>, Problem> {
    patch(
        &state,
        commander,
        Kind::BackupPolicy,
        (namespace, name),
        ask_for_a_run(),
    )
    .await
}

fn ask_for_a_run() -> Value {
    json!({"metadata": {"annotations": {RUN_ANNOTATION: Uuid::new_v4().to_string()}}})
}

async fn patch(
    state: &AppState,
    commander: Commander,
    kind: Kind,
    (namespace, name): (String, String),
    change: Value,
) -> Result<Json<Written>, Problem> {
    names::check("namespace", &namespace)?;
    names::check("name", &name)?;
    let viewer = commander.viewer();
    let objects = objects(state, &viewer, kind, &namespace);
    let patched = objects
        .patch(&name, &PatchParams::default(), &Patch::Merge(change))
        .await;
    patched.map_err(|error| viewer.refused(&error, state))?;
    Ok(Json(Written { namespace, name }))
}

fn objects(state: &AppState, viewer: &Viewer, kind: Kind, namespace: &str) -> KubeApi<DynamicObject> {
    KubeApi::namespaced_with(viewer.client(state), namespace, &kind.resource())
}
