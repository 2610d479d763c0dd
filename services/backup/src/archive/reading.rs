//! Reads an archive to its end, and holds it against its own manifest.
//!
//! In: any stream of bytes. Out: what its manifest says, and the digest of all of it, once all of it has gone well.

use super::{CHUNK, Digest, Error, damaged, io_error};
use crate::{
    hashing::Hashing,
    manifest::{self, Manifest},
};
use std::{
    fs::File,
    io::{self, Read},
    path::{Component, Path},
    sync::mpsc,
    thread,
};

/// How many pieces are decompressed ahead of who reads them.
const AHEAD: usize = 8;
/// A manifest larger than this is none.
const MAX_MANIFEST: u64 = 64 << 20;

/// Reads the archive to its last byte and holds it against its own manifest.
///
/// # Errors
/// [`Error::Damaged`] if anything does not fit; [`Error::Io`] if the file could not be opened or read.
pub fn verify(path: &Path) -> Result<(Manifest, Digest), Error> {
    let file = File::open(path).map_err(io_error(format!("open {}", path.display())))?;
    scan(file, &mut |_, _| Ok(()))
}

/// The same of any stream. Each member but the manifest is shown to `take`, which reads of it what it likes and must believe
/// nothing of it before all of this has gone well. One thread decompresses while another one hashes and takes.
///
/// # Errors
/// [`Error::Damaged`] if anything does not fit; [`Error::Io`] if the stream could not be read; whatever `take` says.
pub fn scan(
    input: impl Read + Send,
    take: &mut dyn FnMut(&str, &mut dyn Read) -> Result<(), Error>,
) -> Result<(Manifest, Digest), Error> {
    let (sender, pieces) = mpsc::sync_channel(AHEAD);
    let (scanned, decoded) = thread::scope(|scope| {
        let decoding = scope.spawn(move || decode(input, &sender));
        let scanned = members(Pieces::of(pieces), take);
        (scanned, decoding.join())
    });
    let died = || io_error("read an archive")(io::Error::other("a thread died"));
    // What cannot be decompressed looks like a tar that is cut, so this comes first.
    let digest = decoded.unwrap_or_else(|_| Err(died()))?;
    Ok((scanned?, digest))
}

/// Decompresses all of it, unless nobody wants the rest.
fn decode(input: impl Read, pieces: &mpsc::SyncSender<Vec<u8>>) -> Result<Digest, Error> {
    let input = Watched {
        inner: Hashing::new(input),
        failed: None,
    };
    let mut decoder = zstd::Decoder::new(input).map_err(|error| damaged(format!("zstd: {error}")))?;
    let decoded = loop {
        let mut piece = Vec::with_capacity(CHUNK);
        match decoder.by_ref().take(CHUNK as u64).read_to_end(&mut piece) {
            Err(error) => break Err(error),
            Ok(0) => break Ok(()),
            Ok(_) if pieces.send(piece).is_err() => break Ok(()),
            Ok(_) => {}
        }
    };
    let Watched { inner, failed } = decoder.finish().into_inner();
    match (failed, decoded) {
        (Some(source), _) => Err(io_error("read the archive")(source)),
        (None, Err(error)) => Err(damaged(format!("zstd: {error}"))),
        (None, Ok(())) => {
            let (_, sha256, bytes) = inner.finish();
            Ok(Digest { sha256, bytes })
        }
    }
}

/// Remembers why it could not be read: to a decoder that looks like damage.
struct Watched<Inner> {
    inner: Inner,
    failed: Option<io::Error>,
}

impl<Inner: Read> Read for Watched<Inner> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.inner.read(buffer).map_err(|error| {
            let kind = error.kind();
            if kind != io::ErrorKind::Interrupted {
                self.failed = Some(error);
            }
            kind.into()
        })
    }
}

/// What the other thread sends.
struct Pieces {
    pieces: mpsc::Receiver<Vec<u8>>,
    piece: io::Cursor<Vec<u8>>,
}

