//! A caller that goes away at any moment: the reservation is whole or absent, and no session stays in a transaction.

use std::future::Future;
use std::task::Poll;
use std::time::Duration;

use axum::Extension;
use axum::body::Body;
use http::Request;
use sqlx::postgres::PgPoolOptions;
use tower::ServiceExt;
use uuid::Uuid;
use valerix_inventory::chaos::Chaos;
use valerix_inventory::routes::{AppState, api};
use valerix_inventory::startup::migrations;
use valerix_kit::args::IdentityArgs;
use valerix_kit::events::redis_streams::RedisStreams;
use valerix_kit::events::relay::Relay;
use valerix_kit::identity::Identity;
use valerix_kit::lock::DistributedLock;
use valerix_kit::metrics::Metrics;
use valerix_kit::testing::{TestDatabase, bus_args, eventually};
use valerix_resilience::Resilience;

use crate::app::command;

#[tokio::test]
async fn a_handler_that_is_dropped_at_any_await_leaves_all_or_nothing() {
    let database = TestDatabase::create().await;
    let outside = database.pool().await;
    // One connection: a session that is left in a transaction would be the next one's.
    let pool = PgPoolOptions::new()
        .max_connections(1)
        .connect(&database.url())
        .await
        .unwrap();
    migrations().run(&pool).await.unwrap();
    sqlx::query("CREATE TABLE notes (id text PRIMARY KEY)")
        .execute(&pool)
        .await
        .unwrap();
    sqlx::query("INSERT INTO items VALUES ('ps5', 1000, 1000, 100, 'EUR')")
        .execute(&pool)
        .await
        .unwrap();
    let bus = std::sync::Arc::new(RedisStreams::open(&bus_args()));
    let metrics = Metrics::new().unwrap();
    let relay = Relay::new(pool.clone(), bus, metrics.clone());
    let (service, _) = api()
        .with_state(AppState {
            pool: pool.clone(),
            relay,
            lock: DistributedLock::new(&bus_args(), "stock", Duration::from_secs(1), &metrics).unwrap(),
            chaos: Chaos::register(&metrics).unwrap(),
            resilience: Resilience::builder().start().await.unwrap(),
        })
        .into_parts();
    let service = service.layer(Extension(
        Identity::open("inventory", &IdentityArgs::default()).unwrap(),
    ));

    let mut finished = false;
    for polls in 1..400 {
        let order = Uuid::new_v4();
        let request = Request::post("/api/inventory/deduct")
            .header("content-type", "application/json")
            .body(Body::from(command(order, 1).to_string()))
            .unwrap();
        let answered = poll_at_most(polls, service.clone().oneshot(request)).await;
        // The next use of the session must work and be visible from outside.
        eventually("the session is usable", || async {
            sqlx::query("INSERT INTO notes VALUES ($1)")
                .bind(order.to_string())
                .execute(&pool)
                .await
                .ok()
        })
        .await;
        let kept: i64 = sqlx::query_scalar("SELECT count(*) FROM notes WHERE id = $1")
            .bind(order.to_string())
            .fetch_one(&outside)
            .await
            .unwrap();
        assert_eq!(
            kept, 1,
            "after {polls} polls a later write was lost in somebody else's transaction"
        );
        let (missing, rows, events): (i64, i64, i64) = sqlx::query_as(
            "SELECT (SELECT initial - available FROM items), (SELECT count(*) FROM reservations), \
             (SELECT count(*) FROM outbox)",
        )
        .fetch_one(&outside)
        .await
        .unwrap();
        assert_eq!((missing, events), (rows, rows), "after {polls} polls");
        if let Some(response) = answered {
            assert_eq!(response.unwrap().status(), 200);
            finished = true;
            break;
        }
    }
    assert!(finished, "the handler never needed fewer polls than were allowed");
}

/// Polls `future` at most `polls` times, then drops it.
async fn poll_at_most<F: Future>(polls: u32, future: F) -> Option<F::Output> {
    let mut future = Box::pin(future);
    let mut left = polls;
    std::future::poll_fn(move |context| {
        left -= 1;
        match future.as_mut().poll(context) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending if left == 0 => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}
