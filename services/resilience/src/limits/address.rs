//! Who a request comes from, across proxies that are trusted to tell. Pure.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use axum::extract::ConnectInfo;
use http::{HeaderMap, HeaderValue};

/// A range of addresses, `10.0.0.0/8` or one address.
///
/// ```
/// use valerix_resilience::Network;
///
/// let proxies: Network = "10.0.0.0/8".parse()?;
/// assert!(proxies.contains("10.1.2.3".parse().unwrap()));
/// assert!("10.0.0.0/40".parse::<Network>().is_err());
/// # Ok::<(), valerix_resilience::InvalidNetwork>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

/// Why a text is not a [`Network`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid network {text:?}: write an address with or without a prefix, such as 10.0.0.0/8 or fd00::/8")]
pub struct InvalidNetwork {
    /// The text, cut to 64 characters.
    pub text: String,
}

impl FromStr for Network {
    type Err = InvalidNetwork;

    fn from_str(text: &str) -> Result<Self, InvalidNetwork> {
        let invalid = || InvalidNetwork {
            text: text.chars().take(64).collect(),
        };
        let (address, prefix) = text
            .split_once('/')
            .map_or((text, None), |(address, prefix)| (address, Some(prefix)));
        let address: IpAddr = address.parse().map_err(|_| invalid())?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.map_or(Ok(most), |prefix| prefix.parse().map_err(|_| invalid()))?;
        if prefix > most {
            Err(invalid())
        } else {
            Ok(Self { address, prefix })
        }
    }
}

impl Network {
    /// Whether `address` is in the range. An IPv4 address within IPv6 counts as IPv4.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let bits = |address: IpAddr| match address.to_canonical() {
            IpAddr::V4(address) => (32_u8, u128::from(u32::from(address))),
            IpAddr::V6(address) => (128, u128::from(address)),
        };
        let ((own_length, own), (length, other)) = (bits(self.address), bits(address));
        own_length == length && (self.prefix == 0 || own >> (length - self.prefix) == other >> (length - self.prefix))
    }
}

/// Whom a request is counted under.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Client {
    Address(IpAddr),
    /// A trusted proxy says this of it, which is no address: `unknown`, say, or a word that hides one.
    Named(String),
}

impl Client {
    /// The text by which it is counted: one customer has a whole /64 of IPv6.
    pub(crate) fn key(self) -> String {
        match self {
            Self::Address(IpAddr::V4(address)) => address.to_string(),
            Self::Address(IpAddr::V6(address)) => Ipv6Addr::from(u128::from(address) >> 64 << 64).to_string(),
            Self::Named(name) => format!("forwarded {name}"),
        }
    }
}

/// The client of a request: the peer, or, where the peer is a trusted proxy, the nearest address from the right of
/// `X-Forwarded-For` that is not one. What stands further left was written by whoever sent it. None where nobody told
/// the peer's address ([`ConnectInfo`]).
pub(crate) fn client(extensions: &http::Extensions, headers: &HeaderMap, trusted: &[Network]) -> Option<Client> {
    let mut client = extensions
        .get::<ConnectInfo<SocketAddr>>()
        .map(|peer| peer.0.ip().to_canonical())?;
    let is_trusted = |address: IpAddr| trusted.iter().any(|network| network.contains(address));
    if !is_trusted(client) {
        return Some(Client::Address(client));
    }
    // What a proxy added to a line stands in it whatever bytes the client had written before.
    let lines: Vec<&[u8]> = headers
        .get_all("x-forwarded-for")
        .iter()
        .map(HeaderValue::as_bytes)
        .collect();
    for hop in lines.iter().rev().flat_map(|line| line.rsplit(|byte| *byte == b',')) {
        let hop = String::from_utf8_lossy(hop);
        let hop = hop.trim().trim_matches('"');
        // A stray comma names nobody.
        if hop.is_empty() {
            continue;
        }
        let Some(address) = parse_hop(hop) else {
            return Some(Client::Named(hop.chars().take(64).collect()));
        };
        client = address;
        if !is_trusted(address) {
            break;
        }
    }
    Some(Client::Address(client))
}

/// The text by which a client is counted: its address, or its /64 of IPv6, found across the proxies of `trusted`. None
/// where nobody told the peer's address ([`ConnectInfo`]).
///
/// ```
/// use std::net::SocketAddr;
/// use axum::extract::ConnectInfo;
///
/// let mut request = http::Request::new(());
/// request.extensions_mut().insert(ConnectInfo(SocketAddr::from(([10, 0, 0, 1], 80))));
/// request.headers_mut().insert("x-forwarded-for", http::HeaderValue::from_static("192.0.2.7"));
/// let client = |trusted: &[_]| valerix_resilience::client_key(request.extensions(), request.headers(), trusted);
/// assert_eq!(client(&[]).as_deref(), Some("10.0.0.1"));
/// assert_eq!(client(&["10.0.0.0/8".parse()?]).as_deref(), Some("192.0.2.7"));
/// # Ok::<(), valerix_resilience::InvalidNetwork>(())
/// ```
#[must_use]
pub fn client_key(extensions: &http::Extensions, headers: &HeaderMap, trusted: &[Network]) -> Option<String> {
    client(extensions, headers, trusted).map(Client::key)
}

