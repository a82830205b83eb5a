//! What a profile sees of the ledger: its own rows, and their sums.

use std::sync::Arc;

use axum::extract::State;
use chrono::{DateTime, Utc};
use crochet_shared::clock::{rfc3339_millis, rfc3339_millis_option};
use crochet_shared::envelope::Success;
use crochet_shared::id::{EntryId, ListingId, ProfileId, RequestId};
use crochet_shared::money::Micros;
use serde::Serialize;
use sqlx::PgPool;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use super::entry::{Account, DIRECTIONS, Kind, SHOWN_ACCOUNTS, TYPE_FILTERS};
use super::payout;
use super::totals::{self, Total, Wanted};
use crate::answer::{Data, Listed};
use crate::app::App;
use crate::describe::{self, schema_type};
use crate::error::ApiError;
use crate::identity::Agent;
use crate::paging::{Page, Paging, PagingParams, ROWS_MAX};
use crate::query::Query;

/// What a buyer has: payments and adjustments.
const BUYER: &[Kind] = &[
    Kind::GatewayPayment,
    Kind::RefundDue,
    Kind::RefundPaid,
    Kind::Surplus,
    Kind::Correction,
];
/// What a seller has: credits, fees for information, and adjustments.
const SELLER: &[Kind] = &[Kind::SellerCredit, Kind::MarketplaceFee, Kind::Correction];
/// Both.
const ALL: &[Kind] = &[
    Kind::GatewayPayment,
    Kind::RefundDue,
    Kind::RefundPaid,
    Kind::Surplus,
    Kind::SellerCredit,
    Kind::MarketplaceFee,
    Kind::Correction,
];
const ROLES: [(&str, &[Kind]); 3] = [("buyer", BUYER), ("seller", SELLER), ("all", ALL)];

/// Public routes.
pub fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::default()
        .routes(routes!(list))
        .routes(routes!(summary))
}

/// Which rows of a profile.
#[derive(Debug)]
struct Filter {
    party: Uuid,
    kinds: Vec<Kind>,
    listing: Option<Uuid>,
    request: Option<Uuid>,
    from: Option<DateTime<Utc>>,
    to: Option<DateTime<Utc>>,
}

#[derive(Debug)]
struct Row {
    id: Uuid,
    request_id: Uuid,
    kind: Kind,
    debit_account: Account,
    credit_account: Account,
    amount_micros: i64,
    counterparty_id: Uuid,
    listing_id: Uuid,
    created_at: DateTime<Utc>,
}

/// One row, as it is shown.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = LedgerEntry)]
struct Entry {
    id: EntryId,
    #[serde(rename = "type")]
    #[schema(extensions(("x-one-of" = json!(describe::names(&TYPE_FILTERS)))))]
    kind: &'static str,
    #[schema(extensions(("x-one-of" = json!(SHOWN_ACCOUNTS))))]
    account: &'static str,
    /// From that account's view.
    #[schema(extensions(("x-one-of" = json!(DIRECTIONS))))]
    direction: &'static str,
    /// Positive, rounded half up for display.
    #[schema(example = 100)]
    amount_cents: i64,
    /// Positive and exact, in millionths of a dollar.
    #[schema(example = 1_000_000)]
    amount_micros: i64,
    #[schema(example = "USD")]
    currency: &'static str,
    request_id: RequestId,
    listing_id: ListingId,
    counterparty_id: ProfileId,
    #[schema(example = "Payment for a gateway call")]
    description: &'static str,
    #[serde(with = "rfc3339_millis")]
    created_at: DateTime<Utc>,
}

impl From<Row> for Entry {
    fn from(row: Row) -> Self {
        let shown = row.kind.shown(row.debit_account, row.credit_account);
        Self {
            id: EntryId(row.id),
            kind: shown.kind,
            account: shown.account,
            direction: shown.direction,
            amount_cents: Micros(row.amount_micros).cents(),
            amount_micros: row.amount_micros,
            currency: "USD",
            request_id: RequestId(row.request_id),
            listing_id: ListingId(row.listing_id),
            counterparty_id: ProfileId(row.counterparty_id),
            description: shown.description,
            created_at: row.created_at,
        }
    }
}

