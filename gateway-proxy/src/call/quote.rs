//! What to pay: the open quote again, or a new one; or where a purchase made already stands.
//!
//! The ladder: this process, Redis, the internal API's look-up, then a new quote. Each rung answers
//! only for a quote that is open, young enough and at the listing's price; nothing here can make a
//! second one for the same purchase, because the control plane looks again under a lock.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use chrono::DateTime;
use crochet_shared::clock;
use crochet_shared::code::{Code, NextAction};
use crochet_shared::envelope::{Amount, Failure};
use crochet_shared::fault::{self, Point};
use crochet_shared::id::{ProfileId, RequestId};
use crochet_shared::internal::{
    CreateQuote, Quote, QuoteCreated, QuoteFound, QuoteIdentity, QuoteRefusal,
};
use crochet_shared::redis_key;
use serde::Serialize;
use serde_json::value::RawValue;

use super::admit::{self, Admitted};
use super::{answer, replay};
use crate::adapter::again::patiently;
use crate::adapter::batch::Unanswered;
use crate::cache::quotes::{OpenQuote, Wanted};
use crate::cache::{self, REDIS_AGE_MAX};
use crate::error::{Kind, Refusal, Reply};
use crate::gateway::Gateway;
use crate::metrics::Metrics;

/// How long a look-up or a new quote is waited for again after a lost reply.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);
/// When to look again at a purchase whose deposit is known.
const PAID_RETRY_SECONDS: u32 = 1;

/// What the internal API said of a purchase; the same for all who asked at once.
#[derive(Clone, Debug)]
pub enum Learned {
    /// A quote that can be paid, and whether it was made just now.
    Open(Arc<OpenQuote>, bool),
    /// Where the purchase stands.
    Found(QuoteFound),
    /// No quote is to be had.
    Refused(QuoteRefusal),
    /// Nothing was learned.
    Unanswered(Unanswered),
    /// The quote cannot be shown.
    Broken,
}

/// Answers a call without a relay id.
pub async fn quote(gateway: &Arc<Gateway>, call: Admitted) -> Result<Reply, Refusal> {
    let identity = QuoteIdentity {
        buyer: call.buyer,
        listing: call.route.record.listing_id,
        currency: call.currency,
        body_sha256: call.body.sha256,
        idempotency_key: call.idempotency_key,
    };
    let digest = identity.digest();
    let epoch = gateway.hearing.epoch();
    // Not when the head came: the body may have taken long.
    let now = Instant::now();
    let wanted = Wanted {
        price: call.route.record.price,
        with_key: identity.idempotency_key.is_some(),
        now_ms: clock::now().timestamp_millis(),
        now,
        epoch,
    };
    if gateway.hearing.told_until(now).is_some() {
        let counts = &gateway.metrics.quotes;
        if let Some(open) = gateway.quotes.get(&digest, wanted) {
            counts.hit.increment(1);
            return Err(required(&open));
        }
        counts.missed(gateway.quotes.knows(&digest));
        if let Some(open) = from_redis(gateway, &digest, wanted).await {
            counts.from_redis.increment(1);
            return Err(required(&open));
        }
    }
    let request_bytes = u32::try_from(call.body.bytes.len()).unwrap_or(u32::MAX);
    let buyer = call.buyer;
    let mut mine = false;
    let learned = gateway
        .quoting
        .join(&digest, || {
            mine = true;
            ask(gateway, identity, digest, request_bytes)
        })
        .await;
    if let Learned::Refused(why) = &learned
        && of_the_listing(*why)
    {
        // What is known of the listing here is behind: the next call, a paid one too, looks again.
        let record = &call.route.record;
        gateway
            .routes
            .forget(record.listing_id, &record.slug, Instant::now());
    }
    // Whoever joined did not make it: she gets the same quote again.
    if let (Learned::Open(open, _), false) = (&learned, mine) {
        return Err(required(open));
    }
    told(gateway, buyer, Code::PaymentRequired, learned).await
}

