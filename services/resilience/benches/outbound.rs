//! What the outbound order adds to a call: CPU nanoseconds of a ready attempt behind the whole stack, less those of the
//! bare attempt. Rows interleaved, seven rounds, median with least and most.
//!
//! `cargo bench -p valerix-resilience --bench outbound` prints one JSON object a line.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a program for developers"
)]

use std::convert::Infallible;
use std::hint::black_box;
use std::net::SocketAddr;
use std::time::Duration;

use http::{Request, Response};
use tower::{Layer, Service, service_fn};
use valerix_resilience::policy::{Hedge, Policy, Target};
use valerix_resilience::{Deadline, Endpoint, Resilience};

const ROUNDS: usize = 7;
const CALLS: u64 = 300_000;

fn cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap())
}

fn request() -> Request<String> {
    Request::get("http://upstream/items/42").body(String::new()).unwrap()
}

/// CPU nanoseconds per call of a service, requests made beforehand left out.
async fn measure<S, B>(service: &mut S, calls: u64) -> f64
where
    S: Service<Request<String>, Response = Response<B>>,
    S::Error: std::fmt::Debug,
{
    let template = request();
    let mut spent = Duration::ZERO;
    let mut left = calls;
    while left > 0 {
        // In batches, so that making and dropping requests is not measured.
        let batch: Vec<_> = (0..left.min(10_000)).map(|_| template.clone()).collect();
        left -= batch.len() as u64;
        let before = cpu();
        for request in batch {
            black_box(service.call(request).await.unwrap());
        }
        spent += cpu() - before;
    }
    spent.as_nanos() as f64 / calls as f64
}

fn print(row: &str, bound: Option<f64>, times: &mut [f64]) {
    times.sort_by(f64::total_cmp);
    let (min, median, max) = (times[0], times[times.len() / 2], times[times.len() - 1]);
    let line = serde_json::json!({
        "suite": "outbound", "row": row, "unit": "CPU ns/call",
        "ours": {"min": min, "median": median, "max": max}, "peers": [],
        "bound": bound.map_or_else(|| "-".to_owned(), |bound| format!("<= {bound} ns")),
        "holds": bound.is_none_or(|bound| median <= bound),
    });
    println!("{line}");
}

fn policy() -> Vec<u8> {
    let mut policy = Policy::default();
    policy.targets.push(Target::named("upstream"));
    let mut hedged = Target::named("hedged");
    hedged.hedge = Some(Hedge::after("1s".parse().unwrap()));
    policy.targets.push(hedged);
    policy.render().into_bytes()
}

fn addresses(count: u8) -> Vec<SocketAddr> {
    (0..count)
        .map(|number| SocketAddr::from(([10, 0, 0, number], 80)))
        .collect()
}

async fn run() {
    let resilience = Resilience::builder().service("bench").start().await.unwrap();
    resilience.apply_policy(&policy()).unwrap();
    let inner = || {
        service_fn(|request: Request<String>| async move {
            black_box(&request);
            Ok::<_, Infallible>(Response::new(String::new()))
        })
    };
    let mut bare = inner();
    let mut stack = resilience.client_layer("upstream").layer(inner());
    let mut hedged = resilience.client_layer("hedged").layer(inner());
    let endpoint = Endpoint::new("http", "upstream", 80);
    let mut choosing = resilience
        .client_layer("upstream")
        .balance(endpoint, addresses(10))
        .layer(inner());
    let faults = resilience.faults();
    let mut rows: Vec<(&str, Option<f64>, Vec<f64>)> = vec![
        (
            "whole outbound stack, no fault set: added per call",
            Some(1_000.0),
            Vec::new(),
        ),
        ("the same within an inherited deadline", Some(1_000.0), Vec::new()),
        ("the same with one of ten addresses chosen", Some(1_000.0), Vec::new()),
        ("the same with a hedge that is not due", None, Vec::new()),
        ("fault branch, none active", Some(5.0), Vec::new()),
        ("bare attempt", None, Vec::new()),
    ];
    for round in 0..=ROUNDS {
        let calls = if round == 0 { CALLS / 10 } else { CALLS };
        let alone = measure(&mut bare, calls).await;
        let plain = measure(&mut stack, calls).await;
        let deadline = Deadline::after(Duration::from_secs(3_600));
        let inherited = deadline.scope(measure(&mut stack, calls)).await;
        let chosen = measure(&mut choosing, calls).await;
        let raced = measure(&mut hedged, calls).await;
        let before = cpu();
        for _ in 0..calls * 10 {
            black_box(faults.cuts_calls_to(black_box("upstream")));
        }
        let branch = (cpu() - before).as_nanos() as f64 / (calls * 10) as f64;
        if round > 0 {
            let added = [plain, inherited, chosen, raced].map(|time| time - alone);
            for (row, time) in rows.iter_mut().zip(added.into_iter().chain([branch, alone])) {
                row.2.push(time);
            }
        }
    }
    for (row, bound, mut times) in rows {
        print(row, bound, &mut times);
    }
}

fn main() {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(run());
}
