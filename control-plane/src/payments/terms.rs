//! What a quote is made of, or why there is none to be had.

use chrono::{DateTime, Utc};
use crochet_shared::internal::{QuoteIdentity, QuoteRefusal};
use crochet_shared::money::Micros;
use crochet_shared::route::Route;
use uuid::Uuid;

use super::relay::ProviderError;
use super::store::quote::{self as store, Sale};
use crate::app::App;
use crate::error::ApiError;
use crate::limits::Standing;

/// What a buyer with too many open quotes is told to wait, in seconds.
const RETRY_OPEN_QUOTES_SECONDS: u32 = 30;

/// The answer to a buyer who holds as many open quotes as she may.
pub(super) const TOO_MANY_OPEN: QuoteRefusal = QuoteRefusal::RateLimited {
    retry_after_seconds: RETRY_OPEN_QUOTES_SECONDS,
};

/// What a quote is made of, once nothing refuses it.
pub(super) struct Terms<'a> {
    pub(super) route: &'a Route,
    pub(super) seller: Uuid,
    pub(super) price: Micros,
    pub(super) wallet: String,
    pub(super) now: DateTime<Utc>,
    /// The buyer's, before this one.
    pub(super) open_quotes: i64,
}

/// The answer to a buyer who has asked for as many new quotes as she may.
pub(super) fn over_limit(standing: Standing) -> QuoteRefusal {
    QuoteRefusal::RateLimited {
        retry_after_seconds: u32::try_from(standing.reset_seconds).unwrap_or(u32::MAX),
    }
}

/// What the quote would be made of now, or why there is none to be had.
pub(super) async fn terms<'a>(
    app: &'a App,
    identity: &QuoteIdentity,
) -> Result<Result<Terms<'a>, QuoteRefusal>, ApiError> {
    let desk = &app.payments.quotes;
    let sale = store::sale(
        app.db.pool(),
        identity.buyer.0,
        identity.listing.0,
        identity.currency.family().as_str(),
        desk.open_max.into(),
    )
    .await?;
    let route = desk.routes.get(identity.currency);
    Ok(judge_sale(identity, sale, route, desk.open_max))
}

/// First match refuses, in the contract's order.
fn judge_sale<'a>(
    identity: &QuoteIdentity,
    sale: Sale,
    route: Option<&'a Route>,
    open_max: u32,
) -> Result<Terms<'a>, QuoteRefusal> {
    let (Some(seller), Some(price)) = (sale.seller_id, sale.price_micros) else {
        return Err(QuoteRefusal::ListingNotFound);
    };
    match sale.status.as_deref() {
        Some("active") => {}
        Some("suspended") => return Err(QuoteRefusal::ListingNotActive),
        _ => return Err(QuoteRefusal::ListingNotFound),
    }
    if sale.pricing_model.as_deref() != Some("per_call") {
        return Err(QuoteRefusal::ListingNotPerCall);
    }
    if seller == identity.buyer.0 {
        return Err(QuoteRefusal::OwnListing);
    }
    let route = route.ok_or(QuoteRefusal::CurrencyUnsupported)?;
    let wallet = sale
        .wallet
        .ok_or(QuoteRefusal::WalletRequired(identity.currency.family()))?;
    let price = Micros(price);
    route.admit(price).map_err(|_| QuoteRefusal::BelowMinimum)?;
    if sale.open_quotes >= i64::from(open_max) {
        return Err(TOO_MANY_OPEN);
    }
    Ok(Terms {
        route,
        seller,
        price,
        wallet,
        now: sale.now,
        open_quotes: sale.open_quotes,
    })
}

/// What the provider's no means to the buyer (relay.md).
pub(super) fn refusal(error: &ProviderError) -> QuoteRefusal {
    match error {
        ProviderError::Refused { code } => {
            tracing::warn!(code, "the provider refused a quote");
            match code.as_str() {
                "AMOUNT_TOO_LOW" => QuoteRefusal::BelowMinimum,
                "SANCTIONED_CURRENCY"
                | "SANCTIONED_WALLET_ADDRESS"
                | "FORBIDDEN"
                | "ROUTE_TEMPORARILY_RESTRICTED" => QuoteRefusal::RouteRestricted,
                _ => QuoteRefusal::ProviderUnavailable {
                    retry_after_seconds: RETRY_OPEN_QUOTES_SECONDS,
                },
            }
        }
        ProviderError::Unavailable {
            retry_after_seconds,
            why,
        } => {
            tracing::warn!(why, "no quote from the provider");
            QuoteRefusal::ProviderUnavailable {
                retry_after_seconds: *retry_after_seconds,
            }
        }
    }
}
