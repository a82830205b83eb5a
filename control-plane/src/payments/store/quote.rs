//! Quotes: finding the one of an identity, the facts to make one from, and writing it.

use chrono::{DateTime, Utc};
use sqlx::{PgExecutor, PgPool};
use uuid::Uuid;

use crate::payments::model::{EXPIRY_MARGIN_SECONDS, State};

/// How many of an identity's newest quotes are looked through. More cannot be of interest: while
/// one of them is paid no newer one is made, and a buyer holds few open ones.
const NEWEST: i64 = 20;

/// Identities to look for, in columns.
#[derive(Debug, Default)]
pub struct Identities {
    /// Place in the caller's list.
    pub places: Vec<i32>,
    /// [`crochet_shared::internal::QuoteIdentity::digest`].
    pub digests: Vec<Vec<u8>>,
    /// Who buys.
    pub buyers: Vec<Uuid>,
    /// What.
    pub listings: Vec<Uuid>,
    /// Idempotency keys.
    pub keys: Vec<Option<String>>,
}

/// What stands under an identity: the quote that matters most, if any.
#[derive(Debug)]
pub struct Found {
    /// Place in the caller's list.
    pub place: i32,
    /// Whether the idempotency key stands for another identity.
    pub key_reused: bool,
    /// The listing's price now.
    pub price_now: Option<i64>,
    /// The database's time.
    pub now: DateTime<Utc>,
    /// The quote.
    pub id: Option<Uuid>,
    /// The provider's id.
    pub relay_request_id: Option<String>,
    /// Its state.
    pub state: Option<State>,
    /// When the provider first told of a deposit.
    pub deposit_seen_at: Option<DateTime<Utc>>,
    /// Its price.
    pub price_micros: Option<i64>,
    /// Its currency.
    pub origin_currency: Option<String>,
    /// What the buyer was shown.
    pub requirements: Option<String>,
    /// When it was made.
    pub created_at: Option<DateTime<Utc>>,
    /// Until when it may be paid.
    pub expires_at: Option<DateTime<Utc>>,
}

/// Looks up a batch of identities in one statement.
///
/// Of an identity's quotes the one that matters most is given: being forwarded, then paid or with a
/// deposit seen, then (with an idempotency key) delivered, then the newest. What an idempotency key
/// stands for is forgotten after 24 h.
pub async fn find(pool: &PgPool, batch: &Identities) -> Result<Vec<Found>, sqlx::Error> {
    sqlx::query_as!(
        Found,
        r#"
        select i.place as "place!", coalesce(k.identity <> i.digest, false) as "key_reused!",
            l.price_micros as "price_now?", now() as "now!",
            f.id as "id?", f.relay_request_id as "relay_request_id?", f.state as "state?: State",
            f.deposit_seen_at as "deposit_seen_at?", f.price_micros as "price_micros?",
            f.origin_currency as "origin_currency?", f.requirements as "requirements?",
            f.created_at as "created_at?", f.expires_at as "expires_at?"
        from unnest($1::int4[], $2::bytea[], $3::uuid[], $4::uuid[], $5::text[])
            as i (place, digest, buyer, listing, key)
        left join listing l on l.id = i.listing
        left join lateral (
            select q.identity from gateway_request r join quote q on q.request_id = r.id
            where i.key is not null and r.buyer_id = i.buyer and r.idempotency_key = i.key
                and r.created_at > now() - interval '24 hours'
            order by r.id desc limit 1
        ) k on true
        left join lateral (
            select r.id, r.relay_request_id, r.state, r.deposit_seen_at, r.price_micros,
                r.origin_currency, n.requirements, r.created_at, r.expires_at
            from (
                select q.request_id, q.requirements from quote q where q.identity = i.digest
                order by q.request_id desc limit $6
            ) n join gateway_request r on r.id = n.request_id
            where i.key is null or r.created_at > now() - interval '24 hours'
                or r.state in ('paid', 'claimed')
            order by case
                    when r.state = 'claimed' then 0
                    when r.state = 'paid' or (r.state in ('quoted', 'expired') and r.deposit_seen_at is not null) then 1
                    when r.state = 'delivered' and i.key is not null then 2
                    else 3
                end, r.id desc
            limit 1
        ) f on true
        "#,
        &batch.places,
        &batch.digests,
        &batch.buyers,
        &batch.listings,
        &batch.keys as _,
        NEWEST,
    )
    .fetch_all(pool)
    .await
}

