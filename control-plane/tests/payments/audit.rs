//! Each invariant catches a fault that is put there on purpose, and the ledger refuses changes.

use control_plane::ledger::audit::INVARIANTS;
use crochet_shared::clock;
use crochet_shared::id::uuid_v7;
use sqlx::PgPool;

use super::stage::{APPEND_ONLY, Stage, refused_by};

/// A ledger with one of everything that is right.
async fn furnished(pool: PgPool) -> Stage {
    let stage = Stage::new(pool).await;
    stage.quoted().await;
    stage.paid().await;
    stage.delivered().await;
    let claimed = stage.paid().await;
    stage.claimed(&claimed).await;
    let other = stage.quoted().await;
    stage.evidence(&other, false, Some(5)).await;
    stage.run(
        "insert into provider_success (relay_request_id, provider_updated_at, seen_at)
        select relay_request_id, now(), now() - interval '2 minutes' from gateway_request where state = 'paid'",
    )
    .await;
    stage.assert_audit_empty().await;
    stage
}

/// Puts a fault there past every constraint, and names the invariants that see it.
async fn caught(stage: &Stage, fault: &'static str) -> Vec<&'static str> {
    stage
        .run(
            "alter table transfer disable trigger all; alter table gateway_request disable trigger all;
            alter table gateway_request drop constraint gateway_request_delivered_is_whole;
            alter table transfer drop constraint transfer_accounts_of_kind;
            drop index transfer_once",
        )
        .await;
    stage.run(fault).await;
    let mut names: Vec<_> = stage
        .audit()
        .await
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    names.dedup();
    names
}

macro_rules! catches {
    ($($test:ident: $invariant:literal, $fault:literal;)*) => {
        $(
            #[sqlx::test(migrations = "./migrations")]
            async fn $test(pool: PgPool) {
                let stage = furnished(pool).await;
                let names = caught(&stage, $fault).await;
                assert!(names.contains(&$invariant), "{names:?}");
            }
        )*

        #[test]
        fn every_invariant_has_a_fault_that_it_catches() {
            let tested = [$($invariant),*];
            for invariant in INVARIANTS {
                assert!(tested.contains(&invariant.name), "{}", invariant.name);
            }
        }
    };
}

catches! {
    a_payment_that_vanished_is_seen: "payments_balance",
        "delete from transfer where kind = 'gateway_payment' and request_id in (select id from gateway_request where state = 'claimed')";
    a_second_credit_is_seen: "payments_balance",
        "insert into transfer select party_id, gen_random_uuid(), request_id, kind, debit_account, credit_account, amount_micros, counterparty_id, listing_id from transfer where kind = 'seller_credit'";
    a_wrong_fee_is_seen: "fee_rule",
        "update transfer set amount_micros = amount_micros + 1 where kind = 'marketplace_fee'";
    a_state_without_its_transfers_is_seen: "state_agrees_with_ledger",
        "update gateway_request set state = 'delivered', delivered_at = now(), response_sha256 = '' where state = 'claimed'";
    a_settlement_without_evidence_is_seen: "evidence_covers_price",
        "delete from payment_evidence where request_id in (select id from gateway_request where state = 'delivered')";
    evidence_of_too_little_is_seen: "evidence_covers_price",
        "update payment_evidence set amount = 999999 where request_id in (select id from gateway_request where state = 'paid')";
    a_claim_that_never_ends_is_seen: "claims_end",
        "update gateway_request set lease_until = now() - interval '121 seconds' where state = 'claimed'";
    an_answer_that_was_lost_is_seen: "answers_are_stored",
        "delete from stored_answer";
    a_transfer_of_nobody_is_seen: "no_orphan_transfer",
        "insert into transfer select party_id, gen_random_uuid(), gen_random_uuid(), kind, debit_account, credit_account, amount_micros, counterparty_id, listing_id from transfer where kind = 'seller_credit'";
    a_credit_to_the_buyer_is_seen: "no_orphan_transfer",
        "update transfer set party_id = counterparty_id where kind = 'seller_credit'";
    a_success_nobody_recorded_is_seen: "successes_are_in_evidence",
        "insert into provider_success values ('0xnobody', now(), now() - interval '2 minutes')";
    a_success_of_long_ago_that_nobody_recorded_is_seen: "successes_are_in_evidence",
        "insert into provider_success values ('0xnobody', now() - interval '90 days', now() - interval '90 days')";
    money_left_in_a_closed_request_is_seen: "closed_accounts_are_empty",
        "delete from transfer where kind = 'marketplace_fee'";
    a_refund_paid_but_not_closed_is_seen: "closed_accounts_are_empty",
        "insert into transfer select party_id, gen_random_uuid(), request_id, 'refund_paid', 'refunds_payable', 'provider', amount_micros, counterparty_id, listing_id from transfer where kind = 'refund_due'";
    a_refund_of_a_delivered_call_that_was_paid_exactly_is_seen: "state_agrees_with_ledger",
        "insert into transfer select counterparty_id, gen_random_uuid(), request_id, 'refund_paid', 'refunds_payable', 'provider', 1, party_id, listing_id from transfer where kind = 'seller_credit'";
    a_sum_without_its_transfers_is_seen: "hours_agree_with_ledger",
        "insert into ledger_hour select party_id, date_trunc('hour', created_at, 'UTC'), kind, debit_account, credit_account, 1, amount_micros from transfer where kind = 'seller_credit'";
    a_payout_beyond_the_credits_is_seen: "payouts_within_credits",
        "insert into payout select gen_random_uuid(), party_id, amount_micros + 1, 'evm', '0x', '0x' from transfer where kind = 'seller_credit'";
    an_open_request_nobody_watches_is_seen: "open_requests_are_watched",
        "delete from deadline where request_id in (select id from gateway_request where state = 'quoted')";
    a_closed_request_still_watched_is_seen: "open_requests_are_watched",
        "insert into deadline select id, now() from gateway_request where state = 'delivered'";
    a_claim_nobody_looks_at_again_is_seen: "claims_are_watched",
        "delete from lease";
}

#[sqlx::test(migrations = "./migrations")]
async fn the_ledger_is_append_only_and_posts_each_kind_once(pool: PgPool) {
    let stage = furnished(pool).await;
    for (by, statement) in [
        (APPEND_ONLY, "update transfer set amount_micros = 1"),
        (APPEND_ONLY, "delete from transfer"),
        (APPEND_ONLY, "truncate transfer"),
        (
            "payout_amount_is_positive",
            "insert into payout values (gen_random_uuid(), (select id from profile limit 1), 0, 'evm', '0x', '0x')",
        ),
        // One of a kind for each request.
        (
            "transfer_once",
            "insert into transfer select party_id, gen_random_uuid(), request_id, kind, debit_account, credit_account, amount_micros, counterparty_id, listing_id from transfer limit 1",
        ),
        // Accounts belong to kinds, and amounts are positive.
        (
            "transfer_accounts_of_kind",
            "insert into transfer select party_id, gen_random_uuid(), request_id, 'surplus', 'clearing', 'seller', 1, counterparty_id, listing_id from transfer limit 1",
        ),
        (
            "transfer_amount_is_positive",
            "insert into transfer select party_id, gen_random_uuid(), request_id, 'surplus', 'provider', 'refunds_payable', 0, counterparty_id, listing_id from transfer limit 1",
        ),
    ] {
        assert_eq!(stage.refusal(statement).await, by, "{statement}");
    }
}

#[sqlx::test(migrations = "./migrations")]
async fn a_correction_is_a_new_row_that_names_what_it_corrects(pool: PgPool) {
    let stage = furnished(pool).await;
    let insert = "insert into transfer (party_id, id, request_id, kind, debit_account, credit_account, amount_micros, counterparty_id, listing_id, corrects)
        select party_id, $1, request_id, 'correction', 'fees', 'seller', 1, counterparty_id, listing_id, $2 from transfer where kind = 'marketplace_fee'";
    let id = || uuid_v7(clock::now());
    let of_nothing = sqlx::query(insert)
        .bind(id())
        .bind(None::<uuid::Uuid>)
        .execute(stage.pool())
        .await
        .unwrap_err();
    assert_eq!(refused_by(&of_nothing), "transfer_accounts_of_kind");
    for _ in 0..2 {
        sqlx::query(insert)
            .bind(id())
            .bind(Some(id()))
            .execute(stage.pool())
            .await
            .unwrap();
    }
}

#[test]
fn transfers_are_written_in_one_file() {
    fn sources(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
        let entries = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path());
        entries
            .flat_map(|path| {
                if path.is_dir() {
                    sources(&path)
                } else {
                    vec![path]
                }
            })
            .collect()
    }
    let source = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for path in sources(&source) {
        let writes = std::fs::read_to_string(&path)
            .unwrap()
            .contains("into transfer");
        assert_eq!(
            writes,
            path.ends_with("ledger/post.rs"),
            "{}",
            path.display()
        );
    }
}
