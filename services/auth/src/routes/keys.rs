//! `GET /.well-known/jwks.json` and `POST /auth/keys/rotate`.

use axum::extract::State;
use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;
use valerix_kit::api::{Api, Operation};
use valerix_kit::extract::Json;
use valerix_kit::identity::Access;
use valerix_kit::problem::Problem;

use super::AppState;

pub(super) fn routes(api: Api<AppState>) -> Api<AppState> {
    let set = Operation::new("The public keys that verify access tokens", Access::Open)
        .answer::<Value>(200, "A JWK set (RFC 7517)");
    let rotate = Operation::new("Make a new signing key", Access::Admin)
        .answer::<NewKey>(200, "It is published now and signs when every service knows it");
    api.get("/.well-known/jwks.json", published, set)
        .post("/auth/keys/rotate", renew, rotate)
}

#[derive(Serialize, JsonSchema)]
struct NewKey {
    /// Its `kid`.
    id: String,
    #[schemars(with = "String", extend("format" = "date-time"))]
    signs_from: DateTime<Utc>,
}

async fn published(State(app): State<AppState>) -> Json<Value> {
    Json(app.keyring.published())
}

async fn renew(State(app): State<AppState>) -> Result<Json<NewKey>, Problem> {
    let (id, signs_from) = app.keyring.rotate().await.map_err(|error| {
        tracing::error!(error = %format_args!("{error:#}"), "no signing key was made");
        Problem::unavailable("no signing key could be made at the moment")
    })?;
    Ok(Json(NewKey { id, signs_from }))
}
