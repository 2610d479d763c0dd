//! What keeps the streams small, and what is said about them.

use std::sync::Arc;
use std::time::Duration;

use redis::AsyncCommands;
use redis::streams::{StreamReadOptions, StreamReadReply};
use valerix_kit::args::BusArgs;
use valerix_kit::events::consumer::{Consumer, ConsumerOptions};
use valerix_kit::events::redis_streams::RedisStreams;
use valerix_kit::events::{Delivery, EventBus};
use valerix_kit::health::Check;
use valerix_kit::metrics::Metrics;
use valerix_kit::testing::{bus_args, eventually, free_port, patient_redis};

use crate::events::{Running, killed_with_pending, quick};
use crate::support::{OwnRedis, Scripted, TOPIC, World, event, own_bus, subscription};

/// Reads `count` entries as the group and acknowledges all but `left`.
async fn read_as(world: &World, group: &str, count: usize, left: Option<usize>) -> Vec<String> {
    let mut redis = world.redis.clone();
    let stream = world.bus.stream(TOPIC);
    let _: () = redis.xgroup_create(&stream, group, "0").await.unwrap();
    let options = StreamReadOptions::default().group(group, "one").count(count);
    let reply: Option<StreamReadReply> = redis.xread_options(&[&stream], &[">"], &options).await.unwrap();
    let ids: Vec<String> = reply.unwrap().keys[0].ids.iter().map(|id| id.id.clone()).collect();
    let done: Vec<&String> = ids
        .iter()
        .enumerate()
        .filter(|(place, _)| Some(*place) != left)
        .map(|(_, id)| id)
        .collect();
    let _: () = redis.xack(&stream, group, &done).await.unwrap();
    ids
}

async fn length_after(bus: &RedisStreams) -> u64 {
    bus.tidy(&[TOPIC.to_owned()]).await.unwrap()[0].events
}

#[tokio::test]
async fn a_stream_is_cut_to_what_some_group_has_still_to_handle() {
    let world = World::new().await;
    assert_eq!(
        length_after(&world.bus).await,
        0,
        "a stream that does not exist is no failure"
    );
    world.publish(300).await;
    assert_eq!(
        length_after(&world.bus).await,
        300,
        "it is kept for the first group that comes"
    );
    let ids = read_as(&world, "fast", 300, Some(100)).await;
    read_as(&world, "slow", 200, None).await;
    assert_eq!(
        length_after(&world.bus).await,
        200,
        "the oldest pending entry and what follows"
    );
    let mut redis = world.redis.clone();
    let _: () = redis.xack(world.bus.stream(TOPIC), "fast", &[&ids[100]]).await.unwrap();
    assert_eq!(
        length_after(&world.bus).await,
        101,
        "what the slow group has not seen, and the last that it has"
    );
    assert_eq!(
        world.bus.lag(&subscription("one")).await.unwrap(),
        [(TOPIC.to_owned(), 101)],
        "a group that never came"
    );
    assert_eq!(world.stream().await[1..].len(), 100);
}

#[tokio::test]
async fn dead_letters_are_kept_up_to_a_bound_and_the_newest_of_them() {
    let world = World::new().await;
    let dead = world.bus.dead_stream(TOPIC);
    let mut redis = world.redis.clone();
    let mut many = redis::pipe();
    for _ in 0..10_500 {
        many.xadd(&dead, "*", &[("dead_group", "other")]).ignore();
    }
    let _: () = many.query_async(&mut redis).await.unwrap();
    world.publish(2).await;
    let entry = read_as(&world, "late", 2, Some(0)).await.remove(0);
    let delivery = Delivery {
        topic: TOPIC.to_owned(),
        group: "late".to_owned(),
        entry,
        deliveries: 5,
        event: Ok(event("a", 1)),
    };
    world.bus.dead_letter(&delivery, 5, "it is poison").await.unwrap();
    // Redis drops whole blocks of a stream, of a hundred entries.
    let length: usize = redis.xlen(&dead).await.unwrap();
    assert!((10_000..10_200).contains(&length), "{length}");
    let left = world.bus.dead_letters(TOPIC, "late", None, 10).await.unwrap();
    assert_eq!(left.len(), 1, "the newest stays: {left:?}");
}

