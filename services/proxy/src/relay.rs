//! Bytes of a connection that nobody looks into, both ways.

use std::future::Future;
use std::io;

use tokio::io::{AsyncRead, AsyncWrite, copy_bidirectional};

/// How a relay ended.
#[derive(Debug)]
pub enum Relayed {
    /// Both ends said that they are done.
    Done,
    /// One of them broke.
    Broken(io::Error),
    /// It was cut from here.
    Cut,
}

/// Relays until both ends have closed, one broke, or `cut` is ready. An end that closes its half is told to the other,
/// which may still answer.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// use tokio::io::{AsyncReadExt, AsyncWriteExt};
/// use valerix_proxy::{Relayed, relay};
///
/// let ((mut client, mut left), (mut right, mut server)) = (tokio::io::duplex(64), tokio::io::duplex(64));
/// let ended = tokio::spawn(async move { relay(&mut left, &mut right, std::future::pending()).await });
/// client.write_all(b"ping").await.unwrap();
/// client.shutdown().await.unwrap();
/// let mut asked = String::new();
/// server.read_to_string(&mut asked).await.unwrap();
/// assert_eq!(asked, "ping");
/// server.write_all(b"pong").await.unwrap();
/// drop(server);
/// let mut answered = String::new();
/// client.read_to_string(&mut answered).await.unwrap();
/// assert_eq!(answered, "pong");
/// assert!(matches!(ended.await.unwrap(), Relayed::Done));
/// # });
/// ```
pub async fn relay<A, B>(client: &mut A, upstream: &mut B, cut: impl Future<Output = ()>) -> Relayed
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    tokio::select! {
        copied = copy_bidirectional(client, upstream) => match copied {
            Ok(_) => Relayed::Done,
            Err(error) => Relayed::Broken(error),
        },
        () = cut => Relayed::Cut,
    }
}
