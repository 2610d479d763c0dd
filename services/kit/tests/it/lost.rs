//! A group lags behind, or is lost, while its stream goes on without it: whatever it has not handled comes back from the
//! outbox.

use std::sync::Arc;
use std::time::Duration;

use redis::AsyncCommands;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use valerix_kit::args::BusArgs;
use valerix_kit::events::refill::{Refiller, Refilling};
use valerix_kit::events::{EventBus, Subscription};
use valerix_kit::metrics::Metrics;
use valerix_kit::testing::{bus_args, eventually, free_port, patient_redis};

use crate::events::{Running, killed_with_pending, quick};
use crate::gone::silent;
use crate::support::{OwnRedis, Scripted, TOPIC, Tampered, World, event, new_event, own_bus, subscription};

const OUTBOX: &str = "service";
/// More than a stream of [`narrow`] may have.
const MANY: usize = 250;

/// A bus whose streams have a hundred entries.
pub fn narrow(bus: BusArgs) -> BusArgs {
    BusArgs {
        redis_stream_max_entries: 100,
        ..bus
    }
}

struct Refill {
    refiller: Refiller,
    begun: Option<Refilling>,
    metrics: Metrics,
}

impl Refill {
    fn new(world: &World) -> Self {
        Self::by(world, world.bus.clone())
    }

    fn by(world: &World, bus: Arc<dyn EventBus>) -> Self {
        let metrics = Metrics::new().unwrap();
        Self {
            refiller: Refiller::new(world.pool.clone(), bus, OUTBOX, metrics.clone()),
            begun: None,
            metrics,
        }
    }

    async fn look(&mut self) -> u64 {
        self.refiller
            .look(&mut self.begun, &CancellationToken::new())
            .await
            .unwrap()
    }

    /// Looks, and has the streams trimmed, until something was made good.
    async fn make_good(&mut self, world: &World) -> u64 {
        for _ in 0..1000 {
            let count = self.look().await;
            if count > 0 {
                return count;
            }
            world.bus.tidy(&[TOPIC.to_owned()]).await.unwrap();
            tokio::task::yield_now().await;
        }
        panic!("nothing was made good");
    }

    fn told(&self, line: &str) {
        let text = self.metrics.render().unwrap();
        assert!(text.contains(line), "{text}");
    }
}

/// Appends so many events, each of an aggregate of its own, and publishes them.
pub async fn write(world: &World, from: usize, count: usize) -> Vec<Uuid> {
    let aggregates: Vec<String> = (from..from + count).map(|number| format!("thing:{number}")).collect();
    let events: Vec<_> = aggregates.iter().map(|aggregate| new_event(aggregate, 1)).collect();
    world.append(&events).await;
    while world.relay().publish_batch().await.unwrap() > 0 {}
    aggregates.iter().map(|aggregate| event(aggregate, 1).id).collect()
}

/// A consumer reads so many events and dies.
async fn leave(world: &World, count: usize) {
    let mut source = world.bus.subscribe(&subscription("dead")).await.unwrap();
    let read = source.next(count, Duration::ZERO).await.unwrap();
    assert_eq!(read.len(), count);
}

fn sorted(mut ids: Vec<Uuid>) -> Vec<Uuid> {
    ids.sort();
    ids.dedup();
    ids
}

/// Whether the consumer of that name handles all of `wanted` while the streams are filled up again.
async fn handles(world: &World, name: &str, wanted: Vec<Uuid>) {
    handles_as(world, subscription(name), wanted).await;
}

