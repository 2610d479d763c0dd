//! The archive: tar in zstd, the dumps first, the manifest last (L2 and the last word of L3).
//!
//! In: dumps on scratch. Out: one file, and, when it is read back, proof that it is whole: each member has the sha256 of
//! the dump that pg_restore has read to its end. Blocking: call it where blocking is allowed.

use crate::{
    hashing::Hashing,
    manifest::{self, Manifest},
};
use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufReader, BufWriter, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Component, Path},
    thread,
};
use zstd::zstd_safe::CParameter;

/// End of an archive's name.
pub(crate) use valerix_crds::backup_runner::ARCHIVE;
/// Size of the pieces in which members are read.
const CHUNK: usize = 1 << 18;
/// Up to this level several threads compress. Above it each of them would hold more than a pod has to spare.
const SHARED_LEVEL: i32 = 9;
/// The most threads that compress; each holds about 16 MiB at that level.
const MOST_WORKERS: usize = 2;
/// What one of them compresses at a time. Unit: bytes.
const SHARE: u32 = 1 << 20;
/// Who may read an archive: its owner, and the volume's group.
const MODE: u32 = 0o640;
/// A manifest larger than this is none.
const MAX_MANIFEST: u64 = 64 << 20;

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
    }
    Ok(encoder)
}

/// Writes the archive: each member's file from `folder`, which is removed once it is in, then the manifest.
///
/// # Errors
/// If a file cannot be read or written, or a dump is not what the manifest says.
pub fn write(path: &Path, folder: &Path, manifest: &Manifest, zstd_level: i32) -> Result<Digest, Error> {
    let at = || format!("write {}", path.display());
    let file = create(path).map_err(io_error(at()))?;
    let output = Hashing::new(BufWriter::with_capacity(CHUNK, file));
    let encoder = compressed(output, zstd_level).map_err(io_error(at()))?;
    let mut builder = tar::Builder::new(encoder);
    let modified = u64::try_from(manifest.created_at.timestamp()).unwrap_or_default();
    for member in manifest.files() {
        let source = folder.join(member.file);
        let reading = || format!("read {}", source.display());
        let file = File::open(&source).map_err(io_error(reading()))?;
        let mut reader = Hashing::new(BufReader::with_capacity(CHUNK, file).take(member.bytes));
        builder
            .append_data(&mut header(member.bytes, modified), member.file, &mut reader)
            .map_err(io_error(at()))?;
        let (_, sha256, bytes) = reader.finish();
        if sha256 != member.sha256 || bytes != member.bytes {
            return Err(damaged(format!(
                "{} changed on scratch while it was archived",
                member.file
            )));
        }
        fs::remove_file(&source).map_err(io_error(format!("remove {}", source.display())))?;
    }
    let text = serde_json::to_vec_pretty(manifest).map_err(|error| damaged(format!("its manifest: {error}")))?;
    builder
        .append_data(
            &mut header(text.len() as u64, modified),
            manifest::FILE,
            text.as_slice(),
        )
        .map_err(io_error(at()))?;
    let encoder = builder.into_inner().map_err(io_error(at()))?;
    let (mut writer, sha256, bytes) = encoder.finish().map_err(io_error(at()))?.finish();
    writer.flush().map_err(io_error(at()))?;
    let file = writer
        .into_inner()
        .map_err(|error| io_error(at())(error.into_error()))?;
    file.sync_all().map_err(io_error(at()))?;
    Ok(Digest { sha256, bytes })
}

fn header(size: u64, modified: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_size(size);
    header.set_mode(0o600);
    header.set_mtime(modified);
    header
}

/// Reads the archive to its last byte and holds it against its own manifest.
///
/// # Errors
/// [`Error::Damaged`] if anything does not fit; [`Error::Io`] if the file could not be opened.
pub fn verify(path: &Path) -> Result<(Manifest, Digest), Error> {
    let file = File::open(path).map_err(io_error(format!("open {}", path.display())))?;
    let input = Hashing::new(file);
    let decoder = zstd::Decoder::new(input).map_err(|error| damaged(format!("zstd: {error}")))?;
    let mut archive = tar::Archive::new(decoder);
    let mut found: Vec<(String, String, u64)> = Vec::new();
    let mut manifest: Option<Manifest> = None;
    for entry in archive.entries().map_err(|error| damaged(format!("tar: {error}")))? {
        let mut entry = entry.map_err(|error| damaged(format!("tar: {error}")))?;
        let name = entry
            .path()
            .map_err(|error| damaged(format!("tar: {error}")))?
            .to_string_lossy()
            .into_owned();
        if manifest.is_some() {
            return Err(damaged(format!("{name} follows the manifest")));
        }
        if name == manifest::FILE {
            let mut text = Vec::new();
            (&mut entry)
                .take(MAX_MANIFEST)
                .read_to_end(&mut text)
                .map_err(|error| damaged(format!("{name}: {error}")))?;
            manifest = Some(serde_json::from_slice(&text).map_err(|error| damaged(format!("{name}: {error}")))?);
        } else {
            let size = entry.size();
            let (sha256, bytes) = read_member(&name, &mut entry)?;
            if bytes != size {
                return Err(damaged(format!("{name} is cut: {bytes} of {size} bytes")));
            }
            found.push((name, sha256, bytes));
        }
    }
    // What follows the tar's end still belongs to the zstd frame with its checksum, and nothing may follow that.
    let mut decoder = archive.into_inner();
    io::copy(&mut decoder, &mut io::sink()).map_err(|error| damaged(format!("zstd: {error}")))?;
    let mut rest = decoder.finish();
    io::copy(&mut rest, &mut io::sink())
        .map_err(|error| damaged(format!("it could not be read to its end: {error}")))?;
    let (_, sha256, bytes) = rest.into_inner().finish();
    let manifest = manifest.ok_or_else(|| damaged("it has no manifest: it was cut"))?;
    compare(&manifest, &found)?;
    Ok((manifest, Digest { sha256, bytes }))
}

/// Puts the members of an archive that was verified into files of `folder`.
///
/// # Errors
/// If it cannot be read, or a file cannot be written.
pub(crate) fn unpack(path: &Path, folder: &Path) -> Result<(), Error> {
    let at = || format!("unpack {}", path.display());
    let file = File::open(path).map_err(io_error(at()))?;
    let decoder = zstd::Decoder::new(file).map_err(io_error(at()))?;
    tar::Archive::new(decoder).unpack(folder).map_err(io_error(at()))
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

fn read_member(name: &str, entry: &mut dyn Read) -> Result<(String, u64), Error> {
    let mut reader = Hashing::new(entry);
    io::copy(&mut reader, &mut io::sink()).map_err(|error| damaged(format!("{name}: {error}")))?;
    let (_, sha256, bytes) = reader.finish();
    Ok((sha256, bytes))
}
