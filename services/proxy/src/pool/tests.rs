use std::sync::atomic::{AtomicUsize, Ordering};

use http_body_util::{BodyExt, Full};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

use super::*;
use crate::connector::Within;

const PATIENCE: Duration = Duration::from_secs(60);

/// A pool, and the one peer that its tests call.
struct World {
    pool: Pool,
    peer: Peer,
    /// Connections that the peer has accepted.
    accepted: Arc<AtomicUsize>,
}

impl World {
    /// Each connection is served by `serve`.
    async fn new<F>(kept_idle: Duration, serve: impl Fn(TcpStream) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let peer = Peer::Address(listener.local_addr().unwrap());
        let accepted = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&accepted);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(serve(stream));
            }
        });
        let connector = Connector::new(Within::Fixed(PATIENCE));
        let keeping = Keeping {
            idle: kept_idle,
            again: true,
        };
        let pool = Pool::new(connector, Scheme::HTTP, keeping);
        Self { pool, peer, accepted }
    }

    /// One whose peer answers each request with what is said for its path.
    async fn saying(kept_idle: Duration) -> Self {
        Self::new(kept_idle, |mut stream| async move {
            while let Some(head) = head(&mut stream).await {
                let answer: &[u8] = match head.split(' ').nth(1) {
                    Some("/length") => b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
                    Some("/chunks") => {
                        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n"
                    }
                    Some("/nothing") => b"HTTP/1.1 204 No Content\r\n\r\n",
                    Some("/last") => b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello",
                    // More is told than is sent.
                    _ => b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhello",
                };
                stream.write_all(answer).await.unwrap();
            }
        })
        .await
    }

    async fn ask(&self, path: &str, body: Bytes, streamed: bool) -> Response<PooledBody> {
        let body = Full::new(body).map_err(|never| match never {});
        let request = Request::post(path).header("host", "peer").body(body.boxed_unsync());
        let sent = self.pool.send(self.peer.clone(), request.unwrap(), streamed);
        let answer = tokio::time::timeout(PATIENCE, sent).await.expect("an answer in time");
        answer.unwrap_or_else(|error| panic!("no answer at {path}: {error}"))
    }

    async fn ask_and_read(&self, path: &str, streamed: bool) -> Bytes {
        let answer = self.ask(path, Bytes::new(), streamed).await;
        answer.into_body().collect().await.unwrap().to_bytes()
    }

    fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }
}

/// The head of the next request; none once nothing comes any more.
async fn head(stream: &mut (impl AsyncReadExt + Unpin)) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    String::from_utf8(head).ok()
}

#[tokio::test]
async fn a_connection_serves_one_request_after_the_other() {
    let world = World::saying(PATIENCE).await;
    for _ in 0..3 {
        assert_eq!(world.ask_and_read("/length", false).await, "hello");
        assert_eq!(world.ask_and_read("/chunks", false).await, "hello");
        assert_eq!(world.ask_and_read("/nothing", false).await, "");
    }
    assert_eq!(world.accepted(), 1);
    assert_eq!(world.ask_and_read("/last", false).await, "hello");
    assert_eq!(world.ask_and_read("/length", false).await, "hello");
    assert_eq!(world.accepted(), 2, "one that was announced to end is not used again");
}

#[tokio::test]
async fn one_that_a_task_of_its_own_drives_is_kept_too() {
    let world = World::saying(PATIENCE).await;
    assert_eq!(world.ask_and_read("/length", true).await, "hello");
    let returned = async {
        while world.pool.0.idle().by_peer.is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, returned)
        .await
        .expect("it is given back");
    assert_eq!(world.ask_and_read("/chunks", false).await, "hello");
    assert_eq!(world.accepted(), 1);
}

#[tokio::test]
async fn what_was_given_up_half_read_is_not_used_again() {
    let world = World::saying(PATIENCE).await;
    let mut answer = world.ask("/more", Bytes::new(), false).await;
    let frame = answer.body_mut().frame().await.unwrap().unwrap();
    assert_eq!(frame.into_data().unwrap(), "hello");
    drop(answer);
    assert_eq!(world.ask_and_read("/length", false).await, "hello");
    assert_eq!(world.accepted(), 2);
}

