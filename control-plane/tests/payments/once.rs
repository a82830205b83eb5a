//! Of what there is once, the database itself refuses a second, whoever writes it. Locks, and looks before a
//! write, keep programs from ever meeting most of these refusals: nothing else would show that one is gone.

use crochet_shared::internal::SettleAnswer;
use crochet_shared::outcome::SellerFailure;
use sqlx::PgPool;

use super::stage::{Stage, failure};

/// Keys that money and identity rest on, and of each a row that would be another's equal in it alone.
const SECOND_ROWS: [(&str, &str); 23] = [
    (
        "gateway_request_pkey",
        "insert into gateway_request (id, relay_request_id, buyer_id, seller_id, listing_id, body_sha256, origin_currency, request_bytes, price_micros, fee_rate_ppm, expires_at)
        select id, '0xother', buyer_id, seller_id, listing_id, body_sha256, origin_currency, request_bytes, price_micros, fee_rate_ppm, expires_at from gateway_request limit 1",
    ),
    // One payment at the provider is one purchase, whoever buys.
    (
        "relay_request_once",
        "insert into gateway_request (id, relay_request_id, buyer_id, seller_id, listing_id, body_sha256, origin_currency, request_bytes, price_micros, fee_rate_ppm, expires_at)
        select gen_random_uuid(), relay_request_id, seller_id, seller_id, listing_id, body_sha256, origin_currency, request_bytes, price_micros, fee_rate_ppm, expires_at from gateway_request limit 1",
    ),
    ("quote_pkey", "insert into quote select * from quote limit 1"),
    (
        "payment_evidence_pkey",
        "insert into payment_evidence select * from payment_evidence limit 1",
    ),
    ("attempt_pkey", "insert into attempt select * from attempt"),
    (
        "transfer_pkey",
        "insert into transfer select party_id, id, request_id, 'surplus', 'provider', 'refunds_payable', 1, counterparty_id, listing_id from transfer where kind = 'seller_credit'",
    ),
    (
        "transfer_once",
        "insert into transfer select counterparty_id, gen_random_uuid(), request_id, kind, debit_account, credit_account, 1, party_id, listing_id from transfer where kind = 'seller_credit'",
    ),
    ("ledger_fold_pkey", "insert into ledger_fold select * from ledger_fold"),
    (
        "payout_pkey",
        "insert into payout select id, seller_id, amount_micros, chain, address, '0xother' from payout",
    ),
    (
        "payout_of_transaction_once",
        "insert into payout select gen_random_uuid(), buyer_id, 2, chain, address, tx_hash from payout, gateway_request limit 1",
    ),
    (
        "payout_reversal_pkey",
        "insert into payout_reversal select payout_id, 'again' from payout_reversal",
    ),
    (
        "refund_transaction_pkey",
        "insert into refund_transaction select request_id, buyer_id, '0xother' from refund_transaction",
    ),
    ("profile_pkey", "insert into profile select * from profile limit 1"),
    (
        "wallet_pkey",
        "insert into wallet (id, profile_id, chain, address) select id, profile_id, chain, 'other' from wallet",
    ),
    // Of whichever profile.
    (
        "wallet_address_once",
        "insert into wallet (id, profile_id, chain, address) select gen_random_uuid(), seller_id, chain, address from wallet, listing",
    ),
    (
        "wallet_one_default_payment",
        "insert into wallet (id, profile_id, chain, address, is_default_payment) select gen_random_uuid(), profile_id, 'evm', 'other', true from wallet",
    ),
    (
        "wallet_one_default_payout",
        "insert into wallet (id, profile_id, chain, address, is_default_payout) select gen_random_uuid(), profile_id, 'evm', 'other', true from wallet",
    ),
    (
        "api_key_digest_once",
        "insert into api_key (id, profile_id, name, prefix, digest) select gen_random_uuid(), seller_id, 'other', prefix, digest from api_key, listing",
    ),
    ("challenge_pkey", "insert into challenge select * from challenge"),
    (
        "human_pkey",
        "insert into human select profile_id, 'other', 'other', password_hash from human",
    ),
    (
        "human_email_once",
        "insert into human select seller_id, email, email_folded, password_hash from human, listing",
    ),
    // One secret in force, and at a moment one that was replaced.
    ("endpoint_pkey", "insert into endpoint select * from endpoint"),
    (
        "previous_secret_pkey",
        "insert into previous_secret select * from previous_secret",
    ),
];

/// One of everything, the seller without wallet, key and account.
async fn furnished(pool: PgPool) -> Stage {
    let stage = Stage::new(pool).await;
    stage.delivered().await;
    let request = stage.paid().await;
    let (grant, owner) = stage.claimed(&request).await;
    let failed = failure(&grant, owner, SellerFailure::Status);
    let released = stage.settle(failed).await;
    assert!(matches!(released, SettleAnswer::Released { .. }));
    stage
        .run(
            "update wallet set is_default_payment = true, is_default_payout = true;
            insert into payout (id, seller_id, amount_micros, chain, address, tx_hash)
                select gen_random_uuid(), seller_id, 1, 'evm', '0x', '0xpaid' from listing;
            insert into payout_reversal (payout_id, reason) select id, 'a slip' from payout;
            insert into refund_transaction (request_id, buyer_id, tx_hash)
                select id, buyer_id, '0xback' from gateway_request limit 1;
            insert into api_key (id, profile_id, name, prefix, digest)
                select gen_random_uuid(), profile_id, 'key', 'shown', sha256('key') from wallet;
            insert into challenge (nonce, purpose, expires_at) values ('nonce', 'register', now());
            insert into human (profile_id, email, email_folded, password_hash)
                select profile_id, 'Ada@x.org', 'ada@x.org', '' from wallet;
            insert into previous_secret (listing_id, rotated_at, secret_sealed, expires_at)
                select listing_id, now(), secret_sealed, now() from endpoint",
        )
        .await;
    stage
}

#[sqlx::test(migrations = "./migrations")]
async fn of_what_there_is_once_a_second_is_refused(pool: PgPool) {
    let stage = furnished(pool).await;
    for (key, second) in SECOND_ROWS {
        assert_eq!(stage.refusal(second).await, key, "{second}");
    }
    // Each day's partition has the key under a name of its own.
    let chunk = "insert into stored_answer select * from stored_answer";
    let key = stage.refusal(chunk).await;
    assert!(
        key.starts_with("stored_answer_") && key.ends_with("_pkey"),
        "{key}"
    );
}
