//! A real Redis that speaks TLS alone: counted with where somebody vouches for it, left alone where nobody does.

use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use redis::{Client, TlsCertificates};
use valerix_policy::LimitAlgorithm;

use super::super::super::level::Quota;
use super::super::store::Store;
use super::super::{DEFAULT_PREFIX, RedisLimits};
use crate::metrics::Metrics;

/// An authority, and a server named `localhost` that it vouches for until the year 2126.
const CERTIFICATES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../backup/tests/it/certificates");
const PATIENCE: Duration = Duration::from_secs(20);

struct Server {
    child: Child,
    url: String,
    _folder: tempfile::TempDir,
}

impl Server {
    fn start() -> Self {
        // Below those that the kernel gives to connections: it is still free a moment later.
        let first = 12_000 + u16::try_from(std::process::id() * 131 % 20_000).unwrap();
        let port = (first..)
            .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
            .unwrap();
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str| format!("{CERTIFICATES}/{name}");
        let child = Command::new("redis-server")
            .args([
                "--port",
                "0",
                "--tls-port",
                &port.to_string(),
                "--bind",
                "127.0.0.1",
                "--save",
                "",
            ])
            .args([
                "--tls-cert-file",
                &file("server.crt"),
                "--tls-key-file",
                &file("server.key"),
            ])
            .args(["--tls-ca-cert-file", &file("authority.crt"), "--tls-auth-clients", "no"])
            .current_dir(folder.path())
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server must be installed");
        let began = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(began.elapsed() < PATIENCE, "redis-server never listened");
            std::thread::sleep(Duration::from_millis(5));
        }
        Self {
            child,
            url: format!("rediss://localhost:{port}/"),
            _folder: folder,
        }
    }

    /// The limits of a replica that knows the authority.
    fn vouched(&self) -> RedisLimits {
        let root_cert = Some(std::fs::read(format!("{CERTIFICATES}/authority.crt")).unwrap());
        let certificates = TlsCertificates {
            client_tls: None,
            root_cert,
        };
        let client = Client::build_with_tls(self.url.as_str(), certificates).unwrap();
        let prefix = DEFAULT_PREFIX.to_owned();
        let store = Store::new(client, prefix, PATIENCE, Metrics::new(), Arc::new(|| ()));
        RedisLimits(Arc::new(store))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn over_tls_replicas_count_together_where_somebody_vouches_for_redis() {
    let server = Server::start();
    let quota = Quota {
        requests: 2,
        window: Duration::from_secs(3_600),
        burst: 2,
        algorithm: LimitAlgorithm::GCRA,
    };
    let limiter = |limits: &RedisLimits| limits.limiter("shop/order", "logins", quota, 2);
    let replicas = [server.vouched(), server.vouched()];
    for replica in &replicas {
        assert!(replica.connected(PATIENCE).await);
    }
    let [one, other] = replicas.each_ref().map(limiter);
    // By its share alone each would let one pass.
    assert!(one.take("alice").await.allowed);
    assert!(one.take("alice").await.allowed);
    assert!(!other.take("alice").await.allowed);
    assert_eq!((one.local_decisions(), other.local_decisions()), (0, 0));

    let stranger = RedisLimits::open(&server.url).unwrap();
    let alone = limiter(&stranger);
    assert!(!stranger.connected(Duration::from_millis(1)).await);
    let began = Instant::now();
    while !stranger.is_down() {
        assert!(began.elapsed() < PATIENCE, "it never gave up");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(alone.take("alice").await.allowed, "its share");
    assert!(!alone.take("alice").await.allowed);
    assert_eq!(alone.local_decisions(), 2);
}
