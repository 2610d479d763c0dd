//! A stream of orders while what all services stand on is restarted: Redis with and without its data, and Postgres.

use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use valerix_kit::testing::free_port;

use crate::kills::{all_is_well, stream_of_orders};
use crate::shop::Shop;

const STOCK: u32 = 10_000;
const CLIENTS: usize = 3;

/// A Redis of the test's own; killed when dropped.
struct Redis {
    process: Child,
    port: u16,
    folder: tempfile::TempDir,
    keeps: bool,
}

impl Redis {
    /// One that keeps its data over a restart, or forgets all of it.
    fn start(keeps: bool) -> Self {
        let port = free_port();
        let folder = tempfile::tempdir().unwrap();
        let process = spawn(port, folder.path(), keeps);
        Self {
            process,
            port,
            folder,
            keeps,
        }
    }

    fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/", self.port)
    }

    fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    fn restart(&mut self) {
        self.process = spawn(self.port, self.folder.path(), self.keeps);
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn spawn(port: u16, folder: &std::path::Path, keeps: bool) -> Child {
    let (port_text, keeps) = (port.to_string(), if keeps { "yes" } else { "no" });
    Command::new("redis-server")
        .args([
            "--port",
            &port_text,
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--appendonly",
            keeps,
        ])
        .current_dir(folder)
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

async fn redis_restarts(keeps: bool) {
    let mut redis = Redis::start(keeps);
    let url = redis.url();
    let shop = Shop::start(
        STOCK,
        &[
            ("order", "COMMAND_RESEND", "1s"),
            ("processor", "DECLINE_PERCENT", "20"),
            ("order", "REDIS_URL", &url),
            ("payment", "REDIS_URL", &url),
            ("inventory", "REDIS_URL", &url),
        ],
    )
    .await;
    let address = ("127.0.0.1", redis.port);
    let acknowledged = orders_meanwhile(shop, async |_| {
        for _ in 0..2 {
            // Orders that have nothing but events to finish them are under way at each end.
            tokio::time::sleep(Duration::from_millis(700)).await;
            redis.kill();
            tokio::time::sleep(Duration::from_millis(700)).await;
            redis.restart();
            while TcpStream::connect(address).is_err() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    })
    .await;
    assert!(acknowledged > 5, "too few orders to prove anything: {acknowledged}");
}

/// Runs `disturb` while clients order; in the end all is well. Says how many orders there were.
async fn orders_meanwhile(shop: Shop, disturb: impl AsyncFnOnce(&tokio::sync::RwLock<Shop>)) -> usize {
    let (shop, over) = (tokio::sync::RwLock::new(shop), AtomicBool::new(false));
    let clients =
        futures::future::join_all((0..CLIENTS).map(|client| stream_of_orders(&shop, &over, client, &["order"])));
    let (acknowledged, ()) = tokio::join!(clients, async {
        disturb(&shop).await;
        over.store(true, Ordering::SeqCst);
    });
    let acknowledged: Vec<_> = acknowledged.into_iter().flatten().collect();
    let count = acknowledged.len();
    all_is_well(&shop.into_inner(), acknowledged, i64::from(STOCK)).await;
    count
}

#[tokio::test]
async fn no_order_is_lost_or_doubled_when_redis_restarts_with_its_data() {
    redis_restarts(true).await;
}

#[tokio::test]
async fn no_order_is_lost_or_doubled_when_redis_restarts_empty() {
    redis_restarts(false).await;
}

#[tokio::test]
async fn no_order_is_lost_or_doubled_when_postgres_restarts() {
    let shop = Shop::start(
        STOCK,
        &[("order", "COMMAND_RESEND", "1s"), ("payment", "SETTLE_LEASE", "1s")],
    )
    .await;
    let acknowledged = orders_meanwhile(shop, async |shop| {
        for _ in 0..3 {
            tokio::time::sleep(Duration::from_millis(500)).await;
            shop.read().await.restart_postgres().await;
        }
    })
    .await;
    assert!(acknowledged > 5, "too few orders to prove anything: {acknowledged}");
}
