//! Books balance, whatever the amounts, and the database itself refuses what would unbalance them.

use crochet_shared::id::Owner;
use crochet_shared::internal::{Claim, ClaimAnswer, Grant, Settle, SettleAnswer};
use crochet_shared::money::{FEE_RATE, Micros};
use crochet_shared::outcome::SellerFailure;
use sqlx::PgPool;

use super::stage::{APPEND_ONLY, Stage, delivery, failure, unsent};

/// Payments of an ordinary and of a long run (`cargo dev test --full`).
const PAYMENTS: i32 = 4_000;
const PAYMENTS_FULL: i32 = 1_000_000;
/// Claims and settlements of one statement. A gateway sends fewer; the statements are the same.
const BATCH: usize = 1_000;

fn payments() -> i32 {
    if std::env::var_os("CROCHET_TEST_FULL").is_some() {
        PAYMENTS_FULL
    } else {
        PAYMENTS
    }
}

/// Payments of random amounts, from a micro to ten thousand dollars and each order of magnitude as likely
/// as the next, with the rows that recording their evidence writes.
async fn pay(stage: &Stage, count: i32) {
    let identity = stage.identity();
    sqlx::query(
        "insert into gateway_request (id, relay_request_id, buyer_id, seller_id, listing_id, body_sha256,
            origin_currency, request_bytes, price_micros, fee_rate_ppm, expires_at, state, paid_at, redeem_until)
        select gen_random_uuid(), '0x' || n, $2, $3, $4, $5, 'SOL', 14,
            greatest(1, least(10000000000, floor(exp(random() * ln(1e10)))))::int8, $6,
            now(), 'paid', now(), now() + interval '1 day'
        from generate_series(1, $1) n",
    )
    .bind(count)
    .bind(stage.buyer.0)
    .bind(stage.seller.0)
    .bind(stage.listing.0)
    .bind(&identity.body_sha256[..])
    .bind(i32::try_from(FEE_RATE.0).unwrap())
    .execute(stage.pool())
    .await
    .unwrap();
    stage
        .run(
            "insert into payment_evidence (request_id, amount, matches) select id, price_micros, true from gateway_request;
            insert into deadline (request_id, due_at) select id, redeem_until from gateway_request;
            insert into transfer (party_id, id, request_id, kind, debit_account, credit_account, amount_micros, counterparty_id, listing_id)
            select buyer_id, gen_random_uuid(), id, 'gateway_payment', 'provider', 'clearing', price_micros, seller_id, listing_id from gateway_request;
            analyze",
        )
        .await;
}

/// Ends a claim in one of the ways there are, most of them delivered.
fn ending(number: usize, grant: &Grant, owner: Owner) -> Settle {
    match number % 10 {
        0 => unsent(grant, owner),
        1 => failure(grant, owner, SellerFailure::Status),
        _ => delivery(grant, owner, b"{}"),
    }
}

async fn claim_and_settle(stage: &Stage, numbers: Vec<usize>) {
    let wanted: Vec<Claim> = numbers
        .iter()
        .map(|number| Claim {
            relay_request_id: format!("0x{number}"),
            buyer: stage.buyer,
            listing: Some(stage.listing),
            body_sha256: stage.identity().body_sha256,
            owner: Owner::new(),
            serve: true,
        })
        .collect();
    let answers = control_plane::payments::claim::claim(&stage.app, &wanted)
        .await
        .unwrap();
    let ended: Vec<Settle> = numbers
        .iter()
        .zip(&wanted)
        .zip(answers)
        .map(|((number, claim), answer)| match answer {
            ClaimAnswer::Claimed(grant) => ending(*number, &grant, claim.owner),
            other => panic!("not claimed: {other:?}"),
        })
        .collect();
    let settled = control_plane::payments::settle::settle(&stage.app, &ended).await;
    for (number, answer) in numbers.iter().zip(settled.unwrap()) {
        let delivered = answer == SettleAnswer::Delivered;
        assert_eq!(delivered, number % 10 > 1, "{number}: {answer:?}");
    }
}

