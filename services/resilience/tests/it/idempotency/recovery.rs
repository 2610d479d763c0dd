//! A request whose work has more than one commit: attempts that die, are late, or are taken over.

use std::sync::Arc;

use valerix_resilience::idempotency::{Completion, IdempotencyError};

use super::*;

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
