//! What there is to buy: listings of one kind, and what a call of them answers.

use anyhow::{Context as _, Result};
use demo_agent::{Agent, DemoSeller, Listing, NewListing, PaidCall, Sandbox};
use serde_json::json;

use super::answers::{self, Template};
use super::{PRICE_MICROS, PRICE_USD};
use crate::request;

/// A kind of goods.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Goods {
    /// One listing, answers of the length that was asked for.
    Usual,
    /// A hundred listings, called in turns.
    Hundred,
    /// A seller that is spoken to over TLS.
    Tls,
    /// Answers of 64 KiB.
    Kib64,
    /// Answers of 1 MiB.
    Mib1,
}

impl Goods {
    /// How many listings there are of it.
    const fn listings(self) -> usize {
        match self {
            Self::Hundred => 100,
            Self::Usual | Self::Tls | Self::Kib64 | Self::Mib1 => 1,
        }
    }

    /// Filler in an answer, in bytes.
    const fn answer_bytes(self, usual: u32) -> u32 {
        const KIB: u32 = 1024;
        match self {
            Self::Usual | Self::Hundred | Self::Tls => usual,
            Self::Kib64 => 64 * KIB,
            Self::Mib1 => KIB * KIB,
        }
    }
}

/// Goods that were bought once, so that it is known what they answer.
#[derive(Debug)]
pub(super) struct Shelf {
    listings: Vec<Listing>,
    pub(super) answer_bytes: u32,
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
        let mut listings = Vec::new();
        for _ in 0..goods.listings() {
            let listing = owner
                .publish(&listing)
                .await
                .context("publishing a listing")?;
            seller
                .accept(&listing)
                .await
                .context("handing the secret to the seller")?;
            listings.push(listing);
        }
        let answer_bytes = goods.answer_bytes(usual_answer_bytes);
        let listing = listings.first().context("nothing to sell")?;
        let delivered = first_purchase(
            (buyer, sandbox),
            listing,
            request::body(serial, answer_bytes),
            serial,
        )
        .await
        .with_context(|| format!("{goods:?}"))?;
        Ok(Self {
            listings,
            answer_bytes,
            delivered,
        })
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
    body: bytes::Bytes,
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
