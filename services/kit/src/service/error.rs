//! What keeps a service from starting.

use std::net::SocketAddr;

use valerix_resilience::BuildError;

use crate::identity::InvalidCallKeys;
use crate::postgres::DatabaseUrlError;

/// Why a service could not start. A dependency that is late is never a reason.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A metric is defined twice.
    #[error("failed to define the metrics")]
    Metrics(#[source] prometheus::Error),
    /// The resilience library does not start.
    #[error("failed to start the resilience library")]
    Resilience(#[source] valerix_resilience::StartError),
    /// The URL of the database is none.
    #[error("failed to open the database")]
    Database(#[source] DatabaseUrlError),
    /// A setting of the service's own is not acceptable.
    #[error("failed to read {setting}")]
    Setting {
        /// Which.
        setting: &'static str,
        /// Why not.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The keys that services share can not be read.
    #[error("failed to read the keys that services share")]
    Identity(#[source] InvalidCallKeys),
    /// The URL of another service is none.
    #[error("failed to make a client of {service}")]
    Client {
        /// The other service.
        service: String,
        /// Why not.
        #[source]
        source: BuildError,
    },
    /// The runtime does not start, or signals can not be heard.
    #[error("failed to start the runtime")]
    Runtime(#[source] std::io::Error),
    /// The address is taken or not ours.
    #[error("failed to listen on {address}")]
    Listen {
        /// What was asked for.
        address: SocketAddr,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
}
