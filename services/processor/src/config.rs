//! The environment of the service.

use std::time::Duration;

use clap::{Args, Parser};
use valerix_kit::args::{DatabaseArgs, ServiceArgs, parse_duration};

/// A simulated card processor.
#[derive(Parser, Clone, Debug)]
#[command(version, mut_arg("listen_address", |arg| arg.default_value("0.0.0.0:3007")))]
#[command(mut_arg("service", |arg| arg.default_value("processor")))]
pub struct Config {
    /// What every service reads.
    #[command(flatten)]
    pub service: ServiceArgs,
    /// The ledger's database.
    #[command(flatten)]
    pub database: DatabaseArgs,
    /// What goes wrong on purpose.
    #[command(flatten)]
    pub misbehaviour: MisbehaviourArgs,
}

/// What goes wrong on purpose.
#[derive(Args, Clone, Debug)]
pub struct MisbehaviourArgs {
    /// Share of keys whose charge is declined, in percent; the key decides.
    #[arg(long, env = "DECLINE_PERCENT", default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=100))]
    pub decline_percent: u8,
    /// Share of refunds that are refused for now, in percent; the next attempt may succeed.
    #[arg(long, env = "REFUND_DECLINE_PERCENT", default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=100))]
    pub refund_decline_percent: u8,
    /// How long every charge and every refund takes.
    #[arg(long, env = "DELAY", default_value = "0ms", value_parser = parse_duration)]
    pub delay: Duration,
    /// Share of charges, refunds and cancellations answered 500 before anything was done, in percent.
    #[arg(long, env = "FAIL_PERCENT", default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=100))]
    pub fail_percent: u8,
    /// Share of those answered 500 after it was done, in percent.
    #[arg(long, env = "FAIL_AFTER_PERCENT", default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=100))]
    pub fail_after_percent: u8,
    /// Share of those whose answer is held back after it was done, in percent.
    #[arg(long, env = "LATE_PERCENT", default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=100))]
    pub late_percent: u8,
    /// How long a late answer is held back.
    #[arg(long, env = "LATE_BY", default_value = "5s", value_parser = parse_duration)]
    pub late_by: Duration,
}
