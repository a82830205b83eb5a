//! `FIND_QUOTES` and `CREATE_QUOTE`: what a purchase must be paid, quoted once.
//!
//! Making a quote: one at a time for an identity in this process; a turn at the provider, which the
//! buyers share; then one at a time in the whole system by a Postgres advisory lock; look again; ask
//! the provider; write; only then answer. The lock belongs to a session of a small pool of its own,
//! because the provider is never asked inside a transaction; nobody waits for a turn with one of them.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};

use crochet_shared::clock;
use crochet_shared::code::Code;
use crochet_shared::fault::{self, Point};
use crochet_shared::id::{ListingId, ProfileId, RequestId, uuid_v7};
use crochet_shared::internal::{
    CreateQuote, Quote, QuoteCreated, QuoteFound, QuoteIdentity, QuoteRefusal,
};
use crochet_shared::money::{FEE_RATE, Micros};
use crochet_shared::route::{CHAIN_BASE, OriginCurrency, RouteTable, USDC_BASE};
use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;

use super::model::{EXPIRY_MARGIN_SECONDS, State};
use super::relay::client::{QuoteRequest, REFERRER};
use super::relay::{ProviderQuote, Turn};
use super::requirements;
use super::store::quote::{self as store, Found, Identities, NewQuote};
use super::terms::{TOO_MANY_OPEN, Terms, over_limit, refusal, terms};
use crate::app::App;
use crate::config::Config;
use crate::error::ApiError;
use crate::metrics::names;

/// Sessions that may hold an identity's lock at once: quotes being made in this process.
const LOCK_SESSIONS_MAX: u32 = 8;
/// An idle one is closed after this.
const LOCK_SESSION_IDLE: Duration = Duration::from_secs(30);
/// Longest wait for one.
const LOCK_SESSION_WAIT: Duration = Duration::from_secs(3);
/// What a caller is told to wait when a call is being forwarded, in seconds.
const RETRY_IN_PROGRESS_SECONDS: u32 = 1;
/// More quotes than are ever being made at once for one buyer, by all control planes. A limit farther
/// away than this cannot be passed by quotes that were counted before any of them was written.
const QUOTES_AT_ONCE_MAX: i64 = 1_000;

/// Where quotes are made.
#[derive(Debug)]
pub struct Desk {
    /// One at a time for an identity; what nobody holds any more is swept out at the next look.
    under_way: Mutex<HashMap<[u8; 32], Weak<tokio::sync::Mutex<()>>>>,
    pub(super) open_max: u32,
    pub(super) routes: RouteTable,
    lock_pool: OnceLock<PgPool>,
}

impl Desk {
    /// A desk with its limits.
    pub fn new(config: &Config) -> Self {
        Self {
            under_way: Mutex::default(),
            open_max: config.limits.open_quotes,
            routes: RouteTable::default(),
            lock_pool: OnceLock::new(),
        }
    }

    fn under_way(&self, identity: [u8; 32]) -> Arc<tokio::sync::Mutex<()>> {
        let mut under_way = self.under_way.lock();
        under_way.retain(|_, lock| lock.strong_count() > 0);
        if let Some(lock) = under_way.get(&identity).and_then(Weak::upgrade) {
            return lock;
        }
        let lock = Arc::new(tokio::sync::Mutex::new(()));
        under_way.insert(identity, Arc::downgrade(&lock));
        lock
    }

    /// Sessions for advisory locks, to the same database. A session gives up what it still holds
    /// when it comes back, however its holder ended.
    fn lock_pool(&self, main: &PgPool) -> &PgPool {
        self.lock_pool.get_or_init(|| {
            PgPoolOptions::new()
                .max_connections(LOCK_SESSIONS_MAX)
                .idle_timeout(LOCK_SESSION_IDLE)
                .acquire_timeout(LOCK_SESSION_WAIT)
                .after_release(|connection, _| {
                    Box::pin(async move {
                        sqlx::query("select pg_advisory_unlock_all()")
                            .execute(connection)
                            .await?;
                        Ok(true)
                    })
                })
                .connect_lazy_with((*main.connect_options()).clone())
        })
    }
}

