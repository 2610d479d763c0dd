//! New documents while calls run: what taking one costs, and what calls notice. `make bench` runs it.
//!
//! Calls go through client and server layer over loopback, in one process with two workers, as a small service has
//! them. They run in slices of a quarter second, by turns in peace and under documents of 100 targets that are swapped
//! into the watched folder every 50 ms, each of which differs from the one before. So both halves meet the same
//! machine.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a program for developers"
)]

mod measure;

use std::cell::{Cell, RefCell};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::routing::get;
use measure::{Contender, Row, per_operation, serve};
use tokio::runtime::Runtime;
use valerix_resilience::policy::{Policy, PolicySource, Target};
use valerix_resilience::{Resilience, ResilientClient};

const SLICE: Duration = Duration::from_millis(250);
const SWAP_EVERY: Duration = Duration::from_millis(50);
/// Clients that each have one call under way, or wait a millisecond.
const CLIENTS: usize = 8;
/// Time of each half, as a multiple of what a figure of CPU time gets: the 99.9th percentile needs many calls.
const LONGER: u32 = 8;

fn document(variant: u32) -> String {
    let mut policy = Policy::default();
    for number in 0..100 {
        let mut target = Target::named(format!("target-{number}"));
        target.retry.max_attempts = 1 + variant % 5;
        target.circuit_breaker.minimum_requests = 20 + variant;
        policy.targets.push(target);
    }
    policy.render()
}

/// A folder that is changed as the kubelet changes it: a new folder beside the old one, and one rename.
struct Mount {
    root: PathBuf,
    version: u32,
}

impl Mount {
    fn publish(&mut self) {
        self.version += 1;
        let name = |version| format!("..version_{version}");
        let folder = self.root.join(name(self.version));
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("policy.v1.json"), document(self.version)).unwrap();
        let temporary = self.root.join("..data_tmp");
        std::os::unix::fs::symlink(name(self.version), &temporary).unwrap();
        std::fs::rename(&temporary, self.root.join("..data")).unwrap();
        drop(std::fs::remove_dir_all(self.root.join(name(self.version - 1))));
    }
}

async fn start(folder: &Path) -> (Resilience, ResilientClient) {
    let resilience = Resilience::builder()
        .service("bench")
        .policy_folder(folder)
        .start()
        .await
        .unwrap();
    assert_eq!(resilience.report().policy.source, PolicySource::Document);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let router = Router::new()
        .route("/", get(|| async { "well" }))
        .layer(resilience.server_layer());
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    let client = resilience.client("target-7").url(url).build().unwrap();
    (resilience, client)
}

/// What calls of one half took in nanoseconds, and how many failed.
#[derive(Default)]
struct Half {
    times: Vec<u64>,
    failed: u64,
}

impl Half {
    fn p999_micros(&mut self) -> f64 {
        self.times.sort_unstable();
        self.times[self.times.len() * 999 / 1_000] as f64 / 1e3
    }
}

async fn slice(client: &ResilientClient, half: &mut Half) {
    let end = Instant::now() + SLICE;
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move {
                let mut half = Half::default();
                while Instant::now() < end {
                    let began = Instant::now();
                    let answer = match client.get("/").send().await {
                        Ok(answer) => answer.bytes().await.ok(),
                        Err(_) => None,
                    };
                    half.times.push(began.elapsed().as_nanos() as u64);
                    half.failed += u64::from(answer.is_none_or(|body| body != "well"));
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                half
            })
        })
        .collect();
    for task in clients {
        let part = task.await.unwrap();
        half.times.extend(part.times);
        half.failed += part.failed;
    }
}

/// Calls dropped, the percentile in peace, and how many times that it is under reloads.
#[derive(Clone, Copy)]
struct Found {
    dropped: f64,
    peace: f64,
    ratio: f64,
}

/// What the measured process holds.
struct Bench {
    runtime: Runtime,
    mount: Mount,
    resilience: Resilience,
    client: ResilientClient,
}

impl Bench {
    fn start() -> Self {
        let root = std::env::temp_dir().join(format!("valerix-bench-reload-{}", std::process::id()));
        std::fs::create_dir_all(&root).unwrap();
        let mut mount = Mount { root, version: 0 };
        mount.publish();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let (resilience, client) = runtime.block_on(start(&mount.root));
        Self {
            runtime,
            mount,
            resilience,
            client,
        }
    }

    fn calls(&mut self, time: Duration) -> Found {
        let (mut peace, mut reloads) = (Half::default(), Half::default());
        let first = self.mount.version;
        let last = self.resilience.report().policy.hash;
        for _ in 0..(time * LONGER).as_millis() / SLICE.as_millis() {
            self.runtime.block_on(slice(&self.client, &mut peace));
            let ended = AtomicBool::new(false);
            std::thread::scope(|scope| {
                // The kubelet is another process: its work is not done by our workers.
                scope.spawn(|| {
                    while !ended.load(Ordering::Relaxed) {
                        self.mount.publish();
                        std::thread::sleep(SWAP_EVERY);
                    }
                });
                self.runtime.block_on(slice(&self.client, &mut reloads));
                ended.store(true, Ordering::Relaxed);
            });
        }
        assert!(self.mount.version > first && self.resilience.report().policy.hash != last);
        let (with, without) = (reloads.p999_micros(), peace.p999_micros());
        Found {
            dropped: (peace.failed + reloads.failed) as f64,
            peace: without,
            ratio: with / without,
        }
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.mount.root));
    }
}

fn main() {
    // Under `cargo test` there is nothing to do.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let bench = Rc::new(RefCell::new(Bench::start()));
    let documents: Vec<String> = (0..64).map(document).collect();
    let (reloaded, calling) = (Rc::clone(&bench), bench);
    // One experiment answers three questions.
    let found: Rc<Cell<Option<Found>>> = Rc::default();
    let last = |pick: fn(Found) -> f64| {
        let found = Rc::clone(&found);
        move |_| found.get().map_or(f64::NAN, pick)
    };
    let rows = vec![
        Row::figure("reload/document with 100 targets", move |time| {
            let resilience = &reloaded.borrow().resilience;
            let mut next = documents.iter().cycle();
            per_operation(time, |count| {
                for document in next.by_ref().take(count as usize) {
                    resilience.apply_policy(document.as_bytes()).unwrap();
                }
            }) / 1e3
        }),
        Row::figure("reload/calls dropped", {
            let found = Rc::clone(&found);
            move |time| {
                let new = calling.borrow_mut().calls(time);
                found.set(Some(new));
                new.dropped
            }
        }),
        Row::figure("reload/p99.9 of calls without reloads", last(|found| found.peace)),
        Row::figure("reload/p99.9 of calls, with / without", last(|found| found.ratio)),
    ];
    serve(vec![Contender {
        name: "valerix",
        version: env!("CARGO_PKG_VERSION").to_owned(),
        rows,
    }]);
}
