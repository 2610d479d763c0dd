//! Members of an archive that only the holder of a key can read: compressed by zstd, then encrypted in the format of age
//! (age-encryption.org/v1) for the policy's recipients.
//!
//! In: what is written, while it is written. Out: the same, sealed, into another writer. The runner that seals holds no key
//! that opens; what is sealed is opened by a trial restore, a Restore, or the `age` tool. Reads the mounted Secret.

use crate::{archive, hashing::Hashing, manifest::Encryption};
use age::{
    DecryptError, Decryptor, Encryptor,
    x25519::{Identity, Recipient},
};
use std::{
    fmt::Display,
    fs::{self, File},
    io::{self, BufReader, BufWriter, Read, Write},
    path::Path,
};
use valerix_crds::{SecretReference, backup_runner::AGE_KEY};

/// How much is read at a time. Unit: bytes.
const CHUNK: usize = 256 * 1024;

/// Why something is not sealed or not opened.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no key, or one of others.
    #[error("{0}")]
    Key(String),
    /// What comes out is not what was sealed.
    #[error("{0}")]
    Damaged(String),
    /// Scratch cannot be used.
    #[error("failed to {action}: {source}")]
    Io {
        /// What was tried.
        action: String,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// For whom a policy encrypts.
#[derive(Clone, Debug)]
pub(crate) struct Recipients(Vec<Recipient>);

impl Recipients {
    /// Reads public keys. The schema knows their form, not their checksum.
    pub(crate) fn read(texts: &[String]) -> Result<Self, String> {
        let read = texts.iter().enumerate().map(|(index, text)| {
            let read: Result<Recipient, &str> = text.parse();
            read.map_err(|why| {
                format!(
                    "encryption.ageRecipients[{index}] is no public key of age ({why}): copy what age-keygen prints"
                )
            })
        });
        read.collect::<Result<_, _>>().map(Self)
    }

    /// As the manifest names them.
    pub(crate) fn told(&self) -> Encryption {
        Encryption {
            recipients: self.0.iter().map(ToString::to_string).collect(),
        }
    }

    /// A writer that puts what is written to it, compressed and encrypted, into another one.
    pub(crate) fn seal<Output: Write>(&self, output: Output, zstd_level: i32) -> io::Result<Sealing<Output>> {
        let recipients = self.0.iter().map(|recipient| recipient as &dyn age::Recipient);
        let encrypted = Encryptor::with_recipients(recipients)
            .map_err(io::Error::other)
            .and_then(|encryptor| encryptor.wrap_output(output))?;
        archive::compressed(encrypted, zstd_level).map(Sealing)
    }
}

/// What [`Recipients::seal`] makes.
pub(crate) struct Sealing<Output: Write>(zstd::Encoder<'static, age::stream::StreamWriter<Output>>);

impl<Output: Write> Sealing<Output> {
    /// Writes what is left, and gives the inner writer back.
    pub(crate) fn finish(self) -> io::Result<Output> {
        self.0.finish()?.finish()
    }
}

impl<Output: Write> Write for Sealing<Output> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.0.write(buffer)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// The private keys of a mounted Secret.
pub(crate) struct Keys {
    keys: Vec<Identity>,
    /// What they are called in messages.
    place: String,
}

impl Keys {
    /// Reads the Secret that `reference`, the value of `field`, names. None of its words is ever repeated.
    ///
    /// # Errors
    /// If none is named, it is not there, or it holds no key.
    pub(crate) fn read(folder: &Path, field: &str, reference: Option<&SecretReference>) -> Result<Self, Error> {
        let Some(reference) = reference else {
            return Err(Error::Key(format!(
                "{field} names no Secret: put what age-keygen has written into one, key {AGE_KEY}, and name it there"
            )));
        };
        let place = format!("{field}: secret {}, key {AGE_KEY}", reference.name);
        let text = match fs::read_to_string(folder.join(AGE_KEY)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(Error::Key(format!(
                    "{place} not found: is there such a Secret in this namespace?"
                )));
            }
            text => text.map_err(|error| Error::Key(format!("{place}: {error}")))?,
        };
        let lines = text.lines().map(str::trim).enumerate();
        let written = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
        let keys = written.map(|(index, line)| {
            line.parse().map_err(|_| {
                Error::Key(format!(
                    "{place}: line {} is no private key of age (AGE-SECRET-KEY-1...)",
                    index + 1
                ))
            })
        });
        let keys: Vec<Identity> = keys.collect::<Result<_, _>>()?;
        if keys.is_empty() {
            return Err(Error::Key(format!("{place}: it holds no private key of age")));
        }
        Ok(Self { keys, place })
    }

    /// Whether one of them is a recipient of the archive: found out before anything is fetched apart.
    ///
    /// # Errors
    /// If none is.
    pub(crate) fn check(&self, encryption: &Encryption) -> Result<(), Error> {
        let held: Vec<_> = self.keys.iter().map(|key| key.to_public().to_string()).collect();
        if held.iter().any(|key| encryption.recipients.contains(key)) {
            return Ok(());
        }
        Err(Error::Key(format!(
            "{} is the key of {}, and it is encrypted for {}",
            self.place,
            held.join(", "),
            encryption.recipients.join(", ")
        )))
    }

    /// What was sealed, as it is decrypted and decompressed. Whoever reads it learns at its end whether that was so.
    ///
    /// # Errors
    /// If no key opens it.
    pub(crate) fn unseal<'a>(&self, sealed: impl Read + 'a, name: &str) -> Result<impl Read + 'a, Error> {
        let sealed = BufReader::with_capacity(CHUNK, sealed);
        let keys = self.keys.iter().map(|key| key as &dyn age::Identity);
        let decrypted = Decryptor::new_buffered(sealed).and_then(|decryptor| decryptor.decrypt(keys));
        let decrypted = decrypted.map_err(|error| match error {
            DecryptError::NoMatchingKeys => Error::Key(format!("{} opens no part of {name}", self.place)),
            error => not_decrypted(name, &error),
        })?;
        zstd::Decoder::new(decrypted).map_err(|error| not_decrypted(name, &error))
    }

    /// Decrypts and decompresses into a new file that must have this sha256.
    ///
    /// # Errors
    /// If no key opens it, or it is not what was sealed.
    pub(crate) fn open(&self, from: &Path, to: &Path, name: &str, sha256: &str) -> Result<(), Error> {
        let scratch = |source| Error::Io {
            action: format!("decrypt {name}"),
            source,
        };
        let mut plain = self.unseal(File::open(from).map_err(scratch)?, name)?;
        let mut target = Hashing::new(BufWriter::with_capacity(CHUNK, archive::create(to).map_err(scratch)?));
        let mut buffer = vec![0; CHUNK];
        loop {
            // What cannot be read is the archive's fault, what cannot be written is the folder's.
            let count = plain.read(&mut buffer).map_err(|error| not_decrypted(name, &error))?;
            if count == 0 {
                break;
            }
            target.write_all(&buffer[..count]).map_err(scratch)?;
        }
        let (mut writer, found, _) = target.finish();
        writer.flush().map_err(scratch)?;
        if found != sha256 {
            return Err(not_decrypted(name, &"it does not have the sha256 of its manifest"));
        }
        Ok(())
    }
}

