//! Clients order, cancel and ask for their money while what all services stand on misbehaves: Redis restarts with its data,
//! without it and without its last moments, is emptied, full, or delivers again and in another order; Postgres restarts, cuts
//! connections, has none left, refuses transactions at their end, and its clock jumps.

use std::sync::atomic::{AtomicBool, Ordering};

use ::redis::AsyncCommands;
use ::redis::streams::{StreamInfoGroupsReply, StreamInfoStreamReply};
use tokio::sync::RwLock;
use valerix_kit::testing::chance::{Chance, rounds};

use super::redis::{Data, Redis};
use super::stream_of_orders;
use crate::shop::{History, SERVICES, Shop};

const STOCK: u32 = 10_000;
const CLIENTS: usize = 6;
/// Tables whose writers are refused.
const REFUSED: [(&str, &[&str]); 3] = [
    (
        "order",
        &[
            "orders",
            "commands",
            "order_history",
            "idempotency_keys",
            "outbox",
            "inbox",
        ],
    ),
    ("payment", &["payments", "idempotency_keys", "outbox", "inbox"]),
    ("inventory", &["reservations", "idempotency_keys", "outbox", "inbox"]),
];

#[derive(Clone, Copy, Debug)]
enum Misbehaviour {
    RedisRestarts,
    RedisLosesItsLastMoments,
    RedisLosesEverything,
    RedisIsEmptied,
    RedisIsFull,
    RedisDeliversAgain,
    PostgresRestarts,
    PostgresCutsConnections,
    PostgresRefusesCommits,
    PostgresIsOutOfConnections,
    PostgresClockJumps,
}

impl Misbehaviour {
    const ALL: [Self; 11] = [
        Self::RedisRestarts,
        Self::RedisLosesItsLastMoments,
        Self::RedisLosesEverything,
        Self::RedisIsEmptied,
        Self::RedisIsFull,
        Self::RedisDeliversAgain,
        Self::PostgresRestarts,
        Self::PostgresCutsConnections,
        Self::PostgresRefusesCommits,
        Self::PostgresIsOutOfConnections,
        Self::PostgresClockJumps,
    ];

    async fn happen(self, shop: &Shop, redis: &mut Redis, chance: &mut Chance) {
        let a_while = chance.milliseconds(300, 500);
        match self {
            Self::RedisRestarts => redis.restart(a_while, |_| {}).await,
            Self::RedisLosesItsLastMoments => {
                let lost = u64::try_from(chance.below(20_000)).unwrap();
                redis.restart(a_while, |data| data.cut(lost)).await;
            }
            Self::RedisLosesEverything => redis.restart(a_while, Data::remove).await,
            Self::RedisIsEmptied => redis.run(::redis::cmd("FLUSHALL").arg("SYNC")).await,
            Self::RedisIsFull => {
                redis.limit("1").await;
                tokio::time::sleep(a_while).await;
                redis.limit("0").await;
            }
            Self::RedisDeliversAgain => deliver_again(shop, redis, chance).await,
            Self::PostgresRestarts => shop.restart_postgres().await,
            Self::PostgresCutsConnections => {
                for service in SERVICES {
                    shop.cut_database(service).await;
                }
            }
            Self::PostgresIsOutOfConnections => {
                // One connection is not enough for any of them.
                for limit in [1, -1] {
                    for service in SERVICES {
                        shop.limit_connections(service, limit).await;
                    }
                    tokio::time::sleep(a_while * 2).await;
                }
            }
            Self::PostgresClockJumps => {
                // Ahead past the end of every order's time, and back further than anything is put off.
                for seconds in [3_600, -3_600] {
                    shop.clock_jumps(seconds).await;
                    tokio::time::sleep(a_while).await;
                }
            }
            Self::PostgresRefusesCommits => {
                for percent in [25, 0] {
                    for (service, _) in REFUSED {
                        shop.refuse_commits(service, percent).await;
                    }
                    tokio::time::sleep(a_while).await;
                }
            }
        }
    }
}

