//! Redis loses what it had, or the last of it: nothing that was published stays lost.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use valerix_kit::events::republish::Republisher;
use valerix_kit::events::{Epoch, Event, EventBus, EventSource, Loss};
use valerix_kit::metrics::Metrics;
use valerix_kit::testing::{bus_args, eventually, free_port, patient_redis};

use crate::events::{Running, quick};
use crate::lost::{narrow, write};
use crate::support::{OwnRedis, Scripted, TOPIC, Tampered, World, event, new_event, own_bus, subscription};

const OUTBOX: &str = "service";

fn republisher(world: &World) -> Republisher {
    Republisher::new(world.pool.clone(), world.bus.clone(), OUTBOX, Metrics::new().unwrap())
}

async fn look(republisher: &Republisher) -> u64 {
    republisher.look(&mut None, &CancellationToken::new()).await.unwrap()
}

/// A world on this port, once Redis answers there.
async fn world(port: u16) -> World {
    let world = World::on(own_bus(port)).await;
    answers(&world).await;
    world
}

async fn answers(world: &World) {
    eventually("Redis answers", || async { world.bus.ping().await.ok() }).await;
}

async fn publish(world: &World, aggregates: &[&str]) {
    let events: Vec<_> = aggregates.iter().map(|aggregate| new_event(aggregate, 1)).collect();
    world.append(&events).await;
    assert_eq!(world.relay().publish_batch().await.unwrap(), events.len());
}

/// The aggregates whose events a group that has never read finds, sorted.
async fn found(world: &World, group: &str) -> Vec<String> {
    let mut subscription = subscription("one");
    subscription.group = group.into();
    let mut source = world.bus.subscribe(&subscription).await.unwrap();
    let deliveries = source.next(1000, Duration::ZERO).await.unwrap();
    let mut found: Vec<String> = deliveries
        .into_iter()
        .map(|delivery| delivery.event.unwrap().aggregate)
        .collect();
    found.sort();
    found
}

#[tokio::test]
async fn what_an_empty_redis_has_lost_is_published_again_and_groups_miss_nothing() {
    let port = free_port();
    let redis = OwnRedis::start(port);
    let world = world(port).await;
    let (one, other) = (republisher(&world), republisher(&world));
    assert_eq!(look(&one).await, 0, "nothing was ever published");
    publish(&world, &["a", "b", "c", "d"]).await;
    assert_eq!((look(&one).await, look(&other).await), (0, 0), "nothing is lost");

    drop(redis);
    assert!(
        one.look(&mut None, &CancellationToken::new()).await.is_err(),
        "Redis is away"
    );
    let _redis = OwnRedis::start(port);
    answers(&world).await;
    // Both find the loss, one of them publishes.
    let (first, second) = tokio::join!(look(&one), look(&other));
    assert_eq!(first + second, 4, "{first} and {second}");
    assert_eq!((look(&one).await, look(&other).await), (0, 0));
    let handler = Scripted::new(|_: &Event, _| Ok(()));
    let running = Running::start(&world.bus, "one", handler.clone(), quick());
    eventually("a group that had read nothing gets everything", || async {
        (handler.handled().len() == 4).then_some(())
    })
    .await;
    running.stop().await;
}

fn persistent(port: u16, folder: &Path) -> OwnRedis {
    OwnRedis::start_with(port, &["--dir", folder.to_str().unwrap()])
}

/// Has the Redis at this port write down what it has.
async fn save(port: u16) {
    let client = redis::Client::open(format!("redis://127.0.0.1:{port}/")).unwrap();
    let mut connection = client
        .get_multiplexed_async_connection_with_config(&patient_redis())
        .await
        .unwrap();
    let _: () = redis::cmd("SAVE").query_async(&mut connection).await.unwrap();
}

#[tokio::test]
async fn what_came_after_the_last_save_is_published_again_and_no_more() {
    let port = free_port();
    let folder = std::env::temp_dir().join(format!("valerix-test-{}", Uuid::now_v7().simple()));
    std::fs::create_dir_all(&folder).unwrap();
    let redis = persistent(port, &folder);
    let world = world(port).await;
    let republisher = republisher(&world);
    look(&republisher).await;
    publish(&world, &["old", "older"]).await;
    sqlx::query("UPDATE outbox SET created_at = created_at - interval '5 minutes'")
        .execute(&world.pool)
        .await
        .unwrap();
    look(&republisher).await;
    save(port).await;
    publish(&world, &["lost", "too"]).await;
    assert_eq!(found(&world, "before").await, ["lost", "old", "older", "too"]);

    drop(redis);
    let _redis = persistent(port, &folder);
    answers(&world).await;
    assert_eq!(
        found(&world, "restarted").await,
        ["old", "older"],
        "the test loses something"
    );
    assert_eq!(look(&republisher).await, 2);
    assert_eq!(found(&world, "after").await, ["lost", "old", "older", "too"]);
    assert_eq!(look(&republisher).await, 0);
    std::fs::remove_dir_all(&folder).unwrap();
}