#[tokio::test]
async fn one_that_was_closed_meanwhile_is_not_used() {
    let world = World::new(PATIENCE, |mut stream| async move {
        if head(&mut stream).await.is_some() {
            let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
            stream.write_all(answer).await.unwrap();
        }
    })
    .await;
    for requests in 1..=3 {
        assert_eq!(world.ask_and_read("/", false).await, "hello");
        assert_eq!(world.accepted(), requests);
        let closed = async {
            while let Some((_, open)) = poll_fn(|context| Poll::Ready(world.pool.0.kept(&world.peer, context))).await {
                world.pool.0.keep(world.peer.clone(), open);
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, closed).await.expect("its end is seen");
    }
}

/// Who closes it just when it is used: whether the request came, nobody knows, and one that changes nothing may come twice.
#[tokio::test]
async fn a_harmless_request_whose_kept_connection_breaks_is_sent_by_a_fresh_one() {
    let world = World::new(PATIENCE, |mut stream| async move {
        assert!(head(&mut stream).await.is_some());
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
        stream.write_all(answer).await.unwrap();
        // It is read, and then there is no answer.
        let _ = head(&mut stream).await;
    })
    .await;
    let ask = async |method: Method| {
        let request = Request::builder().method(method).uri("/").header("host", "peer");
        let body = Empty::new().map_err(|never| match never {}).boxed_unsync();
        let answer = world
            .pool
            .send(world.peer.clone(), request.body(body).unwrap(), false)
            .await?;
        assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "hello");
        Ok::<_, WireError>(world.accepted())
    };
    let time_passes = async || {
        tokio::time::pause();
        tokio::time::advance(DOUBTFUL).await;
        tokio::time::resume();
    };
    assert_eq!(ask(Method::GET).await.unwrap(), 1);
    time_passes().await;
    assert_eq!(ask(Method::GET).await.unwrap(), 2);
    time_passes().await;
    let refused = ask(Method::POST).await;
    assert!(matches!(refused, Err(WireError::Exchange(_))), "{refused:?}");
}

#[tokio::test]
async fn one_that_nobody_needs_for_too_long_is_closed() {
    let world = World::saying(Duration::ZERO).await;
    assert_eq!(world.ask_and_read("/length", false).await, "hello");
    assert_eq!(world.ask_and_read("/length", false).await, "hello");
    assert_eq!(world.accepted(), 2);
    let swept = async {
        while !world.pool.0.idle().by_peer.is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, swept).await.expect("it is swept away");
}

#[tokio::test]
async fn a_streamed_body_is_sent_on_although_nobody_reads_the_answer() {
    // More than the buffers of both ends hold.
    let upload = Bytes::from(vec![7; 32 * 1024 * 1024]);
    let length = upload.len();
    let (taken, all_taken) = oneshot::channel();
    let taken = Mutex::new(Some(taken));
    let world = World::new(PATIENCE, move |stream| {
        let taken = taken.lock().unwrap().take().expect("one connection");
        async move {
            let (mut reads, mut writes) = stream.into_split();
            assert!(head(&mut reads).await.is_some());
            let answering = tokio::spawn(async move {
                let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 999999999\r\n\r\n";
                writes.write_all(answer).await.unwrap();
                while writes.write_all(&[7; 64 * 1024]).await.is_ok() {}
            });
            let mut buffer = vec![0; 64 * 1024];
            let mut left = length;
            while left > 0 {
                let read = reads.read(&mut buffer).await.unwrap();
                assert!(read > 0, "the upload broke off");
                left -= read;
            }
            taken.send(()).unwrap();
            answering.await.unwrap();
        }
    })
    .await;
    let answer = world.ask("/", upload, true).await;
    let taken = tokio::time::timeout(PATIENCE, all_taken).await;
    taken.expect("the upload does not wait for the answer").unwrap();
    drop(answer);
}
