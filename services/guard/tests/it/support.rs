//! A guard whose application and targets are what a test makes of them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use axum::Router;
use chrono::{TimeDelta, Utc};
use clap::Parser;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use valerix_guard::config::Config;
use valerix_guard::startup::Guard;
use valerix_kit::testing::service_args;
use valerix_policy::guard::{ForwardProxy, InboundListener, Protocol, TargetListener, UnknownHosts};
use valerix_policy::{Admission, FAULTS_FILE, Fault, FaultEntry, Faults, POLICY_FILE, Policy, Target};
use valerix_resilience::Resilience;

/// More than anything in a test takes that works.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// A guard under construction.
pub struct Setup {
    config: Config,
    policy: Policy,
}

impl Setup {
    /// Of no ports, which obeys faults.
    pub fn new() -> Self {
        let mut config = Config::parse_from(["guard"]);
        config.service = service_args("shop-web");
        config.service.pod_uid = "uid-1".to_owned();
        let mut policy = Policy::default();
        policy.chaos.admission = Admission::Allowed;
        Self { config, policy }
    }

    /// With an inbound port for the application at `address`, called by its protocol.
    pub fn inbound(mut self, name: &str, protocol: Protocol, address: SocketAddr) -> Self {
        self.config.wiring.inbound.push(InboundListener {
            name: name.to_owned(),
            protocol,
            listen: 0,
            forward: address.port(),
        });
        self
    }

    /// With a listener for a target at `url`.
    pub fn target(mut self, name: &str, protocol: Protocol, url: &str) -> Self {
        self.config.wiring.targets.push(TargetListener {
            name: name.to_owned(),
            protocol,
            listen: 0,
            url: Some(url.to_owned()),
            authorities: None,
            server_name: None,
        });
        self.policy.targets.push(Target::named(name));
        self
    }

    /// The listener of the target that was named last.
    pub fn of_listener(mut self, change: impl FnOnce(&mut TargetListener)) -> Self {
        change(self.config.wiring.targets.last_mut().unwrap());
        self
    }

    pub fn forward_proxy(mut self, unknown_hosts: UnknownHosts) -> Self {
        self.config.wiring.forward_proxy = Some(ForwardProxy {
            listen: 0,
            unknown_hosts,
        });
        self
    }

    pub fn change(mut self, change: impl FnOnce(&mut Config)) -> Self {
        change(&mut self.config);
        self
    }

    pub fn policy(mut self, change: impl FnOnce(&mut Policy)) -> Self {
        change(&mut self.policy);
        self
    }

    /// The policy of the target that was named last.
    pub fn of_target(self, change: impl FnOnce(&mut Target)) -> Self {
        self.policy(|policy| change(policy.targets.last_mut().unwrap()))
    }

    pub async fn start(self) -> Running {
        let Self { config, policy } = self;
        let folder = config.service.policy_dir.clone();
        std::fs::create_dir_all(&folder).unwrap();
        publish(&folder, POLICY_FILE, &policy.render());
        let names = |names: Vec<&String>| names.into_iter().cloned().collect::<Vec<_>>();
        let inbound = names(config.wiring.inbound.iter().map(|port| &port.name).collect());
        let targets = names(config.wiring.targets.iter().map(|port| &port.name).collect());
        let guard = Guard::build(config).await.unwrap();
        let stop = CancellationToken::new();
        Running {
            inbound: inbound
                .into_iter()
                .map(|name| (name.clone(), guard.inbound_address(&name).unwrap()))
                .collect(),
            targets: targets
                .into_iter()
                .map(|name| (name.clone(), guard.target_address(&name).unwrap()))
                .collect(),
            proxy: guard.forward_proxy_address(),
            report: guard.report_address(),
            resilience: guard.resilience().clone(),
            stop: stop.clone(),
            ended: tokio::spawn(guard.run(stop)),
            folder,
            policy,
        }
    }
}

/// A guard that runs until this value is dropped.
pub struct Running {
    pub inbound: BTreeMap<String, SocketAddr>,
    pub targets: BTreeMap<String, SocketAddr>,
    pub proxy: Option<SocketAddr>,
    pub report: SocketAddr,
    pub resilience: Resilience,
    pub stop: CancellationToken,
    pub ended: JoinHandle<()>,
    folder: std::path::PathBuf,
    policy: Policy,
}

