//! What there is of one object beyond what the stream tells: its manifest, its events, its pods' own reports, and how it
//! was in the last minutes. All of it is read from the API server in the name of whoever asks.

use axum::extract::State;
use futures::future::join_all;
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::core::v1::{Event, Pod};
use kube::Api as KubeApi;
use kube::api::{DynamicObject, ListParams};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use valerix_crds::ResilientService;
use valerix_crds::names::SERVICE_LABEL;
use valerix_kit::api::{Api, Operation};
use valerix_kit::extract::{Json, Path, Query};
use valerix_kit::identity::Access;
use valerix_kit::problem::Problem;
use valerix_policy::Report;

use super::names;
use crate::asking;
use crate::kinds::Kind;
use crate::readiness::Turn;
use crate::state::AppState;
use crate::view::{PodView, ServiceView};
use crate::viewer::Viewer;
use crate::vitals::Moment;

/// The most events that are read of one place, in pages, and that are shown.
const MOST_EVENTS: (usize, usize) = (5_000, 200);
/// Events in one page of a list.
const PAGE: u32 = 500;
/// Namespaces whose events are asked for at a time.
const AT_ONCE: usize = 8;

/// An object as the API server has it.
#[derive(Serialize, JsonSchema)]
struct Manifest {
    /// The object, without its managed fields.
    object: Value,
}

/// What happened.
#[derive(Default, Serialize, JsonSchema)]
struct Events {
    /// The newest first.
    events: Vec<EventView>,
    /// Whether there are more than were read, of which some may be newer.
    truncated: bool,
}

/// Something that happened to an object.
#[derive(Serialize, JsonSchema)]
struct EventView {
    /// When, the last time.
    at: Option<String>,
    /// `Normal` or `Warning`.
    #[serde(rename = "type")]
    severity: String,
    /// One word on what.
    reason: String,
    /// A sentence.
    message: String,
    /// Kind of the object.
    kind: String,
    /// Namespace of the object.
    namespace: String,
    /// Name of the object.
    name: String,
    /// How often.
    times: i32,
}

/// Which events.
#[derive(Deserialize, JsonSchema)]
struct Which {
    /// Those of this namespace; without it those of all.
    namespace: Option<String>,
    /// Those of objects of this name.
    name: Option<String>,
}

/// The pods of a service.
#[derive(Serialize, JsonSchema)]
struct Pods {
    /// Each of them.
    pods: Vec<PodReport>,
}

/// A pod and what it says of itself.
#[derive(Serialize, JsonSchema)]
struct PodReport {
    /// The pod.
    pod: PodView,
    /// What it says: breakers, limits, faults and the policy in force.
    report: Option<Report>,
    /// Why it says nothing.
    error: Option<String>,
}

/// When which pod of a service was ready.
#[derive(Serialize, JsonSchema)]
struct Turns {
    /// The oldest first.
    turns: Vec<Turn>,
}

/// How a service was.
#[derive(Serialize, JsonSchema)]
struct Moments {
    /// The oldest first.
    moments: Vec<Moment>,
}

pub(super) fn routes(api: Api<AppState>) -> Api<AppState> {
    let object = Operation::new("Show an object as the API server has it", Access::Open)
        .answer::<Manifest>(200, "The object")
        .problem(403, "One may not read it")
        .problem(404, "There is no such object");
    let happened = Operation::new("List what happened to the console's kinds of objects", Access::Open)
        .query::<Which>()
        .answer::<Events>(200, "The newest")
        .problem(403, "One may not list events there");
    let pods_of = Operation::new("Ask the pods of a service what they do", Access::Open)
        .answer::<Pods>(200, "Each pod, with its report or why there is none")
        .problem(403, "One may not list pods there");
    let was = Operation::new("Show how a service was in the last ten minutes", Access::Open)
        .answer::<Moments>(200, "A moment for each five seconds in which somebody looked")
        .problem(403, "One may not read the service");
    let ready = Operation::new("Show when which pod of a service was ready", Access::Open)
        .answer::<Turns>(200, "Each turn that was seen, of the last two hundred")
        .problem(403, "One may not list pods there");
    api.get("/api/objects/{kind}/{namespace}/{name}", manifest, object)
        .get("/api/happened", events, happened)
        .get("/api/services/{namespace}/{name}/pods", pods, pods_of)
        .get("/api/services/{namespace}/{name}/moments", moments, was)
        .get("/api/services/{namespace}/{name}/readiness", readiness, ready)
}