/// The filters of `GET /ledger`.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "read by the API document")]
struct LedgerParams {
    /// As whom; `all` when absent.
    #[param(value_type = Roles, required = false, inline)]
    role: Option<String>,
    /// Only entries of this type.
    #[param(value_type = Types, required = false, inline)]
    r#type: Option<String>,
    /// Only what was sold by this listing.
    listing_id: Option<ListingId>,
    /// Only what this purchase moved.
    request_id: Option<RequestId>,
    /// From this time on.
    #[param(value_type = describe::Time, required = false, inline)]
    from: Option<String>,
    /// Before this time.
    #[param(value_type = describe::Time, required = false, inline)]
    to: Option<String>,
}

/// What is summed by `GET /ledger/summary`.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "read by the API document")]
struct SummaryParams {
    /// As whom; `all` when absent.
    #[param(value_type = Roles, required = false, inline)]
    role: Option<String>,
    /// From this time on.
    #[param(value_type = describe::Time, required = false, inline)]
    from: Option<String>,
    /// Before this time.
    #[param(value_type = describe::Time, required = false, inline)]
    to: Option<String>,
}

schema_type!(Roles = describe::one_of(&ROLES));
schema_type!(Types = describe::one_of(&TYPE_FILTERS));

/// Lists ledger entries, the newest first.
///
/// A buyer sees her payments and adjustments; a seller her credits (net: income is their sum), fees
/// (for information) and adjustments.
#[utoipa::path(get, path = "/ledger", tag = "Ledger", operation_id = "listLedgerEntries",
    security(("bearer" = [])), params(LedgerParams, PagingParams),
    responses((status = 200, body = Listed<Entry>)))]
async fn list(
    State(app): State<Arc<App>>,
    agent: Agent,
    mut query: Query,
) -> Result<Page<Entry>, ApiError> {
    let paging = Paging::read(&mut query);
    let role = query.one_of("role", &ROLES).unwrap_or(ALL);
    let kinds = query.one_of("type", &TYPE_FILTERS).unwrap_or(ALL);
    let listing = query.parsed::<ListingId>("listing_id", "must be a listing's id");
    let request = query.parsed::<RequestId>("request_id", "must be a gw_req_ id");
    let (from, to) = (query.time("from"), query.time("to"));
    query.finish()?;
    let filter = Filter {
        party: agent.profile.0,
        kinds: role
            .iter()
            .copied()
            .filter(|kind| kinds.contains(kind))
            .collect(),
        listing: listing.map(|listing| listing.0),
        request: request.map(|request| request.0),
        from,
        to,
    };
    let pool = app.db.pool();
    let total = if paging.counts() {
        Some(count(pool, &filter).await?)
    } else {
        None
    };
    let rows = read(pool, &filter, &paging).await?;
    paging.page(rows, total, |row| row.id, Entry::from)
}

async fn read(pool: &PgPool, filter: &Filter, paging: &Paging) -> Result<Vec<Row>, sqlx::Error> {
    sqlx::query_as!(
        Row,
        r#"
        select id, request_id, kind as "kind: Kind", debit_account as "debit_account: Account",
            credit_account as "credit_account: Account", amount_micros, counterparty_id, listing_id, created_at
        from transfer
        where party_id = $1 and kind = any($2::transfer_kind[])
            and ($3::uuid is null or listing_id = $3)
            and ($4::uuid is null or request_id = $4)
            and ($5::timestamptz is null or created_at >= $5)
            and ($6::timestamptz is null or created_at < $6)
            and ($7::uuid is null or id < $7)
        order by id desc limit $8 offset $9
        "#,
        filter.party,
        &filter.kinds as &[Kind],
        filter.listing,
        filter.request,
        filter.from,
        filter.to,
        paging.after(),
        paging.fetch(),
        paging.offset(),
    )
    .fetch_all(pool)
    .await
}

