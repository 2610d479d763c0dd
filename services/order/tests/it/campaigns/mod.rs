//! Campaigns: a shop under faults that a seed chooses, judged by the oracles (`shop/oracles.rs`) when it has come to rest.
//!
//! The tests run a slice. `VALERIX_ROUNDS` says how many faults are tried, `VALERIX_SEED` which. The calls of an order are
//! counted first, with those of the background, so that of two runs with one seed `calls` may try other calls.

mod calls;
mod keys;
mod previous;
mod redis;
mod restored;
mod servers;
mod storm;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use uuid::Uuid;

use crate::shop::{Acknowledged, History, LONGEST, Shop};

/// Sends a key to one replica after the other until it gets an answer that counts.
async fn place_until_told(
    shop: &tokio::sync::RwLock<Shop>,
    replicas: &[&str],
    key: String,
    body: Value,
) -> Acknowledged {
    let (mut replicas, begun, mut last) = (replicas.iter().cycle(), Instant::now(), None);
    loop {
        let (replica, mut pause) = (replicas.next().unwrap(), Duration::from_millis(20));
        let answer = shop.read().await.try_place_at(replica, &key, &body).await;
        match answer {
            Ok(answer) if matches!(answer.status, 201 | 202) => return Acknowledged { key, body, answer },
            Ok(answer) => {
                assert!(matches!(answer.status, 409 | 503 | 504), "{answer:?}");
                if answer.status == 409 {
                    // Another request is at it, and a hundred who ask without a pause would leave it no time.
                    pause *= 10;
                }
                last = Some(answer.text);
            }
            // Connection refused or cut: nothing is known, the same key again.
            Err(_) => {}
        }
        if begun.elapsed() > LONGEST {
            shop.read()
                .await
                .give_up(&format!("{key} is answered, last by {last:?}"));
        }
        tokio::time::sleep(pause).await;
    }
}

/// One client: one order after the other, until it is over.
async fn stream_of_orders(
    shop: &tokio::sync::RwLock<Shop>,
    over: &AtomicBool,
    client: usize,
    replicas: &[&str],
) -> History {
    let (mut history, mut turns) = (History::new(), replicas.iter().cycle());
    while !over.load(Ordering::SeqCst) {
        let key = format!("client-{client}-{}", history.len());
        // Few: each of them keeps the breaker of inventory busy.
        let gremlin = (history.len() % 12 == 7).then_some(true);
        let body = json!({"item_id": "ps5", "quantity": 1 + history.len() % 3, "gremlin": gremlin});
        let first = turns.next().unwrap();
        let order_of_asking: Vec<_> = [first].into_iter().chain(replicas).copied().collect();
        history.push(place_until_told(shop, &order_of_asking, key, body).await);
        // Some change their mind, at once or when an order is paid; whether they are heard is the order's state's to say.
        let (known, verb) = match history.len() % 3 {
            1 => (history.last(), "cancel"),
            2 => (history.get(history.len() / 2), "refund"),
            _ => continue,
        };
        undo(&*shop.read().await, turns.next().unwrap(), known.unwrap().order(), verb).await;
    }
    history
}

/// Asks once; a replica may be dead.
async fn undo(shop: &Shop, replica: &str, order: Uuid, verb: &str) {
    if let Ok(answer) = shop.try_undo_at(replica, order, verb).await {
        let forgotten = answer.status == 404 && shop.was_restored("order");
        assert!(
            forgotten || matches!(answer.status, 202 | 409 | 503 | 504),
            "{answer:?}"
        );
    }
}
