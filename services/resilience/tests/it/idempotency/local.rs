//! A request whose work is one transaction.

use std::sync::Arc;

use valerix_resilience::idempotency::Stored;

use super::*;

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
