//! The environment of the console.

use std::time::Duration;

use clap::Parser;
use valerix_kit::args::{ServiceArgs, parse_duration};

use crate::operator::LeaseName;

/// The web console of Valerix.
#[derive(Parser, Clone, Debug)]
#[command(version, mut_arg("listen_address", |arg| arg.default_value("0.0.0.0:8080")))]
#[command(mut_arg("service", |arg| arg.default_value("console")))]
pub struct Config {
    /// What every service reads.
    #[command(flatten)]
    pub service: ServiceArgs,
    /// Namespaces to show, with commas between them. Empty: all.
    #[arg(long, env = "WATCH_NAMESPACES", value_delimiter = ',')]
    pub watch_namespaces: Vec<String>,
    /// The Lease that the operator leads under, as namespace/name. Without it nobody is told that the operator is gone.
    #[arg(long, env = "OPERATOR_LEASE")]
    pub operator_lease: Option<LeaseName>,
    /// Whether those who have not signed in see what the console itself may read. They never command.
    #[arg(long, env = "ANONYMOUS_READ", action = clap::ArgAction::Set, default_value_t = false)]
    pub anonymous_read: bool,
    /// Where orders are placed, such as http://gateway.shop:80. Without it there is no page for orders.
    #[arg(long, env = "GATEWAY_URL", value_parser = parse_gateway)]
    pub gateway_url: Option<reqwest::Url>,
    /// How long a person stays signed in; never longer than the API server accepts the token.
    #[arg(long, env = "SESSION_LIFETIME", default_value = "8h", value_parser = parse_duration)]
    pub session_lifetime: Duration,
    /// Whether browsers send the cookie of a session by TLS alone. Set it wherever the console is reached by TLS.
    #[arg(long, env = "SECURE_COOKIE", action = clap::ArgAction::Set, default_value_t = false)]
    pub secure_cookie: bool,
}

impl Config {
    /// The namespaces to show; none means all of them.
    pub fn namespaces(&self) -> Vec<String> {
        let named = self.watch_namespaces.iter().map(|name| name.trim());
        let mut named: Vec<String> = named.filter(|name| !name.is_empty()).map(str::to_owned).collect();
        named.sort();
        named.dedup();
        named
    }
}

fn parse_gateway(text: &str) -> Result<reqwest::Url, String> {
    let url = text.parse::<reqwest::Url>();
    url.ok()
        .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
        .ok_or_else(|| format!("{text:?} must be a URL, such as http://gateway.shop:80"))
}
