//! Clients order, cancel and ask for their money while processes are killed at random, two replicas of order and payment.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::RwLock;
use valerix_kit::testing::chance::{Chance, rounds};

use super::stream_of_orders;
use crate::shop::{History, Shop};

const STOCK: u32 = 10_000;
const CLIENTS: usize = 6;
/// Kills that a test tries.
const SLICE: usize = 12;
const VICTIMS: [&str; 6] = ["order", "payment", "inventory", "order-2", "payment-2", "processor"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_order_is_lost_or_doubled_in_a_storm_of_kills() {
    let settings = [
        ("processor", "DECLINE_PERCENT", "15"),
        ("processor", "DELAY", "5ms"),
        ("payment", "SETTLE_LEASE", "1s"),
        ("order", "COMMAND_RESEND", "2s"),
    ];
    let mut shop = Shop::closed(STOCK, &settings).await;
    shop.replica("payment", "payment-2");
    shop.replica("order", "order-2");
    let second = shop.url("payment-2");
    shop.set("order-2", "PAYMENT_URL", &second);
    shop.open().await;

    let (chance, seed) = Chance::seeded(7);
    let (kills, over) = (rounds(SLICE), AtomicBool::new(false));
    let shop = RwLock::new(shop);
    let clients = futures::future::join_all(
        (0..CLIENTS).map(|client| stream_of_orders(&shop, &over, client, &["order", "order-2"])),
    );
    let (histories, ()) = tokio::join!(clients, async {
        kill_at_random(&shop, chance, kills).await;
        over.store(true, Ordering::SeqCst);
    });
    let history: History = histories.into_iter().flatten().collect();
    eprintln!("seed {seed}: {} orders, {kills} kills", history.len());
    assert!(
        history.len() > kills,
        "too few orders to prove anything: {}",
        history.len()
    );
    let mut shop = shop.into_inner();
    shop.all_ready().await;
    refunds_and_a_kill(&mut shop, &history).await;
    shop.all_is_well("order-2", &history, i64::from(STOCK)).await;
}

async fn kill_at_random(shop: &RwLock<Shop>, mut chance: Chance, kills: usize) {
    for _ in 0..kills {
        tokio::time::sleep(chance.milliseconds(200, 800)).await;
        let victim = VICTIMS[chance.below(VICTIMS.len())];
        // Requests to it may be under way.
        shop.read().await.signal(victim, "-KILL");
        tokio::time::sleep(chance.milliseconds(0, 500)).await;
        shop.write().await.again(victim);
    }
}

/// A third of what was confirmed is refunded, and payment is killed over it.
async fn refunds_and_a_kill(shop: &mut Shop, history: &History) {
    shop.comes_to_rest().await;
    let mut refunds = 0;
    for known in history.iter().step_by(3) {
        refunds += i32::from(shop.undo(known.order(), "refund").await.status == 202);
    }
    assert!(refunds > 0, "nothing was confirmed");
    shop.restart("payment").await;
}