#[tokio::test]
async fn a_note_never_hides_a_loss_that_came_in_between() {
    let port = free_port();
    let redis = OwnRedis::start(port);
    let world = world(port).await;
    let at = chrono::Utc::now();
    let seen = world.bus.epoch(OUTBOX).await.unwrap();
    assert_eq!(seen.loss, Loss::Everything);
    let before = Epoch {
        run: "of another Redis".into(),
        ..seen.clone()
    };
    assert!(
        !world.bus.note(OUTBOX, &before, at).await.unwrap(),
        "it is another run now"
    );
    assert!(world.bus.note(OUTBOX, &seen, at).await.unwrap());
    assert!(
        !world.bus.note(OUTBOX, &seen, at).await.unwrap(),
        "it is another note now"
    );
    let seen = world.bus.epoch(OUTBOX).await.unwrap();
    assert_eq!(seen.loss, Loss::Nothing);
    drop(redis);
    let _redis = OwnRedis::start(port);
    answers(&world).await;
    assert!(!world.bus.note(OUTBOX, &seen, at).await.unwrap(), "the note is gone");
    assert_eq!(world.bus.epoch(OUTBOX).await.unwrap().loss, Loss::Everything);
}

/// What waits is not covered by the note, however long ago it was written.
#[tokio::test]
async fn what_had_waited_for_long_when_it_was_published_and_lost_is_published_again() {
    let port = free_port();
    let folder = std::env::temp_dir().join(format!("valerix-test-{}", Uuid::now_v7().simple()));
    std::fs::create_dir_all(&folder).unwrap();
    let redis = persistent(port, &folder);
    let world = world(port).await;
    let republisher = republisher(&world);
    world.append(&[new_event("waits", 1)]).await;
    sqlx::query("UPDATE outbox SET created_at = created_at - interval '1 day'")
        .execute(&world.pool)
        .await
        .unwrap();
    look(&republisher).await;
    save(port).await;
    assert_eq!(world.relay().publish_batch().await.unwrap(), 1);
    drop(redis);
    let _redis = persistent(port, &folder);
    answers(&world).await;
    assert_eq!(look(&republisher).await, 1);
    assert_eq!(found(&world, "after").await, ["waits"]);
    std::fs::remove_dir_all(&folder).unwrap();
}

#[tokio::test]
async fn an_outbox_of_many_pages_is_published_again_whole() {
    let port = free_port();
    let redis = OwnRedis::start(port);
    let world = world(port).await;
    look(&republisher(&world)).await;
    let events: Vec<_> = (0..1203)
        .map(|number| new_event(&format!("thing:{number}"), 1))
        .collect();
    world.append(&events).await;
    while world.relay().publish_batch().await.unwrap() > 0 {}
    drop(redis);
    let _redis = OwnRedis::start(port);
    answers(&world).await;
    assert_eq!(look(&republisher(&world)).await, 1203);
    let handler = Scripted::new(|_: &Event, _| Ok(()));
    let running = Running::start(&world.bus, "one", Arc::clone(&handler) as _, quick());
    eventually("all of it is handled", || async {
        (handler.handled().len() == 1203).then_some(())
    })
    .await;
    running.stop().await;
    let mut ids = handler.handled();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 1203);
}

#[tokio::test]
async fn a_bus_that_is_full_takes_the_rest_later_and_nothing_twice() {
    let world = World::new().await;
    let events: Vec<_> = (0..1203)
        .map(|number| new_event(&format!("thing:{number}"), 1))
        .collect();
    world.append(&events).await;
    while world.relay().publish_batch().await.unwrap() > 0 {}
    let mut redis = world.redis.clone();
    // The first epoch is asked before anything is published again, the second after all of it was.
    for (method, call, so_far) in [
        ("publish", 2, 500),
        ("turn", 2, 500),
        ("epoch", 2, 1203),
        ("note", 1, 1203),
    ] {
        let outbox = format!("full at {method}");
        let _: () = redis::AsyncCommands::del(&mut redis, world.bus.stream(TOPIC))
            .await
            .unwrap();
        let bus = Arc::new(Tampered::full_at(&world.bus, method, call));
        let republisher = Republisher::new(world.pool.clone(), bus, &outbox, Metrics::new().unwrap());
        let (mut begun, stop) = (None, CancellationToken::new());
        assert!(republisher.look(&mut begun, &stop).await.is_err(), "{method}");
        assert_eq!(world.stream().await.len(), so_far, "{method}");
        assert_eq!(republisher.look(&mut begun, &stop).await.unwrap(), 1203, "{method}");
        assert_eq!(world.stream().await.len(), 1203, "{method}");
        assert_eq!(republisher.look(&mut begun, &stop).await.unwrap(), 0, "{method}");
    }
}

