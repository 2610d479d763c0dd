//! Idempotent requests on a real Postgres: twins at once, crashes at each step, replay.

use std::sync::Arc;
use std::time::Duration;

use http::{Method, StatusCode};
use sqlx::PgPool;
use uuid::Uuid;
use valerix_resilience::idempotency::{
    Claim, Completion, Idempotency, IdempotencyError, IdempotentRequest, Local, SCHEMA, Stored, StoredAnswer,
};
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

#[tokio::test]
async fn the_second_time_replays_the_first_answer() {
    let pool = store().await;
    let (_, first) = pay(&pool, &request("k", b"1"), "one").await;
    let (_, second) = pay(&pool, &request("k", b"1"), "two").await;
    let (first, second) = (first.unwrap(), second.unwrap());
    assert!(!first.is_replayed() && second.is_replayed());
    assert_eq!(
        (&first.status, &first.body, &first.content_type, &first.location),
        (&second.status, &second.body, &second.content_type, &second.location)
    );
    assert_eq!(pay(&pool, &request("k", b"2"), "three").await.0, 422);
    assert_eq!(effects(&pool).await, 1);
    let other = IdempotentRequest::new("k", "somebody", &Method::POST, "/payments", "/payments", b"1");
    let (_, theirs) = pay(&pool, &other, "theirs").await;
    assert!(!theirs.unwrap().is_replayed(), "each caller has keys of its own");
    assert_eq!(effects(&pool).await, 2);
}

#[tokio::test]
async fn a_hundred_twins_at_once_act_once() {
    let pool = store().await;
    for round in 0..5 {
        let key = format!("k{round}");
        let gate = Arc::new(tokio::sync::Barrier::new(100));
        let twins: Vec<_> = (0..100)
            .map(|twin| {
                let (pool, gate, key) = (pool.clone(), gate.clone(), key.clone());
                tokio::spawn(async move {
                    gate.wait().await;
                    loop {
                        // A client that meets 409 comes again.
                        match pay(&pool, &request(&key, b"same"), &format!("by {twin}")).await {
                            (409, _) => tokio::task::yield_now().await,
                            (201, answer) => return answer.unwrap().body,
                            (status, _) => panic!("{status}"),
                        }
                    }
                })
            })
            .collect();
        let mut bodies = Vec::new();
        for twin in twins {
            bodies.push(twin.await.unwrap());
        }
        bodies.dedup();
        assert_eq!(bodies.len(), 1, "all got the same answer");
        assert_eq!(effects(&pool).await, round + 1);
    }
}

#[tokio::test]
async fn a_claim_dropped_at_any_point_frees_the_key_and_undoes_the_work() {
    let pool = store().await;
    let Local::Fresh(mut claim) = PATIENT.begin(&pool, &request("k", b"1")).await.unwrap() else {
        panic!()
    };
    sqlx::query("INSERT INTO effects VALUES ('k')")
        .execute(claim.transaction())
        .await
        .unwrap();
    assert!(matches!(
        PATIENT.begin(&pool, &request("k", b"1")).await.unwrap(),
        Local::InProgress
    ));
    drop(claim);
    // The rollback is sent by the pool in the background; until then the key is busy, never stuck.
    let freed = async {
        while pay(&pool, &request("k", b"1"), "late").await.0 == 409 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), freed).await.unwrap();
    assert_eq!(effects(&pool).await, 1);
}

#[tokio::test]
async fn an_expired_answer_makes_room() {
    let pool = store().await;
    let brief = Idempotency::new(Duration::ZERO, Duration::from_secs(30));
    let Local::Fresh(claim) = brief.begin(&pool, &request("k", b"1")).await.unwrap() else {
        panic!()
    };
    assert!(matches!(
        claim.commit(answer("one")).await.unwrap(),
        Stored::Committed(_)
    ));
    let Local::Fresh(claim) = PATIENT.begin(&pool, &request("k", b"2")).await.unwrap() else {
        panic!()
    };
    claim.commit(answer("two")).await.unwrap();
    assert!(matches!(
        PATIENT.begin(&pool, &request("k", b"2")).await.unwrap(),
        Local::Replay(_)
    ));
    assert_eq!(Idempotency::expire(&pool, 10).await.unwrap(), 0);
    let Local::Fresh(claim) = brief.begin(&pool, &request("other", b"1")).await.unwrap() else {
        panic!()
    };
    claim.commit(answer("one")).await.unwrap();
    assert_eq!(Idempotency::expire(&pool, 10).await.unwrap(), 1);
}

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
    let Claim::Started(attempt) = self::claim(&pool, PATIENT, b"1").await else {
        panic!()
    };
    let mut connection = pool.acquire().await.unwrap();
    assert!(matches!(
        attempt.complete(&mut connection, large).await,
        Err(IdempotencyError::AnswerTooLarge { .. })
    ));
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

