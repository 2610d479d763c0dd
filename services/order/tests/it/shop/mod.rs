//! A whole shop: four processes, four databases, one Redis prefix; and the sums that must come out right. Where a test asks
//! for it, the gateway and who else hears of orders stand around them.
//!
//! Each service is this test binary started again (see [`service_process`]), so that `kill -9` means what it says.

mod client;
mod databases;
mod oracles;
mod policies;
mod wire;

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use clap::Parser;
use serde_json::{Value, json};
use sqlx::PgPool;
use valerix_kit::args::BusArgs;
use valerix_kit::service::launch;
use valerix_kit::testing::{TestDatabase, bus_args, free_port};

pub use client::Told;
pub use oracles::{Acknowledged, History, lasting};
pub use policies::{hasty_payment_policy, order_policy};
pub use wire::{Fault, Moment, Pid, Trap, Wire};

pub const SERVICES: [&str; 4] = ["processor", "inventory", "payment", "order"];
/// What [`Shop::surround`] adds: who stands in front of them, and who hears what became of orders.
pub const AROUND: [&str; 3] = ["notification", "analytics", "gateway"];
/// Which part of the shop a process is, if it is one.
pub const ROLE: &str = "VALERIX_TEST_ROLE";
pub const PRICE: i64 = 49_900;
/// How long the shop may need for anything.
pub const LONGEST: Duration = Duration::from_secs(60);
/// What every service is told and none may say.
const SECRETS: [&str; 2] = ["password-of-a-server", "key-of-a-pair-of-services-0123456789"];

/// Not a test when the whole suite runs: it is what [`Shop::start`] runs in a process of its own.
#[test]
fn service_process() {
    if let Ok(role) = std::env::var(ROLE) {
        run_as(&role);
    }
}

/// Is a service, until it is ended.
pub fn run_as(role: &str) {
    // Ends with the process that started it, however that one ends.
    std::thread::spawn(|| {
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        std::process::abort();
    });
    /// Each role is a crate whose configuration is that of a service.
    macro_rules! roles {
        ($($role:literal is $service:ident),+ $(,)?) => {
            match role {
                $($role => {
                    let config = $service::config::Config::parse_from([$role]);
                    launch(&config.service.clone(), || $service::startup::build(config))
                })+
                other => panic!("there is no role {other}"),
            }
        };
    }
    roles! {
        "order" is valerix_order,
        "inventory" is valerix_inventory,
        "payment" is valerix_payment,
        "processor" is valerix_processor,
        "notification" is valerix_notification,
        "analytics" is valerix_analytics,
        "gateway" is valerix_gateway,
    }
    .unwrap();
}

struct Part {
    /// This program, unless it is named.
    program: Option<PathBuf>,
    port: u16,
    database: Arc<TestDatabase>,
    environment: BTreeMap<String, String>,
    process: Option<Child>,
    pid: Pid,
    wires: Vec<Arc<Wire>>,
}

impl Part {
    /// What a service called `name` is told, with a database of its own.
    async fn new(name: &str, folder: &Path, bus: &BusArgs) -> Self {
        let database = Arc::new(TestDatabase::create().await);
        let (port, report) = (free_port(), free_port());
        let path = |kind: &str| folder.join(name).join(kind);
        std::fs::create_dir_all(path("policy")).unwrap();
        std::fs::create_dir_all(path("state")).unwrap();
        let mut environment = BTreeMap::new();
        let mut set = |variable: &str, value: String| environment.insert(variable.to_owned(), value);
        set(ROLE, name.to_owned());
        set("LISTEN_ADDRESS", format!("127.0.0.1:{port}"));
        set("VALERIX_REPORT_PORT", report.to_string());
        set("VALERIX_SERVICE", name.to_owned());
        set("VALERIX_NAMESPACE", "shop".to_owned());
        set("VALERIX_POD_UID", format!("uid-{name}"));
        set("POD_NAME", format!("{name}-0"));
        set("VALERIX_POLICY_DIR", path("policy").display().to_string());
        set("VALERIX_STATE_DIR", path("state").display().to_string());
        set("DATABASE_URL", with_password(&database.url(), "postgres"));
        set("REDIS_URL", with_password(bus.redis_url.expose(), "default"));
        set("REDIS_PREFIX", bus.redis_prefix.clone());
        set("LOG_FORMAT", "text".to_owned());
        set("RUST_LOG", "info".to_owned());
        set("DRAIN_WAIT", "0ms".to_owned());
        Self {
            program: None,
            port,
            database,
            environment,
            process: None,
            pid: Pid::default(),
            wires: vec![],
        }
    }
}

/// The shop.
pub struct Shop {
    pub http: reqwest::Client,
    pub folder: tempfile::TempDir,
    /// How long a client waits for an answer.
    pub patience: Duration,
    parts: BTreeMap<&'static str, Part>,
    bus: BusArgs,
    /// Whose database came back from an archive.
    restored: OnceLock<&'static str>,
}

