//! Two releases side by side, as while an upgrade is rolled out or taken back: today's has migrated every database, and clients
//! order, cancel and ask for their money while processes go from one release to the other.
//!
//! The release before is the program that `VALERIX_PREVIOUS` names: these tests as they were built from its sources, as
//! `make campaign NAME=shop-previous` does it. Without it, it is this program: what moves is then one release.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use sqlx::migrate::Migrator;
use tokio::sync::RwLock;
use valerix_kit::testing::chance::{Chance, rounds};

use super::stream_of_orders;
use crate::shop::{History, SERVICES, Shop};

const STOCK: u32 = 10_000;
const CLIENTS: usize = 6;
/// Changes from one release to the other that a test tries.
const SLICE: usize = 6;
/// Of the release before at first, and whom each stands beside.
const BEFORE: [(&str, &str); 3] = [
    ("order-2", "order"),
    ("payment-2", "payment"),
    ("inventory-2", "inventory"),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn orders_add_up_while_the_release_before_works_on_the_schema_of_this_one() {
    let previous = std::env::var_os("VALERIX_PREVIOUS").map(PathBuf::from);
    let settings = [
        ("processor", "DECLINE_PERCENT", "15"),
        ("payment", "SETTLE_LEASE", "1s"),
        ("order", "COMMAND_RESEND", "1s"),
    ];
    let mut shop = Shop::closed(STOCK, &settings).await;
    let migrations: [Migrator; 4] = [
        valerix_processor::startup::migrations(),
        valerix_inventory::startup::migrations(),
        valerix_payment::startup::migrations(),
        valerix_order::startup::migrations(),
    ];
    for (service, migrator) in SERVICES.into_iter().zip(migrations) {
        migrator.run(&shop.pool(service).await).await.unwrap();
    }
    for (name, service) in BEFORE {
        shop.replica(service, name);
        shop.runs(name, previous.as_deref());
    }
    // Each release calls the other.
    for (variable, called) in [("PAYMENT_URL", "payment-2"), ("INVENTORY_URL", "inventory-2")] {
        let url = shop.url(called);
        shop.set("order", variable, &url);
    }
    shop.open().await;

    let (mut chance, seed) = Chance::seeded(5);
    let (changes, over) = (rounds(SLICE), AtomicBool::new(false));
    let shop = RwLock::new(shop);
    let clients = futures::future::join_all(
        (0..CLIENTS).map(|client| stream_of_orders(&shop, &over, client, &["order", "order-2"])),
    );
    let (histories, ()) = tokio::join!(clients, async {
        let mut old: Vec<&'static str> = BEFORE.iter().map(|(name, _)| *name).collect();
        let all: Vec<&'static str> = BEFORE.iter().flat_map(|(name, service)| [*name, *service]).collect();
        for _ in 0..changes {
            tokio::time::sleep(chance.milliseconds(200, 800)).await;
            let changed = all[chance.below(all.len())];
            let was_old = old.contains(&changed);
            old.retain(|name| *name != changed);
            if !was_old {
                old.push(changed);
            }
            let mut shop = shop.write().await;
            shop.runs(changed, previous.as_deref().filter(|_| !was_old));
            shop.again(changed);
        }
        over.store(true, Ordering::SeqCst);
    });
    let history: History = histories.into_iter().flatten().collect();
    eprintln!(
        "seed {seed}: {} orders, {changes} changes, beside {previous:?}",
        history.len()
    );
    assert!(
        history.len() > changes,
        "too few orders to prove anything: {}",
        history.len()
    );
    let shop = shop.into_inner();
    shop.all_ready().await;
    shop.all_is_well("order", &history, i64::from(STOCK)).await;
}
