//! Passwords: Argon2id, away from the threads that answer, and never more than a few at once.

use std::sync::Arc;
use std::time::Duration;

use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{Error, PasswordHasher as _, PasswordVerifier as _};
use crochet_shared::code::Code;
use crochet_shared::id;
use secrecy::{ExposeSecret as _, SecretString};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::ApiError;
use crate::fields::{self, Problem};

/// Hashes at once (contract §3). Each takes 19 MiB and some tens of milliseconds of one core.
const AT_ONCE: usize = 4;
/// Longest wait for a turn; then the caller is refused rather than kept.
const WAIT: Duration = Duration::from_secs(5);
/// Random bytes of a salt.
const SALT_BYTES: usize = 16;
/// Bounds of a password, in characters (contract, head).
pub(super) const CHARS: (usize, usize) = (10, 128);
/// What the password of an unknown address is compared with, so that it takes as long as a known
/// one's. No password has this hash.
const NOBODYS: &str = "$argon2id$v=19$m=19456,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// Hashes passwords and compares them, a few at once.
#[derive(Debug)]
pub struct Passwords {
    turns: Arc<Semaphore>,
}

impl Default for Passwords {
    fn default() -> Self {
        Self {
            turns: Arc::new(Semaphore::new(AT_ONCE)),
        }
    }
}

/// Reads a password.
pub(super) fn from_field(raw: &serde_json::value::RawValue) -> Result<SecretString, Problem> {
    fields::text(CHARS.0, CHARS.1)(raw).map(SecretString::from)
}

impl Passwords {
    /// The PHC string of a new password.
    pub(super) async fn hash(&self, password: SecretString) -> Result<String, ApiError> {
        self.in_turn(move || {
            let salt = id::random::<SALT_BYTES>();
            let hash = Argon2::default()
                .hash_password_with_salt(password.expose_secret().as_bytes(), &salt)?;
            Ok(hash.to_string())
        })
        .await
    }

    /// Whether a password is the one of `hash`; that of nobody takes as long and is never right.
    pub(super) async fn matches(
        &self,
        password: SecretString,
        hash: Option<String>,
    ) -> Result<bool, ApiError> {
        self.in_turn(move || {
            let hash = PasswordHash::new(hash.as_deref().unwrap_or(NOBODYS))?;
            let verdict =
                Argon2::default().verify_password(password.expose_secret().as_bytes(), &hash);
            match verdict {
                Ok(()) => Ok(true),
                Err(Error::PasswordInvalid) => Ok(false),
                Err(error) => Err(error),
            }
        })
        .await
    }

    /// Does the work on a thread for such. The turn goes with it: a caller that leaves frees none
    /// before the work is done.
    async fn in_turn<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, Error> + Send + 'static,
    ) -> Result<T, ApiError> {
        let turn = self.turn().await?;
        tokio::task::spawn_blocking(move || {
            let outcome = work();
            drop(turn);
            outcome
        })
        .await
        .map_err(ApiError::internal)?
        .map_err(|error| ApiError::internal(anyhow::anyhow!("a password hash: {error}")))
    }

    async fn turn(&self) -> Result<OwnedSemaphorePermit, ApiError> {
        let turn = Arc::clone(&self.turns).acquire_owned();
        match tokio::time::timeout(WAIT, turn).await {
            Ok(Ok(turn)) => Ok(turn),
            Ok(Err(_)) | Err(_) => Err(Code::ServiceUnavailable.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use argon2::Params;

    #[tokio::test]
    async fn a_password_matches_its_own_hash_and_nothing_matches_nobodys() {
        let passwords = Passwords::default();
        let secret = || SecretString::from("correct horse battery");
        let hash = passwords.hash(secret()).await.unwrap();
        assert!(hash.starts_with("$argon2id$v=19$"));
        assert_ne!(hash, passwords.hash(secret()).await.unwrap(), "salted");
        assert!(
            passwords
                .matches(secret(), Some(hash.clone()))
                .await
                .unwrap()
        );
        let other = SecretString::from("correct horse batterY");
        assert!(!passwords.matches(other, Some(hash.clone())).await.unwrap());
        assert!(!passwords.matches(secret(), None).await.unwrap());
        assert!(
            passwords
                .matches(secret(), Some("no hash".to_owned()))
                .await
                .is_err()
        );
        // Nobody's costs what anybody's does.
        let cost = |text: &str| Params::try_from(&PasswordHash::new(text).unwrap()).unwrap();
        assert_eq!(cost(NOBODYS), cost(&hash));
    }

    #[tokio::test]
    async fn no_more_than_four_are_hashed_at_once() {
        let passwords = Passwords::default();
        let turns = futures_util::future::join_all((0..AT_ONCE).map(|_| passwords.turn())).await;
        assert!(turns.iter().all(Result::is_ok));
        assert_eq!(passwords.turns.available_permits(), 0);
        drop(turns);
        assert_eq!(passwords.turns.available_permits(), AT_ONCE);
    }
}
