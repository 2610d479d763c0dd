//! The operator's own program beside two others that do the same work: one on Go's controller-runtime, and one on kube as
//! its examples are written. Each is a process of its own that finds an API server in memory, by plain HTTP on loopback,
//! at its KUBECONFIG. They take turns, and each finds a new server with the same services. Kubernetes' part is played
//! here: pods are ready as soon as there is a Deployment.
//!
//! `valerix-bench` builds the programs and says where they are; without the operator's nothing is measured.

use super::*;
use crate::runtime::drift::project;
use std::{
    collections::HashSet,
    fs::{self, File},
    path::{Path, PathBuf},
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};
use tokio::{process::Command, time::timeout};
use valerix_crds::names::RUNTIME_KEY;

/// Beside which the bounds are.
const GO: &str = "controller-runtime";
/// Each with the variable that says where its program is, and why there may be none. Ours is the first.
const CONTENDERS: [(&str, &str, &str); 3] = [
    ("valerix", "BENCH_OPERATOR", ""),
    (
        GO,
        "BENCH_GO_OPERATOR",
        "the Go operator was not built; install Go: https://go.dev/dl",
    ),
    ("kube, naive", "BENCH_NAIVE_OPERATOR", "it was not built"),
];
/// A program that is not done by then is not measured.
const LONGEST: Duration = Duration::from_secs(300);
/// Whoever has changed nothing for so long has done its work. Longer than ours puts a status off.
const REST: Duration = Duration::from_secs(3);

/// A program.
struct Contender {
    name: &'static str,
    version: String,
    program: Result<PathBuf, String>,
}

/// What a cold start took.
#[derive(Clone, Copy)]
struct Costs {
    /// From the start of the process until the last service says that it is Ready. Unit: seconds.
    wall: f64,
    /// Until nothing is left to do. Unit: seconds.
    cpu: f64,
    /// The most that was resident. Unit: MB.
    memory: f64,
    /// Of each service, without Leases and events.
    writes: f64,
}

/// What is compared: the figure, its bound for ours, and how many times ours the Go operator's has to be.
struct Measure {
    what: &'static str,
    unit: &'static str,
    of: fn(&Costs) -> f64,
    most: fn(f64) -> Option<f64>,
    least_ratio: Option<f64>,
}

const MEASURES: [Measure; 4] = [
    Measure {
        what: "cold start until all are Ready",
        unit: "s",
        of: |costs| costs.wall,
        most: |_| None,
        least_ratio: Some(1.0),
    },
    Measure {
        what: "cold start, CPU",
        unit: "s",
        of: |costs| costs.cpu,
        most: |_| None,
        least_ratio: Some(3.0),
    },
    Measure {
        what: "cold start, most memory",
        unit: "MB",
        of: |costs| costs.memory,
        most: |services| Some(15.0 + 0.004 * services),
        least_ratio: Some(3.0),
    },
    Measure {
        what: "cold start, writes",
        unit: "writes/service",
        of: |costs| costs.writes,
        most: |_| None,
        least_ratio: None,
    },
];

/// One line a row, for so many services and, where figures matter, for five times as many.
pub async fn rows(objects: usize) -> Vec<Value> {
    let contenders = CONTENDERS.map(|(name, variable, missing)| Contender::find(name, variable, missing));
    if contenders[0].program.is_err() {
        return Vec::new();
    }
    let mut sizes = vec![objects];
    if env::var_os("BENCH_QUICK").is_none() {
        sizes.push(5 * objects);
    }
    // In another order each round, so that nobody has the quiet moments.
    let mut turns: Vec<usize> = (0..contenders.len()).collect();
    let moved = usize::try_from(number("BENCH_ROUND", 0)).unwrap() % turns.len();
    turns.rotate_left(moved);
    let mut rows = Vec::new();
    for size in sizes {
        let mut costs = contenders.each_ref().map(|_| Err(String::new()));
        for turn in &turns {
            costs[*turn] = contenders[*turn].cold_start(size).await;
        }
        rows.extend(
            MEASURES
                .iter()
                .flat_map(|measure| measure.rows(size, &contenders, &costs)),
        );
    }
    rows
}

