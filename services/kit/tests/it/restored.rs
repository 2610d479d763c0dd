//! A database that goes back has forgotten what was handled since: its group gets it again.

use std::sync::Arc;

use redis::AsyncCommands;
use sqlx::AssertSqlSafe;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use valerix_kit::events::refill::{Refiller, Refilling};
use valerix_kit::events::restored::Watch;
use valerix_kit::events::{EventBus, Subscription};
use valerix_kit::metrics::Metrics;
use valerix_kit::testing::bus_args;

use crate::lost::{narrow, write};
use crate::support::{TOPIC, Tampered, World, subscription};

const OUTBOX: &str = "service";

/// A database that is put back, and who looks at it.
struct Night {
    world: World,
    refiller: Refiller,
    begun: Option<Refilling>,
}

impl Night {
    async fn new() -> Self {
        Self::of(World::new().await).await
    }

    /// The group has begun with what it is given as a new one.
    async fn of(world: World) -> Self {
        let (pool, bus) = (world.pool.clone(), world.bus.clone());
        let refiller = Refiller::new(pool, bus, OUTBOX, Metrics::new().unwrap());
        world.bus.subscribe(&subscription("one")).await.unwrap();
        let mut night = Self {
            world,
            refiller,
            begun: None,
        };
        night.refill().await;
        night
    }

    fn watch(&self, subscription: Subscription) -> Watch {
        Watch::new(self.world.pool.clone(), self.world.bus.clone(), subscription)
    }

    async fn look(&self) -> bool {
        self.watch(subscription("one")).look().await.unwrap()
    }

    async fn run(&self, statements: &str) {
        sqlx::raw_sql(AssertSqlSafe(statements.to_owned()))
            .execute(&self.world.pool)
            .await
            .unwrap();
    }

    /// So much time goes by that another mark is due.
    async fn later(&self) {
        self.run("UPDATE marks SET kept_at = kept_at - interval '1 minute'")
            .await;
    }

    async fn archive(&self) {
        self.run("DROP TABLE IF EXISTS night; CREATE TABLE night AS TABLE marks")
            .await;
    }

    async fn restore(&self) {
        self.run("BEGIN; DELETE FROM marks; INSERT INTO marks TABLE night; COMMIT")
            .await;
    }

    async fn kept(&self) -> Vec<Uuid> {
        sqlx::query_scalar("SELECT mark FROM marks WHERE consumer_group = 'group' ORDER BY number")
            .fetch_all(&self.world.pool)
            .await
            .unwrap()
    }

    /// What Redis was told of.
    async fn told(&self) -> Option<Uuid> {
        self.world.bus.mark("group").await.unwrap()
    }

    /// Redis is as it was when it was told of `mark`, but for the streams.
    async fn redis_goes_back_to(&self, mark: Option<Uuid>) {
        let mut redis = self.world.redis.clone();
        let (key, lost) = (self.world.bus.stream("mark:group"), self.world.bus.stream("lost"));
        redis.del::<_, ()>(&[&key, &lost]).await.unwrap();
        if let Some(mark) = mark {
            redis.set::<_, _, ()>(&key, mark.to_string()).await.unwrap();
        }
    }

    async fn refill(&mut self) -> u64 {
        let stop = CancellationToken::new();
        self.refiller.look(&mut self.begun, &stop).await.unwrap()
    }
}

#[tokio::test]
async fn what_a_database_has_forgotten_is_published_again_though_nothing_was_handled_since() {
    let mut night = Night::new().await;
    let watches = ["one", "two"].map(|consumer| night.watch(subscription(consumer)));
    let look = async || {
        let [one, two] = &watches;
        let (one, two) = tokio::join!(one.look(), two.look());
        (one.unwrap(), two.unwrap())
    };
    write(&night.world, 0, 2).await;
    assert_eq!(look().await, (false, false), "a new database");
    night.archive().await;
    assert_eq!(look().await, (false, false));
    night.later().await;
    assert_eq!(look().await, (false, false));
    night.restore().await;
    assert_eq!(night.refill().await, 0, "nobody has noticed");
    let (one, two) = look().await;
    assert!(one != two, "one of them asks for it: {one} and {two}");
    assert_eq!(night.refill().await, 2, "the inbox passes over what it still knows");
    assert_eq!(look().await, (false, false), "once is enough");
    night.later().await;
    assert_eq!(look().await, (false, false));
    assert_eq!(night.refill().await, 0);
}

#[tokio::test]
async fn a_database_that_goes_back_once_more_while_it_is_refilled_is_refilled_from_the_start() {
    let mut night = Night::of(World::on(narrow(bus_args())).await).await;
    write(&night.world, 0, 90).await;
    assert!(!night.look().await);
    // So young that its last mark is still fresh when it is restored.
    night.archive().await;
    night.later().await;
    assert!(!night.look().await);
    night.restore().await;
    assert!(night.look().await);
    assert_eq!(night.refill().await, 0);
    assert!(night.begun.is_some(), "the stream has no room");

    night.restore().await;
    assert!(night.look().await, "it is asked for again");
    for round in ["what is begun", "from the start"] {
        let mut count = 0;
        while count == 0 {
            night
                .world
                .redis
                .del::<_, ()>(night.world.bus.stream(TOPIC))
                .await
                .unwrap();
            count = night.refill().await;
        }
        assert_eq!(count, 90, "{round}");
    }
    night
        .world
        .redis
        .del::<_, ()>(night.world.bus.stream(TOPIC))
        .await
        .unwrap();
    assert_eq!(night.refill().await, 0);
}

