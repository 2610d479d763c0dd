//! WebSockets: the handshake passes as a request, then bytes are relayed both ways.

use http::header::{CONNECTION, UPGRADE};
use http::{HeaderMap, HeaderValue, Method, Request, Version};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio_util::task::TaskTracker;

use crate::headers::tokens;

/// The one protocol that is relayed. Any other would hand whoever asks a connection on which nobody watches requests:
/// `h2c` above all.
const WEBSOCKET: &str = "websocket";

/// The client's end of a connection that it asks to take over.
pub(crate) struct Wanted(OnUpgrade);

/// Whether a request asks for a WebSocket.
pub(crate) fn wanted<B>(request: &mut Request<B>) -> Option<Wanted> {
    let headers = request.headers();
    let asks = request.method() == Method::GET
        && request.version() == Version::HTTP_11
        && names(headers, &CONNECTION, "upgrade")
        && names(headers, &UPGRADE, WEBSOCKET);
    asks.then(|| Wanted(hyper::upgrade::on(request)))
}

/// Whether an answer takes the connection over to what was asked for.
pub(crate) fn granted(headers: &HeaderMap) -> bool {
    names(headers, &UPGRADE, WEBSOCKET)
}

fn names(headers: &HeaderMap, name: &http::HeaderName, word: &str) -> bool {
    tokens(headers, name).any(|token| token.eq_ignore_ascii_case(word))
}

/// Asks for the upgrade, or grants it.
pub(crate) fn stamp(headers: &mut HeaderMap) {
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static(WEBSOCKET));
}

impl Wanted {
    /// Relays until either end closes. `held` is what the call occupies meanwhile.
    pub(crate) fn relay<H: Send + 'static>(self, upstream: OnUpgrade, held: H, tasks: &TaskTracker) {
        let Self(client) = self;
        tasks.spawn(async move {
            let _held = held;
            let (client, upstream) = match tokio::try_join!(client, upstream) {
                Ok(ends) => ends,
                Err(error) => {
                    tracing::debug!(%error, "an upgrade did not come about");
                    return;
                }
            };
            let (mut client, mut upstream) = (TokioIo::new(client), TokioIo::new(upstream));
            if let Err(error) = tokio::io::copy_bidirectional(&mut client, &mut upstream).await {
                tracing::debug!(%error, "an upgraded connection broke");
            }
        });
    }
}
