//! Clients that call a target over HTTP: one over reqwest, and a layer around any other that is a tower service.

#[cfg(feature = "reqwest")]
mod builder;
#[cfg(feature = "reqwest")]
mod connect;
mod layer;
mod partition;
#[cfg(feature = "reqwest")]
mod request;
#[cfg(feature = "reqwest")]
mod resilient;
#[cfg(feature = "reqwest")]
mod response;
#[cfg(feature = "reqwest")]
mod trace;

pub use self::layer::{
    ChosenAddress, ConnectError, MayRepeat, RequestBodyError, SentOnce, TargetBody, TargetLayer, TargetService,
};

#[cfg(feature = "reqwest")]
pub use self::{
    builder::{BuildError, ClientBuilder},
    request::RequestBuilder,
    resilient::ResilientClient,
    response::ClientResponse,
};
