//! Load and demonstration programs that a person runs against the shop, each ending in a verdict in words:
//! `make load SCENARIO=spike`, `make shop-race`, `make shop-fencing`, `make shop-scaling`, `make gameday`.
//!
//! They order an item of their own (`load-test`), so that nobody's stock is used up, and leave the shop as it was.

mod client;
mod gameday;
pub mod measured;
pub mod open;
mod scenarios;
mod shows;

use std::time::Duration;

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};

use crate::world::World;

/// What is to be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Scenario {
    /// An order a second for ten seconds: the shop works at all.
    Smoke,
    /// Up to `--rate`, held for `--lasts`: nothing fails, nothing is slow.
    Load,
    /// Ten times `--rate` for ten seconds: what is too much is refused, and the shop is itself again afterwards.
    Spike,
    /// `--rate` for ten times `--lasts`: it does not get slower.
    Soak,
    /// Fifty customers want the last piece at once: one gets it.
    Race,
    /// Ten orders at once by one client at the gateway: five of them are told to come back.
    RateLimit,
    /// Inventory is slowed: orders are accepted at once as soon as the circuit is open, and confirmed in the end.
    Breaker,
    /// Who held the lock too long is refused by the fencing token.
    Fencing,
    /// The same work on one replica and on three.
    Scaling,
    /// Every experiment of examples/chaos, one after another, while customers order: each is passed and no order is lost.
    #[value(name = "gameday")]
    GameDay,
}

/// How much.
#[derive(Clone, Debug, Args)]
pub struct Options {
    /// Orders per second.
    #[arg(long, default_value_t = 20.0, value_parser = rate)]
    pub rate: f64,
    /// Seconds for which the rate is held.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    pub lasts: u64,
    /// Where the service `order` is, if not at the address of its Service.
    #[arg(long)]
    pub url: Option<String>,
}

impl Options {
    fn lasts(&self) -> Duration {
        Duration::from_secs(self.lasts)
    }
}

fn rate(text: &str) -> Result<f64, String> {
    let rate: f64 = text.parse().map_err(|_| "is no number".to_owned())?;
    if (0.1..=2_000.0).contains(&rate) {
        Ok(rate)
    } else {
        Err("must be 0.1 to 2000 orders per second".to_owned())
    }
}

/// Runs one of them and prints what was seen.
///
/// # Errors
/// If something does not hold, or the shop cannot be asked.
pub async fn run(world: &World, scenario: Scenario, options: &Options) -> Result<()> {
    let verdict = match scenario {
        Scenario::Smoke => scenarios::smoke(world, options).await,
        Scenario::Load => scenarios::load(world, options).await,
        Scenario::Spike => scenarios::spike(world, options).await,
        Scenario::Soak => scenarios::soak(world, options).await,
        Scenario::Race => shows::race(world, options).await,
        Scenario::RateLimit => shows::rate_limit(world).await,
        Scenario::Breaker => shows::breaker(world, options).await,
        Scenario::Fencing => shows::fencing(world).await,
        Scenario::Scaling => shows::scaling(world, options).await,
        Scenario::GameDay => gameday::day(world, options).await,
    }?;
    println!("{verdict}");
    if !verdict.passes() {
        bail!("what is called BROKEN above does not hold");
    }
    Ok(())
}