/// `FIND_QUOTES`: what stands under each identity.
pub async fn find(app: &App, identities: &[QuoteIdentity]) -> Result<Vec<QuoteFound>, sqlx::Error> {
    let mut batch = Identities::default();
    for (place, identity) in (0_i32..).zip(identities) {
        batch.places.push(place);
        batch.digests.push(identity.digest().to_vec());
        batch.buyers.push(identity.buyer.0);
        batch.listings.push(identity.listing.0);
        batch.keys.push(identity.idempotency_key.clone());
    }
    let mut answers = vec![QuoteFound::None; identities.len()];
    for found in store::find(app.db.pool(), &batch).await? {
        let place = usize::try_from(found.place).ok();
        let with_key = place
            .and_then(|place| identities.get(place))
            .is_some_and(|identity| identity.idempotency_key.is_some());
        if let Some(slot) = place.and_then(|place| answers.get_mut(place)) {
            *slot = judge(found, with_key).unwrap_or(QuoteFound::None);
        }
    }
    Ok(answers)
}

/// The contract's rules for "same identity again".
fn judge(found: Found, with_key: bool) -> Option<QuoteFound> {
    if found.key_reused {
        return Some(QuoteFound::KeyReused);
    }
    let request_id = RequestId(found.id?);
    let relay_request_id = found.relay_request_id?;
    let answer = match found.state? {
        State::Claimed => QuoteFound::InProgress {
            relay_request_id,
            request_id,
            retry_after_seconds: RETRY_IN_PROGRESS_SECONDS,
        },
        State::Paid => QuoteFound::Paid {
            relay_request_id,
            request_id,
        },
        // Also one that came late and is under way: never a second 402 for it.
        State::Quoted | State::Expired if found.deposit_seen_at.is_some() => QuoteFound::Paid {
            relay_request_id,
            request_id,
        },
        State::Delivered if with_key => QuoteFound::Delivered {
            relay_request_id,
            request_id,
        },
        State::Quoted => {
            let quote = Quote {
                relay_request_id,
                request_id,
                price: Micros(found.price_micros?),
                currency: OriginCurrency::parse(&found.origin_currency?)?,
                requirements: found.requirements?,
                made_at_ms: found.created_at?.timestamp_millis(),
                expires_at_ms: found.expires_at?.timestamp_millis(),
            };
            let price = Micros(found.price_now?);
            if !quote.is_reusable(price, with_key, found.now.timestamp_millis()) {
                return None;
            }
            QuoteFound::Open(quote)
        }
        State::Delivered | State::RefundDue | State::Refunded | State::Expired | State::Failed => {
            return None;
        }
    };
    Some(answer)
}

/// The open quote of an identity, for the record in Redis; `None` when there is none to be given.
pub async fn open_quote(app: &App, identity: &[u8; 32]) -> Result<Option<Quote>, sqlx::Error> {
    let open = store::open_quote(app.db.pool(), identity).await?;
    Ok(open.and_then(|open| {
        Some(Quote {
            relay_request_id: open.relay_request_id,
            request_id: RequestId(open.id),
            price: Micros(open.price_micros),
            currency: OriginCurrency::parse(&open.origin_currency)?,
            requirements: open.requirements,
            made_at_ms: open.created_at.timestamp_millis(),
            expires_at_ms: open.expires_at.timestamp_millis(),
        })
    }))
}

/// `CREATE_QUOTE`. Runs to its end although the caller hangs up: a quote the provider gave is written.
pub async fn create(app: &Arc<App>, ask: CreateQuote) -> Result<QuoteCreated, ApiError> {
    let app = Arc::clone(app);
    let task = tokio::spawn(async move {
        // Whoever asks for a new one has just looked (`FIND_QUOTES`); nobody has for one after another.
        let (identity, request_bytes, looked) = match ask {
            CreateQuote::New {
                identity,
                request_bytes,
            } => {
                let bytes = i32::try_from(request_bytes).unwrap_or(i32::MAX);
                (identity, bytes, true)
            }
            CreateQuote::After {
                buyer,
                relay_request_id,
            } => {
                let (identity, bytes) = again(&app, buyer, &relay_request_id).await?;
                (identity, bytes, false)
            }
        };
        let outcome = in_turn(&app, &identity, request_bytes, looked).await;
        if let Ok(created) = &outcome {
            metrics::counter!(names::QUOTES.name, "result" => label(created)).increment(1);
        }
        outcome
    });
    task.await.map_err(ApiError::internal)?
}

