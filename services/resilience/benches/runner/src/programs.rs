//! The programs that measure: how each is built, started and asked. All but our benches with rounds of their own speak
//! the protocol of `services/resilience/benches/measure`: one line of JSON for a question, one for its answer.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::ChildStdin;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use xtask::command::{Program as Command, Running};
use xtask::failure::WithRemedy;
use xtask::paths::Paths;
use xtask::steps::Log;
use xtask::store::Store;
use xtask::tools::find;
use xtask::{interrupt, workspace};

use super::Suite;
use super::figures::Contender;

/// A program that has not answered for so long has hung.
const PATIENCE: Duration = Duration::from_secs(180);

/// What programs are told beside their questions.
pub struct Environment {
    /// A Redis of this run's own.
    pub redis_url: Option<String>,
    /// A PostgreSQL of this run's own, which waits for the disk.
    pub database_url: Option<String>,
    /// An S3 server of this run's own.
    pub store: Option<Store>,
    /// Whether figures matter.
    pub quick: bool,
    /// Variables that name what benches start.
    pub programs: Vec<(&'static str, PathBuf)>,
}

impl Environment {
    fn give(&self, mut command: Command) -> Command {
        if let Some(url) = &self.redis_url {
            command = command.env("TEST_REDIS_URL", url);
        }
        if let Some(url) = &self.database_url {
            command = command.env("TEST_DATABASE_URL", url);
        }
        if let Some(store) = &self.store {
            command = store.tell(command);
        }
        if self.quick {
            command = command.env("BENCH_QUICK", "1");
        }
        // How many services the operator's looks after.
        command = command.env("VALERIX_OBJECTS", if self.quick { "100" } else { "1000" });
        for (name, path) in &self.programs {
            command = command.env(name, path);
        }
        command
    }
}

/// A peer, and where it is missed when it could not be built.
#[derive(Debug)]
pub struct PeerContender {
    /// Its name in the tables.
    pub name: &'static str,
    /// Its suite.
    pub suite: Suite,
    /// Its rows.
    pub rows: &'static [&'static str],
}

const BREAKER: &[&str] = &["closed", "open", "two threads"];
/// JavaScript has one thread.
const BREAKER_OF_NODE: &[&str] = &["closed", "open"];
/// tower-resilience is a layer and nothing else.
const BREAKER_LAYER: &[&str] = &["layer, closed", "layer, open"];
const LIMIT: &[&str] = &["GCRA", "Window", "GCRA, 10,000 keys", "Window, 10,000 keys"];
const LIMIT_OF_RUST: &[&str] = &[
    "GCRA",
    "Window",
    "GCRA, two threads",
    "Window, two threads",
    "GCRA, 10,000 keys",
    "Window, 10,000 keys",
];

/// A program of peers in one language.
pub struct Peer {
    /// The language.
    pub title: &'static str,
    /// Its folder in `services/resilience/benches/peers`.
    folder: &'static str,
    /// What must be in PATH, and how to get it.
    needs: (&'static str, &'static str),
    /// Who is in it.
    pub contenders: &'static [PeerContender],
    build: fn(&Places, &Log) -> Result<Command>,
}