async fn manifest(
    State(state): State<AppState>,
    viewer: Viewer,
    Path((kind, namespace, name)): Path<(Kind, String, String)>,
) -> Result<Json<Manifest>, Problem> {
    names::check("namespace", &namespace)?;
    names::check("name", &name)?;
    let objects: KubeApi<DynamicObject> = KubeApi::namespaced_with(viewer.client(&state), &namespace, &kind.resource());
    let mut object = objects
        .get(&name)
        .await
        .map_err(|error| viewer.refused(&error, &state))?;
    object.metadata.managed_fields = None;
    let object = serde_json::to_value(&object).map_err(|error| Problem::internal(&error))?;
    Ok(Json(Manifest { object }))
}

async fn events(
    State(state): State<AppState>,
    viewer: Viewer,
    Query(which): Query<Which>,
) -> Result<Json<Events>, Problem> {
    let client = viewer.client(&state);
    // The API server chooses: what happens to others may be thousands of times as much, and comes in no order of time.
    let mut chosen = format!(
        "involvedObject.apiVersion={}/{}",
        valerix_crds::GROUP,
        valerix_crds::VERSION
    );
    if let Some(name) = &which.name {
        names::check("name", name)?;
        chosen.push_str(&format!(",involvedObject.name={name}"));
    }
    let newest = match &which.namespace {
        Some(namespace) => {
            names::check("namespace", namespace)?;
            newest(KubeApi::namespaced(client, namespace), &chosen).await
        }
        None => newest_of_all(client, &state, &chosen).await,
    };
    Ok(Json(newest.map_err(|error| viewer.refused(&error, &state))?))
}

/// The newest of those in one place, page by page: no more is held than one page and what is shown.
async fn newest(place: KubeApi<Event>, chosen: &str) -> Result<Events, kube::Error> {
    let mut parameters = ListParams::default().limit(PAGE).fields(chosen);
    let (mut newest, mut read) = (Events::default(), 0);
    loop {
        let page = place.list(&parameters).await?;
        read += page.items.len();
        newest.add(page.items.into_iter().map(event));
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) if read < MOST_EVENTS.0 => parameters = parameters.continue_token(&token),
            more => {
                newest.truncated = more.is_some();
                return Ok(newest);
            }
        }
    }
}

/// Those of all namespaces; for whom that is forbidden, those of the namespaces that answer.
async fn newest_of_all(client: kube::Client, state: &AppState, chosen: &str) -> Result<Events, kube::Error> {
    let refused = match newest(KubeApi::all(client.clone()), chosen).await {
        Err(error) if is_forbidden(&error) => error,
        answer => return answer,
    };
    let each = state.board.namespaces().into_iter().map(|namespace| {
        let client = client.clone();
        async move {
            match newest(KubeApi::namespaced(client, &namespace), chosen).await {
                Ok(events) => Ok(Some(events)),
                Err(error) if is_forbidden(&error) => Ok(None),
                Err(error) => Err(error),
            }
        }
    });
    let each: Vec<Option<Events>> = stream::iter(each).buffered(AT_ONCE).try_collect().await?;
    let told = each.into_iter().flatten().reduce(|mut all, events| {
        all.truncated |= events.truncated;
        all.add(events.events.into_iter());
        all
    });
    told.ok_or(refused)
}

