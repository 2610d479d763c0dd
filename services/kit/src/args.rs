//! The environment that every service reads, as clap argument groups to flatten into its own.
//!
//! Two have no default of their own, the service sets it:
//! `#[command(mut_arg("listen_address", |arg| arg.default_value("0.0.0.0:3001")))]`.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, ValueEnum};
use valerix_resilience::Network;

use crate::server::Limits;

/// Who keeps connections for long is no reason to wait as long for a head that has begun.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// What every service needs to know about itself and its place.
#[derive(Args, Clone, Debug)]
pub struct ServiceArgs {
    /// Address and port of the HTTP API.
    #[arg(long, env = "LISTEN_ADDRESS", required = false)]
    pub listen_address: SocketAddr,
    /// Name of the service, as callers and policy documents spell it.
    #[arg(long, env = "VALERIX_SERVICE", required = false)]
    pub service: String,
    /// Namespace of the service.
    #[arg(long, env = "VALERIX_NAMESPACE", default_value = "default")]
    pub namespace: String,
    /// UID of the pod; faults are addressed by it.
    #[arg(long, env = "VALERIX_POD_UID", default_value = "")]
    pub pod_uid: String,
    /// Name of the pod: the consumer's name on the event streams.
    #[arg(long, env = "POD_NAME", default_value = "local")]
    pub pod_name: String,
    /// Folder with the policy documents.
    #[arg(long, env = "VALERIX_POLICY_DIR", default_value = "/etc/valerix/policy")]
    pub policy_dir: PathBuf,
    /// Folder that survives a restart of the container: last good document, crash markers.
    #[arg(long, env = "VALERIX_STATE_DIR", default_value = "/var/lib/valerix")]
    pub state_dir: PathBuf,
    /// Port of the report, the metrics and the deep health check, on the address of the API; 0 picks a free one.
    #[arg(long, env = "VALERIX_REPORT_PORT", default_value_t = 9090)]
    pub report_port: u16,
    /// How log lines look.
    #[arg(long, env = "LOG_FORMAT", value_enum, default_value_t = LogFormat::Json)]
    pub log_format: LogFormat,
    /// Which log lines are written, in the syntax of tracing's EnvFilter.
    #[arg(long, env = "RUST_LOG", default_value = "info")]
    pub log_filter: String,
    /// How long a draining service goes on serving as before, so that everyone hears that it is not ready any more.
    #[arg(long, env = "DRAIN_WAIT", default_value = "5s", value_parser = parse_duration)]
    pub drain_wait: Duration,
    /// How long requests in flight may take to finish after that.
    #[arg(long, env = "DRAIN_TIMEOUT", default_value = "30s", value_parser = parse_duration)]
    pub drain_timeout: Duration,
    /// How long a connection may idle before a request; a head of HTTP/1.1 has 10s from its first byte on, or less where
    /// this is less.
    #[arg(long, env = "HEADER_READ_TIMEOUT", default_value = "65s", value_parser = parse_duration)]
    pub header_read_timeout: Duration,
    /// How long a request's body may stand still before it is cut off, and how long a client may take nothing of an answer.
    #[arg(long, env = "BODY_READ_TIMEOUT", default_value = "30s", value_parser = parse_duration)]
    pub body_read_timeout: Duration,
    /// Connections that each port of the API may have at a time; one more waits until another ends.
    #[arg(long, env = "MAX_CONNECTIONS", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub max_connections: u32,
    /// URL of the Redis for rate limits that all replicas share, where it is not the one of the events.
    #[arg(long, env = "REDIS_LIMITS_URL", hide_env_values = true)]
    pub redis_limits_url: Option<Secret>,
    /// Who may call, and how its own calls prove who it is.
    #[command(flatten)]
    pub identity: IdentityArgs,
}

impl ServiceArgs {
    /// What the listeners of the API bear.
    #[must_use]
    pub const fn limits(&self) -> Limits {
        Limits {
            header_read_timeout: self.header_read_timeout,
            head_timeout: HEAD_TIMEOUT,
            body_read_timeout: self.body_read_timeout,
            drain_timeout: self.drain_timeout,
            connections: self.max_connections as usize,
            wide: usize::MAX,
        }
    }
}

