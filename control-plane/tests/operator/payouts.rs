//! `payouts`: never more than is owed, each transaction once, and seen in the seller's summary.

use control_plane::operator::payouts::{List, Mark, Reverse, export, list, mark, reverse};
use control_plane::operator::{Change, Exit, Form, Outcome};
use crochet_shared::money::Micros;
use futures_util::future::join_all;
use serde_json::{Value, json};
use sqlx::PgPool;
use uuid::Uuid;

use super::{hash, kept, rehearsed};
use crate::payments::history::{data, key, unlimited};
use crate::payments::stage::{self, APPEND_ONLY, Stage};

/// What a seller is owed of a delivered call.
const CREDIT: i64 = 951_000;
const PAYOUT_WALLET: &str = "0x52908400098527886E0F7030069857D2E4169EE7";

/// A seller with so many delivered calls, and a payout wallet.
async fn sold(pool: PgPool, calls: usize) -> Stage {
    let stage = unlimited(pool).await;
    stage::wallet(&stage.app, stage.seller, "evm", PAYOUT_WALLET).await;
    stage
        .run("update wallet set is_default_payout = true where chain = 'evm'")
        .await;
    for _ in 0..calls {
        stage.delivered().await;
    }
    stage
}

async fn paid(stage: &Stage, micros: i64, number: u8, change: Change) -> Outcome {
    let wanted = Mark {
        seller: stage.seller,
        amount: Micros(micros),
        tx: hash(number),
        to: None,
        change,
    };
    mark(&stage.app.db, &wanted).await.unwrap()
}

async fn taken_back(stage: &Stage, number: u8, change: Change) -> Outcome {
    taken_back_named(stage, number, None, change).await
}

async fn taken_back_named(
    stage: &Stage,
    number: u8,
    payout: Option<Uuid>,
    change: Change,
) -> Outcome {
    let wanted = Reverse {
        seller: stage.seller,
        tx: hash(number),
        payout,
        why: "the wrong hash".to_owned(),
        change,
    };
    reverse(&stage.app.db, &wanted).await.unwrap()
}

async fn owed(stage: &Stage) -> Value {
    list(&stage.app.db, &all()).await.unwrap().json
}

fn all() -> List {
    List {
        min: Micros(1),
        form: Form::default(),
    }
}

fn id(value: &Value) -> Uuid {
    value.as_str().unwrap().parse().unwrap()
}

async fn rows(stage: &Stage) -> i64 {
    sqlx::query_scalar("select count(*) from payout")
        .fetch_one(stage.pool())
        .await
        .unwrap()
}

#[sqlx::test(migrations = "./migrations")]
async fn what_is_paid_out_is_no_longer_payable(pool: PgPool) {
    let stage = sold(pool, 2).await;
    let row = &owed(&stage).await["payouts"][0];
    assert_eq!(row["owed_micros"], 2 * CREDIT);
    assert_eq!(
        (&row["chain"], &row["address"]),
        (&json!("evm"), &json!(PAYOUT_WALLET))
    );

    let outcome = paid(&stage, CREDIT, 1, kept()).await;
    assert_eq!(
        (outcome.exit, &outcome.json["still_owed_micros"]),
        (Exit::Done, &json!(CREDIT))
    );
    let row = &owed(&stage).await["payouts"][0];
    assert_eq!(
        (&row["owed_micros"], &row["paid_micros"]),
        (&json!(CREDIT), &json!(CREDIT))
    );
    let seller = key(&stage, stage.seller).await;
    let summary = data(&stage, &seller, "/ledger/summary").await;
    assert_eq!(
        (&summary["payable_micros"], &summary["net_micros"]),
        (&json!(CREDIT), &json!(2 * CREDIT))
    );
    let as_buyer = data(&stage, &seller, "/ledger/summary?role=buyer").await;
    assert_eq!(as_buyer["payable_micros"], 0);

    assert_eq!(paid(&stage, CREDIT, 2, kept()).await.exit, Exit::Done);
    assert_eq!(owed(&stage).await["payouts"], json!([]));
    assert_eq!(
        data(&stage, &seller, "/ledger/summary").await["payable_micros"],
        0
    );
    stage.assert_audit_empty().await;
}

