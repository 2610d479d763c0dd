//! The environment of the service.

use std::time::Duration;

use clap::Parser;
use lettre::message::Mailbox;
use valerix_kit::args::{BusArgs, DatabaseArgs, Secret, ServiceArgs, parse_duration};

/// Tells customers what became of their orders.
#[derive(Parser, Clone, Debug)]
#[command(version, mut_arg("listen_address", |arg| arg.default_value("0.0.0.0:3004")))]
#[command(mut_arg("service", |arg| arg.default_value("notification")))]
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
    /// The mail server: smtps://user:password@host, or smtp://host with ?tls=required or ?tls=opportunistic for STARTTLS;
    /// what is special in user and password is percent-encoded. Without it e-mails are recorded and not sent.
    #[arg(long, env = "SMTP_URL", hide_env_values = true)]
    pub smtp_url: Option<Secret>,
    /// From whom e-mails come.
    #[arg(long, env = "SMTP_FROM", default_value = "Valerix shop <shop@valerix.example>")]
    pub smtp_from: Mailbox,
    /// How long the mail server may take for one e-mail, at most 1m.
    #[arg(long, env = "SMTP_TIMEOUT", default_value = "10s", value_parser = parse_smtp_timeout)]
    pub smtp_timeout: Duration,
    /// How often the mail server may put one message off before it is given up.
    #[arg(long, env = "DELIVERY_ATTEMPTS", default_value_t = 10, value_parser = clap::value_parser!(i32).range(1..=100))]
    pub delivery_attempts: i32,
    /// The pause after the first failure; it doubles up to 512 times this.
    #[arg(long, env = "DELIVERY_PAUSE", default_value = "1s", value_parser = parse_duration)]
    pub delivery_pause: Duration,
    /// A message that is still not delivered by then is given up.
    #[arg(long, env = "DELIVERY_EXPIRY", default_value = "24h", value_parser = parse_duration)]
    pub delivery_expiry: Duration,
    /// Pause between two looks for messages that are due.
    #[arg(long, env = "SWEEP_INTERVAL", default_value = "500ms", value_parser = parse_duration)]
    pub sweep_interval: Duration,
}

fn parse_smtp_timeout(text: &str) -> Result<Duration, String> {
    let timeout = parse_duration(text).map_err(|error| error.to_string())?;
    if (Duration::from_millis(1)..=Duration::from_secs(60)).contains(&timeout) {
        Ok(timeout)
    } else {
        Err("must be 1ms to 1m".to_owned())
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