/// The open quote of an identity, if it has one: what caches may know.
#[derive(Debug)]
pub struct OpenQuote {
    /// Ours.
    pub id: Uuid,
    /// The provider's id.
    pub relay_request_id: String,
    /// Its price.
    pub price_micros: i64,
    /// Its currency.
    pub origin_currency: String,
    /// What the buyer was shown.
    pub requirements: String,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// Until when it may be paid.
    pub expires_at: DateTime<Utc>,
}

/// Reads the newest quote of an identity when nothing but a 402 can come of it.
pub async fn open_quote(
    pool: &PgPool,
    identity: &[u8; 32],
) -> Result<Option<OpenQuote>, sqlx::Error> {
    sqlx::query_as!(
        OpenQuote,
        r#"
        select r.id, r.relay_request_id, r.price_micros, r.origin_currency, n.requirements,
            r.created_at, r.expires_at
        from (
            select request_id, requirements from quote where identity = $1
            order by request_id desc limit 1
        ) n join gateway_request r on r.id = n.request_id
        where r.state = 'quoted' and r.deposit_seen_at is null and r.expires_at > now()
        "#,
        identity.as_slice(),
    )
    .fetch_optional(pool)
    .await
}

/// What a quote is made from, as the database has it now.
#[derive(Debug)]
pub struct Sale {
    /// The database's time.
    pub now: DateTime<Utc>,
    /// Who sells; `None` when there is no such listing.
    pub seller_id: Option<Uuid>,
    /// `draft`, `active` or `suspended`.
    pub status: Option<String>,
    /// `free` or `per_call`.
    pub pricing_model: Option<String>,
    /// The price.
    pub price_micros: Option<i64>,
    /// The buyer's wallet for refunds: her default payment wallet of the family, else the oldest.
    pub wallet: Option<String>,
    /// Her open unpaid quotes, counted as far as the limit.
    pub open_quotes: i64,
}

/// Reads what a quote is made from.
pub async fn sale(
    db: impl PgExecutor<'_>,
    buyer: Uuid,
    listing: Uuid,
    family: &str,
    open_quotes_max: i64,
) -> Result<Sale, sqlx::Error> {
    sqlx::query_as!(
        Sale,
        r#"
        select now() as "now!", l.seller_id as "seller_id?", l.status as "status?",
            l.pricing_model as "pricing_model?", l.price_micros as "price_micros?",
            (select w.address from wallet w
                where w.profile_id = $1 and w.chain = $3 and w.status = 'active'
                order by w.is_default_payment desc, w.id limit 1) as wallet,
            (select count(*) from (
                select from deadline d where d.unpaid_by = $1
                    and d.due_at > now() + make_interval(secs => $4)
                limit $5) o) as "open_quotes!"
        from (select) one left join listing l on l.id = $2
        "#,
        buyer,
        listing,
        family,
        f64::from(EXPIRY_MARGIN_SECONDS),
        open_quotes_max,
    )
    .fetch_one(db)
    .await
}

/// A quote to be written.
#[derive(Debug)]
pub struct NewQuote<'a> {
    /// Ours.
    pub id: Uuid,
    /// The provider's id.
    pub relay_request_id: &'a str,
    /// Who buys.
    pub buyer: Uuid,
    /// Who sells.
    pub seller: Uuid,
    /// What.
    pub listing: Uuid,
    /// The exact body.
    pub body_sha256: &'a [u8],
    /// Its length.
    pub request_bytes: i32,
    /// Paid in.
    pub origin_currency: &'a str,
    /// The buyer's key.
    pub idempotency_key: Option<&'a str>,
    /// The price.
    pub price_micros: i64,
    /// The fee rule.
    pub fee_rate_ppm: i32,
    /// When it was asked for.
    pub created_at: DateTime<Utc>,
    /// Until when it may be paid.
    pub expires_at: DateTime<Utc>,
    /// What makes it the same purchase.
    pub identity: &'a [u8],
    /// What the buyer is shown.
    pub requirements: &'a str,
    /// Where it settles.
    pub recipient: &'a str,
    /// On which chain.
    pub chain_id: i64,
    /// In which token.
    pub token: &'a str,
    /// Where to pay.
    pub deposit_address: &'a str,
    /// Where refunds go.
    pub refund_to: &'a str,
}