#[sqlx::test(migrations = "./migrations")]
async fn a_transaction_is_one_payout(pool: PgPool) {
    let stage = sold(pool, 2).await;
    paid(&stage, CREDIT, 1, kept()).await;
    let again = paid(&stage, CREDIT, 1, kept()).await;
    assert_eq!(
        (again.exit, &again.json["changed"]),
        (Exit::Done, &json!(false))
    );
    // Another amount, or another seller, by the same transaction: one of the two is a slip.
    assert_eq!(
        paid(&stage, CREDIT - 1, 1, kept()).await.exit,
        Exit::Refused
    );
    assert_eq!(rows(&stage).await, 1);
    stage.assert_audit_empty().await;
}

#[sqlx::test(migrations = "./migrations")]
async fn no_more_is_paid_than_is_owed(pool: PgPool) {
    let stage = sold(pool, 1).await;
    let outcome = paid(&stage, CREDIT + 1, 1, kept()).await;
    assert_eq!(outcome.exit, Exit::Refused);
    assert!(outcome.text.contains("$0.951"), "{}", outcome.text);
    assert_eq!(rows(&stage).await, 0);
    stage.assert_audit_empty().await;
}

#[sqlx::test(migrations = "./migrations")]
async fn payouts_at_once_never_pay_the_same_money_twice(pool: PgPool) {
    let stage = sold(pool, 3).await;
    let outcomes = join_all((0..8).map(|number| paid(&stage, CREDIT, number, kept()))).await;
    let booked = outcomes.iter().filter(|outcome| outcome.exit == Exit::Done);
    assert_eq!(booked.count(), 3);
    assert_eq!(rows(&stage).await, 3);
    assert_eq!(owed(&stage).await["payouts"], json!([]));
    stage.assert_audit_empty().await;
}

#[sqlx::test(migrations = "./migrations")]
async fn a_rehearsal_pays_nothing(pool: PgPool) {
    let stage = sold(pool, 1).await;
    let outcome = paid(&stage, CREDIT, 1, rehearsed()).await;
    assert_eq!(
        (outcome.exit, &outcome.json["still_owed_micros"]),
        (Exit::Done, &json!(0))
    );
    assert_eq!(rows(&stage).await, 0);
}

#[sqlx::test(migrations = "./migrations")]
async fn a_refunds_transaction_is_no_payout(pool: PgPool) {
    let stage = sold(pool, 1).await;
    let request = stage.quoted().await;
    stage.evidence(&request, false, Some(5)).await;
    let refund = control_plane::operator::refund_due::Mark {
        request: request.request_id(),
        tx: hash(1),
        change: kept(),
    };
    let marked = control_plane::operator::refund_due::mark(&stage.app.db, &refund).await;
    assert_eq!(marked.unwrap().exit, Exit::Done);
    assert_eq!(paid(&stage, CREDIT, 1, kept()).await.exit, Exit::Refused);
    stage.assert_audit_empty().await;
}

#[sqlx::test(migrations = "./migrations")]
async fn an_export_names_wallets_and_leaves_out_who_has_none(pool: PgPool) {
    let mut stage = sold(pool, 1).await;
    let with_wallet = stage.seller;
    stage.seller = stage::profile(&stage.app).await;
    stage.listing = stage::listing(&stage.app, stage.seller, stage::PRICE).await;
    stage.delivered().await;
    let outcome = export(&stage.app.db, &all()).await.unwrap();
    assert_eq!(outcome.exit, Exit::Attention);
    assert_eq!(
        outcome.text,
        format!(
            "seller_id,chain,address,amount_usd,amount_micros\n{with_wallet},evm,{PAYOUT_WALLET},0.951,951000\n"
        )
    );
    assert_eq!(outcome.json["left_out"], json!([stage.seller]));
    // Nor is she marked as paid without a word where.
    let refused = paid(&stage, CREDIT, 1, kept()).await;
    assert_eq!(refused.exit, Exit::Refused, "{}", refused.text);
}