/// An address as proxies write it: with a port, in brackets, with a zone.
fn parse_hop(text: &str) -> Option<IpAddr> {
    let address = |text: &str| {
        let (address, _zone) = text.split_once('%').unwrap_or((text, ""));
        address.parse::<IpAddr>().ok()
    };
    let found = match text.strip_prefix('[') {
        Some(rest) => address(rest.split_once(']')?.0),
        None => address(text).or_else(|| Some(text.parse::<SocketAddr>().ok()?.ip())),
    };
    found.map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client_of<L: AsRef<[u8]>>(peer: &str, forwarded: &[L]) -> String {
        let mut extensions = http::Extensions::new();
        extensions.insert(ConnectInfo(SocketAddr::new(peer.parse().unwrap(), 1)));
        let mut headers = HeaderMap::new();
        for line in forwarded {
            headers.append("x-forwarded-for", HeaderValue::from_bytes(line.as_ref()).unwrap());
        }
        let trusted: Vec<Network> = ["10.0.0.0/8", "fd00::/8"]
            .iter()
            .map(|text| text.parse().unwrap())
            .collect();
        client(&extensions, &headers, &trusted).unwrap().key()
    }

    #[test]
    fn the_nearest_address_that_is_not_a_trusted_proxy_counts() {
        for (peer, forwarded, client) in [
            ("203.0.113.9", vec![], "203.0.113.9"),
            ("203.0.113.9", vec!["198.51.100.1"], "203.0.113.9"),
            ("10.1.1.1", vec!["198.51.100.1"], "198.51.100.1"),
            ("10.1.1.1", vec!["6.6.6.6, 198.51.100.1"], "198.51.100.1"),
            ("10.1.1.1", vec!["6.6.6.6", "198.51.100.1, 10.2.2.2"], "198.51.100.1"),
            ("10.1.1.1", vec!["198.51.100.1:4711"], "198.51.100.1"),
            // As proxies really write it.
            ("10.1.1.1", vec!["[2001:db8::1]"], "2001:db8::"),
            ("10.1.1.1", vec!["[2001:db8:0:1::1]:4711"], "2001:db8:0:1::"),
            ("10.1.1.1", vec!["2001:db8:0:2::1"], "2001:db8:0:2::"),
            ("10.1.1.1", vec!["::ffff:198.51.100.9"], "198.51.100.9"),
            ("10.1.1.1", vec!["\"198.51.100.7\""], "198.51.100.7"),
            ("10.1.1.1", vec!["198.51.100.8,"], "198.51.100.8"),
            ("10.1.1.1", vec!["198.51.100.10, , 10.2.2.2"], "198.51.100.10"),
            ("10.1.1.1", vec!["fe80::1%eth0"], "fe80::"),
            // No address: counted apart, from the proxy and from others.
            ("10.1.1.1", vec!["unknown"], "forwarded unknown"),
            ("10.1.1.1", vec!["6.6.6.6, unknown, 10.2.2.2"], "forwarded unknown"),
            ("10.1.1.1", vec!["[2001:db8::1"], "forwarded [2001:db8::1"),
            ("10.1.1.1", vec![], "10.1.1.1"),
            ("::ffff:10.1.1.1", vec!["2001:db8:1:2:3:4:5:6"], "2001:db8:1:2::"),
        ] {
            assert_eq!(client_of(peer, &forwarded), client, "{peer} {forwarded:?}");
        }
    }

    /// Proxies add to the line that the client has begun, and hand on what stands in it.
    #[test]
    fn bytes_that_are_no_text_hide_nobody_behind_the_proxy() {
        for (forwarded, client) in [
            (vec![&b"\xe9, 198.51.100.7"[..]], "198.51.100.7"),
            (vec!["\u{e9}, 198.51.100.7, 10.2.2.2".as_bytes()], "198.51.100.7"),
            (vec![b"\xe9", b"198.51.100.7"], "198.51.100.7"),
            (vec![b"198.51.100.7, \xe9"], "forwarded \u{fffd}"),
        ] {
            assert_eq!(client_of("10.1.1.1", &forwarded), client, "{forwarded:?}");
        }
    }

    #[test]
    fn reads_networks() {
        let network: Network = "192.168.0.0/16".parse().unwrap();
        assert!(network.contains("192.168.9.9".parse().unwrap()));
        assert!(network.contains("::ffff:192.168.9.9".parse().unwrap()));
        assert!(!network.contains("192.169.0.1".parse().unwrap()));
        assert!(
            "0.0.0.0/0"
                .parse::<Network>()
                .unwrap()
                .contains("1.2.3.4".parse().unwrap())
        );
        for text in ["", "10.0.0.0/33", "10.0.0/8", "::/129", "10.0.0.0/x"] {
            assert!(text.parse::<Network>().is_err(), "{text}");
        }
    }
}