/// The identity of a purchase that was asked for before.
async fn again(
    app: &App,
    buyer: ProfileId,
    relay_request_id: &str,
) -> Result<(QuoteIdentity, i32), ApiError> {
    let before = store::purchase(app.db.pool(), buyer.0, relay_request_id)
        .await?
        .ok_or(Code::RelayRequestNotFound)?;
    let currency = OriginCurrency::parse(&before.origin_currency)
        .ok_or_else(|| ApiError::internal(anyhow::anyhow!("an unknown currency is stored")))?;
    let body_sha256 = before
        .body_sha256
        .try_into()
        .map_err(|_| ApiError::internal(anyhow::anyhow!("a short body hash is stored")))?;
    let identity = QuoteIdentity {
        buyer,
        listing: ListingId(before.listing_id),
        currency,
        body_sha256,
        idempotency_key: before.idempotency_key,
    };
    Ok((identity, before.request_bytes))
}

/// One at a time for an identity, here and everywhere, and for a key whatever it is used for. `looked` says that it
/// stood nowhere a moment ago.
async fn in_turn(
    app: &App,
    identity: &QuoteIdentity,
    request_bytes: i32,
    looked: bool,
) -> Result<QuoteCreated, ApiError> {
    let digest = identity.digest();
    let alone = match &identity.idempotency_key {
        Some(key) => key_digest(identity.buyer, key),
        None => digest,
    };
    let under_way = app.payments.quotes.under_way(alone);
    let (_alone, looked) = match under_way.try_lock() {
        Ok(alone) => (alone, looked),
        // Whoever was here before may have made it.
        Err(_) => (under_way.lock().await, false),
    };
    // Before the provider is asked it is looked again in any case.
    if !looked && let Some(found) = look(app, identity).await? {
        return Ok(QuoteCreated::Found(found));
    }
    let turn = match turn(app, identity).await? {
        Ok(turn) => turn,
        Err(refusal) => return Ok(QuoteCreated::Refused(refusal)),
    };
    let mut session = app
        .payments
        .quotes
        .lock_pool(app.db.pool())
        .acquire()
        .await?;
    // Under a key the identity's too: it is all that the version before takes.
    let locks = if alone == digest {
        vec![digest]
    } else {
        vec![alone, digest]
    };
    for lock in locks {
        let (high, _) = lock.split_first_chunk::<8>().ok_or(Code::InternalError)?;
        sqlx::query("select pg_advisory_lock($1)")
            .bind(i64::from_be_bytes(*high))
            .execute(&mut *session)
            .await?;
    }
    let outcome = match look(app, identity).await {
        Ok(Some(found)) => Ok(QuoteCreated::Found(found)),
        Ok(None) => make(app, identity, digest, request_bytes, turn).await,
        Err(error) => Err(error),
    };
    sqlx::query("select pg_advisory_unlock_all()")
        .execute(&mut *session)
        .await?;
    outcome
}

/// Under what a buyer's key is used once at a time: two uses of it would else not see each other.
fn key_digest(buyer: ProfileId, key: &str) -> [u8; 32] {
    let mut hash = Sha256::new_with_prefix("idempotency key\0");
    hash.update(buyer.0.as_bytes());
    hash.update(key);
    hash.finalize().into()
}

/// Leave to ask the provider. While there is not enough for everybody, whoever would be refused anyway
/// does not stand in the line: cheapest first, the buyer's own limit and the line's before the listing is read.
/// A flood of calls that cannot have a quote must cost Postgres no more than the look that the gateway asked for.
async fn turn(app: &App, identity: &QuoteIdentity) -> Result<Result<Turn, QuoteRefusal>, ApiError> {
    let buyer = identity.buyer.0;
    if let Some(turn) = app.relay.turn_at_once(buyer) {
        return Ok(Ok(turn));
    }
    let standing = app.limits.quotes.look(buyer, Instant::now());
    if !standing.allowed {
        return Ok(Err(over_limit(standing)));
    }
    if let Err(error) = app.relay.has_place(buyer) {
        return Ok(Err(refusal(&error)));
    }
    if let Err(refusal) = terms(app, identity).await? {
        return Ok(Err(refusal));
    }
    let turn = app.relay.turn(buyer).await;
    Ok(turn.map_err(|error| refusal(&error)))
}

async fn look(app: &App, identity: &QuoteIdentity) -> Result<Option<QuoteFound>, ApiError> {
    let found = find(app, std::slice::from_ref(identity)).await?;
    Ok(found
        .into_iter()
        .next()
        .filter(|found| *found != QuoteFound::None))
}

