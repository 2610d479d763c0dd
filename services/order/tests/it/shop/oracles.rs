//! What must hold of the shop when it has come to rest, from the databases of all four, from the processor's own ledger and
//! from what clients were told. The names are those of the design's table.
//!
//! - I1, I2: one charge of an order and of a key; what is kept is what confirmed orders cost.
//! - I3, I5: what is left and what was sold make the stock; nothing is held for an order that is over.
//! - I4: an order that a client was told of is there and has ended; there is none that nobody was told of.
//! - I7: who asks again with the key gets the same answer, byte for byte, and with another body a refusal.
//! - I10: what became of an order was announced, once, and each step was taken once.
//!
//! And no log tells a secret. I6 is the lock's (kit's and inventory's tests), I8 and I9 are the library's.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sqlx::PgPool;
use uuid::Uuid;
use valerix_kit::testing::Answer;
use valerix_payment::payment::Payment;
use valerix_payment::saga::state::State;

use super::{LONGEST, SECRETS, Shop, Told};

/// An answer that counts: the order is stored, and the client knows it.
#[derive(Clone, Debug)]
pub struct Acknowledged {
    pub key: String,
    pub body: Value,
    pub answer: Answer,
}

/// What clients know.
pub type History = Vec<Acknowledged>;

impl Acknowledged {
    pub fn order(&self) -> Uuid {
        self.answer.order()
    }
}

/// The key of an order's charge at the processor.
fn key_of(order: Uuid) -> String {
    Payment::new(order, None, State::Charged).id.to_string()
}

/// What is the same each time that an answer is given.
pub fn lasting(answer: &Answer) -> (u16, &str, Option<&http::HeaderValue>, Option<&http::HeaderValue>) {
    let header = |name: &str| answer.headers.get(name);
    (answer.status, &answer.text, header("content-type"), header("location"))
}

impl Shop {
    /// Waits until nothing is to be done for one order any more.
    pub async fn ends(&self, order: Uuid) {
        let pool = self.pool("order").await;
        self.until(&format!("order {order} ends"), || async {
            let ended: bool = sqlx::query_scalar(
                "SELECT state IN ('CONFIRMED', 'CANCELLED', 'REFUNDED') \
                 AND NOT EXISTS (SELECT FROM commands WHERE order_id = id) FROM orders WHERE id = $1",
            )
            .bind(order)
            .fetch_one(&pool)
            .await
            .unwrap();
            ended.then_some(())
        })
        .await;
    }

