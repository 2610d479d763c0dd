//! A small service that takes payments once per key, as a process that can be killed at any step of its handler.

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use rustix::process::Signal;
use sqlx::PgPool;
use std::str::FromStr;
use std::time::Duration;
use uuid::Uuid;
use valerix_resilience::idempotency::{
    Claim, Completion, Idempotency, IdempotencyError, IdempotentRequest, Local, SCHEMA, StoredAnswer,
};
use valerix_resilience::postgres::begin;
use valerix_resilience::{key_from_headers, refusals};

use crate::process::{say, setting, signal_self};
use crate::support::{policy, with_policy};

/// Shorter than a handler may take on a busy machine: an attempt that is alive may be taken over too, and still there
/// must be one effect.
const IMPATIENT: Duration = Duration::from_millis(300);
/// So that a machine that is too busy for that gets somewhere all the same, the impatience of a process has an end.
const PATIENT: Duration = Duration::from_secs(5);
const IMPATIENT_FOR: Duration = Duration::from_secs(3);

fn idempotency() -> Idempotency {
    static STARTED: std::sync::LazyLock<std::time::Instant> = std::sync::LazyLock::new(std::time::Instant::now);
    let lock = match setting("LOCK_MS") {
        Some(text) => Duration::from_millis(text.parse().unwrap()),
        None if STARTED.elapsed() < IMPATIENT_FOR => IMPATIENT,
        None => PATIENT,
    };
    Idempotency::new(Duration::from_secs(3_600), lock)
}

/// The tables of the service, and triggers in which the parent can hold a statement or a commit up: each takes a lock
/// that the parent may hold.
pub(crate) async fn migrate(pool: &PgPool) {
    sqlx::raw_sql(SCHEMA).execute(pool).await.unwrap();
    sqlx::raw_sql(
        "CREATE TABLE payments (id uuid PRIMARY KEY, key text NOT NULL, state text NOT NULL);
         CREATE TABLE effects (key text NOT NULL, payment uuid NOT NULL);
         CREATE TABLE ledger (payment uuid PRIMARY KEY);
         CREATE FUNCTION hold() RETURNS trigger LANGUAGE plpgsql AS
             'BEGIN PERFORM pg_advisory_xact_lock_shared(TG_ARGV[0]::bigint); RETURN NEW; END';
         CREATE TRIGGER hold_insert BEFORE INSERT ON idempotency_keys FOR EACH ROW EXECUTE FUNCTION hold('1');
         CREATE CONSTRAINT TRIGGER hold_insert_commit AFTER INSERT ON idempotency_keys DEFERRABLE INITIALLY DEFERRED
             FOR EACH ROW EXECUTE FUNCTION hold('2');
         CREATE TRIGGER hold_update BEFORE UPDATE ON idempotency_keys FOR EACH ROW EXECUTE FUNCTION hold('3');
         CREATE CONSTRAINT TRIGGER hold_update_commit AFTER UPDATE ON idempotency_keys DEFERRABLE INITIALLY DEFERRED
             FOR EACH ROW EXECUTE FUNCTION hold('4');",
    )
    .execute(pool)
    .await
    .unwrap();
}

/// Serves until killed. Says its address.
pub(crate) async fn serve() {
    let options = sqlx::postgres::PgConnectOptions::from_str(&setting("DATABASE").unwrap())
        .unwrap()
        // As the kit sets it: a session whose process hangs inside a transaction is ended by Postgres.
        .options([("idle_in_transaction_session_timeout", "500ms")]);
    let pool = sqlx::postgres::PgPoolOptions::new()
        .max_connections(10)
        .connect_lazy_with(options);
    let required = policy(|policy, _| policy.inbound.idempotency.required_routes = vec!["POST /payments".to_owned()]);
    let resilience = with_policy(&required).await;
    let handler = match setting("MODE").as_deref() {
        Some("local") => post(pay_locally),
        _ => post(pay_by_recovery),
    };
    let router = Router::new()
        .route("/payments", handler)
        .with_state(pool)
        .layer(resilience.server_layer());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    say(&listener.local_addr().unwrap().to_string());
    axum::serve(listener, router).await.unwrap();
}

/// Here the process dies, or stops, if this is the step that it was told.
fn reach(step: &str) {
    if setting("KILL_AT").as_deref() == Some(step) {
        signal_self(Signal::KILL);
    }
    if setting("STOP_AT").as_deref() == Some(step) {
        say("stopped");
        signal_self(Signal::STOP);
    }
}