#[tokio::test]
async fn what_is_young_stays_for_a_group_that_is_late() {
    let world = World::new().await;
    let prefix = world.bus.stream("");
    let patient = RedisStreams::open(&BusArgs {
        redis_prefix: prefix,
        redis_stream_keep: Duration::from_secs(3600),
        ..bus_args()
    });
    world.publish(3).await;
    read_as(&world, "fast", 3, None).await;
    assert_eq!(length_after(&patient).await, 3);
    assert_eq!(length_after(&world.bus).await, 1);
}

#[tokio::test]
async fn dead_letters_are_kept_for_a_week() {
    let world = World::new().await;
    let mut redis = world.redis.clone();
    for id in ["1-1", "*"] {
        let _: String = redis
            .xadd(world.bus.dead_stream(TOPIC), id, &[("id", "x")])
            .await
            .unwrap();
    }
    length_after(&world.bus).await;
    let dead = world.dead().await;
    assert_eq!(dead.len(), 1);
    assert_ne!(dead[0].id, "1-1");
}

#[tokio::test]
async fn entries_that_are_gone_make_no_dead_letters_without_content() {
    let world = World::new().await;
    world.publish(5).await;
    killed_with_pending(&world, "one", 5).await;
    let mut redis = world.redis.clone();
    let reply: redis::streams::StreamRangeReply = redis.xrange_all(world.bus.stream(TOPIC)).await.unwrap();
    let gone: Vec<&String> = reply.ids[..3].iter().map(|id| &id.id).collect();
    let _: () = redis.xdel(world.bus.stream(TOPIC), &gone).await.unwrap();
    let handler = Scripted::new(|_, _| Ok(()));
    // Claims, which would drop them too, come after an hour only.
    let options = ConsumerOptions {
        claim_idle: Duration::from_secs(3600),
        ..quick()
    };
    let running = Running::start(&world.bus, "one", handler.clone(), options);
    eventually("what is left is handled", || async {
        (world.pending().await == 0).then_some(())
    })
    .await;
    running.stop().await;
    assert_eq!(handler.handled().len(), 2);
    assert!(world.dead().await.is_empty());
}

#[tokio::test]
async fn the_lag_is_not_told_while_redis_is_away() {
    let port = free_port();
    let redis = OwnRedis::start(port);
    let bus = Arc::new(RedisStreams::open(&own_bus(port)));
    eventually("Redis answers", || async { bus.ping().await.ok() }).await;
    for outcome in bus.publish(&[event("a", 1), event("b", 1)]).await {
        outcome.unwrap();
    }
    let metrics = Metrics::new().unwrap();
    let options = ConsumerOptions {
        claim_interval: Duration::from_millis(50),
        ..quick()
    };
    let handler = Scripted::new(|_, _| Ok(()));
    let consumer = Consumer::new(bus, subscription("one"), handler, metrics.clone()).with_options(options);
    let stop = tokio_util::sync::CancellationToken::new();
    let running = tokio::spawn(consumer.run(stop.clone()));
    let told = |line: &'static str| {
        let metrics = metrics.clone();
        async move { metrics.render().unwrap().contains(line).then_some(()) }
    };
    eventually("the lag is told", || {
        told("consumer_lag{group=\"group\",stream=\"things\"} 0")
    })
    .await;
    told("event_stream_entries{stream=\"things\"} 2")
        .await
        .expect("younger than a minute");
    told("event_bus_up 1").await.expect("Redis answers");
    drop(redis);
    eventually("the loss is told", || told("event_bus_up 0")).await;
    assert!(
        !metrics.render().unwrap().contains("consumer_lag{"),
        "an old number would look best when it is worst"
    );
    stop.cancel();
    running.await.unwrap();
}

