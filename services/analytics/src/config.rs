//! The environment of the service.

use clap::Parser;
use valerix_kit::args::{BusArgs, DatabaseArgs, ServiceArgs};

/// Figures of the shop, minute by minute.
#[derive(Parser, Clone, Debug)]
#[command(version, mut_arg("listen_address", |arg| arg.default_value("0.0.0.0:3006")))]
#[command(mut_arg("service", |arg| arg.default_value("analytics")))]
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
