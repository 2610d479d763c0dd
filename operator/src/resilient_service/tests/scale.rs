//! Many services at once: what a fresh one, a restart and rest cost in requests and in looks. With `VALERIX_OBJECTS`, by
//! which `make bench SUITE=operator` asks for more of them, the machine's own clock runs and every figure is printed;
//! without, time passes at once wherever everybody waits, and what is counted has to keep its bounds.

use super::{campaigns::number, *};
use std::{env, time::Instant};

mod beside;
mod followed;

const OBJECTS: &str = "VALERIX_OBJECTS";
/// Without being told: enough for a mean, few enough for every test run.
const FEW: u64 = 24;
/// How many changes and new services are timed.
const SAMPLES: usize = 100;
/// What a service without anything special owns.
const OWNED: f64 = 5.0;

/// What one thing costs.
struct Figure {
    row: &'static str,
    unit: &'static str,
    value: f64,
    /// At most.
    bound: Option<f64>,
    /// Whether the machine hardly matters.
    is_counted: bool,
}

fn counted(row: &'static str, unit: &'static str, value: f64, bound: f64) -> Figure {
    let bound = Some(bound);
    Figure {
        row,
        unit,
        value,
        bound,
        is_counted: true,
    }
}

fn timed(row: &'static str, unit: &'static str, value: f64, bound: Option<f64>) -> Figure {
    Figure {
        row,
        unit,
        value,
        bound,
        is_counted: false,
    }
}

#[test]
fn many_services_cost_few_requests_each_a_restart_and_rest_none() {
    let is_measured = env::var_os(OBJECTS).is_some();
    let objects = usize::try_from(number(OBJECTS, FEW)).unwrap();
    let mut runtime = if is_measured {
        tokio::runtime::Builder::new_multi_thread()
    } else {
        let mut paused = tokio::runtime::Builder::new_current_thread();
        paused.start_paused(true);
        paused
    };
    let runtime = runtime.enable_all().build().unwrap();
    let mut figures = runtime.block_on(figures(objects));
    if is_measured {
        // Connections need the machine's own clock.
        figures.extend(runtime.block_on(followed::figures(objects)));
        println!();
        for Figure {
            row,
            unit,
            value,
            bound,
            ..
        } in figures
        {
            let bound = bound.map(|most| format!("<= {most} {unit}"));
            println!(
                "{}",
                json!({"row": row, "unit": unit, "ours": {"median": value}, "bound": bound})
            );
        }
        for row in runtime.block_on(beside::rows(objects)) {
            println!("{row}");
        }
        return;
    }
    for figure in figures.iter().filter(|figure| figure.is_counted) {
        let most = figure.bound.unwrap();
        assert!(
            figure.value <= most,
            "{}: {} {}, at most {most}",
            figure.row,
            figure.value,
            figure.unit
        );
    }
}

