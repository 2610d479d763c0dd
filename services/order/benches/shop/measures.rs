//! The rows.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::time::sleep;
use uuid::Uuid;
use valerix_kit::lock::DistributedLock;
use valerix_kit::metrics::Metrics;
use valerix_kit::testing::{bus_args, free_port};

use super::load::{Asked, Client, Done, Requests, closed, open};
use super::node::{self, Node};
use super::pgbench::Pgbench;
use super::rows::{Peer, beside, ratio, row};
use super::shop::{SERVICES, Shop};

const CLIENTS: usize = 32;
const STOCK: u32 = 1_000_000_000;
/// Requests at a time that the row of overload allows order.
const AT_ONCE: usize = 16;

/// For how long things are measured.
pub struct Bench {
    turn: Duration,
    events: usize,
    locks: usize,
}

impl Bench {
    pub const fn new(quick: bool) -> Self {
        let (millis, events, locks) = if quick {
            (1_000, 500, 300)
        } else {
            (10_000, 20_000, 5_000)
        };
        Self {
            turn: Duration::from_millis(millis),
            events,
            locks,
        }
    }

    /// `POST /payments` with the disk waited for, beside the same commits without any service, and answers that are kept.
    pub async fn payments(&self) {
        let shop = Shop::start(STOCK, &[]).await;
        shop.policy("payment", &chart_payment_policy());
        let asked = Asked {
            address: address(&shop, "payment"),
            path: "/payments",
            requests: payments(),
        };
        let pgbench = Pgbench::prepare().await;
        let warm = closed(&asked, CLIENTS, self.turn / 4, usize::MAX).await;
        answered(&warm);
        let asked = Asked {
            requests: payments(),
            ..asked
        };
        let cpu = cpu(&pids(&shop));
        let first = closed(&asked, CLIENTS, self.turn, usize::MAX).await;
        answered(&first);
        let spent = self::cpu(&pids(&shop)) - cpu;
        let peer = pgbench.run(CLIENTS, self.turn).await;
        let commits = peer.value.clone().ok();
        beside(
            "POST /payments, 32 clients",
            "payments/s",
            "",
            first.per_second(),
            &[peer],
        );
        let share = commits.map(|commits| first.per_second() / commits * 100.0);
        row(
            "POST /payments, 32 clients: of pgbench with the same commits",
            "%",
            ">= 70 %",
            share.unwrap_or(f64::NAN),
        );
        row(
            "POST /payments: services' CPU",
            "us/payment",
            "",
            micros(spent) / first.good as f64,
        );
        let again = closed(&asked, CLIENTS, self.turn / 2, first.good as usize).await;
        answered(&again);
        row("the stored answer again", "answers/s", "", again.per_second());
        ratio(
            "the stored answer again: times the first",
            ">= 2 x",
            Some(again.per_second()),
            Some(first.per_second()),
        );
    }

    /// An order through the whole saga, beside the same in Node.
    pub async fn orders(&self) {
        let shop = Shop::start(STOCK, &[]).await;
        shop.policy("payment", &chart_payment_policy());
        let ours = self.saga(address(&shop, "order"), &pids(&shop)).await;
        let resident: f64 = pids(&shop).iter().map(|pid| resident(*pid)).sum();
        shop.adds_up(i64::from(STOCK)).await;
        drop(shop);
        let theirs = match Node::start().await {
            Ok(node) => {
                let saga = self.saga(node.address(), &node.pids()).await;
                Ok((saga, node.pids().iter().map(|pid| self::resident(*pid)).sum::<f64>()))
            }
            Err(reason) => Err(reason),
        };
        let peer = |value: &dyn Fn(&(Saga, f64)) -> f64| {
            [Peer {
                name: "Node",
                version: node::version(),
                value: theirs.as_ref().map(value).map_err(Clone::clone),
            }]
        };
        let node = theirs.as_ref().ok().map(|(saga, _)| saga);
        beside(
            "an order through the saga: services' CPU",
            "us/order",
            "",
            ours.cpu,
            &peer(&|(saga, _)| saga.cpu),
        );
        ratio(
            "an order through the saga: CPU of Node's, times ours",
            ">= 5 x",
            node.map(|saga| saga.cpu),
            Some(ours.cpu),
        );
        beside(
            "orders, 32 clients",
            "orders/s",
            "",
            ours.per_second,
            &peer(&|(saga, _)| saga.per_second),
        );
        ratio(
            "orders, 32 clients: times Node's",
            ">= 2 x",
            Some(ours.per_second),
            node.map(|saga| saga.per_second),
        );
        beside(
            "an order at half load, p99",
            "ms",
            "<= 100 ms",
            ours.p99,
            &peer(&|(saga, _)| saga.p99),
        );
        beside(
            "memory of the four services",
            "MiB",
            "",
            resident,
            &peer(&|(_, resident)| *resident),
        );
    }

