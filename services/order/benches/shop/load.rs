//! Load by HTTP/1.1 on connections that stay open, and what it came to.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// A POST with its key and body, by its number.
pub type Requests = Arc<dyn Fn(usize) -> (String, String) + Send + Sync>;

/// Whoever is asked, and for what.
#[derive(Clone)]
pub struct Asked {
    /// Host and port.
    pub address: String,
    pub path: &'static str,
    pub requests: Requests,
}

/// What a load came to.
#[derive(Default)]
pub struct Done {
    /// Answers of 200 to 299.
    pub good: u64,
    /// Answers of 429 and 503.
    pub refused: u64,
    /// Other answers, and none.
    pub failed: u64,
    /// How long the good ones took, in milliseconds, sorted.
    pub millis: Vec<f64>,
    /// How long all of it took.
    pub took: Duration,
}

impl Done {
    /// A quantile of the times of good answers, in milliseconds.
    pub fn quantile(&self, quantile: f64) -> f64 {
        let place = (self.millis.len() as f64 * quantile) as usize;
        let last = self.millis.len().saturating_sub(1);
        self.millis.get(place.min(last)).copied().unwrap_or(f64::NAN)
    }

    /// Good answers in a second.
    pub fn per_second(&self) -> f64 {
        self.good as f64 / self.took.as_secs_f64()
    }

    fn add(&mut self, status: std::io::Result<u16>, took: Duration) {
        match status {
            Ok(200..=299) => {
                self.good += 1;
                self.millis.push(took.as_secs_f64() * 1e3);
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
            all.millis.extend(done.millis);
        }
        all.millis.sort_by(f64::total_cmp);
        all.took = began.elapsed();
        all
    }
}

/// Each of `clients` asks again as soon as it has an answer, until `time` is over or `most` were asked.
pub async fn closed(asked: &Asked, clients: usize, time: Duration, most: usize) -> Done {
    let (began, mut running) = (Instant::now(), JoinSet::new());
    for number in 0..clients {
        let asked = asked.clone();
        running.spawn(async move {
            let (mut client, mut done) = (Client::new(&asked), Done::default());
            for turn in (number..most).step_by(clients) {
                if began.elapsed() >= time {
                    break;
                }
                let sent = Instant::now();
                let status = client.ask(turn).await;
                let away = status.is_err();
                done.add(status, sent.elapsed());
                if away {
                    // Nobody is there: not as fast as the machine can.
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            }
            done
        });
    }
    Done::together(running, began).await
}

/// So many requests a second as `rate` says, whether or not answers come: what takes longer than its turn is waited for by
/// the next one, and times count from when a request was due.
pub async fn open(asked: &Asked, clients: usize, rate: f64, time: Duration) -> Done {
    let (began, mut running) = (Instant::now(), JoinSet::new());
    for number in 0..clients {
        let asked = asked.clone();
        running.spawn(async move {
            let (mut client, mut done) = (Client::new(&asked), Done::default());
            for turn in (number..).step_by(clients) {
                let due = began + Duration::from_secs_f64(turn as f64 / rate);
                if due - began >= time {
                    break;
                }
                tokio::time::sleep_until(due.into()).await;
                let status = client.ask(turn).await;
                done.add(status, due.elapsed());
            }
            done
        });
    }
    Done::together(running, began).await
}

/// One connection, opened when there is something to ask.
pub struct Client {
    asked: Asked,
    stream: Option<TcpStream>,
    buffer: Vec<u8>,
}

impl Client {
    pub fn new(asked: &Asked) -> Self {
        Self {
            asked: asked.clone(),
            stream: None,
            buffer: Vec::with_capacity(4_096),
        }
    }

    /// Asks for the request of that number and reads the whole answer; its status.
    pub async fn ask(&mut self, number: usize) -> std::io::Result<u16> {
        let (key, body) = (self.asked.requests)(number);
        let Asked { address, path, .. } = &self.asked;
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\nIdempotency-Key: {key}\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let exchange = self.exchange(request.as_bytes());
        let answer = tokio::time::timeout(Duration::from_secs(20), exchange).await;
        let status = answer.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()));
        if status.is_err() {
            self.stream = None;
        }
        status
    }

    async fn exchange(&mut self, request: &[u8]) -> std::io::Result<u16> {
        let stream = match &mut self.stream {
            Some(stream) => stream,
            none => {
                let stream = TcpStream::connect(&self.asked.address).await?;
                stream.set_nodelay(true)?;
                none.insert(stream)
            }
        };
        stream.write_all(request).await?;
        self.buffer.clear();
        let mut end = None;
        while end.is_none_or(|end| self.buffer.len() < end) {
            if stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            if end.is_none()
                && let Some(head) = self.buffer.windows(4).position(|window| window == b"\r\n\r\n")
            {
                end = Some(head + 4 + length(&self.buffer[..head]));
            }
        }
        let status = self
            .buffer
            .get(9..12)
            .and_then(|digits| std::str::from_utf8(digits).ok());
        let status = status.and_then(|digits| digits.parse().ok());
        status.ok_or_else(|| std::io::ErrorKind::InvalidData.into())
    }
}

/// How long the body is of an answer with this head.
fn length(head: &[u8]) -> usize {
    let text = String::from_utf8_lossy(head);
    let lengths = text.split("\r\n").filter_map(|line| {
        let (name, value) = line.split_once(':')?;
        let length = name.eq_ignore_ascii_case("content-length").then(|| value.trim())?;
        length.parse().ok()
    });
    lengths.last().unwrap_or(0)
}
