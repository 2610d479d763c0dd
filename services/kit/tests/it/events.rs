//! The consumer on Redis Streams.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use valerix_kit::events::consumer::{Consumer, ConsumerOptions};
use valerix_kit::events::redis_streams::RedisStreams;
use valerix_kit::events::{BusError, Delivery, Event, EventBus, EventSource, Handler, HandlerError, Subscription};
use valerix_kit::metrics::Metrics;
use valerix_kit::tasks::Tasks;
use valerix_kit::testing::{eventually, free_port};

use crate::support::{OwnRedis, Scripted, TOPIC, Tampered, World, event, new_event, own_bus, subscription};

pub fn quick() -> ConsumerOptions {
    ConsumerOptions {
        retry_base: Duration::from_millis(10),
        retry_max: Duration::from_millis(50),
        read_wait: Duration::from_millis(100),
        ..ConsumerOptions::default()
    }
}

pub struct Running {
    pub stop: CancellationToken,
    pub task: tokio::task::JoinHandle<()>,
}

impl Running {
    pub fn start(bus: &Arc<RedisStreams>, name: &str, handler: Arc<dyn Handler>, options: ConsumerOptions) -> Self {
        Self::start_as(bus, subscription(name), handler, options)
    }

    pub fn start_as(
        bus: &Arc<RedisStreams>,
        subscription: Subscription,
        handler: Arc<dyn Handler>,
        options: ConsumerOptions,
    ) -> Self {
        let stop = CancellationToken::new();
        let consumer = Consumer::new(bus.clone(), subscription, handler, Metrics::new().unwrap()).with_options(options);
        Self {
            task: tokio::spawn(consumer.run(stop.clone())),
            stop,
        }
    }

    pub async fn stop(self) {
        self.stop.cancel();
        self.task.await.unwrap();
    }
}

#[tokio::test]
async fn a_poison_event_becomes_a_dead_letter_and_holds_up_nobody() {
    let world = World::new().await;
    let events = world.publish(40).await;
    let poison = events[0].id;
    let handler = Scripted::new(move |event, _| {
        if event.id == poison {
            Err(HandlerError::failed("poison on purpose"))
        } else {
            Ok(())
        }
    });
    let slow = ConsumerOptions {
        retry_base: Duration::from_millis(200),
        ..quick()
    };
    let running = Running::start(&world.bus, "one", handler.clone(), slow);
    eventually("the others are handled", || async {
        (handler.handled().len() == 39).then_some(())
    })
    .await;
    assert!(
        handler.attempts(poison) < 5,
        "the others did not wait for the poison's attempts"
    );
    let dead = eventually("there is a dead letter", || async { world.dead().await.pop() }).await;
    assert_eq!(handler.attempts(poison), 5);
    let text = |name: &str| dead.get::<String>(name).unwrap();
    assert_eq!(text("id"), poison.to_string());
    assert_eq!((text("dead_group"), text("dead_errors")), ("group".into(), "5".into()));
    assert_eq!(text("dead_reason"), "poison on purpose");
    assert_eq!(world.pending().await, 0, "the dead letter is acknowledged");
    let mut redis = world.redis.clone();
    let counters: bool = redis::AsyncCommands::exists(&mut redis, format!("{}:errors:group", world.bus.stream(TOPIC)))
        .await
        .unwrap();
    assert!(!counters, "no counter is left behind");
    running.stop().await;
}

#[tokio::test]
async fn errors_are_counted_across_consumers_and_a_panic_is_one() {
    let world = World::new().await;
    let id = world.publish(1).await[0].id;
    for (consumer, expected) in [("one", 2), ("two", 3)] {
        // Each consumer stops after some attempts, as if it were killed; the next one claims what it left.
        let handler = Scripted::new(|_, _| panic!("poison on purpose"));
        let options = ConsumerOptions {
            retry_base: Duration::from_millis(if consumer == "one" { 300 } else { 10 }),
            // The first is stopped before its third attempt, however slow the machine is.
            retry_max: Duration::from_secs(if consumer == "one" { 3600 } else { 1 }),
            claim_idle: Duration::from_millis(if consumer == "one" { 60_000 } else { 1 }),
            claim_interval: Duration::from_millis(50),
            ..quick()
        };
        let running = Running::start(&world.bus, consumer, handler.clone(), options);
        eventually("the attempts are made", || async {
            (handler.attempts(id) >= expected).then_some(())
        })
        .await;
        if consumer == "two" {
            eventually("there is a dead letter", || async { world.dead().await.pop() }).await;
            assert_eq!(handler.attempts(id), 3, "two errors of the first consumer count");
        }
        running.stop().await;
    }
}