impl Running {
    /// The one inbound port, as a URL without a path.
    pub fn base(&self) -> String {
        format!("http://{}", self.inbound.values().next().unwrap())
    }

    /// The one target, as a URL without a path.
    pub fn target(&self) -> String {
        format!("http://{}", self.targets.values().next().unwrap())
    }

    pub async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.inbound.values().next().unwrap()).await.unwrap()
    }

    pub async fn connect_target(&self) -> TcpStream {
        TcpStream::connect(self.targets.values().next().unwrap()).await.unwrap()
    }

    pub async fn report(&self) -> Value {
        let url = format!("http://{}/resilience", self.report);
        reqwest::get(url).await.unwrap().json().await.unwrap()
    }

    /// Changes the policy and waits until it is in force.
    pub async fn change(&mut self, change: impl FnOnce(&mut Policy)) {
        change(&mut self.policy);
        publish(&self.folder, POLICY_FILE, &self.policy.render());
        let wanted = self.policy.clone();
        eventually("the policy is in force", || async {
            (self.resilience.policy() == wanted).then_some(())
        })
        .await;
    }

    /// Asks for a fault and waits until the report confirms it.
    pub async fn fault(&self, fault: Fault) {
        let now = Utc::now();
        let entry = FaultEntry {
            run: "run".to_owned(),
            fault,
            pod_uids: vec!["uid-1".to_owned()],
            duration: "1m".parse().unwrap(),
            not_after: now + TimeDelta::seconds(60),
            intent_at: now,
            spared_paths: Vec::new(),
        };
        let document = Faults {
            faults: vec![entry],
            ..Faults::default()
        };
        publish(&self.folder, FAULTS_FILE, &document.render());
        eventually("the fault is active", || async {
            (self.report().await["faults"][0]["state"] == "Active").then_some(())
        })
        .await;
    }

    /// Takes every fault out again and waits until the report says so.
    pub async fn no_fault(&self) {
        publish(&self.folder, FAULTS_FILE, &Faults::default().render());
        eventually("the fault is gone", || async {
            (self.report().await["faults"] == serde_json::json!([])).then_some(())
        })
        .await;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

pub use valerix_kit::testing::eventually;
pub use valerix_proxy::testing::{raw, read_head, resident};

fn publish(folder: &Path, name: &str, text: &str) {
    std::fs::write(folder.join("new"), text).unwrap();
    std::fs::rename(folder.join("new"), folder.join(name)).unwrap();
}

/// A service of axum, by HTTP/1.1 and HTTP/2, at a port of its own until the test's runtime ends.
pub async fn serve(router: Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    serve_on(listener, router)
}

pub fn serve_on(listener: TcpListener, router: Router) -> SocketAddr {
    let address = listener.local_addr().unwrap();
    let limits = service_args("test").limits();
    tokio::spawn(valerix_kit::server::serve(
        listener,
        router,
        limits,
        CancellationToken::new(),
    ));
    address
}

/// A service that says back what it hears.
pub async fn echo() -> SocketAddr {
    raw(|mut stream| async move {
        let (mut read, mut write) = stream.split();
        let _ = tokio::io::copy(&mut read, &mut write).await;
    })
    .await
}

/// An address at which nobody listens.
pub fn nobody() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], valerix_kit::testing::free_port()))
}

/// Says `text` and hears as much back.
pub async fn say(stream: &mut TcpStream, text: &str) -> std::io::Result<String> {
    stream.write_all(text.as_bytes()).await?;
    let mut heard = vec![0; text.len()];
    tokio::time::timeout(PATIENCE, stream.read_exact(&mut heard)).await??;
    Ok(String::from_utf8_lossy(&heard).into_owned())
}

/// Returns once the other end has closed or reset the connection; what it sent before.
pub async fn closed(stream: &mut TcpStream) -> String {
    let mut rest = Vec::new();
    let end = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut rest)).await;
    assert!(end.is_ok(), "the connection stays open");
    String::from_utf8_lossy(&rest).into_owned()
}
