//! A gateway whose targets are what a test makes of them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use clap::Parser;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use valerix_gateway::config::Config;
use valerix_gateway::startup::build;
use valerix_kit::service::Server;
use valerix_kit::testing::{TestServer, free_port, service_args};

/// More than anything in a test takes that works.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// A gateway under construction.
pub struct Setup {
    config: Config,
}

impl Setup {
    /// In front of nobody: each target is a port on which nobody listens.
    pub fn new() -> Self {
        let mut config = Config::parse_from(["gateway"]);
        config.service = service_args("gateway");
        let setup = Self { config };
        let targets = valerix_gateway::policy::TARGETS;
        targets.iter().fold(setup, |setup, (name, _)| {
            setup.target(name, SocketAddr::from(([127, 0, 0, 1], free_port())))
        })
    }

    pub fn target(mut self, name: &str, address: SocketAddr) -> Self {
        self.config.upstreams.retain(|(known, _)| known != name);
        let url = format!("http://{address}").parse().unwrap();
        self.config.upstreams.push((name.to_owned(), url));
        self
    }

    pub fn change(mut self, change: impl FnOnce(&mut Config)) -> Self {
        change(&mut self.config);
        self
    }

    /// With routes that let a body of `/large` be of any length, one of `/short` of 64 KiB, and let none stand still for more
    /// than a second; all of them lead to `target`.
    pub fn large_bodies(self, target: &str) -> Self {
        let url = self
            .config
            .upstreams
            .iter()
            .find(|(known, _)| known == target)
            .unwrap()
            .1
            .to_string();
        let route = |name: &str, most: u64| {
            json!({"name": name, "match": {"pathPrefix": format!("/{name}")}, "target": target,
                   "maxBodyBytes": most, "idleTimeout": "1s"})
        };
        let rest = json!({"name": "rest", "match": {"pathPrefix": "/"}, "target": target, "idleTimeout": "1s"});
        self.document(&json!({"version": 1, "targets": [{"name": target, "url": url}],
            "routes": [route("large", 1 << 30), route("short", 64 * 1024), rest]}))
    }

    /// With the routes of this file, whose targets are where it says.
    pub fn document(mut self, document: &Value) -> Self {
        self.config.upstreams.clear();
        let folder = self.config.service.state_dir.clone();
        std::fs::create_dir_all(&folder).unwrap();
        let file = folder.join("gateway.v1.json");
        std::fs::write(&file, document.to_string()).unwrap();
        self.change(|config| config.gateway_config = Some(file))
    }

    /// What is compiled in, with another policy of one target.
    pub fn target_policy(self, name: &str, change: impl FnOnce(&mut valerix_policy::Target)) -> Self {
        let mut policy = valerix_gateway::policy::compiled_in();
        change(policy.targets.iter_mut().find(|target| target.name == name).unwrap());
        std::fs::create_dir_all(&self.config.service.policy_dir).unwrap();
        let file = self.config.service.policy_dir.join(valerix_policy::POLICY_FILE);
        std::fs::write(file, policy.render()).unwrap();
        self
    }

    pub async fn bind(self) -> Server {
        build(self.config).await.unwrap()
    }

    pub async fn start(self) -> Gateway {
        let server = self.bind().await;
        let address = server.address();
        Gateway {
            server: TestServer::start(server).await,
            address,
        }
    }
}

/// A gateway that runs until this value is dropped.
pub struct Gateway {
    pub server: TestServer,
    pub address: SocketAddr,
}

impl Gateway {
    pub async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// What comes back for these bytes until the connection ends.
    pub async fn exchange(&self, bytes: &[u8]) -> String {
        let mut stream = self.connect().await;
        // A gateway that refuses may close before all was written.
        let _ = stream.write_all(bytes).await;
        let mut answer = Vec::new();
        let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await;
        let text = String::from_utf8_lossy(&answer).into_owned();
        assert!(read.is_ok(), "the connection stays open after: {text}");
        text
    }
}

/// A service of axum at a port of its own, until the test's runtime ends.
pub async fn serve(router: Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    address
}

/// A service that does with each connection what the test says.
pub async fn raw<F>(handle: impl Fn(TcpStream) -> F + Send + Sync + 'static) -> SocketAddr
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let handle = Arc::new(handle);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(handle(stream));
        }
    });
    address
}

/// Reads the head of a message, and nothing after it.
pub async fn read_head(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        match stream.read(&mut byte).await {
            Ok(1) => head.push(byte[0]),
            _ => break,
        }
    }
    String::from_utf8_lossy(&head).into_owned()
}

/// Bytes of memory that this process occupies.
pub fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: u64 = statm.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4_096
}
