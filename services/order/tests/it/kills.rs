//! A stream of orders while processes are killed at random: none lost, none doubled, and everything adds up.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::json;
use uuid::Uuid;

use crate::shop::{SERVICES, Shop, Told};

const STOCK: u32 = 10_000;
const CLIENTS: usize = 6;
const KILLS: usize = 12;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_order_is_lost_or_doubled_when_any_process_is_killed_at_any_time() {
    let shop = Shop::start(STOCK, &SETTINGS).await;
    campaign(
        shop,
        &["order"],
        &["order", "payment", "inventory", "order", "processor"],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_order_is_lost_or_doubled_with_two_replicas_of_order_and_payment() {
    let mut shop = Shop::start(STOCK, &SETTINGS).await;
    shop.replica("payment", "payment-2").await;
    let second = shop.url("payment-2");
    shop.replica("order", "order-2").await;
    shop.set("order-2", "PAYMENT_URL", &second);
    shop.restart("order-2").await;
    campaign(
        shop,
        &["order", "order-2"],
        &["order", "payment", "order-2", "payment-2", "processor"],
    )
    .await;
}

const SETTINGS: [(&str, &str, &str); 4] = [
    ("processor", "DECLINE_PERCENT", "15"),
    ("processor", "DELAY", "5ms"),
    ("payment", "SETTLE_LEASE", "1s"),
    ("order", "COMMAND_RESEND", "2s"),
];

/// Clients order at every replica in turn while victims are killed; in the end all is well.
async fn campaign(shop: Shop, replicas: &'static [&'static str], victims: &'static [&'static str]) {
    let seed: u64 = std::env::var("KILLS_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or(7);
    let shop = tokio::sync::RwLock::new(shop);
    let over = AtomicBool::new(false);
    let clients =
        futures::future::join_all((0..CLIENTS).map(|client| stream_of_orders(&shop, &over, client, replicas)));
    let (acknowledged, ()) = tokio::join!(clients, kill_at_random(&shop, &over, seed, victims));
    let acknowledged: Vec<_> = acknowledged.into_iter().flatten().collect();
    assert!(
        acknowledged.len() > KILLS,
        "too few orders to prove anything: {}",
        acknowledged.len()
    );
    eprintln!("{} orders, {KILLS} kills, seed {seed}", acknowledged.len());
    let mut shop = shop.into_inner();
    refunds_and_a_kill(&mut shop, &acknowledged).await;
    all_is_well(&shop, acknowledged, i64::from(STOCK)).await;
}

/// A third of what was confirmed is refunded, and payment is killed over it.
async fn refunds_and_a_kill(shop: &mut Shop, acknowledged: &[(String, Uuid)]) {
    shop.comes_to_rest().await;
    let mut refunds = 0;
    for (_, order) in acknowledged.iter().step_by(3) {
        refunds += i32::from(shop.undo(*order, "refund").await.status == 202);
    }
    assert!(refunds > 0, "nothing was confirmed");
    shop.restart("payment").await;
}

/// Everything adds up, and every order is known to its client under one key.
pub async fn all_is_well(shop: &Shop, acknowledged: Vec<(String, Uuid)>, stock: i64) {
    shop.adds_up(stock).await;
    let mut by_key = BTreeMap::new();
    for (key, order) in acknowledged {
        assert_eq!(by_key.insert(key, order), None);
    }
    let mut stored: Vec<Uuid> = sqlx::query_scalar("SELECT id FROM orders WHERE item_id = 'ps5'")
        .fetch_all(&shop.pool("order").await)
        .await
        .unwrap();
    let mut known: Vec<Uuid> = by_key.values().copied().collect();
    stored.sort();
    known.sort();
    assert_eq!(stored, known, "one order per key, and every one is known to its client");
}

/// One client: sends a key until it gets an answer that counts, then the next.
pub async fn stream_of_orders(
    shop: &tokio::sync::RwLock<Shop>,
    over: &AtomicBool,
    client: usize,
    replicas: &[&str],
) -> Vec<(String, Uuid)> {
    let (mut acknowledged, mut replicas) = (vec![], replicas.iter().cycle());
    while !over.load(Ordering::SeqCst) {
        let key = format!("client-{client}-{}", acknowledged.len());
        // Few: each of them keeps the breaker of inventory busy.
        let gremlin = (acknowledged.len() % 12 == 7).then_some(true);
        let body = json!({"item_id": "ps5", "quantity": 1 + acknowledged.len() % 3, "gremlin": gremlin});
        let order = loop {
            let replica = replicas.next().unwrap();
            let answer = shop.read().await.try_place_at(replica, &key, &body).await;
            match answer {
                Ok(answer) if matches!(answer.status, 201 | 202) => break answer.order(),
                Ok(answer) => assert!(matches!(answer.status, 409 | 503 | 504), "{answer:?}"),
                // Connection refused or cut: nothing is known, the same key again.
                Err(_) => {}
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        acknowledged.push((key, order));
        // Some change their mind, at once or when an order is paid; whether they are heard is the order's state's to say.
        let (order, verb) = match acknowledged.len() % 3 {
            1 => (order, "cancel"),
            2 => (acknowledged[acknowledged.len() / 2].1, "refund"),
            _ => continue,
        };
        let replica = replicas.next().unwrap();
        if let Ok(answer) = shop.read().await.try_undo_at(replica, order, verb).await {
            assert!(matches!(answer.status, 202 | 409 | 503 | 504), "{answer:?}");
        }
    }
    acknowledged
}

async fn kill_at_random(
    shop: &tokio::sync::RwLock<Shop>,
    over: &AtomicBool,
    seed: u64,
    victims: &'static [&'static str],
) {
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
        let victim = victims[usize::try_from(next()).unwrap() % victims.len()];
        shop.read().await.signal_kill(victim);
        tokio::time::sleep(Duration::from_millis(next() % 500)).await;
        let mut shop = shop.write().await;
        shop.kill(victim);
        shop.spawn(victim);
        if kill + 1 == KILLS {
            for service in SERVICES.iter().chain(victims) {
                shop.ready(service).await;
            }
        }
    }
    over.store(true, Ordering::SeqCst);
}
