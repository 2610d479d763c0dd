//! The same saga in Node, its four processes.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use valerix_kit::testing::{TestDatabase, bus_args, free_port};

use super::shop::SERVICES;

/// The Node shop; ends with this value.
pub struct Node {
    processes: Vec<Child>,
    ports: BTreeMap<&'static str, u16>,
    _databases: Vec<TestDatabase>,
}

impl Node {
    /// Starts it and waits until it answers.
    ///
    /// # Errors
    /// In words, when there is none.
    pub async fn start() -> Result<Self, String> {
        let folder = std::env::var_os("BENCH_NODE_SHOP").map(PathBuf::from);
        let folder = folder.ok_or("the Node shop was not built; install Node 20 or newer with npm")?;
        let ports: BTreeMap<_, _> = SERVICES.iter().map(|name| (*name, free_port())).collect();
        let (bus, mut databases) = (bus_args(), Vec::new());
        let url = |name: &str| format!("http://127.0.0.1:{}", ports[name]);
        let mut processes = Vec::new();
        for name in SERVICES {
            let database = TestDatabase::create().await;
            let process = Command::new("node")
                .args(["main.js", name, &ports[name].to_string()])
                .current_dir(&folder)
                .env("NODE_ENV", "production")
                .env("DATABASE_URL", database.url())
                .env("REDIS_URL", bus.redis_url.expose())
                .env("REDIS_PREFIX", &bus.redis_prefix)
                .env("INVENTORY_URL", url("inventory"))
                .env("PAYMENT_URL", url("payment"))
                .env("PROCESSOR_URL", url("processor"))
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .spawn()
                .map_err(|error| format!("failed to start node: {error}"))?;
            processes.push(process);
            databases.push(database);
        }
        let node = Self {
            processes,
            ports,
            _databases: databases,
        };
        node.answers().await.map(|()| node)
    }

    async fn answers(&self) -> Result<(), String> {
        for port in self.ports.values() {
            let mut tries = 0;
            while tokio::net::TcpStream::connect(("127.0.0.1", *port)).await.is_err() {
                tries += 1;
                if tries > 400 {
                    return Err("the Node shop does not answer".to_owned());
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        Ok(())
    }

    /// Where orders are placed.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.ports["order"])
    }

    /// Its processes.
    pub fn pids(&self) -> Vec<u32> {
        self.processes.iter().map(Child::id).collect()
    }
}

/// What node says of its version.
pub fn version() -> String {
    let said = Command::new("node").arg("--version").output();
    let text = said.map(|output| {
        String::from_utf8_lossy(&output.stdout)
            .trim()
            .trim_start_matches('v')
            .to_owned()
    });
    text.unwrap_or_default()
}

impl Drop for Node {
    fn drop(&mut self) {
        for process in &mut self.processes {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}
