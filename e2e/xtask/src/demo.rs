//! The guided tour: brings everything up, then hands over to the program `demo` of the end-to-end tests' crate, which
//! installs the product, shows each of the three kinds at work and leaves all of it running.

use std::ffi::OsString;
use std::path::Path;

use anyhow::{Context, Result};

use crate::clusters::Cluster;
use crate::command::Program;
use crate::failure::WithRemedy;
use crate::images::{self, Profile};
use crate::paths::Paths;
use crate::steps::{Log, Steps};

/// Brings up the cluster with the images, and becomes the tour.
///
/// # Errors
/// [`crate::failure::Shown`] when a step failed.
pub fn run(paths: &Paths) -> Result<()> {
    let mut steps = Steps::begin(paths.logs("demo"))?;
    let cluster = Cluster::choose("demo", paths)?;
    println!("Valerix demo on {}", cluster.describe());
    let programs = std::thread::scope(|scope| {
        // One waits for the network where the other computes.
        let prepared = steps.beside(scope, "Preparing the cluster and the base images", |log| {
            cluster.prepare(log)
        })?;
        let programs = steps.run("Compiling the product", |log| {
            images::compile(paths, cluster.builder(), Profile::Dev, log).inspect_err(|_| crate::interrupt::request())
        });
        steps.wait_for(prepared)?;
        programs
    })?;
    let access = steps.run("Bringing the cluster up", |log| cluster.up(log))?;
    let images = steps.run("Building the images", |log| {
        images::build(paths, cluster.builder(), &programs, log)
    })?;
    drop(programs);
    let loaded = steps.run("Loading the images", |log| cluster.load(&images, log))?;
    std::fs::write(loaded_images(paths), serde_json::to_vec(&loaded)?).context("failed to note the loaded images")?;
    println!("\n{}", steps.summary());
    let tour = cluster.harness(&images::kept(paths, "demo"), &access, &loaded)?;
    drop(steps);
    tour.arg("tour").on_the_terminal().replace()
}

/// Places one order in the demo's shop.
///
/// # Errors
/// When the demo is not up.
pub fn order(paths: &Paths, item: &str, quantity: u32) -> Result<()> {
    let quantity = quantity.to_string();
    on_the_demo(paths, "order")?
        .args(["order", "--item", item, "--quantity", &quantity])
        .on_the_terminal()
        .replace()
}

/// Puts load on the demo's shop, or shows something of it.
///
/// # Errors
/// When the demo is not up.
pub fn load(paths: &Paths, arguments: &[OsString]) -> Result<()> {
    on_the_demo(paths, "load")?
        .arg("load")
        .args(arguments)
        .on_the_terminal()
        .replace()
}

/// The program `demo` on the cluster as it was brought up last.
fn on_the_demo(paths: &Paths, command: &str) -> Result<Program> {
    let log = Log::create(paths.logs(command).join("log"))?;
    let cluster = Cluster::choose("demo", paths)?;
    let access = cluster.access(&log)?;
    let loaded = std::fs::read(loaded_images(paths))
        .context("failed to read what the demo was made of")
        .remedy("bring it up first: make demo")?;
    let loaded = serde_json::from_slice(&loaded).context("failed to read what the demo was made of")?;
    cluster.harness(&images::kept(paths, "demo"), &access, &loaded)
}

fn loaded_images(paths: &Paths) -> std::path::PathBuf {
    paths.checkout.join(Path::new("target/bin/demo.json"))
}