#[sqlx::test(migrations = "./migrations")]
async fn a_correction_of_a_sellers_account_counts_in_what_is_owed(pool: PgPool) {
    let stage = sold(pool, 1).await;
    stage
        .run(
            "insert into transfer (party_id, id, request_id, kind, debit_account, credit_account, amount_micros, counterparty_id, listing_id, corrects)
            select party_id, least_id_at(now()), request_id, 'correction', 'fees', 'seller', 49000, counterparty_id, listing_id, id
            from transfer where kind = 'marketplace_fee'",
        )
        .await;
    assert_eq!(owed(&stage).await["total_micros"], 1_000_000);
    let seller = key(&stage, stage.seller).await;
    let summary = data(&stage, &seller, "/ledger/summary").await;
    assert_eq!(summary["payable_micros"], 1_000_000);
    assert_eq!(paid(&stage, 1_000_000, 1, kept()).await.exit, Exit::Done);
}

#[sqlx::test(migrations = "./migrations")]
async fn payouts_and_noted_transactions_are_written_once(pool: PgPool) {
    let stage = sold(pool, 1).await;
    paid(&stage, CREDIT, 1, kept()).await;
    stage
        .run("insert into refund_transaction (request_id, buyer_id, tx_hash) select id, buyer_id, '0x' from gateway_request")
        .await;
    for (by, statement) in [
        (APPEND_ONLY, "update payout set amount_micros = 1"),
        (APPEND_ONLY, "delete from payout"),
        // What refers to it stands in the way first; and with that it is refused all the same.
        ("0A000", "truncate payout"),
        (
            APPEND_ONLY,
            "alter table payout_reversal disable trigger user; truncate payout cascade",
        ),
        (APPEND_ONLY, "update refund_transaction set tx_hash = ''"),
        (APPEND_ONLY, "delete from refund_transaction"),
        (APPEND_ONLY, "truncate refund_transaction"),
    ] {
        assert_eq!(stage.refusal(statement).await, by, "{statement}");
    }
}

#[sqlx::test(migrations = "./migrations")]
async fn a_payout_noted_by_mistake_is_taken_back_by_a_row_and_owed_again(pool: PgPool) {
    let mut stage = sold(pool, 1).await;
    paid(&stage, CREDIT, 1, kept()).await;
    assert_eq!(taken_back(&stage, 2, kept()).await.exit, Exit::NotFound);

    let rehearsal = taken_back(&stage, 1, rehearsed()).await;
    assert_eq!(rehearsal.json["reversal"]["owed_micros"], CREDIT);
    assert_eq!(owed(&stage).await["payouts"], json!([]));
    let outcome = taken_back(&stage, 1, kept()).await;
    assert_eq!(
        (outcome.exit, &outcome.json["reversal"]["amount_micros"]),
        (Exit::Done, &json!(CREDIT))
    );
    let row = &owed(&stage).await["payouts"][0];
    assert_eq!(
        (&row["owed_micros"], &row["paid_micros"]),
        (&json!(CREDIT), &json!(0))
    );
    let seller = key(&stage, stage.seller).await;
    assert_eq!(
        data(&stage, &seller, "/ledger/summary").await["payable_micros"],
        CREDIT
    );
    let again = taken_back(&stage, 1, kept()).await;
    assert_eq!(
        (again.exit, &again.json["changed"]),
        (Exit::Done, &json!(false))
    );
    stage.assert_audit_empty().await;

    // With the right hash it is booked, and the wrong one is free for whom it did pay: each time once.
    assert_eq!(paid(&stage, CREDIT, 2, kept()).await.exit, Exit::Done);
    let first = stage.seller;
    stage.seller = stage::profile(&stage.app).await;
    stage::wallet(
        &stage.app,
        stage.seller,
        "evm",
        "0x8617E340B3D01FA5F11F306F4090FD50E238070D",
    )
    .await;
    stage
        .run("update wallet set is_default_payout = true where chain = 'evm'")
        .await;
    stage.listing = stage::listing(&stage.app, stage.seller, stage::PRICE).await;
    stage.delivered().await;
    for _ in 0..2 {
        assert_eq!(paid(&stage, CREDIT, 1, kept()).await.exit, Exit::Done);
        let again = paid(&stage, CREDIT, 1, kept()).await;
        assert_eq!(again.json["changed"], false);
        let noted = id(&again.json["payout_id"]);
        let outcome = taken_back_named(&stage, 1, Some(noted), kept()).await;
        assert_eq!(outcome.json["changed"], true);
    }
    assert_eq!(paid(&stage, CREDIT, 1, kept()).await.exit, Exit::Done);
    assert_eq!(owed(&stage).await["payouts"], json!([]));
    stage.seller = first;
    assert_eq!(taken_back(&stage, 1, kept()).await.exit, Exit::Refused);
    stage.assert_audit_empty().await;
    for statement in [
        "update payout_reversal set reason = ''",
        "delete from payout_reversal",
        "truncate payout_reversal",
    ] {
        assert_eq!(stage.refusal(statement).await, APPEND_ONLY, "{statement}");
    }
}

