//! Which addresses outside of the experiment's own namespace a probe may ask: those that the operator's settings list.
//!
//! Pure.

use super::address::refusal;
use reqwest::Url;
use std::net::IpAddr;

/// An address below which probes may ask, as `http://prometheus.monitoring.svc:9090` or with the beginning of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllowedUrl(Url);

impl AllowedUrl {
    /// Reads an address.
    ///
    /// # Errors
    /// What is wrong with it, and what to write instead.
    pub fn parse(text: &str) -> Result<Self, String> {
        let remedy = "write scheme, host and port, for example http://prometheus.monitoring.svc:9090";
        let url = Url::parse(text).map_err(|error| format!("`{text}` is no URL ({error}); {remedy}"))?;
        let plain = matches!(url.scheme(), "http" | "https") && url.has_host();
        let bare = url.username().is_empty() && url.password().is_none() && url.query().is_none();
        if !plain || !bare || url.fragment().is_some() {
            return Err(format!("`{text}` is more or less than an address; {remedy}"));
        }
        if let Some(what) = refused(&url) {
            return Err(format!("`{text}` is {what}, where no probe may ask; {remedy}"));
        }
        Ok(Self(url))
    }

    /// Whether `asked` is this address or lies below it.
    pub fn covers(&self, asked: &Self) -> bool {
        let (own, asked) = (&self.0, &asked.0);
        let (below, path) = (own.path().trim_end_matches('/'), asked.path());
        own.scheme() == asked.scheme()
            && own.host_str() == asked.host_str()
            && own.port_or_known_default() == asked.port_or_known_default()
            && path
                .strip_prefix(below)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

/// Why a literal address must not be asked. A name is looked up, and judged, when it is asked.
fn refused(url: &Url) -> Option<&'static str> {
    let host = url.host_str()?.trim_start_matches('[').trim_end_matches(']');
    refusal(host.parse::<IpAddr>().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("http://p.m.svc:9090", "http://p.m.svc:9090", true)]
    #[case("http://p.m.svc:9090", "http://p.m.svc:9090/", true)]
    #[case("http://p.m.svc:9090/", "http://P.m.svc:9090/prefix", true)]
    #[case("http://p.m.svc", "http://p.m.svc:80", true)]
    #[case("https://p.m.svc/a", "https://p.m.svc/a/b", true)]
    #[case("https://p.m.svc/a", "https://p.m.svc/ab", false)]
    #[case("https://p.m.svc/a", "https://p.m.svc/a/../b", false)]
    #[case("https://p.m.svc/a", "https://p.m.svc/a/%2e%2e/b", false)]
    #[case("http://p.m.svc:9090", "https://p.m.svc:9090", false)]
    #[case("http://p.m.svc:9090", "http://p.m.svc:9091", false)]
    #[case("http://p.m.svc:9090", "http://p.m.svc.evil.example:9090", false)]
    fn an_address_covers_what_lies_below_it(#[case] own: &str, #[case] asked: &str, #[case] covered: bool) {
        let (own, asked) = (AllowedUrl::parse(own).unwrap(), AllowedUrl::parse(asked).unwrap());
        assert_eq!(own.covers(&asked), covered);
    }

    #[rstest]
    #[case("prometheus:9090")]
    #[case("ftp://p.m.svc")]
    #[case("http://user:secret@p.m.svc")]
    #[case("http://p.m.svc?query=up")]
    #[case("http://127.0.0.1:9090")]
    #[case("http://2130706433:9090")]
    #[case("http://[::1]:9090")]
    #[case("http://169.254.169.254")]
    #[case("")]
    fn anything_else_is_refused_with_the_remedy(#[case] text: &str) {
        let why = AllowedUrl::parse(text).unwrap_err();
        assert!(why.contains("write scheme, host and port"), "{why}");
    }
}
