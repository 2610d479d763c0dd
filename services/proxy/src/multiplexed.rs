//! HTTP/2 without TLS, known in advance: one connection to each address, shared by all requests.
//!
//! Not the pool that HTTP/1.1 has: that keeps connections by what the request names, and here an address is no part of it.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::{Request, Response, Uri};
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::sync::watch;
use tower::ServiceExt;

use crate::BoxError;
use crate::body::WireBody;
use crate::connector::Connector;
use crate::error::WireError;

/// Addresses that are remembered; of a target with more, connections are opened anew now and then.
const KEPT: usize = 256;
/// What one answer may hold back, and all of a connection together. Unit: bytes.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// What of one request's body is kept until the peer takes it. Unit: bytes.
const SEND_BUFFER: usize = 64 * 1024;
/// The most that the head of an answer may have. Unit: bytes.
const HEAD: u32 = 64 * 1024;
const PING: Duration = Duration::from_secs(20);

/// What becomes of opening a connection; none until that is known. All who wait for it hear the same: where it does not
/// come about, nothing was sent for any of them.
type Opening = watch::Receiver<Option<Result<SendRequest<WireBody>, String>>>;
/// The connection to one address.
type Shared = Arc<Mutex<Option<Opening>>>;

/// Connections of HTTP/2. Clones are one.
#[derive(Clone)]
pub(crate) struct Multiplexed {
    connector: Connector,
    /// By address; none is the host of the request's URI.
    connections: Arc<Mutex<HashMap<Option<SocketAddr>, Shared>>>,
}

impl Multiplexed {
    pub(crate) fn new(connector: Connector) -> Self {
        Self {
            connector,
            connections: Arc::default(),
        }
    }

    /// Sends a request to `address`, else to the host of its URI.
    pub(crate) async fn send(
        &self,
        address: Option<SocketAddr>,
        mut request: Request<WireBody>,
    ) -> Result<Response<Incoming>, WireError> {
        let shared = self.shared(address);
        // A connection that ended a moment ago gives the request back: once more, by another one.
        for last in [false, true] {
            let mut opening = self.current(&shared, address, request.uri());
            let mut sender = opened(&mut opening).await?;
            match sender.try_send_request(request).await {
                Ok(answer) => return Ok(answer),
                Err(mut failed) => match failed.take_message().filter(|_| !last) {
                    Some(given_back) => {
                        request = given_back;
                        forget(&shared, &opening);
                    }
                    None => return Err(WireError::Exchange(failed.into_error().into())),
                },
            }
        }
        Err(WireError::Taken)
    }

    fn shared(&self, address: Option<SocketAddr>) -> Shared {
        let mut connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        if connections.len() >= KEPT && !connections.contains_key(&address) {
            connections.clear();
        }
        Arc::clone(connections.entry(address).or_default())
    }

    /// The connection that is open or being opened, else a new one.
    fn current(&self, shared: &Shared, address: Option<SocketAddr>, uri: &Uri) -> Opening {
        let mut current = shared.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(opening) = current.as_ref().filter(|opening| is_of_use(opening)) {
            return opening.clone();
        }
        let (tell, opening) = watch::channel(None);
        let (this, uri) = (self.clone(), uri.clone());
        // By nobody's task: who began it may give up while others wait.
        tokio::spawn(async move {
            let opened = this.open(address, &uri).await;
            tell.send_replace(Some(opened.map_err(|error| error.to_string())));
        });
        current.insert(opening).clone()
    }

    async fn open(&self, address: Option<SocketAddr>, uri: &Uri) -> Result<SendRequest<WireBody>, BoxError> {
        let connector = match address {
            Some(address) => self.connector.clone().instead(Arc::new([address])),
            None => self.connector.clone(),
        };
        let stream = connector.oneshot(uri.clone()).await?;
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_send_buf_size(SEND_BUFFER)
            .max_header_list_size(HEAD)
            .keep_alive_interval(PING)
            .keep_alive_timeout(PING)
            .handshake(stream)
            .await?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection of HTTP/2 ended early");
            }
        });
        Ok(sender)
    }
}

/// Whether a connection comes about or is open.
fn is_of_use(opening: &Opening) -> bool {
    match &*opening.borrow() {
        Some(Ok(open)) => !open.is_closed(),
        Some(Err(_)) => false,
        // Unless whoever opens it is gone.
        None => opening.has_changed().is_ok(),
    }
}

async fn opened(opening: &mut Opening) -> Result<SendRequest<WireBody>, WireError> {
    let known = opening.wait_for(Option::is_some).await;
    let outcome = known.ok().and_then(|outcome| outcome.clone());
    let outcome = outcome.unwrap_or_else(|| Err("it was given up".to_owned()));
    outcome.map_err(|cause| WireError::connect(cause.into()))
}

/// Forgets a connection that has ended, and none that another opened in its place.
fn forget(shared: &Shared, ended: &Opening) {
    let mut current = shared.lock().unwrap_or_else(PoisonError::into_inner);
    if current.as_ref().is_some_and(|opening| opening.same_channel(ended)) {
        *current = None;
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use http_body_util::{BodyExt, Empty};

    use super::*;
    use crate::connector::Within;

    const WITHIN: Duration = Duration::from_secs(2);

    fn calls() -> Multiplexed {
        Multiplexed::new(Connector::new(Within::Fixed(WITHIN)))
    }

    fn request() -> Request<WireBody> {
        let body = Empty::new().map_err(|never| match never {}).boxed_unsync();
        Request::post("http://peer/").body(body).unwrap()
    }

    /// An address at which connections do not come about, as long as the values with it are held.
    fn deaf() -> (SocketAddr, TcpListener, Vec<TcpStream>) {
        let listener = tokio::net::TcpSocket::new_v4().unwrap();
        listener.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = listener.listen(1).unwrap().into_std().unwrap();
        let (address, mut held) = (listener.local_addr().unwrap(), Vec::new());
        while let Ok(waiting) = TcpStream::connect_timeout(&address, Duration::from_millis(200)) {
            held.push(waiting);
        }
        (address, listener, held)
    }

    #[tokio::test]
    async fn who_waits_for_a_connection_that_does_not_come_about_hears_it_with_whom_began_it() {
        let (address, _listener, _held) = deaf();
        tokio::time::pause();
        let (calls, began) = (calls(), tokio::time::Instant::now());
        let (first, second) = tokio::join!(
            calls.send(Some(address), request()),
            calls.send(Some(address), request())
        );
        for refused in [first, second] {
            assert!(matches!(refused, Err(WireError::Connect(_))), "{refused:?}");
        }
        assert!(began.elapsed() < WITHIN * 3 / 2, "{:?}", began.elapsed());
        // Who comes later tries anew.
        let third = calls.send(Some(address), request()).await;
        assert!(matches!(third, Err(WireError::Connect(_))), "{third:?}");
        assert!(began.elapsed() >= WITHIN * 2, "{:?}", began.elapsed());
    }

    #[tokio::test]
    async fn who_forgets_a_connection_that_ended_leaves_the_one_that_followed() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, uri) = (listener.local_addr().unwrap(), Uri::from_static("http://peer/"));
        let (calls, shared) = (calls(), Shared::default());
        let mut first = calls.current(&shared, Some(address), &uri);
        assert!(opened(&mut first).await.is_ok());
        // Two requests were given back by it.
        forget(&shared, &first);
        let second = calls.current(&shared, Some(address), &uri);
        assert!(!second.same_channel(&first));
        forget(&shared, &first);
        assert!(calls.current(&shared, Some(address), &uri).same_channel(&second));
    }
}