/// Whether a refusal says that the listing is not what admitted the call.
const fn of_the_listing(why: QuoteRefusal) -> bool {
    matches!(
        why,
        QuoteRefusal::ListingNotFound
            | QuoteRefusal::ListingNotActive
            | QuoteRefusal::ListingNotPerCall
            | QuoteRefusal::OwnListing
    )
}

async fn from_redis(
    gateway: &Gateway,
    digest: &[u8; 32],
    wanted: Wanted,
) -> Option<Arc<OpenQuote>> {
    let since = Instant::now();
    if gateway
        .quotes
        .changed(digest, since.checked_sub(REDIS_AGE_MAX)?)
    {
        return None;
    }
    let name = redis_key::quote(digest);
    let quote = cache::from_redis::<Quote>(gateway, &name).await?;
    if !quote.is_reusable(wanted.price, wanted.with_key, wanted.now_ms)
        || gateway.quotes.has_ended(quote.request_id)
    {
        return None;
    }
    let open = Arc::new(open(gateway, Code::PaymentRequired, quote)?);
    gateway
        .quotes
        .keep(*digest, Arc::clone(&open), since, wanted.epoch);
    // A change that came in while Redis was asked has the last word.
    (!gateway.quotes.changed(digest, since)).then_some(open)
}

/// Looks the purchase up, and has a quote made when there is nothing.
async fn ask(
    gateway: &Gateway,
    identity: QuoteIdentity,
    digest: [u8; 32],
    request_bytes: u32,
) -> Learned {
    let (since, epoch) = (Instant::now(), gateway.hearing.epoch());
    gateway.metrics.quotes.from_control_plane.increment(1);
    let learned = look_up_or_make(gateway, identity, request_bytes, since).await;
    Metrics::took(&gateway.metrics.quote, since.elapsed());
    let (quote, new) = match learned {
        Ok(found) => found,
        Err(learned) => return learned,
    };
    let Some(open) = open(gateway, Code::PaymentRequired, quote) else {
        return Learned::Broken;
    };
    let open = Arc::new(open);
    if gateway.hearing.connected() {
        gateway.quotes.keep(digest, Arc::clone(&open), since, epoch);
    }
    Learned::Open(open, new)
}

/// The open quote of a purchase and whether it was made now; else what there is instead.
async fn look_up_or_make(
    gateway: &Gateway,
    identity: QuoteIdentity,
    request_bytes: u32,
    since: Instant,
) -> Result<(Quote, bool), Learned> {
    let mut again = true;
    loop {
        let found = patiently(since, PATIENCE, || {
            gateway.control_plane.quotes.ask(identity.clone())
        })
        .await;
        match found {
            Err(why) => return Err(Learned::Unanswered(why)),
            Ok(QuoteFound::Open(quote)) => return Ok((quote, false)),
            Ok(QuoteFound::None) => {}
            Ok(found) => return Err(Learned::Found(found)),
        }
        let create = CreateQuote::New {
            identity: identity.clone(),
            request_bytes,
        };
        fault::pass(Point::BeforeQuote);
        let created = gateway.control_plane.create_quote(&create).await;
        fault::pass(Point::AfterQuote);
        return match created {
            // Perhaps there is one now. Whoever asked for one more would stand in line for the provider again,
            // and in a shortage be refused what is hers.
            Err(Unanswered::Lost) if again && since.elapsed() < PATIENCE => {
                again = false;
                continue;
            }
            Err(why) => Err(Learned::Unanswered(why)),
            Ok(QuoteCreated::New(quote)) => Ok((quote, true)),
            Ok(QuoteCreated::Found(QuoteFound::Open(quote))) => Ok((quote, false)),
            Ok(QuoteCreated::Found(found)) => Err(Learned::Found(found)),
            Ok(QuoteCreated::Refused(refusal)) => Err(Learned::Refused(refusal)),
        };
    }
}

