//! An object as a stream that whoever reads it may read as slowly as he likes: it is asked for in pieces, and no request waits
//! for the reader. The next piece is on its way while one is read, and one that does not arrive is asked for again.
//!
//! Blocking, and not on a thread that serves requests: call it where blocking is allowed.

use super::{Bucket, Error, answer::Answer};
use std::{
    io::{self, Cursor, Read},
    time::Duration,
};
use tokio::{runtime::Handle, task::JoinHandle, time::sleep};

/// A piece. Unit: bytes.
const PIECE: u64 = 4 << 20;
/// Pauses before a piece is asked for again: what was read before it took a while, and would have to be read once more.
const PAUSES: [Duration; 4] = [
    Duration::from_secs(1),
    Duration::from_secs(4),
    Duration::from_secs(15),
    Duration::from_secs(60),
];
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
    /// The object that was seen first: another one in its place is not read on. Compared here: some stores know no `If-Match`,
    /// and some do not look at it.
    tag: Option<String>,
    /// How large it is, once that is known. Unit: bytes.
    total: Option<u64>,
    at: u64,
    piece: Cursor<Vec<u8>>,
    ahead: Option<JoinHandle<Result<Piece, Error>>>,
    /// Whether that is so of the first piece as well.
    patient: bool,
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
            patient: false,
        }
    }

    /// The same for who has nobody that would ask for the first piece again.
    pub fn patient(mut self) -> Self {
        self.patient = true;
        self
    }

    fn ask(&self) -> JoinHandle<Result<Piece, Error>> {
        let (bucket, key, at) = (self.bucket.clone(), self.key.clone(), self.at);
        let mut pauses = pauses(at, self.patient).iter();
        self.handle.spawn(async move {
            loop {
                match (bucket.renewing(|| bucket.piece(&key, at)).await, pauses.next()) {
                    (Err(Error::Call { .. }), Some(pause)) => sleep(*pause).await,
                    (answer, _) => return answer,
                }
            }
        })
    }

    fn next(&mut self) -> io::Result<()> {
        let asked = self.ahead.take().unwrap_or_else(|| self.ask());
        let answered = self.handle.block_on(asked).map_err(io::Error::other)?;
        let piece = answered.map_err(io::Error::other)?;
        if self
            .total
            .is_some_and(|total| (total, &self.tag) != (piece.total, &piece.tag))
        {
            let replaced = self.bucket.broken(&self.key, "it was replaced while it was read");
            return Err(io::Error::other(replaced));
        }
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
    async fn piece(&self, key: &str, at: u64) -> Result<Piece, Error> {
        let request = self
            .reader
            .get_object()
            .bucket(&self.name)
            .key(key)
            .range(format!("bytes={at}-{}", at + PIECE - 1));
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
        let total = match object.content_range() {
            Some(range) => piece_of(range, at),
            // All of it at once, where that is no more than a piece.
            None => object
                .content_length()
                .and_then(|length| u64::try_from(length).ok())
                .filter(|length| at == 0 && *length <= PIECE),
        };
        let total = total.ok_or_else(|| Error::Refused {
            action: "read",
            place: self.place(key),
            why: format!("it does not answer a request for bytes={at}- with those bytes"),
        })?;
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

/// Who would ask for the first piece again says meanwhile what he waits for.
fn pauses(at: u64, patient: bool) -> &'static [Duration] {
    if at > 0 || patient { &PAUSES } else { &[] }
}

/// How large the object is of which `bytes <first>-<last>/<total>` is a piece that begins here.
fn piece_of(range: &str, at: u64) -> Option<u64> {
    let (piece, total) = range.strip_prefix("bytes ")?.split_once('/')?;
    let (first, _) = piece.split_once('-')?;
    (first.parse() == Ok(at)).then(|| total.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_piece_is_asked_for_again_only_where_nobody_else_does() {
        assert_eq!(pauses(0, false), &[] as &[Duration]);
        for (at, patient) in [(0, true), (PIECE, false), (PIECE, true)] {
            assert_eq!(pauses(at, patient), PAUSES, "{at} {patient}");
        }
    }

    #[test]
    fn only_the_piece_that_was_asked_for_is_one() {
        for (range, at, expected) in [
            ("bytes 0-4194303/9000000", 0, Some(9_000_000)),
            ("bytes 4194304-8388607/9000000", 4_194_304, Some(9_000_000)),
            ("bytes 0-4194303/9000000", 4_194_304, None),
            ("bytes 0-1/*", 0, None),
            ("0-1/2", 0, None),
        ] {
            assert_eq!(piece_of(range, at), expected, "{range}");
        }
    }
}
