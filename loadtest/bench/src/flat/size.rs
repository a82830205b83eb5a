//! How much there is.

use serde::Serialize;

/// How much a database holds before anything is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Size {
    pub(super) listings: u32,
    pub(super) keys: u32,
    pub(super) ledger_rows: u32,
}

impl Size {
    /// What the other is compared with.
    pub(super) const SMALL: Self = Self {
        listings: 1_000,
        keys: 1_000,
        ledger_rows: 1_000,
    };
    /// A payment, a credit and a fee.
    pub(super) const TRANSFERS_A_CALL: u32 = 3;
    /// Rows of the ledger for each listing, and for each key, of the large one.
    const ROWS_A_LISTING: u32 = 10;

    /// The large one, by how many rows its ledger has.
    pub(super) fn of_rows(ledger_rows: u32) -> Self {
        let others = (ledger_rows / Self::ROWS_A_LISTING).max(Self::SMALL.listings);
        Self {
            listings: others,
            keys: others,
            ledger_rows,
        }
    }

    /// Delivered calls that make that ledger.
    pub(super) const fn calls(self) -> u32 {
        self.ledger_rows.div_ceil(Self::TRANSFERS_A_CALL)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_million_rows_come_with_a_million_listings_and_keys() {
        let large = Size::of_rows(10_000_000);
        assert_eq!((large.listings, large.keys), (1_000_000, 1_000_000));
        assert_eq!(large.calls(), 3_333_334);
        assert_eq!(Size::of_rows(1_000), Size::SMALL);
    }
}
