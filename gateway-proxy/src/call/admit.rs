//! What may go on: the listing, the body, the seller; and the two orders of refusal (contract §5).
//!
//! [`for_quote`] refuses in the contract's order before anyone is asked to pay. [`for_claim`]
//! refuses nothing that the claim's answer would override: it only finds out whether the call could
//! be served now.

use std::sync::Arc;
use std::time::Instant;

use crochet_shared::code::{Code, NextAction};
use crochet_shared::envelope::Failure;
use crochet_shared::id::{ListingId, ProfileId};
use crochet_shared::internal::{KeyRecord, ListingStatus, RouteName, RouteRecord};
use crochet_shared::route::{Family, OriginCurrency};
use crochet_shared::{header, json};

use super::Arrival;
use super::body::{self, BODY_BYTES_MAX, Body, NoBody};
use super::head::{self, BodyHead, Head, Once};
use super::identify::{self, Identified};
use crate::aside::aside;
use crate::cache::routes::{self, Route};
use crate::error::Refusal;
use crate::gateway::Gateway;
use crate::incoming::Incoming;
use crate::metrics::Full;
use crate::seller::{Closed, Permit, Seller, Unavailable};

/// A call that may be quoted.
#[derive(Debug)]
pub struct Admitted {
    /// Who buys.
    pub buyer: ProfileId,
    /// What.
    pub route: Arc<Route>,
    /// With which body.
    pub body: Body,
    /// Paid in.
    pub currency: OriginCurrency,
    /// The purchase's own name, if it has one.
    pub idempotency_key: Option<String>,
}

/// A call that presents a payment.
#[derive(Debug)]
pub struct Presented {
    /// Who calls.
    pub buyer: ProfileId,
    /// The listing in the path.
    pub listing: Option<ListingId>,
    /// The payment.
    pub relay_request_id: String,
    /// With which body.
    pub body: Body,
    /// The listing, where there is one.
    route: Option<Arc<Route>>,
    /// Whether it can be served now.
    pub place: Result<Place, Unavailable>,
}

impl Presented {
    /// Gives the place at the seller back, while something else is waited for, or for good. Gives why there
    /// was none.
    pub fn give_place_back(&mut self) -> Option<Unavailable> {
        std::mem::replace(&mut self.place, Err(WITHDRAWN)).err()
    }

    /// Looks for a place again.
    pub fn take_place(&mut self) {
        self.place = place(self.route.as_deref());
    }
}

/// A place at a seller.
#[derive(Debug)]
pub struct Place {
    /// The seller.
    pub seller: Arc<Seller>,
    /// Leave to call her, given back on drop.
    pub permit: Permit,
}

/// A seller has paused, or a listing is withdrawn.
const WITHDRAWN: Unavailable = Unavailable {
    retry_after_seconds: 5,
    why: Closed::Withdrawn,
};

/// Whether a listing is sold to this buyer.
pub fn refuse_listing(route: Option<&RouteRecord>, buyer: ProfileId) -> Result<&RouteRecord, Code> {
    let route = route.ok_or(Code::ListingNotFound)?;
    match route.status {
        ListingStatus::Draft => return Err(Code::ListingNotFound),
        ListingStatus::Suspended => return Err(Code::ListingNotActive),
        ListingStatus::Active => {}
    }
    if route.endpoint.is_none() {
        return Err(Code::ListingNotPerCall);
    }
    if route.seller_id == buyer {
        return Err(Code::CannotBuyOwnListing);
    }
    Ok(route)
}

/// Admits a call without a relay id, or refuses it by the first rule it breaks.
pub async fn for_quote(
    gateway: &Gateway,
    incoming: &mut Incoming<'_>,
    caller: &Identified,
    name: &str,
    head: Head,
    arrival: Arrival,
) -> Result<Admitted, Refusal> {
    let errors = &gateway.errors;
    let buyer = caller.profile();
    let route = find(gateway, routes::parse_name(name), arrival.at).await?;
    let record = refuse_listing(route.as_ref().map(|route| &route.record), buyer);
    record.map_err(|code| errors.code(code))?;
    let route = route.ok_or_else(|| errors.code(Code::ListingNotFound))?;

    let bad = head.bad_fields();
    if !bad.is_empty() {
        return Err(errors.failure(&Failure::validation(&bad)));
    }
    if !head.body.is_json {
        return Err(errors.code(Code::UnsupportedMediaType));
    }
    let limit = body_limit(&route.record);
    let body = read_body(gateway, incoming, caller, head.body, limit).await?;
    check_json(gateway, &body).await?;

    let seller = route.open_endpoint().map(|(_, seller)| seller);
    seller
        .ok_or(WITHDRAWN)
        .and_then(|seller| seller.check())
        .map_err(|busy| {
            gateway.metrics.closed(busy.why);
            errors.wait(Code::SellerUnavailable, busy.retry_after_seconds)
        })?;

    let currency = match currency(&head.currency, &caller.key.record) {
        // Whoever has just linked a wallet must not be told that she has none.
        Err(NoCurrency::WalletRequired(_)) => {
            let fetched = gateway.keys.fetch(gateway, caller.digest).await;
            let key = fetched.ok().flatten();
            let record = key.as_ref().map_or(&caller.key.record, |key| &key.record);
            currency(&head.currency, record)
        }
        currency => currency,
    };
    Ok(Admitted {
        buyer,
        route,
        body,
        currency: currency.map_err(|why| refuse_currency(gateway, why))?,
        idempotency_key: match head.idempotency_key {
            Once::One(key) => Some(key),
            Once::Absent | Once::Twice => None,
        },
    })
}

