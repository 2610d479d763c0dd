//! An archive that one PutObject cannot carry. Its parts are sent ahead and any number of times: none of them is an object.
//! One CompleteMultipartUpload makes them one, and that is the one write: sent once, with `If-None-Match: *`.

use super::{Bucket, Error, Labels, PIECE, Put, answer::Answer};
use crate::archive::Digest;
use aws_sdk_s3::{
    primitives::{ByteStream, Length},
    types::{ChecksumAlgorithm, CompletedMultipartUpload, CompletedPart},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use sha2::{Digest as _, Sha256};
use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    path::Path,
};
use valerix_crds::ChecksumMode;

/// The most parts that an upload may have, everywhere.
pub const MAX_PARTS: u64 = 10_000;
/// A part, unless there would be too many. Unit: bytes.
pub const PART: u64 = 64 << 20;

/// An upload in parts, as far as it is.
#[derive(Debug)]
pub struct Parts {
    /// What the store calls it.
    pub id: String,
    /// What it is to become.
    pub digest: Digest,
    /// Whether the one write was sent.
    pub sent: bool,
    part: u64,
    done: Vec<CompletedPart>,
    /// The sha256 of each part, where the store is to check them.
    sums: Vec<u8>,
    /// Of all that was sent, in order.
    whole: Sha256,
}

impl Parts {
    /// What the store computes of the parts' sha256 if it holds exactly them, in this order.
    pub fn checksum(&self) -> Option<String> {
        let composed = BASE64_STANDARD.encode(Sha256::digest(&self.sums));
        (!self.sums.is_empty()).then(|| format!("{composed}-{}", self.done.len()))
    }
}

/// How sending parts ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Sent {
    /// All of them are there.
    Whole,
    /// The store knows nothing of the upload: somebody has aborted it.
    Gone,
    /// The file is not the archive that was checked any more: its last part was not sent.
    Changed,
}

/// How large each part is, so that there are not too many of them.
fn part_size(bytes: u64, usual: u64, most: u64) -> u64 {
    usual.max(bytes.div_ceil(MAX_PARTS)).clamp(1, most.max(1))
}

impl Bucket {
    /// Begins an upload. Nothing lies under the key by that.
    ///
    /// # Errors
    /// If the store does not do it.
    pub async fn begin(&self, key: &str, digest: &Digest, labels: &Labels<'_>) -> Result<Parts, Error> {
        self.renewing(|| self.begin_now(key, digest, labels)).await
    }

    async fn begin_now(&self, key: &str, digest: &Digest, labels: &Labels<'_>) -> Result<Parts, Error> {
        let mut request = self
            .writer
            .create_multipart_upload()
            .bucket(&self.name)
            .key(key)
            .content_type("application/zstd")
            .set_metadata(Some(labels.of(digest)));
        if self.checksum == ChecksumMode::WhenSupported {
            request = request.checksum_algorithm(ChecksumAlgorithm::Sha256);
        }
        let begun = self.bounded(0, request.send()).await;
        let begun = begun.map_err(|answer| answer.of_reading("begin an upload of", &self.place(key)))?;
        Ok(Parts {
            id: begun.upload_id().unwrap_or_default().to_owned(),
            digest: digest.clone(),
            sent: false,
            part: part_size(digest.bytes, self.part, self.max_object),
            done: Vec::new(),
            sums: Vec::new(),
            whole: Sha256::new(),
        })
    }