/// Writes a quote while its buyer has fewer than `open_max` open ones, counted now and one after the
/// other: quotes that are made at the same time were all counted before any of them was written.
/// Tells whether it was written.
pub async fn insert_within(
    pool: &PgPool,
    new: &NewQuote<'_>,
    open_max: u32,
) -> Result<bool, sqlx::Error> {
    let mut tx = pool.begin().await?;
    // Buyers whose ids end in the same eight bytes would only wait for each other.
    let (_, low) = new.buyer.as_u64_pair();
    sqlx::query("select pg_advisory_xact_lock($1)")
        .bind(low.cast_signed())
        .execute(&mut *tx)
        .await?;
    let sale = sale(&mut *tx, new.buyer, new.listing, "", open_max.into()).await?;
    if sale.open_quotes >= i64::from(open_max) {
        return Ok(false);
    }
    insert(&mut *tx, new).await?;
    tx.commit().await?;
    Ok(true)
}

/// Writes a quote: the request, what was asked, its deadline, and word to the caches.
pub async fn insert(db: impl PgExecutor<'_>, new: &NewQuote<'_>) -> Result<(), sqlx::Error> {
    sqlx::query!(
        r#"
        with request as (
            insert into gateway_request (id, relay_request_id, buyer_id, seller_id, listing_id,
                body_sha256, request_bytes, origin_currency, idempotency_key, price_micros,
                fee_rate_ppm, created_at, expires_at)
            values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
        ), quoted as (
            insert into quote (request_id, identity, requirements, recipient, destination_chain_id,
                destination_token, destination_amount, deposit_address, refund_to)
            values ($1, $14, $15, $16, $17, $18, $10, $19, $20)
        ), watched as (
            insert into deadline (request_id, due_at, unpaid_by)
            values ($1, $13::timestamptz + make_interval(secs => $21), $3)
        )
        insert into outbox (quote_identity) values ($14)
        "#,
        new.id,
        new.relay_request_id,
        new.buyer,
        new.seller,
        new.listing,
        new.body_sha256,
        new.request_bytes,
        new.origin_currency,
        new.idempotency_key,
        new.price_micros,
        new.fee_rate_ppm,
        new.created_at,
        new.expires_at,
        new.identity,
        new.requirements,
        new.recipient,
        new.chain_id,
        new.token,
        new.deposit_address,
        new.refund_to,
        f64::from(EXPIRY_MARGIN_SECONDS),
    )
    .execute(db)
    .await?;
    Ok(())
}

/// A purchase, as it was asked for: to make it once more.
#[derive(Debug)]
pub struct Purchase {
    /// What.
    pub listing_id: Uuid,
    /// The exact body.
    pub body_sha256: Vec<u8>,
    /// Its length.
    pub request_bytes: i32,
    /// Paid in.
    pub origin_currency: String,
    /// The buyer's key.
    pub idempotency_key: Option<String>,
}

/// Reads a buyer's purchase by its payment.
pub async fn purchase(
    pool: &PgPool,
    buyer: Uuid,
    relay_request_id: &str,
) -> Result<Option<Purchase>, sqlx::Error> {
    sqlx::query_as!(
        Purchase,
        "select listing_id, body_sha256, request_bytes, origin_currency, idempotency_key
        from gateway_request where relay_request_id = $1 and buyer_id = $2",
        relay_request_id,
        buyer,
    )
    .fetch_optional(pool)
    .await
}
