//! From whom a request comes, as it is told to whom it is passed on. Pure.

use std::net::IpAddr;

use http::uri::Authority;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header};
use valerix_resilience::{FieldError, Network, Problem};

const FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// What this hop knows of a request's origin.
#[derive(Clone, Copy, Debug)]
pub struct Forwarding<'request> {
    /// Who holds the other end of the connection.
    pub peer: IpAddr,
    /// Whether that connection is TLS.
    pub tls: bool,
    /// The host that the request names.
    pub host: &'request Authority,
    /// Proxies whose word is believed: theirs is extended, everybody else's replaced.
    pub trusted: &'request [Network],
}

impl Forwarding<'_> {
    /// Sets `X-Forwarded-For`, `-Host` and `-Proto`.
    pub fn stamp(&self, headers: &mut HeaderMap) {
        let peer = self.peer.to_canonical();
        let believed = self.trusted.iter().any(|network| network.contains(peer));
        if !believed {
            let told = headers.keys().filter(|name| tells_of_origin(name.as_str()));
            for name in told.cloned().collect::<Vec<_>>() {
                headers.remove(name);
            }
        }
        let peer = peer.to_string();
        let hops = if headers.contains_key(FOR) {
            // Whatever bytes the first of them wrote, what the next ones added stands in the same line.
            let told = headers.get_all(FOR).iter().map(HeaderValue::as_bytes);
            let hops: Vec<&[u8]> = told.chain([peer.as_bytes()]).collect();
            HeaderValue::from_bytes(&hops.join(&b", "[..]))
        } else {
            HeaderValue::try_from(peer)
        };
        if let Ok(hops) = hops {
            headers.insert(FOR, hops);
        }
        if !headers.contains_key(HOST) {
            // What stands in the header need not be written once more.
            let named = headers
                .get(header::HOST)
                .filter(|named| *named == self.host.as_str())
                .cloned();
            if let Some(host) = named.or_else(|| HeaderValue::from_str(self.host.as_str()).ok()) {
                headers.insert(HOST, host);
            }
        }
        let proto = HeaderValue::from_static(if self.tls { "https" } else { "http" });
        headers.entry(PROTO).or_insert(proto);
    }
}

/// Names under which proxies speak of where a request comes from.
fn tells_of_origin(name: &str) -> bool {
    name.starts_with("x-forwarded-") || matches!(name, "forwarded" | "x-real-ip" | "x-client-ip" | "true-client-ip")
}

/// The one host that a request is for: that of its target, else of its header, and the same where both name one.
///
/// # Errors
/// 400 that names the header.
pub fn host(uri: &Uri, headers: &HeaderMap) -> Result<Authority, Problem> {
    let refused = |detail: &str| {
        let errors = vec![FieldError::new("Host", detail)];
        Err(Problem::invalid(StatusCode::BAD_REQUEST, errors).never_retry())
    };
    let mut named = headers.get_all(header::HOST).iter();
    let (first, more) = (named.next(), named.next());
    if more.is_some() {
        return refused("must be given once");
    }
    let named = match first.map(|host| Authority::try_from(host.as_bytes())) {
        Some(Err(_)) => return refused("must be a host name or address, with or without a port"),
        Some(Ok(host)) => Some(host),
        None => None,
    };
    let host = match (uri.authority(), named) {
        (Some(target), Some(named)) if *target != named => return refused("must be the host of the request's target"),
        (Some(target), _) => target.clone(),
        (None, Some(named)) => named,
        (None, None) => return refused("must be given once"),
    };
    if host.host().is_empty() || host.as_str().contains('@') {
        return refused("must be a host name or address, with or without a port");
    }
    Ok(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamped(peer: &str, lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, HeaderValue::from_static(value));
        }
        let (host, trusted) = (Authority::from_static("shop.example"), ["10.0.0.0/8".parse().unwrap()]);
        let forwarding = Forwarding {
            peer: peer.parse().unwrap(),
            tls: true,
            host: &host,
            trusted: &trusted,
        };
        forwarding.stamp(&mut headers);
        headers
    }

    #[test]
    fn a_stranger_is_not_believed_and_a_trusted_proxy_is_extended() {
        let told = [
            ("x-forwarded-for", "6.6.6.6"),
            ("x-forwarded-for", "198.51.100.1"),
            ("x-forwarded-proto", "http"),
            ("x-forwarded-host", "evil.example"),
            ("x-forwarded-port", "1"),
            ("forwarded", "for=6.6.6.6"),
        ];
        let headers = stamped("203.0.113.9", &told);
        assert_eq!(headers.len(), 3, "{headers:?}");
        assert_eq!(headers[FOR], "203.0.113.9");
        assert_eq!(headers[HOST], "shop.example");
        assert_eq!(headers[PROTO], "https");

        let headers = stamped("::ffff:10.1.1.1", &told);
        assert_eq!(headers[FOR], "6.6.6.6, 198.51.100.1, 10.1.1.1");
        assert_eq!(headers.get_all(FOR).iter().count(), 1);
        assert_eq!(
            (&headers[HOST], &headers[PROTO]),
            (&"evil.example".parse().unwrap(), &"http".parse().unwrap())
        );
    }

    #[test]
    fn bytes_that_are_no_text_hide_nobody_who_was_named_after_them() {
        let mut headers = HeaderMap::new();
        headers.append(FOR, HeaderValue::from_bytes(b"\xe9, 198.51.100.7").unwrap());
        let forwarding = Forwarding {
            peer: "10.1.1.1".parse().unwrap(),
            tls: false,
            host: &Authority::from_static("shop.example"),
            trusted: &["10.0.0.0/8".parse().unwrap()],
        };
        forwarding.stamp(&mut headers);
        assert_eq!(headers[FOR].as_bytes(), b"\xe9, 198.51.100.7, 10.1.1.1");
    }

    #[test]
    fn a_request_is_for_one_host() {
        let ask = |uri: &'static str, hosts: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for host in hosts {
                headers.append(header::HOST, HeaderValue::from_static(host));
            }
            host(&Uri::from_static(uri), &headers).map(|host| host.to_string())
        };
        assert_eq!(ask("/", &["shop.example:8080"]).unwrap(), "shop.example:8080");
        assert_eq!(ask("http://shop.example/", &[]).unwrap(), "shop.example");
        assert_eq!(ask("http://shop.example/", &["SHOP.example"]).unwrap(), "shop.example");
        assert_eq!(ask("/", &["[::1]:80"]).unwrap(), "[::1]:80");
        for (uri, hosts) in [
            ("/", vec![]),
            ("/", vec!["a", "a"]),
            ("/", vec![""]),
            ("/", vec!["a b"]),
            ("/", vec!["a/b"]),
            ("/", vec!["user@a"]),
            ("/", vec!["a, b"]),
            ("http://a/", vec!["b"]),
        ] {
            assert_eq!(ask(uri, &hosts).expect_err("refused").status(), 400, "{uri} {hosts:?}");
        }
    }
}
