//! Connections of a client: reqwest clients by connect timeout, and how a request is sent to one chosen address while the
//! Host header and the name that TLS checks stay the URL's.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use http::{HeaderValue, header};
use reqwest::Url;

/// Changes to every reqwest client that is built.
pub(super) type Configure = Arc<dyn Fn(reqwest::ClientBuilder) -> reqwest::ClientBuilder + Send + Sync>;

/// Connect timeouts whose clients are kept: with one address and with several, and those of the policy before.
const KEPT: usize = 4;
/// Clients of single addresses that are kept, https only.
const KEPT_ADDRESSES: usize = 256;

/// All connections of one client.
pub(super) struct Connections {
    configure: Option<Configure>,
    /// reqwest takes the connect timeout once, so there is a client for each; the newest last.
    shared: ArcSwap<Vec<(Duration, reqwest::Client)>>,
    /// A name that TLS checks cannot be told apart from the address it is connected to but by a client of its own.
    pinned: Mutex<HashMap<(SocketAddr, Duration), reqwest::Client>>,
}

impl Connections {
    pub(super) fn new(connect_timeout: Duration, configure: Option<Configure>) -> Result<Self, reqwest::Error> {
        let first = build(connect_timeout, configure.as_ref(), |builder| builder)?;
        Ok(Self {
            configure,
            shared: ArcSwap::from_pointee(vec![(connect_timeout, first)]),
            pinned: Mutex::default(),
        })
    }

    /// The client for the URL's own host.
    pub(super) fn shared(&self, connect_timeout: Duration) -> Result<reqwest::Client, reqwest::Error> {
        let known = self.shared.load();
        if let Some((_, client)) = known.iter().find(|(timeout, _)| *timeout == connect_timeout) {
            return Ok(client.clone());
        }
        let client = build(connect_timeout, self.configure.as_ref(), |builder| builder)?;
        let oldest = (known.len() + 1).saturating_sub(KEPT);
        let kept = known.iter().skip(oldest).cloned();
        self.shared
            .store(Arc::new(kept.chain([(connect_timeout, client.clone())]).collect()));
        Ok(client)
    }

    /// Points a request at one address and returns the client to send it by. `in_use` tells of an address whether the
    /// target still has it.
    pub(super) fn to_address(
        &self,
        request: &mut reqwest::Request,
        address: SocketAddr,
        connect_timeout: Duration,
        in_use: impl Fn(SocketAddr) -> bool,
    ) -> Result<reqwest::Client, reqwest::Error> {
        let (url, moved) = readdressed(request.url(), address);
        let client = if url.scheme() == "https" {
            self.pinned(url.host_str().unwrap_or_default(), address, connect_timeout, in_use)?
        } else {
            self.shared(connect_timeout)?
        };
        if let Some(authority) = moved
            && let Ok(host) = HeaderValue::from_str(&authority)
        {
            request.headers_mut().entry(header::HOST).or_insert(host);
        }
        *request.url_mut() = url;
        Ok(client)
    }

    fn pinned(
        &self,
        host: &str,
        address: SocketAddr,
        connect_timeout: Duration,
        in_use: impl Fn(SocketAddr) -> bool,
    ) -> Result<reqwest::Client, reqwest::Error> {
        let mut pinned = self.pinned.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = pinned.get(&(address, connect_timeout)) {
            return Ok(client.clone());
        }
        let client = build(connect_timeout, self.configure.as_ref(), |builder| {
            builder.resolve(host, address)
        })?;
        pinned.retain(|(address, timeout), _| in_use(*address) && *timeout == connect_timeout);
        if pinned.len() < KEPT_ADDRESSES {
            pinned.insert((address, connect_timeout), client.clone());
        }
        Ok(client)
    }
}

/// A URL for one address, and the authority of the former where it no longer shows. In plain HTTP the address stands in
/// the host's place; in https only the port changes, the name is what TLS checks.
fn readdressed(url: &Url, address: SocketAddr) -> (Url, Option<String>) {
    let mut moved = url.clone();
    if moved.scheme() != "https" && moved.set_ip_host(address.ip()).is_err() {
        return (moved, None);
    }
    // A port can be set on every URL that has a host.
    let _ = moved.set_port(Some(address.port()));
    let authority = |url: &Url| {
        let host = url.host_str().unwrap_or_default();
        url.port()
            .map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
    };
    let former = authority(url);
    let changed = authority(&moved) != former;
    (moved, changed.then_some(former))
}

fn build(
    connect_timeout: Duration,
    configure: Option<&Configure>,
    address: impl Fn(reqwest::ClientBuilder) -> reqwest::ClientBuilder,
) -> Result<reqwest::Client, reqwest::Error> {
    let builder = || {
        let builder = reqwest::Client::builder()
            .connect_timeout(connect_timeout)
            // A redirect would leave the target; environment proxies would break the addressing inside a cluster.
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            // One layer retries, and it is ours.
            .retry(reqwest::retry::never())
            .pool_idle_timeout(Duration::from_secs(30));
        let builder = address(builder);
        match configure {
            Some(configure) => configure(builder),
            None => builder,
        }
    };
    // An image without certificates can still call http:// targets.
    builder().build().or_else(|_| builder().tls_certs_only([]).build())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_stays_what_the_server_sees() {
        let readdressed = |url: &str, address: &str| {
            let (url, host) = readdressed(&Url::parse(url).unwrap(), address.parse().unwrap());
            (url.to_string(), host)
        };
        let host = |host: &str| Some(host.to_owned());
        assert_eq!(
            readdressed("http://inventory.shop.svc/a?b=c", "10.0.0.7:3002"),
            ("http://10.0.0.7:3002/a?b=c".to_owned(), host("inventory.shop.svc"))
        );
        assert_eq!(
            readdressed("http://inventory:8080/", "[fd00::7]:80"),
            ("http://[fd00::7]/".to_owned(), host("inventory:8080"))
        );
        assert_eq!(
            readdressed("https://bank.example:8443/", "10.0.0.7:443"),
            ("https://bank.example/".to_owned(), host("bank.example:8443"))
        );
        assert_eq!(
            readdressed("https://bank.example/", "10.0.0.7:443"),
            ("https://bank.example/".to_owned(), None)
        );
        assert_eq!(
            readdressed("http://10.0.0.7:3002/", "10.0.0.7:3002"),
            ("http://10.0.0.7:3002/".to_owned(), None)
        );
    }
}