    /// Sends the parts that are not there yet. A part that is sent again takes the place of the same one. Sums of parts say
    /// nothing of the archive that was checked, so all of them together are held against its own before the last one goes.
    ///
    /// # Errors
    /// If the store does not take one; the next call goes on with it.
    pub async fn send_parts(&self, key: &str, archive: &Path, parts: &mut Parts) -> Result<Sent, Error> {
        loop {
            let at = parts.part * u64::try_from(parts.done.len()).unwrap_or(u64::MAX);
            let length = parts.part.min(parts.digest.bytes.saturating_sub(at));
            if length == 0 {
                return Ok(Sent::Whole);
            }
            let reading = |source| Error::File {
                action: "read the archive on scratch".into(),
                source,
            };
            let (file, before) = (archive.to_owned(), parts.whole.clone());
            let hashed = tokio::task::spawn_blocking(move || hash(&file, at, length, before)).await;
            let (hash, whole) = match hashed.unwrap_or_else(|error| Err(io::Error::other(error))) {
                // It is shorter than it was.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(Sent::Changed),
                hashed => hashed.map_err(reading)?,
            };
            let is_last = at + length == parts.digest.bytes;
            if is_last && hex::encode(whole.clone().finalize()) != parts.digest.sha256 {
                return Ok(Sent::Changed);
            }
            let body = ByteStream::read_from()
                .path(archive)
                .buffer_size(PIECE)
                .offset(at)
                .length(Length::Exact(length));
            let body = body.build().await.map_err(|error| reading(io::Error::other(error)))?;
            let number = i32::try_from(parts.done.len() + 1).unwrap_or(i32::MAX);
            let mut request = self
                .reader
                .upload_part()
                .bucket(&self.name)
                .key(key)
                .upload_id(&parts.id)
                .part_number(number)
                .content_length(i64::try_from(length).unwrap_or(i64::MAX))
                .body(body);
            let mut part = CompletedPart::builder().part_number(number);
            let mut sum = Vec::new();
            if self.checksum == ChecksumMode::WhenSupported {
                let text = BASE64_STANDARD.encode(&hash);
                request = request.checksum_sha256(&text);
                part = part.checksum_sha256(text);
                sum = hash;
            }
            let used = self.credentials.now();
            match self.bounded(length, request.send()).await {
                Ok(sent) => {
                    parts.done.push(part.set_e_tag(sent.e_tag().map(str::to_owned)).build());
                    parts.sums.extend(sum);
                    parts.whole = whole;
                }
                Err(Answer::Absent) => return Ok(Sent::Gone),
                Err(Answer::Expired { .. }) if self.credentials.renewed(&used).await => {}
                Err(answer) => return Err(answer.of_reading("store a part of", &self.place(key))),
            }
        }
    }

    /// The one write: makes the parts the archive.
    ///
    /// # Errors
    /// [`Error::Call`]: it may have been stored. Any other: it was not.
    pub async fn complete(&self, key: &str, parts: &Parts) -> Result<Put, Error> {
        let whole = CompletedMultipartUpload::builder().set_parts(Some(parts.done.clone()));
        let request = self
            .writer
            .complete_multipart_upload()
            .bucket(&self.name)
            .key(key)
            .upload_id(&parts.id)
            .if_none_match("*")
            .multipart_upload(whole.build());
        // The store may put the bytes together before it answers.
        match self
            .bounded(parts.digest.bytes.min(self.max_object), request.send())
            .await
        {
            Ok(_) => Ok(Put::Stored),
            Err(Answer::Exists) => Ok(Put::Exists),
            Err(Answer::NoConditions { why }) => Err(Error::NoConditions {
                place: self.place(key),
                why,
            }),
            // Aborted, or completed by this very request, if something on the way has sent it twice.
            Err(Answer::Absent) => Err(Error::Call {
                action: "store",
                place: self.place(key),
                why: "the store knows nothing of the upload any more".into(),
            }),
            Err(answer) => Err(answer.of_reading("store", &self.place(key))),
        }
    }

    /// Aborts an upload; one that is not there, since it was completed for example, is as good.
    ///
    /// # Errors
    /// If the store does not do it.
    pub async fn abort(&self, key: &str, id: &str) -> Result<(), Error> {
        let request = self
            .reader
            .abort_multipart_upload()
            .bucket(&self.name)
            .key(key)
            .upload_id(id);
        match self.bounded(0, request.send()).await {
            Ok(_) | Err(Answer::Absent) => Ok(()),
            Err(answer) => Err(answer.of_reading("abort an upload of", &self.place(key))),
        }
    }
}

/// The sha256 of a piece of a file, and that of all before it and it.
fn hash(path: &Path, at: u64, length: u64, mut whole: Sha256) -> io::Result<(Vec<u8>, Sha256)> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(at))?;
    let mut piece = Sha256::new();
    let (mut buffer, mut left) = (vec![0; PIECE], length);
    while left > 0 {
        let most = PIECE.min(usize::try_from(left).unwrap_or(PIECE));
        let chunk = &mut buffer[..most];
        file.read_exact(chunk)?;
        piece.update(&*chunk);
        whole.update(&*chunk);
        left -= most as u64;
    }
    Ok((piece.finalize().to_vec(), whole))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_archive_has_too_many_parts() {
        for (bytes, expected) in [
            (6 << 30, PART),
            (PART * MAX_PARTS, PART),
            (PART * MAX_PARTS + 1, PART + 1),
            (5 << 40, 549_755_814),
        ] {
            let part = part_size(bytes, PART, super::super::MAX_OBJECT);
            assert_eq!(part, expected, "{bytes}");
            assert!(bytes.div_ceil(part) <= MAX_PARTS, "{bytes}");
        }
    }
}
