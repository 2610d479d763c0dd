//! `make bench`: ours and its peers, built and measured in the same run, taking turns: in each round every contender of
//! a row is measured one after the other, and the order moves on by one a round, so that nobody has the quiet moments.
//! Prints a table a suite and writes `target/bench/<suite>.json` for programs and `.md` for `docs/benchmarks.md`.

mod figures;
mod programs;

use std::fs;
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use clap::{Parser, ValueEnum};
use xtask::paths::Paths;
use xtask::services::Services;
use xtask::steps::{Log, Steps};
use xtask::store::Store;
use xtask::tools::go;
use xtask::{failure, interrupt};

use self::figures::{Bound, Contender, Row};
use self::programs::{Environment, Program};

fn main() -> ExitCode {
    let options = Options::parse();
    let outcome = interrupt::listen()
        .and_then(|()| Paths::from_environment())
        .and_then(|paths| run(&paths, &options));
    failure::exit_code(outcome)
}

/// What belongs together in a table and a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
enum Suite {
    /// The circuit breaker.
    Breaker,
    /// The local rate limit.
    Limit,
    /// The whole outbound stack.
    Outbound,
    /// The rate limit that replicas share through Redis.
    SharedLimit,
    /// New documents while calls run.
    Reload,
    /// The guard and the gateway beside other proxies.
    Proxy,
    /// The operator on an API server in memory, beside one in Go and a naive one.
    Operator,
    /// The shop beside pgbench and the same saga in Node.
    Shop,
    /// A backup and its way back beside the same by hand.
    Backup,
}

impl Suite {
    const fn name(self) -> &'static str {
        match self {
            Self::Breaker => "breaker",
            Self::Limit => "limit",
            Self::Outbound => "outbound",
            Self::SharedLimit => "shared_limit",
            Self::Reload => "reload",
            Self::Proxy => "proxy",
            Self::Operator => "operator",
            Self::Shop => "shop",
            Self::Backup => "backup",
        }
    }

    /// The rows that are measured by turns. A bench that takes its own rounds brings its own rows beside these.
    fn rows(self) -> Vec<Row> {
        let row = |name, bound| Row::new(name, "CPU ns/op", bound);
        let governor = || Bound::Peer("governor");
        match self {
            Self::Breaker => vec![
                row("closed", Bound::AtMost(15.0)),
                row("open", Bound::AtMost(5.0)),
                row("two threads", Bound::AtMost(20.0)),
                row("closed, on Instant", Bound::None),
                row("open, on Instant", Bound::None),
                row("layer, closed", Bound::None),
                row("layer, open", Bound::None),
                row("layer, closed, on Instant", Bound::None),
                row("layer, open, on Instant", Bound::None),
                Row::new("allocations", "allocations/call", Bound::AtMost(0.0)),
            ],
            Self::Limit => vec![
                row("GCRA", governor()),
                row("Window", governor()),
                row("GCRA, two threads", Bound::None),
                row("Window, two threads", Bound::None),
                row("GCRA, 10,000 keys", governor()),
                row("Window, 10,000 keys", governor()),
                Row::new("live keys of 10 million", "keys", Bound::AtMost(100_000.0)),
                Row::new("growth under 10 million keys", "MiB", Bound::AtMost(32.0)),
            ],
            Self::Outbound => vec![
                row("fault branch of the server, off", Bound::AtMost(5.0)),
                row("stack", Bound::None),
            ],
            Self::SharedLimit => vec![Row::new("p50 of a call", "ns", Bound::None)],
            Self::Reload => vec![
                Row::new("document with 100 targets", "CPU us", Bound::AtMost(1_000.0)),
                Row::new("calls dropped", "calls", Bound::AtMost(0.0)),
                Row::new("p99.9 of calls without reloads", "us", Bound::None),
                Row::new("p99.9 of calls, with / without", "x", Bound::AtMost(2.0)),
            ],
            Self::Proxy | Self::Operator | Self::Shop | Self::Backup => Vec::new(),
        }
    }

    /// The bench of ours that takes its own rounds, the peers' row that belongs to it, and which of its rows that is.
    const fn own_bench(self) -> Option<OwnBench> {
        match self {
            Self::Outbound => Some(OwnBench {
                name: "outbound",
                arguments: &["--bench"],
                peers: "stack",
                rows: &["whole outbound stack, no fault set: added per call"],
            }),
            Self::SharedLimit => Some(OwnBench {
                name: "shared_limit",
                arguments: &["--bench"],
                peers: "p50 of a call",
                // A peer that asks Redis for every call has nothing to amortise.
                rows: &["p50 of a call", "p50 amortised over 64 calls, 5000/s a replica"],
            }),
            // It starts its peers itself, as each is a server.
            Self::Proxy => Some(OwnBench {
                name: "proxy",
                arguments: &["--bench"],
                peers: "",
                rows: &[],
            }),
            // A test of its library, whose API server is where the programs beside it work too.
            Self::Operator => Some(OwnBench {
                name: "valerix_operator",
                arguments: &["resilient_service::tests::scale::", "--nocapture"],
                peers: "",
                rows: &[],
            }),
            Self::Shop => Some(OwnBench {
                name: "shop",
                arguments: &["--bench"],
                peers: "",
                rows: &[],
            }),
            Self::Backup => Some(OwnBench {
                name: "archives",
                arguments: &["--bench"],
                peers: "",
                rows: &[],
            }),
            _ => None,
        }
    }

    /// The packages whose benches, and programs, it needs.
    pub const fn packages(self) -> &'static [&'static str] {
        match self {
            Self::Proxy => &[
                "--package=valerix-proxy",
                "--package=valerix-guard",
                "--package=valerix-gateway",
            ],
            Self::Operator => &["--package=valerix-operator"],
            Self::Shop => &["--package=valerix-order"],
            Self::Backup => &["--package=valerix-backup"],
            _ => &["--package=valerix-resilience"],
        }
    }
}

