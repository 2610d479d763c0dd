//! Readers and writers that take a sha256 and a count of what passes through them.

use sha2::{Digest, Sha256};
use std::io::{self, Read, Write};

/// Wraps a reader or a writer.
pub(crate) struct Hashing<Inner> {
    inner: Inner,
    hash: Sha256,
    bytes: u64,
}

impl<Inner> Hashing<Inner> {
    pub(crate) fn new(inner: Inner) -> Self {
        Self {
            inner,
            hash: Sha256::new(),
            bytes: 0,
        }
    }

    /// The inner one, the lower-case hex sha256 and the number of bytes that passed.
    pub(crate) fn finish(self) -> (Inner, String, u64) {
        (self.inner, hex::encode(self.hash.finalize()), self.bytes)
    }

    fn take(&mut self, chunk: &[u8]) {
        self.hash.update(chunk);
        self.bytes += chunk.len() as u64;
    }
}

impl<Inner: Read> Read for Hashing<Inner> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.take(&buffer[..count]);
        Ok(count)
    }
}

impl<Inner: Write> Write for Hashing<Inner> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(buffer)?;
        self.take(&buffer[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