#[sqlx::test(migrations = "./migrations")]
async fn the_books_balance_whatever_the_amounts(pool: PgPool) {
    let stage = Stage::new(pool).await;
    let count = payments();
    pay(&stage, count).await;
    let numbers: Vec<usize> = (1..=usize::try_from(count).unwrap()).collect();
    for batch in numbers.chunks(BATCH) {
        claim_and_settle(&stage, batch.to_vec()).await;
    }

    // Each division is the one that buyers and sellers are told.
    let divided: Vec<(i64, i64, Option<i64>)> = sqlx::query_as(
        "select r.price_micros, c.amount_micros, f.amount_micros from gateway_request r
        join transfer c on c.request_id = r.id and c.kind = 'seller_credit'
        left join transfer f on f.request_id = r.id and f.kind = 'marketplace_fee'",
    )
    .fetch_all(stage.pool())
    .await
    .unwrap();
    assert_eq!(
        divided.len(),
        numbers.iter().filter(|number| *number % 10 > 1).count()
    );
    for (price, credit, fee) in divided {
        let split = FEE_RATE.split(Micros(price)).unwrap();
        assert_eq!(
            (Micros(credit), Micros(fee.unwrap_or(0))),
            (split.seller, split.fee),
            "{price}"
        );
    }
    // What came in is what went out and what still waits; to the micro.
    let (paid, shared, waiting): (i64, i64, i64) = sqlx::query_as(
        "select (select sum(amount_micros) from transfer where kind = 'gateway_payment')::int8,
            (select sum(amount_micros) from transfer where kind in ('seller_credit', 'marketplace_fee'))::int8,
            (select sum(price_micros) from gateway_request where state = 'paid')::int8",
    )
    .fetch_one(stage.pool())
    .await
    .unwrap();
    assert_eq!(paid, shared + waiting);
    stage.assert_audit_empty().await;
    refuses_what_would_unbalance_them(&stage).await;
    stage.assert_audit_empty().await;
}

/// Whoever speaks SQL to the ledger can add a balanced row of a kind that is not there yet, and nothing else.
async fn refuses_what_would_unbalance_them(stage: &Stage) {
    let columns = "party_id, id, request_id, kind, debit_account, credit_account, amount_micros, counterparty_id, listing_id";
    let like = |kind: &str, debit: &str, credit: &str, amount: &str| {
        format!(
            "insert into transfer ({columns}) select party_id, gen_random_uuid(), request_id, '{kind}', '{debit}', '{credit}', {amount}, counterparty_id, listing_id
            from transfer where kind = 'seller_credit'
                and request_id in (select request_id from transfer where kind = 'marketplace_fee') limit 1"
        )
    };
    for (by, statement) in [
        (
            APPEND_ONLY,
            "update transfer set amount_micros = amount_micros + 1".to_owned(),
        ),
        (
            APPEND_ONLY,
            "update transfer set credit_account = 'fees' where kind = 'seller_credit'".to_owned(),
        ),
        (
            APPEND_ONLY,
            "delete from transfer where kind = 'marketplace_fee'".to_owned(),
        ),
        (APPEND_ONLY, "truncate transfer".to_owned()),
        (
            "transfer_once",
            like("seller_credit", "clearing", "seller", "1"),
        ),
        (
            "transfer_once",
            like("marketplace_fee", "clearing", "fees", "1"),
        ),
        (
            "transfer_amount_is_positive",
            like("refund_due", "clearing", "refunds_payable", "0"),
        ),
        (
            "transfer_amount_is_positive",
            like("refund_due", "clearing", "refunds_payable", "-1"),
        ),
        (
            "transfer_accounts_of_kind",
            like("refund_due", "clearing", "clearing", "1"),
        ),
        (
            "transfer_accounts_of_kind",
            like("refund_due", "provider", "seller", "1"),
        ),
        (
            "transfer_accounts_of_kind",
            like("correction", "fees", "seller", "1"),
        ),
        (
            "gateway_request_price",
            "update gateway_request set price_micros = 0".to_owned(),
        ),
        (
            "gateway_request_claim_is_owned",
            "update gateway_request set state = 'claimed', owner = null where state = 'paid'"
                .to_owned(),
        ),
        (
            "gateway_request_delivered_is_whole",
            "update gateway_request set delivered_at = null where state = 'delivered'".to_owned(),
        ),
    ] {
        assert_eq!(stage.refusal(&statement).await, by, "{statement}");
    }
}
