//! Clients order, cancel and ask for their money; then one database comes back from an archive that was made while they did,
//! and the others know what it has forgotten.

use std::sync::atomic::{AtomicBool, Ordering};

use ::redis::AsyncCommands;
use futures::future::join_all;
use serde_json::json;
use tokio::sync::RwLock;
use uuid::Uuid;
use valerix_kit::testing::chance::Chance;

use super::stream_of_orders;
use crate::shop::{History, Shop};

const STOCK: u32 = 10_000;
const CLIENTS: usize = 6;
const SETTINGS: [(&str, &str, &str); 3] = [
    ("order", "COMMAND_RESEND", "1s"),
    ("order", "FORGOTTEN_AFTER", "1s"),
    ("payment", "SETTLE_LEASE", "1s"),
];

/// Orders are forgotten that were paid and sold: their money and their pieces go back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn orders_of_last_night_leave_no_charge_and_no_piece_without_an_order() {
    let shop = last_night("order", 21).await;
    let undone: i64 =
        sqlx::query_scalar("SELECT count(*) FROM orders WHERE state = 'CANCELLED' AND reason = 'FORGOTTEN'")
            .fetch_one(&shop.pool("order").await)
            .await
            .unwrap();
    assert!(undone > 0, "nothing was forgotten");
}

/// Reservations are forgotten: what was sold stays sold.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_inventory_of_last_night_sells_no_piece_twice() {
    last_night("inventory", 22).await;
}

/// Payments are forgotten: what was charged is refunded where it is asked for, and never charged again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn payments_of_last_night_charge_nobody_twice() {
    last_night("payment", 23).await;
}

/// Nothing is handled but one order; and while that is made good the same archive comes back once more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_service_that_goes_back_twice_notices_it_twice() {
    let shop = Shop::start(STOCK, &SETTINGS).await;
    shop.archive("order").await;
    let (key, body) = (Uuid::now_v7().to_string(), json!({"item_id": "ps5", "quantity": 1}));
    shop.until("an order is placed", || async {
        let answer = shop.try_place(&key, &body).await.ok();
        answer.filter(|answer| answer.status == 201)
    })
    .await;
    marked_since(&shop, "order").await;
    shop.restore_a_copy("order").await;
    noticed(&shop, "order", 1).await;
    shop.restore("order").await;
    noticed(&shop, "order", 2).await;
    shop.owes_nobody(i64::from(STOCK)).await;
    shop.adds_up(i64::from(STOCK)).await;
    noticed(&shop, "order", 2).await;
}

/// A shop at rest, one of whose databases was restored while it was busy; everything adds up.
async fn last_night(service: &'static str, seed: u64) -> Shop {
    let (mut chance, seed) = Chance::seeded(seed);
    let settings: Vec<_> = SETTINGS
        .into_iter()
        .chain([("processor", "DECLINE_PERCENT", "20")])
        .collect();
    let (shop, over) = (RwLock::new(Shop::start(STOCK, &settings).await), AtomicBool::new(false));
    let clients = join_all((0..CLIENTS).map(|client| stream_of_orders(&shop, &over, client, &["order"])));
    let (histories, ()) = tokio::join!(clients, async {
        let shop = shop.read().await;
        tokio::time::sleep(chance.milliseconds(500, 1_500)).await;
        shop.archive(service).await;
        marked_since(&shop, service).await;
        tokio::time::sleep(chance.milliseconds(0, 1_000)).await;
        shop.restore(service).await;
        tokio::time::sleep(chance.milliseconds(200, 800)).await;
        over.store(true, Ordering::SeqCst);
    });
    let history: History = histories.into_iter().flatten().collect();
    eprintln!("seed {seed}: {} orders", history.len());
    let shop = shop.into_inner();
    shop.owes_nobody(i64::from(STOCK)).await;
    shop.adds_up(i64::from(STOCK)).await;
    noticed(&shop, service, 1).await;
    shop
}

/// Waits until the service has said so often that its database has gone back.
async fn noticed(shop: &Shop, service: &str, times: usize) {
    shop.until(&format!("{service} notices {times} times"), || async {
        let log = std::fs::read_to_string(shop.log(service)).unwrap();
        let said = log.matches("restored from an archive").count();
        assert!(said <= times, "{service} has noticed {said} times");
        (said == times).then_some(())
    })
    .await;
}

/// Waits until Redis was told of a mark that the service has made since the archive: the second that it is told of now is one.
async fn marked_since(shop: &Shop, service: &str) {
    let (redis, key) = (
        valerix_kit::testing::redis().await,
        shop.stream(&format!("mark:{service}")),
    );
    let mut last: Option<String> = redis.clone().get(&key).await.unwrap();
    for _ in 0..2 {
        let before = last.clone();
        last = shop
            .until("another mark is made", || {
                let (mut redis, key, before) = (redis.clone(), key.clone(), before.clone());
                async move {
                    let now: Option<String> = redis.get(&key).await.unwrap();
                    (now != before).then_some(now)
                }
            })
            .await;
    }
}
