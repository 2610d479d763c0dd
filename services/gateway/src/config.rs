//! The environment of the gateway.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser};
use http::Uri;
use valerix_kit::args::{ServiceArgs, parse_networks};
use valerix_resilience::Network;

/// The one entry of the shop.
#[derive(Parser, Clone, Debug)]
#[command(version, mut_arg("listen_address", |arg| arg.default_value("0.0.0.0:8080")))]
#[command(mut_arg("service", |arg| arg.default_value("gateway")))]
// Clients out there are slower than services to send a head, and there are more of them that never do.
#[command(mut_arg("header_read_timeout", |arg| arg.default_value("10s")))]
pub struct Config {
    /// What every service reads.
    #[command(flatten)]
    pub service: ServiceArgs,
    /// The file of routes, `gateway.v1.json`, followed while the gateway runs; without it the routes of the shop.
    #[arg(long, env = "GATEWAY_CONFIG")]
    pub gateway_config: Option<PathBuf>,
    /// Where targets of the routes are, in place of what the file says: name=url[,name=url]
    #[arg(long, env = "UPSTREAMS", value_delimiter = ',', value_parser = upstream)]
    pub upstreams: Vec<(String, Uri)>,
    /// Proxies in front of the gateway whose X-Forwarded-* headers are believed: address[/prefix][,..]. Empty: nobody's.
    #[arg(long, env = "TRUSTED_PROXIES", value_parser = parse_networks, default_value = "")]
    // By its full path, as clap takes a plain Vec for one argument per network.
    pub trusted_proxies: std::vec::Vec<Network>,
    /// TLS, where there are certificates.
    #[command(flatten)]
    pub tls: TlsArgs,
}

/// Where TLS is served, and by which certificates.
#[derive(Args, Clone, Debug)]
pub struct TlsArgs {
    /// Address and port of the API by TLS; served where both files are given.
    #[arg(long, env = "TLS_LISTEN_ADDRESS", default_value = "0.0.0.0:8443")]
    pub tls_listen_address: SocketAddr,
    /// The certificates in PEM, the server's own first; read again when they change.
    #[arg(long, env = "TLS_CERTIFICATE_FILE", requires = "tls_key_file")]
    pub tls_certificate_file: Option<PathBuf>,
    /// The private key in PEM.
    #[arg(long, env = "TLS_KEY_FILE", requires = "tls_certificate_file")]
    pub tls_key_file: Option<PathBuf>,
    /// Authorities in PEM by one of which clients of the TLS port must have a certificate, read again when they change;
    /// without it none is asked for.
    #[arg(long, env = "TLS_CLIENT_AUTHORITIES_FILE", requires = "tls_certificate_file")]
    pub tls_client_authorities_file: Option<PathBuf>,
}

fn upstream(text: &str) -> Result<(String, Uri), String> {
    let wanted = || format!("{text:?} must be name=url, such as order=http://order:3001");
    let (name, url) = text.split_once('=').ok_or_else(wanted)?;
    let url = url.parse().map_err(|_| wanted())?;
    Ok((name.trim().to_owned(), url))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proxies_are_read_as_every_service_reads_them() {
        let parse = |text: &str| {
            Config::try_parse_from(["gateway", "--trusted-proxies", text]).map(|config| config.trusted_proxies.len())
        };
        assert_eq!(parse("").unwrap(), 0);
        assert_eq!(parse(" ").unwrap(), 0);
        assert_eq!(parse("10.0.0.0/8, ::1").unwrap(), 2);
        assert!(parse("10.0.0.0/8,").is_err());
        assert_eq!(Config::parse_from(["gateway"]).trusted_proxies, []);
    }
}