#[tokio::test]
async fn a_dead_attempt_is_taken_over_with_its_resource() {
    let pool = store().await;
    let Claim::Started(first) = claim(&pool, PATIENT, b"1").await else {
        panic!()
    };
    assert_eq!(
        claim(&pool, PATIENT, b"1").await,
        Claim::InProgress {
            resource: Some(first.resource())
        }
    );
    let resource = Some(first.resource());
    assert_eq!(claim(&pool, PATIENT, b"2").await, Claim::Mismatch { resource });
    let Claim::TakenOver(second) = claim(&pool, IMPATIENT, b"1").await else {
        panic!()
    };
    assert_eq!((second.resource(), second.number()), (first.resource(), 2));

    // The first was not dead but slow: it may neither write nor answer.
    let mut transaction = begin(&pool).await.unwrap();
    assert!(matches!(
        first.guard(&mut transaction).await,
        Err(IdempotencyError::Superseded { attempt: 1 })
    ));
    let late = first.complete(&mut transaction, answer("first")).await;
    assert!(matches!(late, Err(IdempotencyError::Superseded { attempt: 1 })));
    // Nor may it let a third one in.
    first.release(&mut transaction).await.unwrap();
    transaction.commit().await.unwrap();
    assert!(matches!(claim(&pool, PATIENT, b"1").await, Claim::InProgress { .. }));

    let mut transaction = begin(&pool).await.unwrap();
    second.guard(&mut transaction).await.unwrap();
    assert!(matches!(
        second.complete(&mut transaction, answer("second")).await.unwrap(),
        Completion::Stored(_)
    ));
    transaction.commit().await.unwrap();

    // Nor is there anything left to do for the second: an answer stays what it is.
    let mut connection = pool.acquire().await.unwrap();
    assert!(matches!(
        second.guard(&mut connection).await,
        Err(IdempotencyError::Superseded { attempt: 2 })
    ));
    let again = second.complete(&mut connection, answer("another")).await.unwrap();
    assert!(matches!(again, Completion::Replay(kept) if kept.body == answer("second").body));
    drop(connection);

    let mut transaction = begin(&pool).await.unwrap();
    let Completion::Replay(replayed) = first.complete(&mut transaction, answer("first")).await.unwrap() else {
        panic!()
    };
    assert_eq!(replayed.body, answer("second").body);
    drop(transaction);
    assert!(matches!(claim(&pool, IMPATIENT, b"1").await, Claim::Replay(_)));
}

#[tokio::test]
async fn a_key_without_an_answer_never_expires() {
    let pool = store().await;
    let brief = Idempotency::new(Duration::ZERO, Duration::from_secs(30));
    let Claim::Started(attempt) = claim(&pool, brief, b"1").await else {
        panic!()
    };
    assert_eq!(Idempotency::expire(&pool, 10).await.unwrap(), 0);
    assert!(matches!(claim(&pool, brief, b"1").await, Claim::InProgress { .. }));
    let mut connection = pool.acquire().await.unwrap();
    attempt.release(&mut connection).await.unwrap();
    assert!(
        matches!(claim(&pool, PATIENT, b"1").await, Claim::TakenOver(_)),
        "released, it is taken over at once"
    );
    assert!(
        matches!(claim(&pool, PATIENT, b"1").await, Claim::InProgress { .. }),
        "by one, whose time begins then"
    );
}