#[tokio::test]
async fn what_is_unavailable_is_tried_for_ever_and_never_counted() {
    let world = World::new().await;
    let id = world.publish(1).await[0].id;
    let handler = Scripted::new(|_, before| {
        if before < 12 {
            Err(HandlerError::Unavailable("the database is away".into()))
        } else {
            Ok(())
        }
    });
    let running = Running::start(&world.bus, "one", handler.clone(), quick());
    eventually("it is handled in the end", || async {
        (handler.handled() == [id]).then_some(())
    })
    .await;
    running.stop().await;
    assert!(world.dead().await.is_empty());
    assert_eq!(world.pending().await, 0);
}

/// Never finishes; counts how many it holds.
#[derive(Default)]
struct Hangs(AtomicUsize);

#[async_trait]
impl Handler for Hangs {
    async fn handle(&self, _: &Event) -> Result<(), HandlerError> {
        self.0.fetch_add(1, Ordering::SeqCst);
        std::future::pending().await
    }
}

/// Leaves `count` events pending with the consumer `name`, as a kill does.
pub async fn killed_with_pending(world: &World, name: &str, count: usize) {
    let hanging = Arc::new(Hangs::default());
    let running = Running::start(&world.bus, name, hanging.clone(), quick());
    eventually("the handlers hang", || async {
        (hanging.0.load(Ordering::SeqCst) == count).then_some(())
    })
    .await;
    running.task.abort();
    assert_eq!(world.pending().await, count);
}

#[tokio::test]
async fn a_consumer_that_comes_back_begins_with_what_it_left() {
    let world = World::new().await;
    world.publish(5).await;
    killed_with_pending(&world, "one", 5).await;
    let handler = Scripted::new(|_, _| Ok(()));
    // Claims come after an hour only: what is handled comes from the own pending list.
    let options = ConsumerOptions {
        claim_idle: Duration::from_secs(3600),
        ..quick()
    };
    let running = Running::start(&world.bus, "one", handler.clone(), options);
    eventually("all are handled", || async {
        (handler.handled().len() == 5).then_some(())
    })
    .await;
    running.stop().await;
    assert_eq!(world.pending().await, 0);
}

#[tokio::test]
async fn a_dead_consumers_events_are_claimed_by_another() {
    let world = World::new().await;
    world.publish(5).await;
    killed_with_pending(&world, "one", 5).await;
    let handler = Scripted::new(|_, _| Ok(()));
    let options = ConsumerOptions {
        claim_idle: Duration::from_millis(200),
        claim_interval: Duration::from_millis(50),
        ..quick()
    };
    let running = Running::start(&world.bus, "two", handler.clone(), options);
    eventually("all are handled", || async {
        (handler.handled().len() == 5).then_some(())
    })
    .await;
    running.stop().await;
    assert_eq!(world.pending().await, 0);
}

/// Notes how many ran beside it.
#[derive(Default)]
struct Crowd {
    running: AtomicUsize,
    order: std::sync::Mutex<Vec<(String, usize)>>,
}

#[async_trait]
impl Handler for Crowd {
    async fn handle(&self, event: &Event) -> Result<(), HandlerError> {
        let beside = self.running.fetch_add(1, Ordering::SeqCst);
        self.order.lock().unwrap().push((event.aggregate.clone(), beside));
        tokio::time::sleep(Duration::from_millis(20)).await;
        self.running.fetch_sub(1, Ordering::SeqCst);
        Ok(())
    }
}

