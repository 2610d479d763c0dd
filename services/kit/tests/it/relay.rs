//! The outbox and the relay.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;
use valerix_kit::events::consumer::Consumer;
use valerix_kit::events::{Event, EventBus, Handler, HandlerError, inbox, outbox};
use valerix_kit::metrics::Metrics;
use valerix_kit::postgres::begin;
use valerix_kit::testing::eventually;

use crate::support::{TOPIC, Tampered, World, event, new_event, subscription};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn several_relays_publish_everything_once_and_each_aggregate_in_order() {
    let world = World::new().await;
    for version in 1..=8 {
        let events: Vec<_> = (0..30)
            .map(|number| new_event(&format!("a:{number}"), version))
            .collect();
        world.append(&events).await;
    }
    let relays: Vec<_> = (0..4)
        .map(|_| {
            let relay = world.relay();
            tokio::spawn(async move {
                let mut idle = 0;
                while idle < 5 {
                    if relay.publish_batch().await.unwrap() == 0 {
                        idle += 1;
                        tokio::task::yield_now().await;
                    } else {
                        idle = 0;
                    }
                }
            })
        })
        .collect();
    for relay in relays {
        relay.await.unwrap();
    }
    // A relay may leave while another still holds rows whose successors nobody saw yet.
    while world.relay().publish_batch().await.unwrap() > 0 {}
    let mut versions: HashMap<String, Vec<i64>> = HashMap::new();
    for (aggregate, version) in world.stream().await {
        versions.entry(aggregate).or_default().push(version);
    }
    assert_eq!(versions.len(), 30);
    for (aggregate, versions) in versions {
        assert_eq!(versions, (1..=8).collect::<Vec<_>>(), "{aggregate}");
    }
}

/// The effect of an event is a row, written in the transaction that remembers the event.
struct WritesRow(sqlx::PgPool);

#[async_trait]
impl Handler for WritesRow {
    async fn handle(&self, event: &Event) -> Result<(), HandlerError> {
        let database = |error: sqlx::Error| HandlerError::from_sqlx(&error);
        let mut transaction = begin(&self.0).await.map_err(database)?;
        if inbox::claim(&mut transaction, "group", event.id)
            .await
            .map_err(database)?
        {
            sqlx::query("INSERT INTO effects VALUES ($1, $2)")
                .bind(event.id)
                .bind(&event.aggregate)
                .execute(&mut *transaction)
                .await
                .map_err(database)?;
        }
        transaction.commit().await.map_err(database)
    }
}

#[tokio::test]
async fn a_crash_between_publish_and_mark_publishes_twice_and_has_one_effect() {
    let world = World::new().await;
    world.append(&[new_event("a", 1), new_event("b", 1)]).await;
    let dying = world.relay_to(Arc::new(Tampered::dies_after_publish(&world.bus)));
    let dying = tokio::spawn(async move { dying.publish_batch().await });
    eventually("the dying relay has published", || async {
        (world.stream().await.len() == 2).then_some(())
    })
    .await;
    dying.abort();
    eventually("its rows are free again", || async {
        (world.relay().publish_batch().await.unwrap() == 2).then_some(())
    })
    .await;
    assert_eq!(world.stream().await.len(), 4, "both were published twice");

    let stop = CancellationToken::new();
    let handler = Arc::new(WritesRow(world.pool.clone()));
    let consumer = Consumer::new(world.bus.clone(), subscription("one"), handler, Metrics::new().unwrap());
    let running = tokio::spawn(consumer.run(stop.clone()));
    let lag = || async {
        world
            .bus
            .lag(&subscription("one"))
            .await
            .ok()
            .filter(|lag| lag == &[(TOPIC.to_owned(), 0)])
    };
    eventually("all four are consumed", lag).await;
    stop.cancel();
    running.await.unwrap();
    let effects: Vec<String> = sqlx::query_scalar("SELECT aggregate FROM effects ORDER BY aggregate")
        .fetch_all(&world.pool)
        .await
        .unwrap();
    assert_eq!(effects, ["a", "b"]);
}

