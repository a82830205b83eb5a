//! The secrets of one stack: random, made once, kept in its folder so that a restart can read what it sealed.

use std::path::Path;

use anyhow::{Context as _, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use demo_agent::{Wallet, random_bytes, random_hex};
use serde::{Deserialize, Serialize};

use crate::files;

/// Length of every key, in bytes.
const KEY_BYTES: usize = 32;

/// What the services of one stack share and nobody else knows.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Secrets {
    /// Bearer secret of the internal API.
    pub(crate) internal: String,
    /// `id:base64`, seals what is secret in Postgres.
    pub(crate) master_key: String,
    /// `id:base64`, seals what goes to Redis.
    pub(crate) cache_key: String,
    /// What the control plane shows the payment provider.
    pub(crate) relay_api_key: String,
    /// Where deposits settle: an address whose key was thrown away.
    pub(crate) settlement_address: String,
}

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Secrets")
            .field("settlement_address", &self.settlement_address)
            .finish_non_exhaustive()
    }
}

impl Secrets {
    /// The secrets kept in `directory`, made when there are none.
    pub(crate) fn open(directory: &Path) -> Result<Self> {
        let path = directory.join("secrets.json");
        if let Some(text) = files::read_if_there(&path)? {
            return serde_json::from_str(&text)
                .with_context(|| format!("reading {}", path.display()));
        }
        let fresh = Self {
            internal: random_hex::<KEY_BYTES>()?,
            master_key: format!("dev1:{}", STANDARD.encode(random_bytes::<KEY_BYTES>()?)),
            cache_key: format!("dev1:{}", STANDARD.encode(random_bytes::<KEY_BYTES>()?)),
            relay_api_key: random_hex::<KEY_BYTES>()?,
            settlement_address: Wallet::evm()?.address().to_owned(),
        };
        files::write_whole(&path, serde_json::to_string_pretty(&fresh)?.as_bytes())?;
        Ok(fresh)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn secrets_survive_a_restart_and_are_their_owners_alone() {
        let directory =
            std::env::temp_dir().join(format!("crochet-dev-secrets-{}", std::process::id()));
        files::make_directory(&directory).unwrap();
        let first = Secrets::open(&directory).unwrap();
        let second = Secrets::open(&directory).unwrap();
        assert_eq!(first.master_key, second.master_key);
        assert_eq!(
            std::fs::metadata(directory.join("secrets.json"))
                .unwrap()
                .permissions()
                .mode()
                & 0o777,
            0o600
        );
        assert!(first.internal.len() >= 32);
        assert!(!format!("{first:?}").contains(&first.internal));
        files::remove(&directory).unwrap();
        assert_ne!(first.internal, random_hex::<KEY_BYTES>().unwrap());
    }
}
