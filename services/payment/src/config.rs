//! What the service reads from its environment. `payment --help` prints all of it.

use std::time::Duration;

use clap::Parser;
use valerix_kit::args::{BusArgs, DatabaseArgs, ServiceArgs, parse_duration};

/// Takes the money of an order once, and gives it back when order no longer wants it.
#[derive(Parser, Clone, Debug)]
#[command(name = "payment", version)]
#[command(mut_arg("listen_address", |arg| arg.default_value("0.0.0.0:3003")))]
#[command(mut_arg("service", |arg| arg.default_value("payment")))]
pub struct Config {
    /// What every service reads.
    #[command(flatten)]
    pub service: ServiceArgs,
    /// Its database.
    #[command(flatten)]
    pub database: DatabaseArgs,
    /// Its events.
    #[command(flatten)]
    pub bus: BusArgs,
    /// Where the card processor is, unless the policy document says otherwise.
    #[arg(long, env = "PROCESSOR_URL", default_value = "http://processor")]
    pub processor_url: String,
    /// How long the processor is waited for at first, and how long nobody else asks it about the same payment. Doubles with
    /// every attempt, up to a minute.
    #[arg(long, env = "SETTLE_LEASE", default_value = "5s", value_parser = parse_duration)]
    pub settle_lease: Duration,
    /// Pause between two looks for payments whose processor has to be asked.
    #[arg(long, env = "SWEEP_INTERVAL", default_value = "500ms", value_parser = parse_duration)]
    pub sweep_interval: Duration,
    /// Time after which the payments are compared with the processor's ledger again.
    #[arg(long, env = "RECONCILE_INTERVAL", default_value = "1h", value_parser = parse_duration)]
    pub reconcile_interval: Duration,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn every_variable_has_help() {
        Config::command().debug_assert();
        for argument in Config::command().get_arguments() {
            assert!(argument.get_help().is_some(), "{} has no help", argument.get_id());
        }
    }
}