async fn handles_as(world: &World, subscription: Subscription, wanted: Vec<Uuid>) {
    let handler = Scripted::new(|_, _| Ok(()));
    let running = Running::start_as(&world.bus, subscription, handler.clone(), quick());
    let wanted = sorted(wanted);
    let mut refill = Refill::new(world);
    let stop = CancellationToken::new();
    let filling = async {
        while !stop.is_cancelled() {
            refill.look().await;
            world.bus.tidy(&[TOPIC.to_owned()]).await.unwrap();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let waiting = async {
        eventually("all of it is handled", || async {
            (sorted(handler.handled()) == wanted).then_some(())
        })
        .await;
        stop.cancel();
    };
    tokio::join!(filling, waiting);
    running.stop().await;
    assert_eq!(Refill::new(world).look().await, 0, "it is done");
}

#[tokio::test]
async fn what_is_cut_off_before_a_group_has_read_it_comes_back() {
    let world = World::on(narrow(bus_args())).await;
    world.bus.subscribe(&subscription("one")).await.unwrap();
    assert_eq!(
        Refill::new(&world).look().await,
        0,
        "a new group has lost nothing where there is nothing"
    );
    let ids = write(&world, 0, MANY).await;
    assert!(world.stream().await.len() <= 100, "the stream is bounded");
    handles(&world, "one", ids).await;
}

#[tokio::test]
async fn what_is_cut_off_before_a_group_has_finished_it_comes_back() {
    let world = World::on(narrow(bus_args())).await;
    let first = write(&world, 0, 60).await;
    leave(&world, 60).await;
    let rest = write(&world, 60, MANY).await;
    let ids: Vec<Uuid> = first.into_iter().chain(rest).collect();
    handles(&world, "two", ids).await;
}

#[tokio::test]
async fn what_was_read_and_finished_is_cut_off_in_silence() {
    let world = World::on(narrow(bus_args())).await;
    let mut refill = Refill::new(&world);
    let mut source = world.bus.subscribe(&subscription("one")).await.unwrap();
    refill.look().await;
    for round in 0..5 {
        write(&world, round * 80, 80).await;
        for delivery in source.next(1000, Duration::ZERO).await.unwrap() {
            world.bus.acknowledge(&delivery).await.unwrap();
        }
    }
    assert!(world.stream().await.len() <= 100);
    assert_eq!(refill.look().await, 0);
    assert!(!refill.metrics.render().unwrap().contains("stream_group_lost_total{"));
}

#[tokio::test]
async fn a_lost_group_gets_what_the_others_had_finished() {
    let world = World::new().await;
    let ids = write(&world, 0, 50).await;
    // Another group has all of it, and the stream is trimmed after that.
    let mut other = subscription("other");
    other.group = "other".into();
    let mut source = world.bus.subscribe(&other).await.unwrap();
    for delivery in source.next(1000, Duration::ZERO).await.unwrap() {
        world.bus.acknowledge(&delivery).await.unwrap();
    }
    world.bus.subscribe(&subscription("one")).await.unwrap();
    let mut redis = world.redis.clone();
    let _: () = redis.xgroup_destroy(world.bus.stream(TOPIC), "group").await.unwrap();
    world.bus.tidy(&[TOPIC.to_owned()]).await.unwrap();
    assert!(world.stream().await.len() <= 1, "the test loses something");
    handles(&world, "one", ids).await;
}

#[tokio::test]
async fn a_stream_that_somebody_deleted_is_filled_again() {
    let world = World::new().await;
    let ids = write(&world, 0, 20).await;
    leave(&world, 5).await;
    let mut redis = world.redis.clone();
    let _: () = redis.del(world.bus.stream(TOPIC)).await.unwrap();
    // It exists again before the group is missed.
    let more = write(&world, 20, 1).await;
    handles(&world, "one", ids.into_iter().chain(more).collect()).await;
}

#[tokio::test]
async fn entries_that_somebody_deleted_come_back() {
    let world = World::new().await;
    let ids = write(&world, 0, 6).await;
    killed_with_pending(&world, "one", 6).await;
    delete_all(&world).await;
    handles(&world, "one", ids).await;
}

/// A pod never comes back under its name, and the first look of another is for what it left.
#[tokio::test]
async fn entries_that_somebody_deleted_under_a_dead_consumer_come_back_to_another() {
    let world = World::new().await;
    let ids = write(&world, 0, 6).await;
    leave(&world, 6).await;
    delete_all(&world).await;
    silent(&world, "dead", false).await;
    handles(&world, "two", ids).await;
}

async fn delete_all(world: &World) {
    let mut refill = Refill::new(world);
    refill.make_good(world).await;
    let mut redis = world.redis.clone();
    let reply: redis::streams::StreamRangeReply = redis.xrange_all(world.bus.stream(TOPIC)).await.unwrap();
    let gone: Vec<&String> = reply.ids.iter().map(|id| &id.id).collect();
    let _: () = redis.xdel(world.bus.stream(TOPIC), &gone).await.unwrap();
}

/// The service of the other group runs no replica; its group stays where it was, and fills the stream.
#[tokio::test]
async fn a_group_that_nobody_reads_holds_up_no_other_and_misses_nothing_itself() {
    let world = World::on(narrow(bus_args())).await;
    let mut idle = subscription("idle");
    idle.group = "idle".into();
    let mut source = world.bus.subscribe(&idle).await.unwrap();
    let ids = write(&world, 0, 10).await;
    for delivery in source.next(5, Duration::ZERO).await.unwrap() {
        world.bus.acknowledge(&delivery).await.unwrap();
    }
    drop(source);
    world.bus.subscribe(&subscription("one")).await.unwrap();
    let more = write(&world, 10, MANY).await;
    let all: Vec<Uuid> = ids.into_iter().chain(more).collect();
    handles(&world, "one", all.clone()).await;
    let mut redis = world.redis.clone();
    let groups: redis::streams::StreamInfoGroupsReply = redis.xinfo_groups(world.bus.stream(TOPIC)).await.unwrap();
    let names: Vec<&str> = groups.groups.iter().map(|group| group.name.as_str()).collect();
    assert_eq!(names, ["group"]);

    world.bus.subscribe(&idle).await.unwrap();
    let losses = world.bus.losses(OUTBOX).await.unwrap();
    let lost = losses.last().unwrap();
    assert_eq!((lost.group.as_str(), lost.reason.as_str()), ("idle", "new"));
    assert!(lost.since.is_some(), "it had read something");
    handles_as(&world, idle, all).await;
}

#[tokio::test]
async fn replicas_that_forget_a_silent_group_at_once_do_not_fail_each_other() {
    let world = World::on(narrow(bus_args())).await;
    for number in 0..20 {
        let mut idle = subscription("idle");
        idle.group = format!("idle-{number}");
        let mut source = world.bus.subscribe(&idle).await.unwrap();
        source.next(1, Duration::ZERO).await.unwrap();
    }
    let handler = Scripted::new(|_, _| Ok(()));
    let running = Running::start(&world.bus, "one", handler, quick());
    write(&world, 0, MANY).await;
    let topics = [TOPIC.to_owned()];
    eventually("only the group that is read is left", || async {
        for tidied in futures::future::join_all((0..8).map(|_| world.bus.tidy(&topics))).await {
            tidied.unwrap();
        }
        let mut redis = world.redis.clone();
        let groups: redis::streams::StreamInfoGroupsReply = redis.xinfo_groups(world.bus.stream(TOPIC)).await.unwrap();
        (groups.groups.len() == 1).then_some(())
    })
    .await;
    running.stop().await;
}

/// The first group is back at once, reads everything and has it trimmed; the other comes when nothing is left.
#[tokio::test]
async fn a_group_that_comes_back_late_after_redis_lost_everything_misses_nothing() {
    let port = free_port();
    let redis = OwnRedis::start(port);
    let world = World::on(own_bus(port)).await;
    let answers = || async { world.bus.ping().await.ok() };
    eventually("Redis answers", answers).await;
    world.bus.subscribe(&subscription("one")).await.unwrap();
    let ids = write(&world, 0, 30).await;
    drop(redis);
    let _redis = OwnRedis::start(port);
    eventually("Redis answers again", answers).await;
    let republisher = valerix_kit::events::republish::Republisher::new(
        world.pool.clone(),
        world.bus.clone(),
        OUTBOX,
        Metrics::new().unwrap(),
    );
    let again = republisher.look(&mut None, &CancellationToken::new()).await.unwrap();
    assert_eq!(again, 30);
    let mut early = subscription("early");
    early.group = "early".into();
    let mut source = world.bus.subscribe(&early).await.unwrap();
    for delivery in source.next(1000, Duration::ZERO).await.unwrap() {
        world.bus.acknowledge(&delivery).await.unwrap();
    }
    world.bus.tidy(&[TOPIC.to_owned()]).await.unwrap();
    handles(&world, "one", ids).await;
}

#[tokio::test]
async fn a_loss_is_told_once_and_by_whom_who_publishes_the_topic() {
    let world = World::on(narrow(bus_args())).await;
    world.bus.subscribe(&subscription("one")).await.unwrap();
    let mut refill = Refill::new(&world);
    refill.look().await;
    write(&world, 0, MANY).await;
    assert_eq!(
        refill.look().await,
        0,
        "the stream has no room, and what is lost is not forgotten"
    );
    let handler = Scripted::new(|_, _| Ok(()));
    let running = Running::start(&world.bus, "one", handler.clone(), quick());
    eventually("the stream is read to its end", || async {
        (world.bus.lag(&subscription("one")).await.unwrap()[0].1 == 0).then_some(())
    })
    .await;
    let made_good = refill.make_good(&world).await;
    assert!(made_good >= 150, "{made_good}");
    refill.told("stream_group_lost_total{group=\"group\",reason=\"cut\",stream=\"things\"}");
    let elsewhere = World::new().await;
    let mut stranger = Refill::by(&elsewhere, world.bus.clone());
    assert_eq!(stranger.look().await, 0);
    assert!(!stranger.metrics.render().unwrap().contains("stream_group_lost_total{"));
    running.stop().await;
}

/// Killed between what it published and the note of it.
#[tokio::test]
async fn what_one_replica_has_begun_another_does_again_from_the_start() {
    let world = World::new().await;
    let ids = write(&world, 0, 10).await;
    world.bus.subscribe(&subscription("one")).await.unwrap();
    let mut dies = Refill::by(&world, Arc::new(Tampered::full_at(&world.bus, "made_good", 1)));
    let stop = CancellationToken::new();
    assert!(dies.refiller.look(&mut dies.begun, &stop).await.is_err());
    assert_eq!(world.stream().await.len(), 20);
    assert_eq!(dies.look().await, 10, "it goes on where it was, with the note");
    assert_eq!(world.stream().await.len(), 20);
    handles(&world, "one", ids).await;
}

/// It may have lost the end of what it had got again, and nobody else publishes what is old.
#[tokio::test]
async fn a_redis_that_is_started_again_while_it_is_refilled_is_refilled_from_the_start() {
    let world = World::new().await;
    let ids = write(&world, 0, 10).await;
    world.bus.subscribe(&subscription("one")).await.unwrap();
    let mut refill = Refill::by(&world, Arc::new(Tampered::restarts(&world.bus)));
    assert_eq!(refill.look().await, 0, "nothing was made good");
    world.redis.clone().del::<_, ()>(world.bus.stream(TOPIC)).await.unwrap();
    world.bus.subscribe(&subscription("one")).await.unwrap();
    assert_eq!(refill.look().await, 10);
    assert_eq!(refill.look().await, 0, "once is enough");
    handles(&world, "one", ids).await;
}

/// Redis takes no note, so it cuts nothing.
#[tokio::test]
async fn a_redis_that_is_full_cuts_off_nothing_unsaid() {
    let port = free_port();
    let _redis = OwnRedis::start_with(port, &["--maxmemory-policy", "noeviction"]);
    let wide = World::on(own_bus(port)).await;
    eventually("Redis answers", || async { wide.bus.ping().await.ok() }).await;
    wide.bus.subscribe(&subscription("one")).await.unwrap();
    wide.publish(MANY).await;
    let client = redis::Client::open(format!("redis://127.0.0.1:{port}/")).unwrap();
    let mut connection = client
        .get_multiplexed_async_connection_with_config(&patient_redis())
        .await
        .unwrap();
    let memory = |bytes: &'static str| {
        let mut limit = redis::cmd("CONFIG");
        limit.arg(&["SET", "maxmemory", bytes]);
        limit
    };
    let _: () = memory("1").query_async(&mut connection).await.unwrap();
    let bus = valerix_kit::events::redis_streams::RedisStreams::open(&narrow(BusArgs {
        redis_prefix: wide.bus.stream(""),
        ..own_bus(port)
    }));
    let topics = [TOPIC.to_owned()];
    let length = async |connection: &mut redis::aio::MultiplexedConnection| -> usize {
        connection.xlen(wide.bus.stream(TOPIC)).await.unwrap()
    };
    assert!(bus.tidy(&topics).await.is_err());
    assert_eq!(length(&mut connection).await, MANY);
    let _: () = memory("0").query_async(&mut connection).await.unwrap();
    bus.tidy(&topics).await.unwrap();
    assert!(length(&mut connection).await <= 100);
    assert!(
        bus.losses(OUTBOX)
            .await
            .unwrap()
            .iter()
            .any(|lost| lost.reason == "cut")
    );
}
