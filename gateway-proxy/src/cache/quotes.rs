//! Open quotes: the same 402 again without asking anyone.
//!
//! Believed only while changes are heard of (a deposit ends a quote's being open), at most 60 s, and
//! only by the rule of [`Quote::is_reusable`] at the route's price.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use crochet_shared::id::RequestId;
use crochet_shared::internal::{Quote, REUSE_MS_MAX};
use crochet_shared::money::Micros;
use quick_cache::sync::Cache;

use super::Changes;

const QUOTES_MAX: usize = 20_000;

/// A quote and the body of the 402 that gives it again.
#[derive(Debug)]
pub struct OpenQuote {
    /// Its own facts, without the requirements, which the body holds.
    pub quote: Quote,
    /// The whole body, `reused: true`.
    pub body: Bytes,
}

impl OpenQuote {
    /// The purchase it stands for.
    pub const fn request_id(&self) -> RequestId {
        self.quote.request_id
    }
}

#[derive(Clone, Debug)]
struct Known {
    open: Arc<OpenQuote>,
    at: Instant,
    epoch: u64,
}

/// The quotes this process has given lately, by the digest of their identity.
#[derive(Debug)]
pub struct Quotes {
    known: Cache<[u8; 32], Known>,
    changes: Changes<[u8; 32]>,
    /// Purchases this process has itself seen paid, under way or closed. The news also comes as a
    /// change, a moment later; without this a buyer who calls again in that moment would be given
    /// the 402 of a quote that is no longer open, and might pay it twice.
    ended: Cache<RequestId, ()>,
}

impl Default for Quotes {
    fn default() -> Self {
        Self {
            known: Cache::new(QUOTES_MAX),
            changes: Changes::new(),
            ended: Cache::new(QUOTES_MAX),
        }
    }
}

/// What a quote must still be to be given again.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// The route's price now.
    pub price: Micros,
    /// Whether the caller sent an idempotency key.
    pub with_key: bool,
    /// Unix milliseconds.
    pub now_ms: i64,
    /// A monotonic clock.
    pub now: Instant,
    /// The epoch of changes.
    pub epoch: u64,
}

impl Quotes {
    /// The open quote of an identity, if it may be given again.
    pub fn get(&self, identity: &[u8; 32], wanted: Wanted) -> Option<Arc<OpenQuote>> {
        let known = self.known.get(identity)?;
        let age_max = u128::try_from(REUSE_MS_MAX).unwrap_or(0);
        let young = wanted.now.duration_since(known.at).as_millis() < age_max;
        let quote = &known.open.quote;
        let good = known.epoch == wanted.epoch
            && young
            && quote.is_reusable(wanted.price, wanted.with_key, wanted.now_ms)
            && !self.has_ended(quote.request_id);
        good.then_some(known.open)
    }

    /// Whether anything is known of an identity, believable or not.
    pub fn knows(&self, identity: &[u8; 32]) -> bool {
        self.known.peek(identity).is_some()
    }

    /// A claim told that this purchase is no longer an open quote.
    pub fn end(&self, request_id: RequestId) {
        self.ended.insert(request_id, ());
    }

    /// Whether this process knows better than a record in a cache that says it is open.
    pub fn has_ended(&self, request_id: RequestId) -> bool {
        self.ended.get(&request_id).is_some()
    }

    /// Keeps a quote that was learned of at `since`, unless it changed meanwhile.
    pub fn keep(&self, identity: [u8; 32], open: Arc<OpenQuote>, since: Instant, epoch: u64) {
        if !self.changes.since(&identity, since) {
            let known = Known {
                open,
                at: since,
                epoch,
            };
            self.known.insert(identity, known);
        }
    }

    /// Whether it changed so lately that Redis may not know.
    pub fn changed(&self, identity: &[u8; 32], since: Instant) -> bool {
        self.changes.since(identity, since)
    }

    /// A change was told.
    pub fn forget(&self, identity: [u8; 32], now: Instant) {
        self.changes.note(identity, now);
        self.known.remove(&identity);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crochet_shared::route::OriginCurrency;
    use std::time::Duration;

    fn open(made_at_ms: i64) -> Arc<OpenQuote> {
        Arc::new(OpenQuote {
            quote: Quote {
                relay_request_id: "0x1".into(),
                request_id: RequestId::new(crochet_shared::clock::now()),
                price: Micros(5),
                currency: OriginCurrency::Sol,
                requirements: String::new(),
                made_at_ms,
                expires_at_ms: made_at_ms + 900_000,
            },
            body: Bytes::new(),
        })
    }

    #[test]
    fn a_quote_is_given_again_only_open_young_at_its_price_and_while_changes_are_heard() {
        let (quotes, id, now) = (Quotes::default(), [1; 32], Instant::now());
        let wanted = Wanted {
            price: Micros(5),
            with_key: false,
            now_ms: 1_000,
            now,
            epoch: 1,
        };
        quotes.keep(id, open(1_000), now, 1);
        assert!(quotes.get(&id, wanted).is_some());
        for other in [
            Wanted {
                price: Micros(6),
                ..wanted
            },
            Wanted {
                now_ms: 61_001,
                ..wanted
            },
            Wanted { epoch: 2, ..wanted },
            Wanted {
                now: now + Duration::from_mins(1),
                ..wanted
            },
            Wanted {
                with_key: true,
                now_ms: 601_001,
                ..wanted
            },
        ] {
            assert!(quotes.get(&id, other).is_none(), "{other:?}");
        }
        quotes.forget(id, now);
        assert!(quotes.get(&id, wanted).is_none());
        quotes.keep(id, open(1_000), now, 1);
        assert!(
            quotes.get(&id, wanted).is_none(),
            "it raced with the change"
        );
        quotes.keep(id, open(1_000), now + Duration::from_millis(1), 1);
        let kept = quotes.get(&id, wanted).unwrap();
        quotes.end(kept.request_id());
        assert!(quotes.get(&id, wanted).is_none(), "it was seen paid");
    }
}
