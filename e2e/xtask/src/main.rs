//! The programs behind the Makefile: `demo` brings everything up and shows it at work, `test` checks everything,
//! `down` removes it. Each subcommand reads as a list of steps; the rooms below it say how a step is done.

mod bench;
mod check;
mod cluster_choice;
mod clusters;
mod command;
mod counting;
mod demo;
mod failure;
mod http;
mod images;
mod interrupt;
mod kubectl;
mod leftovers;
mod orders;
mod paths;
mod release;
mod schemas;
mod services;
mod steps;
mod tools;
mod workspace;

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::check::Scope;
use crate::clusters::Cluster;
use crate::failure::{Shown, remedy_of};
use crate::paths::Paths;
use crate::steps::{Log, Steps};

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
    E2e,
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
    /// Builds the images and prints their references.
    Images,
    /// Measures the library beside its peers.
    Bench(bench::Options),
    /// Writes every generated file: CRDs, examples, references.
    Generate,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match interrupt::listen().and_then(|()| run(arguments.command)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is::<Shown>() => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            if let Some(remedy) = remedy_of(&error) {
                eprintln!("remedy: {remedy}");
            }
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<()> {
    let paths = Paths::from_environment()?;
    match command {
        Command::Demo => demo::run(&paths),
        Command::Test => check::run(&paths, Scope::All),
        Command::Check => check::run(&paths, Scope::Quick),
        Command::Unit => check::run(&paths, Scope::Unit),
        Command::E2e => check::run(&paths, Scope::EndToEnd),
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
            let kubectl = cluster.kubectl(&cluster.access(&log)?)?;
            kubectl.call(arguments).on_the_terminal().replace()
        }
        Command::Order { item, quantity } => order(&paths, &item, quantity),
        Command::Images => build_images(&paths),
        Command::Bench(options) => bench::run(&paths, &options),
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

fn order(paths: &Paths, item: &str, quantity: u32) -> Result<()> {
    let log = Log::create(paths.logs("order").join("log"))?;
    let cluster = Cluster::choose("demo", paths)?;
    let kubectl = cluster.kubectl(&cluster.access(&log)?)?;
    let order = orders::Shop::connect(&kubectl, &log)?.place(item, quantity)?;
    eprintln!("{}", order.describe());
    println!("{}", serde_json::to_string_pretty(&order.document)?);
    Ok(())
}

fn build_images(paths: &Paths) -> Result<()> {
    let mut steps = Steps::begin(paths.logs("images"))?;
    let cluster = Cluster::choose("demo", paths)?;
    steps.run("Installing what is needed", |log| cluster.install_tools(log))?;
    steps.run("Making the base images", |log| cluster.prepare_base_images(log))?;
    let built = steps.run("Building the images", |log| {
        images::build(paths, cluster.builder(), log)
    })?;
    for (role, reference) in images::references(&built) {
        println!("{role:<10} {reference}");
    }
    Ok(())
}