#[tokio::test]
async fn what_is_published_again_cuts_nothing_off_that_a_group_has_still_to_read() {
    let world = World::on(narrow(bus_args())).await;
    let mut source = world.bus.subscribe(&subscription("one")).await.unwrap();
    let read = async |source: &mut Box<dyn EventSource>| {
        let deliveries = source.next(1000, Duration::ZERO).await.unwrap();
        for delivery in &deliveries {
            world.bus.acknowledge(delivery).await.unwrap();
        }
        world.bus.tidy(&[TOPIC.to_owned()]).await.unwrap();
        deliveries.len()
    };
    for part in 0..5 {
        write(&world, part * 60, 60).await;
        assert_eq!(read(&mut source).await, 60);
    }
    let lost = world.bus.losses(OUTBOX).await.unwrap().len();
    // Its note is gone: all that was ever published may be.
    let republisher = Republisher::new(
        world.pool.clone(),
        world.bus.clone(),
        "another",
        Metrics::new().unwrap(),
    );
    let (mut begun, stop) = (None, CancellationToken::new());
    let (mut rounds, mut again) = (0, 0);
    loop {
        let done = republisher.look(&mut begun, &stop).await.unwrap();
        assert!(world.stream().await.len() <= 80, "what is new has room");
        again += read(&mut source).await;
        if done > 0 {
            assert_eq!((done, again), (300, 300));
            break;
        }
        rounds += 1;
        assert!(rounds < 10, "it comes to an end: {again}");
    }
    assert_eq!(
        world.bus.losses(OUTBOX).await.unwrap().len(),
        lost,
        "nothing was cut off"
    );
}

/// A consumer that starts anew would have to create its group and take its lease, for which there is no room.
#[tokio::test]
async fn a_redis_that_is_full_is_emptied_by_consumers_that_start_anew() {
    let port = free_port();
    let _redis = OwnRedis::start_with(port, &["--maxmemory-policy", "noeviction"]);
    let world = world(port).await;
    let mut source = world.bus.subscribe(&subscription("before")).await.unwrap();
    world.publish(5).await;
    let read = source.next(2, Duration::ZERO).await.unwrap();
    assert_eq!(read.len(), 2, "some are left by a consumer that is gone");
    drop(source);
    let client = redis::Client::open(format!("redis://127.0.0.1:{port}/")).unwrap();
    let mut connection = client
        .get_multiplexed_async_connection_with_config(&patient_redis())
        .await
        .unwrap();
    let mut limit = redis::cmd("CONFIG");
    limit.arg(&["SET", "maxmemory", "1"]);
    let _: () = limit.query_async(&mut connection).await.unwrap();
    let refused = world
        .bus
        .publish(&[event("thing", 1)])
        .await
        .pop()
        .unwrap()
        .unwrap_err();
    assert!(refused.unavailable && refused.reason.contains("OOM"), "{refused}");

    let handler = Scripted::new(|_: &Event, _| Ok(()));
    let running = Running::start(&world.bus, "after", handler.clone(), quick());
    eventually("what is new and what was left is handled", || async {
        (handler.handled().len() == 5).then_some(())
    })
    .await;
    running.stop().await;
    let groups: redis::streams::StreamInfoGroupsReply =
        redis::AsyncCommands::xinfo_groups(&mut connection, world.bus.stream(TOPIC))
            .await
            .unwrap();
    assert_eq!((groups.groups[0].pending, groups.groups[0].lag), (0, Some(0)));
}

#[tokio::test]
async fn personal_data_is_not_appended() {
    let world = World::new().await;
    let mut event = new_event("a", 1);
    event.payload = serde_json::json!({"user": {"email": "ada@example.com"}});
    let mut transaction = valerix_kit::postgres::begin(&world.pool).await.unwrap();
    let refused = valerix_kit::events::outbox::append(&mut transaction, &event)
        .await
        .unwrap_err();
    assert!(
        refused.to_string().contains("its field email is personal data"),
        "{refused}"
    );
}