#[tokio::test]
async fn the_deep_check_tries_what_a_bus_needs() {
    let port = free_port();
    let _redis = OwnRedis::start(port);
    let bus = RedisStreams::open(&own_bus(port));
    eventually("Redis answers", || async { bus.ping().await.ok() }).await;
    bus.check().await.unwrap();
    bus.check().await.expect("and again");
    let client = redis::Client::open(format!("redis://127.0.0.1:{port}/")).unwrap();
    let mut connection = client
        .get_multiplexed_async_connection_with_config(&patient_redis())
        .await
        .unwrap();
    for (user, rights) in [
        ("pings", vec!["+ping"]),
        ("reads", vec!["+@all", "-@write"]),
        ("works", vec!["+@all", "-@admin", "-@dangerous"]),
    ] {
        let mut command = redis::cmd("ACL");
        command
            .arg(&["SETUSER", user, "on", ">pw", "~*", "&*", "+client", "+hello", "+info"])
            .arg(rights);
        let _: () = command.query_async(&mut connection).await.unwrap();
        let args = BusArgs {
            redis_url: format!("redis://{user}:pw@127.0.0.1:{port}/").into(),
            ..bus_args()
        };
        let answer = RedisStreams::open(&args).check().await;
        match user {
            "works" => assert_eq!(answer, Ok(())),
            _ => assert!(answer.clone().unwrap_err().contains("NoPerm"), "{user}: {answer:?}"),
        }
    }
}

#[tokio::test]
async fn a_url_that_can_not_be_used_is_told_without_the_password_and_ends_nothing() {
    for url in ["redis://:se#cret@redis:6379/", "http://:secret@redis/", "redis//secret"] {
        let args = BusArgs {
            redis_url: url.to_owned().into(),
            ..bus_args()
        };
        let bus = RedisStreams::open(&args);
        let reason = bus.check().await.unwrap_err();
        assert!(!reason.contains("cret"), "{reason}");
        let refused = bus.publish(&[event("a", 1)]).await.pop().unwrap().unwrap_err();
        assert!(refused.unavailable, "no event is to blame");
        assert!(refused.to_string().contains("REDIS_URL"), "{refused}");
    }
}

#[tokio::test]
async fn a_redis_that_is_a_cluster_is_told_with_the_remedy() {
    let port = free_port();
    let folder = std::env::temp_dir().join(format!("valerix-test-{}", uuid::Uuid::now_v7().simple()));
    std::fs::create_dir_all(&folder).unwrap();
    // Else it is the port and 10,000 more, which a high one has not.
    let between = free_port().to_string();
    let cluster = ["--cluster-enabled", "yes", "--cluster-port", &between];
    let _redis = OwnRedis::start_with(port, &[&cluster[..], &["--dir", folder.to_str().unwrap()]].concat());
    let client = redis::Client::open(format!("redis://127.0.0.1:{port}/")).unwrap();
    let mut connection = eventually("Redis answers", || async {
        client
            .get_multiplexed_async_connection_with_config(&patient_redis())
            .await
            .ok()
    })
    .await;
    let _: () = redis::cmd("CLUSTER")
        .arg(&["ADDSLOTSRANGE", "0", "16383"])
        .query_async(&mut connection)
        .await
        .unwrap();
    let several = |prefix: &str| {
        let bus = RedisStreams::open(&BusArgs {
            redis_prefix: prefix.into(),
            ..own_bus(port)
        });
        async move {
            let subscription = valerix_kit::events::Subscription {
                topics: vec!["inventory.events".into(), "payment.events".into()],
                group: "order".into(),
                consumer: "one".into(),
            };
            let mut source = bus.subscribe(&subscription).await?;
            source.next(1, Duration::from_millis(1)).await
        }
    };
    eventually("the cluster is up", || async { several("{valerix}:").await.ok() }).await;
    let refused = several("valerix:").await.unwrap_err();
    assert!(refused.unavailable, "no event is to blame");
    assert!(refused.reason.contains("REDIS_PREFIX"), "{refused}");
}
