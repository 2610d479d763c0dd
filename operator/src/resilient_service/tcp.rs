//! Which targets speak no HTTP. Pure.

use valerix_crds::Target;

/// How the URL of a target begins that is no HTTP.
const TCP_SCHEME: &str = "tcp://";

/// Whether the target is called by a relay of bytes.
pub fn is_tcp(target: &Target) -> bool {
    target.url.as_ref().is_some_and(|url| url.starts_with(TCP_SCHEME))
}
