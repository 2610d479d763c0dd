//! Whose pages a browser lets use a route from another origin: what a file says of it, and what it must not say. Pure.

use std::fmt::Arguments;

use http::{HeaderName, Uri};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use valerix_policy::Duration;

use super::findings::{Findings, is_method};

const MAX_ORIGINS: usize = 16;
const MAX_NAMES: usize = 32;

/// Every origin.
pub const ANY: &str = "*";

/// Whose pages a browser lets use a route from another origin. The gateway answers what browsers ask beforehand itself, and
/// what a service behind says of this is dropped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Cors {
    /// The origins, as browsers name them: `scheme://host[:port]` in lower case, at most 16; or `*` alone for every one.
    pub origins: Vec<String>,
    /// The methods that such a page may use, in upper case. Default: those that the route matches; where it names none, GET,
    /// HEAD, POST, PUT, PATCH and DELETE.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub methods: Vec<String>,
    /// Headers that it may send beside those that any may, in lower case. Default: authorization, content-type and
    /// idempotency-key.
    #[serde(default = "default_headers")]
    pub headers: Vec<String>,
    /// Headers of the answers that it may read beside those that any may, in lower case. Default: ratelimit,
    /// ratelimit-policy, retry-after, valerix-problem and x-request-id.
    #[serde(default = "default_exposed_headers")]
    pub exposed_headers: Vec<String>,
    /// Whether its requests may have what the browser keeps for the shop, such as cookies. Needs origins by name. Default
    /// false.
    #[serde(default)]
    pub credentials: bool,
    /// How long a browser may remember the answer, 0s to 24h. Default 10m.
    #[serde(default = "default_max_age")]
    pub max_age: Duration,
}

fn owned(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn default_headers() -> Vec<String> {
    owned(&["authorization", "content-type", "idempotency-key"])
}

fn default_exposed_headers() -> Vec<String> {
    owned(&[
        "ratelimit",
        "ratelimit-policy",
        "retry-after",
        "valerix-problem",
        "x-request-id",
    ])
}

const fn default_max_age() -> Duration {
    Duration::from_secs(600)
}

pub(super) fn violations(found: &mut Findings, path: Arguments<'_>, cors: &Cors) {
    let origins = format_args!("{path}.origins");
    found.at_most(origins, cors.origins.len(), MAX_ORIGINS);
    let remedy = "name at least one origin, or leave cors out";
    found.require(!cors.origins.is_empty(), origins, "empty", remedy);
    for (index, origin) in cors.origins.iter().enumerate() {
        let path = format_args!("{origins}[{index}]");
        if origin == ANY {
            let alone = cors.origins.len() == 1;
            found.require(alone, path, origin, "write * alone: it means every origin");
            let remedy = "name the origins: browsers send no credentials to a service that lets everybody read";
            found.require(!cors.credentials, path, origin, remedy);
            continue;
        }
        let remedy = "write scheme://host[:port] as browsers do: http or https, in lower case, without a path, and without a port that goes without saying";
        found.require(is_origin(origin), path, origin, remedy);
    }
    found.at_most(format_args!("{path}.methods"), cors.methods.len(), MAX_NAMES);
    for (index, method) in cors.methods.iter().enumerate() {
        let remedy = "write a method in upper case, other than CONNECT and TRACE";
        found.require(
            is_method(method),
            format_args!("{path}.methods[{index}]"),
            method,
            remedy,
        );
    }
    for (field, names) in [("headers", &cors.headers), ("exposedHeaders", &cors.exposed_headers)] {
        found.at_most(format_args!("{path}.{field}"), names.len(), MAX_NAMES);
        for (index, name) in names.iter().enumerate() {
            let good = HeaderName::from_bytes(name.as_bytes()).is_ok_and(|parsed| parsed.as_str() == name);
            let remedy = "write the name of a header in lower case";
            // A name of `*` would be one to HTTP, and to browsers all of them.
            found.require(
                good && name != ANY,
                format_args!("{path}.{field}[{index}]"),
                name,
                remedy,
            );
        }
    }
    let good = cors.max_age <= Duration::from_secs(24 * 60 * 60);
    found.require(good, format_args!("{path}.maxAge"), cors.max_age, "use 0s to 24h");
}

/// Whether it is an origin in the one form in which browsers send it.
fn is_origin(text: &str) -> bool {
    text.parse::<Uri>().is_ok_and(|uri| {
        let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
            return false;
        };
        let usual = match scheme {
            "http" => 80,
            "https" => 443,
            _ => return false,
        };
        let exact = format!("{scheme}://{authority}") == text && !text.bytes().any(|byte| byte.is_ascii_uppercase());
        let port = authority.as_str().len() == authority.host().len() || authority.port_u16().is_some();
        exact
            && port
            && authority.port_u16() != Some(usual)
            && !text.contains(['@', '*'])
            && !authority.host().is_empty()
    })
}
