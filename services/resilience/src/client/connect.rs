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
    pinned: Mutex<HashMap<SocketAddr, Pinned>>,
}

/// A client that connects to one address for one name. A reload may give the target another name at the same address.
struct Pinned {
    host: String,
    connect_timeout: Duration,
    client: reqwest::Client,
}

impl Pinned {
    fn is_for(&self, host: &str, connect_timeout: Duration) -> bool {
        self.host == host && self.connect_timeout == connect_timeout
    }
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
    pub(super) async fn to_address(
        &self,
        request: &mut reqwest::Request,
        address: SocketAddr,
        connect_timeout: Duration,
        in_use: impl Fn(SocketAddr) -> bool,
    ) -> Result<reqwest::Client, reqwest::Error> {
        let (url, moved) = readdressed(request.url(), address);
        let client = if url.scheme() == "https" {
            let host = url.host_str().unwrap_or_default();
            self.pinned(host, address, connect_timeout, in_use).await?
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

    async fn pinned(
        &self,
        host: &str,
        address: SocketAddr,
        connect_timeout: Duration,
        in_use: impl Fn(SocketAddr) -> bool,
    ) -> Result<reqwest::Client, reqwest::Error> {
        let known = || {
            let pinned = self.pinned.lock().unwrap_or_else(PoisonError::into_inner);
            let known = pinned.get(&address).filter(|known| known.is_for(host, connect_timeout));
            known.map(|known| known.client.clone())
        };
        if let Some(client) = known() {
            return Ok(client);
        }
        // It reads the certificates of the system: neither the calls to other addresses nor the runtime wait for that.
        let (name, configure) = (host.to_owned(), self.configure.clone());
        let building = move || {
            build(connect_timeout, configure.as_ref(), |builder| {
                builder.resolve(&name, address)
            })
        };
        let built = tokio::task::spawn_blocking(building.clone()).await;
        // While the runtime shuts down there is no other thread for it.
        let client = built.unwrap_or_else(|_| building())?;
        let mut pinned = self.pinned.lock().unwrap_or_else(PoisonError::into_inner);
        // Of two that were built at the same time the later one stays.
        pinned.retain(|address, known| in_use(*address) && known.is_for(host, connect_timeout));
        if pinned.len() < KEPT_ADDRESSES {
            let (host, client) = (host.to_owned(), client.clone());
            pinned.insert(
                address,
                Pinned {
                    host,
                    connect_timeout,
                    client,
                },
            );
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

    fn connections() -> Connections {
        Connections::new(Duration::from_secs(5), None).unwrap()
    }

    /// The names are known to no resolver: only the chosen address can have led here.
    #[tokio::test]
    async fn https_reaches_the_chosen_address_under_each_name_that_the_target_has() {
        use tokio::io::AsyncReadExt;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections = connections();
        for name in ["old.invalid", "new.invalid", "old.invalid"] {
            let url = format!("https://{name}/").parse().unwrap();
            let mut request = reqwest::Request::new(http::Method::GET, url);
            let client = connections
                .to_address(&mut request, address, Duration::from_secs(5), |_| true)
                .await
                .unwrap();
            let greeting = async {
                let (mut connection, _) = listener.accept().await.unwrap();
                let mut hello = vec![0; 4_096];
                let length = connection.read(&mut hello).await.unwrap();
                hello.truncate(length);
                hello
            };
            let hello = tokio::select! {
                hello = greeting => hello,
                answer = client.execute(request) => panic!("{name}: {answer:?}"),
            };
            let asked = hello.windows(name.len()).any(|window| window == name.as_bytes());
            assert!(asked, "{name} is the name that TLS asks for");
        }
    }

    #[tokio::test]
    async fn clients_of_addresses_are_kept_while_they_are_in_use_and_no_more() {
        let connections = connections();
        let choose = async |name: &str, port: u16, seconds: u64, in_use: &[u16]| {
            let url = format!("https://{name}/").parse().unwrap();
            let mut request = reqwest::Request::new(http::Method::GET, url);
            let address = SocketAddr::from(([127, 0, 0, 1], port));
            let timeout = Duration::from_secs(seconds);
            let in_use = |address: SocketAddr| in_use.contains(&address.port());
            let chosen = connections.to_address(&mut request, address, timeout, in_use);
            chosen.await.unwrap();
            let kept = connections.pinned.lock().unwrap();
            let mut ports: Vec<_> = kept.keys().map(SocketAddr::port).collect();
            ports.sort_unstable();
            ports
        };
        assert_eq!(choose("a.invalid", 1, 5, &[1, 2]).await, [1]);
        assert_eq!(choose("a.invalid", 2, 5, &[1, 2]).await, [1, 2]);
        assert_eq!(choose("a.invalid", 3, 5, &[2, 3]).await, [2, 3], "1 has gone");
        assert_eq!(
            choose("a.invalid", 2, 6, &[2, 3]).await,
            [2],
            "for another connect timeout"
        );
        assert_eq!(choose("b.invalid", 3, 6, &[2, 3]).await, [3], "for another name");
    }

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
