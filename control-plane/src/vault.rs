//! Secrets at rest: sealed under the master keys, each bound to its table, row and column.

use crochet_shared::seal::{Keyring, Unsealable};
use secrecy::{ExposeSecret as _, SecretString};
use uuid::Uuid;

/// Where a secret stands. A ciphertext moved to another place does not open.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// The table's name.
    pub table: &'static str,
    /// The row's id.
    pub row: Uuid,
    /// The column's name.
    pub column: &'static str,
}

impl Place {
    /// What the seal is bound to.
    pub fn aad(&self) -> Vec<u8> {
        format!("{}\n{}\n{}", self.table, self.row, self.column).into_bytes()
    }
}

/// Seals text for its place.
pub fn seal(keys: &Keyring, place: Place, secret: &SecretString) -> Result<Vec<u8>, Unsealable> {
    keys.seal_row(&place.aad(), secret.expose_secret().as_bytes())
}

/// Opens what [`seal`] made for the same place.
pub fn open(keys: &Keyring, place: Place, sealed: &[u8]) -> Result<SecretString, Unsealable> {
    let plain = keys.open_row(&place.aad(), sealed)?;
    String::from_utf8(plain)
        .map(SecretString::from)
        .map_err(|_| Unsealable)
}