impl Measure {
    /// The figures, and what those of the Go operator are to ours.
    fn rows(&self, size: usize, contenders: &[Contender], costs: &[Result<Costs, String>]) -> Vec<Value> {
        let name = format!("program, {} services: {}", thousands(size), self.what);
        let figures: Vec<_> = costs.iter().map(|costs| costs.as_ref().map(self.of)).collect();
        if let Err(reason) = &figures[0] {
            eprintln!("{name}: {reason}");
        }
        let peers: Vec<Value> = contenders
            .iter()
            .zip(&figures)
            .skip(1)
            .map(|(Contender { name, version, .. }, figure)| match figure {
                Ok(figure) => json!({"name": name, "version": version, "median": figure}),
                Err(reason) => json!({"name": name, "version": version, "missing": reason}),
            })
            .collect();
        let bound = (self.most)(count(size)).map(|most| format!("<= {most} {}", self.unit));
        let row = json!({"row": name, "unit": self.unit, "ours": median(figures[0].as_ref().ok().copied()),
            "peers": peers, "bound": bound});
        let Some(least) = self.least_ratio else {
            return vec![row];
        };
        let go = contenders.iter().position(|contender| contender.name == GO);
        let go = go.and_then(|place| figures[place].as_ref().ok());
        let ratio = go.zip(figures[0].as_ref().ok()).map(|(go, ours)| go / ours);
        let ratio = json!({"row": format!("{name}: that of {GO}, times ours"), "unit": "x", "ours": median(ratio),
            "bound": format!(">= {least} x")});
        vec![row, ratio]
    }
}

fn median(figure: Option<f64>) -> Option<Value> {
    figure.map(|figure| json!({"median": figure}))
}

fn thousands(number: usize) -> String {
    if number < 1_000 {
        return number.to_string();
    }
    format!("{},{:03}", number / 1_000, number % 1_000)
}

impl Contender {
    fn find(name: &'static str, variable: &str, missing: &str) -> Self {
        let program = env::var_os(variable)
            .map(PathBuf::from)
            .ok_or_else(|| missing.to_owned());
        // Its last word. Also reads the program into the kernel's memory, from where all are started.
        let said = program.as_ref().map(|program| {
            let said = std::process::Command::new(program).arg("--version").output();
            said.map(|said| String::from_utf8_lossy(&said.stdout).into_owned())
        });
        let said = said.ok().and_then(Result::ok).unwrap_or_default();
        Self {
            name,
            version: said.split_whitespace().last().unwrap_or_default().to_owned(),
            program,
        }
    }

    /// One start on a new server, until it has nothing left to do.
    async fn cold_start(&self, size: usize) -> Result<Costs, String> {
        let program = self.program.as_ref().map_err(Clone::clone)?;
        let (mut cluster, writes) = (Cluster::of(size), Arc::new(AtomicUsize::new(0)));
        let written = writes.clone();
        cluster.api.inject(move |request| {
            let is_boring = request.path.contains("/leases") || request.path.contains("/events");
            written.fetch_add(usize::from(request.is_write() && !is_boring), Ordering::Relaxed);
            None
        });
        let served = cluster.api.serve().await;
        let folder = tempfile::tempdir().unwrap();
        let kubeconfig = folder.path().join("kubeconfig");
        fs::write(&kubeconfig, kubeconfig_of(&format!("http://{}", served.address))).unwrap();
        let said = folder.path().join("said");
        let output = File::create(&said).unwrap();
        let mut command = Command::new(program);
        command
            .arg("run")
            .env("KUBECONFIG", &kubeconfig)
            // Of ours; the others are told no addresses.
            .env("LISTEN_ADDRESS", "127.0.0.1:0")
            .env("ADMIN_ADDRESS", "127.0.0.1:0")
            .stdin(Stdio::null())
            .stdout(output.try_clone().unwrap())
            .stderr(output)
            .kill_on_drop(true);
        let begun = Instant::now();
        let mut process = command
            .spawn()
            .map_err(|error| format!("failed to start it: {error}"))?;
        let id = process.id().unwrap_or_default().to_string();
        tokio::select! {
            ready = timeout(LONGEST, cluster.until_ready(size)) => {
                let so_many = cluster.ready.len();
                ready.map_err(|_| format!("{so_many} of {size} were Ready within {LONGEST:?}; {}", last_line(&said)))?;
            }
            ended = process.wait() => return Err(format!("it ended, {ended:?}: {}", last_line(&said))),
        }
        let wall = begun.elapsed().as_secs_f64();
        let rest = timeout(LONGEST, cluster.until_rest()).await;
        rest.map_err(|_| format!("it goes on writing: {} writes", writes.load(Ordering::Relaxed)))?;
        let costs = Costs {
            wall,
            cpu: cpu_seconds_of(&id),
            memory: most_resident_bytes(&id) / 1e6,
            writes: count(writes.load(Ordering::Relaxed)) / count(size),
        };
        process
            .kill()
            .await
            .map_err(|error| format!("failed to end it: {error}"))?;
        cluster.has_our_children(&path("service-00000"))?;
        Ok(costs)
    }
}