#[tokio::test]
async fn an_event_that_was_delivered_twenty_times_is_run_alone_and_first() {
    let world = World::new().await;
    world.publish(8).await;
    killed_with_pending(&world, "one", 8).await;
    let mut redis = world.redis.clone();
    let reply: redis::streams::StreamRangeReply = redis::AsyncCommands::xrange_all(&mut redis, world.bus.stream(TOPIC))
        .await
        .unwrap();
    let suspect = &reply.ids[5];
    let options = redis::streams::StreamClaimOptions::default().retry(20);
    let _: redis::streams::StreamClaimReply = redis::AsyncCommands::xclaim_options(
        &mut redis,
        world.bus.stream(TOPIC),
        "group",
        "one",
        0,
        &[&suspect.id],
        options,
    )
    .await
    .unwrap();
    let crowd = Arc::new(Crowd::default());
    let running = Running::start(&world.bus, "one", crowd.clone(), quick());
    eventually("all are handled", || async {
        (crowd.order.lock().unwrap().len() == 8).then_some(())
    })
    .await;
    running.stop().await;
    let order = crowd.order.lock().unwrap().clone();
    assert_eq!(order[0], ("thing:5".to_owned(), 0));
    assert_eq!(order[1].1, 0, "nobody began while the suspect ran");
    assert!(
        order.iter().any(|(_, beside)| *beside > 0),
        "the others ran side by side: {order:?}"
    );
}

#[tokio::test]
async fn an_entry_that_is_no_event_becomes_a_dead_letter_at_once() {
    let world = World::new().await;
    let mut redis = world.redis.clone();
    let _: Option<String> = redis::AsyncCommands::xadd(
        &mut redis,
        world.bus.stream(TOPIC),
        "*",
        &[("id", "not a uuid"), ("type", "Happened")],
    )
    .await
    .unwrap();
    let handler = Scripted::new(|_, _| Ok(()));
    let running = Running::start(&world.bus, "one", handler.clone(), quick());
    let dead = eventually("there is a dead letter", || async { world.dead().await.pop() }).await;
    assert_eq!(dead.get::<String>("id").unwrap(), "not a uuid");
    assert_eq!(
        dead.get::<String>("dead_reason").unwrap(),
        "failed to read the field id"
    );
    assert_eq!(dead.get::<String>("dead_errors").unwrap(), "1");
    assert!(handler.handled().is_empty());
    running.stop().await;
}

#[tokio::test]
async fn a_stream_that_redis_lost_is_read_again_from_its_beginning() {
    let world = World::new().await;
    let handler = Scripted::new(|_, _| Ok(()));
    let running = Running::start(&world.bus, "one", handler.clone(), quick());
    world.publish(1).await;
    eventually("the first is handled", || async {
        (handler.handled().len() == 1).then_some(())
    })
    .await;
    let mut redis = world.redis.clone();
    let _: () = redis::AsyncCommands::del(&mut redis, world.bus.stream(TOPIC))
        .await
        .unwrap();
    let after = event("after", 1);
    world
        .bus
        .publish(std::slice::from_ref(&after))
        .await
        .pop()
        .unwrap()
        .unwrap();
    eventually("the event after the loss is handled", || async {
        handler.handled().contains(&after.id).then_some(())
    })
    .await;
    running.stop().await;
}

#[tokio::test]
async fn relay_and_consumer_outlive_a_redis_that_is_late_and_one_that_restarts_empty() {
    let world = World::new().await;
    let port = free_port();
    let bus = Arc::new(RedisStreams::open(&own_bus(port)));
    let handler = Scripted::new(|_, _| Ok(()));
    let running = Running::start(&bus, "one", handler.clone(), quick());
    let stop = CancellationToken::new();
    let relay = tokio::spawn(world.relay_to(bus.clone()).run(stop.clone()));
    world.append(&[new_event("late", 1)]).await;
    assert!(bus.ping().await.is_err(), "there is no Redis yet");

    let first = OwnRedis::start(port);
    eventually("the event written before Redis came is handled", || async {
        (handler.handled().len() == 1).then_some(())
    })
    .await;
    drop(first);
    world.append(&[new_event("restart", 1), new_event("restart", 2)]).await;
    assert!(bus.ping().await.is_err(), "Redis is gone");
    let _second = OwnRedis::start(port);
    eventually("the events written while Redis was away are handled", || async {
        (handler.handled().len() == 3).then_some(())
    })
    .await;
    let attempts: i64 = sqlx::query_scalar("SELECT sum(attempts) FROM outbox")
        .fetch_one(&world.pool)
        .await
        .unwrap();
    assert_eq!(attempts, 0, "an absent Redis is no row's fault");
    stop.cancel();
    relay.await.unwrap();
    running.stop().await;
}

