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
use tower::ServiceExt;

use crate::BoxError;
use crate::body::WireBody;
use crate::connector::{Connector, Stream};
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

/// A connection as it is shared, behind a lock that is held while it is opened: who comes meanwhile waits for it.
type Shared = Arc<tokio::sync::Mutex<Option<SendRequest<WireBody>>>>;

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
            let mut sender = self.sender(&shared, address, request.uri()).await?;
            match sender.try_send_request(request).await {
                Ok(answer) => return Ok(answer),
                Err(mut failed) => match failed.take_message().filter(|_| !last) {
                    Some(given_back) => {
                        request = given_back;
                        forget(&shared).await;
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

    async fn sender(
        &self,
        shared: &Shared,
        address: Option<SocketAddr>,
        uri: &Uri,
    ) -> Result<SendRequest<WireBody>, WireError> {
        let mut sender = shared.lock().await;
        if let Some(open) = sender.as_ref().filter(|open| !open.is_closed()) {
            return Ok(open.clone());
        }
        let opened = self.open(address, uri).await?;
        *sender = Some(opened.clone());
        Ok(opened)
    }

    async fn open(&self, address: Option<SocketAddr>, uri: &Uri) -> Result<SendRequest<WireBody>, WireError> {
        let connector = match address {
            Some(address) => self.connector.clone().instead(Arc::new([address])),
            None => self.connector.clone(),
        };
        let stream: Result<Stream, BoxError> = connector.oneshot(uri.clone()).await;
        let stream = stream.map_err(WireError::connect)?;
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_send_buf_size(SEND_BUFFER)
            .max_header_list_size(HEAD)
            .keep_alive_interval(PING)
            .keep_alive_timeout(PING)
            .handshake(stream)
            .await
            .map_err(|error| WireError::connect(error.into()))?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection of HTTP/2 ended early");
            }
        });
        Ok(sender)
    }
}

async fn forget(shared: &Shared) {
    shared.lock().await.take();
}
