//! What the guard costs as a process: its start, at rest, and with many idle connections.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use axum::Router;
use axum::routing::get;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use valerix_kit::testing::free_port;
use valerix_policy::guard::{InboundListener, Protocol, WIRING_ENV, Wiring};

use super::support::{eventually, read_head, resident, serve};

/// Ends the process with the test.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Not optimised, as tests are, it takes more than it does in its image.
const AT_REST: u64 = 40 * 1024 * 1024;
const FOR_EACH: u64 = 32 * 1024;
const IDLE: u64 = 1_000;

#[tokio::test]
async fn a_thousand_idle_connections_cost_little() {
    let application = serve(Router::new().route("/", get(|| async { "well" }))).await;
    let (port, report) = (free_port(), free_port());
    let wiring = Wiring {
        inbound: vec![InboundListener {
            name: "http".to_owned(),
            protocol: Protocol::Http,
            listen: port,
            forward: application.port(),
        }],
        ..Wiring::default()
    };
    let folder = tempfile::tempdir().unwrap();
    let began = Instant::now();
    let guard = Command::new(env!("CARGO_BIN_EXE_guard"))
        .env(WIRING_ENV, serde_json::to_string(&wiring).unwrap())
        .env("LISTEN_ADDRESS", "127.0.0.1:0")
        .env("VALERIX_REPORT_PORT", report.to_string())
        .env("VALERIX_POLICY_DIR", folder.path().join("policy"))
        .env("VALERIX_STATE_DIR", folder.path().join("state"))
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let guard = Process(guard);
    let process = guard.0.id().to_string();
    eventually("the guard is healthy", || async {
        let answer = reqwest::get(format!("http://127.0.0.1:{report}/health")).await.ok()?;
        (answer.status() == 200).then_some(())
    })
    .await;
    let started = began.elapsed();
    assert!(started < Duration::from_secs(5), "{started:?}");
    let at_rest = resident(&process);
    assert!(at_rest < AT_REST, "{at_rest} bytes at rest");
    let mut idle = Vec::new();
    for _ in 0..IDLE {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nHost: shop\r\n\r\n").await.unwrap();
        assert!(read_head(&mut stream).await.starts_with("HTTP/1.1 200"));
        idle.push(stream);
    }
    let held = resident(&process).saturating_sub(at_rest);
    println!("start {started:?}, at rest {at_rest} bytes, {IDLE} idle connections {held} bytes");
    assert!(held < IDLE * FOR_EACH, "{held} bytes are held for {IDLE} connections");
}
