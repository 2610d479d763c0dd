//! Idempotent requests on a real Postgres: twins at once, crashes at each step, replay.

mod keeping;
mod local;
mod recovery;

use std::time::Duration;

use http::{Method, StatusCode};
use sqlx::PgPool;
use uuid::Uuid;
use valerix_resilience::idempotency::{Claim, Idempotency, IdempotentRequest, Local, SCHEMA, StoredAnswer};
use valerix_resilience::postgres::begin;

use crate::support::database;

const PATIENT: Idempotency = Idempotency::new(Duration::from_secs(3_600), Duration::from_secs(30));
/// Every earlier attempt counts as dead.
const IMPATIENT: Idempotency = Idempotency::new(Duration::from_secs(3_600), Duration::ZERO);

async fn store() -> PgPool {
    let pool = database().await;
    for _ in 0..2 {
        sqlx::raw_sql(SCHEMA).execute(&pool).await.unwrap();
    }
    sqlx::query("CREATE TABLE effects (key text NOT NULL)")
        .execute(&pool)
        .await
        .unwrap();
    pool
}

fn request(key: &str, body: &[u8]) -> IdempotentRequest {
    IdempotentRequest::new(key, "anonymous", &Method::POST, "/payments", "/payments", body)
}

fn answer(text: &str) -> StoredAnswer {
    StoredAnswer::json(StatusCode::CREATED, &text)
        .unwrap()
        .location("/payments/1")
}

async fn effects(pool: &PgPool) -> i64 {
    sqlx::query_scalar("SELECT count(*) FROM effects")
        .fetch_one(pool)
        .await
        .unwrap()
}

/// One request in local mode: its status and, where it was answered, the body.
async fn pay(pool: &PgPool, request: &IdempotentRequest, text: &str) -> (u16, Option<StoredAnswer>) {
    match PATIENT.begin(pool, request).await.unwrap() {
        Local::Fresh(mut claim) => {
            sqlx::query("INSERT INTO effects VALUES ($1)")
                .bind(request.key())
                .execute(claim.transaction())
                .await
                .unwrap();
            let answer = claim.commit(answer(text)).await.unwrap().into_answer();
            (answer.status.as_u16(), Some(answer))
        }
        Local::Replay(answer) => (answer.status.as_u16(), Some(answer)),
        Local::InProgress => (409, None),
        Local::Mismatch => (422, None),
    }
}

/// Commit 1 of recovery-point mode.
async fn claim(pool: &PgPool, idempotency: Idempotency, body: &[u8]) -> Claim {
    let mut transaction = begin(pool).await.unwrap();
    let claim = idempotency
        .claim(&mut transaction, &request("k", body), Uuid::new_v4())
        .await
        .unwrap();
    transaction.commit().await.unwrap();
    claim
}