    /// Waits until nothing is under way: no open order, no open command, nothing unpublished, nothing to be settled.
    pub async fn comes_to_rest(&self) {
        let (order, payment, inventory) = (
            self.pool("order").await,
            self.pool("payment").await,
            self.pool("inventory").await,
        );
        let zero = |pool: PgPool, statement: &'static str| async move {
            sqlx::query_scalar::<_, i64>(statement).fetch_one(&pool).await.unwrap() == 0
        };
        const UNPUBLISHED: &str = "SELECT count(*) FROM outbox WHERE published_at IS NULL";
        const OPEN: &str = "SELECT count(*) FROM orders WHERE state NOT IN ('CONFIRMED', 'CANCELLED', 'REFUNDED') \
                            OR (probe AND state = 'CONFIRMED')";
        self.until("the shop comes to rest", || async {
            let rest = zero(order.clone(), OPEN).await
                && zero(order.clone(), "SELECT count(*) FROM commands").await
                && zero(order.clone(), "SELECT count(*) FROM strangers").await
                && zero(
                    payment.clone(),
                    "SELECT count(*) FROM payments WHERE due_at IS NOT NULL",
                )
                .await
                && zero(order.clone(), UNPUBLISHED).await
                && zero(payment.clone(), UNPUBLISHED).await
                && zero(inventory.clone(), UNPUBLISHED).await;
            rest.then_some(())
        })
        .await;
    }

    /// Waits until every charge is that of a confirmed order, and every piece that is missing too.
    pub async fn owes_nobody(&self, stock: i64) {
        let orders = self.pool("order").await;
        let begun = Instant::now();
        loop {
            self.comes_to_rest().await;
            let confirmed: Vec<(Uuid, i32)> =
                sqlx::query_as("SELECT id, quantity FROM orders WHERE item_id = 'ps5' AND state = 'CONFIRMED'")
                    .fetch_all(&orders)
                    .await
                    .unwrap();
            let sold: i64 = confirmed.iter().map(|(_, quantity)| i64::from(*quantity)).sum();
            let paid: BTreeSet<String> = confirmed.into_iter().map(|(order, _)| key_of(order)).collect();
            let ledger = self.ledger().await;
            let kept = ledger.into_iter().filter(|(_, (status, _))| status == "SUCCEEDED");
            let kept: BTreeSet<String> = kept.map(|(key, _)| key).collect();
            let missing = stock - self.available("ps5").await;
            if kept == paid && missing == sold {
                return;
            }
            if begun.elapsed() > LONGEST {
                let differ: Vec<_> = kept.symmetric_difference(&paid).collect();
                self.give_up(&format!(
                    "nothing is kept: charges {differ:?}, {missing} pieces where {sold} are sold"
                ));
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
    }

    /// I1, I2, I3, I5 and I10, at rest.
    pub async fn adds_up(&self, stock: i64) {
        self.comes_to_rest().await;
        let orders: Vec<(Uuid, String, i32, Option<i64>)> =
            sqlx::query_as("SELECT id, state, quantity, amount_minor FROM orders WHERE item_id = 'ps5'")
                .fetch_all(&self.pool("order").await)
                .await
                .unwrap();
        let payments: BTreeMap<Uuid, String> = sqlx::query_as("SELECT order_id, state FROM payments")
            .fetch_all(&self.pool("payment").await)
            .await
            .unwrap()
            .into_iter()
            .collect();
        let ledger = self.ledger().await;
        let mut sold = 0;
        for (order, state, quantity, amount) in &orders {
            let payment = payments.get(order).map(String::as_str);
            let charge = ledger.get(&key_of(*order));
            if state == "CONFIRMED" {
                sold += i64::from(*quantity);
                let forgotten = payment.is_none() && self.was_restored("payment");
                assert!(forgotten || payment == Some("CHARGED"), "order {order}: {payment:?}");
                assert_eq!(
                    charge,
                    Some(&("SUCCEEDED".to_owned(), amount.unwrap())),
                    "order {order}"
                );
            } else if state == "REFUNDED" {
                assert_eq!(charge, Some(&("REFUNDED".to_owned(), amount.unwrap())), "order {order}");
            } else {
                assert_ne!(
                    charge.map(|(status, _)| status.as_str()),
                    Some("SUCCEEDED"),
                    "order {order} is {state}"
                );
            }
        }
        let settled = ledger.values().filter(|(status, _)| status == "SUCCEEDED").count();
        let confirmed = orders.iter().filter(|(_, state, ..)| state == "CONFIRMED").count();
        assert_eq!(settled, confirmed, "a charge belongs to no confirmed order");
        assert_eq!(stock - self.available("ps5").await, sold, "stock does not add up");
        let terminal: Vec<Uuid> = orders.iter().map(|(order, ..)| *order).collect();
        let held: i64 =
            sqlx::query_scalar("SELECT count(*) FROM reservations WHERE order_id = ANY($1) AND state = 'RESERVED'")
                .bind(&terminal)
                .fetch_one(&self.pool("inventory").await)
                .await
                .unwrap();
        assert_eq!(held, 0, "stock is held for orders that are over");
        self.everything_was_announced_once().await;
    }

    /// I10: what became of each order was told to everyone, once.
    async fn everything_was_announced_once(&self) {
        let order = self.pool("order").await;
        let told: Vec<(String, bool, Vec<String>)> = sqlx::query_as(
            "SELECT CASE WHEN reason = 'FORGOTTEN' THEN reason ELSE state END, probe, array(SELECT type FROM outbox WHERE aggregate = 'order:' || orders.id \
             AND topic = 'order.events' AND published_at IS NOT NULL ORDER BY version) FROM orders",
        )
        .fetch_all(&order)
        .await
        .unwrap();
        for (state, probe, told) in told {
            let expected: &[&str] = match (state.as_str(), probe) {
                ("CONFIRMED", false) => &["OrderCreated", "OrderConfirmed"],
                ("REFUNDED", false) => &["OrderCreated", "OrderConfirmed", "OrderRefunded"],
                // Its database knows no more of it.
                ("FORGOTTEN", _) if told.len() == 1 => &["OrderCancelled"],
                _ => &["OrderCreated", "OrderCancelled"],
            };
            assert_eq!(told, expected, "of an order that is {state}");
        }
        let twice: Vec<(Uuid, String)> = sqlx::query_as(
            "SELECT order_id, to_state FROM order_history WHERE verdict = 'applied' AND from_state <> to_state \
             GROUP BY order_id, to_state HAVING count(*) > 1",
        )
        .fetch_all(&order)
        .await
        .unwrap();
        assert_eq!(twice, [], "a step was taken twice");
    }

    /// Whatever went wrong, and was told in the logs.
    fn no_log_tells_a_secret(&self) {
        for process in self.parts.keys() {
            let log = std::fs::read_to_string(self.log(process)).unwrap();
            assert!(log.lines().count() > 3, "{process} says nothing");
            for secret in SECRETS {
                assert!(!log.contains(secret), "the log of {process} tells {secret}");
            }
        }
    }

    /// Every oracle, at rest, for a shop whose orders are all in `history`.
    pub async fn all_is_well(&self, replica: &str, history: &[Acknowledged], stock: i64) {
        self.adds_up(stock).await;
        self.no_log_tells_a_secret();
        let keys: BTreeSet<&str> = history.iter().map(|known| known.key.as_str()).collect();
        assert_eq!(keys.len(), history.len(), "a key was acknowledged twice");
        let mut known: Vec<Uuid> = history.iter().map(Acknowledged::order).collect();
        let mut stored: Vec<Uuid> = sqlx::query_scalar("SELECT id FROM orders WHERE item_id = 'ps5'")
            .fetch_all(&self.pool("order").await)
            .await
            .unwrap();
        known.sort();
        stored.sort();
        assert_eq!(stored, known, "one order per key, and every one is known to its client");
        for known in history {
            let again = self.until("a key is answered again", || async {
                let again = self.try_place_at(replica, &known.key, &known.body).await.ok()?;
                // A machine that is busy may be late once more.
                (!matches!(again.status, 409 | 503 | 504)).then_some(again)
            });
            let again = again.await;
            assert_eq!(
                lasting(&again),
                lasting(&known.answer),
                "{} was answered otherwise",
                known.key
            );
        }
        for known in history.iter().take(3) {
            let other = json!({"item_id": "ps5", "quantity": 77});
            let refused = self.try_place_at(replica, &known.key, &other).await.unwrap();
            assert_eq!(refused.status, 422, "{refused:?}");
        }
    }

    /// The processor's own word: key -> (status, amount; 0 of a cancelled key).
    pub async fn ledger(&self) -> BTreeMap<String, (String, i64)> {
        let mut ledger = BTreeMap::new();
        let mut cursor = String::new();
        loop {
            let page = self
                .get("processor", &format!("/charges?limit=1000{cursor}"))
                .await
                .body();
            for charge in page["charges"].as_array().unwrap() {
                let text = |member: &str| charge[member].as_str().unwrap().to_owned();
                let known = ledger.insert(
                    text("key"),
                    (text("status"), charge["amount_minor"].as_i64().unwrap_or(0)),
                );
                assert_eq!(known, None, "two charges of one key");
            }
            let Some(next) = page["next_cursor"].as_str() else {
                return ledger;
            };
            cursor = format!("&cursor={next}");
        }
    }
}
