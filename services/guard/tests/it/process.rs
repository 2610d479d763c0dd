//! A guard as a process.

use std::net::SocketAddr;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use tokio::net::TcpStream;
use valerix_kit::testing::free_port;
use valerix_policy::guard::{InboundListener, Protocol, WIRING_ENV, Wiring};
use valerix_policy::{POLICY_FILE, Policy};
use valerix_proxy::testing::most_resident;

use super::support::{eventually, resident};

/// Ends the process with the test.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A guard with one inbound port in front of `application`, as a process of its own.
pub struct Guard {
    process: Process,
    port: u16,
    /// How long it took until it was healthy.
    pub started: Duration,
    _folder: tempfile::TempDir,
}

impl Guard {
    pub async fn start(application: SocketAddr, environment: &[(&str, &str)]) -> Self {
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
        // A large body takes its time.
        let mut policy = Policy::default();
        policy.inbound.timeout = "10m".parse().unwrap();
        policy.inbound.idempotency.lock_timeout = "11m".parse().unwrap();
        std::fs::create_dir(folder.path().join("policy")).unwrap();
        std::fs::write(folder.path().join("policy").join(POLICY_FILE), policy.render()).unwrap();
        let began = Instant::now();
        let process = Command::new(env!("CARGO_BIN_EXE_guard"))
            .env(WIRING_ENV, serde_json::to_string(&wiring).unwrap())
            .env("LISTEN_ADDRESS", "127.0.0.1:0")
            .env("VALERIX_REPORT_PORT", report.to_string())
            .env("VALERIX_POLICY_DIR", folder.path().join("policy"))
            .env("VALERIX_STATE_DIR", folder.path().join("state"))
            .envs(environment.iter().copied())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let process = Process(process);
        eventually("the guard is healthy", || async {
            let answer = reqwest::get(format!("http://127.0.0.1:{report}/health")).await.ok()?;
            (answer.status() == 200).then_some(())
        })
        .await;
        Self {
            process,
            port,
            started: began.elapsed(),
            _folder: folder,
        }
    }

    /// Its inbound port, as a URL without a path.
    pub fn base(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub fn address(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.port).into()
    }

    pub async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address()).await.unwrap()
    }

    /// Tells it to end, as the kubelet does, and waits until it has.
    pub async fn ended(mut self) -> ExitStatus {
        let id = self.process.0.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
        eventually("the guard ends", || {
            std::future::ready(self.process.0.try_wait().unwrap())
        })
        .await
    }

    pub fn resident(&self) -> u64 {
        resident(&self.process.0.id().to_string())
    }

    /// The most that it ever had.
    pub fn most(&self) -> u64 {
        most_resident(&self.process.0.id().to_string())
    }
}
