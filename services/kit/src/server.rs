//! Serves what answers requests over HTTP/1 and HTTP/2, and ends gently.
//!
//! Not `axum::serve`: that sets no timer, and a client that never finishes its head would stay for ever.

use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::activity::Activity;
use crate::connection::{Requests, connection};

pub use crate::connection::{Answers, CONNECTION_WINDOW, Handshake, Limits, NARROW_STREAM_WINDOW, Secure, Stream};

/// Serves `answers` until `stop`; then takes no new connection, tells the clients of the others (`Connection: close`,
/// GOAWAY), and returns when all are done or after `drain_timeout`. Returns how many connections were cut.
pub async fn serve(listener: TcpListener, answers: impl Answers, limits: Limits, stop: CancellationToken) -> usize {
    let plain: Handshake = Arc::new(|stream| Box::pin(async { Ok(Box::new(stream) as Box<dyn Stream>) }));
    serve_on(listener, plain, false, Arc::new(answers), limits, stop).await
}

/// As [`serve`], on the streams that `handshake` makes of the connections. Requests say that they are [`Secure`].
pub async fn serve_secured(
    listener: TcpListener,
    handshake: Handshake,
    answers: impl Answers,
    limits: Limits,
    stop: CancellationToken,
) -> usize {
    serve_on(listener, handshake, true, Arc::new(answers), limits, stop).await
}

async fn serve_on(
    listener: TcpListener,
    handshake: Handshake,
    secure: bool,
    answers: Arc<dyn Answers>,
    limits: Limits,
    stop: CancellationToken,
) -> usize {
    let mut connections = JoinSet::new();
    let places = Arc::new(Semaphore::new(limits.connections));
    let wide = Arc::new(Semaphore::new(limits.wide.min(Semaphore::MAX_PERMITS)));
    loop {
        let place = tokio::select! {
            place = Arc::clone(&places).acquire_owned() => place,
            () = stop.cancelled() => break,
        };
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    let activity = Activity::default();
                    let (answers, wide) = (Arc::clone(&answers), Arc::clone(&wide));
                    let requests = Requests { answers, peer, secure, limits, wide, activity };
                    let connection = connection(stream, place.ok(), Arc::clone(&handshake), requests, stop.clone());
                    connections.spawn(connection);
                }
                Err(error) => accept_failed(&error).await,
            },
            Some(_) = connections.join_next() => {}
            () = stop.cancelled() => break,
        }
    }
    drop(listener);
    let ending = async { while connections.join_next().await.is_some() {} };
    let drained = tokio::time::timeout(limits.drain_timeout, ending).await.is_ok();
    if drained { 0 } else { connections.len() }
}

/// A connection that vanished before it was accepted says nothing; being out of file descriptors passes.
pub async fn accept_failed(error: &std::io::Error) {
    use std::io::ErrorKind;
    if matches!(
        error.kind(),
        ErrorKind::ConnectionRefused | ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset
    ) {
        return;
    }
    tracing::error!(%error, "failed to accept a connection");
    tokio::time::sleep(Duration::from_millis(500)).await;
}