/// A fresh payment in place of one that failed at the provider: 402 `PAYMENT_FAILED`.
pub async fn afresh(
    gateway: &Arc<Gateway>,
    buyer: ProfileId,
    relay_request_id: String,
) -> Result<Reply, Refusal> {
    let create = CreateQuote::After {
        buyer,
        relay_request_id,
    };
    let created = patiently(Instant::now(), PATIENCE, || {
        gateway.control_plane.create_quote(&create)
    })
    .await;
    let (quote, new) = match created {
        Ok(QuoteCreated::New(quote)) => (quote, true),
        Ok(QuoteCreated::Found(QuoteFound::Open(quote))) => (quote, false),
        Ok(QuoteCreated::Found(found)) => {
            return told(gateway, buyer, Code::PaymentFailed, Learned::Found(found)).await;
        }
        Ok(QuoteCreated::Refused(why)) => return Err(refused(gateway, why)),
        Err(why) => return Err(unanswered(gateway, why)),
    };
    let learned = open(gateway, Code::PaymentFailed, quote)
        .map_or(Learned::Broken, |open| Learned::Open(Arc::new(open), new));
    told(gateway, buyer, Code::PaymentFailed, learned).await
}

/// Turns what was learned into the answer.
async fn told(
    gateway: &Arc<Gateway>,
    buyer: ProfileId,
    code: Code,
    learned: Learned,
) -> Result<Reply, Refusal> {
    match learned {
        Learned::Open(open, false) => Err(payment(code, open.request_id(), open.body.clone())),
        Learned::Open(open, true) => {
            let data = payment_json(&open.quote, false);
            let data = data.ok_or_else(|| gateway.errors.code(Code::InternalError))?;
            let body = gateway.errors.body_with_data(code, &data);
            Err(payment(code, open.request_id(), body))
        }
        Learned::Found(found) => stands(gateway, buyer, found).await,
        Learned::Refused(why) => Err(refused(gateway, why)),
        Learned::Unanswered(why) => Err(unanswered(gateway, why)),
        Learned::Broken => Err(gateway.errors.code(Code::InternalError)),
    }
}

/// Where a purchase made already stands.
async fn stands(
    gateway: &Arc<Gateway>,
    buyer: ProfileId,
    found: QuoteFound,
) -> Result<Reply, Refusal> {
    match found {
        QuoteFound::Paid {
            relay_request_id,
            request_id,
        } => Ok(answer::pending(
            &relay_request_id,
            request_id,
            PAID_RETRY_SECONDS,
            NextAction::RetryWithRelayRequestId,
        )),
        QuoteFound::InProgress {
            request_id,
            retry_after_seconds,
            ..
        } => Err(answer::in_progress(
            gateway,
            Some(request_id),
            retry_after_seconds,
        )),
        QuoteFound::Delivered { request_id, .. } => {
            replay::replay(gateway, buyer, request_id).await
        }
        QuoteFound::KeyReused => Err(gateway.errors.code(Code::IdempotencyKeyReused)),
        // The control plane resolves both before it answers a creation.
        QuoteFound::None | QuoteFound::Open(_) => Err(gateway.errors.code(Code::InternalError)),
    }
}

fn refused(gateway: &Gateway, why: QuoteRefusal) -> Refusal {
    let errors = &gateway.errors;
    match why {
        QuoteRefusal::ListingNotFound => errors.code(Code::ListingNotFound),
        QuoteRefusal::ListingNotActive => errors.code(Code::ListingNotActive),
        QuoteRefusal::ListingNotPerCall => errors.code(Code::ListingNotPerCall),
        QuoteRefusal::OwnListing => errors.code(Code::CannotBuyOwnListing),
        QuoteRefusal::CurrencyUnsupported => errors.code(Code::OriginCurrencyUnsupported),
        QuoteRefusal::WalletRequired(family) => admit::wallet_required(gateway, family),
        QuoteRefusal::BelowMinimum => errors.failure(&Failure::route_minimum_not_met()),
        QuoteRefusal::RouteRestricted => errors.code(Code::RouteRestricted),
        QuoteRefusal::ProviderUnavailable {
            retry_after_seconds,
        } => errors.wait(Code::PaymentProviderUnavailable, retry_after_seconds.max(1)),
        QuoteRefusal::RateLimited {
            retry_after_seconds,
        } => errors.wait(Code::RateLimited, retry_after_seconds.max(1)),
    }
}