impl Shop {
    /// A shop with `stock` pieces of `ps5` and some of `switch`; `settings` are (service, variable, value).
    pub async fn start(stock: u32, settings: &[(&'static str, &str, &str)]) -> Self {
        let mut shop = Self::closed(stock, settings).await;
        shop.open().await;
        shop
    }

    /// The same before any process runs: replicas, wires and settings may follow, then [`open`](Self::open).
    pub async fn closed(stock: u32, settings: &[(&'static str, &str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let bus = bus_args();
        let mut parts = BTreeMap::new();
        for name in SERVICES {
            parts.insert(name, Part::new(name, folder.path(), &bus).await);
        }
        let mut shop = Self {
            http: reqwest::Client::new(),
            folder,
            patience: Duration::from_secs(10),
            parts,
            bus,
            restored: OnceLock::new(),
        };
        let items = json!([
            {"id": "ps5", "quantity": stock, "unitPriceMinor": PRICE, "currency": "EUR"},
            {"id": "switch", "quantity": 1000, "unitPriceMinor": 1, "currency": "EUR"},
        ]);
        shop.set("inventory", "INVENTORY_ITEMS", &items.to_string());
        for (service, variable) in [("inventory", "INVENTORY_URL"), ("payment", "PAYMENT_URL")] {
            let url = shop.url(service);
            shop.set("order", variable, &url);
        }
        let processor = shop.url("processor");
        shop.set("payment", "PROCESSOR_URL", &processor);
        for (service, variable, value) in settings {
            shop.set(service, variable, value);
        }
        let [_, key] = SECRETS;
        shop.set("order", "CALL_KEYS", &format!("inventory={key},payment={key}"));
        shop.set("inventory", "CALLER_KEYS", &format!("order={key}"));
        shop.set("payment", "CALLER_KEYS", &format!("order={key}"));
        shop.policy("order", &order_policy());
        shop.policy("payment", &policies::payment_policy());
        shop.policy("inventory", &json!({"version": 1, "chaos": {"admission": "Allowed"}}));
        shop
    }

    /// With [`AROUND`] beside them; before [`open`](Self::open), and before a variable of theirs is set.
    pub async fn surround(&mut self) {
        for name in AROUND {
            let part = Part::new(name, self.folder.path(), &self.bus).await;
            self.parts.insert(name, part);
        }
        let order = self.url("order");
        self.set("gateway", "UPSTREAMS", &format!("order={order}"));
    }

    /// One more process called `name` of a service, on the same database and with the same documents; not started yet.
    pub fn replica(&mut self, service: &str, name: &'static str) {
        let (port, report) = (free_port(), free_port());
        let part = &self.parts[service];
        let (database, mut environment) = (Arc::clone(&part.database), part.environment.clone());
        let state = self.folder.path().join(name);
        std::fs::create_dir_all(&state).unwrap();
        for (variable, value) in [
            ("LISTEN_ADDRESS", format!("127.0.0.1:{port}")),
            ("VALERIX_REPORT_PORT", report.to_string()),
            ("VALERIX_POD_UID", format!("uid-{name}")),
            ("POD_NAME", name.to_owned()),
            ("VALERIX_STATE_DIR", state.display().to_string()),
        ] {
            environment.insert(variable.to_owned(), value);
        }
        let part = Part {
            program: None,
            port,
            database,
            environment,
            process: None,
            pid: Pid::default(),
            wires: vec![],
        };
        self.parts.insert(name, part);
    }

    /// Starts every process, and returns when all are ready.
    pub async fn open(&mut self) {
        let names: Vec<_> = self.parts.keys().copied().collect();
        for name in names {
            self.spawn(name);
        }
        self.all_ready().await;
    }

    /// Returns when every process is ready.
    pub async fn all_ready(&self) {
        for name in self.parts.keys() {
            self.ready(name).await;
        }
    }

    /// Puts a [`Wire`] between each process and everything that it calls; counts from its next start.
    pub async fn interpose(&mut self) {
        for part in self.parts.values_mut() {
            for variable in [
                "DATABASE_URL",
                "REDIS_URL",
                "INVENTORY_URL",
                "PAYMENT_URL",
                "PROCESSOR_URL",
            ] {
                let Some(target) = part.environment.get_mut(variable) else {
                    continue;
                };
                let mut url = reqwest::Url::parse(target).unwrap();
                let address = (url.host_str().unwrap().to_owned(), url.port_or_known_default().unwrap());
                let wire = Wire::start(variable, address, Arc::clone(&part.pid)).await;
                url.set_host(Some("127.0.0.1")).unwrap();
                url.set_port(Some(wire.port())).unwrap();
                *target = url.as_str().trim_end_matches('/').to_owned();
                part.wires.push(wire);
            }
        }
    }

    /// What stands between a process and what it calls.
    pub fn wires(&self, process: &str) -> &[Arc<Wire>] {
        &self.parts[process].wires
    }

    /// `kill -9` and a new start.
    pub async fn restart(&mut self, service: &'static str) {
        self.again(service);
        self.ready(service).await;
    }

    /// The same without waiting until it is ready.
    pub fn again(&mut self, service: &'static str) {
        self.kill(service);
        self.spawn(service);
    }

    /// A variable of a service; counts from its next start.
    pub fn set(&mut self, service: &str, variable: &str, value: &str) {
        self.part(service)
            .environment
            .insert(variable.to_owned(), value.to_owned());
    }

    /// From its next start on a process is a service of another build of these tests; `None`: of this one.
    pub fn runs(&mut self, process: &str, program: Option<&Path>) {
        self.part(process).program = program.map(Path::to_owned);
    }

    /// Writes a document of a service as the kubelet would find it.
    pub fn policy(&self, service: &str, policy: &Value) {
        self.document(service, "policy.v1.json", policy);
    }

    pub fn document(&self, service: &str, name: &str, document: &Value) {
        let folder = self.folder.path().join(service).join("policy");
        let new = folder.join(format!(".{name}.new"));
        std::fs::write(&new, document.to_string()).unwrap();
        std::fs::rename(new, folder.join(name)).unwrap();
    }

    fn part(&mut self, service: &str) -> &mut Part {
        self.parts.get_mut(service).unwrap()
    }

    pub fn url(&self, service: &str) -> String {
        format!("http://127.0.0.1:{}", self.parts[service].port)
    }

    /// A pool beside the service's own.
    pub async fn pool(&self, service: &str) -> PgPool {
        self.parts[service].database.pool().await
    }

    pub fn log(&self, service: &str) -> PathBuf {
        self.folder.path().join(format!("{service}.log"))
    }

    pub fn spawn(&mut self, service: &'static str) {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.log(service))
            .unwrap();
        let part = self.part(service);
        let program = part.program.clone();
        let process = Command::new(program.unwrap_or_else(|| std::env::current_exe().unwrap()))
            .args(["shop::service_process", "--exact", "--nocapture"])
            .envs(&part.environment)
            .stdin(Stdio::piped())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        part.pid.store(process.id(), Ordering::SeqCst);
        part.process = Some(process);
    }

    /// `kill -9`.
    pub fn kill(&mut self, service: &str) {
        let mut process = self.part(service).process.take().unwrap();
        process.kill().unwrap();
        process.wait().unwrap();
    }

    /// The process of a service.
    pub fn pid(&self, service: &str) -> u32 {
        self.parts[service].pid.load(Ordering::SeqCst)
    }

    /// A signal to a service, as `kill` spells it.
    pub fn signal(&self, service: &str, name: &str) {
        wire::signal(self.pid(service), name);
    }

    /// The key of a topic's stream in Redis.
    pub fn stream(&self, topic: &str) -> String {
        format!("{}{topic}", self.parts["order"].environment["REDIS_PREFIX"])
    }

    pub async fn ready(&self, service: &str) {
        let url = format!("{}/ready", self.url(service));
        self.until(&format!("{service} is ready"), || async {
            self.http
                .get(&url)
                .send()
                .await
                .is_ok_and(|answer| answer.status().is_success())
                .then_some(())
        })
        .await;
    }

    /// Tells the end of every log, and fails.
    pub fn give_up(&self, what: &str) -> ! {
        for service in self.parts.keys() {
            let log = std::fs::read_to_string(self.log(service)).unwrap_or_default();
            let tail = log.lines().rev().take(40).collect::<Vec<_>>();
            eprintln!(
                "--- {service}\n{}",
                tail.into_iter().rev().collect::<Vec<_>>().join("\n")
            );
        }
        panic!("waited in vain until {what}");
    }

    /// Asks until `probe` gives a value; a minute is the longest that the shop may need for anything.
    pub async fn until<T, F: Future<Output = Option<T>>>(&self, what: &str, mut probe: impl FnMut() -> F) -> T {
        let begun = Instant::now();
        loop {
            if let Some(value) = probe().await {
                return value;
            }
            if begun.elapsed() > LONGEST {
                self.give_up(what);
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
    }
}

/// Servers of tests trust everybody, whatever the password.
pub fn with_password(url: &str, user: &str) -> String {
    let mut url = reqwest::Url::parse(url).unwrap();
    if url.password().is_none() {
        url.set_username(user).unwrap();
        url.set_password(Some(SECRETS[0])).unwrap();
    }
    url.into()
}

impl Drop for Shop {
    fn drop(&mut self) {
        for part in self.parts.values_mut() {
            if let Some(mut process) = part.process.take() {
                let _ = process.kill();
                let _ = process.wait();
            }
        }
    }
}
