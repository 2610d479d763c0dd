//! How a guard stands beside its application: what the operator writes into the environment variable [`WIRING_ENV`] of
//! the sidecar, and the guard reads at its start. What holds for the traffic stands in the policy document, not here:
//! a change of this is a rollout, a change of that is not.

use serde::{Deserialize, Serialize};

/// The variable that carries a [`Wiring`] as JSON.
pub const WIRING_ENV: &str = "VALERIX_GUARD";
/// Port of the first inbound listener; the next has the next number. Unit: TCP port.
pub const FIRST_INBOUND_PORT: u16 = 15100;
/// Port of the first target's listener, on loopback alone; the next has the next number. Unit: TCP port.
pub const FIRST_TARGET_PORT: u16 = 15200;
/// Port of the forward proxy, on loopback alone. Unit: TCP port.
pub const FORWARD_PROXY_PORT: u16 = 15001;

/// The listeners of one guard.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Wiring {
    /// What comes to the application through the guard.
    #[serde(default)]
    pub inbound: Vec<InboundListener>,
    /// What the application calls through the guard, by a listener for each target.
    #[serde(default)]
    pub targets: Vec<TargetListener>,
    /// The forward proxy for applications that can be told no other address. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forward_proxy: Option<ForwardProxy>,
}

/// One port of the application.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct InboundListener {
    /// Name of the application's port.
    pub name: String,
    /// What is spoken there.
    pub protocol: Protocol,
    /// Where the guard listens, on all addresses. Unit: TCP port.
    pub listen: u16,
    /// Where the application listens. Unit: TCP port.
    pub forward: u16,
}

/// One target of the policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TargetListener {
    /// Name of the target in the policy document.
    pub name: String,
    /// What is spoken there.
    pub protocol: Protocol,
    /// Where the guard listens, on loopback. Unit: TCP port.
    pub listen: u16,
    /// Where the target is when the policy document does not say: `http://`, `https://` or `tcp://`, host and port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// The file of the authorities, in PEM, that sign the certificate of an `https://` target. Default: those of the pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authorities: Option<String>,
    /// The name that the certificate of an `https://` target has. Default: the host of its URL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_name: Option<String>,
}

/// The forward proxy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ForwardProxy {
    /// Where the guard listens, on loopback. Unit: TCP port.
    pub listen: u16,
    /// What becomes of requests to hosts that are no target of the policy.
    pub unknown_hosts: UnknownHosts,
}

/// What is spoken on a port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Protocol {
    /// HTTP/1.1, and HTTP/2 for those that begin with it; gRPC is HTTP.
    #[default]
    #[serde(rename = "HTTP")]
    Http,
    /// HTTP/2 without TLS, known in advance, also towards the other side.
    #[serde(rename = "H2C")]
    H2c,
    /// Bytes that nobody looks into.
    #[serde(rename = "TCP")]
    Tcp,
}

/// What becomes of requests to hosts that are no target of the policy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum UnknownHosts {
    /// They are passed on as they are.
    #[default]
    Forward,
    /// They are refused with 502 and a problem that names the host.
    Refuse,
}
