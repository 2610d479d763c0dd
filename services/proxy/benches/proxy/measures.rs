//! The rows.

use std::cell::Cell;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::time::sleep;

use super::backend::{AT_ONCE, LARGE};
use super::contenders::{
    Guard, Started, Tokens, bounded, caddy, document, gateway, haproxy, many_routes, nginx, node, numbered, publish,
    two_routes,
};
use super::load::{Client, Requests, closed, open};
use super::subject::{Subject, ask};
use valerix_resilience::policy::Policy;

/// How often contenders take turns within a round.
const TURNS: usize = 3;
const CLIENTS: usize = 32;
const IDLE: usize = 1_000;
/// A change that is not in force by then is lost.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is measured, and for how long.
pub struct Bench {
    backend: SocketAddr,
    tokens: Tokens,
    turn: Duration,
    changes: u64,
}

impl Bench {
    pub fn new(backend: SocketAddr, tokens: Tokens, quick: bool) -> Self {
        let (turn, changes) = if quick { (200, 10) } else { (1_500, 100) };
        let turn = Duration::from_millis(turn);
        Self {
            backend,
            tokens,
            turn,
            changes,
        }
    }

    /// Good answers for each second of CPU, of each contender that started, by turns.
    async fn per_cpu_second(&self, contenders: &[Started], requests: &Requests) -> Vec<Option<f64>> {
        let mut values = vec![Vec::new(); contenders.len()];
        for turn in 0..=TURNS {
            for place in 0..contenders.len() {
                let place = (place + turn) % contenders.len();
                let Ok(subject) = &contenders[place] else { continue };
                let before = subject.cpu();
                let done = closed(subject.address, requests, CLIENTS, self.turn).await;
                let cpu = (subject.cpu() - before).max(Duration::from_millis(10));
                assert!(
                    done.good > 0,
                    "{} answers nothing good: {} failed",
                    subject.name,
                    done.failed
                );
                // The first turn warms up.
                if turn > 0 {
                    values[place].push(done.good as f64 / cpu.as_secs_f64());
                }
            }
        }
        values.into_iter().map(median).collect()
    }

    /// Nothing on: what comes in goes out.
    pub async fn plain(&self, rows: &Rows) {
        let contenders = [
            Ok(Guard::start(self.backend, &Policy::default()).await.subject),
            nginx(self.backend, false).await,
            haproxy(self.backend).await,
            caddy(self.backend).await,
            node(self.backend, false).await,
        ];
        let names = ["valerix", "nginx", "HAProxy", "Caddy", "Node"];
        let values = self.per_cpu_second(&contenders, &Requests::get("/small")).await;
        rows.beside("plain proxy, 1 kB", "requests/CPU s", &names, &contenders, &values);
        rows.ratio("plain proxy, 1 kB: times nginx", ">= 0.8 x", values[0], values[1]);
        rows.ratio("plain proxy, 1 kB: times Caddy", ">= 1.2 x", values[0], values[3]);
        let values = self.per_cpu_second(&contenders, &Requests::get("/large")).await;
        let values: Vec<_> = values
            .iter()
            .map(|value| value.map(|value| value * (LARGE as f64 / 1048576.0)))
            .collect();
        rows.beside("plain proxy, 1 MiB", "MiB/CPU s", &names, &contenders, &values);
    }

    /// Route, token, limit and breaker.
    pub async fn edge(&self, rows: &Rows) {
        let contenders = [
            Ok(gateway(self.backend, &two_routes()).await),
            nginx(self.backend, true).await,
            node(self.backend, true).await,
        ];
        let names = ["valerix", "nginx", "Node"];
        let known = Requests::with_tokens("/small", &self.tokens.of_users(100));
        let values = self.per_cpu_second(&contenders, &known).await;
        rows.beside(
            "route, known token, limit, breaker",
            "requests/CPU s",
            &names,
            &contenders,
            &values,
        );
        rows.ratio("the same: times nginx with limit_req", ">= 0.6 x", values[0], values[1]);
        rows.ratio(
            "the same: times express, http-proxy, opossum",
            ">= 6 x",
            values[0],
            values[2],
        );
        // More than are remembered, so that each is verified anew.
        let cold = Requests::with_tokens("/small", &self.tokens.of_users(60_000));
        let values = self.per_cpu_second(&contenders[..1], &cold).await;
        rows.beside(
            "the same, a token that was never seen",
            "requests/CPU s",
            &names[..1],
            &contenders[..1],
            &values,
        );
    }