async fn count(pool: &PgPool, filter: &Filter) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar!(
        r#"
        select count(*) as "count!" from (
            select from transfer
            where party_id = $1 and kind = any($2::transfer_kind[])
                and ($3::uuid is null or listing_id = $3)
                and ($4::uuid is null or request_id = $4)
                and ($5::timestamptz is null or created_at >= $5)
                and ($6::timestamptz is null or created_at < $6)
            limit $7
        ) counted
        "#,
        filter.party,
        &filter.kinds as &[Kind],
        filter.listing,
        filter.request,
        filter.from,
        filter.to,
        ROWS_MAX,
    )
    .fetch_one(pool)
    .await
}

/// A sum by type.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = LedgerSum)]
struct Sum {
    #[serde(rename = "type")]
    #[schema(extensions(("x-one-of" = json!(describe::names(&TYPE_FILTERS)))))]
    kind: &'static str,
    #[schema(extensions(("x-one-of" = json!(SHOWN_ACCOUNTS))))]
    account: &'static str,
    #[schema(extensions(("x-one-of" = json!(DIRECTIONS))))]
    direction: &'static str,
    #[schema(example = 3)]
    count: i64,
    #[schema(example = 3_000_000)]
    amount_micros: i64,
    #[schema(example = 300)]
    amount_cents: i64,
}

/// Sums of a time.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = LedgerSummary)]
struct Summary {
    #[serde(with = "rfc3339_millis_option")]
    from: Option<DateTime<Utc>>,
    #[serde(with = "rfc3339_millis_option")]
    to: Option<DateTime<Utc>>,
    #[schema(example = "USD")]
    currency: &'static str,
    by_type: Vec<Sum>,
    /// Income and money owed back, less payments.
    #[schema(example = -3_000_000)]
    net_micros: i64,
    /// What of it the party is still owed.
    #[schema(example = 0)]
    payable_micros: i64,
}

/// Sums your ledger entries by type.
#[utoipa::path(get, path = "/ledger/summary", tag = "Ledger", operation_id = "getLedgerSummary",
    security(("bearer" = [])), params(SummaryParams),
    responses((status = 200, body = Success<Summary>)))]
async fn summary(
    State(app): State<Arc<App>>,
    agent: Agent,
    mut query: Query,
) -> Result<Data<Summary>, ApiError> {
    let role = query.one_of("role", &ROLES).unwrap_or(ALL);
    let (from, to) = (query.time("from"), query.time("to"));
    query.finish()?;
    // Whatever is summed, calls are claimed and settled beside it.
    let pool = app.db.browsing();
    let wanted = Wanted {
        party: agent.profile.0,
        kinds: role,
        from,
        to,
    };
    let rows = totals::sums(pool, wanted).await?;
    let total = |sign: fn(&Total) -> i64| {
        rows.iter().fold(0_i64, |sum, row| {
            sum.saturating_add(sign(row).saturating_mul(row.amount_micros))
        })
    };
    let paid_out = if role.contains(&Kind::SellerCredit) {
        payout::paid_out(pool, agent.profile.0, from, to).await?
    } else {
        0
    };
    let net_micros = total(|row| row.kind.net_sign());
    let payable_micros = total(|row| {
        i64::from(row.credit_account.is_payable())
            .saturating_sub(i64::from(row.debit_account.is_payable()))
    })
    .saturating_sub(paid_out);
    let by_type = rows.iter().map(shown).collect();
    Ok(Data(Summary {
        from,
        to,
        currency: "USD",
        by_type,
        net_micros,
        payable_micros,
    }))
}

fn shown(row: &Total) -> Sum {
    let shown = row.kind.shown(row.debit_account, row.credit_account);
    Sum {
        kind: shown.kind,
        account: shown.account,
        direction: shown.direction,
        count: row.count,
        amount_micros: row.amount_micros,
        amount_cents: Micros(row.amount_micros).cents(),
    }
}
