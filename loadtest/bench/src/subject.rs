//! What is measured.

use serde::Serialize;

use crate::measure::Role;

/// A path a request can take, on the gateway or on a baseline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Subject {
    /// Through a bare pingora to the seller: what the marks are measured against.
    Pingora,
    /// Paid calls, each with one request through the bare pingora beside it: both proxies at the same
    /// rate, on the same machine, in the same second.
    Beside,
    /// The retry of a paid call: claimed, forwarded, settled, answered.
    Paid,
    /// Through nginx to the seller.
    Nginx,
    /// A call without a payment, whose open quote is given again.
    Quote,
    /// A call with a well-formed key that nobody has.
    Refused,
    /// A delivered call again: the stored answer.
    Replay,
}

impl Subject {
    /// In the order in which a round measures them: those compared with each other are neighbours.
    pub(crate) const ALL: [Self; 7] = [
        Self::Pingora,
        Self::Beside,
        Self::Paid,
        Self::Nginx,
        Self::Quote,
        Self::Refused,
        Self::Replay,
    ];

    /// In the table.
    pub(crate) const fn label(self) -> &'static str {
        match self {
            Self::Pingora => "bare pingora, pass-through",
            Self::Nginx => "nginx, pass-through",
            Self::Beside => "paid call, pingora beside it",
            Self::Paid => "paid call (retry -> 200)",
            Self::Quote => "402, quote reused",
            Self::Refused => "401, refused key",
            Self::Replay => "replay of a delivered call",
        }
    }

    /// Whether it is a path of Crochet's and not of a baseline.
    pub(crate) fn is_crochets(self) -> bool {
        self.proxy() == Role::Gateway
    }

    /// The process whose CPU is counted.
    pub(crate) const fn proxy(self) -> Role {
        match self {
            Self::Pingora => Role::Pingora,
            Self::Nginx => Role::Nginx,
            Self::Beside | Self::Paid | Self::Quote | Self::Refused | Self::Replay => Role::Gateway,
        }
    }
}
