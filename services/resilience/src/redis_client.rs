//! Connections to Redis that notice a server which is gone without a word: a lost node, a deleted pod.
//!
//! Nobody answers for such a server, and the kernel goes on sending to its address for a quarter of an hour. A time limit
//! on each command alone does not help: the next command takes the same connection.

use std::time::Duration;

use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::io::tcp::{TcpSettings, socket2::TcpKeepalive};
use redis::{Client, IntoConnectionInfo, RedisResult};

/// How long what was sent may stay without the other side's acknowledgement.
const UNACKNOWLEDGED: Duration = Duration::from_secs(5);
/// Silence after which the other side is asked whether it is still there, and the pause until it is asked again.
const SILENCE: Duration = Duration::from_secs(5);
const ASKED_AGAIN: Duration = Duration::from_secs(2);

/// A client of the Redis at `url` (`redis://` or `rediss://`). Nothing is connected yet.
///
/// ```
/// let client = valerix_resilience::redis_client::open("redis://127.0.0.1:6379/")?;
/// assert!(client.get_connection_info().tcp_settings().nodelay());
/// # Ok::<(), redis::RedisError>(())
/// ```
///
/// # Errors
/// When the text is no URL of a Redis.
pub fn open(url: &str) -> RedisResult<Client> {
    let keepalive = TcpKeepalive::new().with_time(SILENCE).with_interval(ASKED_AGAIN);
    let settings = TcpSettings::default().set_nodelay(true).set_keepalive(keepalive);
    #[cfg(target_os = "linux")]
    let settings = settings.set_user_timeout(UNACKNOWLEDGED);
    Client::open(url.into_connection_info()?.set_tcp_settings(settings))
}

/// A connection that is made again when it is lost. Making it takes `connect` at most, each command `answer`.
///
/// # Errors
/// When the first one can not be made.
pub async fn manager(client: Client, connect: Duration, answer: Duration) -> RedisResult<ConnectionManager> {
    let config = ConnectionManagerConfig::new()
        .set_connection_timeout(Some(connect))
        .set_response_timeout(Some(answer))
        .set_number_of_retries(1);
    ConnectionManager::new_with_config(client, config).await
}