/// See [`Suite::own_bench`].
struct OwnBench {
    name: &'static str,
    arguments: &'static [&'static str],
    peers: &'static str,
    rows: &'static [&'static str],
}

/// Measures the library beside its peers.
#[derive(Debug, Clone, Parser)]
struct Options {
    /// One suite instead of all.
    #[arg(long)]
    suite: Option<Suite>,
    /// Two short rounds, to see that everything runs; the figures mean little.
    #[arg(long)]
    quick: bool,
    /// Rounds; each gives one value, of which median, least and most are shown.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
}

impl Options {
    fn rounds(&self) -> usize {
        if self.quick { 2 } else { self.rounds.max(1) }
    }

    const fn millis(&self) -> u64 {
        if self.quick { 40 } else { 400 }
    }
}

/// Builds, measures and shows. A bound that is not held is shown as such; it is no failure.
///
/// # Errors
/// When ours does not build or run.
fn run(paths: &Paths, options: &Options) -> Result<()> {
    let mut steps = Steps::begin(paths.logs("bench"))?;
    let suites: Vec<Suite> = Suite::value_variants()
        .iter()
        .copied()
        .filter(|suite| options.suite.is_none_or(|wanted| wanted == *suite))
        .collect();
    let on_servers = [Suite::SharedLimit, Suite::Shop, Suite::Backup];
    let servers = if suites.iter().any(|suite| on_servers.contains(suite)) {
        steps
            .run("Starting a PostgreSQL and a Redis", Services::start_durable)
            .ok()
    } else {
        None
    };
    let mut environment = Environment {
        redis_url: servers.as_ref().map(|servers| servers.redis_url.clone()),
        database_url: servers.as_ref().map(|servers| servers.database_url.clone()),
        store: None,
        quick: options.quick,
        programs: Vec::new(),
    };
    if suites.contains(&Suite::Backup) {
        // Without it the bench has a small one of its own.
        let started = steps.run("Starting an S3 server", |log| {
            Store::start(&go::VERSITYGW.install(paths, log)?, log)
        });
        environment.store = started.ok();
    }
    let ours = steps.run("Building ours", |log| programs::build_ours(paths, &suites, log))?;
    if suites.contains(&Suite::Proxy) {
        let programs = steps.run("Building the Node proxy", |log| {
            Ok(programs::measured_by_proxy(paths, log))
        })?;
        environment.programs.extend(programs);
    }
    if suites.contains(&Suite::Operator) {
        let programs = steps.run("Building the Go operator", |log| {
            Ok(programs::measured_by_operator(paths, &ours, log))
        })?;
        environment.programs.extend(programs);
    }
    if suites.contains(&Suite::Shop) {
        let programs = steps.run("Building the Node shop", |log| {
            Ok(programs::measured_by_shop(paths, log))
        })?;
        environment.programs.extend(programs);
    }
    let mut running = steps.run("Starting ours", |log| programs::start_ours(&ours, &environment, log))?;
    let mut missing = Vec::new();
    for peer in programs::PEERS {
        if !peer
            .contenders
            .iter()
            .any(|contender| suites.contains(&contender.suite))
        {
            continue;
        }
        let started = steps.run(&format!("Building {}", peer.title), |log| {
            // Its rows say that it is missing, and the others are measured without it.
            Ok(peer.start(paths, &environment, log).inspect_err(|error| {
                log.say(&format!("left out: {error:#}"));
            }))
        })?;
        interrupt::check()?;
        match started {
            Ok(program) => running.push(program),
            Err(error) => missing.push((peer, format!("{error:#}"))),
        }
    }
    println!("{}", machine());
    for suite in suites {
        let mut rows = steps.run(&format!("Measuring {}", suite.name()), |log| {
            measure(suite, options, &mut running, &ours, &environment, log)
        })?;
        for (peer, reason) in &missing {
            for contender in peer.contenders.iter().filter(|contender| contender.suite == suite) {
                let of_it = rows.iter_mut().filter(|row| contender.rows.contains(&row.name()));
                of_it.for_each(|row| row.note_missing(contender.name, reason));
            }
        }
        let lines: String = rows.iter().map(|row| format!("{}\n", row.json(suite.name()))).collect();
        for (ending, text) in [("json", lines), ("md", figures::markdown(suite.name(), &rows))] {
            let path = paths
                .checkout
                .join("target/bench")
                .join(suite.name())
                .with_extension(ending);
            fs::write(&path, text).with_context(|| format!("failed to write {}", path.display()))?;
        }
        println!("{}", figures::table(suite.name(), &rows));
    }
    println!("{}", machine());
    Ok(())
}