#[tokio::test]
async fn a_redis_that_goes_back_asks_for_nothing_and_hides_nothing() {
    let mut night = Night::new().await;
    write(&night.world, 0, 2).await;
    for _ in 0..3 {
        assert!(!night.look().await);
        night.later().await;
    }
    let [oldest, _, newest] = night.kept().await.try_into().unwrap();
    assert_eq!(night.told().await, Some(newest));
    night.redis_goes_back_to(Some(oldest)).await;
    assert!(!night.look().await, "the database still knows it");
    let told = night.told().await;
    assert_eq!((told, told != Some(oldest)), (night.kept().await.last().copied(), true));

    night.archive().await;
    night.later().await;
    assert!(!night.look().await);
    let lost = night.told().await;
    night.restore().await;
    assert!(night.look().await);
    // With the end of its log it loses that it was asked, too.
    night.redis_goes_back_to(lost).await;
    assert_eq!(night.refill().await, 0);
    assert!(night.look().await, "it is asked again");
    assert_eq!(night.refill().await, 2);
}

#[tokio::test]
async fn a_redis_that_has_lost_everything_is_told_anew() {
    let mut night = Night::new().await;
    write(&night.world, 0, 2).await;
    assert!(!night.look().await);
    night.redis_goes_back_to(None).await;
    assert!(!night.look().await, "there is nothing to compare");
    assert_eq!(night.told().await, night.kept().await.last().copied());
    night.archive().await;
    night.later().await;
    assert!(!night.look().await);
    night.restore().await;
    assert!(night.look().await);
    assert_eq!(night.refill().await, 2);
}

/// Replicas that die in between, or a Redis that takes nothing.
#[tokio::test]
async fn redis_is_told_of_what_is_committed_and_asked_again_where_it_did_not_hear() {
    let mut night = Night::new().await;
    write(&night.world, 0, 2).await;
    let dies = |method| {
        let bus = Arc::new(Tampered::full_at(&night.world.bus, method, 1));
        Watch::new(night.world.pool.clone(), bus, subscription("one"))
    };
    assert!(dies("set_mark").look().await.is_err());
    assert_eq!((night.told().await, night.kept().await.len()), (None, 1));
    assert!(!night.look().await);
    assert_eq!(night.told().await, night.kept().await.last().copied());
    night.archive().await;
    night.later().await;
    assert!(!night.look().await);
    let told = night.told().await;
    night.restore().await;
    assert!(dies("forgotten").look().await.is_err());
    assert_eq!(night.told().await, told);
    assert!(night.look().await);
    assert_eq!(night.refill().await, 2);
}

/// A full Redis says what it has, and takes nothing.
#[tokio::test]
async fn no_mark_follows_one_that_redis_was_not_told_of() {
    let night = Night::new().await;
    assert!(!night.look().await);
    for _ in 0..3 {
        night.later().await;
        let full = Arc::new(Tampered::full_at(&night.world.bus, "set_mark", 1));
        let watch = Watch::new(night.world.pool.clone(), full, subscription("one"));
        assert!(watch.look().await.is_err());
    }
    assert_eq!(
        night.kept().await.len(),
        2,
        "the ring goes round over the mark that Redis has"
    );
    assert!(!night.look().await);
    assert_eq!(night.told().await, night.kept().await.last().copied());
}

/// Two groups of one database, or two services that share it.
#[tokio::test]
async fn each_group_of_a_database_notices_for_itself() {
    let night = Night::new().await;
    let others = Subscription {
        group: "others".into(),
        ..subscription("one")
    };
    let watches = [night.watch(subscription("one")), night.watch(others)];
    let look = async || {
        let [one, other] = &watches;
        (one.look().await.unwrap(), other.look().await.unwrap())
    };
    assert_eq!(look().await, (false, false));
    night.archive().await;
    night.later().await;
    assert!(!watches[0].look().await.unwrap());
    night.restore().await;
    assert_eq!(look().await, (true, false), "the other has seen nothing since");
    night.later().await;
    assert_eq!(look().await, (false, false));
    night.restore().await;
    assert_eq!(look().await, (true, true));
    let lost = night.world.bus.losses(OUTBOX).await.unwrap();
    let groups: Vec<&str> = lost.iter().map(|lost| lost.group.as_str()).collect();
    assert_eq!(groups, ["group", "group", "others"]);
}

#[tokio::test]
async fn marks_are_few_and_the_oldest_go() {
    let night = Night::new().await;
    night
        .run(
            "INSERT INTO marks SELECT 'group', number % 512, number, gen_random_uuid(), now() - interval '1 hour' \
             FROM generate_series(1, 512) AS number",
        )
        .await;
    let before = night.kept().await;
    assert!(!night.look().await);
    assert!(!night.look().await, "a fresh one is enough");
    let after = night.kept().await;
    assert_eq!(after.len(), 512);
    assert!(after[..511] == before[1..], "another than the oldest has gone");
    assert_eq!(night.told().await, after.last().copied());
}