/// Gathers what the claim needs. Refuses only what cannot be claimed at all: no body, no such id.
pub async fn for_claim(
    gateway: &Gateway,
    incoming: &mut Incoming<'_>,
    caller: &Identified,
    name: &str,
    relay_request_id: String,
    head: BodyHead,
) -> Result<Presented, Refusal> {
    if !header::is_relay_request_id(relay_request_id.as_bytes()) {
        return Err(gateway.errors.code(Code::RelayRequestNotFound));
    }
    let name = routes::parse_name(name);
    let named = match &name {
        Some(RouteName::Id(id)) => Some(*id),
        Some(RouteName::Slug(_)) | None => None,
    };
    let body = read_body(gateway, incoming, caller, head, BODY_BYTES_MAX).await?;
    // What was believed when the head came may be half a minute old once a slow body is there.
    let route = find(gateway, name, Instant::now()).await?;
    Ok(Presented {
        buyer: caller.profile(),
        listing: route
            .as_ref()
            .map(|route| route.record.listing_id)
            .or(named),
        relay_request_id,
        body,
        place: place(route.as_deref()),
        route,
    })
}

/// A place for one call at the listing's seller, if it can be served now.
fn place(route: Option<&Route>) -> Result<Place, Unavailable> {
    let (_, seller) = route.and_then(Route::open_endpoint).ok_or(WITHDRAWN)?;
    Ok(Place {
        permit: seller.try_admit()?,
        seller: Arc::clone(seller),
    })
}

/// The listing of a name; what can name none is none.
pub async fn find(
    gateway: &Gateway,
    name: Option<RouteName>,
    now: Instant,
) -> Result<Option<Arc<Route>>, Refusal> {
    let Some(name) = name else {
        return Ok(None);
    };
    gateway
        .routes
        .get(gateway, &name, now)
        .await
        .map_err(|_| gateway.errors.code(Code::ServiceUnavailable))
}

/// Reads the body, or says why not. Who calls is looked at again, unless it came along with its head.
pub async fn read_body(
    gateway: &Gateway,
    incoming: &mut Incoming<'_>,
    caller: &Identified,
    head: BodyHead,
    limit: usize,
) -> Result<Body, Refusal> {
    let came_along = incoming.has_whole_body();
    let body = wait_for_body(gateway, incoming, head, limit).await?;
    if !came_along {
        identify::still_good(gateway, caller).await?;
    }
    Ok(body)
}

async fn wait_for_body(
    gateway: &Gateway,
    incoming: &mut Incoming<'_>,
    head: BodyHead,
    limit: usize,
) -> Result<Body, Refusal> {
    let time = gateway.config.body_time;
    body::read(incoming, head, limit, time, &gateway.budget)
        .await
        .map_err(|why| {
            let problem = match why {
                NoBody::TooLarge => return gateway.errors.code(Code::BodyTooLarge),
                NoBody::NoBudget => {
                    gateway.metrics.full(Full::Bodies);
                    return gateway.errors.code(Code::ServiceUnavailable);
                }
                NoBody::TooSlow => "must arrive in time",
                NoBody::Broken => "must be complete and framed as HTTP says",
            };
            let bad = Failure::validation(&[head::field("body", problem)]);
            gateway.errors.failure(&bad)
        })
}

/// Refuses a body that is not JSON.
pub async fn check_json(gateway: &Gateway, body: &Body) -> Result<(), Refusal> {
    let bytes = body.bytes.clone();
    let judged = aside(bytes.len(), move || json::check(&bytes).map(drop));
    judged.await.map_err(|why| {
        let message = match why {
            json::JsonError::Malformed => return gateway.errors.code(Code::InvalidJson),
            json::JsonError::NotUtf8 => "The body is not UTF-8.",
            json::JsonError::TooDeep => "The body nests deeper than 128 levels.",
        };
        gateway
            .errors
            .failure(&Failure::from(Code::InvalidJson).with_message(message))
    })
}

/// The largest body a listing takes.
pub fn body_limit(route: &RouteRecord) -> usize {
    let own = route.endpoint.as_ref().map_or(usize::MAX, |endpoint| {
        usize::try_from(endpoint.max_request_bytes).unwrap_or(usize::MAX)
    });
    own.min(BODY_BYTES_MAX)
}

/// Why a call has no currency.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoCurrency {
    /// None by that name.
    Unsupported,
    /// The buyer has no active wallet of its family.
    WalletRequired(Family),
}