    async fn saga(&self, address: String, pids: &[u32]) -> Saga {
        let asked = orders(address);
        answered(&closed(&asked, CLIENTS, self.turn / 2, usize::MAX).await);
        let before = cpu(pids);
        let done = closed(&asked, CLIENTS, self.turn, usize::MAX).await;
        answered(&done);
        // What an order costs after its answer: its events, its stock.
        until_idle(pids).await;
        let spent = cpu(pids) - before;
        let half = open(&asked, CLIENTS, done.per_second() / 2.0, self.turn).await;
        answered(&half);
        Saga {
            per_second: done.per_second(),
            cpu: micros(spent) / done.good as f64,
            p99: half.quantile(0.99),
        }
    }

    /// Orders that nobody answers by HTTP: they go by event alone.
    pub async fn events(&self) {
        let mut shop = Shop::closed(STOCK, &[]).await;
        for variable in ["INVENTORY_URL", "PAYMENT_URL"] {
            shop.set("order", variable, &format!("http://127.0.0.1:{}", free_port()));
        }
        for service in SERVICES {
            shop.set(service, "REDIS_STREAM_KEEP", "1s");
        }
        shop.open().await;
        shop.policy("payment", &chart_payment_policy());
        let pool = shop.pool("order").await;
        let confirmed = async || -> i64 {
            let statement = "SELECT count(*) FROM orders WHERE state = 'CONFIRMED'";
            sqlx::query_scalar(statement).fetch_one(&pool).await.unwrap()
        };
        // The circuits open, and connections are there.
        let warm = closed(&orders(address(&shop, "order")), CLIENTS, self.turn, CLIENTS * 4).await;
        shop.adds_up(i64::from(STOCK)).await;
        let began = Instant::now();
        let placed = closed(&orders(address(&shop, "order")), CLIENTS, self.turn * 20, self.events).await;
        answered(&placed);
        let waiting = warm.good + placed.good - confirmed().await as u64;
        shop.until("every order is confirmed", || async {
            let all = confirmed().await as u64 == warm.good + placed.good;
            all.then_some(())
        })
        .await;
        let rate = placed.good as f64 / began.elapsed().as_secs_f64();
        row("by event alone", "orders/s", ">= 1000 orders/s", rate);
        let behind = waiting as f64 / placed.good as f64 * 100.0;
        row(
            "by event alone: not yet at their end when the last was placed",
            "%",
            "",
            behind,
        );
        shop.adds_up(i64::from(STOCK)).await;
        // Streams are cut every few seconds.
        let mut left = u64::MAX;
        let began = Instant::now();
        while left > 1_000 && began.elapsed() < Duration::from_secs(20) {
            sleep(Duration::from_millis(250)).await;
            left = 0;
            for topic in [
                "inventory.commands",
                "inventory.events",
                "payment.commands",
                "payment.events",
            ] {
                left += entries(&shop.stream(topic)).await;
            }
        }
        row(
            "by event alone: events that Redis still holds",
            "events",
            "<= 1000 events",
            left as f64,
        );
    }