impl Pieces {
    fn of(pieces: mpsc::Receiver<Vec<u8>>) -> Self {
        Self {
            pieces,
            piece: io::Cursor::default(),
        }
    }
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut count = self.piece.read(buffer)?;
        if count == 0
            && let Ok(piece) = self.pieces.recv()
        {
            self.piece = io::Cursor::new(piece);
            count = self.piece.read(buffer)?;
        }
        Ok(count)
    }
}

fn members(input: Pieces, take: &mut dyn FnMut(&str, &mut dyn Read) -> Result<(), Error>) -> Result<Manifest, Error> {
    let of_tar = |error: io::Error| damaged(format!("tar: {error}"));
    let mut archive = tar::Archive::new(input);
    let mut found: Vec<(String, String, u64)> = Vec::new();
    let mut manifest: Option<Manifest> = None;
    for entry in archive.entries().map_err(of_tar)? {
        let mut entry = entry.map_err(of_tar)?;
        let name = entry.path().map_err(of_tar)?.to_string_lossy().into_owned();
        let of_member = |error: io::Error| damaged(format!("{name}: {error}"));
        if manifest.is_some() {
            return Err(damaged(format!("{name} follows the manifest")));
        }
        if name == manifest::FILE {
            let mut text = Vec::new();
            let mut reader = (&mut entry).take(MAX_MANIFEST);
            reader.read_to_end(&mut text).map_err(of_member)?;
            manifest = Some(serde_json::from_slice(&text).map_err(|error| damaged(format!("{name}: {error}")))?);
            continue;
        }
        let size = entry.size();
        let mut reader = Hashing::new(entry);
        take(&name, &mut reader)?;
        io::copy(&mut reader, &mut io::sink()).map_err(of_member)?;
        let (_, sha256, bytes) = reader.finish();
        if bytes != size {
            return Err(damaged(format!("{name} is cut: {bytes} of {size} bytes")));
        }
        found.push((name, sha256, bytes));
    }
    // What follows the tar's end still belongs to a zstd frame with its checksum.
    io::copy(&mut archive.into_inner(), &mut io::sink()).map_err(of_tar)?;
    let manifest = manifest.ok_or_else(|| damaged("it has no manifest: it was cut"))?;
    compare(&manifest, &found)?;
    Ok(manifest)
}

fn compare(manifest: &Manifest, found: &[(String, String, u64)]) -> Result<(), Error> {
    if !(manifest::OLDEST_FORMAT..=manifest::ENCRYPTED_FORMAT).contains(&manifest.format) {
        return Err(damaged(format!(
            "its manifest has format {}, this runner knows {} to {}",
            manifest.format,
            manifest::OLDEST_FORMAT,
            manifest::ENCRYPTED_FORMAT
        )));
    }
    for member in manifest.files() {
        let Some((_, sha256, bytes)) = found.iter().find(|(name, ..)| *name == member.file) else {
            return Err(damaged(format!("{} is missing", member.file)));
        };
        if *bytes != member.bytes {
            return Err(damaged(format!(
                "{} has {bytes} bytes, its manifest says {}",
                member.file, member.bytes
            )));
        }
        if *sha256 != member.sha256 {
            return Err(damaged(format!(
                "{} does not have the sha256 of its manifest",
                member.file
            )));
        }
    }
    // What is decrypted gets these names on scratch.
    let scripts = manifest.databases.iter().filter_map(|member| member.globals.as_ref());
    let plain = manifest.databases.iter().map(|member| &member.file);
    for file in plain.chain(scripts.map(|globals| &globals.file)) {
        let mut parts = Path::new(file).components();
        if !matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None)) {
            return Err(damaged(format!("{file} in its manifest is no name of a file")));
        }
    }
    let named = manifest.files().count();
    if found.len() != named {
        return Err(damaged(format!(
            "it has {} members, its manifest names {named}",
            found.len()
        )));
    }
    Ok(())
}