impl Events {
    /// Takes others too, and keeps the newest.
    fn add(&mut self, others: impl Iterator<Item = EventView>) {
        self.events.extend(others);
        self.events.sort_by(|one, other| other.at.cmp(&one.at));
        self.events.truncate(MOST_EVENTS.1);
    }
}

fn is_forbidden(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 403)
}

fn event(event: Event) -> EventView {
    let series = event.series.unwrap_or_default();
    let precise = series.last_observed_time.or(event.event_time).map(|time| time.0);
    let at = precise.or(event
        .last_timestamp
        .or(event.metadata.creation_timestamp)
        .map(|time| time.0));
    let object = event.involved_object;
    EventView {
        at: at.map(|at| at.to_string()),
        severity: event.type_.unwrap_or_default(),
        reason: event.reason.unwrap_or_default(),
        message: event.message.unwrap_or_default(),
        kind: object.kind.unwrap_or_default(),
        namespace: object.namespace.unwrap_or_default(),
        name: object.name.unwrap_or_default(),
        times: series.count.or(event.count).unwrap_or(1),
    }
}

async fn pods(
    State(state): State<AppState>,
    viewer: Viewer,
    Path((namespace, name)): Path<(String, String)>,
) -> Result<Json<Pods>, Problem> {
    names::check("namespace", &namespace)?;
    names::check("name", &name)?;
    let client = viewer.client(&state);
    let refused = |error: kube::Error| viewer.refused(&error, &state);
    let services: KubeApi<ResilientService> = KubeApi::namespaced(client.clone(), &namespace);
    let service = ServiceView::from(&services.get(&name).await.map_err(refused)?);
    let labels = ListParams::default()
        .labels(&format!("{SERVICE_LABEL}={name}"))
        .limit(100);
    let list = KubeApi::<Pod>::namespaced(client, &namespace)
        .list(&labels)
        .await
        .map_err(refused)?;
    let reports = list
        .items
        .iter()
        .map(PodView::from)
        .map(|pod| report(&state, service.report_port, pod));
    Ok(Json(Pods {
        pods: join_all(reports).await,
    }))
}

async fn report(state: &AppState, port: Option<u16>, pod: PodView) -> PodReport {
    let said = match (pod.address, port) {
        (_, None) => Err("the service's image does not report".to_owned()),
        (None, _) => Err("the pod has no address yet".to_owned()),
        (Some(address), Some(port)) => asking::fetch(&state.http, (address, port).into(), "resilience").await,
    };
    let said = said.and_then(|text| {
        serde_json::from_str::<Report>(&text).map_err(|_| "the pod's report can not be read by this version".to_owned())
    });
    let (report, error) = match said {
        Ok(report) => (Some(report), None),
        Err(error) => (None, Some(error)),
    };
    PodReport { pod, report, error }
}

async fn moments(
    State(state): State<AppState>,
    viewer: Viewer,
    Path((namespace, name)): Path<(String, String)>,
) -> Result<Json<Moments>, Problem> {
    names::check("namespace", &namespace)?;
    names::check("name", &name)?;
    // Whoever may read the service may know how it was.
    let services: KubeApi<ResilientService> = KubeApi::namespaced(viewer.client(&state), &namespace);
    services
        .get(&name)
        .await
        .map_err(|error| viewer.refused(&error, &state))?;
    Ok(Json(Moments {
        moments: state.board.moments(&namespace, &name),
    }))
}

async fn readiness(
    State(state): State<AppState>,
    viewer: Viewer,
    Path((namespace, name)): Path<(String, String)>,
) -> Result<Json<Turns>, Problem> {
    names::check("namespace", &namespace)?;
    names::check("name", &name)?;
    // Whoever may list the pods may know when they were ready.
    KubeApi::<Pod>::namespaced(viewer.client(&state), &namespace)
        .list_metadata(&ListParams::default().limit(1))
        .await
        .map_err(|error| viewer.refused(&error, &state))?;
    Ok(Json(Turns {
        turns: state.board.readiness(&namespace, &name),
    }))
}