/// A reading end whose next read does what the test says.
struct Source {
    real: Box<dyn EventSource>,
    gate: Arc<Gate>,
}

#[derive(Default)]
struct Gate {
    reads: AtomicUsize,
    /// The read of this number panics; counted from 1, over all sources.
    panics_at: usize,
    /// A read says that it has begun, and asks Redis once it is told to.
    reading: Notify,
    release: Notify,
    waits: bool,
}

#[async_trait]
impl EventSource for Source {
    async fn pending(&mut self) -> Result<Vec<Delivery>, BusError> {
        self.real.pending().await
    }
    async fn next(&mut self, count: usize, wait: Duration) -> Result<Vec<Delivery>, BusError> {
        let read = self.gate.reads.fetch_add(1, Ordering::SeqCst) + 1;
        assert!(read != self.gate.panics_at, "the reader panics on purpose");
        if self.gate.waits {
            self.gate.reading.notify_one();
            self.gate.release.notified().await;
        }
        self.real.next(count, wait).await
    }
    async fn claim_stale(&mut self, idle: Duration, count: usize) -> Result<Vec<Delivery>, BusError> {
        self.real.claim_stale(idle, count).await
    }
    async fn claim_gone(&mut self, remembered: Duration, count: usize) -> Result<Vec<Delivery>, BusError> {
        self.real.claim_gone(remembered, count).await
    }
}

fn gated(world: &World, gate: &Arc<Gate>, handler: Arc<dyn Handler>) -> Consumer {
    let gate = gate.clone();
    let bus = Tampered::reads_by(&world.bus, move |real| {
        Box::new(Source {
            real,
            gate: gate.clone(),
        })
    });
    Consumer::new(Arc::new(bus), subscription("one"), handler, Metrics::new().unwrap()).with_options(quick())
}

#[tokio::test]
async fn what_the_last_read_before_a_stop_brings_is_handled() {
    let world = World::new().await;
    let gate = Arc::new(Gate {
        waits: true,
        ..Gate::default()
    });
    let handler = Scripted::new(|_, _| Ok(()));
    let stop = CancellationToken::new();
    let running = tokio::spawn(gated(&world, &gate, handler.clone()).run(stop.clone()));
    gate.reading.notified().await;
    stop.cancel();
    let id = world.publish(1).await[0].id;
    gate.release.notify_one();
    running.await.unwrap();
    assert_eq!(handler.handled(), [id]);
    assert_eq!(
        world.pending().await,
        0,
        "nothing is left to a pod that never comes back"
    );
}

#[tokio::test]
async fn a_reader_that_dies_takes_its_consumer_along_and_both_are_started_again() {
    let world = World::new().await;
    let gate = Arc::new(Gate {
        panics_at: 1,
        ..Gate::default()
    });
    let handler = Scripted::new(|_, _| Ok(()));
    let consumer = gated(&world, &gate, handler.clone());
    let metrics = Metrics::new().unwrap();
    let tasks = Tasks::new(&metrics);
    tasks.spawn("events", move |stop| consumer.clone().run(stop));
    world.publish(1).await;
    eventually("the event is handled", || async {
        (handler.handled().len() == 1).then_some(())
    })
    .await;
    assert!(
        metrics
            .render()
            .unwrap()
            .contains("background_task_restarts_total{task=\"events\"} 1")
    );
    assert!(tasks.stop(Duration::from_secs(10)).await);
}
