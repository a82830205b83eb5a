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
    /// Through `HAProxy` to the seller.
    Haproxy,
    /// A paid call through an x402 gateway of today: the official middleware for Express, its facilitator
    /// answering at once.
    #[value(name = "x402")]
    X402,
    /// A call without a payment, whose open quote is given again.
    Quote,
    /// A call with a well-formed key that nobody has.
    Refused,
    /// A delivered call again: the stored answer.
    Replay,
}

impl Subject {
    /// In the order in which a round measures them: those compared with each other are neighbours.
    pub(crate) const ALL: [Self; 9] = [
        Self::Pingora,
        Self::Beside,
        Self::Paid,
        Self::X402,
        Self::Nginx,
        Self::Haproxy,
        Self::Quote,
        Self::Refused,
        Self::Replay,
    ];

    /// In the table.
    pub(crate) const fn label(self) -> &'static str {
        match self {
            Self::Pingora => "bare pingora, pass-through",
            Self::Nginx => "nginx, pass-through",
            Self::Haproxy => "HAProxy, pass-through",
            Self::X402 => "paid call, x402 on Express",
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

    /// Whether a quick run leaves it out, because no mark of the quick run needs it.
    pub(crate) const fn is_for_the_full_run(self) -> bool {
        matches!(self, Self::X402 | Self::Haproxy)
    }

    /// The process whose CPU is counted.
    pub(crate) const fn proxy(self) -> Role {
        match self {
            Self::Pingora => Role::Pingora,
            Self::Nginx => Role::Nginx,
            Self::Haproxy => Role::Haproxy,
            Self::X402 => Role::X402,
            Self::Beside | Self::Paid | Self::Quote | Self::Refused | Self::Replay => Role::Gateway,
        }
    }
}