fn not_decrypted(name: &str, why: &dyn Display) -> Error {
    Error::Damaged(format!("{name} cannot be decrypted: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use age::secrecy::ExposeSecret;
    use sha2::Digest;

    fn generate() -> String {
        Identity::generate().to_string().expose_secret().to_owned()
    }

    fn recipient(key: &str) -> String {
        key.parse::<Identity>().unwrap().to_public().to_string()
    }

    fn keys(folder: &Path) -> Result<Keys, Error> {
        let reference = SecretReference {
            name: "backup-key".into(),
        };
        Keys::read(folder, "source.identitySecretRef", Some(&reference))
    }

    fn secret(folder: &Path, text: &str) {
        fs::write(folder.join(AGE_KEY), text).unwrap();
    }

    #[test]
    fn what_was_sealed_is_opened_by_the_key_of_any_recipient_and_by_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let (first, second, other) = (generate(), generate(), generate());
        let public = [&first, &second].map(|key| recipient(key));
        let recipients = Recipients::read(&public).unwrap();
        let text: Vec<u8> = (0..700_000_u32).flat_map(u32::to_le_bytes).collect();
        let path = folder.path().join("orders.dump.zst.age");
        let mut sealing = recipients.seal(File::create(&path).unwrap(), 3).unwrap();
        sealing.write_all(&text).unwrap();
        sealing.finish().unwrap();
        let sum = hex::encode(sha2::Sha256::digest(&text));
        assert!(
            fs::read(&path)
                .unwrap()
                .starts_with(b"age-encryption.org/v1\n-> X25519 ")
        );

        for (index, key) in [&first, &second].into_iter().enumerate() {
            let written = format!("# created: today\n\n{key}\n");
            secret(folder.path(), &written);
            let keys = keys(folder.path()).unwrap();
            keys.check(&recipients.told()).unwrap();
            let opened = folder.path().join(format!("opened-{index}"));
            keys.open(&path, &opened, "orders", &sum).unwrap();
            assert_eq!(fs::read(&opened).unwrap(), text);
        }
        secret(folder.path(), &other);
        let wrong = keys(folder.path()).unwrap();
        let told = wrong.check(&recipients.told()).unwrap_err().to_string();
        assert!(told.contains(&public[0]) && told.contains(&recipient(&other)), "{told}");
        assert!(told.contains("secret backup-key, key key.txt"), "{told}");
        let refused = wrong
            .open(&path, &folder.path().join("never"), "orders", &sum)
            .unwrap_err();
        assert!(matches!(refused, Error::Key(_)), "{refused}");

        secret(folder.path(), &first);
        let keys = keys(folder.path()).unwrap();
        let whole = fs::read(&path).unwrap();
        let mut turned = whole.clone();
        turned[whole.len() / 2] ^= 1;
        let mut index = 0;
        for bytes in [
            &whole[..whole.len() - 1],
            &whole[..whole.len() - 70_000],
            &whole[..100],
            &turned[..],
            b"none",
        ] {
            fs::write(&path, bytes).unwrap();
            index += 1;
            let to = folder.path().join(format!("damaged-{index}"));
            let refused = keys.open(&path, &to, "orders", &sum).unwrap_err();
            assert!(matches!(refused, Error::Damaged(_)), "{index}: {refused}");
        }
        fs::write(&path, &whole).unwrap();
        let refused = keys.open(&path, &folder.path().join("another"), "orders", &"0".repeat(64));
        assert!(matches!(refused, Err(Error::Damaged(_))), "{refused:?}");
    }

    #[test]
    fn what_is_no_key_is_told_without_its_words() {
        let folder = tempfile::tempdir().unwrap();
        let told = |text: Option<&str>| {
            if let Some(text) = text {
                secret(folder.path(), text);
            }
            keys(folder.path()).err().unwrap().to_string()
        };
        let unnamed = Keys::read(folder.path(), "source.identitySecretRef", None)
            .err()
            .unwrap();
        assert!(
            unnamed
                .to_string()
                .starts_with("source.identitySecretRef names no Secret"),
            "{unnamed}"
        );
        assert!(told(None).contains("source.identitySecretRef: secret backup-key, key key.txt not found"));
        assert!(told(Some("# only this\n")).contains("it holds no private key of age"));
        let wrong = told(Some("# a comment\nAGE-SECRET-KEY-1WORDS\n"));
        assert!(wrong.contains("line 2") && !wrong.contains("WORDS"), "{wrong}");
        let key = recipient(&generate());
        let mut mistyped = key.clone();
        let last = if mistyped.pop() == Some('q') { 'p' } else { 'q' };
        mistyped.push(last);
        let refused = Recipients::read(&[key, mistyped]).unwrap_err();
        assert!(
            refused.starts_with("encryption.ageRecipients[1] is no public key"),
            "{refused}"
        );
    }
}
