//! A Redis of the test's own, and a proxy before it that holds back, delays or cuts.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::watch;

use crate::support::PATIENCE;

/// `redis-server` without persistence; killed when dropped.
pub(super) struct RedisServer {
    child: Child,
    port: u16,
    folder: tempfile::TempDir,
}

impl RedisServer {
    pub(super) fn start() -> Self {
        Self::start_with(&[])
    }

    /// A node of a cluster that serves none of its keys.
    pub(super) fn start_in_cluster() -> Self {
        let bus = free_port().to_string();
        Self::start_with(&["--cluster-enabled", "yes", "--cluster-port", &bus])
    }

    fn start_with(arguments: &[&str]) -> Self {
        let port = free_port();
        let folder = tempfile::tempdir().unwrap();
        let child = spawn(port, folder.path(), arguments);
        Self { child, port, folder }
    }

    pub(super) fn address(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.port).into()
    }

    pub(super) fn url(&self) -> String {
        format!("redis://{}/", self.address())
    }

    pub(super) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Begins anew, empty, on the same port.
    pub(super) fn restart(&mut self) {
        self.kill();
        self.child = spawn(self.port, self.folder.path(), &[]);
    }

    /// Runs a command; its answer as text.
    pub(super) fn command(&self, words: &[&str]) -> String {
        let mut connection = redis::Client::open(self.url()).unwrap().get_connection().unwrap();
        let mut command = redis::cmd(words[0]);
        command.arg(&words[1..]);
        let value: redis::Value = command.query(&mut connection).unwrap();
        redis::from_redis_value(value).unwrap_or_default()
    }

    /// Calls of scripts since the start or the last `CONFIG RESETSTAT`.
    pub(super) fn script_calls(&self) -> u64 {
        let stats = self.command(&["INFO", "commandstats"]);
        let calls = |name: &str| {
            let line = stats.lines().find(|line| line.starts_with(&format!("cmdstat_{name}:")));
            line.and_then(|line| line.split(['=', ',']).nth(1)?.parse::<u64>().ok())
                .unwrap_or_default()
        };
        calls("evalsha") + calls("eval")
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A port on which nobody listens and that the kernel gives to no connection, as it lies below those that it hands out
/// (from 32768), nor the services' tests to theirs (from 12000): who binds it a moment later finds it still free.
fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let offset = u16::try_from(std::process::id() % 1_000).unwrap_or_default();
    loop {
        let port = 11_000 + (offset + NEXT.fetch_add(1, Ordering::Relaxed)) % 1_000;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

fn spawn(port: u16, folder: &std::path::Path, arguments: &[&str]) -> Child {
    let child = Command::new("redis-server")
        .args([
            "--port",
            &port.to_string(),
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--appendonly",
            "no",
        ])
        .args(arguments)
        .current_dir(folder)
        .stdout(Stdio::null())
        .spawn()
        .expect("redis-server must be installed");
    let began = Instant::now();
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(began.elapsed() < PATIENCE, "redis-server never listened");
        std::thread::sleep(Duration::from_millis(5));
    }
    child
}

/// What the proxy does with what comes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Mode {
    Pass,
    /// Takes connections and bytes, and passes none on.
    Hang,
    /// Passes answers on so much later.
    Delay(Duration),
    /// Closes every connection.
    Cut,
}

/// A TCP proxy in this process.
pub(super) struct Proxy {
    pub(super) address: SocketAddr,
    mode: watch::Sender<Mode>,
    accepted: Arc<AtomicUsize>,
}

impl Proxy {
    pub(super) async fn before(upstream: SocketAddr) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (mode, modes) = watch::channel(Mode::Pass);
        let accepted = Arc::new(AtomicUsize::new(0));
        let counted = accepted.clone();
        tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                counted.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(pass(client, upstream, modes.clone()));
            }
        });
        Self {
            address,
            mode,
            accepted,
        }
    }

    pub(super) fn url(&self) -> String {
        format!("redis://{}/", self.address)
    }

    pub(super) fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }

    /// Connections since the start.
    pub(super) fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }
}

async fn pass(client: tokio::net::TcpStream, upstream: SocketAddr, modes: watch::Receiver<Mode>) {
    let mut cut = modes.clone();
    let Ok(server) = tokio::net::TcpStream::connect(upstream).await else {
        return;
    };
    let (client_reads, client_writes) = client.into_split();
    let (server_reads, server_writes) = server.into_split();
    tokio::select! {
        () = copy(client_reads, server_writes, modes.clone(), false) => {}
        () = copy(server_reads, client_writes, modes, true) => {}
        _ = cut.wait_for(|mode| *mode == Mode::Cut) => {}
    }
}

async fn copy(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    mut modes: watch::Receiver<Mode>,
    answers: bool,
) {
    let mut buffer = vec![0; 16_384];
    loop {
        let Ok(length @ 1..) = from.read(&mut buffer).await else {
            return;
        };
        if modes.wait_for(|mode| *mode != Mode::Hang).await.is_err() {
            return;
        }
        let mode = *modes.borrow();
        if let (Mode::Delay(delay), true) = (mode, answers) {
            tokio::time::sleep(delay).await;
        }
        if to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
}