    /// Five times as many orders as there can be, by clients that do not wait for each other.
    pub async fn overload(&self) {
        let shop = Shop::start(STOCK, &[]).await;
        let mut policy = super::shop::order_policy();
        policy["inbound"]["concurrency"] = json!({"type": "Fixed", "max": AT_ONCE, "maxQueue": AT_ONCE});
        shop.policy("order", &policy);
        let asked = orders(address(&shop, "order"));
        answered(&closed(&asked, AT_ONCE, self.turn / 2, usize::MAX).await);
        let peak = closed(&asked, AT_ONCE, self.turn, usize::MAX).await;
        answered(&peak);
        let over = open(&asked, 256, peak.per_second() * 5.0, self.turn).await;
        let began = Instant::now();
        let mut client = Client::new(&asked);
        let (mut number, mut in_a_row) = (usize::MAX / 2, 0);
        while in_a_row < 10 && began.elapsed() < Duration::from_secs(30) {
            let sent = Instant::now();
            number += 1;
            let normal = client.ask(number).await.is_ok_and(|status| status == 201)
                && sent.elapsed().as_secs_f64() * 1e3 <= peak.quantile(0.99);
            in_a_row = if normal { in_a_row + 1 } else { 0 };
        }
        let normal = began.elapsed().as_secs_f64() * 1e3;
        let goodput = over.per_second() / peak.per_second() * 100.0;
        row("overload, 5x: of the peak", "%", ">= 80 %", goodput);
        row(
            "overload, 5x: p99 of what is admitted, times that at the peak",
            "x",
            "<= 2 x",
            over.quantile(0.99) / peak.quantile(0.99),
        );
        row(
            "overload, 5x: neither answered nor refused",
            "orders",
            "<= 0 orders",
            over.failed as f64,
        );
        row("overload, 5x: until it is as before", "ms", "<= 5000 ms", normal);
        shop.adds_up(i64::from(STOCK)).await;
    }

    /// `kill -9`, and how soon things go on.
    pub async fn kills(&self) {
        let mut shop = Shop::start(STOCK, &[]).await;
        let mut slowest = Duration::ZERO;
        for service in SERVICES {
            shop.kill(service);
            let began = Instant::now();
            shop.spawn(service);
            is_ready(&shop, service).await;
            slowest = slowest.max(began.elapsed());
        }
        row(
            "kill -9 of each service: the slowest, from exec until it is ready",
            "ms",
            "<= 1000 ms",
            slowest.as_secs_f64() * 1e3,
        );
        let asked = orders(address(&shop, "order"));
        let pool = shop.pool("order").await;
        let open = async || -> i64 {
            let statement = "SELECT count(*) FROM orders WHERE state IN ('PENDING', 'RESERVED')";
            sqlx::query_scalar(statement).fetch_one(&pool).await.unwrap()
        };
        let load = closed(&asked, CLIENTS, self.turn, usize::MAX);
        let kill = async {
            sleep(self.turn / 4).await;
            while open().await == 0 {
                sleep(Duration::from_millis(1)).await;
            }
            shop.kill("order");
            let began = Instant::now();
            shop.spawn("order");
            began
        };
        let cut = async {
            let began = kill.await;
            let held: Vec<Uuid> = sqlx::query_scalar("SELECT id FROM orders WHERE state IN ('PENDING', 'RESERVED')")
                .fetch_all(&pool)
                .await
                .unwrap();
            loop {
                let statement = "SELECT count(*) FROM orders WHERE id = ANY($1) AND state IN ('PENDING', 'RESERVED')";
                let left: i64 = sqlx::query_scalar(statement)
                    .bind(&held)
                    .fetch_one(&pool)
                    .await
                    .unwrap();
                if left == 0 || began.elapsed() > Duration::from_secs(60) {
                    return began.elapsed();
                }
                sleep(Duration::from_millis(5)).await;
            }
        };
        let (resumed, _) = tokio::join!(cut, load);
        row(
            "kill -9 of order: until all orders that it had open are at their end",
            "ms",
            "<= 2000 ms",
            resumed.as_secs_f64() * 1e3,
        );
        shop.ready("order").await;
        shop.adds_up(i64::from(STOCK)).await;
    }

