//! Whether there is room on the disk for what is to be made.

use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use nix::sys::statvfs::statvfs;
use sqlx::PgPool;

use super::size::Size;

/// With their indexes, as measured after filling.
const BYTES_A_LISTING: u64 = 2_500;
const BYTES_A_KEY: u64 = 500;
/// A request, its evidence and its three transfers.
const BYTES_A_CALL: u64 = 2_400;
/// Postgres's log, which is kept up to two gigabytes from checkpoint to checkpoint and a little beyond.
const LOG_BYTES: u64 = 2_500_000_000;

/// What a database of this size takes while it is made.
pub(super) const fn bytes(size: Size) -> u64 {
    size.listings as u64 * BYTES_A_LISTING
        + size.keys as u64 * BYTES_A_KEY
        + size.calls() as u64 * BYTES_A_CALL
        + LOG_BYTES
}

/// Refuses to begin what the disk has no room for.
pub(super) async fn check(pool: &PgPool, size: Size) -> Result<()> {
    let place: String = sqlx::query_scalar("show data_directory")
        .fetch_one(pool)
        .await?;
    let place = PathBuf::from(place);
    let disk = statvfs(&place).with_context(|| format!("looking at {}", place.display()))?;
    let free = disk.blocks_available() * disk.fragment_size();
    let wanted = bytes(size);
    ensure!(
        free >= wanted,
        "{} ledger rows take about {:.1} GB while they are made, and {} has {:.1} GB free: --ledger-rows makes it less",
        size.ledger_rows,
        gigabytes(wanted),
        place.display(),
        gigabytes(free)
    );
    Ok(())
}

#[expect(
    clippy::cast_precision_loss,
    reason = "bytes of a disk are far below 2^52"
)]
pub(super) fn gigabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e9
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_million_rows_take_some_thirteen_gigabytes_and_less_take_less() {
        let large = gigabytes(bytes(Size::of_rows(10_000_000)));
        assert!((12.0..14.0).contains(&large), "{large}");
        assert!(bytes(Size::SMALL) < 4_000_000_000);
    }
}