/// Work that takes longer than answers are kept: its answer is kept from the moment it was given.
#[tokio::test]
async fn a_late_answer_is_kept_as_long_as_any_other() {
    let pool = store().await;
    let Claim::Started(attempt) = claim(&pool, PATIENT, b"1").await else {
        panic!()
    };
    sqlx::query("UPDATE idempotency_keys SET expires_at = now() - interval '1 minute'")
        .execute(&pool)
        .await
        .unwrap();
    let mut connection = pool.acquire().await.unwrap();
    let kept = attempt.complete(&mut connection, answer("late")).await.unwrap();
    assert!(matches!(kept, Completion::Stored(_)));
    assert_eq!(Idempotency::expire(&pool, 10).await.unwrap(), 0);
    let Claim::Replay(replayed) = claim(&pool, PATIENT, b"1").await else {
        panic!("the work would be done again")
    };
    assert_eq!(replayed.body, answer("late").body);
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

/// Whoever writes the same again in another way waits for the first like whoever sends the same bytes.
#[tokio::test]
async fn the_same_json_in_another_order_is_the_same_request_while_the_first_is_under_way() {
    let pool = store().await;
    let first = br#"{"item": 7, "amount": 18446744073709551617}"#;
    let Claim::Started(attempt) = claim(&pool, PATIENT, first).await else {
        panic!()
    };
    let again = br#"{"amount":18446744073709551617,"item":7}"#;
    assert!(matches!(claim(&pool, PATIENT, again).await, Claim::InProgress { .. }));
    let another = br#"{"amount":18446744073709551616,"item":7}"#;
    assert!(matches!(claim(&pool, PATIENT, another).await, Claim::Mismatch { .. }));
    let mut connection = pool.acquire().await.unwrap();
    attempt.complete(&mut connection, answer("one")).await.unwrap();
    assert!(matches!(claim(&pool, PATIENT, again).await, Claim::Replay(_)));
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
async fn an_expired_answer_makes_room_for_a_request_that_begins_anew() {
    let pool = store().await;
    let brief = Idempotency::new(Duration::ZERO, Duration::ZERO);
    let Claim::Started(_) = claim(&pool, brief, b"1").await else {
        panic!()
    };
    let Claim::TakenOver(second) = claim(&pool, brief, b"1").await else {
        panic!()
    };
    let mut connection = pool.acquire().await.unwrap();
    second.release(&mut connection).await.unwrap();
    let kept = second.complete(&mut connection, answer("old")).await.unwrap();
    assert!(matches!(kept, Completion::Stored(_)));

    // Nothing of the former request is left: neither its number, nor its age, nor its resource, nor its end.
    let Claim::Started(new) = claim(&pool, PATIENT, b"2").await else {
        panic!()
    };
    assert_ne!(new.resource(), second.resource());
    let resource = Some(new.resource());
    assert_eq!(claim(&pool, PATIENT, b"2").await, Claim::InProgress { resource });
    new.guard(&mut connection).await.unwrap();
    let kept = new.complete(&mut connection, answer("new")).await.unwrap();
    assert!(matches!(kept, Completion::Stored(_)));
    let Claim::Replay(replayed) = claim(&pool, PATIENT, b"2").await else {
        panic!()
    };
    assert_eq!(replayed.body, answer("new").body);
}

/// A guard holds until its transaction ends: who would take over waits, and finds the answer.
#[tokio::test]
async fn nobody_takes_over_between_a_guard_and_its_commit() {
    let pool = store().await;
    let Claim::Started(attempt) = claim(&pool, PATIENT, b"1").await else {
        panic!()
    };
    let mut transaction = begin(&pool).await.unwrap();
    attempt.guard(&mut transaction).await.unwrap();
    let taking_over = {
        let pool = pool.clone();
        tokio::spawn(async move { claim(&pool, IMPATIENT, b"1").await })
    };
    let waits = async {
        let waiting = "SELECT count(*) FROM pg_stat_activity
             WHERE datname = current_database() AND wait_event_type = 'Lock'";
        while !taking_over.is_finished() && sqlx::query_scalar::<_, i64>(waiting).fetch_one(&pool).await.unwrap() == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(crate::support::PATIENCE, waits).await.unwrap();
    let kept = attempt.complete(&mut transaction, answer("first")).await.unwrap();
    assert!(matches!(kept, Completion::Stored(_)));
    transaction.commit().await.unwrap();
    let Claim::Replay(replayed) = taking_over.await.unwrap() else {
        panic!()
    };
    assert_eq!(replayed.body, answer("first").body);
}

#[tokio::test]
async fn twins_in_recovery_mode_start_once() {
    let pool = store().await;
    let gate = Arc::new(tokio::sync::Barrier::new(50));
    let twins: Vec<_> = (0..50)
        .map(|_| {
            let (pool, gate) = (pool.clone(), gate.clone());
            tokio::spawn(async move {
                gate.wait().await;
                matches!(claim(&pool, PATIENT, b"1").await, Claim::Started(_))
            })
        })
        .collect();
    let mut started = 0;
    for twin in twins {
        started += u32::from(twin.await.unwrap());
    }
    assert_eq!(started, 1);
}

/// The look at the key may miss what was committed in the moment before the lock was had; the commit finds it.
#[tokio::test]
async fn an_answer_that_came_unseen_is_found_at_the_commit() {
    let pool = store().await;
    for (round, body, same) in [(1, &b"1"[..], true), (2, b"2", false)] {
        let key = format!("k{round}");
        let Local::Fresh(mut claim) = PATIENT.begin(&pool, &request(&key, body)).await.unwrap() else {
            panic!()
        };
        sqlx::query("INSERT INTO effects VALUES ($1)")
            .bind(&key)
            .execute(claim.transaction())
            .await
            .unwrap();
        // As another replica leaves it: the row of a request with the body `1`.
        pay(&pool, &request("model", b"1"), "theirs").await;
        sqlx::query("UPDATE idempotency_keys SET key = $1 WHERE key = 'model'")
            .bind(&key)
            .execute(&pool)
            .await
            .unwrap();
        let stored = claim.commit(answer("ours")).await.unwrap();
        assert_eq!(matches!(stored, Stored::Replay(_)), same, "{stored:?}");
        let given = stored.into_answer();
        if same {
            assert_eq!(given.body, answer("theirs").body);
        } else {
            assert_eq!(given.status, 422);
        }
        assert_eq!(effects(&pool).await, round, "ours was undone, theirs is there");
    }
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
