//! Payouts: what sellers were sent of what they are owed.
//!
//! A payout pays for many requests, so it is no transfer; together with the transfers that credit
//! `seller` it is that account. Written once, like them: one that was noted by mistake is taken back by
//! a row of its own, and what was owed before it is owed again.

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, PgExecutor};
use uuid::Uuid;

/// Money that an operator has sent to a seller.
#[derive(Clone, Copy, Debug)]
pub struct NewPayout<'a> {
    /// Its id.
    pub id: Uuid,
    /// To whom.
    pub seller: Uuid,
    /// How much, in micro-dollars.
    pub amount_micros: i64,
    /// On which chain.
    pub chain: &'a str,
    /// To which wallet.
    pub address: &'a str,
    /// By which transaction.
    pub tx_hash: &'a str,
}

/// What became of a payout's note.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PayoutNote {
    /// It is booked now; this much is owed after it.
    Booked {
        /// Micro-dollars.
        still_owed: i64,
    },
    /// The same payout was booked before.
    Known {
        /// Its id.
        id: Uuid,
        /// When.
        at: DateTime<Utc>,
        /// To which wallet.
        address: String,
        /// Micro-dollars owed now.
        still_owed: i64,
    },
    /// The transaction paid something else.
    OtherPayment {
        /// What.
        what: String,
    },
    /// Less than that is owed.
    MoreThanOwed {
        /// Micro-dollars.
        owed: i64,
    },
}

/// Waits for whoever else notes this transaction, so that one transaction is judged by one at a time.
pub async fn lock_transaction(tx: &mut PgConnection, tx_hash: &str) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "select pg_advisory_xact_lock(hashtextextended($1, 0))",
        tx_hash
    )
    .fetch_one(tx)
    .await?;
    Ok(())
}

/// Books a payout, never more than is owed. The seller's lock stands before the balance is read: two
/// at once are judged one after the other.
pub async fn payout(tx: &mut PgConnection, new: &NewPayout<'_>) -> Result<PayoutNote, sqlx::Error> {
    lock_transaction(tx, new.tx_hash).await?;
    lock_seller(tx, new.seller).await?;
    let owed = owed(&mut *tx, new.seller).await?;
    if let Some(other) = other_payment(tx, new, owed).await? {
        return Ok(other);
    }
    let still_owed = owed.saturating_sub(new.amount_micros);
    if still_owed < 0 {
        return Ok(PayoutNote::MoreThanOwed { owed });
    }
    // All payouts of this transaction were taken back; each names the one before it.
    sqlx::query!(
        "insert into payout (id, seller_id, amount_micros, chain, address, tx_hash, instead_of)
         values ($1, $2, $3, $4, $5, $6, (
            select p.id from payout p where p.tx_hash = $6
                and not exists (select from payout later where later.instead_of = p.id and later.tx_hash = $6)))",
        new.id,
        new.seller,
        new.amount_micros,
        new.chain,
        new.address,
        new.tx_hash,
    )
    .execute(tx)
    .await?;
    Ok(PayoutNote::Booked { still_owed })
}

/// What the transaction was noted for before, if anything.
async fn other_payment(
    tx: &mut PgConnection,
    new: &NewPayout<'_>,
    owed: i64,
) -> Result<Option<PayoutNote>, sqlx::Error> {
    let payout = standing(tx, new.tx_hash).await?;
    if let Some(found) = payout {
        let is_same = found.seller_id == new.seller && found.amount_micros == new.amount_micros;
        return Ok(Some(if is_same {
            PayoutNote::Known {
                id: found.id,
                at: found.created_at,
                address: found.address,
                still_owed: owed,
            }
        } else {
            PayoutNote::OtherPayment {
                what: format!(
                    "{} to seller {}",
                    crochet_shared::money::Micros(found.amount_micros),
                    found.seller_id
                ),
            }
        }));
    }
    let refund = sqlx::query_scalar!(
        "select request_id from refund_transaction where tx_hash = $1 limit 1",
        new.tx_hash,
    )
    .fetch_optional(tx)
    .await?;
    Ok(refund.map(|request| PayoutNote::OtherPayment {
        what: format!("the refund of {}", crochet_shared::id::RequestId(request)),
    }))
}

