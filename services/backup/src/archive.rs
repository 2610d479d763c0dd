//! The archive: tar in zstd, the dumps first, the manifest last (L2 and the last word of L3).
//!
//! It is made while its dumps arrive: what goes into it lies nowhere else. A member's size is told ahead of its bytes and known
//! after them, so each member is two zstd frames: its header, which has the same length whatever it says and is written once
//! more in its place, and its content. Frames that follow each other are one stream to whoever reads zstd.
//!
//! In: the bytes of the members. Out: one file, and, when it is read back, proof that it is whole: each member has the sha256
//! of the dump that pg_restore has read to its end. Blocking: call it where blocking is allowed.

use crate::{
    hashing::Hashing,
    manifest::{self, Manifest},
};
use std::{
    fs::{File, OpenOptions},
    io::{self, BufWriter, Read, Seek, SeekFrom, Write},
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
    thread,
};
use zstd::zstd_safe::CParameter;

mod reading;

pub use reading::{scan, verify};

/// End of an archive's name.
pub(crate) use valerix_crds::backup_runner::ARCHIVE;
/// Size of the pieces in which members are read.
const CHUNK: usize = 1 << 18;
/// Up to this level several threads compress. Above it each of them would hold more than a pod has to spare.
const SHARED_LEVEL: i32 = 9;
/// The most threads that compress; each holds about 16 MiB at that level, with what it reads and writes.
const MOST_WORKERS: usize = 2;
/// What one of them compresses at a time. Unit: bytes.
const SHARE: u32 = 2 << 20;
/// None of them looks at what another one compresses: looking there takes longer than all the rest.
const NO_OVERLAP: u32 = 1;
/// How far one looks back, and how much it remembers of that, as powers of two: at the highest shared level it would be twice
/// as much, for less than a hundredth of the size.
const WINDOW: u32 = 21;
const REMEMBERED: u32 = 20;
/// Level for what is small, or compressed already.
const FAST_LEVEL: i32 = 1;
/// What a tar is made of. Unit: bytes.
const BLOCK: u64 = 512;
/// Who may read an archive: its owner, and the volume's group.
const MODE: u32 = 0o640;

/// A file that was written or read to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Digest {
    /// sha256 of the file, lower-case hex.
    pub sha256: String,
    /// Size of the file. Unit: bytes.
    pub bytes: u64,
}

/// An archive that cannot be made or is not whole.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file could not be read or written.
    #[error("failed to {action}")]
    Io {
        /// What was tried.
        action: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// What is read is not what was written.
    #[error("the archive is damaged: {why}")]
    Damaged {
        /// What does not fit.
        why: String,
    },
}

fn io_error(action: impl Into<String>) -> impl FnOnce(io::Error) -> Error {
    let action = action.into();
    move |source| Error::Io { action, source }
}

fn damaged(why: impl Into<String>) -> Error {
    Error::Damaged { why: why.into() }
}

/// What was checked is not what lies on scratch.
pub(crate) fn changed() -> Error {
    damaged("on scratch it is not what it was when it was checked")
}

/// sha256 and size of a file.
///
/// # Errors
/// If it cannot be read.
pub fn digest(path: &Path) -> Result<Digest, Error> {
    let file = File::open(path).map_err(io_error(format!("open {}", path.display())))?;
    let mut reader = Hashing::new(file);
    io::copy(&mut reader, &mut io::sink()).map_err(io_error(format!("read {}", path.display())))?;
    let (_, sha256, bytes) = reader.finish();
    Ok(Digest { sha256, bytes })
}

/// Makes a file that is not there yet and that nobody else may read.
pub(crate) fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(MODE).open(path)
}

