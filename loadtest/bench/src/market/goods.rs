//! What there is to buy: listings of one kind, and what a call of them answers.

use std::time::Instant;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use demo_agent::{Agent, DemoSeller, Listing, NewListing, PaidCall, Sandbox};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use serde_json::json;

use super::answers::{self, Template};
use super::{PRICE_MICROS, PRICE_USD};
use crate::request;

/// Listings published at once.
const PUBLISHED_AT_ONCE: usize = 16;
/// What a slow seller takes to answer, in milliseconds.
const SLOW_MS: u32 = 100;

/// A kind of goods.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Goods {
    /// One listing, answers of the length that was asked for.
    Usual,
    /// A hundred listings, called in turns.
    Hundred,
    /// Ten thousand listings, called in turns.
    TenThousand,
    /// A seller that is spoken to over TLS.
    Tls,
    /// A seller that takes [`SLOW_MS`].
    Slow,
    /// Answers of 64 KiB.
    Kib64,
    /// Answers of 1 MiB.
    Mib1,
}

impl Goods {
    /// How many listings there are of it.
    pub(crate) const fn listings(self) -> usize {
        match self {
            Self::Hundred => 100,
            Self::TenThousand => 10_000,
            Self::Usual | Self::Tls | Self::Slow | Self::Kib64 | Self::Mib1 => 1,
        }
    }

    /// The body of a call, and so the answer it asks for.
    fn body(self, serial: u64, usual_answer_bytes: u32) -> Bytes {
        const KIB: u32 = 1024;
        match self {
            Self::Usual | Self::Hundred | Self::TenThousand | Self::Tls => {
                request::body(serial, usual_answer_bytes)
            }
            Self::Slow => request::slow_body(serial, usual_answer_bytes, SLOW_MS),
            Self::Kib64 => request::body(serial, 64 * KIB),
            Self::Mib1 => request::body(serial, KIB * KIB),
        }
    }
}

/// Goods that were bought once, so that it is known what they answer.
#[derive(Debug)]
pub(super) struct Shelf {
    goods: Goods,
    listings: Vec<Listing>,
    usual_answer_bytes: u32,
    /// What a delivered call answers.
    pub(super) delivered: Template,
}

impl Shelf {
    /// Publishes listings that are answered at `endpoint_url`, and buys one call as any client would.
    pub(super) async fn stock(
        goods: Goods,
        usual_answer_bytes: u32,
        (owner, seller, endpoint_url): (&Agent, &DemoSeller, &str),
        (buyer, sandbox): (&Agent, &Sandbox),
        serial: u64,
    ) -> Result<Self> {
        // More than there are connections: what is measured is a call, not a queue in front of a seller.
        let listing = NewListing::per_call("Bench", PRICE_USD, endpoint_url)
            .with(json!({ "endpoint": { "max_concurrency": 1000 } }));
        let publish = |_| async {
            let listing = owner
                .publish(&listing)
                .await
                .context("publishing a listing")?;
            seller
                .accept(&listing)
                .await
                .context("handing the secret to the seller")?;
            anyhow::Ok(listing)
        };
        let begun = Instant::now();
        let listings: Vec<Listing> = stream::iter(0..goods.listings())
            .map(publish)
            .buffered(PUBLISHED_AT_ONCE)
            .try_collect()
            .await?;
        if listings.len() > 1 {
            let seconds = begun.elapsed().as_secs_f64();
            eprintln!("{} listings in {seconds:.1} s", listings.len());
        }
        let listing = listings.first().context("nothing to sell")?;
        let body = goods.body(serial, usual_answer_bytes);
        let delivered = first_purchase((buyer, sandbox), listing, body, serial)
            .await
            .with_context(|| format!("{goods:?}"))?;
        Ok(Self {
            goods,
            listings,
            usual_answer_bytes,
            delivered,
        })
    }

    /// The body of the call of this serial.
    pub(super) fn body(&self, serial: u64) -> Bytes {
        self.goods.body(serial, self.usual_answer_bytes)
    }

    /// The id of the listing that the call of this serial goes to.
    pub(super) fn listing(&self, serial: u64) -> &str {
        let count = u64::try_from(self.listings.len()).unwrap_or(u64::MAX);
        let turn = usize::try_from(serial % count.max(1)).unwrap_or_default();
        self.listings.get(turn).map_or("", |listing| &listing.id)
    }
}

/// Buys one call as any client would, looks at its answer field by field, and makes it the pattern of all others.
async fn first_purchase(
    (buyer, sandbox): (&Agent, &Sandbox),
    listing: &Listing,
    body: Bytes,
    serial: u64,
) -> Result<Template> {
    let bought = buyer
        .buy(&PaidCall::with_bytes(&listing.id, body), sandbox)
        .await
        .context("buying the first call")?;
    let serial = request::serial_text(serial);
    answers::check_delivered(
        &bought.answer,
        &bought.quote.request_id,
        &serial,
        PRICE_MICROS,
    )?;
    Template::new(&bought.answer.body, &bought.quote.request_id, &serial)
}