    /// What a request takes longer than without anybody between, at half of what the slowest of them can do.
    pub async fn latency(&self, rows: &Rows) {
        let guard = Guard::start(self.backend, &Policy::default()).await.subject;
        let contenders = [Ok(guard), nginx(self.backend, false).await, haproxy(self.backend).await];
        let names = ["valerix", "nginx", "HAProxy"];
        let requests = Requests::get("/small");
        let mut rate = f64::INFINITY;
        for subject in contenders.iter().flatten() {
            let most = closed(subject.address, &requests, CLIENTS, self.turn)
                .await
                .per_second();
            rate = rate.min(most / 2.0);
        }
        let (mut p50, mut p99) = (vec![Vec::new(); names.len()], vec![Vec::new(); names.len()]);
        let mut directly = Vec::new();
        for turn in 0..TURNS {
            let direct = open(self.backend, &requests, CLIENTS, rate, self.turn, false).await;
            directly.push(direct.quantile(0.5));
            for place in 0..names.len() {
                let place = (place + turn) % names.len();
                let Ok(subject) = &contenders[place] else { continue };
                let through = open(subject.address, &requests, CLIENTS, rate, self.turn, false).await;
                p50[place].push(through.quantile(0.5) - direct.quantile(0.5));
                p99[place].push(through.quantile(0.99) - direct.quantile(0.99));
            }
        }
        let directly = median(directly).unwrap_or(f64::NAN);
        eprintln!("{rate:.0} requests a second; without anybody between, half of them take {directly:.0} us");
        for (name, bound, values) in [("p50", "<= 40 us", p50), ("p99", "<= 200 us", p99)] {
            let values: Vec<_> = values.into_iter().map(median).collect();
            let row = format!("added at half load, {name}");
            rows.bounded(&row, "us", bound, &names, &contenders, &values);
        }
    }

    /// Resident memory.
    pub async fn memory(&self, rows: &Rows) {
        let contenders = [
            Ok(Guard::start(self.backend, &Policy::default()).await.subject),
            nginx(self.backend, false).await,
            haproxy(self.backend).await,
            caddy(self.backend).await,
        ];
        let names = ["valerix", "nginx", "HAProxy", "Caddy"];
        let resident = |contenders: &[Started]| -> Vec<_> {
            contenders
                .iter()
                .map(|contender| contender.as_ref().ok().map(Subject::resident))
                .collect()
        };
        rows.bounded(
            "memory of a guard at rest",
            "MiB",
            "<= 8 MiB",
            &names,
            &contenders,
            &resident(&contenders),
        );
        let edges = [Ok(gateway(self.backend, &two_routes()).await)];
        rows.bounded(
            "memory of a gateway at rest",
            "MiB",
            "<= 15 MiB",
            &names[..1],
            &edges,
            &resident(&edges),
        );
        let mut held = Vec::new();
        for contender in contenders.iter().flatten() {
            held.extend(begun(contender.address, "/small", true).await);
        }
        // Connections on which nothing has been for a while give back what they were served with, one beside another.
        sleep(Duration::from_secs(1)).await;
        let row = format!("memory of a guard, {IDLE} idle connections");
        rows.bounded(&row, "MiB", "<= 20 MiB", &names, &contenders, &resident(&contenders));
        drop(held);
        let mut held = Vec::new();
        for contender in edges.iter().flatten() {
            held.extend(begun(contender.address, "/large", false).await);
        }
        // What is on its way to readers that do not read comes to rest.
        sleep(Duration::from_secs(1)).await;
        let row = format!("memory of a gateway, {IDLE} readers that do not read 1 MiB");
        rows.beside(&row, "MiB", &names[..1], &edges, &resident(&edges));
    }

    /// Five times what the backend can do, by clients that do not wait for each other.
    pub async fn overload(&self, rows: &Rows) {
        let row = [
            "overload, 5x: of the peak",
            "overload, 5x: p99 of what is admitted, times that at the peak",
        ];
        let guard = Guard::start(self.backend, &bounded(AT_ONCE)).await.subject;
        let requests = Requests::get("/slow");
        let time = self.turn * 4;
        let peak = closed(guard.address, &requests, AT_ONCE, time).await;
        let rate = peak.per_second() * 5.0;
        let over = open(guard.address, &requests, 1_000, rate, time, true).await;
        let of_peak = over.per_second() / peak.per_second() * 100.0;
        rows.add(row[0], "%", ">= 80 %", of_peak);
        rows.add(row[1], "x", "<= 2 x", over.quantile(0.99) / peak.quantile(0.99));
        rows.add(
            "overload, 5x: neither answered nor refused",
            "requests",
            "<= 0 requests",
            over.failed as f64,
        );
    }