/// What the handlers answer where they cannot do as asked.
enum Failure {
    Idempotency(IdempotencyError),
    Database(sqlx::Error),
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        match self {
            Self::Idempotency(IdempotencyError::Superseded { .. }) => refusals::in_progress().into_response(),
            Self::Idempotency(error) => (StatusCode::SERVICE_UNAVAILABLE, error.to_string()).into_response(),
            Self::Database(error) => (StatusCode::SERVICE_UNAVAILABLE, error.to_string()).into_response(),
        }
    }
}

fn request(headers: &HeaderMap, body: &[u8]) -> IdempotentRequest {
    let key = key_from_headers(headers).unwrap().unwrap();
    IdempotentRequest::new(&key, "anonymous", &Method::POST, "/payments", "/payments", body)
}

/// Each execution makes another answer, so that two executions cannot look like one.
fn answer(payment: Uuid) -> StoredAnswer {
    let body = serde_json::json!({"payment": payment, "nonce": Uuid::new_v4()});
    StoredAnswer::json(StatusCode::CREATED, &body)
        .unwrap()
        .location(format!("/payments/{payment}"))
}

/// With a header of this very answer, which a replay must not repeat.
fn respond(answer: impl IntoResponse) -> Response {
    let mut response = answer.into_response();
    let id = HeaderValue::from_str(&Uuid::new_v4().to_string()).unwrap();
    response.headers_mut().insert("x-request-id", id);
    response
}

async fn pay_locally(State(pool): State<PgPool>, headers: HeaderMap, body: Bytes) -> Result<Response, Failure> {
    let request = request(&headers, &body);
    let mut claim = match idempotency()
        .begin(&pool, &request)
        .await
        .map_err(Failure::Idempotency)?
    {
        Local::Fresh(claim) => claim,
        Local::Replay(answer) => return Ok(respond(answer)),
        Local::InProgress => return Ok(respond(refusals::in_progress())),
        Local::Mismatch => return Ok(respond(refusals::mismatch())),
    };
    reach("claimed");
    let payment = Uuid::new_v4();
    sqlx::query("INSERT INTO effects VALUES ($1, $2)")
        .bind(request.key())
        .bind(payment)
        .execute(claim.transaction())
        .await
        .map_err(Failure::Database)?;
    reach("worked");
    let answer = claim.commit(answer(payment)).await.map_err(Failure::Idempotency)?;
    reach("committed");
    Ok(respond(answer.into_answer()))
}

async fn pay_by_recovery(State(pool): State<PgPool>, headers: HeaderMap, body: Bytes) -> Result<Response, Failure> {
    let request = request(&headers, &body);
    let mut transaction = begin(&pool).await.map_err(Failure::Database)?;
    let claim = idempotency().claim(&mut transaction, &request, Uuid::new_v4()).await;
    let (attempt, step) = match claim.map_err(Failure::Idempotency)? {
        Claim::Started(attempt) => {
            sqlx::query("INSERT INTO payments VALUES ($1, $2, 'PROCESSING')")
                .bind(attempt.resource())
                .bind(request.key())
                .execute(&mut *transaction)
                .await
                .map_err(Failure::Database)?;
            reach("claimed");
            (attempt, "begun")
        }
        Claim::TakenOver(attempt) => (attempt, "taken over"),
        Claim::Replay(answer) => return Ok(respond(answer)),
        Claim::InProgress { .. } => return Ok(respond(refusals::in_progress())),
        Claim::Mismatch { .. } => return Ok(respond(refusals::mismatch())),
    };
    transaction.commit().await.map_err(Failure::Database)?;
    reach(step);

    // Another system, asked by the resource's id.
    sqlx::query("INSERT INTO ledger VALUES ($1) ON CONFLICT DO NOTHING")
        .bind(attempt.resource())
        .execute(&pool)
        .await
        .map_err(Failure::Database)?;
    reach("charged");

    let mut transaction = begin(&pool).await.map_err(Failure::Database)?;
    attempt.guard(&mut transaction).await.map_err(Failure::Idempotency)?;
    reach("guarded");
    sqlx::query(
        "WITH paid AS (UPDATE payments SET state = 'CHARGED' WHERE id = $2 AND state = 'PROCESSING' RETURNING id)
                 INSERT INTO effects SELECT $1, id FROM paid",
    )
    .bind(request.key())
    .bind(attempt.resource())
    .execute(&mut *transaction)
    .await
    .map_err(Failure::Database)?;
    reach("worked");
    let completed = attempt.complete(&mut transaction, answer(attempt.resource())).await;
    let (Completion::Stored(answer) | Completion::Replay(answer)) = completed.map_err(Failure::Idempotency)?;
    reach("completed");
    transaction.commit().await.map_err(Failure::Database)?;
    reach("committed");
    Ok(respond(answer))
}