const TOPICS: [&str; 5] = [
    "order.events",
    "inventory.commands",
    "inventory.events",
    "payment.commands",
    "payment.events",
];

/// Waits until every group has handled every entry.
async fn everything_is_handled(shop: &Shop, redis: &Redis) {
    let connection = redis.connect().await;
    for topic in TOPICS {
        let stream = shop.stream(topic);
        shop.until(&format!("{topic} is handled"), || {
            let (mut connection, stream) = (connection.clone(), stream.clone());
            async move {
                let whole: StreamInfoStreamReply = connection.xinfo_stream(&stream).await.unwrap();
                let groups: StreamInfoGroupsReply = connection.xinfo_groups(&stream).await.unwrap();
                let last = whole.last_generated_id;
                let idle = groups
                    .groups
                    .iter()
                    .all(|group| group.pending == 0 && group.last_delivered_id == last);
                idle.then_some(())
            }
        })
        .await;
    }
}

/// Copies of old entries of every stream, the last first.
async fn deliver_again(shop: &Shop, redis: &Redis, chance: &mut Chance) {
    let mut connection = redis.connect().await;
    for topic in TOPICS {
        let stream = shop.stream(topic);
        let mut range = ::redis::cmd("XRANGE");
        range.arg(&stream).arg("-").arg("+");
        let entries: Vec<(String, Vec<Vec<u8>>)> = range.query_async(&mut connection).await.unwrap();
        for (_, fields) in entries.iter().rev().filter(|_| chance.below(3) == 0) {
            let mut copy = ::redis::cmd("XADD");
            copy.arg(&stream).arg("*").arg(fields);
            let _: String = copy.query_async(&mut connection).await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_order_is_lost_or_doubled_whatever_redis_and_postgres_do() {
    let mut redis = Redis::start().await;
    let url = redis.url();
    let mut shop = Shop::closed(
        STOCK,
        &[
            ("order", "COMMAND_RESEND", "1s"),
            ("payment", "SETTLE_LEASE", "1s"),
            ("processor", "DECLINE_PERCENT", "20"),
            ("order", "REDIS_URL", &url),
            ("payment", "REDIS_URL", &url),
            ("inventory", "REDIS_URL", &url),
        ],
    )
    .await;
    shop.own_databases().await;
    shop.open().await;
    for (service, tables) in REFUSED {
        shop.guard_tables(service, tables).await;
    }
    let (mut chance, seed) = Chance::seeded(3);
    let mut plan: Vec<_> = Misbehaviour::ALL
        .into_iter()
        .cycle()
        .take(rounds(Misbehaviour::ALL.len()))
        .collect();
    chance.shuffle(&mut plan);
    eprintln!("seed {seed}: {plan:?}");
    let (shop, over) = (RwLock::new(shop), AtomicBool::new(false));
    let clients =
        futures::future::join_all((0..CLIENTS).map(|client| stream_of_orders(&shop, &over, client, &["order"])));
    let (histories, ()) = tokio::join!(clients, async {
        for misbehaviour in &plan {
            // Orders that have nothing but events to finish them are under way.
            tokio::time::sleep(chance.milliseconds(300, 400)).await;
            misbehaviour.happen(&*shop.read().await, &mut redis, &mut chance).await;
        }
        over.store(true, Ordering::SeqCst);
    });
    let history: History = histories.into_iter().flatten().collect();
    eprintln!("seed {seed}: {} orders, {} faults", history.len(), plan.len());
    assert!(
        history.len() > plan.len(),
        "too few orders to prove anything: {}",
        history.len()
    );
    let shop = shop.into_inner();
    shop.comes_to_rest().await;
    // Everything that was ever said is said again, long after it was settled.
    deliver_again(&shop, &redis, &mut chance).await;
    everything_is_handled(&shop, &redis).await;
    shop.all_is_well("order", &history, i64::from(STOCK)).await;
}
