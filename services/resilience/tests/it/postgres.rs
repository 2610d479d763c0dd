//! A transaction begun and dropped at every possible moment.

use std::future::Future;
use std::task::{Context, Waker};

use valerix_resilience::postgres::begin;

use crate::support::database;

/// Polls a future at most `polls` times, letting the runtime work in between, then drops it.
async fn cancel_after<F: Future>(polls: usize, future: F) -> bool {
    let mut future = Box::pin(future);
    for _ in 0..polls {
        let mut context = Context::from_waker(Waker::noop());
        if future.as_mut().poll(&mut context).is_ready() {
            return true;
        }
        tokio::time::sleep(std::time::Duration::from_micros(150)).await;
    }
    false
}

/// The fault that `begin` is there for: with the pool's own, an insert that answered Ok is lost.
#[tokio::test]
async fn a_begin_dropped_at_any_poll_leaves_a_clean_session() {
    let pool = database().await;
    // One connection, so that a session left in a transaction must be met again.
    let options = pool.connect_options().as_ref().clone();
    let single = sqlx::postgres::PgPoolOptions::new()
        .max_connections(1)
        .connect_with(options)
        .await
        .unwrap();
    sqlx::query("CREATE TABLE notes (id integer PRIMARY KEY)")
        .execute(&pool)
        .await
        .unwrap();
    let mut finished = 0;
    for id in 0..120 {
        let polls = usize::try_from(id % 12).unwrap();
        finished += usize::from(cancel_after(polls, begin(&single)).await);
        let inserted = sqlx::query("INSERT INTO notes VALUES ($1)")
            .bind(id)
            .execute(&single)
            .await
            .unwrap();
        assert_eq!(inserted.rows_affected(), 1);
        // A second session sees it: the insert was not swallowed by a transaction left open.
        let seen: i64 = sqlx::query_scalar("SELECT count(*) FROM notes WHERE id = $1")
            .bind(id)
            .fetch_one(&pool)
            .await
            .unwrap();
        assert_eq!(seen, 1, "after {polls} polls");
    }
    assert!(finished > 0 && finished < 120, "both ends were tried: {finished}");
}
