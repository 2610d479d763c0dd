//! More orders than there are places for: what is too much is told to come back, what was taken in is finished.

use std::time::Instant;

use futures::future::join_all;
use serde_json::json;
use uuid::Uuid;

use crate::shop::{Acknowledged, History, LONGEST, Shop, order_policy};

const STOCK: u32 = 10_000;
/// Places, and those who may wait for one.
const PLACES: usize = 2;
const BURST: usize = 12;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_too_much_is_told_to_come_back_and_nothing_that_was_taken_in_is_lost() {
    let shop = Shop::start(STOCK, &[("order", "COMMAND_RESEND", "1s")]).await;
    let mut policy = order_policy();
    policy["inbound"]["concurrency"] = json!({"type": "Fixed", "max": PLACES, "maxQueue": PLACES});
    shop.policy("order", &policy);
    // Who has a place keeps it, as inventory does not answer.
    shop.signal("inventory", "-STOP");
    let body = json!({"item_id": "ps5", "quantity": 1});
    let (mut history, mut refused, begun) = (History::new(), 0, Instant::now());
    while refused == 0 {
        if begun.elapsed() > LONGEST {
            shop.give_up("somebody is refused");
        }
        let burst = (0..BURST).map(|_| {
            let (shop, body, key) = (&shop, body.clone(), Uuid::now_v7().to_string());
            async move {
                let answer = shop.try_place(&key, &body).await.unwrap();
                Acknowledged { key, body, answer }
            }
        });
        for told in join_all(burst).await {
            match told.answer.status {
                201 | 202 => history.push(told),
                503 => {
                    let back = told.answer.headers.get("retry-after");
                    assert!(back.is_some(), "{:?}", told.answer);
                    refused += 1;
                }
                _ => panic!("{:?}", told.answer),
            }
        }
    }
    assert!(!history.is_empty(), "whoever had a place was refused");
    shop.signal("inventory", "-CONT");
    shop.all_is_well("order", &history, i64::from(STOCK)).await;
}
