//! What is measured.

use serde::Serialize;

use crate::market::Goods;
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
    /// A call without a payment that nobody has made before: the provider is asked for a quote.
    Fresh,
    /// A call whose open quote is given again, each on a connection of its own.
    Connect,
    /// Paid calls of a hundred listings in turns.
    Hundred,
    /// Paid calls of ten thousand listings in turns.
    TenThousand,
    /// A paid call whose seller is spoken to over TLS.
    Tls,
    /// A paid call whose seller takes her time.
    Slow,
    /// Straight to the seller, at the same rate as the next.
    Direct,
    /// Paid calls at half of the rate that saturates the machine, each sent when it is due.
    Half,
    /// One row committed after the other by a lone client of Postgres.
    Commit,
    /// A paid call with an answer of 64 KiB.
    Kib64,
    /// A paid call with an answer of 1 MiB.
    Mib1,
    /// Paid calls of listings that a gateway just started has never heard of, with a Redis just as new: after the
    /// rounds.
    Cold,
    /// Paid calls while there is no Redis: after the rounds.
    WithoutRedis,
    /// Connections that are kept open and have nothing to do: once, after all rounds.
    Idle,
    /// Paid calls among a thousand ledger rows, listings and keys and among millions: by itself.
    Flat,
    /// Memory over minutes of steady work: by itself.
    Soak,
}

impl Subject {
    /// In the order in which a round measures them: those compared with each other are neighbours, and what leaves much for
    /// Postgres to write out comes last.
    pub(crate) const ALL: [Self; 22] = [
        Self::Pingora,
        Self::Beside,
        Self::Paid,
        Self::X402,
        Self::Nginx,
        Self::Haproxy,
        Self::Quote,
        Self::Connect,
        Self::Fresh,
        Self::Refused,
        Self::Replay,
        Self::Hundred,
        Self::TenThousand,
        Self::Tls,
        Self::Slow,
        Self::Direct,
        Self::Half,
        Self::Commit,
        Self::Kib64,
        Self::Mib1,
        Self::Cold,
        Self::WithoutRedis,
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
            Self::Fresh => "402, fresh quote",
            Self::Connect => "402 reused, new connections",
            Self::Hundred => "paid call, of 100 listings",
            Self::TenThousand => "paid call, of 10,000 listings",
            Self::Tls => "paid call, seller behind TLS",
            Self::Slow => "paid call, seller takes 100 ms",
            Self::Kib64 => "paid call, answer of 64 KiB",
            Self::Mib1 => "paid call, answer of 1 MiB",
            Self::Cold => "paid call, nothing cached",
            Self::WithoutRedis => "paid call, no Redis",
            Self::Direct => "straight to the seller, same rate",
            Self::Half => "paid call, half of saturation",
            Self::Commit => "a durable commit of one row",
            Self::Idle => "idle connections",
            Self::Flat => "paid call among little and much",
            Self::Soak => "memory under steady work",
        }
    }

    /// Whether it is a path of Crochet's and not of a baseline.
    pub(crate) fn is_crochets(self) -> bool {
        self.proxy() == Role::Gateway
    }

    /// Whether a proxy is in it whose CPU can be set beside that of others.
    pub(crate) const fn has_a_proxy(self) -> bool {
        !matches!(self, Self::Direct | Self::Commit)
    }

    /// Whether the chart shows it: what is measured as fast as it goes, alone.
    pub(crate) const fn is_charted(self) -> bool {
        self.has_a_proxy()
            && !matches!(
                self,
                Self::Beside | Self::Half | Self::Idle | Self::Flat | Self::Soak
            )
    }

    /// Whether it is sent at a fixed rate, half of what saturates the machine.
    pub(crate) const fn is_paced(self) -> bool {
        matches!(self, Self::Direct | Self::Half)
    }

    /// What its payments are for, where it redeems any.
    pub(crate) const fn goods(self) -> Option<Goods> {
        match self {
            Self::Beside | Self::Paid | Self::Half => Some(Goods::Usual),
            Self::Hundred => Some(Goods::Hundred),
            Self::TenThousand => Some(Goods::TenThousand),
            Self::Tls => Some(Goods::Tls),
            Self::Slow => Some(Goods::Slow),
            Self::Kib64 => Some(Goods::Kib64),
            Self::Mib1 => Some(Goods::Mib1),
            Self::Pingora
            | Self::Nginx
            | Self::Haproxy
            | Self::X402
            | Self::Quote
            | Self::Refused
            | Self::Replay
            | Self::Fresh
            | Self::Connect
            | Self::Direct
            | Self::Commit
            | Self::Cold
            | Self::WithoutRedis
            | Self::Idle
            | Self::Flat
            | Self::Soak => None,
        }
    }

    /// What it cannot be measured, or understood, without.
    pub(crate) const fn brings(self) -> &'static [Self] {
        match self {
            Self::Replay | Self::Direct => &[Self::Paid],
            Self::Half => &[Self::Paid, Self::Direct, Self::Commit],
            Self::Pingora
            | Self::Beside
            | Self::Paid
            | Self::Nginx
            | Self::Haproxy
            | Self::X402
            | Self::Quote
            | Self::Refused
            | Self::Fresh
            | Self::Connect
            | Self::Hundred
            | Self::TenThousand
            | Self::Tls
            | Self::Slow
            | Self::Kib64
            | Self::Mib1
            | Self::Commit
            | Self::Cold
            | Self::WithoutRedis
            | Self::Idle
            | Self::Flat
            | Self::Soak => &[],
        }
    }

    /// Whether it runs by itself, when it is named: it has stacks of its own and takes long.
    pub(crate) const fn is_by_itself(self) -> bool {
        matches!(self, Self::Flat | Self::Soak)
    }

    /// Whether it takes something away that the rounds need, and so comes after them.
    pub(crate) const fn is_after_the_rounds(self) -> bool {
        matches!(self, Self::Cold | Self::WithoutRedis)
    }

    /// Whether a quick run leaves it out, because no mark of the quick run needs it.
    pub(crate) const fn is_for_the_full_run(self) -> bool {
        matches!(
            self,
            Self::X402
                | Self::Haproxy
                | Self::Fresh
                | Self::Connect
                | Self::Hundred
                | Self::TenThousand
                | Self::Tls
                | Self::Slow
                | Self::Cold
                | Self::WithoutRedis
                | Self::Kib64
                | Self::Mib1
                | Self::Direct
                | Self::Half
                | Self::Commit
                | Self::Idle
        )
    }

    /// The process whose CPU is counted.
    pub(crate) const fn proxy(self) -> Role {
        match self {
            Self::Pingora => Role::Pingora,
            Self::Nginx => Role::Nginx,
            Self::Haproxy => Role::Haproxy,
            Self::X402 => Role::X402,
            Self::Direct => Role::UnsignedSeller,
            Self::Commit => Role::Postgres,
            Self::Beside
            | Self::Paid
            | Self::Quote
            | Self::Refused
            | Self::Replay
            | Self::Fresh
            | Self::Connect
            | Self::Hundred
            | Self::TenThousand
            | Self::Tls
            | Self::Slow
            | Self::Cold
            | Self::WithoutRedis
            | Self::Kib64
            | Self::Mib1
            | Self::Half
            | Self::Idle
            | Self::Flat
            | Self::Soak => Role::Gateway,
        }
    }
}
