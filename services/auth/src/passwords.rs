//! Hashes passwords with argon2id and compares them. A hash takes a core for tens of milliseconds and megabytes of memory:
//! it is made beside the async threads, few at a time, and who would wait too long is told so.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use argon2::{Algorithm, Argon2, Params, Version};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use valerix_kit::args::Secret;
use valerix_kit::problem::Problem;

use crate::config::PasswordArgs;

/// Hashes and compares; cheap to clone.
#[derive(Clone)]
pub struct Passwords {
    argon2: Argon2<'static>,
    turns: Arc<Semaphore>,
    wait: Duration,
    /// Compared with where there is no user, so that the answer takes as long as for one.
    nobody: Arc<str>,
}

/// A turn to hash or compare one password.
pub struct Turn {
    argon2: Argon2<'static>,
    nobody: Arc<str>,
    permit: OwnedSemaphorePermit,
}

impl Passwords {
    /// With the costs of `args`.
    ///
    /// # Errors
    /// When argon2 does not take these costs.
    pub fn new(args: &PasswordArgs) -> anyhow::Result<Self> {
        let costs = Params::new(args.argon2_memory_kib, args.argon2_passes, 1, None);
        let costs = costs.context("failed to read the costs of argon2")?;
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, costs);
        let nobody = hash(&argon2, "nobody has this password").context("failed to hash a password")?;
        Ok(Self {
            argon2,
            turns: Arc::new(Semaphore::new(usize::try_from(args.argon2_concurrency)?)),
            wait: args.argon2_wait,
            nobody: nobody.into(),
        })
    }

    /// A turn, waited for a while.
    ///
    /// # Errors
    /// 503 when all turns are taken for longer than that.
    pub async fn turn(&self) -> Result<Turn, Problem> {
        let turn = tokio::time::timeout(self.wait, Arc::clone(&self.turns).acquire_owned()).await;
        let Ok(Ok(permit)) = turn else {
            return Err(Problem::overloaded(
                "too many passwords are being checked at the moment",
            ));
        };
        Ok(Turn {
            argon2: self.argon2.clone(),
            nobody: Arc::clone(&self.nobody),
            permit,
        })
    }
}

impl Turn {
    /// The hash of `password`, with its costs and a salt of its own.
    ///
    /// # Errors
    /// 500 when it can not be made.
    pub async fn hash(self, password: Secret) -> Result<String, Problem> {
        self.work(move |argon2, _| hash(argon2, password.expose())).await
    }

    /// Whether `password` is the one of `hash`; without one it is not, and that takes as long.
    ///
    /// # Errors
    /// 500 when it can not be told.
    pub async fn compare(self, password: Secret, hash: Option<String>) -> Result<bool, Problem> {
        self.work(move |argon2, nobody| {
            let parsed = PasswordHash::new(hash.as_deref().unwrap_or(nobody))?;
            let same = argon2.verify_password(password.expose().as_bytes(), &parsed).is_ok();
            Ok(same && hash.is_some())
        })
        .await
    }

    /// Does `work` on a thread for such work. The turn lasts until it is done, even when its caller has gone.
    async fn work<T: Send + 'static>(
        self,
        work: impl FnOnce(&Argon2<'_>, &str) -> argon2::password_hash::Result<T> + Send + 'static,
    ) -> Result<T, Problem> {
        let done = tokio::task::spawn_blocking(move || {
            let done = work(&self.argon2, &self.nobody);
            drop(self.permit);
            done
        });
        match done.await {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(error)) => Err(Problem::internal(&error)),
            Err(error) => Err(Problem::internal(&error)),
        }
    }
}

fn hash(argon2: &Argon2<'_>, password: &str) -> argon2::password_hash::Result<String> {
    argon2
        .hash_password(password.as_bytes())
        .map(|hash: PasswordHash| hash.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passwords(wait: Duration) -> Passwords {
        Passwords::new(&PasswordArgs {
            argon2_memory_kib: 8,
            argon2_passes: 1,
            argon2_concurrency: 1,
            argon2_wait: wait,
        })
        .unwrap()
    }

    fn secret(text: &str) -> Secret {
        Secret::from(text.to_owned())
    }

    #[tokio::test]
    async fn a_password_is_known_by_its_hash_and_nobody_has_one() {
        let passwords = passwords(Duration::from_secs(10));
        let turn = async || passwords.turn().await.unwrap();
        let hash = turn().await.hash(secret("correct horse")).await.unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=8,t=1,p=1$"), "{hash}");
        assert_ne!(
            hash,
            turn().await.hash(secret("correct horse")).await.unwrap(),
            "each has a salt of its own"
        );
        assert!(
            turn()
                .await
                .compare(secret("correct horse"), Some(hash.clone()))
                .await
                .unwrap()
        );
        assert!(!turn().await.compare(secret("correct house"), Some(hash)).await.unwrap());
        assert!(
            !turn()
                .await
                .compare(secret("nobody has this password"), None)
                .await
                .unwrap()
        );
    }

    #[tokio::test]
    async fn who_would_wait_too_long_is_told_so() {
        let passwords = passwords(Duration::from_millis(1));
        let turn = passwords.turn().await.unwrap();
        let refused = passwords.turn().await.err().unwrap();
        assert_eq!((refused.status().as_u16(), refused.name()), (503, "overloaded"));
        drop(turn);
        assert!(passwords.turn().await.is_ok());
    }
}
