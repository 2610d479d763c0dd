//! Who is measured: the guard, the gateway, and the proxies that people use in their place, each set up for speed in the
//! same role: connections to the backend stay open, nothing is written to a log.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode, get_current_timestamp};
use serde_json::{Value, json};
use valerix_resilience::policy::{
    Concurrency, LimitKey, LimitKeyType, LimitScope, POLICY_FILE, Policy, RateLimitRule, Target,
};

use super::subject::{Subject, ask, free, program, version};

pub type Started = Result<Subject, String>;

fn ours(variable: &str) -> Command {
    let program = std::env::var_os(variable).unwrap_or_else(|| panic!("{variable} must name the program"));
    let mut command = Command::new(program);
    command.env("RUST_LOG", "warn").env("LISTEN_ADDRESS", "127.0.0.1:0");
    command
}

/// Places a file in a folder, whole or not at all.
pub fn publish(folder: &Path, name: &str, text: &str) {
    std::fs::create_dir_all(folder).unwrap();
    std::fs::write(folder.join("new"), text).unwrap();
    std::fs::rename(folder.join("new"), folder.join(name)).unwrap();
}

/// A guard in front of the backend, and its report. `dead` is a target at which nobody listens.
pub struct Guard {
    pub subject: Subject,
    pub report: SocketAddr,
    pub dead: SocketAddr,
}

impl Guard {
    /// With this policy.
    pub async fn start(backend: SocketAddr, policy: &Policy) -> Self {
        let (port, dead, report, nobody) = (free(), free(), free(), free());
        let wiring = json!({
            "inbound": [{"name": "http", "protocol": "HTTP", "listen": port.port(), "forward": backend.port()}],
            "targets": [{"name": "dead", "protocol": "HTTP", "listen": dead.port(), "url": format!("http://{nobody}")}],
        });
        let mut command = ours("BENCH_GUARD");
        let policy = policy.render();
        let version = env!("CARGO_PKG_VERSION").to_owned();
        let subject = Subject::start("valerix", version, port, "/small", |folder| {
            publish(&folder.join("policy"), POLICY_FILE, &policy);
            command
                .env("VALERIX_GUARD", wiring.to_string())
                .env("VALERIX_REPORT_PORT", report.port().to_string())
                .env("VALERIX_POLICY_DIR", folder.join("policy"))
                .env("VALERIX_STATE_DIR", folder.join("state"));
            command
        })
        .await
        .unwrap();
        Self { subject, report, dead }
    }

    /// Puts a policy beside it, and does not wait.
    pub fn publish(&self, policy: &Policy) -> String {
        let text = policy.render();
        publish(&self.subject.file("policy"), POLICY_FILE, &text);
        valerix_resilience::policy::hash(text.as_bytes())
    }

    /// Its report.
    pub async fn said(&self) -> Value {
        let (_, heard) = ask(self.report, "/resilience").await;
        let body = heard.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        serde_json::from_str(body).unwrap_or_default()
    }
}

/// What an overloaded service declares: as many at once as the backend takes, and nobody waits for long.
pub fn bounded(at_once: usize) -> Policy {
    let mut policy = Policy::default();
    let max = u32::try_from(at_once).unwrap();
    policy.inbound.concurrency = Some(Concurrency {
        max,
        max_queue: max,
        ..Concurrency::default()
    });
    policy
}

/// The policy of the row "policy changed": its number differs in nothing that matters.
pub fn numbered(number: u64) -> Policy {
    let mut policy = Policy::default();
    let mut dead = Target::named("dead");
    dead.circuit_breaker.consecutive_failures = Some(1);
    dead.circuit_breaker.open_duration = "1m".parse().unwrap();
    dead.retry.max_attempts = 1;
    dead.bulkhead.max_concurrent = 100 + u32::try_from(number).unwrap();
    policy.targets.push(dead);
    policy
}