/// What Kubernetes would do, and what was seen meanwhile.
struct Cluster {
    api: FakeApi,
    /// The version up to which everything was seen.
    seen: u64,
    rolled_out: HashSet<String>,
    ready: HashSet<String>,
}

impl Cluster {
    fn of(size: usize) -> Self {
        let api = FakeApi::default();
        for number in 0..size {
            api.create(SERVICES, named(&format!("service-{number:05}")));
        }
        Self {
            api,
            seen: 0,
            rolled_out: HashSet::new(),
            ready: HashSet::new(),
        }
    }

    async fn until_ready(&mut self, size: usize) {
        while self.ready.len() < size {
            self.go_on().await;
        }
    }

    async fn until_rest(&mut self) {
        let mut since = Instant::now();
        while let Some(left) = REST.checked_sub(since.elapsed()) {
            if timeout(left, self.go_on()).await.unwrap_or(false) {
                since = Instant::now();
            }
        }
    }

    /// Waits for a change, and does what follows from it. False if it was of nothing but Leases and events.
    async fn go_on(&mut self) -> bool {
        let mut is_news = false;
        for change in self.api.changes_after(self.seen).await {
            self.seen = change.version();
            let object = change.object();
            match object["kind"].as_str() {
                Some("Lease" | "Event") => continue,
                Some("Deployment") => self.roll_out(object),
                Some("ResilientService") => self.see(object),
                _ => {}
            }
            is_news = true;
        }
        // They were counted.
        self.api.forget_requests();
        is_news
    }

    /// Whether a service has the children that ours would make: else something else was measured.
    fn has_our_children(&self, path: &str) -> Result<(), String> {
        let service = Arc::new(serde_json::from_value(self.api.get(path).unwrap()).unwrap());
        for mut desired in children(&service, "", "valerix-system").unwrap().objects().unwrap() {
            if let Some(documents) = desired.get_mut("data").and_then(Value::as_object_mut) {
                // How many pods are ready is no part of the specification.
                documents.remove(RUNTIME_KEY);
            }
            let (kind, name) = (
                desired["kind"].as_str().unwrap(),
                desired["metadata"]["name"].as_str().unwrap(),
            );
            let (group, plural) = (&desired["apiVersion"], format!("{}s", kind.to_lowercase()));
            let root = if group == "v1" {
                "/api/v1".to_owned()
            } else {
                format!("/apis/{}", group.as_str().unwrap())
            };
            let live = self.api.get(&format!("{root}/namespaces/shop/{plural}/{name}"));
            let is_ours = live.as_ref().is_some_and(|live| project(&desired, live) == desired);
            if !is_ours {
                return Err(format!("its {kind} {name} is another one than ours"));
            }
        }
        Ok(())
    }

    fn roll_out(&mut self, deployment: &Value) {
        let generation = &deployment["metadata"]["generation"];
        let name = deployment["metadata"]["name"].as_str().unwrap();
        if self.rolled_out.insert(name.to_owned()) {
            pods_come_up(&self.api, name, deployment);
        } else if deployment["status"]["observedGeneration"] != *generation {
            let path = format!("/apis/apps/v1/namespaces/shop/deployments/{name}");
            self.api
                .merge(&path, json!({"status": {"observedGeneration": generation}}));
        }
    }

    fn see(&mut self, service: &Value) {
        let is_seen = service["status"]["observedGeneration"] == service["metadata"]["generation"];
        let is_ready = is_seen && condition(service, "Ready").is_some_and(|ready| ready["status"] == "True");
        let name = service["metadata"]["name"].as_str().unwrap().to_owned();
        if is_ready {
            self.ready.insert(name);
        } else {
            self.ready.remove(&name);
        }
    }
}

fn kubeconfig_of(server: &str) -> String {
    json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "bench",
        "clusters": [{"name": "bench", "cluster": {"server": server}}],
        "users": [{"name": "bench", "user": {}}],
        "contexts": [{"name": "bench", "context": {"cluster": "bench", "user": "bench"}}],
    })
    .to_string()
}

/// What a program said last.
fn last_line(said: &Path) -> String {
    let text = fs::read_to_string(said).unwrap_or_default();
    let line = text.lines().last().unwrap_or("it said nothing");
    line.chars().take(300).collect()
}

/// As Linux counts them.
fn most_resident_bytes(process: &str) -> f64 {
    let text = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kibibytes = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<f64>().ok());
    1024.0 * kibibytes.unwrap_or_default()
}
