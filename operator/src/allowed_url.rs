//! Which addresses outside of an experiment's own namespace a probe may ask: those that the operator's settings list, and
//! none that an experiment must not become a way to reach.
//!
//! Pure.

use reqwest::Url;
use std::net::{IpAddr, Ipv6Addr};

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

/// Why an address must not be asked, if so. Those of nodes and of the API server are not among them: behind a Service only a
/// pod's own address is asked, and a URL that leads to one of them was listed by whoever runs the operator.
pub(crate) fn refusal(ip: IpAddr) -> Option<&'static str> {
    let ip = ip.to_canonical();
    let link_local = match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => is_link_local(ip),
    };
    if ip.is_loopback() {
        Some("a loopback address")
    } else if link_local {
        Some("a link-local address")
    } else if ip.is_unspecified() || ip.is_multicast() || matches!(ip, IpAddr::V4(ip) if ip.is_broadcast()) {
        Some("no address of one host")
    } else {
        None
    }
}

fn is_link_local(ip: Ipv6Addr) -> bool {
    ip.segments()[0] & 0xffc0 == 0xfe80
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

    #[rstest]
    #[case("127.0.0.1", true)]
    #[case("127.8.9.1", true)]
    #[case("::1", true)]
    #[case("::ffff:127.0.0.1", true)]
    #[case("169.254.169.254", true)]
    #[case("::ffff:169.254.169.254", true)]
    #[case("fe80::1", true)]
    #[case("febf::1", true)]
    #[case("0.0.0.0", true)]
    #[case("::", true)]
    #[case("224.0.0.1", true)]
    #[case("ff02::1", true)]
    #[case("255.255.255.255", true)]
    #[case("192.168.7.7", false)]
    #[case("10.244.1.7", false)]
    #[case("fd00::5", false)]
    #[case("fec0::1", false)]
    fn what_must_not_be_asked(#[case] ip: &str, #[case] refused: bool) {
        assert_eq!(refusal(ip.parse().unwrap()).is_some(), refused);
    }
}