fn unanswered(gateway: &Gateway, why: Unanswered) -> Refusal {
    gateway.errors.code(match why {
        Unanswered::Full | Unanswered::Unreachable | Unanswered::Lost => Code::ServiceUnavailable,
        Unanswered::Failed => Code::InternalError,
    })
}

fn required(open: &OpenQuote) -> Refusal {
    payment(Code::PaymentRequired, open.request_id(), open.body.clone())
}

fn payment(code: Code, request_id: RequestId, body: Bytes) -> Refusal {
    Reply::ok(code.status(), Kind::Code(code), body)
        .about(request_id)
        .into()
}

/// Prepares the body that gives this quote again.
fn open(gateway: &Gateway, code: Code, quote: Quote) -> Option<OpenQuote> {
    let data = payment_json(&quote, true);
    if data.is_none() {
        tracing::error!(request = %quote.request_id, "its requirements are not JSON");
    }
    let body = gateway.errors.body_with_data(code, &data?);
    Some(OpenQuote { quote, body })
}

/// `data` of a 402. `None` when the requirements are not JSON.
fn payment_json(quote: &Quote, reused: bool) -> Option<String> {
    let data = PaymentData {
        payment: Payment {
            relay_request_id: &quote.relay_request_id,
            requirements: serde_json::from_str(&quote.requirements).ok()?,
            amount: quote.price.into(),
            origin_currency: quote.currency.as_str(),
            request_id: quote.request_id,
            expires_at: clock::rfc3339(DateTime::from_timestamp_millis(quote.expires_at_ms)?),
            reused,
        },
    };
    serde_json::to_string(&data).ok()
}

#[derive(Serialize)]
struct PaymentData<'a> {
    payment: Payment<'a>,
}

/// Field order as in the contract, §5.
#[derive(Serialize)]
struct Payment<'a> {
    relay_request_id: &'a str,
    requirements: &'a RawValue,
    amount: Amount,
    origin_currency: &'a str,
    request_id: RequestId,
    expires_at: String,
    reused: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crochet_shared::money::Micros;
    use crochet_shared::route::OriginCurrency;

    fn quote(requirements: &str) -> Quote {
        Quote {
            relay_request_id: "0xabc".into(),
            request_id: "gw_req_01890a5dac96774bbcceb302099a8057".parse().unwrap(),
            price: Micros(1_000_000),
            currency: OriginCurrency::UsdcSol,
            requirements: requirements.into(),
            made_at_ms: 0,
            expires_at_ms: 1_700_000_000_007,
        }
    }

    #[test]
    fn a_402s_data_is_exact_and_keeps_the_requirements_as_they_are() {
        let given = r#"{"amount":"10000000000000000000001","fees":{"gas":1.10}}"#;
        assert_eq!(
            payment_json(&quote(given), true).unwrap(),
            [
                r#"{"payment":{"relay_request_id":"0xabc","requirements":"#,
                given,
                r#","amount":{"amount_cents":100,"amount_micros":1000000,"currency":"USD"},"#,
                r#""origin_currency":"USDC_SOL","request_id":"gw_req_01890a5dac96774bbcceb302099a8057","#,
                r#""expires_at":"2023-11-14T22:13:20.007Z","reused":true}}"#,
            ]
            .concat()
        );
        assert!(payment_json(&quote("{"), true).is_none());
    }
}
