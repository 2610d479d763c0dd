//! Places orders through the shop's real API, over `kubectl port-forward`, which works on any cluster.

use std::io::{BufRead, BufReader};
use std::process::ChildStdout;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::command::Running;
use crate::failure::WithRemedy;
use crate::http::{self, Answer};
use crate::interrupt;
use crate::kubectl::Kubectl;
use crate::steps::Log;

const NAMESPACE: &str = "shop";

/// A connection to the shop's order service, open until dropped.
pub struct Shop {
    port: u16,
    _forward: Running,
}

impl Shop {
    /// Opens a port-forward to the order service.
    ///
    /// # Errors
    /// When there is no ready order pod.
    pub fn connect(kubectl: &Kubectl, log: &Log) -> Result<Self> {
        let (forward, output) = kubectl
            .call([
                "port-forward",
                "--namespace",
                NAMESPACE,
                "service/order",
                ":80",
                "--address=127.0.0.1",
            ])
            .start_reading(log)?;
        let port = forwarded_port(output)
            .context("kubectl port-forward to the order service ended at once")
            .remedy(format!(
                "see what is not ready: kubectl get pods --namespace {NAMESPACE}"
            ))?;
        Ok(Self {
            port,
            _forward: forward,
        })
    }

    /// Places one order under a fresh idempotency key.
    ///
    /// # Errors
    /// When the service cannot be reached or answers with anything but an order.
    pub fn place(&self, item: &str, quantity: u32) -> Result<Order> {
        let body = json!({"item_id": item, "quantity": quantity}).to_string();
        let key = idempotency_key();
        let headers = [("Content-Type", "application/json"), ("Idempotency-Key", key.as_str())];
        let began = Instant::now();
        let answer = http::request(self.port, "POST", "/api/orders", &headers, &body)?;
        Order::from_answer(&answer, began.elapsed())
    }

    /// Reads an order until it is final.
    ///
    /// # Errors
    /// When it is not final within `limit`.
    pub fn await_final(&self, order: &Order, limit: Duration) -> Result<Order> {
        let began = Instant::now();
        loop {
            let answer = http::request(self.port, "GET", &format!("/api/orders/{}", order.id), &[], "")?;
            let now = Order::from_answer(&answer, began.elapsed())?;
            if now.is_final() {
                return Ok(now);
            }
            ensure!(
                began.elapsed() < limit,
                "order {} is still {} after {} s",
                now.id,
                now.status,
                limit.as_secs()
            );
            interrupt::check()?;
            std::thread::sleep(Duration::from_millis(250));
        }
    }
}

/// An order as the API shows it.
#[derive(Debug, Clone, PartialEq)]
pub struct Order {
    /// Its id.
    pub id: String,
    /// CONFIRMED, CANCELLED, QUEUED or CANCELLING.
    pub status: String,
    /// The whole answer.
    pub document: Value,
    http_status: u16,
    took: Duration,
}

impl Order {
    fn from_answer(answer: &Answer, took: Duration) -> Result<Self> {
        ensure!(
            answer.status < 300,
            "the order service answered {}: {}",
            answer.status,
            answer.body.trim()
        );
        let document: Value = serde_json::from_str(&answer.body).context("the order service did not answer JSON")?;
        let text = |field: &str| document[field].as_str().map(str::to_owned);
        Ok(Self {
            id: text("order_id").context("the answer has no order_id")?,
            status: text("status").context("the answer has no status")?,
            http_status: answer.status,
            took,
            document,
        })
    }

    /// Whether nothing more will happen to it.
    pub fn is_final(&self) -> bool {
        matches!(self.status.as_str(), "CONFIRMED" | "CANCELLED")
    }

    /// One line for a person.
    pub fn describe(&self) -> String {
        let reason = self.document["reason"]
            .as_str()
            .map(|reason| format!(" ({reason})"))
            .unwrap_or_default();
        format!(
            "{} {}{reason}: HTTP {} in {} ms",
            self.id,
            self.status,
            self.http_status,
            self.took.as_millis()
        )
    }
}

/// Reads kubectl's `Forwarding from 127.0.0.1:41234 -> 3001`, then keeps its output drained.
fn forwarded_port(output: ChildStdout) -> Option<u16> {
    let mut lines = BufReader::new(output).lines();
    let port = lines
        .by_ref()
        .map_while(Result::ok)
        .find_map(|line| parse_forwarding(&line));
    std::thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
    port
}

fn parse_forwarding(line: &str) -> Option<u16> {
    let address = line.strip_prefix("Forwarding from ")?.split(" -> ").next()?;
    address.rsplit_once(':')?.1.parse().ok()
}

/// A key that no other order has.
fn idempotency_key() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let unique = format!(
        "{}/{}/{}",
        std::process::id(),
        now.as_nanos(),
        COUNT.fetch_add(1, Ordering::Relaxed)
    );
    hex::encode(Sha256::digest(unique))[..32].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_is_read_from_kubectls_line() {
        assert_eq!(parse_forwarding("Forwarding from 127.0.0.1:41234 -> 3001"), Some(41234));
        assert_eq!(parse_forwarding("Handling connection for 41234"), None);
    }

    #[test]
    fn keys_differ() {
        assert_ne!(idempotency_key(), idempotency_key());
    }

    #[test]
    fn an_order_is_read_from_the_answer() {
        let body = r#"{"order_id":"7","status":"CANCELLED","reason":"OUT_OF_STOCK"}"#;
        let answer = Answer {
            status: 201,
            body: body.into(),
        };
        let order = Order::from_answer(&answer, Duration::from_millis(12)).expect("an order");
        assert!(order.is_final());
        assert_eq!(order.describe(), "7 CANCELLED (OUT_OF_STOCK): HTTP 201 in 12 ms");
        let problem = Answer {
            status: 422,
            body: r#"{"title":"unknown item"}"#.into(),
        };
        let error = Order::from_answer(&problem, Duration::ZERO).expect_err("a problem");
        assert_eq!(
            error.to_string(),
            r#"the order service answered 422: {"title":"unknown item"}"#
        );
    }
}