const fn of(suite: Suite, name: &'static str, rows: &'static [&'static str]) -> PeerContender {
    PeerContender { name, suite, rows }
}

/// Every program of peers.
pub const PEERS: &[Peer] = &[
    Peer {
        title: "the Rust peers",
        folder: "rust",
        needs: ("cargo", "install Rust: https://rustup.rs"),
        contenders: &[
            of(Suite::Breaker, "failsafe", BREAKER),
            of(Suite::Breaker, "tower-resilience", BREAKER_LAYER),
            of(Suite::Outbound, "tower-resilience", &["stack"]),
            of(Suite::Limit, "governor", LIMIT_OF_RUST),
        ],
        build: build_rust,
    },
    Peer {
        title: "the Go peers",
        folder: "go",
        needs: ("go", "install Go: https://go.dev/dl"),
        contenders: &[
            of(Suite::Breaker, "gobreaker", BREAKER),
            of(Suite::Breaker, "failsafe-go", BREAKER),
            of(Suite::Limit, "x/time/rate", LIMIT),
        ],
        build: build_go,
    },
    Peer {
        title: "the Node peers",
        folder: "node",
        needs: ("npm", "install Node 20 or newer with npm: https://nodejs.org"),
        contenders: &[
            of(Suite::Breaker, "opossum", BREAKER_OF_NODE),
            of(Suite::Breaker, "cockatiel", BREAKER_OF_NODE),
            of(Suite::Limit, "rate-limiter-flexible", LIMIT),
            of(Suite::SharedLimit, "rate-limiter-flexible", &["p50 of a call"]),
        ],
        build: build_node,
    },
    Peer {
        title: "the Java peer",
        folder: "java",
        needs: ("mvn", "install a JDK 17 and Maven"),
        contenders: &[of(Suite::Breaker, "resilience4j", BREAKER)],
        build: build_java,
    },
];

/// Where a program's sources are, and where what is made of them goes.
struct Places {
    sources: PathBuf,
    built: PathBuf,
}

impl Peer {
    /// Builds and starts it.
    ///
    /// # Errors
    /// When its toolchain is missing, it does not build, or it does not say what it can measure.
    pub fn start(&self, paths: &Paths, environment: &Environment, log: &Log) -> Result<Program> {
        let (tool, remedy) = self.needs;
        ensure!(find(tool).is_some(), "{tool} was not found; {remedy}");
        let places = Places {
            sources: paths
                .checkout
                .join("services/resilience/benches/peers")
                .join(self.folder),
            built: paths.checkout.join("target/bench/peers").join(self.folder),
        };
        std::fs::create_dir_all(&places.built)
            .with_context(|| format!("failed to create {}", places.built.display()))?;
        let command = (self.build)(&places, log)?;
        Program::start(environment.give(command), log)
    }
}

fn build_rust(places: &Places, log: &Log) -> Result<Command> {
    Command::new("cargo")
        .args(["build", "--release", "--locked"])
        .env("CARGO_TARGET_DIR", &places.built)
        .in_folder(&places.sources)
        .run(log)?;
    Ok(Command::new(places.built.join("release/bench-peers")).arg("--serve"))
}

fn build_go(places: &Places, log: &Log) -> Result<Command> {
    let program = places.built.join("peers");
    Command::new("go")
        .args(["build", "-o"])
        .arg(&program)
        .in_folder(&places.sources)
        .run(log)?;
    Ok(Command::new(program))
}

/// In a copy, so that no `node_modules` comes to lie among the sources.
fn build_node(places: &Places, log: &Log) -> Result<Command> {
    install_node(places, log)?;
    Ok(Command::new("node").arg("main.js").in_folder(&places.built))
}

fn install_node(places: &Places, log: &Log) -> Result<()> {
    for file in ["main.js", "package.json", "package-lock.json"] {
        std::fs::copy(places.sources.join(file), places.built.join(file))
            .with_context(|| format!("failed to copy {file}"))?;
    }
    Command::new("npm")
        .args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"])
        .in_folder(&places.built)
        .run(log)
}

fn build_java(places: &Places, log: &Log) -> Result<Command> {
    Command::new("mvn")
        .args(["--batch-mode", "--quiet", "process-classes"])
        .arg(format!("-Dfolder={}", places.built.display()))
        .in_folder(&places.sources)
        .run(log)?;
    let classes = format!("{0}/classes:{0}/libraries/*", places.built.display());
    Ok(Command::new("java").args(["-cp", &classes, "bench.Main"]))
}

/// Our benches, compiled.
pub struct Ours {
    /// Each with the folder in which it runs.
    programs: Vec<(PathBuf, String, PathBuf)>,
}

impl Ours {
    fn program(&self, name: &str) -> Option<(&Path, &Path)> {
        let (folder, _, path) = self.programs.iter().find(|(_, program, _)| program == name)?;
        Some((folder, path))
    }

    /// Runs a bench that takes its own rounds, and returns what it printed.
    ///
    /// # Errors
    /// When it was not built, or fails.
    pub fn run_to_the_end(
        &self,
        name: &str,
        arguments: &[&str],
        round: usize,
        environment: &Environment,
        log: &Log,
    ) -> Result<String> {
        let (folder, path) = self
            .program(name)
            .with_context(|| format!("cargo did not build the bench {name}"))?;
        let command = Command::new(path)
            .args(arguments)
            // One that measures several by turns begins with another one each time.
            .env("BENCH_ROUND", round.to_string())
            .in_folder(folder);
        environment.give(command).read(log)
    }
}

/// The folders of packages with benches.
const BENCHES: [&str; 5] = [
    "services/resilience",
    "services/proxy",
    "services/order",
    "services/backup",
    "operator",
];

/// Compiles every bench that the suites need, in the profile of the images, and the programs that one of them starts.
///
/// # Errors
/// When they do not compile.
pub fn build_ours(paths: &Paths, suites: &[Suite], log: &Log) -> Result<Ours> {
    let mut arguments = vec!["--release", "--benches", "--bins"];
    let mut copied = Vec::new();
    for suite in suites {
        arguments.extend(
            suite
                .packages()
                .iter()
                .filter(|package| !arguments.contains(package))
                .collect::<Vec<_>>(),
        );
        match suite {
            Suite::Proxy => copied.extend(SUBJECTS.map(|(name, _)| (name, subject(paths, name)))),
            Suite::Operator => copied.push((OPERATOR, subject(paths, OPERATOR))),
            _ => {}
        }
    }
    let artifacts = workspace::build(paths, &arguments, &copied, log)?;
    let mut programs = Vec::new();
    for folder in BENCHES.map(|folder| paths.checkout.join(folder)) {
        // The operator's is a test of its library.
        let benches = artifacts
            .tests_of(&folder)
            .into_iter()
            .chain(artifacts.benches_of(&folder));
        programs.extend(benches.map(|program| (folder.clone(), program.name.clone(), program.path.clone())));
    }
    for bench in suites
        .iter()
        .map(|suite| suite.own_bench().map_or("core", |own| own.name))
    {
        let built = programs.iter().any(|(_, name, _)| name == bench);
        ensure!(built, "cargo did not build the bench {bench}");
    }
    Ok(Ours { programs })
}

/// What the proxies' bench measures of ours, and the variables that say where it is.
const SUBJECTS: [(&str, &str); 2] = [("guard", "BENCH_GUARD"), ("gateway", "BENCH_GATEWAY")];

/// The operator's own program.
const OPERATOR: &str = "valerix-operator";

fn subject(paths: &Paths, name: &str) -> PathBuf {
    paths.checkout.join("target/bench").join(name)
}

/// What the proxies' bench starts, by variable. The Node proxy is left out, and missed in its rows, where it does not build.
pub fn measured_by_proxy(paths: &Paths, log: &Log) -> Vec<(&'static str, PathBuf)> {
    let mut programs = SUBJECTS
        .map(|(name, variable)| (variable, subject(paths, name)))
        .to_vec();
    programs.extend(node_peer(
        paths,
        "BENCH_NODE",
        "services/proxy/benches/peers/node",
        "node-proxy",
        log,
    ));
    programs
}

/// What the operator's bench starts, by variable. The Go operator is left out, and missed in its rows, where it does not
/// build.
pub fn measured_by_operator(paths: &Paths, ours: &Ours, log: &Log) -> Vec<(&'static str, PathBuf)> {
    let mut programs = vec![("BENCH_OPERATOR", subject(paths, OPERATOR))];
    programs.extend(
        ours.program("naive")
            .map(|(_, path)| ("BENCH_NAIVE_OPERATOR", path.to_owned())),
    );
    let built = build_go_operator(paths, log).inspect_err(|error| log.say(&format!("left out: {error:#}")));
    programs.extend(built.ok().map(|program| ("BENCH_GO_OPERATOR", program)));
    programs
}

fn build_go_operator(paths: &Paths, log: &Log) -> Result<PathBuf> {
    ensure!(find("go").is_some(), "go was not found; install Go: https://go.dev/dl");
    let program = paths.checkout.join("target/bench/peers/controller-runtime/operator");
    Command::new("go")
        .args(["build", "-o"])
        .arg(&program)
        .in_folder(paths.checkout.join("operator/benches/peers/controller-runtime"))
        .run(log)?;
    Ok(program)
}

/// What the shop's bench starts, by variable; the Node shop is missed in its rows where it does not build.
pub fn measured_by_shop(paths: &Paths, log: &Log) -> Vec<(&'static str, PathBuf)> {
    let sources = "services/order/benches/peers/node";
    node_peer(paths, "BENCH_NODE_SHOP", sources, "node-shop", log)
        .into_iter()
        .collect()
}

fn node_peer(
    paths: &Paths,
    variable: &'static str,
    sources: &str,
    built: &str,
    log: &Log,
) -> Option<(&'static str, PathBuf)> {
    let places = Places {
        sources: paths.checkout.join(sources),
        built: paths.checkout.join("target/bench/peers").join(built),
    };
    let made = std::fs::create_dir_all(&places.built).context("failed to create its folder");
    let installed = made.and_then(|()| install_node(&places, log));
    let installed = installed.inspect_err(|error| log.say(&format!("left out: {error:#}")));
    installed.ok().map(|()| (variable, places.built))
}

/// Starts those of our benches that answer questions, as far as they were built.
///
/// # Errors
/// When one does not say what it can measure.
pub fn start_ours(ours: &Ours, environment: &Environment, log: &Log) -> Result<Vec<Program>> {
    let built = ["core", "reload"].into_iter().filter_map(|name| ours.program(name));
    built
        .map(|(_, path)| {
            let command = Command::new(path).args(["--bench", "--serve"]);
            Program::start(environment.give(command), log)
        })
        .collect()
}

/// A running program that measures when asked.
pub struct Program {
    contenders: Vec<(Contender, Vec<String>)>,
    questions: ChildStdin,
    answers: Receiver<String>,
    _running: Running,
}

impl Program {
    fn start(command: Command, log: &Log) -> Result<Self> {
        let (running, questions, output) = command.start_talking(log)?;
        let (sender, answers) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let mut program = Self {
            contenders: Vec::new(),
            questions,
            answers,
            _running: running,
        };
        let said = program.answer()?;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        for contender in said["contenders"].as_array().into_iter().flatten() {
            let rows = contender["rows"].as_array().into_iter().flatten().map(text).collect();
            let contender = Contender {
                name: text(&contender["name"]),
                version: text(&contender["version"]),
            };
            program.contenders.push((contender, rows));
        }
        ensure!(!program.contenders.is_empty(), "it measures nothing: {said}");
        Ok(program)
    }

    /// Who of this program has the row.
    pub fn contenders_of(&self, row: &str) -> impl Iterator<Item = Contender> {
        self.contenders
            .iter()
            .filter(move |(_, rows)| rows.iter().any(|name| name == row))
            .map(|(contender, _)| contender.clone())
    }

    /// Has one figure taken, in about `millis` of CPU.
    ///
    /// # Errors
    /// When the program ends, hangs, or answers something else.
    pub fn ask(&mut self, contender: &str, row: &str, millis: u64) -> Result<f64> {
        let question = json!({"contender": contender, "row": row, "millis": millis});
        writeln!(self.questions, "{question}").context("failed to ask: the program has ended")?;
        self.questions.flush().context("failed to ask: the program has ended")?;
        let answer = self.answer()?;
        let value = answer["value"].as_f64();
        value
            .filter(|value| value.is_finite())
            .with_context(|| format!("failed to read the answer {answer}"))
    }

    fn answer(&self) -> Result<Value> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.answers.recv_timeout(Duration::from_millis(100)) {
                Ok(line) => {
                    return serde_json::from_str(&line).with_context(|| format!("failed to read the answer {line}"));
                }
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(anyhow::anyhow!("the program has ended")).remedy("read the log of this step");
                }
                Err(RecvTimeoutError::Timeout) => interrupt::check()?,
            }
            if Instant::now() > deadline {
                bail!("no answer within {} s", PATIENCE.as_secs());
            }
        }
    }
}
