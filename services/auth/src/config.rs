//! What the service reads from its environment. `auth --help` prints all of it.

use std::time::Duration;

use clap::{Args, Parser};
use valerix_kit::args::{BusArgs, DatabaseArgs, Secret, ServiceArgs, parse_duration, parse_networks};
use valerix_resilience::Network;

/// Knows the shop's users, and signs the tokens by which every service knows them.
#[derive(Parser, Clone, Debug)]
#[command(name = "auth", version)]
#[command(mut_arg("listen_address", |arg| arg.default_value("0.0.0.0:3000")))]
#[command(mut_arg("service", |arg| arg.default_value("auth")))]
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
    /// Its passwords.
    #[command(flatten)]
    pub passwords: PasswordArgs,
    /// Its tokens.
    #[command(flatten)]
    pub tokens: TokenArgs,
    /// E-mail of an admin who is there from the start; needs ADMIN_PASSWORD.
    #[arg(long, env = "ADMIN_EMAIL", requires = "admin_password")]
    pub admin_email: Option<String>,
    /// Password of that admin, until they choose another; one that is changed here is taken over, and ends their sessions.
    #[arg(long, env = "ADMIN_PASSWORD", hide_env_values = true, requires = "admin_email")]
    pub admin_password: Option<Secret>,
    /// Networks whose X-Forwarded-For is believed when guessing is counted by address; those of the cluster's own pods. Empty:
    /// nobody's.
    #[arg(
        long,
        env = "TRUSTED_PROXIES",
        value_parser = parse_networks,
        default_value = "10.0.0.0/8,172.16.0.0/12,192.168.0.0/16,100.64.0.0/10,fd00::/8,127.0.0.0/8,::1"
    )]
    // By its full path, as clap takes a plain Vec for one argument per network.
    pub trusted_proxies: std::vec::Vec<Network>,
}

/// What a hash of a password costs. The defaults are what OWASP recommends for argon2id.
#[derive(Args, Clone, Debug)]
pub struct PasswordArgs {
    /// Memory of one hash in KiB.
    #[arg(long, env = "ARGON2_MEMORY_KIB", default_value_t = 19_456, value_parser = clap::value_parser!(u32).range(8..=1_048_576))]
    pub argon2_memory_kib: u32,
    /// Passes over that memory.
    #[arg(long, env = "ARGON2_PASSES", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub argon2_passes: u32,
    /// Hashes that are made side by side; each takes a core and its memory.
    #[arg(long, env = "ARGON2_CONCURRENCY", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=256))]
    pub argon2_concurrency: u32,
    /// How long a request waits for its turn before it is answered that the service is overloaded.
    #[arg(long, env = "ARGON2_WAIT", default_value = "1s", value_parser = parse_duration)]
    pub argon2_wait: Duration,
}

/// How long tokens hold, and with what their keys are kept.
#[derive(Args, Clone, Debug)]
pub struct TokenArgs {
    /// Secret of 32 characters or more, by which the private keys in the database are encrypted.
    #[arg(long, env = "AUTH_KEY_SECRET", hide_env_values = true)]
    pub auth_key_secret: Secret,
    /// How long an access token holds.
    #[arg(long, env = "ACCESS_TOKEN_LIFETIME", default_value = "5m", value_parser = parse_duration)]
    pub access_token_lifetime: Duration,
    /// How long a refresh token holds.
    #[arg(long, env = "REFRESH_TOKEN_LIFETIME", default_value = "336h", value_parser = parse_duration)]
    pub refresh_token_lifetime: Duration,
    /// How long a refresh token that was exchanged may be exchanged again: the answer to the first time may be lost.
    #[arg(long, env = "REFRESH_GRACE", default_value = "5s", value_parser = parse_duration)]
    pub refresh_grace: Duration,
    /// How long a new signing key is published before it signs; services read the published keys every 5 minutes.
    #[arg(long, env = "KEY_LEAD", default_value = "10m", value_parser = parse_duration)]
    pub key_lead: Duration,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn nobody_is_believed_where_the_proxies_are_an_empty_text() {
        let parse = |more: &[&str]| {
            let needed = [
                "auth",
                "--database-url=postgres://db/auth",
                "--redis-url=redis://bus",
                "--auth-key-secret=x",
            ];
            Config::try_parse_from(needed.iter().chain(more)).map(|config| config.trusted_proxies.len())
        };
        assert_eq!(parse(&["--trusted-proxies", ""]).unwrap(), 0);
        assert_eq!(parse(&["--trusted-proxies", "10.0.0.0/8,::1"]).unwrap(), 2);
        assert_eq!(parse(&[]).unwrap(), 7);
        assert!(parse(&["--trusted-proxies", "ten"]).is_err());
    }

    #[test]
    fn every_variable_has_help() {
        Config::command().debug_assert();
        for argument in Config::command().get_arguments() {
            assert!(argument.get_help().is_some(), "{} has no help", argument.get_id());
        }
    }
}