/// One value a round of every contender of every row of `suite`.
fn measure(
    suite: Suite,
    options: &Options,
    running: &mut [Program],
    ours: &programs::Ours,
    environment: &Environment,
    log: &Log,
) -> Result<Vec<Row>> {
    let mut rows = suite.rows();
    let mut own_rows: Vec<Row> = Vec::new();
    for round in 0..options.rounds() {
        for row in &mut rows {
            let name = format!("{}/{}", suite.name(), row.name());
            let mut turns: Vec<(usize, Contender)> = Vec::new();
            for (place, program) in running.iter().enumerate() {
                turns.extend(program.contenders_of(&name).map(|contender| (place, contender)));
            }
            let moved = round % turns.len().max(1);
            turns.rotate_left(moved);
            for (place, contender) in turns {
                interrupt::check()?;
                let answer = running[place].ask(&contender.name, &name, options.millis());
                log.write_line(&format!("round {round} {name} {}: {answer:?}", contender.name));
                match answer {
                    Ok(value) => row.add(&contender, value),
                    Err(error) => row.note_trouble(&contender, &format!("{error:#}")),
                }
            }
        }
        if let Some(own) = suite.own_bench() {
            let lines = ours.run_to_the_end(own.name, own.arguments, round, environment, log)?;
            figures::add_lines(&mut own_rows, &lines)?;
        }
    }
    if let Some(own) = suite.own_bench() {
        figures::give_peers(&mut rows, own.peers, &mut own_rows, own.rows);
    }
    rows.extend(own_rows);
    figures::show_peers_on_instant(&mut rows);
    rows.retain(|row| !row.is_empty());
    ensure!(!rows.is_empty(), "nothing of {} was measured", suite.name());
    Ok(rows)
}

/// What the figures are taken on, and how busy it is.
fn machine() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let model = read("/proc/cpuinfo")
        .lines()
        .find_map(|line| Some(line.strip_prefix("model name")?.split_once(':')?.1.trim().to_owned()))
        .unwrap_or_else(|| "an unknown CPU".to_owned());
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let load = read("/proc/loadavg");
    let load = load.split(' ').next().unwrap_or("unknown").to_owned();
    format!("machine: {cores} cores, {model}, load average {load}")
}
