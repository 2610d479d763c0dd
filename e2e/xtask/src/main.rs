//! The programs behind the Makefile: `demo` brings everything up and shows it at work, `test` checks everything,
//! `down` removes it. Each subcommand reads as a list of steps; the rooms below it say how a step is done.

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use xtask::check::{self, Scope};
use xtask::clusters::Cluster;
use xtask::command::Program;
use xtask::images::{self, Profile};
use xtask::paths::Paths;
use xtask::shop_local::Selection;
use xtask::steps::{Log, Steps};
use xtask::{book, campaign, demo, failure, interrupt, mutants, shop_local};

/// Brings up the Valerix demo and runs the checks.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Brings up a cluster, installs everything and shows the three kinds at work.
    Demo,
    /// Runs every check and test.
    Test,
    /// Runs the quick checks: formatting, lints, drift, licences, charts.
    Check,
    /// Runs the unit and service tests on a PostgreSQL and a Redis of its own.
    Unit,
    /// Runs the end-to-end tests on a cluster of its own.
    E2e {
        /// With 3, the tests of placement on a cluster of three nodes in three zones, and no other.
        #[arg(long, value_parser = clap::value_parser!(u8).range(i64::from(check::NODES)..=i64::from(check::NODES)))]
        nodes: Option<u8>,
    },
    /// Removes the clusters `demo` and `test`.
    Down,
    /// Prints the path of the demo cluster's kubeconfig.
    Kubeconfig,
    /// Runs kubectl on the demo cluster.
    Kubectl {
        /// kubectl's own arguments.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Places one order in the demo's shop and prints it.
    Order {
        /// The item's id.
        #[arg(long, default_value = "ps5")]
        item: String,
        /// How many.
        #[arg(long, default_value_t = 1)]
        quantity: u32,
    },
    /// Puts load on the demo's shop, or shows something of it, and ends with a verdict.
    Load {
        /// What the load program takes: `--scenario`, `--rate`, `--lasts`, `--url`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Runs the shop on this machine without Kubernetes, until Ctrl-C.
    ShopLocal(Selection),
    /// Tries under faults what a test run tries a slice of.
    Campaign(campaign::Choice),
    /// Plants mistakes one at a time and tells which of them no test notices.
    Mutants(mutants::Choice),
    /// Builds the images and prints their references.
    Images,
    /// Writes every generated file: CRDs, examples, references.
    Generate,
    /// Checks the documentation and makes its site.
    Docs,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    failure::exit_code(interrupt::listen().and_then(|()| run(arguments.command)))
}

fn run(command: Command) -> Result<()> {
    let paths = Paths::from_environment()?;
    match command {
        Command::Demo => demo::run(&paths),
        Command::Test => check::run(&paths, Scope::All),
        Command::Check => check::run(&paths, Scope::Quick),
        Command::Unit => check::run(&paths, Scope::Unit),
        Command::E2e { nodes: None } => check::run(&paths, Scope::EndToEnd),
        Command::E2e { nodes: Some(_) } => check::run(&paths, Scope::Placement),
        Command::Down => down(&paths),
        Command::Kubeconfig => {
            let log = Log::create(paths.logs("kubeconfig").join("log"))?;
            let access = Cluster::choose("demo", &paths)?.access(&log)?;
            println!("{}", access.kubeconfig.display());
            Ok(())
        }
        Command::Kubectl { arguments } => {
            let log = Log::create(paths.logs("kubectl").join("log"))?;
            let cluster = Cluster::choose("demo", &paths)?;
            Program::new(cluster.kubectl()?)
                .env("KUBECONFIG", cluster.access(&log)?.kubeconfig)
                .args(arguments)
                .on_the_terminal()
                .replace()
        }
        Command::Order { item, quantity } => demo::order(&paths, &item, quantity),
        Command::Load { arguments } => demo::load(&paths, &arguments),
        Command::Campaign(choice) => campaign::run(&paths, &choice),
        Command::Mutants(choice) => mutants::run(&paths, &choice),
        Command::ShopLocal(selection) => shop_local::run(&paths, &selection),
        Command::Images => build_images(&paths),
        Command::Docs => book::run(&paths),
        Command::Generate => check::write_generated(&paths),
    }
}

fn down(paths: &Paths) -> Result<()> {
    let mut steps = Steps::begin(paths.logs("down"))?;
    for name in ["demo", "test"] {
        let cluster = Cluster::choose(name, paths)?;
        steps.run(&format!("Removing {}", cluster.describe()), |log| cluster.down(log))?;
    }
    Ok(())
}

fn build_images(paths: &Paths) -> Result<()> {
    let mut steps = Steps::begin(paths.logs("images"))?;
    let cluster = Cluster::choose("demo", paths)?;
    steps.run("Preparing the base images", |log| cluster.prepare(log))?;
    let programs = steps.run("Compiling the product", |log| {
        images::compile(paths, cluster.builder(), Profile::Release, log)
    })?;
    let built = steps.run("Building the images", |log| {
        images::build(paths, cluster.builder(), &programs, log)
    })?;
    for image in built {
        println!("{:<10} {}", image.role, image.reference);
    }
    Ok(())
}
