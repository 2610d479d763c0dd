//! `GET /api/instance`: which replica answers.

use axum::extract::State;
use schemars::JsonSchema;
use serde::Serialize;
use valerix_kit::api::{Api, Operation};
use valerix_kit::extract::Json;
use valerix_kit::identity::Access;

use super::AppState;
use crate::document::OWN;

/// The replica that answers.
#[derive(Serialize, JsonSchema)]
struct Instance {
    /// Its name: that of its pod.
    replica: String,
    /// The version of the program.
    version: &'static str,
    /// Which routes it goes by: the sha256 of their file, or `compiled-in`.
    routes: Option<String>,
}

pub(super) fn routes(api: Api<AppState>) -> Api<AppState> {
    let operation = Operation::new("Says which replica answers", Access::Public).answer::<Instance>(200, "The replica");
    api.get(OWN[1], show, operation)
}

async fn show(State(state): State<AppState>) -> Json<Instance> {
    Json(Instance {
        routes: state.routes.table().hash.clone(),
        replica: state.replica,
        version: env!("CARGO_PKG_VERSION"),
    })
}
