//! Orders of the shop, placed through its gateway for whoever signed in. The console adds nothing of its own: the page
//! tries again with the same key, and what comes of that is the shop's to say.

use axum::extract::State;
use http::header;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;
use valerix_kit::api::{Api, Operation};
use valerix_kit::extract::{IdempotencyKey, Json, Path};
use valerix_kit::identity::Access;
use valerix_kit::problem::Problem;

use crate::state::AppState;
use crate::viewer::{Commander, Viewer};

/// The most bytes of an answer.
const MOST_BYTES: usize = 64 * 1024;

/// An order to place.
#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct PlaceOrder {
    /// The item's id.
    #[schemars(length(min = 1, max = 64))]
    item_id: String,
    /// How many.
    #[schemars(range(min = 1, max = 10_000))]
    quantity: i64,
    /// Whether inventory is to wait before it answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    gremlin: Option<bool>,
}

/// What the shop answered.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct ShopAnswer {
    /// The status of its answer; none when it did not answer.
    status: Option<u16>,
    /// Whether it was refused because a circuit is open.
    circuit_open: bool,
    /// When the shop asks to come back. Unit: seconds.
    retry_after: Option<u64>,
    /// The answer.
    body: Value,
}

pub(super) fn routes(api: Api<AppState>) -> Api<AppState> {
    let place_it = Operation::new("Place an order through the shop's gateway", Access::Open)
        .idempotency_key()
        .body::<PlaceOrder>(json!({"item_id": "ps5", "quantity": 1}))
        .answer::<ShopAnswer>(200, "What the shop answered, whatever that is")
        .problem(404, "The console knows of no shop");
    let show_it = Operation::new("Show an order", Access::Open)
        .answer::<ShopAnswer>(200, "What the shop answered, whatever that is")
        .problem(404, "The console knows of no shop");
    api.post("/api/orders", place, place_it)
        .get("/api/orders/{id}", show, show_it)
}

async fn place(
    State(state): State<AppState>,
    Commander(_): Commander,
    IdempotencyKey(key): IdempotencyKey,
    Json(order): Json<PlaceOrder>,
) -> Result<Json<ShopAnswer>, Problem> {
    let url = shop(&state, "/api/orders")?;
    Ok(Json(
        ask(state.http.post(url).header("idempotency-key", key).json(&order)).await,
    ))
}

async fn show(
    State(state): State<AppState>,
    viewer: Viewer,
    Path(id): Path<Uuid>,
) -> Result<Json<ShopAnswer>, Problem> {
    // Who may look at all is all there is to ask: an order that nobody's name stands on is anyone's to see.
    drop(viewer);
    let url = shop(&state, &format!("/api/orders/{id}"))?;
    Ok(Json(ask(state.http.get(url)).await))
}

fn shop(state: &AppState, path: &str) -> Result<reqwest::Url, Problem> {
    let none = || Problem::not_found("no-shop", "the console knows of no shop: set GATEWAY_URL");
    let gateway = state.gateway.as_ref().ok_or_else(none)?;
    gateway.join(path).map_err(|error| Problem::internal(&error))
}

async fn ask(request: reqwest::RequestBuilder) -> ShopAnswer {
    let silent = |detail: &str| ShopAnswer {
        status: None,
        circuit_open: false,
        retry_after: None,
        body: json!({"detail": detail}),
    };
    let Ok(mut answer) = request.send().await else {
        return silent("the shop does not answer");
    };
    let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
    let mut body = Vec::new();
    loop {
        match answer.chunk().await {
            Ok(Some(chunk)) if body.len() + chunk.len() <= MOST_BYTES => body.extend_from_slice(&chunk),
            Ok(None) => break,
            Ok(Some(_)) | Err(_) => return silent("the shop's answer broke off or is too long"),
        }
    }
    let body: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
    let kind = body["type"].as_str().unwrap_or_default();
    let retry_after = headers
        .get(header::RETRY_AFTER)
        .and_then(|after| after.to_str().ok()?.parse().ok());
    ShopAnswer {
        status: Some(status),
        circuit_open: kind.ends_with("/circuit-open"),
        retry_after,
        body,
    }
}