/// A writer whose output is one zstd frame with a checksum, made by as many threads as there are cores for it.
pub(crate) fn compressed<'a, Output: Write>(output: Output, level: i32) -> io::Result<zstd::Encoder<'a, Output>> {
    let mut encoder = zstd::Encoder::new(output, level)?;
    encoder.include_checksum(true)?;
    let workers = thread::available_parallelism().map_or(1, usize::from).min(MOST_WORKERS);
    if workers > 1 && level <= SHARED_LEVEL {
        encoder.multithread(u32::try_from(workers).unwrap_or(1))?;
        encoder.set_parameter(CParameter::JobSize(SHARE))?;
        encoder.set_parameter(CParameter::OverlapSizeLog(NO_OVERLAP))?;
        if level == SHARED_LEVEL {
            encoder.set_parameter(CParameter::WindowLog(WINDOW))?;
            encoder.set_parameter(CParameter::HashLog(REMEMBERED))?;
        }
    }
    Ok(encoder)
}

/// An archive that is being made.
#[derive(Debug)]
pub struct Writer {
    path: PathBuf,
    file: File,
    /// Where the next member begins. What lies behind is of one that was not kept.
    end: u64,
    /// When it was made. Unit: seconds since the epoch.
    modified: u64,
}

/// A member that is being written.
pub struct Entry<'a> {
    path: &'a Path,
    file: &'a File,
    name: String,
    start: u64,
    content: Hashing<zstd::Encoder<'static, BufWriter<&'a File>>>,
}

/// A member that was written, and is none before it is [kept](Writer::keep).
#[derive(Debug)]
pub struct Appended {
    /// sha256 and size of its content.
    pub digest: Digest,
    name: String,
    start: u64,
    end: u64,
}

impl Writer {
    /// Makes the file, which must not be there yet.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn create(path: &Path, modified: u64) -> Result<Self, Error> {
        let file = create(path).map_err(io_error(format!("write {}", path.display())))?;
        Ok(Self {
            path: path.to_owned(),
            file,
            end: 0,
            modified,
        })
    }

    /// Begins a member behind those that were kept; one that was not gives its room back. Without a level it is not
    /// compressed for long, as what is encrypted.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn begin(&mut self, name: &str, level: Option<i32>) -> Result<Entry<'_>, Error> {
        let begun = self.rewind().and_then(|()| {
            (&self.file).write_all(&stored(&header(name, 0, self.modified)?)?)?;
            let output = BufWriter::with_capacity(CHUNK, &self.file);
            match level {
                Some(level) => compressed(output, level),
                None => simple(output),
            }
        });
        Ok(Entry {
            path: &self.path,
            file: &self.file,
            name: name.to_owned(),
            start: self.end,
            content: Hashing::new(begun.map_err(self.writing())?),
        })
    }

    /// Makes what was written a member: tells how large it is, and goes on behind it.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn keep(&mut self, appended: &Appended) -> Result<(), Error> {
        let told = header(&appended.name, appended.digest.bytes, self.modified).and_then(|header| stored(&header));
        told.and_then(|frame| self.file.write_all_at(&frame, appended.start))
            .map_err(self.writing())?;
        self.end = appended.end;
        Ok(())
    }

    /// Ends the archive with its manifest.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn finish(&mut self, manifest: &Manifest) -> Result<(), Error> {
        let text = serde_json::to_vec_pretty(manifest).map_err(|error| damaged(format!("its manifest: {error}")))?;
        let written = self.rewind().and_then(|()| {
            let mut builder = tar::Builder::new(simple(BufWriter::with_capacity(CHUNK, &self.file))?);
            let mut header = plain_header(text.len() as u64, self.modified);
            builder.append_data(&mut header, manifest::FILE, text.as_slice())?;
            builder.into_inner()?.finish()?.flush()
        });
        written.map_err(self.writing())
    }

    fn rewind(&self) -> io::Result<()> {
        self.file.set_len(self.end)?;
        (&self.file).seek(SeekFrom::Start(self.end)).map(|_| ())
    }

    fn writing(&self) -> impl FnOnce(io::Error) -> Error + use<> {
        io_error(format!("write {}", self.path.display()))
    }
}