    /// A lock that nobody holds.
    pub async fn lock(&self) {
        let metrics = Metrics::new().unwrap();
        let lock = DistributedLock::new(&bus_args(), "bench", Duration::from_secs(5), &metrics).unwrap();
        let mut micros = Vec::new();
        for _ in 0..self.locks {
            let began = Instant::now();
            let held = lock.acquire(0).await.unwrap();
            micros.push(began.elapsed().as_secs_f64() * 1e6);
            lock.release(held).await.unwrap();
        }
        micros.sort_by(f64::total_cmp);
        row("a lock is acquired, p50", "us", "<= 1000 us", micros[micros.len() / 2]);
        row("a lock is acquired, p99", "us", "", micros[micros.len() * 99 / 100]);
    }
}

/// What an order came to.
struct Saga {
    per_second: f64,
    /// Microseconds of CPU of all services.
    cpu: f64,
    /// Milliseconds at half of what they can.
    p99: f64,
}

/// A processor is waited for as the chart says.
fn chart_payment_policy() -> serde_json::Value {
    let breaker = json!({"consecutiveFailures": 5, "openDuration": "5s", "maxOpenDuration": "10s"});
    json!({"version": 1, "targets": [
        {"name": "processor", "timeout": {"request": "5s", "attempt": "2s"}, "circuitBreaker": breaker,
         "idempotentRoutes": ["POST /charges"]},
    ]})
}

/// An id for each number, others for each load.
fn ids() -> impl Fn(usize) -> Uuid + Send + Sync {
    let salt = Uuid::new_v4();
    move |number| Uuid::new_v5(&salt, &number.to_be_bytes())
}

fn payments() -> Requests {
    let ids = ids();
    Arc::new(move |number| {
        let order = ids(number);
        let body = format!(r#"{{"order_id":"{order}","amount_minor":49900,"currency":"EUR"}}"#);
        (format!("order:{order}:charge"), body)
    })
}

fn orders(address: String) -> Asked {
    let ids = ids();
    Asked {
        address,
        path: "/api/orders",
        requests: Arc::new(move |number| (ids(number).to_string(), r#"{"item_id":"ps5","quantity":1}"#.to_owned())),
    }
}

fn address(shop: &Shop, service: &str) -> String {
    shop.url(service).trim_start_matches("http://").to_owned()
}

/// A load whose requests fail measures nothing.
fn answered(done: &Done) {
    assert!(
        done.good > 0 && done.failed + done.refused < done.good / 100 + 1,
        "{} good, {} refused, {} failed",
        done.good,
        done.refused,
        done.failed
    );
}

async fn is_ready(shop: &Shop, service: &str) {
    let url = format!("{}/ready", shop.url(service));
    while !shop
        .http
        .get(&url)
        .send()
        .await
        .is_ok_and(|answer| answer.status().is_success())
    {
        sleep(Duration::from_millis(2)).await;
    }
}

async fn entries(stream: &str) -> u64 {
    let mut redis = valerix_kit::testing::redis().await;
    redis::AsyncCommands::xlen(&mut redis, stream).await.unwrap()
}

fn pids(shop: &Shop) -> Vec<u32> {
    SERVICES.iter().map(|service| shop.pid(service)).collect()
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

/// CPU time of all threads of the processes so far.
fn cpu(pids: &[u32]) -> Duration {
    let ticks = |pid: &u32| -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        // The name, in parentheses, may hold anything; user and system time are the 12th and 13th field after it.
        let (_, fields) = stat.rsplit_once(')').unwrap();
        let times = fields.split_whitespace().skip(11).take(2);
        times.map(|field| field.parse::<u64>().unwrap()).sum()
    };
    Duration::from_millis(pids.iter().map(ticks).sum::<u64>() * 10)
}

/// Waits until the processes do next to nothing: less than a twentieth of a core.
async fn until_idle(pids: &[u32]) {
    let began = Instant::now();
    loop {
        let before = cpu(pids);
        sleep(Duration::from_millis(400)).await;
        if cpu(pids) - before <= Duration::from_millis(20) || began.elapsed() > Duration::from_secs(20) {
            return;
        }
    }
}

/// Resident memory, in MiB.
fn resident(pid: u32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<f64>().unwrap() / 1024.0
}
