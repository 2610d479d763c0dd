//! The service behind every contender, on a thread of its own: it does as little as it can.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

/// Requests of `/slow` that it works on at once, and how long one takes: fifty a second for each of them.
pub const AT_ONCE: usize = 20;
pub const SLOW: Duration = Duration::from_millis(20);
/// Bytes of `/large`.
pub const LARGE: usize = 1024 * 1024;

/// Starts it. It serves `keys` to who asks for the keys of tokens.
pub fn start(keys: String) -> SocketAddr {
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async move {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            tell.send(listener.local_addr().unwrap()).unwrap();
            let answers = Arc::new(Pages {
                small: answer(&[b'a'; 1024]),
                large: answer(&vec![b'a'; LARGE]),
                keys: answer(keys.as_bytes()),
                places: Semaphore::new(AT_ONCE),
            });
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&answers)));
            }
        });
    });
    told.recv().unwrap()
}

struct Pages {
    small: Vec<u8>,
    large: Vec<u8>,
    keys: Vec<u8>,
    places: Semaphore,
}

fn answer(body: &[u8]) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

async fn serve(mut stream: TcpStream, answers: Arc<Pages>) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = Vec::with_capacity(8 * 1024);
    loop {
        while !buffer.ends_with(b"\r\n\r\n") {
            if stream.read_buf(&mut buffer).await? == 0 {
                return Ok(());
            }
        }
        let path = buffer.split(|byte| *byte == b' ').nth(1).unwrap_or_default();
        let answer = match path {
            b"/slow" => {
                let _place = answers.places.acquire().await;
                tokio::time::sleep(SLOW).await;
                &answers.small
            }
            b"/large" => &answers.large,
            b"/.well-known/jwks.json" => &answers.keys,
            _ => &answers.small,
        };
        buffer.clear();
        stream.write_all(answer).await?;
    }
}
