//! An object as a stream that whoever reads it may read as slowly as he likes: it is asked for in pieces, and no request waits
//! for the reader. The next piece is on its way while one is read.
//!
//! Blocking, and not on a thread that serves requests: call it where blocking is allowed.

use super::{Bucket, Error, answer::Answer};
use std::io::{self, Cursor, Read};
use tokio::{runtime::Handle, task::JoinHandle};

/// A piece. Unit: bytes.
const PIECE: u64 = 4 << 20;
/// What a store answers where nothing lies behind the beginning.
const NOTHING_THERE: &str = "it answered 416";

/// A piece, and what it is a piece of.
struct Piece {
    bytes: Vec<u8>,
    total: u64,
    tag: Option<String>,
}

/// The stream. An error of it is an [`Error`] inside an [`io::Error`].
pub struct Reader {
    handle: Handle,
    bucket: Bucket,
    key: String,
    /// The object that was seen first: another one in its place is not read on.
    tag: Option<String>,
    /// How large it is, once that is known. Unit: bytes.
    total: Option<u64>,
    at: u64,
    piece: Cursor<Vec<u8>>,
    ahead: Option<JoinHandle<Result<Piece, Error>>>,
}

impl Reader {
    /// From the beginning; nothing is asked yet.
    pub fn new(handle: Handle, bucket: Bucket, key: String) -> Self {
        Self {
            handle,
            bucket,
            key,
            tag: None,
            total: None,
            at: 0,
            piece: Cursor::default(),
            ahead: None,
        }
    }

    fn ask(&self) -> JoinHandle<Result<Piece, Error>> {
        let (bucket, key, at, tag) = (self.bucket.clone(), self.key.clone(), self.at, self.tag.clone());
        self.handle.spawn(async move { bucket.piece(&key, at, tag).await })
    }

    fn next(&mut self) -> io::Result<()> {
        let asked = self.ahead.take().unwrap_or_else(|| self.ask());
        let answered = self.handle.block_on(asked).map_err(io::Error::other)?;
        let piece = answered.map_err(io::Error::other)?;
        self.at += piece.bytes.len() as u64;
        (self.tag, self.total) = (piece.tag, Some(piece.total));
        self.piece = Cursor::new(piece.bytes);
        if self.at < piece.total {
            self.ahead = Some(self.ask());
        }
        Ok(())
    }
}

impl Read for Reader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.piece.read(buffer)?;
        if count > 0 || self.total.is_some_and(|total| self.at >= total) {
            return Ok(count);
        }
        self.next()?;
        self.piece.read(buffer)
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        if let Some(ahead) = &self.ahead {
            ahead.abort();
        }
    }
}

impl Bucket {
    async fn piece(&self, key: &str, at: u64, tag: Option<String>) -> Result<Piece, Error> {
        let request = self
            .reader
            .get_object()
            .bucket(&self.name)
            .key(key)
            .range(format!("bytes={at}-{}", at + PIECE - 1))
            .set_if_match(tag);
        let object = match self.bounded(PIECE, request.send()).await {
            Ok(object) => object,
            Err(Answer::Refused { why }) if at == 0 && why.starts_with(NOTHING_THERE) => {
                return Ok(Piece {
                    bytes: Vec::new(),
                    total: 0,
                    tag: None,
                });
            }
            Err(answer) => return Err(answer.of_reading("read", &self.place(key))),
        };
        let of = object.content_range().and_then(|range| range.rsplit_once('/'));
        let total = of.and_then(|(_, total)| total.parse::<u64>().ok());
        let total = total.ok_or_else(|| self.broken(key, "the store does not answer a piece with a piece"))?;
        let tag = object.e_tag().map(str::to_owned);
        let collected = tokio::time::timeout(self.time(PIECE), object.body.collect()).await;
        let bytes = collected
            .map_err(|_| self.broken(key, "it does not arrive in time"))?
            .map_err(|error| self.broken(key, &error.to_string()))?
            .to_vec();
        if bytes.len() as u64 != PIECE.min(total.saturating_sub(at)) {
            return Err(self.broken(key, "it ended too early"));
        }
        Ok(Piece { bytes, total, tag })
    }
}
