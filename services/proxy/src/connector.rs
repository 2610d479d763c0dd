//! Opens connections within the time that the policy in force gives, secured where the target is.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tower::{Service, ServiceExt};
use valerix_resilience::Target;

use crate::BoxError;
use crate::tls::Tls;

const KEEP_ALIVE: Duration = Duration::from_secs(30);

/// How long a connection may take to come about.
#[derive(Clone)]
pub(crate) enum Within {
    /// What the policy in force says about the target.
    Policy(Arc<Target>),
    /// Always the same.
    Fixed(Duration),
}

impl Within {
    pub(crate) fn get(&self) -> Duration {
        match self {
            Self::Policy(target) => target.timeouts().connect.get(),
            Self::Fixed(time) => *time,
        }
    }
}

/// Opens connections.
#[derive(Clone)]
pub(crate) struct Connector {
    http: HttpConnector,
    within: Within,
    /// The addresses that stand for every host, in the order in which they are tried.
    instead: Option<Arc<[SocketAddr]>>,
    /// With whether HTTP/2 may be negotiated.
    tls: Option<(Tls, bool)>,
}

impl Connector {
    pub(crate) fn new(within: Within) -> Self {
        let mut http = HttpConnector::new();
        http.set_nodelay(true);
        http.enforce_http(false);
        // A peer that vanished without a word is noticed although a stream of events may be silent for long.
        http.set_keepalive(Some(KEEP_ALIVE));
        Self {
            http,
            within,
            instead: None,
            tls: None,
        }
    }

    /// Goes to these addresses, whatever the host: to the next one where nobody listens at the first.
    pub(crate) fn instead(self, addresses: Arc<[SocketAddr]>) -> Self {
        let instead = Some(addresses);
        Self { instead, ..self }
    }

    pub(crate) fn secured(self, tls: Tls, http2: bool) -> Self {
        let tls = Some((tls, http2));
        Self { tls, ..self }
    }

    async fn open(mut self, uri: Uri) -> Result<Stream, BoxError> {
        let stream = match &self.instead {
            None => self.http.ready().await?.call(uri.clone()).await?.into_inner(),
            Some(addresses) => first_of(addresses).await?,
        };
        let Some((tls, http2)) = self.tls else {
            return Ok(Stream::Plain(TokioIo::new(stream)));
        };
        let name = tls.server_name(uri.host().unwrap_or_default())?;
        let secured = tls.connector(http2)?.connect(name, stream).await?;
        Ok(Stream::Secured(TokioIo::new(Box::new(secured))))
    }
}

/// A connection to the first of the addresses at which somebody listens.
///
/// # Errors
/// What the last of them said, where nobody listens at any.
pub async fn first_of(addresses: &[SocketAddr]) -> io::Result<TcpStream> {
    let mut refused = io::Error::new(io::ErrorKind::AddrNotAvailable, "no address is known");
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(stream) => {
                // Without it small answers only come later.
                let _ = stream.set_nodelay(true);
                return Ok(stream);
            }
            Err(error) => refused = error,
        }
    }
    Err(refused)
}

impl Service<Uri> for Connector {
    type Response = Stream;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Stream, BoxError>> + Send>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let within = self.within.get();
        let opening = self.clone().open(uri);
        Box::pin(async move {
            match tokio::time::timeout(within, opening).await {
                Ok(opened) => opened,
                Err(_) => Err(format!("no connection within {} ms", within.as_millis()).into()),
            }
        })
    }
}

/// A connection, secured or not.
pub(crate) enum Stream {
    Plain(TokioIo<TcpStream>),
    Secured(TokioIo<Box<TlsStream<TcpStream>>>),
}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        match self {
            Self::Plain(_) => Connected::new(),
            Self::Secured(stream) => {
                let protocol = stream.inner().get_ref().1.alpn_protocol();
                if protocol == Some(b"h2") {
                    Connected::new().negotiated_h2()
                } else {
                    Connected::new()
                }
            }
        }
    }
}

impl Read for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Secured(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl Write for Stream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut *self {
            Self::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Secured(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(stream) => Pin::new(stream).poll_flush(context),
            Self::Secured(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Secured(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Secured(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut *self {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(context, bytes),
            Self::Secured(stream) => Pin::new(stream).poll_write_vectored(context, bytes),
        }
    }
}