/// A payout that was not taken back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payout {
    /// Its id.
    pub id: Uuid,
    /// To whom.
    pub seller_id: Uuid,
    /// How much, in micro-dollars.
    pub amount_micros: i64,
    /// To which wallet.
    pub address: String,
    /// When it was noted.
    pub created_at: DateTime<Utc>,
}

/// The payout that a transaction stands noted for.
async fn standing(tx: &mut PgConnection, tx_hash: &str) -> Result<Option<Payout>, sqlx::Error> {
    sqlx::query_as!(
        Payout,
        "select id, seller_id, amount_micros, address, created_at from payout p
         where tx_hash = $1 and not exists (select from payout_reversal r where r.payout_id = p.id)",
        tx_hash,
    )
    .fetch_optional(tx)
    .await
}

/// A payout that an operator takes back.
#[derive(Clone, Copy, Debug)]
pub struct NewReversal<'a> {
    /// Whom it was noted for.
    pub seller: Uuid,
    /// With which transaction.
    pub tx_hash: &'a str,
    /// Which of the payouts that were noted for her with it, one after the other. When absent, the only one.
    pub payout: Option<Uuid>,
    /// Why.
    pub reason: &'a str,
}

/// That a payout was taken back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TakenBack {
    /// Which.
    pub payout_id: Uuid,
    /// When.
    pub created_at: DateTime<Utc>,
    /// Why.
    pub reason: String,
}

/// What became of taking a payout back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reversal {
    /// It is taken back now.
    Reversed {
        /// Which.
        id: Uuid,
        /// The payout's amount, in micro-dollars.
        amount: i64,
        /// Micro-dollars owed after it.
        owed: i64,
    },
    /// It was taken back before.
    Known {
        /// When and why.
        before: TakenBack,
        /// What the transaction was noted for anew since, when nothing said which payout is meant. It stands.
        noted_anew: Option<Payout>,
    },
    /// The transaction is noted for another seller.
    OtherSeller {
        /// Who.
        seller: Uuid,
        /// What it was noted for before that, which was taken back.
        before: Option<TakenBack>,
    },
    /// No payout was noted for the transaction.
    None,
}

/// Takes back the payout that a transaction stands noted for: a row of its own, whose amount is the
/// payout's, so the account is what it was before. Under the same locks as a payout.
///
/// Asked again after the transaction was noted anew, it finds what it took back: the newer payout is touched only
/// by who names it.
pub async fn reverse(
    tx: &mut PgConnection,
    new: &NewReversal<'_>,
) -> Result<Reversal, sqlx::Error> {
    lock_transaction(tx, new.tx_hash).await?;
    lock_seller(tx, new.seller).await?;
    let before = taken_back(tx, new).await?;
    let is_meant = |found: &Payout| new.payout.is_none_or(|payout| payout == found.id);
    let found = standing(tx, new.tx_hash).await?.filter(is_meant);
    let found = match (before, found) {
        (before, Some(found)) if found.seller_id != new.seller => {
            return Ok(Reversal::OtherSeller {
                seller: found.seller_id,
                before,
            });
        }
        (Some(before), noted_anew) => return Ok(Reversal::Known { before, noted_anew }),
        (None, Some(found)) => found,
        (None, None) => return Ok(Reversal::None),
    };
    sqlx::query!(
        "insert into payout_reversal (payout_id, reason) values ($1, $2)",
        found.id,
        new.reason,
    )
    .execute(&mut *tx)
    .await?;
    Ok(Reversal::Reversed {
        id: found.id,
        amount: found.amount_micros,
        owed: owed(tx, new.seller).await?,
    })
}

