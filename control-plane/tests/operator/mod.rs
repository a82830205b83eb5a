//! The operator's tool, verb by verb, over the rooms it acts through.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that meets what it does not expect is to fail, there and then"
)]

mod command_line;
mod keys;
mod looking;
mod payouts;
mod reconcile;
mod refunds;
mod replay;
mod request;
mod rewrap;
mod suspension;

use control_plane::operator::Change;
use control_plane::operator::transaction::TxHash;

/// A transaction's hash, another for each number.
pub(crate) fn hash(number: u8) -> TxHash {
    format!("0x{}", format!("{number:02x}").repeat(32))
        .parse()
        .unwrap()
}

/// How an act is done that is kept.
pub(crate) fn kept() -> Change {
    Change::default()
}

/// How an act is done that is taken back.
pub(crate) fn rehearsed() -> Change {
    Change {
        dry_run: true,
        ..Change::default()
    }
}