/// How the service knows who calls, and proves who it is; see [`crate::identity`].
#[derive(Args, Clone, Debug, Default)]
pub struct IdentityArgs {
    /// URL of auth, whose keys verify the tokens of users; without it the service is open: everyone may do everything.
    #[arg(long, env = "AUTH_URL")]
    pub auth_url: Option<String>,
    /// Keys for its calls: service=key[,service=key], each key of 32 bytes or more.
    #[arg(long, env = "CALL_KEYS", hide_env_values = true)]
    pub call_keys: Option<Secret>,
    /// Keys of those who call it: service=key[,service=key]; a service that is given twice may use either key.
    #[arg(long, env = "CALLER_KEYS", hide_env_values = true)]
    pub caller_keys: Option<Secret>,
}

/// Where the service's Postgres is and how it is used.
#[derive(Args, Clone, Debug)]
pub struct DatabaseArgs {
    /// URL of the service's own database: postgres://user:password@host:port/name
    #[arg(long, env = "DATABASE_URL", hide_env_values = true)]
    pub database_url: Secret,
    /// Most connections this process opens.
    #[arg(long, env = "DATABASE_MAX_CONNECTIONS", default_value_t = 10, value_parser = clap::value_parser!(u32).range(2..=1000))]
    pub database_max_connections: u32,
    /// How long a request waits for a connection.
    #[arg(long, env = "DATABASE_ACQUIRE_TIMEOUT", default_value = "1500ms", value_parser = parse_duration)]
    pub database_acquire_timeout: Duration,
    /// How long Postgres works on one statement.
    #[arg(long, env = "DATABASE_STATEMENT_TIMEOUT", default_value = "5s", value_parser = parse_duration)]
    pub database_statement_timeout: Duration,
}

/// Where Redis is, which carries the events.
#[derive(Args, Clone, Debug)]
pub struct BusArgs {
    /// URL of Redis: redis://host:port/
    #[arg(long, env = "REDIS_URL", hide_env_values = true)]
    pub redis_url: Secret,
    /// What stands before every key.
    #[arg(long, env = "REDIS_PREFIX", default_value = "valerix:")]
    pub redis_prefix: String,
    /// Entries to which a stream is cut whether they were handled or not; Redis must have room for so many on each. What a
    /// group loses by that is published again once the group has caught up.
    #[arg(long, env = "REDIS_STREAM_MAX_ENTRIES", default_value_t = 1_000_000)]
    pub redis_stream_max_entries: usize,
    /// How long an event stays on its stream although every group has handled it.
    #[arg(long, env = "REDIS_STREAM_KEEP", default_value = "1m", value_parser = parse_duration)]
    pub redis_stream_keep: Duration,
    /// How long Redis is waited for: a connection, and each answer. Whoever wants a lock waits half as long.
    #[arg(long, env = "REDIS_TIMEOUT", default_value = "1s", value_parser = parse_duration)]
    pub redis_timeout: Duration,
}

/// How log lines look.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For people at a terminal.
    Text,
}

/// A text that may hold a password: not shown by `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The text itself.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl FromStr for Secret {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("***")
    }
}

/// A duration in the notation of the policy documents: `250ms`, `5s`, `1m30s`.
///
/// # Errors
/// When it is none.
pub fn parse_duration(text: &str) -> Result<Duration, valerix_resilience::policy::InvalidDuration> {
    text.parse::<valerix_resilience::policy::Duration>().map(Into::into)
}

/// Networks with commas between them, `10.0.0.0/8,::1`; none in an empty text, which is how a variable says that there are
/// none where its default names some.
///
/// # Errors
/// When one of them is none.
pub fn parse_networks(text: &str) -> Result<Vec<Network>, <Network as FromStr>::Err> {
    if text.trim().is_empty() {
        return Ok(Vec::new());
    }
    text.split(',').map(|network| network.trim().parse()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_sums_of_numbers_with_units() {
        assert_eq!(parse_duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(parse_duration("1m30s"), Ok(Duration::from_secs(90)));
        for bad in ["", "5", "s", "5 s", "-1s", "1d", "99999999999s", "1s2"] {
            assert!(parse_duration(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn no_networks_are_an_empty_text() {
        assert_eq!(parse_networks("").map(|none| none.len()), Ok(0));
        assert_eq!(parse_networks(" ").map(|none| none.len()), Ok(0));
        assert_eq!(parse_networks("10.0.0.0/8, ::1").map(|two| two.len()), Ok(2));
        for bad in [",", "10.0.0.0/8,", "10.0.0.0/33", "ten"] {
            assert!(parse_networks(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_secret_is_not_shown() {
        assert_eq!(format!("{:?}", Secret::from("postgres://a:b@c/d".to_owned())), "***");
    }
}
