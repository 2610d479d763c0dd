//! The file of routes, `gateway.v1.json`: which request goes to which target, who may send it, how large it may be. Pure.
//!
//! How a target is called (timeouts, retries, breaker, limits of requests) is the policy document's to say, which the
//! operator writes: here it is only named.

mod cors;
mod findings;
mod shop;
mod validate;

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use valerix_policy::{Duration, Parsed, PolicyError};

pub use self::cors::{ANY, Cors};

/// Paths of the gateway's own, whatever the routes say.
pub const OWN: [&str; 3] = ["/api/dashboard", "/api/instance", "/services"];
/// Paths that every service answers itself.
const OF_EVERY_SERVICE: [&str; 4] = ["/health", "/ready", "/openapi.json", "/docs"];

/// Whether the gateway answers a path itself, whatever the routes say.
#[must_use]
pub fn is_own(path: &str) -> bool {
    OWN.iter().chain(&OF_EVERY_SERVICE).any(|own| *own == path)
}

/// The version of the document.
pub const VERSION: u32 = 1;

/// The routes of a gateway.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Gateway {
    /// The version of the document.
    #[schemars(range(min = 1, max = 1))]
    pub version: u32,
    /// Services that requests are passed on to, at most 64.
    pub targets: Vec<TargetAddress>,
    /// Which request goes where, at most 10000. The one with the longest prefix counts; of these the one that names more of
    /// host, methods and headers.
    pub routes: Vec<Route>,
    /// What `GET /api/dashboard` is put together of. Default: nothing.
    #[serde(default)]
    pub dashboard: Dashboard,
}

/// Where a target of the policy document is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TargetAddress {
    /// Its name, which is that of the policy document.
    pub name: String,
    /// `http://host[:port]`, or `https://host[:port]`, to which the gateway makes TLS.
    pub url: String,
    /// What is spoken there. Default `HTTP`.
    #[serde(default)]
    pub protocol: Protocol,
    /// Whom to believe at an `https` url. Default: the authorities of the system, and a certificate for the host of the url.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<TargetTls>,
}

/// Whom to believe at a target of `https`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct TargetTls {
    /// The file with the authorities that are believed in place of those of the system, in PEM, by its whole path; read again
    /// when it changes. Default: those of the system.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_bundle: Option<String>,
    /// The name that the certificate must have. Default: the host of the url.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_name: Option<String>,
}

/// What is spoken to a target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum Protocol {
    /// HTTP/1.1, whatever the request came by; by TLS what it came by, as far as the target can.
    #[default]
    Http,
    /// HTTP/2 without TLS, as servers of gRPC speak it.
    H2c,
}

/// One kind of request and where it goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Route {
    /// The name in metrics and messages.
    pub name: String,
    /// Which requests are meant.
    #[serde(rename = "match")]
    pub matches: Match,
    /// Put in place of the prefix that matched, such as `/` to take it away. Default: the path stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rewrite_prefix: Option<String>,
    /// One of `targets`.
    pub target: String,
    /// Who may send such a request. Default: anyone, and no token is looked at.
    #[serde(default)]
    pub auth: Auth,
    /// Whose pages a browser lets use it from another origin. Default: those of the gateway's own origin alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cors: Option<Box<Cors>>,
    /// The most bytes that a body may have. Default 1048576.
    #[serde(default = "default_max_body_bytes")]
    pub max_body_bytes: u64,
    /// How long the body of an answer may stand still before it is cut; a stream of events is not. Default 30s.
    #[serde(default = "default_idle_timeout")]
    pub idle_timeout: Duration,
}

/// Which requests a route means: those that fit all of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Match {
    /// The path is this, or goes on after it with `/`. Starts with `/` and does not end with it, or is `/` alone.
    pub path_prefix: String,
    /// The host, without a port. Default: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// The methods, in upper case. Default: any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub methods: Vec<String>,
    /// Headers that have just these values. Default: none are needed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<HeaderMatch>,
}

/// A header and its value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HeaderMatch {
    /// The name, in lower case.
    pub name: String,
    /// The whole value.
    pub value: String,
}

/// Who may send a request. The token itself is handed on: the service behind verifies it once more.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Auth {
    /// What is asked of the token. Default `None`.
    #[serde(default, rename = "type")]
    pub auth_type: AuthType,
    /// Roles of which the user must have one; `admin` is the one there is. Needs `Required`. Default: any user may.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<String>,
}

/// What is asked of a token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum AuthType {
    /// Nothing; it is not looked at.
    #[default]
    None,
    /// One that is sent must be good.
    Optional,
    /// A good one must be sent.
    Required,
}

/// What `GET /api/dashboard` is put together of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Dashboard {
    /// What all parts together may take; one that is late is named `unavailable`. Default 2s.
    pub deadline: Duration,
    /// Answers of JSON that are asked for side by side, at most 16. Default: none.
    pub parts: Vec<Part>,
}

/// One part of the dashboard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Part {
    /// The name in the answer.
    pub name: String,
    /// One of `targets`.
    pub target: String,
    /// What is asked there by GET: a path, with a query or without.
    pub path: String,
}

const fn default_max_body_bytes() -> u64 {
    1024 * 1024
}

const fn default_idle_timeout() -> Duration {
    Duration::from_secs(30)
}

impl Default for Dashboard {
    fn default() -> Self {
        Self {
            deadline: Duration::from_secs(2),
            parts: Vec::new(),
        }
    }
}

impl Gateway {
    /// Reads the bytes of a file.
    ///
    /// ```
    /// use valerix_gateway::document::Gateway;
    ///
    /// let text = br#"{"version": 1,
    ///     "targets": [{"name": "order", "url": "http://order:3001"}],
    ///     "routes": [{"name": "orders", "match": {"pathPrefix": "/api/orders"}, "target": "order",
    ///                 "auth": {"type": "Optional"}}]}"#;
    /// let routes = Gateway::parse(text)?.document.routes;
    /// assert_eq!(routes[0].max_body_bytes, 1024 * 1024);
    /// # Ok::<(), valerix_resilience::policy::PolicyError>(())
    /// ```
    ///
    /// # Errors
    /// When they are no document of this version, or hold what cannot work; the error names path, value and remedy.
    pub fn parse(bytes: &[u8]) -> Result<Parsed<Self>, PolicyError> {
        valerix_policy::parse(bytes, VERSION, validate::violations)
    }

    /// The routes of the shop, in force without a file.
    #[must_use]
    pub fn of_the_shop() -> Self {
        shop::routes()
    }

    /// The JSON Schema of the document.
    #[must_use]
    pub fn schema() -> String {
        valerix_policy::schema::document::<Self>()
    }
}

impl fmt::Display for AuthType {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, formatter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_in_git_is_that_of_the_types() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/schema/gateway.v1.schema.json");
        if std::env::var_os("VALERIX_WRITE_SCHEMA").is_some() {
            std::fs::write(path, Gateway::schema()).unwrap();
        }
        let written = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            written == Gateway::schema(),
            "run this test with VALERIX_WRITE_SCHEMA=1 and commit the file"
        );
    }

    #[test]
    fn the_routes_of_the_shop_are_a_good_document() {
        let text = serde_json::to_vec(&Gateway::of_the_shop()).unwrap();
        let parsed = Gateway::parse(&text).unwrap();
        assert_eq!(parsed.document, Gateway::of_the_shop());
        assert!(parsed.ignored_fields.is_empty());
    }
}