async fn figures(objects: usize) -> Vec<Figure> {
    let api = FakeApi::default();
    let names: Vec<String> = (0..objects).map(|number| format!("service-{number:05}")).collect();
    for name in &names {
        api.create(SERVICES, named(name));
    }
    let each = |count: f64| count / f64::from(u32::try_from(objects).unwrap());
    let mut figures = Vec::new();

    let (begun, cpu) = (Instant::now(), cpu_seconds());
    let first = Operator::start(&api);
    for name in &names {
        found(
            &api,
            &format!("/apis/apps/v1/namespaces/shop/deployments/{name}"),
            |_| true,
        )
        .await;
        all_pods_ready(&api, name).await;
    }
    for name in &names {
        found(&api, &path(name), |service| {
            reason(service, "Ready") == "True/AllPodsCurrent"
        })
        .await;
    }
    let took = begun.elapsed().as_secs_f64();
    first.rest().await;
    let writes = count(api.writes().len());
    figures.extend([
        timed("cold start until all are Ready", "s", took, None),
        timed(
            "cold start, CPU with the API server in memory",
            "ms/service",
            each(1_000.0 * (cpu_seconds() - cpu)),
            None,
        ),
        counted("writes for a fresh service", "writes", each(writes), OWNED + 3.0),
        counted("looks at a fresh service", "looks", each(first.looks()), 4.0),
    ]);

    drop(first);
    api.forget_requests();
    let begun = Instant::now();
    let second = Operator::start(&api);
    while second.looks() < count(objects) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let took = begun.elapsed().as_secs_f64();
    second.rest().await;
    figures.extend([
        timed("restart until all were looked at", "s", took, None),
        counted("writes of a restart", "writes", count(api.writes().len()), 0.0),
        counted("looks of a restart", "looks/service", each(second.looks()), 1.2),
    ]);

    api.forget_requests();
    let (cpu, looks) = (cpu_seconds(), second.looks());
    tokio::time::sleep(Duration::from_secs(60)).await;
    let asked = api.requests().iter().filter(|request| !request.is_watch()).count();
    figures.extend([
        counted("requests at rest, a minute", "requests", count(asked), 0.0),
        counted("looks at rest, a minute", "looks", second.looks() - looks, 0.0),
        timed(
            "CPU at rest",
            "% of a core",
            100.0 * (cpu_seconds() - cpu) / 60.0,
            Some(0.5),
        ),
    ]);

    let mut changes = Vec::new();
    for name in names.iter().take(SAMPLES) {
        let begun = Instant::now();
        let changed = api.merge(
            &path(name),
            json!({"spec": {"env": [{"name": "CHANGED", "value": "1"}]}}),
        );
        let generation = changed["metadata"]["generation"].clone();
        found(&api, &path(name), |service| {
            service["status"]["observedGeneration"] == generation
        })
        .await;
        changes.push(1_000.0 * begun.elapsed().as_secs_f64());
    }
    figures.extend([
        timed(
            "a change until it shows in status, p50",
            "ms",
            quantile(&mut changes, 50),
            Some(25.0),
        ),
        timed(
            "a change until it shows in status, p99",
            "ms",
            quantile(&mut changes, 99),
            Some(100.0),
        ),
    ]);

    let mut fresh = Vec::new();
    for number in 0..SAMPLES.min(objects) {
        second.ctx.stores.services.triggers().trigger_all();
        let name = format!("new-{number:05}");
        let begun = Instant::now();
        api.create(SERVICES, named(&name));
        found(&api, &path(&name), |service| {
            service["status"]["observedGeneration"] == 1
        })
        .await;
        fresh.push(1_000.0 * begun.elapsed().as_secs_f64());
    }
    let longest = quantile(&mut fresh, 99);
    figures.push(timed(
        "a new one until its status, p99, while all others wait",
        "ms",
        longest,
        Some(1_000.0),
    ));
    figures
}

impl Operator {
    /// How often an object was looked at, however that went.
    fn looks(&self) -> f64 {
        let text = String::from_utf8(self.ctx.runtime.metrics.render()).unwrap();
        let ours = format!("valerix_reconciles_total{{controller=\"{CONTROLLER}\"");
        let counts = text.lines().filter(|line| line.starts_with(&ours));
        counts
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum()
    }
}

fn named(name: &str) -> Value {
    let mut service = order();
    service["metadata"]["name"] = json!(name);
    service
}

fn path(name: &str) -> String {
    format!("{SERVICES}/{name}")
}

/// Waits without a limit of its own: thousands of services take their time.
async fn found(api: &FakeApi, path: &str, holds: impl Fn(&Value) -> bool) {
    while !api.get(path).is_some_and(|object| holds(&object)) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

fn count(number: usize) -> f64 {
    f64::from(u32::try_from(number).unwrap())
}

fn quantile(values: &mut [f64], percent: usize) -> f64 {
    values.sort_by(f64::total_cmp);
    values[(values.len() * percent / 100).min(values.len() - 1)]
}

/// Of this process.
fn cpu_seconds() -> f64 {
    cpu_seconds_of("self")
}

/// User and system, in hundredths of a second as Linux counts them.
fn cpu_seconds_of(process: &str) -> f64 {
    let text = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    let after_name = text.rsplit(')').next().unwrap_or_default();
    let ticks = after_name.split_whitespace().skip(11).take(2);
    ticks.filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / 100.0
}
