//! The archive once more, where it lies: its dumps one after the other, decrypted, as they are read. Nothing of it is put
//! anywhere, so that a trial needs no more room than what is restored.
//!
//! In: a stream of the archive and what it said the first time. Out: pieces of dumps, and at the end what it was. It was read
//! to its end before, and is read to its end again: what was restored from it counts only if both times it was the same.

use crate::{
    archive::{self, Digest},
    hashing::Hashing,
    manifest::{Manifest, Member},
    sealing::Keys,
};
use std::{
    io::{self, Read},
    sync::Arc,
};
use tokio::{sync::mpsc, task::JoinHandle};

/// How much is handed on at a time. Unit: bytes.
const CHUNK: usize = 256 * 1024;
/// How many pieces wait for who restores them.
const AHEAD: usize = 8;

enum Piece {
    /// The dump of this database of the manifest begins.
    Begin(usize),
    Bytes(Vec<u8>),
    /// All of it has come that will.
    End,
}

/// What all of it was.
pub(super) struct Whole {
    pub(super) digest: Digest,
    /// Which dump is not what its manifest says, and how.
    pub(super) fault: Option<String>,
}

/// Dumps that arrive.
pub(super) struct Stream {
    pieces: mpsc::Receiver<Piece>,
    reading: JoinHandle<Result<Whole, archive::Error>>,
    /// Whether the dump that is being read has come to its end.
    ended: bool,
}

impl Stream {
    /// Begins to read.
    pub(super) fn of(archive: Box<dyn Read + Send>, manifest: &Manifest, keys: Option<Arc<Keys>>) -> Self {
        let (sender, pieces) = mpsc::channel(AHEAD);
        let members = manifest.databases.clone();
        let reading = tokio::task::spawn_blocking(move || read(archive, &members, keys.as_deref(), &sender));
        Self {
            pieces,
            reading,
            ended: true,
        }
    }

    /// The next dump, as its place in the manifest.
    pub(super) async fn dump(&mut self) -> Option<usize> {
        loop {
            match self.pieces.recv().await? {
                Piece::Begin(index) => {
                    self.ended = false;
                    return Some(index);
                }
                Piece::Bytes(_) | Piece::End => {}
            }
        }
    }

    /// More of it.
    pub(super) async fn bytes(&mut self) -> Option<Vec<u8>> {
        if self.ended {
            return None;
        }
        if let Some(Piece::Bytes(bytes)) = self.pieces.recv().await {
            return Some(bytes);
        }
        self.ended = true;
        None
    }

    /// Reads what is left, and says what all of it was.
    pub(super) async fn end(mut self) -> Result<Whole, archive::Error> {
        while self.pieces.recv().await.is_some() {}
        self.reading
            .await
            .unwrap_or_else(|error| Err(reading(io::Error::other(error))))
    }
}

fn reading(source: io::Error) -> archive::Error {
    archive::Error::Io {
        action: "read the archive once more".into(),
        source,
    }
}

fn read(
    archive: Box<dyn Read + Send>,
    members: &[Member],
    keys: Option<&Keys>,
    sender: &mpsc::Sender<Piece>,
) -> Result<Whole, archive::Error> {
    let mut fault = None;
    let scanned = archive::scan(archive, &mut |name, reader| {
        let place = members.iter().position(|member| member.archived().file == name);
        let Some((index, member)) = place.and_then(|index| Some((index, members.get(index)?))) else {
            return Ok(());
        };
        send(sender, Piece::Begin(index))?;
        let handed = match keys.filter(|_| member.sealed.is_some()) {
            None => hand_on(reader, member, sender),
            Some(keys) => match keys.unseal(reader, name) {
                Ok(mut plain) => hand_on(&mut plain, member, sender),
                Err(error) => Err(Unsent::Fault(error.to_string())),
            },
        };
        match handed {
            Ok(()) => {}
            Err(Unsent::Fault(why)) => fault = fault.take().or(Some(why)),
            Err(Unsent::Unheard(error)) => return Err(error),
        }
        send(sender, Piece::End)
    });
    scanned.map(|(_, digest)| Whole { digest, fault })
}

/// Why a dump did not get to who restores it.
enum Unsent {
    /// It is not what its manifest says.
    Fault(String),
    /// Nobody is left who wants it.
    Unheard(archive::Error),
}

fn hand_on(plain: &mut dyn Read, member: &Member, sender: &mpsc::Sender<Piece>) -> Result<(), Unsent> {
    let file = member.archived().file;
    let mut plain = Hashing::new(plain);
    loop {
        let mut bytes = Vec::with_capacity(CHUNK);
        let count = plain.by_ref().take(CHUNK as u64).read_to_end(&mut bytes);
        match count.map_err(|error| Unsent::Fault(format!("{file} cannot be read: {error}")))? {
            0 => break,
            _ => send(sender, Piece::Bytes(bytes)).map_err(Unsent::Unheard)?,
        }
    }
    if plain.finish().1 != member.sha256 {
        return Err(Unsent::Fault(format!("{file} does not hold what its manifest says")));
    }
    Ok(())
}

/// Nobody is left to hear it where the trial has come to its end.
fn send(sender: &mpsc::Sender<Piece>, piece: Piece) -> Result<(), archive::Error> {
    sender
        .blocking_send(piece)
        .map_err(|_| reading(io::ErrorKind::BrokenPipe.into()))
}