/// A gateway with `routes` in front of the backend; the first leads to `/small`. Tokens of [`Tokens`] are good.
pub async fn gateway(backend: SocketAddr, routes: &Value) -> Subject {
    let (port, report) = (free(), free());
    let mut policy = Policy::default();
    let mut target = Target::named("backend");
    target.circuit_breaker.consecutive_failures = Some(3);
    target.bulkhead.max_concurrent = 2_000;
    policy.targets.push(target);
    policy.inbound.rate_limit.rules.push(RateLimitRule {
        name: "small".to_owned(),
        scope: LimitScope::Replica,
        routes: vec!["GET /small".to_owned()],
        requests: 1_000_000,
        window: "10s".parse().unwrap(),
        burst: None,
        algorithm: None,
        key: Some(LimitKey {
            key_type: LimitKeyType::Claim,
            name: Some("sub".to_owned()),
        }),
    });
    let mut command = ours("BENCH_GATEWAY");
    let version = env!("CARGO_PKG_VERSION").to_owned();
    let text = document(backend, routes).to_string();
    Subject::start("valerix", version, port, "/large", |folder| {
        publish(&folder.join("policy"), POLICY_FILE, &policy.render());
        publish(folder, "gateway.v1.json", &text);
        command
            .env("LISTEN_ADDRESS", port.to_string())
            .env("GATEWAY_CONFIG", folder.join("gateway.v1.json"))
            .env("AUTH_URL", format!("http://{backend}"))
            .env("CALLER_KEYS", "order=a-key-of-which-nobody-makes-any-use")
            .env("VALERIX_REPORT_PORT", report.port().to_string())
            .env("VALERIX_POLICY_DIR", folder.join("policy"))
            .env("VALERIX_STATE_DIR", folder.join("state"));
        command
    })
    .await
    .unwrap()
}

/// The document of these routes.
pub fn document(backend: SocketAddr, routes: &Value) -> Value {
    json!({"version": 1, "targets": [{"name": "backend", "url": format!("http://{backend}")}], "routes": routes})
}

/// Two routes, one of which asks for a token.
pub fn two_routes() -> Value {
    json!([
        {"name": "small", "match": {"pathPrefix": "/small"}, "target": "backend", "auth": {"type": "Required"}},
        {"name": "large", "match": {"pathPrefix": "/large"}, "target": "backend"},
    ])
}

/// Five thousand routes more; the last has a prefix of its own.
pub fn many_routes(last: &str) -> Value {
    let mut routes = two_routes();
    let list = routes.as_array_mut().unwrap();
    let more = (0..4_997).map(|number| format!("/area-{}/things-{number}", number % 50));
    for (number, prefix) in more.chain([last.to_owned()]).enumerate() {
        list.push(json!({"name": format!("r{number}"), "match": {"pathPrefix": prefix}, "target": "backend"}));
    }
    routes
}

/// Tokens as auth makes them, by a key of this run.
pub struct Tokens {
    key: EncodingKey,
    /// What the backend serves to the gateway.
    pub keys: String,
}

impl Tokens {
    /// Makes a key.
    pub fn new() -> Self {
        // What stands before the 32 bytes of an Ed25519 key in PKCS#8.
        const PKCS8: [u8; 16] = [48, 46, 2, 1, 0, 48, 5, 6, 3, 43, 101, 112, 4, 34, 4, 32];
        let seed = PKCS8.into_iter().chain([7; 32]).collect::<Vec<u8>>();
        let key = EncodingKey::from_ed_der(&seed);
        let mut jwk = Jwk::from_encoding_key(&key, Algorithm::EdDSA).unwrap();
        jwk.common.key_id = Some("bench".to_owned());
        Self {
            key,
            keys: json!({"keys": [jwk]}).to_string(),
        }
    }

    /// The tokens of so many users.
    pub fn of_users(&self, count: u32) -> Vec<String> {
        let mut header = Header::new(Algorithm::EdDSA);
        header.kid = Some("bench".to_owned());
        let now = get_current_timestamp();
        let token = |user| {
            let id = format!("00000000-0000-4000-8000-{user:012}");
            let claims = json!({"sub": id, "roles": [], "sid": id, "iss": "valerix-auth", "aud": "shop", "iat": now, "exp": now + 3_600});
            encode(&header, &claims, &self.key).unwrap()
        };
        (0..count).map(token).collect()
    }
}

