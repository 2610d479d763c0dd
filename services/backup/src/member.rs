//! One file of the archive while it is written: as it is, or compressed and encrypted.
//!
//! In: the bytes of a dump or a script, and the form that the policy gives them. Out: a member of the archive, once it is
//! [kept](Writer::keep), with what the manifest says of it. Blocking.

use crate::{
    archive::{Appended, Digest, Entry, Error, Writer},
    hashing::Hashing,
    manifest::Sealed,
    sealing::{Recipients, Sealing},
};
use std::io::{self, Write};

/// End of the name of a member that is encrypted.
pub(crate) const SEALED: &str = ".zst.age";

/// What the members of an archive are made like.
#[derive(Clone, Debug)]
pub struct Form {
    level: i32,
    recipients: Option<Recipients>,
}

/// A member that was written, and is none before it is kept.
#[derive(Debug)]
pub struct Written {
    /// What was written.
    pub plain: Digest,
    /// What it is as a member.
    pub appended: Appended,
    /// What the manifest says of it, where that is another one.
    pub sealed: Option<Sealed>,
}

/// A member that is being written.
pub struct Body<'a> {
    file: String,
    way: Way<'a>,
}

enum Way<'a> {
    Plain(Box<Entry<'a>>),
    Sealed(Box<Hashing<Sealing<Entry<'a>>>>),
}

impl Form {
    /// Compressed at this level of zstd.
    pub fn plain(level: i32) -> Self {
        Self {
            level,
            recipients: None,
        }
    }

    /// Encrypted for somebody, where a policy names anybody.
    pub(crate) fn new(level: i32, recipients: Option<Recipients>) -> Self {
        Self { level, recipients }
    }

    /// Begins the member of this file.
    ///
    /// # Errors
    /// If the archive cannot be written.
    pub fn begin<'a>(&self, archive: &'a mut Writer, file: &str) -> Result<Body<'a>, Error> {
        let Some(recipients) = &self.recipients else {
            let file = file.to_owned();
            let way = Way::Plain(Box::new(archive.begin(&file, Some(self.level))?));
            return Ok(Body { file, way });
        };
        let file = format!("{file}{SEALED}");
        let entry = archive.begin(&file, None)?;
        let sealing = recipients.seal(entry, self.level).map_err(encrypting(&file))?;
        let way = Way::Sealed(Box::new(Hashing::new(sealing)));
        Ok(Body { file, way })
    }
}

impl Body<'_> {
    /// Ends it.
    ///
    /// # Errors
    /// If the archive cannot be written.
    pub fn finish(self) -> Result<Written, Error> {
        match self.way {
            Way::Plain(entry) => {
                let appended = entry.finish()?;
                Ok(Written {
                    plain: appended.digest.clone(),
                    appended,
                    sealed: None,
                })
            }
            Way::Sealed(sealing) => {
                let (sealing, sha256, bytes) = sealing.finish();
                let entry = sealing.finish().map_err(encrypting(&self.file))?;
                let appended = entry.finish()?;
                let sealed = appended.digest.clone();
                Ok(Written {
                    plain: Digest { sha256, bytes },
                    appended,
                    sealed: Some(Sealed {
                        file: self.file,
                        sha256: sealed.sha256,
                        bytes: sealed.bytes,
                    }),
                })
            }
        }
    }
}

impl Write for Body<'_> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        match &mut self.way {
            Way::Plain(entry) => entry.write(buffer),
            Way::Sealed(sealing) => sealing.write(buffer),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.way {
            Way::Plain(entry) => entry.flush(),
            Way::Sealed(sealing) => sealing.flush(),
        }
    }
}

fn encrypting(file: &str) -> impl FnOnce(io::Error) -> Error {
    let action = format!("encrypt {file}");
    move |source| Error::Io { action, source }
}
