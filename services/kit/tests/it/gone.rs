//! Consumers that are gone.

use std::time::Duration;

use redis::AsyncCommands;
use redis::streams::StreamInfoConsumersReply;
use valerix_kit::events::EventBus;
use valerix_kit::events::consumer::ConsumerOptions;
use valerix_kit::testing::eventually;

use crate::events::{Running, killed_with_pending, quick};
use crate::support::{Scripted, TOPIC, World, subscription};

const HOUR: Duration = Duration::from_secs(3600);

async fn consumers(world: &World) -> StreamInfoConsumersReply {
    let mut redis = world.redis.clone();
    redis.xinfo_consumers(world.bus.stream(TOPIC), "group").await.unwrap()
}

/// Waits until the consumer was not heard of for longer than a lease lasts.
pub async fn silent(world: &World, name: &str, hold: bool) {
    eventually("the consumer is silent for long enough", || async {
        if hold {
            world.bus.hold(&subscription(name)).await.unwrap();
        }
        let consumers = consumers(world).await.consumers;
        consumers
            .iter()
            .any(|consumer| consumer.name == name && consumer.idle > 3100)
            .then_some(())
    })
    .await;
}

#[tokio::test]
async fn what_a_dead_consumer_left_is_taken_over_as_soon_as_its_lease_is_gone() {
    let world = World::new().await;
    let events = world.publish(5).await;
    killed_with_pending(&world, "one", 5).await;
    let handler = Scripted::new(|_, _| Ok(()));
    // Only its lease can tell.
    let options = ConsumerOptions {
        claim_idle: HOUR,
        ..quick()
    };
    let running = Running::start(&world.bus, "two", handler.clone(), options);
    eventually("the other takes all of it over", || async {
        (handler.handled().len() == events.len()).then_some(())
    })
    .await;
    running.stop().await;
    assert_eq!(world.pending().await, 0);
}

#[tokio::test]
async fn a_consumer_that_lives_keeps_what_it_works_on_and_leaves_it_when_it_ends() {
    let world = World::new().await;
    world.publish(3).await;
    let mut source = world.bus.subscribe(&subscription("slow")).await.unwrap();
    assert_eq!(source.next(10, Duration::ZERO).await.unwrap().len(), 3);
    let mut peer = world.bus.subscribe(&subscription("peer")).await.unwrap();
    assert!(
        peer.claim_gone(HOUR, 10).await.unwrap().is_empty(),
        "it was heard of just now"
    );
    silent(&world, "slow", true).await;
    assert!(
        peer.claim_gone(HOUR, 10).await.unwrap().is_empty(),
        "it holds its lease"
    );
    world.bus.release(&subscription("slow")).await.unwrap();
    let taken = peer.claim_gone(HOUR, 10).await.unwrap();
    assert_eq!(
        taken.iter().map(|delivery| delivery.deliveries).collect::<Vec<_>>(),
        [2; 3]
    );
    let mut third = world.bus.subscribe(&subscription("third")).await.unwrap();
    assert!(
        third.claim_gone(HOUR, 10).await.unwrap().is_empty(),
        "it is the peer's now"
    );
}

#[tokio::test]
async fn consumers_that_are_gone_are_forgotten_when_they_have_left_nothing() {
    let world = World::new().await;
    world.publish(1).await;
    let mut owes = world.bus.subscribe(&subscription("owes")).await.unwrap();
    assert_eq!(owes.next(1, Duration::ZERO).await.unwrap().len(), 1);
    // A consumer without an entry: one that has handled all it read.
    for name in ["done", "lives"] {
        let mut redis = world.redis.clone();
        let mut command = redis::cmd("XGROUP");
        command.arg(&["CREATECONSUMER", &world.bus.stream(TOPIC), "group", name]);
        let _: () = command.query_async(&mut redis).await.unwrap();
    }
    silent(&world, "lives", true).await;
    let mut peer = world.bus.subscribe(&subscription("peer")).await.unwrap();
    peer.claim_gone(HOUR, 0).await.unwrap();
    assert_eq!(consumers(&world).await.consumers.len(), 3, "an hour is not over");
    world.bus.hold(&subscription("lives")).await.unwrap();
    peer.claim_gone(Duration::ZERO, 0).await.unwrap();
    let names: Vec<String> = consumers(&world)
        .await
        .consumers
        .into_iter()
        .map(|one| one.name)
        .collect();
    assert_eq!(names, ["lives", "owes"]);
}
