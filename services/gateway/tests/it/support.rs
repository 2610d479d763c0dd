//! A gateway whose targets are what a test makes of them.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use axum::Router;
use clap::Parser;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use valerix_gateway::config::Config;
use valerix_gateway::startup::build;
use valerix_kit::service::Server;
use valerix_kit::testing::{TestServer, free_port, service_args};
use valerix_proxy::testing::exchange;
pub use valerix_proxy::testing::{raw, read_head};

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
    pub fn document(self, document: &Value) -> Self {
        let folder = self.config.service.state_dir.clone();
        std::fs::create_dir_all(&folder).unwrap();
        let file = folder.join("gateway.v1.json");
        std::fs::write(&file, document.to_string()).unwrap();
        self.following(&file)
    }

    /// With the routes of this file, whatever it says by then.
    pub fn following(mut self, file: &Path) -> Self {
        self.config.upstreams.clear();
        self.config.gateway_config = Some(file.to_owned());
        self
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
        exchange(self.address, bytes).await
    }
}

/// A service of axum at a port of its own, until the test's runtime ends.
pub async fn serve(router: Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    address
}