impl Entry<'_> {
    /// Ends it.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn finish(self) -> Result<Appended, Error> {
        let (mut encoder, sha256, bytes) = self.content.finish();
        let ended = || {
            let rest = bytes.next_multiple_of(BLOCK) - bytes;
            io::copy(&mut io::repeat(0).take(rest), &mut encoder)?;
            encoder.finish()?.flush()?;
            let mut file = self.file;
            file.stream_position()
        };
        let end = ended().map_err(io_error(format!("write {}", self.path.display())))?;
        Ok(Appended {
            digest: Digest { sha256, bytes },
            name: self.name,
            start: self.start,
            end,
        })
    }
}

impl Write for Entry<'_> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.content.write(buffer)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.content.flush()
    }
}

/// A writer whose output is one zstd frame with a checksum, made in passing.
fn simple<Output: Write>(output: Output) -> io::Result<zstd::Encoder<'static, Output>> {
    let mut encoder = zstd::Encoder::new(output, FAST_LEVEL)?;
    encoder.include_checksum(true)?;
    Ok(encoder)
}

/// A zstd frame that holds its content as it is, with its checksum (RFC 8878, 3.1.1): as long as the content wants, whatever
/// that says.
fn stored(content: &[u8]) -> io::Result<Vec<u8>> {
    const MAGIC: u32 = 0xFD2F_B528;
    /// The size in four bytes, all of it in one window, a checksum.
    const DESCRIPTOR: u8 = 0b1010_0100;
    const LAST_RAW_BLOCK: u32 = 1;
    let size = u32::try_from(content.len()).map_err(io::Error::other)?;
    let mut encoder = simple(Vec::new())?;
    encoder.write_all(content)?;
    let compressed = encoder.finish()?;
    // It is of the content, however that is written.
    let checksum = &compressed[compressed.len().saturating_sub(4)..];
    Ok([
        &MAGIC.to_le_bytes()[..],
        &[DESCRIPTOR],
        &size.to_le_bytes(),
        &(size << 3 | LAST_RAW_BLOCK).to_le_bytes()[..3],
        content,
        checksum,
    ]
    .concat())
}

/// What stands before the content of a member: its header, and another one before that where the name is long.
fn header(name: &str, size: u64, modified: u64) -> io::Result<Vec<u8>> {
    let mut builder = tar::Builder::new(Vec::new());
    builder.append_data(&mut plain_header(size, modified), name, io::empty())?;
    Ok(builder.get_ref().clone())
}

fn plain_header(size: u64, modified: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_size(size);
    header.set_mode(0o600);
    header.set_mtime(modified);
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_of_any_name_and_size_read_as_they_were_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.tar.zst");
        let mut writer = Writer::create(&path, 1).unwrap();
        let long = format!("{}.dump", "ä".repeat(90));
        let noise: Vec<u8> = (0..3_000_000_u32)
            .flat_map(|i| i.wrapping_mul(i).to_le_bytes())
            .collect();
        let members: [(&str, &[u8], Option<i32>); 4] = [
            ("empty.dump", b"", Some(9)),
            (&long, &noise, Some(9)),
            ("block.dump", &[7; 512], None),
            ("more.dump", &[7; 513], Some(19)),
        ];
        for (name, content, level) in members {
            let mut entry = writer.begin(name, level).unwrap();
            entry.write_all(content).unwrap();
            let appended = entry.finish().unwrap();
            writer.keep(&appended).unwrap();
        }
        drop(writer);
        let file = zstd::decode_all(File::open(&path).unwrap()).unwrap();
        let mut tar = tar::Archive::new(file.as_slice());
        let mut found = tar.entries().unwrap();
        for (name, content, _) in members {
            let mut entry = found.next().unwrap().unwrap();
            let mut read = Vec::new();
            entry.read_to_end(&mut read).unwrap();
            assert_eq!(entry.path().unwrap().to_str(), Some(name));
            assert!(read == content, "{name}");
        }
        assert!(found.next().is_none());
    }
}