async fn make(
    app: &App,
    identity: &QuoteIdentity,
    digest: [u8; 32],
    request_bytes: i32,
    turn: Turn,
) -> Result<QuoteCreated, ApiError> {
    let terms = match terms(app, identity).await? {
        Ok(terms) => terms,
        Err(refusal) => return Ok(QuoteCreated::Refused(refusal)),
    };
    let standing = app
        .limits
        .quotes
        .take(identity.buyer.0, Instant::now())
        .await;
    if !standing.allowed {
        return Ok(QuoteCreated::Refused(over_limit(standing)));
    }
    let request = request(app, &terms);
    match app.relay.quote(turn, &request, terms.price.0).await {
        Ok(quote) => {
            let written = write(app, identity, digest, request_bytes, &terms, &quote).await?;
            Ok(written.map_or(QuoteCreated::Refused(TOO_MANY_OPEN), QuoteCreated::New))
        }
        Err(error) => Ok(QuoteCreated::Refused(refusal(&error))),
    }
}

fn request(app: &App, terms: &Terms<'_>) -> QuoteRequest {
    QuoteRequest {
        user: terms.wallet.clone(),
        recipient: app.config.settlement_address.clone(),
        origin_chain_id: terms.route.chain_id,
        origin_currency: terms.route.address.clone(),
        destination_chain_id: CHAIN_BASE,
        destination_currency: USDC_BASE.to_owned(),
        // USDC has six decimals: its atomic units are micro-dollars.
        amount: terms.price.0.to_string(),
        trade_type: "EXACT_OUTPUT",
        use_deposit_address: true,
        strict: true,
        refund_to: terms.wallet.clone(),
        // The buyer is told QUOTE_TTL_SECONDS; the provider is asked for the margin on top, so that
        // a deposit made in the last moment still counts ("expires_at is the provider's TTL less
        // 120 s (quote life 15 min)").
        ttl: app.config.quote_ttl.as_secs() + u64::from(EXPIRY_MARGIN_SECONDS),
        referrer: REFERRER,
    }
}

/// Makes the quote durable; nothing when its buyer holds too many by now. The count is made exact
/// only where it can matter: one buyer's quotes cannot fill half of her limit while one is made.
async fn write(
    app: &App,
    identity: &QuoteIdentity,
    digest: [u8; 32],
    request_bytes: i32,
    terms: &Terms<'_>,
    quote: &ProviderQuote,
) -> Result<Option<Quote>, ApiError> {
    // Counted from before the provider was asked, so never longer than the provider's own time.
    let expires_at = terms.now + app.config.quote_ttl;
    let requirements =
        requirements::write(terms.route, quote, expires_at).map_err(ApiError::internal)?;
    let id = uuid_v7(clock::now());
    let new = NewQuote {
        id,
        relay_request_id: &quote.request_id,
        buyer: identity.buyer.0,
        seller: terms.seller,
        listing: identity.listing.0,
        body_sha256: &identity.body_sha256,
        request_bytes,
        origin_currency: identity.currency.as_str(),
        idempotency_key: identity.idempotency_key.as_deref(),
        price_micros: terms.price.0,
        fee_rate_ppm: i32::try_from(FEE_RATE.0).map_err(ApiError::internal)?,
        created_at: terms.now,
        expires_at,
        identity: &digest,
        requirements: &requirements,
        recipient: &app.config.settlement_address,
        chain_id: CHAIN_BASE,
        token: USDC_BASE,
        deposit_address: &quote.deposit_address,
        refund_to: &terms.wallet,
    };
    fault::pass(Point::BeforeQuote);
    let open_max = app.payments.quotes.open_max;
    if terms.open_quotes + QUOTES_AT_ONCE_MAX < i64::from(open_max) {
        store::insert(app.db.pool(), &new).await?;
    } else if !store::insert_within(app.db.pool(), &new, open_max).await? {
        return Ok(None);
    }
    fault::pass(Point::AfterQuote);
    Ok(Some(Quote {
        relay_request_id: quote.request_id.clone(),
        request_id: RequestId(id),
        price: terms.price,
        currency: identity.currency,
        requirements,
        made_at_ms: terms.now.timestamp_millis(),
        expires_at_ms: expires_at.timestamp_millis(),
    }))
}

const fn label(created: &QuoteCreated) -> &'static str {
    match created {
        QuoteCreated::New(_) => "new",
        QuoteCreated::Found(_) => "found",
        QuoteCreated::Refused(_) => "refused",
    }
}
