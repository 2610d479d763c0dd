//! `GET /api/schemas/{kind}`: what may stand in the spec of a kind, as its CustomResourceDefinition says. The page makes
//! its forms of it, so that a field that is added to a kind is in them without anyone's doing.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use axum::extract::State;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;
use valerix_crds::CHAOS_FAULTS;
use valerix_crds::schema::custom_resource_definitions;
use valerix_kit::api::{Api, Operation};
use valerix_kit::extract::{Json, Path};
use valerix_kit::identity::Access;
use valerix_kit::problem::Problem;

use crate::kinds::Kind;
use crate::state::AppState;
use crate::viewer::Viewer;

/// What may stand in the spec of a kind.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct SpecSchema {
    /// The schema of its spec, as the API server has it.
    #[schemars(with = "serde_json::Map<String, Value>")]
    spec: &'static Value,
    /// Fields of the spec of which exactly one is set; none for most kinds.
    one_of: &'static [&'static str],
}

/// The schema of each kind's spec, by the name of the kind.
static SPECS: LazyLock<BTreeMap<String, Value>> = LazyLock::new(|| {
    let definitions = custom_resource_definitions().unwrap_or_else(|error| {
        tracing::error!(%error, "failed to make the schemas of the kinds");
        Vec::new()
    });
    let spec = |definition: &Value| {
        definition
            .pointer("/spec/versions/0/schema/openAPIV3Schema/properties/spec")
            .cloned()
    };
    let of = definitions.into_iter().filter_map(|definition| {
        let name = definition.spec.names.kind.clone();
        Some((name, spec(&serde_json::to_value(definition).ok()?)?))
    });
    of.collect()
});

pub(super) fn routes(api: Api<AppState>) -> Api<AppState> {
    let schema = Operation::new("Show what may stand in the spec of a kind", Access::Open)
        .answer::<SpecSchema>(200, "Its schema")
        .problem(404, "It is not a kind of the console's own");
    api.get("/api/schemas/{kind}", show, schema)
}

async fn show(State(_): State<AppState>, _: Viewer, Path(kind): Path<Kind>) -> Result<Json<SpecSchema>, Problem> {
    let spec = SPECS
        .get(kind.name())
        .ok_or_else(|| Problem::not_found("no-schema", "only the kinds of Valerix have a schema here"))?;
    let one_of = if kind == Kind::ChaosExperiment {
        CHAOS_FAULTS
    } else {
        &[]
    };
    Ok(Json(SpecSchema { spec, one_of }))
}