#[tokio::test]
async fn a_row_that_the_bus_refuses_holds_up_its_own_aggregate_alone() {
    let world = World::new().await;
    let mut redis = world.redis.clone();
    // A key of another type in the stream's place: Redis refuses to append to it.
    let _: () = redis::AsyncCommands::set(&mut redis, world.bus.stream("broken"), "x")
        .await
        .unwrap();
    let mut bad = new_event("bad", 1);
    bad.topic = "broken".into();
    world
        .append(&[bad, new_event("bad", 2), new_event("good", 1), new_event("good", 2)])
        .await;
    let relay = world.relay();
    while relay.publish_batch().await.unwrap() > 0 {}
    assert_eq!(world.stream().await, [("good".to_owned(), 1), ("good".to_owned(), 2)]);
    let (attempts, error): (i32, String) =
        sqlx::query_as("SELECT attempts, last_error FROM outbox WHERE aggregate = 'bad' AND version = 1")
            .fetch_one(&world.pool)
            .await
            .unwrap();
    assert_eq!(attempts, 1);
    assert!(error.contains("WRONGTYPE"), "{error}");
    let _: () = redis::AsyncCommands::del(&mut redis, world.bus.stream("broken"))
        .await
        .unwrap();
    eventually("the bad row is tried again and its successor follows", || async {
        relay.publish_batch().await.unwrap();
        world.stream().await.contains(&("bad".to_owned(), 2)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn what_a_bus_that_is_away_did_not_take_is_published_when_it_is_back() {
    let world = World::new().await;
    world.append(&[new_event("a", 1)]).await;
    let relay = world.relay_to(Arc::new(Tampered::full_at(&world.bus, "publish", 1)));
    assert!(relay.publish_batch().await.is_err());
    assert!(world.stream().await.is_empty());
    assert_eq!(relay.publish_batch().await.unwrap(), 1);
    assert_eq!(world.stream().await, [("a".to_owned(), 1)]);
}

#[tokio::test]
async fn an_uncommitted_event_is_never_published() {
    let world = World::new().await;
    let mut transaction = begin(&world.pool).await.unwrap();
    let id = outbox::append(&mut transaction, &new_event("a", 1)).await.unwrap();
    assert_eq!(world.relay().publish_batch().await.unwrap(), 0);
    transaction.rollback().await.unwrap();
    assert_eq!(world.relay().publish_batch().await.unwrap(), 0);
    assert_eq!(event("a", 1).id, id);
}

#[tokio::test]
async fn only_old_and_finished_rows_are_pruned() {
    let world = World::new().await;
    world.append(&[new_event("a", 1), new_event("b", 1)]).await;
    sqlx::query("UPDATE outbox SET created_at = now() - interval '20 days'")
        .execute(&world.pool)
        .await
        .unwrap();
    sqlx::query("UPDATE outbox SET published_at = now() WHERE aggregate = 'a'")
        .execute(&world.pool)
        .await
        .unwrap();
    assert_eq!(outbox::prune(&world.pool, outbox::RETENTION).await.unwrap(), 1);
    assert_eq!(
        world.relay().publish_batch().await.unwrap(),
        1,
        "b is old but was never published"
    );
    let mut connection = world.pool.acquire().await.unwrap();
    inbox::claim(&mut connection, "group", event("a", 1).id).await.unwrap();
    assert_eq!(inbox::prune(&world.pool, inbox::RETENTION).await.unwrap(), 0);
}

/// Somebody holds the old rows, so that deleting them takes as long as the test wants.
#[tokio::test]
async fn what_is_new_is_published_while_what_is_old_is_deleted() {
    let world = World::new().await;
    world.append(&[new_event("old", 1)]).await;
    let old = "UPDATE outbox SET published_at = now(), created_at = now() - interval '20 days'";
    sqlx::query(old).execute(&world.pool).await.unwrap();
    let mut held = begin(&world.pool).await.unwrap();
    let hold = sqlx::query("SELECT FROM outbox WHERE aggregate = 'old' FOR UPDATE");
    hold.execute(&mut *held).await.unwrap();
    let (relay, stop) = (world.relay(), CancellationToken::new());
    let tasks = [
        tokio::spawn(relay.clone().keep_up(stop.clone())),
        tokio::spawn(relay.run(stop.clone())),
    ];
    let is_waited_for = "SELECT count(*) FROM pg_stat_activity \
        WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE 'DELETE FROM outbox%'";
    eventually("it is being deleted", || async {
        let waiting: i64 = sqlx::query_scalar(is_waited_for).fetch_one(&world.pool).await.unwrap();
        (waiting == 1).then_some(())
    })
    .await;
    world.append(&[new_event("new", 1)]).await;
    eventually("the new one is published", || async {
        (world.stream().await == [("new".to_owned(), 1)]).then_some(())
    })
    .await;
    held.commit().await.unwrap();
    eventually("the old one is gone", || async {
        let left: Vec<String> = sqlx::query_scalar("SELECT aggregate FROM outbox")
            .fetch_all(&world.pool)
            .await
            .unwrap();
        (left == ["new"]).then_some(())
    })
    .await;
    stop.cancel();
    for task in tasks {
        task.await.unwrap();
    }
}
