//! A hundred clients share twenty keys, five to each, all at once, while payment and inventory are killed and Redis is
//! emptied: one order for each key, and the same answer to all five.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;
use tokio::sync::RwLock;
use valerix_kit::testing::chance::{Chance, rounds};

use super::place_until_told;
use super::redis::Redis;
use crate::shop::{Acknowledged, History, Shop, lasting};

const STOCK: u32 = 10_000;
const KEYS: usize = 20;
const CLIENTS_OF_A_KEY: usize = 5;
/// Faults that a test tries.
const SLICE: usize = 6;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_who_share_keys_are_told_of_one_order_whatever_fails() {
    let redis = Redis::start().await;
    let url = redis.url();
    let settings = [
        ("order", "COMMAND_RESEND", "1s"),
        ("payment", "SETTLE_LEASE", "1s"),
        ("processor", "DECLINE_PERCENT", "15"),
        ("order", "REDIS_URL", &url),
        ("payment", "REDIS_URL", &url),
        ("inventory", "REDIS_URL", &url),
    ];
    let mut shop = Shop::closed(STOCK, &settings).await;
    shop.replica("order", "order-2");
    shop.open().await;

    let (mut chance, seed) = Chance::seeded(11);
    let (faults, over) = (rounds(SLICE), AtomicBool::new(false));
    let shop = RwLock::new(shop);
    let clients = (0..KEYS * CLIENTS_OF_A_KEY).map(|client| shares_a_key(&shop, &over, client));
    let (histories, ()) = tokio::join!(futures::future::join_all(clients), async {
        for fault in 0..faults {
            tokio::time::sleep(chance.milliseconds(300, 500)).await;
            let victim = match fault % 3 {
                0 => "payment",
                1 => "inventory",
                _ => {
                    redis.run(::redis::cmd("FLUSHALL").arg("SYNC")).await;
                    continue;
                }
            };
            // Requests to it are under way.
            shop.read().await.signal(victim, "-KILL");
            tokio::time::sleep(chance.milliseconds(0, 300)).await;
            shop.write().await.again(victim);
        }
        over.store(true, Ordering::SeqCst);
    });
    let told = histories.iter().map(Vec::len).sum::<usize>();
    let history = one_of_each_key(histories);
    eprintln!(
        "seed {seed}: {told} answers about {} orders, {faults} faults",
        history.len()
    );
    assert!(told > history.len() * 2, "no key was shared");
    let shop = shop.into_inner();
    shop.all_ready().await;
    shop.all_is_well("order-2", &history, i64::from(STOCK)).await;
}

/// One of the clients of a key: as often as there is time, the key's next.
async fn shares_a_key(shop: &RwLock<Shop>, over: &AtomicBool, client: usize) -> History {
    let mut history = History::new();
    let replicas = if client.is_multiple_of(2) {
        ["order", "order-2"]
    } else {
        ["order-2", "order"]
    };
    while !over.load(Ordering::SeqCst) {
        let key = format!("key-{}-{}", client % KEYS, history.len());
        let body = json!({"item_id": "ps5", "quantity": 1 + history.len() % 3});
        history.push(place_until_told(shop, &replicas, key, body).await);
    }
    history
}

/// One answer about each key, as all about it are the same.
fn one_of_each_key(histories: Vec<History>) -> History {
    let mut keys: BTreeMap<String, Acknowledged> = BTreeMap::new();
    for told in histories.into_iter().flatten() {
        let first = keys.entry(told.key.clone()).or_insert_with(|| told.clone());
        assert_eq!(
            lasting(&told.answer),
            lasting(&first.answer),
            "two clients with the key {} were told differently",
            told.key
        );
    }
    keys.into_values().collect()
}
