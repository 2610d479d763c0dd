//! The environment of the guard.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use clap::Parser;
use valerix_kit::args::ServiceArgs;
use valerix_policy::guard::{Protocol, WIRING_ENV, Wiring};
use valerix_proxy::Speaks;

use crate::memory::Bounds;

/// The guard of one application.
#[derive(Parser, Clone, Debug)]
// Its ports are those of the wiring; what counts here is the address on which inbound listeners and the report are.
#[command(version, mut_arg("listen_address", |arg| arg.default_value("0.0.0.0:0")))]
#[command(mut_arg("service", |arg| arg.default_value("guarded")))]
pub struct Config {
    /// What every service reads.
    #[command(flatten)]
    pub service: ServiceArgs,
    /// The listeners, as JSON.
    #[arg(long, env = WIRING_ENV, default_value = "{}", value_parser = wiring)]
    pub wiring: Wiring,
    /// Address of the pod, for an application that listens on that alone.
    #[arg(long, env = "VALERIX_POD_IP")]
    pub pod_ip: Option<IpAddr>,
    /// Bytes of memory that its container may use: what clients can hold is bounded accordingly. Default: as if it were 1 GiB.
    #[arg(long, env = "MEMORY_LIMIT")]
    pub memory_limit: Option<u64>,
}

impl Config {
    /// What clients may have it hold.
    #[must_use]
    pub fn bounds(&self) -> Bounds {
        Bounds::within(self.memory_limit, self.service.limits().connections)
    }

    /// Where the application listens for `port`, the likelier place first.
    #[must_use]
    pub fn application(&self, port: u16) -> Vec<SocketAddr> {
        let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let places = [Some(loopback), self.pod_ip];
        places.into_iter().flatten().map(|place| (place, port).into()).collect()
    }
}

/// What is spoken towards who listens on a port of a protocol.
#[must_use]
pub const fn speaks(protocol: Protocol) -> Speaks {
    match protocol {
        Protocol::H2c => Speaks::Http2,
        Protocol::Http | Protocol::Tcp => Speaks::AsAsked,
    }
}

fn wiring(text: &str) -> Result<Wiring, String> {
    serde_json::from_str(text).map_err(|error| {
        format!("{WIRING_ENV} must be JSON such as {{\"inbound\":[{{\"name\":\"http\",\"protocol\":\"HTTP\",\"listen\":15100,\"forward\":8080}}]}}: {error}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wiring_that_is_none_names_what_is_wrong() {
        let error = wiring(r#"{"inbound":[{"name":"http","protocol":"FTP","listen":1,"forward":2}]}"#).unwrap_err();
        assert!(
            error.contains("VALERIX_GUARD must be JSON") && error.contains("FTP"),
            "{error}"
        );
        assert_eq!(wiring("{}"), Ok(Wiring::default()));
    }
}
