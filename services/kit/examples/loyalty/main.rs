//! Points for what was bought: one for each whole euro of an order. A service of the shop in one file.

use async_trait::async_trait;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use clap::Parser;
use http::{Method, StatusCode};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;
use valerix_kit::api::{Api, Operation};
use valerix_kit::args::{BusArgs, DatabaseArgs, ServiceArgs};
use valerix_kit::events::relay::Relay;
use valerix_kit::events::{Event, Handled, HandlerError, NewEvent, TransactionalHandler, outbox};
use valerix_kit::extract::{IdempotencyKey, Json, JsonBytes};
use valerix_kit::identity::{Access, Caller};
use valerix_kit::problem::{Problem, from_idempotency, from_sqlx};
use valerix_kit::service::{Server, Service, StartError, launch};
use valerix_resilience::Resilience;
use valerix_resilience::idempotency::{IdempotentRequest, Local, StoredAnswer, refusals};

const REDEEM: &str = "/api/points/redeem";

/// What the service reads from its environment.
#[derive(Parser, Clone, Debug)]
#[command(name = "loyalty", mut_arg("listen_address", |arg| arg.default_value("0.0.0.0:3008")))]
#[command(mut_arg("service", |arg| arg.default_value("loyalty")))]
pub struct Config {
    /// What every service reads.
    #[command(flatten)]
    pub service: ServiceArgs,
    /// Its database.
    #[command(flatten)]
    pub database: DatabaseArgs,
    /// Its events.
    #[command(flatten)]
    pub bus: BusArgs,
}

fn main() -> Result<(), StartError> {
    let config = Config::parse();
    launch(&config.service.clone(), || build(config))
}

/// The service on its ports, ready to run. It waits for nobody: Postgres and Redis may come later.
pub async fn build(config: Config) -> Result<Server, StartError> {
    let service = Service::on_bus(&config.service, &config.bus).await?;
    let database = service.database(&config.database, || sqlx::migrate!("examples/loyalty/migrations"))?;
    service.sweep_expired_keys(&database);
    let endpoint = service.events(&config.bus, &database);
    endpoint.consume("loyalty", &["order.events"], Purchases);
    let show = Operation::new("One's points", Access::User).answer::<Balance>(200, "The points");
    let redeem = Operation::new("Spends points, once per Idempotency-Key", Access::User)
        .idempotency_key()
        .body::<Redeem>(json!({"points": 100}))
        .answer::<Balance>(200, "What is left")
        .problem(
            409,
            "There are fewer points, or the first request with this key is still being answered",
        );
    let api = Api::new("loyalty", "Points for what was bought")
        .get("/api/points", show_points, show)
        .post(REDEEM, redeem_points, redeem);
    let (pool, relay) = (database.pool().clone(), endpoint.relay());
    let resilience = service.resilience.clone();
    let state = App {
        pool,
        relay,
        resilience,
    };
    service.bind(api.with_state(state)).await
}

#[derive(Clone)]
struct App {
    pool: PgPool,
    relay: Relay,
    resilience: Resilience,
}

#[derive(Serialize, JsonSchema)]
struct Balance {
    points: i64,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Redeem {
    #[schemars(range(min = 1, max = 1_000_000))]
    points: i64,
}

/// Takes announcements of order in. Inbox, points and commit are one transaction, which the kit makes.
struct Purchases;

#[async_trait]
impl TransactionalHandler for Purchases {
    async fn handle(&self, connection: &mut PgConnection, event: &Event) -> Result<Handled, HandlerError> {
        #[derive(Deserialize)]
        struct Confirmed {
            user_id: Option<Uuid>,
            amount_minor: i64,
        }
        if event.event_type == "OrderConfirmed"
            && let Confirmed {
                user_id: Some(user),
                amount_minor,
            } = event.payload()?
        {
            sqlx::query("INSERT INTO points (user_id, balance) VALUES ($1, $2) ON CONFLICT (user_id) DO UPDATE SET balance = points.balance + $2")
                .bind(user)
                .bind(amount_minor / 100)
                .execute(connection)
                .await
                .map_err(|error| HandlerError::from_sqlx(&error))?;
        }
        Ok(Handled::done())
    }
}

async fn show_points(State(app): State<App>, caller: Caller) -> Result<Json<Balance>, Problem> {
    let points = sqlx::query_scalar("SELECT coalesce(max(balance), 0) FROM points WHERE user_id = $1");
    let points = points.bind(caller.user_id()).fetch_one(&app.pool).await;
    Ok(Json(Balance {
        points: points.map_err(|error| from_sqlx(&error))?,
    }))
}

/// Key, points, event and answer are one transaction: a client that got no answer sends the same again.
async fn redeem_points(
    State(app): State<App>,
    caller: Caller,
    IdempotencyKey(key): IdempotencyKey,
    body: JsonBytes,
) -> Result<Response, Problem> {
    let database = |error: sqlx::Error| from_sqlx(&error);
    let Redeem { points } = body.parse()?;
    if !(1..=1_000_000).contains(&points) {
        return Err(Problem::invalid_field("/points", "must be 1 to 1000000"));
    }
    let request = IdempotentRequest::new(&key, &caller.principal(), &Method::POST, REDEEM, REDEEM, &body.0);
    let begun = app.resilience.idempotency().begin(&app.pool, &request).await;
    let mut claim = match begun.map_err(|error| from_idempotency(&error))? {
        Local::Fresh(claim) => claim,
        Local::Replay(answer) => return Ok(answer.into_response()),
        Local::InProgress => return Ok(refusals::in_progress().into_response()),
        Local::Mismatch => return Ok(refusals::mismatch().into_response()),
    };
    let spend = "UPDATE points SET balance = balance - $2, version = version + 1 WHERE user_id = $1 AND balance >= $2 RETURNING balance, version";
    let spend = sqlx::query_as(spend).bind(caller.user_id()).bind(points);
    let row: Option<(i64, i64)> = spend
        .fetch_optional(&mut *claim.transaction())
        .await
        .map_err(database)?;
    let Some((left, version)) = row else {
        return Err(Problem::new(
            StatusCode::CONFLICT,
            "too-few-points",
            "there are fewer points than that",
        ));
    };
    let payload = serde_json::json!({"user_id": caller.user_id(), "points": points});
    let event = NewEvent::new(
        "loyalty.events",
        "PointsRedeemed",
        format!("points:{}", caller.principal()),
        version,
        &payload,
    );
    let event = event.map_err(|error| Problem::internal(&error))?;
    outbox::append(claim.transaction(), &event).await.map_err(database)?;
    let answer =
        StoredAnswer::json(StatusCode::OK, &Balance { points: left }).map_err(|error| Problem::internal(&error))?;
    let kept = claim.commit(answer).await.map_err(|error| from_idempotency(&error))?;
    app.relay.wake();
    Ok(kept.into_answer().into_response())
}