fn peer(name: &str) -> Result<std::path::PathBuf, String> {
    program(name).ok_or(format!("{name} was not found in PATH"))
}

/// nginx; `limited` with a limit for each client that nobody reaches.
pub async fn nginx(backend: SocketAddr, limited: bool) -> Started {
    let (program, address) = (peer("nginx")?, free());
    let (zone, limit) = if limited {
        (
            "limit_req_zone $binary_remote_addr zone=clients:1m rate=1000000r/s;",
            "limit_req zone=clients burst=1000000 nodelay;",
        )
    } else {
        ("", "")
    };
    let version = version(&program, "-v");
    Subject::start("nginx", version, address, "/small", |folder| {
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|kind| format!("{kind}_temp_path {}/{kind};", folder.display()))
            .concat();
        let text = format!(
            "daemon off; master_process off; pid {0}/pid; error_log stderr crit; events {{ worker_connections 8192; }}
             http {{ access_log off; keepalive_requests 1000000000; {temporary} {zone}
               upstream backend {{ server {backend}; keepalive 64; keepalive_requests 1000000000; }}
               server {{ listen {address}; location / {{ {limit} proxy_pass http://backend; proxy_http_version 1.1;
                 proxy_set_header Connection \"\"; proxy_set_header Host $host; }} }} }}",
            folder.display()
        );
        let file = folder.join("nginx.conf");
        std::fs::write(&file, text).unwrap();
        let mut command = Command::new(program);
        command
            .arg("-e")
            .arg("stderr")
            .arg("-p")
            .arg(folder)
            .arg("-c")
            .arg(file);
        command
    })
    .await
}

/// HAProxy, of one thread.
pub async fn haproxy(backend: SocketAddr) -> Started {
    let (program, address) = (peer("haproxy")?, free());
    let version = version(&program, "-v");
    Subject::start("HAProxy", version, address, "/small", |folder| {
        let text = format!(
            "global\n nbthread 1\n maxconn 8000\ndefaults\n mode http\n http-reuse always\n timeout connect 5s\n \
             timeout client 60s\n timeout server 60s\nfrontend edge\n bind {address}\n default_backend backend\n\
             backend backend\n server one {backend}\n"
        );
        let file = folder.join("haproxy.cfg");
        std::fs::write(&file, text).unwrap();
        let mut command = Command::new(program);
        command.arg("-q").arg("-f").arg(file);
        command
    })
    .await
}

/// Caddy.
pub async fn caddy(backend: SocketAddr) -> Started {
    let (program, address) = (peer("caddy")?, free());
    let version = version(&program, "version");
    Subject::start("Caddy", version, address, "/small", |folder| {
        let text = format!(
            "{{\n admin off\n auto_https off\n}}\nhttp://:{} {{\n reverse_proxy {backend}\n}}\n",
            address.port()
        );
        let file = folder.join("Caddyfile");
        std::fs::write(&file, text).unwrap();
        let mut command = Command::new(program);
        command.args(["run", "--adapter", "caddyfile", "--config"]).arg(file);
        command.env("GOMAXPROCS", "1").env("HOME", folder);
        command
    })
    .await
}

/// The Node stack: http-proxy alone, or with express, a token, a limit and a breaker before it.
pub async fn node(backend: SocketAddr, whole: bool) -> Started {
    let (program, address) = (peer("node")?, free());
    let built = std::env::var_os("BENCH_NODE").ok_or("npm did not install its packages: see the log of this step")?;
    let version = version(&program, "--version");
    Subject::start("Node", version, address, "/large", |_| {
        let mut command = Command::new(program);
        command
            .current_dir(built)
            .arg("main.js")
            .args([if whole { "stack" } else { "plain" }]);
        command
            .arg(address.port().to_string())
            .arg(backend.to_string())
            .env("NODE_ENV", "production");
        command
    })
    .await
}
