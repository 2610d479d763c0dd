//! Encrypts private keys with AES-256-GCM, bound to the ids of the keys.

use anyhow::anyhow;
use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::digest::{SHA256, digest};
use valerix_kit::args::Secret;

/// Characters that the secret has at least.
const SHORTEST_SECRET: usize = 32;

/// Why there is no cipher.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSecret {
    /// It could be guessed.
    #[error("failed to read AUTH_KEY_SECRET: it must have at least {SHORTEST_SECRET} characters")]
    TooShort,
    /// The library does not take the key.
    #[error("failed to make a cipher of AUTH_KEY_SECRET")]
    Cipher,
}

/// Encrypts and decrypts private keys.
pub struct Cipher(RandomizedNonceKey);

impl Cipher {
    /// The cipher whose key comes of `secret`, which has to be one that nobody can guess, so that a plain hash of it will do.
    ///
    /// # Errors
    /// When it is too short.
    pub fn new(secret: &Secret) -> Result<Self, InvalidSecret> {
        if secret.expose().len() < SHORTEST_SECRET {
            return Err(InvalidSecret::TooShort);
        }
        let key = digest(
            &SHA256,
            format!("valerix auth signing keys\n{}", secret.expose()).as_bytes(),
        );
        let key = RandomizedNonceKey::new(&AES_256_GCM, key.as_ref());
        key.map(Self).map_err(|_| InvalidSecret::Cipher)
    }

    /// Encrypts the private key `id`: nonce, text, tag.
    ///
    /// # Errors
    /// When the system gives no random bytes.
    pub fn seal(&self, id: &str, private: &[u8]) -> anyhow::Result<Vec<u8>> {
        let mut text = private.to_vec();
        let nonce = self.0.seal_in_place_append_tag(Aad::from(id), &mut text);
        let nonce = nonce.map_err(|_| anyhow!("failed to encrypt a signing key"))?;
        Ok([nonce.as_ref().as_slice(), &text].concat())
    }

    /// Decrypts the private key `id`; nothing where it is another key's, was changed, or was encrypted by another secret.
    #[must_use]
    pub fn open(&self, id: &str, sealed: &[u8]) -> Option<Vec<u8>> {
        let (nonce, text) = sealed.split_at_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut text = text.to_vec();
        let opened = self.0.open_in_place(nonce, Aad::from(id), &mut text).ok()?;
        Some(opened.to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cipher(letter: &str) -> Cipher {
        Cipher::new(&Secret::from(letter.repeat(SHORTEST_SECRET))).unwrap()
    }

    #[test]
    fn a_key_is_opened_by_its_secret_and_under_its_id_alone() {
        let sealed = cipher("a").seal("one", b"private").unwrap();
        assert_eq!(cipher("a").open("one", &sealed).unwrap(), b"private");
        assert!(!sealed.windows(7).any(|window| window == b"private"));
        assert_ne!(
            sealed,
            cipher("a").seal("one", b"private").unwrap(),
            "no nonce is used twice"
        );
        assert!(cipher("b").open("one", &sealed).is_none());
        assert!(cipher("a").open("two", &sealed).is_none());
        let mut changed = sealed.clone();
        changed[NONCE_LEN] ^= 1;
        assert!(cipher("a").open("one", &changed).is_none());
        assert!(cipher("a").open("one", b"short").is_none());
    }

    #[test]
    fn a_short_secret_is_refused() {
        let short = Secret::from("a".repeat(SHORTEST_SECRET - 1));
        assert_eq!(Cipher::new(&short).err(), Some(InvalidSecret::TooShort));
    }
}