/// The newest of the payouts that may be meant which was taken back.
async fn taken_back(
    tx: &mut PgConnection,
    new: &NewReversal<'_>,
) -> Result<Option<TakenBack>, sqlx::Error> {
    sqlx::query_as!(
        TakenBack,
        "select r.payout_id, r.created_at, r.reason from payout_reversal r join payout p on p.id = r.payout_id
         where p.tx_hash = $1 and p.seller_id = $2 and ($3::uuid is null or p.id = $3)
         order by r.created_at desc limit 1",
        new.tx_hash,
        new.seller,
        new.payout,
    )
    .fetch_optional(tx)
    .await
}

async fn lock_seller(tx: &mut PgConnection, seller: Uuid) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "select 1 as one from profile where id = $1 for no key update",
        seller,
    )
    .fetch_optional(tx)
    .await?;
    Ok(())
}

/// What a seller is owed: what transfers moved into her account, less what payouts took out that were not
/// taken back.
pub async fn owed(db: impl PgExecutor<'_>, seller: Uuid) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar!(
        r#"
        select (coalesce((
            select sum(case when credit_account = 'seller' then amount_micros else -amount_micros end)
            from transfer where party_id = $1 and (credit_account = 'seller') <> (debit_account = 'seller')
        ), 0) - coalesce((
            select sum(amount_micros) from payout p where seller_id = $1
                and not exists (select from payout_reversal r where r.payout_id = p.id)
        ), 0))::int8 as "owed!"
        "#,
        seller,
    )
    .fetch_one(db)
    .await
}

/// What a seller was paid in a time, less what of it was taken back, whenever that was.
pub async fn paid_out(
    db: impl PgExecutor<'_>,
    seller: Uuid,
    from: Option<DateTime<Utc>>,
    to: Option<DateTime<Utc>>,
) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar!(
        r#"
        select coalesce(sum(amount_micros), 0)::int8 as "paid!" from payout p
        where seller_id = $1 and not exists (select from payout_reversal r where r.payout_id = p.id)
            and ($2::timestamptz is null or created_at >= $2)
            and ($3::timestamptz is null or created_at < $3)
        "#,
        seller,
        from,
        to,
    )
    .fetch_one(db)
    .await
}

/// What one seller is owed, and where she is paid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owed {
    /// Who.
    pub seller_id: Uuid,
    /// Her name.
    pub display_name: String,
    /// What her account was credited, in micro-dollars.
    pub credited_micros: i64,
    /// What she was paid.
    pub paid_micros: i64,
    /// The difference.
    pub owed_micros: i64,
    /// Chain of her default payout wallet.
    pub chain: Option<String>,
    /// Its address.
    pub address: Option<String>,
}

/// What every seller is owed who is owed at least `least`, the most first. Reads the whole ledger.
pub async fn all_owed(db: impl PgExecutor<'_>, least: i64) -> Result<Vec<Owed>, sqlx::Error> {
    sqlx::query_as!(
        Owed,
        r#"
        with credited as (
            select party_id as seller_id,
                sum(case when credit_account = 'seller' then amount_micros else -amount_micros end)::int8 as amount
            from transfer where (credit_account = 'seller') <> (debit_account = 'seller') group by party_id
        ), paid as (
            select seller_id, sum(amount_micros)::int8 as amount from payout p
            where not exists (select from payout_reversal r where r.payout_id = p.id) group by seller_id
        )
        select p.id as "seller_id!", p.display_name as "display_name!", c.amount as "credited_micros!",
            coalesce(o.amount, 0) as "paid_micros!", c.amount - coalesce(o.amount, 0) as "owed_micros!",
            w.chain as "chain?", w.address as "address?"
        from credited c
        join profile p on p.id = c.seller_id
        left join paid o on o.seller_id = c.seller_id
        left join wallet w on w.profile_id = c.seller_id and w.is_default_payout
        where c.amount - coalesce(o.amount, 0) >= $1
        order by 5 desc, 1
        "#,
        least,
    )
    .fetch_all(db)
    .await
}
