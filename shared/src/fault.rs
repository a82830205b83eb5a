//! Points at which a test ends the process, as a power cut would: before and after each of the four
//! moments at which something becomes durable (architecture, D0–D3), in either service.
//!
//! A process is told by `FAILPOINTS`, in the words of the `fail` crate: `before_claim=return` ends it at
//! the first claim, `after_settlement=20*off->return` at the twenty-first settlement. In a build without
//! debug assertions, as every release build is, [`pass`] is empty and nothing reads that variable.

/// Where a process may end.
///
/// In the control plane a moment is the statement that makes it durable; in the gateway it is the
/// question to the control plane, so that *after* stands before whatever that moment allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Point {
    /// D0: the quote is not durable yet.
    BeforeQuote,
    /// D0: the quote is durable, and no 402 has left.
    AfterQuote,
    /// D1: evidence of payment is not durable yet.
    BeforeEvidence,
    /// D1: evidence is durable, and nothing is claimed.
    AfterEvidence,
    /// D2: the claim is not durable yet.
    BeforeClaim,
    /// D2: the claim is durable, and no byte has gone to the seller.
    AfterClaim,
    /// D3: the seller has answered, and nothing of it is durable yet.
    BeforeSettlement,
    /// D3: the settlement is durable, and no byte has gone to the buyer.
    AfterSettlement,
}

impl Point {
    /// All of them, in the order of a call.
    pub const ALL: [Self; 8] = [
        Self::BeforeQuote,
        Self::AfterQuote,
        Self::BeforeEvidence,
        Self::AfterEvidence,
        Self::BeforeClaim,
        Self::AfterClaim,
        Self::BeforeSettlement,
        Self::AfterSettlement,
    ];

    /// Its name in `FAILPOINTS`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::BeforeQuote => "before_quote",
            Self::AfterQuote => "after_quote",
            Self::BeforeEvidence => "before_evidence",
            Self::AfterEvidence => "after_evidence",
            Self::BeforeClaim => "before_claim",
            Self::AfterClaim => "after_claim",
            Self::BeforeSettlement => "before_settlement",
            Self::AfterSettlement => "after_settlement",
        }
    }
}

/// Goes past a point, or ends the process there when it was told to.
#[inline]
#[cfg_attr(
    not(all(feature = "failpoints", debug_assertions)),
    expect(
        unused_variables,
        reason = "a build without points goes past all of them"
    )
)]
pub fn pass(point: Point) {
    // A process that is killed runs no destructor and says nothing, and neither does this one.
    #[cfg(all(feature = "failpoints", debug_assertions))]
    fail::fail_point!(point.name(), |_| std::process::abort());
}

/// Reads from `FAILPOINTS` at which points this process ends; holds for as long as the result is kept.
#[cfg(all(feature = "failpoints", debug_assertions))]
#[must_use = "dropped, the points are forgotten"]
pub fn told() -> impl Sized {
    fail::FailScenario::setup()
}

/// Reads nothing: this build has no points.
#[cfg(not(all(feature = "failpoints", debug_assertions)))]
pub fn told() -> impl Sized {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_ends_where_nobody_asked() {
        for point in Point::ALL {
            pass(point);
        }
    }
}