#[sqlx::test(migrations = "./migrations")]
async fn a_reversal_asked_again_never_takes_back_what_was_noted_after_it(pool: PgPool) {
    let stage = sold(pool, 2).await;
    let first = id(&paid(&stage, CREDIT, 1, kept()).await.json["payout_id"]);
    let outcome = taken_back(&stage, 1, kept()).await;
    assert_eq!(id(&outcome.json["reversal"]["payout_id"]), first);
    let noted = paid(&stage, 2 * CREDIT, 1, kept()).await;
    let newer = id(&noted.json["payout_id"]);

    let again = taken_back(&stage, 1, kept()).await;
    assert_eq!(
        (again.exit, &again.json["changed"]),
        (Exit::Attention, &json!(false))
    );
    let told = &again.json["reversal"];
    assert_eq!(id(&told["payout_id"]), first);
    assert_eq!(id(&told["noted_anew"]["payout_id"]), newer);
    assert!(again.text.contains(&format!("--payout {newer}")));
    assert_eq!(owed(&stage).await["payouts"], json!([]));
    // Nor does one that names what it took back.
    let again = taken_back_named(&stage, 1, Some(first), kept()).await;
    assert_eq!(
        (again.exit, &again.json["changed"]),
        (Exit::Done, &json!(false))
    );
    assert_eq!(owed(&stage).await["payouts"], json!([]));
    let unknown = taken_back_named(&stage, 1, Some(stage.listing.0), kept()).await;
    assert_eq!(unknown.exit, Exit::NotFound);

    // Who means the newer one names it, and may do so twice.
    for changed in [true, false] {
        let outcome = taken_back_named(&stage, 1, Some(newer), kept()).await;
        assert_eq!(
            (outcome.exit, &outcome.json["changed"]),
            (Exit::Done, &json!(changed))
        );
    }
    assert_eq!(owed(&stage).await["total_micros"], 2 * CREDIT);
    stage.assert_audit_empty().await;
}

#[sqlx::test(migrations = "./migrations")]
async fn reversals_and_payouts_at_once_pay_no_money_twice(pool: PgPool) {
    let stage = sold(pool, 1).await;
    paid(&stage, CREDIT, 1, kept()).await;
    let reversals = join_all((0..6).map(|_| taken_back(&stage, 1, kept())));
    let payouts = join_all((2..8).map(|number| paid(&stage, CREDIT, number, kept())));
    let (reversals, _) = tokio::join!(reversals, payouts);
    let changed = |outcome: &&Outcome| outcome.json["changed"] == true;
    assert_eq!(reversals.iter().filter(changed).count(), 1);
    let standing: i64 = sqlx::query_scalar(
        "select count(*) from payout p where not exists (select from payout_reversal r where r.payout_id = p.id)",
    )
    .fetch_one(stage.pool())
    .await
    .unwrap();
    assert!(standing <= 1, "{standing} payouts stand");
    stage.assert_audit_empty().await;
}

#[sqlx::test(migrations = "./migrations")]
async fn without_a_wallet_named_the_answer_says_which_or_refuses(pool: PgPool) {
    let stage = sold(pool, 1).await;
    let wanted = Mark {
        seller: stage.seller,
        amount: Micros(CREDIT),
        tx: bs58::encode([7; 64]).into_string().parse().unwrap(),
        to: None,
        change: kept(),
    };
    let refused = mark(&stage.app.db, &wanted).await.unwrap();
    assert_eq!(
        refused.exit,
        Exit::Refused,
        "a Solana transaction pays no EVM wallet"
    );
    assert!(refused.text.contains("--to"), "{}", refused.text);
    let outcome = paid(&stage, CREDIT, 1, kept()).await;
    let says = format!("at {PAYOUT_WALLET} (her payout wallet now, as no --to names another)");
    assert!(outcome.text.contains(&says), "{}", outcome.text);
}