/// What the call is paid in, and whether its buyer can be refunded there.
pub fn currency(asked: &Once<String>, key: &KeyRecord) -> Result<OriginCurrency, NoCurrency> {
    let currency = match asked {
        Once::One(name) => OriginCurrency::parse(name).ok_or(NoCurrency::Unsupported)?,
        Once::Absent | Once::Twice => key
            .default_family
            .ok_or(NoCurrency::WalletRequired(Family::Solana))?
            .default_currency(),
    };
    let family = currency.family();
    let has_wallet = match family {
        Family::Evm => key.has_evm,
        Family::Solana => key.has_solana,
    };
    if has_wallet {
        Ok(currency)
    } else {
        Err(NoCurrency::WalletRequired(family))
    }
}

fn refuse_currency(gateway: &Gateway, why: NoCurrency) -> Refusal {
    match why {
        NoCurrency::Unsupported => gateway.errors.code(Code::OriginCurrencyUnsupported),
        NoCurrency::WalletRequired(family) => wallet_required(gateway, family),
    }
}

/// 400 `PAYMENT_WALLET_REQUIRED`, naming the wallet to link.
pub fn wallet_required(gateway: &Gateway, family: Family) -> Refusal {
    let (action, summary) = match family {
        Family::Evm => (
            NextAction::LinkEvmWallet,
            "Link an EVM wallet at POST /me/wallets, or pay in a Solana currency.",
        ),
        Family::Solana => (
            NextAction::LinkSolanaWallet,
            "Link a Solana wallet at POST /me/wallets, or pay in an EVM currency.",
        ),
    };
    gateway
        .errors
        .failure(&Failure::from(Code::PaymentWalletRequired).with_next(action, summary))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crochet_shared::id::ApiKeyId;
    use crochet_shared::internal::{EndpointRecord, Redelivery};
    use crochet_shared::money::Micros;

    fn profile() -> ProfileId {
        ProfileId::new(crochet_shared::clock::now())
    }

    fn route(status: ListingStatus, seller_id: ProfileId, free: bool) -> RouteRecord {
        RouteRecord {
            listing_id: ListingId::new(crochet_shared::clock::now()),
            slug: "a".into(),
            seller_id,
            status,
            price: Micros(0),
            endpoint: (!free).then(|| EndpointRecord {
                url: String::new(),
                auth_header: None,
                secrets: Vec::new(),
                timeout_ms: 1,
                max_request_bytes: 9_000_000,
                max_response_bytes: 1,
                max_concurrency: 1,
                redelivery: Redelivery::Never,
                paused: false,
            }),
            version: 1,
        }
    }

    #[test]
    fn a_listing_is_refused_unknown_then_suspended_then_free_then_own() {
        use ListingStatus::{Active, Draft, Suspended};
        let (buyer, seller) = (profile(), profile());
        assert_eq!(
            refuse_listing(None, buyer).err(),
            Some(Code::ListingNotFound)
        );
        for (status, owner, free, code) in [
            (Draft, buyer, true, Some(Code::ListingNotFound)),
            (Suspended, buyer, true, Some(Code::ListingNotActive)),
            (Active, buyer, true, Some(Code::ListingNotPerCall)),
            (Active, buyer, false, Some(Code::CannotBuyOwnListing)),
            (Active, seller, false, None),
        ] {
            let route = route(status, owner, free);
            assert_eq!(refuse_listing(Some(&route), buyer).err(), code);
        }
        assert_eq!(body_limit(&route(Active, seller, false)), BODY_BYTES_MAX);
        assert_eq!(body_limit(&route(Active, seller, true)), BODY_BYTES_MAX);
    }

    #[test]
    fn the_default_wallet_names_the_currency_and_a_wallet_must_be_there() {
        let now = crochet_shared::clock::now();
        let key = |default_family, has_evm, has_solana| KeyRecord {
            key_id: ApiKeyId::new(now),
            profile_id: profile(),
            expires_at_ms: None,
            revoked: false,
            default_family,
            has_evm,
            has_solana,
        };
        let asked = |name: &str| Once::One(name.to_owned());
        let (evm, solana) = (Family::Evm, Family::Solana);
        let absent = Once::Absent;
        for (asked, key, expected) in [
            (
                &absent,
                key(Some(evm), true, false),
                Ok(OriginCurrency::Usdc),
            ),
            (
                &absent,
                key(Some(solana), true, true),
                Ok(OriginCurrency::Sol),
            ),
            (
                &absent,
                key(None, true, true),
                Err(NoCurrency::WalletRequired(solana)),
            ),
            (
                &asked("ETH"),
                key(Some(solana), false, true),
                Err(NoCurrency::WalletRequired(evm)),
            ),
            (
                &asked("USDC_SOL"),
                key(Some(evm), true, false),
                Err(NoCurrency::WalletRequired(solana)),
            ),
            (
                &asked("DOGE"),
                key(None, false, false),
                Err(NoCurrency::Unsupported),
            ),
            (
                &asked("sol"),
                key(Some(solana), false, true),
                Err(NoCurrency::Unsupported),
            ),
            (
                &asked("SOL"),
                key(Some(evm), true, true),
                Ok(OriginCurrency::Sol),
            ),
        ] {
            assert_eq!(currency(asked, &key), expected, "{asked:?}");
        }
    }
}
