//! How large an answer may be, how long it is kept, and what expires.

use valerix_resilience::idempotency::{IdempotencyError, Stored};

use super::*;

#[tokio::test]
async fn an_answer_too_large_is_refused_before_it_is_kept() {
    let pool = store().await;
    let Local::Fresh(claim) = PATIENT.begin(&pool, &request("k", b"1")).await.unwrap() else {
        panic!()
    };
    let large = StoredAnswer::json(StatusCode::OK, &"x".repeat(70_000)).unwrap();
    assert!(matches!(
        claim.commit(large.clone()).await,
        Err(IdempotencyError::AnswerTooLarge { .. })
    ));
    let Claim::Started(attempt) = super::claim(&pool, PATIENT, b"1").await else {
        panic!()
    };
    let mut connection = pool.acquire().await.unwrap();
    assert!(matches!(
        attempt.complete(&mut connection, large).await,
        Err(IdempotencyError::AnswerTooLarge { .. })
    ));
}

/// Work within one transaction may take long too, and `now()` is when that began.
#[tokio::test]
async fn an_answer_is_kept_from_the_moment_it_was_given() {
    const NOW: &str = "SELECT extract(epoch FROM clock_timestamp())::float8";
    let pool = store().await;
    let expiry = async || -> f64 {
        let asked = sqlx::query_scalar("SELECT extract(epoch FROM expires_at)::float8 FROM idempotency_keys");
        asked.fetch_one(&pool).await.unwrap()
    };
    let Local::Fresh(mut local) = PATIENT.begin(&pool, &request("k", b"1")).await.unwrap() else {
        panic!()
    };
    let worked: f64 = sqlx::query_scalar(NOW).fetch_one(local.transaction()).await.unwrap();
    assert!(matches!(
        local.commit(answer("one")).await.unwrap(),
        Stored::Committed(_)
    ));
    assert!(expiry().await >= worked + 3_600.0);

    sqlx::query("DELETE FROM idempotency_keys")
        .execute(&pool)
        .await
        .unwrap();
    let Claim::Started(attempt) = claim(&pool, PATIENT, b"1").await else {
        panic!()
    };
    let mut transaction = begin(&pool).await.unwrap();
    let worked: f64 = sqlx::query_scalar(NOW).fetch_one(&mut *transaction).await.unwrap();
    attempt.complete(&mut transaction, answer("one")).await.unwrap();
    transaction.commit().await.unwrap();
    assert!(expiry().await >= worked + 3_600.0);
}

#[tokio::test]
async fn an_expiry_passes_by_what_is_in_use() {
    let pool = store().await;
    pay(&pool, &request("k", b"1"), "one").await;
    sqlx::query("UPDATE idempotency_keys SET expires_at = '-infinity'")
        .execute(&pool)
        .await
        .unwrap();
    let mut transaction = begin(&pool).await.unwrap();
    sqlx::query("SELECT 1 FROM idempotency_keys FOR UPDATE")
        .execute(&mut *transaction)
        .await
        .unwrap();
    let passed_by = tokio::time::timeout(crate::support::PATIENCE, Idempotency::expire(&pool, 10));
    assert_eq!(passed_by.await.unwrap().unwrap(), 0);
    transaction.commit().await.unwrap();
    assert_eq!(Idempotency::expire(&pool, 10).await.unwrap(), 1);
}

#[tokio::test]
async fn a_sweeper_deletes_what_has_expired_and_stops_when_told() {
    let pool = store().await;
    pay(&pool, &request("kept", b"1"), "one").await;
    pay(&pool, &request("gone", b"1"), "one").await;
    sqlx::query("UPDATE idempotency_keys SET expires_at = '-infinity' WHERE key = 'gone'")
        .execute(&pool)
        .await
        .unwrap();
    // More than are deleted in one statement.
    sqlx::query(
        "INSERT INTO idempotency_keys (scope, key, fingerprint, status, body, expires_at)
         SELECT 'many', number::text, '', 200, '', '-infinity' FROM generate_series(1, 1500) AS number",
    )
    .execute(&pool)
    .await
    .unwrap();
    let stop = tokio_util::sync::CancellationToken::new();
    let sweeper = tokio::spawn(Idempotency::sweep(pool.clone(), stop.clone()));
    let swept = async {
        let keys = "SELECT string_agg(key, ',') FROM idempotency_keys";
        while sqlx::query_scalar::<_, String>(keys).fetch_one(&pool).await.unwrap() != "kept" {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), swept).await.unwrap();
    stop.cancel();
    sweeper.await.unwrap();
}
