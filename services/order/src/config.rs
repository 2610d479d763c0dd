//! What the service reads from its environment. `order --help` prints all of it.

use std::time::Duration;

use clap::{Parser, ValueEnum};
use valerix_kit::args::{BusArgs, DatabaseArgs, ServiceArgs, parse_duration};

use crate::store::Times;

/// Takes orders and brings each of them to an end.
#[derive(Parser, Clone, Debug)]
#[command(name = "order", version)]
#[command(mut_arg("listen_address", |arg| arg.default_value("0.0.0.0:3001")))]
#[command(mut_arg("service", |arg| arg.default_value("order")))]
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
    /// Where inventory is, unless the policy document says otherwise.
    #[arg(long, env = "INVENTORY_URL", default_value = "http://inventory")]
    pub inventory_url: String,
    /// Where payment is, unless the policy document says otherwise.
    #[arg(long, env = "PAYMENT_URL", default_value = "http://payment")]
    pub payment_url: String,
    /// Budget of the HTTP fast path: after it POST answers 202 and events carry on.
    #[arg(long, env = "ORDER_BUDGET", default_value = "2s", value_parser = parse_duration)]
    pub order_budget: Duration,
    /// An order that is not confirmed by then is cancelled.
    #[arg(long, env = "ORDER_EXPIRY", default_value = "15m", value_parser = parse_duration)]
    pub order_expiry: Duration,
    /// Time before a command that was not answered is sent again; doubles up to thirty times this.
    #[arg(long, env = "COMMAND_RESEND", default_value = "30s", value_parser = parse_duration)]
    pub command_resend: Duration,
    /// Time before an order that inventory or payment know, and this database does not (it came from an archive), is undone.
    #[arg(long, env = "FORGOTTEN_AFTER", default_value = "15m", value_parser = parse_duration)]
    pub forgotten_after: Duration,
    /// Pause between two looks for due commands and expired orders.
    #[arg(long, env = "SWEEP_INTERVAL", default_value = "500ms", value_parser = parse_duration)]
    pub sweep_interval: Duration,
    /// Whether orders may ask for a gremlin, whatever the policy document says; without it the policy decides.
    #[arg(long, env = "GREMLIN", value_enum)]
    pub gremlin: Option<Gremlin>,
}

/// Whether orders may ask for a gremlin, which has inventory wait.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
#[value(rename_all = "PascalCase")]
pub enum Gremlin {
    /// They may.
    Allowed,
    /// Only where the policy document allows it.
    Denied,
}

impl Config {
    /// The times of the saga.
    #[must_use]
    pub const fn times(&self) -> Times {
        Times {
            budget: self.order_budget,
            expiry: self.order_expiry,
            resend: self.command_resend,
            forgotten: self.forgotten_after,
        }
    }
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
