//! A stream of orders while processes are killed at random: none lost, none doubled, and everything adds up.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::json;
use uuid::Uuid;

use crate::shop::Shop;

const STOCK: u32 = 10_000;
const CLIENTS: usize = 6;
const KILLS: usize = 12;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_order_is_lost_or_doubled_when_any_process_is_killed_at_any_time() {
    let seed: u64 = std::env::var("KILLS_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or(7);
    let shop = Shop::start(
        STOCK,
        &[
            ("processor", "DECLINE_PERCENT", "15"),
            ("processor", "DELAY", "5ms"),
            ("payment", "SETTLE_LEASE", "1s"),
            ("order", "COMMAND_RESEND", "2s"),
        ],
    )
    .await;
    let shop = tokio::sync::RwLock::new(shop);
    let over = AtomicBool::new(false);
    let clients = futures::future::join_all((0..CLIENTS).map(|client| stream_of_orders(&shop, &over, client)));
    let (acknowledged, ()) = tokio::join!(clients, kill_at_random(&shop, &over, seed));
    let shop = shop.into_inner();
    shop.adds_up(i64::from(STOCK)).await;

    let mut by_key = BTreeMap::new();
    for (key, order) in acknowledged.into_iter().flatten() {
        assert_eq!(by_key.insert(key, order), None);
    }
    assert!(
        by_key.len() > KILLS,
        "too few orders to prove anything: {}",
        by_key.len()
    );
    let mut stored: Vec<Uuid> = sqlx::query_scalar("SELECT id FROM orders")
        .fetch_all(&shop.pool("order").await)
        .await
        .unwrap();
    let mut known: Vec<Uuid> = by_key.values().copied().collect();
    stored.sort();
    known.sort();
    assert_eq!(
        stored, known,
        "one order per key, and every one is known to its client (seed {seed})"
    );
    eprintln!("{} orders, {KILLS} kills, seed {seed}", known.len());
}

/// One client: sends a key until it gets an answer that counts, then the next.
async fn stream_of_orders(shop: &tokio::sync::RwLock<Shop>, over: &AtomicBool, client: usize) -> Vec<(String, Uuid)> {
    let mut acknowledged = vec![];
    while !over.load(Ordering::SeqCst) {
        let key = format!("client-{client}-{}", acknowledged.len());
        let body = json!({"item_id": "ps5", "quantity": 1 + acknowledged.len() % 3});
        let order = loop {
            let answer = shop.read().await.try_place(&key, &body).await;
            match answer {
                Ok(answer) if matches!(answer.status, 201 | 202) => break answer.order(),
                Ok(answer) => assert!(matches!(answer.status, 409 | 503 | 504), "{answer:?}"),
                // Connection refused or cut: nothing is known, the same key again.
                Err(_) => {}
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        acknowledged.push((key, order));
    }
    acknowledged
}

async fn kill_at_random(shop: &tokio::sync::RwLock<Shop>, over: &AtomicBool, seed: u64) {
    let mut random = seed;
    let mut next = || {
        // xorshift: a seed gives the same victims and moments again.
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random
    };
    for kill in 0..KILLS {
        tokio::time::sleep(Duration::from_millis(200 + next() % 800)).await;
        let victim = ["order", "payment", "inventory", "order", "processor"][usize::try_from(next() % 5).unwrap()];
        shop.read().await.signal_kill(victim);
        tokio::time::sleep(Duration::from_millis(next() % 500)).await;
        let mut shop = shop.write().await;
        shop.kill(victim);
        shop.spawn(victim);
        if kill + 1 == KILLS {
            for service in ["processor", "inventory", "payment", "order"] {
                shop.ready(service).await;
            }
        }
    }
    over.store(true, Ordering::SeqCst);
}