    /// New policies while requests run, and a circuit that is open stays open.
    pub async fn changed_policy(&self, rows: &Rows) {
        let guard = Guard::start(self.backend, &numbered(0)).await;
        ask(guard.dead, "/").await;
        let state = |report: &Value| report["circuitBreakers"][0]["state"].clone();
        let before = state(&guard.said().await);
        assert_eq!(
            before, "Open",
            "the target at which nobody listens has opened its circuit"
        );
        let finished = Cell::new(false);
        let changing = async {
            let mut slowest = 0.0_f64;
            for number in 1..=self.changes {
                let hash = guard.publish(&numbered(number));
                slowest = slowest.max(until(|| async { guard.said().await["policy"]["hash"] == hash.as_str() }).await);
            }
            slowest
        };
        let requests = Requests::get("/small");
        let load = async {
            let (mut failed, mut good) = (0, 0);
            loop {
                let done = closed(guard.subject.address, &requests, CLIENTS, Duration::from_millis(200)).await;
                (failed, good) = (failed + done.failed + done.refused, good + done.good);
                if finished.get() {
                    return (failed, good);
                }
            }
        };
        let changing = async {
            let slowest = changing.await;
            finished.set(true);
            slowest
        };
        let (slowest, (failed, good)) = tokio::join!(changing, load);
        assert!(good > 0, "there was load");
        let forgotten = if state(&guard.said().await) == before { 0.0 } else { 1.0 };
        let name = |what: &str| format!("policy changed {} times: {what}", self.changes);
        rows.add(&name("failed requests"), "requests", "<= 0 requests", failed as f64);
        rows.add(&name("the slowest, until it is in force"), "ms", "<= 100 ms", slowest);
        rows.add(
            &name("open circuits that were forgotten"),
            "circuits",
            "<= 0 circuits",
            forgotten,
        );
    }

    /// A table of five thousand routes.
    pub async fn many_routes(&self, rows: &Rows) {
        let edge = gateway(self.backend, &many_routes("/last")).await;
        let mut slowest = 0.0_f64;
        for number in 0..self.changes.min(20) {
            let last = format!("/last-{number}");
            let text = document(self.backend, &many_routes(&last)).to_string();
            publish(&edge.file(""), "gateway.v1.json", &text);
            slowest = slowest.max(until(|| async { ask(edge.address, &last).await.0 == 200 }).await);
        }
        rows.add("5,000 routes: memory", "MiB", "<= 40 MiB", edge.resident());
        rows.add(
            "5,000 routes: the slowest change, until it is in force",
            "ms",
            "<= 50 ms",
            slowest,
        );
        let contenders = [Ok(edge)];
        let requests = Requests::get("/area-7/things-4957/42");
        let values = self.per_cpu_second(&contenders, &requests).await;
        rows.beside(
            "5,000 routes: a request by one of them",
            "requests/CPU s",
            &["valerix"],
            &contenders,
            &values,
        );
    }
}

/// Milliseconds until something is so.
async fn until<F: Future<Output = bool>>(mut so: impl FnMut() -> F) -> f64 {
    let began = Instant::now();
    while !so().await {
        assert!(began.elapsed() < PATIENCE, "a change does not come into force");
        sleep(Duration::from_millis(1)).await;
    }
    began.elapsed().as_secs_f64() * 1e3
}

/// Connections on each of which one request was asked, and of its answer all or only the head was read.
async fn begun(address: SocketAddr, path: &str, whole: bool) -> Vec<Client> {
    let mut clients = Vec::new();
    let request = format!("GET {path} HTTP/1.1\r\nHost: shop\r\n\r\n");
    for _ in 0..IDLE {
        let mut client = Client::new(address);
        let status = if whole {
            client.ask(request.as_bytes()).await
        } else {
            client.begin(request.as_bytes()).await
        };
        assert_eq!(status.unwrap(), 200, "{path}");
        clients.push(client);
    }
    clients
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

/// Where rows go: to standard output, each as soon as it is there.
pub struct Rows;

impl Rows {
    fn add(&self, row: &str, unit: &str, bound: &str, ours: f64) {
        self.line(row, unit, bound, Some(ours), Vec::new());
    }

    fn line(&self, row: &str, unit: &str, bound: &str, ours: Option<f64>, peers: Vec<Value>) {
        let ours = ours.map(|value| json!({"min": value, "median": value, "max": value}));
        let line = json!({"suite": "proxy", "row": row, "unit": unit, "ours": ours, "peers": peers, "bound": bound});
        println!("{line}");
    }

    fn beside(&self, row: &str, unit: &str, names: &[&str], contenders: &[Started], values: &[Option<f64>]) {
        self.bounded(row, unit, "", names, contenders, values);
    }

    /// The first contender is ours.
    fn bounded(
        &self,
        row: &str,
        unit: &str,
        bound: &str,
        names: &[&str],
        contenders: &[Started],
        values: &[Option<f64>],
    ) {
        let value = |place: usize| values.get(place).copied().flatten();
        let peers = (0..contenders.len()).filter_map(|place| match (&contenders[place], value(place)) {
            (Ok(subject), Some(value)) if place > 0 => Some(
                json!({"name": subject.name, "version": subject.version, "min": value, "median": value, "max": value}),
            ),
            (Ok(_), _) => None,
            (Err(reason), _) => Some(json!({"name": names[place], "version": "", "missing": reason})),
        });
        let peers = peers.collect();
        self.line(row, unit, bound, value(0), peers);
    }

    fn ratio(&self, row: &str, bound: &str, ours: Option<f64>, peer: Option<f64>) {
        let ratio = ours.zip(peer).map(|(ours, peer)| ours / peer);
        self.line(row, "x", bound, ratio, Vec::new());
    }
}
