//! Clients order, cancel and ask for their money; then one database comes back from an archive that was made while they did,
//! and the others know what it has forgotten.

use std::sync::atomic::{AtomicBool, Ordering};

use ::redis::AsyncCommands;
use futures::future::join_all;
use tokio::sync::RwLock;
use valerix_kit::testing::chance::Chance;

use super::stream_of_orders;
use crate::shop::{History, Shop};

const STOCK: u32 = 10_000;
const CLIENTS: usize = 6;

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

/// A shop at rest, one of whose databases was restored while it was busy; everything adds up.
async fn last_night(service: &'static str, seed: u64) -> Shop {
    let settings = [
        ("order", "COMMAND_RESEND", "1s"),
        ("order", "FORGOTTEN_AFTER", "1s"),
        ("payment", "SETTLE_LEASE", "1s"),
        ("processor", "DECLINE_PERCENT", "20"),
    ];
    let (mut chance, seed) = Chance::seeded(seed);
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
    let log = std::fs::read_to_string(shop.log(service)).unwrap();
    assert!(log.contains("restored from an archive"), "{service} has not noticed");
    shop
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
