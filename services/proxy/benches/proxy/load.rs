//! Load by HTTP/1.1 on connections that stay open, and what it came to.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::pacer::Pacer;

/// Requests that take turns.
#[derive(Clone)]
pub struct Requests(Arc<(Vec<Vec<u8>>, AtomicUsize)>);

impl Requests {
    /// `GET path`, the same each time.
    pub fn get(path: &str) -> Self {
        Self::with_tokens(path, &[String::new()])
    }

    /// `GET path`, each time with the next of these tokens; one of no length is left out.
    pub fn with_tokens(path: &str, tokens: &[String]) -> Self {
        let request = |token: &String| {
            let identity = if token.is_empty() {
                String::new()
            } else {
                format!("Authorization: Bearer {token}\r\n")
            };
            format!("GET {path} HTTP/1.1\r\nHost: shop\r\n{identity}\r\n").into_bytes()
        };
        Self(Arc::new((tokens.iter().map(request).collect(), AtomicUsize::new(0))))
    }

    fn next(&self) -> &[u8] {
        let (requests, turn) = &*self.0;
        &requests[turn.fetch_add(1, Ordering::Relaxed) % requests.len()]
    }
}

/// What a load came to.
#[derive(Default)]
pub struct Done {
    /// Answers of 200.
    pub good: u64,
    /// Answers of 429 and 503.
    pub refused: u64,
    /// Other answers, and none.
    pub failed: u64,
    /// How long the good ones took, in microseconds, sorted.
    pub micros: Vec<f64>,
    /// How long all of it took.
    pub took: Duration,
}

impl Done {
    /// A quantile of the times of good answers, in microseconds.
    pub fn quantile(&self, quantile: f64) -> f64 {
        let place = (self.micros.len() as f64 * quantile) as usize;
        self.micros
            .get(place.min(self.micros.len().saturating_sub(1)))
            .copied()
            .unwrap_or(f64::NAN)
    }

    /// Good answers in a second.
    pub fn per_second(&self) -> f64 {
        self.good as f64 / self.took.as_secs_f64()
    }

    fn add(&mut self, status: std::io::Result<u16>, took: Duration) {
        match status {
            Ok(200) => {
                self.good += 1;
                self.micros.push(took.as_nanos() as f64 / 1e3);
            }
            Ok(429 | 503) => self.refused += 1,
            Ok(_) | Err(_) => self.failed += 1,
        }
    }

    async fn together(mut clients: JoinSet<Self>, began: Instant) -> Self {
        let mut all = Self::default();
        while let Some(done) = clients.join_next().await {
            let done = done.unwrap();
            all.good += done.good;
            all.refused += done.refused;
            all.failed += done.failed;
            all.micros.extend(done.micros);
        }
        all.micros.sort_by(f64::total_cmp);
        all.took = began.elapsed();
        all
    }
}

/// Each of `clients` asks again as soon as it has an answer.
pub async fn closed(address: SocketAddr, requests: &Requests, clients: usize, time: Duration) -> Done {
    let (began, mut running) = (Instant::now(), JoinSet::new());
    for _ in 0..clients {
        let requests = requests.clone();
        running.spawn(async move {
            let (mut client, mut done) = (Client::new(address), Done::default());
            while began.elapsed() < time {
                let asked = Instant::now();
                let status = client.ask(requests.next()).await;
                done.add(status, asked.elapsed());
            }
            done
        });
    }
    Done::together(running, began).await
}

/// So many requests a second as `rate` says, whether or not answers come: what is due while all `clients` wait for theirs is
/// taken by the next one that is done, and that waiting counts where `from_due`. Else times count from when a request was
/// sent.
pub async fn open(
    address: SocketAddr,
    requests: &Requests,
    clients: usize,
    rate: f64,
    time: Duration,
    from_due: bool,
) -> Done {
    let (began, mut running) = (Instant::now(), JoinSet::new());
    let pacer = Pacer::start(rate, time);
    for _ in 0..clients {
        let (requests, pacer) = (requests.clone(), pacer.clone());
        running.spawn(async move {
            let (mut client, mut done) = (Client::new(address), Done::default());
            while let Some(due) = pacer.next().await {
                let asked = if from_due { due } else { Instant::now() };
                let status = client.ask(requests.next()).await;
                done.add(status, asked.elapsed());
            }
            done
        });
    }
    Done::together(running, began).await
}

/// One connection, opened when there is something to ask.
pub struct Client {
    address: SocketAddr,
    stream: Option<TcpStream>,
    buffer: Vec<u8>,
}

impl Client {
    pub fn new(address: SocketAddr) -> Self {
        Self {
            address,
            stream: None,
            buffer: Vec::with_capacity(64 * 1024),
        }
    }

    /// Asks and reads the whole answer; its status.
    pub async fn ask(&mut self, request: &[u8]) -> std::io::Result<u16> {
        let answer = tokio::time::timeout(Duration::from_secs(20), self.exchange(request, true)).await;
        let status = answer.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()));
        if status.is_err() {
            self.stream = None;
        }
        status
    }

    /// Asks and reads the head of the answer alone.
    pub async fn begin(&mut self, request: &[u8]) -> std::io::Result<u16> {
        self.exchange(request, false).await
    }

    /// What the last answer was, head and body.
    pub fn heard(&self) -> String {
        String::from_utf8_lossy(&self.buffer).into_owned()
    }

    async fn exchange(&mut self, request: &[u8], whole: bool) -> std::io::Result<u16> {
        let stream = match &mut self.stream {
            Some(stream) => stream,
            none => {
                let stream = TcpStream::connect(self.address).await?;
                stream.set_nodelay(true)?;
                none.insert(stream)
            }
        };
        stream.write_all(request).await?;
        self.buffer.clear();
        let end = loop {
            if stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            if let Some(end) = self.buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                break end + 4;
            }
        };
        let (status, length) = head(&self.buffer[..end]).ok_or(std::io::ErrorKind::InvalidData)?;
        // The bytes of a large body are not kept.
        let mut left = (end + length).saturating_sub(self.buffer.len());
        let mut sink = vec![0; left.min(64 * 1024)];
        while whole && left > 0 {
            let size = left.min(sink.len());
            let read = stream.read(&mut sink[..size]).await?;
            if read == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            self.buffer
                .extend_from_slice(&sink[..read.min(4_096_usize.saturating_sub(self.buffer.len()))]);
            left -= read;
        }
        Ok(status)
    }
}

/// Status and length of an answer.
fn head(bytes: &[u8]) -> Option<(u16, usize)> {
    let text = std::str::from_utf8(bytes).ok()?;
    let status = text.get(9..12)?.parse().ok()?;
    let length = text.split("\r\n").skip(1).find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length")
            .then(|| value.trim().parse().ok())?
    });
    Some((status, length.unwrap_or(0)))
}
