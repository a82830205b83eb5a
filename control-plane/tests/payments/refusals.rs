//! Quotes that are not made: each refusal, in its order, and the limits of a buyer.

use crochet_shared::internal::{QuoteCreated, QuoteIdentity, QuoteRefusal};
use crochet_shared::route::{Family, OriginCurrency};
use serde_json::json;
use sqlx::PgPool;

use super::quotes::{create, made, pay, provider_quotes};
use super::stage::{self, Stage};

#[sqlx::test(migrations = "./migrations")]
async fn refusals_come_in_order_and_write_nothing(pool: PgPool) {
    let stage = Stage::with_sandbox(pool, &[]).await;
    let identity = stage.identity();
    let refused = async |identity: &QuoteIdentity| match create(&stage, identity).await {
        QuoteCreated::Refused(refusal) => refusal,
        other => panic!("{other:?}"),
    };
    let mut none = identity.clone();
    none.listing = crochet_shared::id::ListingId::new(crochet_shared::clock::now());
    assert_eq!(refused(&none).await, QuoteRefusal::ListingNotFound);
    for (status, refusal) in [
        ("draft", QuoteRefusal::ListingNotFound),
        ("suspended", QuoteRefusal::ListingNotActive),
    ] {
        sqlx::query("update listing set status = $1")
            .bind(status)
            .execute(stage.pool())
            .await
            .unwrap();
        assert_eq!(refused(&identity).await, refusal);
    }
    stage
        .run("update listing set status = 'active', pricing_model = 'free', price_micros = 0")
        .await;
    assert_eq!(refused(&identity).await, QuoteRefusal::ListingNotPerCall);
    stage
        .run("update listing set pricing_model = 'per_call', price_micros = 10000")
        .await;
    let mut own = identity.clone();
    own.buyer = stage.seller;
    assert_eq!(refused(&own).await, QuoteRefusal::OwnListing);
    let mut evm = identity.clone();
    evm.currency = OriginCurrency::Usdc;
    assert_eq!(
        refused(&evm).await,
        QuoteRefusal::WalletRequired(Family::Evm)
    );
    stage::wallet(
        &stage.app,
        stage.buyer,
        "evm",
        "0x52908400098527886E0F7030069857D2E4169EE7",
    )
    .await;
    assert_eq!(refused(&evm).await, QuoteRefusal::BelowMinimum);
    stage.run("update wallet set status = 'disabled'").await;
    assert_eq!(
        refused(&identity).await,
        QuoteRefusal::WalletRequired(Family::Solana)
    );
    let rows: i64 = sqlx::query_scalar(
        "select (select count(*) from gateway_request) + (select count(*) from outbox)",
    )
    .fetch_one(stage.pool())
    .await
    .unwrap();
    assert_eq!(rows, 0);
    assert_eq!(provider_quotes(&stage).await, 0);
}

#[sqlx::test(migrations = "./migrations")]
async fn the_providers_no_is_told_as_what_it_means(pool: PgPool) {
    let stage = Stage::with_sandbox(pool, &[]).await;
    let identity = stage.identity();
    for (code, wanted) in [
        ("AMOUNT_TOO_LOW", QuoteRefusal::BelowMinimum),
        ("SANCTIONED_WALLET_ADDRESS", QuoteRefusal::RouteRestricted),
        ("SANCTIONED_CURRENCY", QuoteRefusal::RouteRestricted),
    ] {
        stage
            .control(
                "faults",
                json!({"endpoint": "quote", "mode": "refuse", "errorCode": code, "count": 1}),
            )
            .await;
        assert_eq!(
            create(&stage, &identity).await,
            QuoteCreated::Refused(wanted)
        );
    }
    for mode in ["error500", "garbage"] {
        stage
            .control(
                "faults",
                json!({"endpoint": "quote", "mode": mode, "count": 1}),
            )
            .await;
        let created = create(&stage, &identity).await;
        assert!(
            matches!(
                created,
                QuoteCreated::Refused(QuoteRefusal::ProviderUnavailable { .. })
            ),
            "{mode}: {created:?}"
        );
    }
    // Nothing was written, and the next one is made.
    made(&stage, &identity).await;
    let rows: i64 = sqlx::query_scalar("select count(*) from gateway_request")
        .fetch_one(stage.pool())
        .await
        .unwrap();
    assert_eq!(rows, 1);
}

#[sqlx::test(migrations = "./migrations")]
async fn a_buyer_holds_so_many_open_quotes_and_makes_so_many_a_minute(pool: PgPool) {
    let stage = Stage::with_sandbox(
        pool,
        &[
            "--rate-limit-open-quotes=2",
            "--rate-limit-quotes-per-minute=3",
        ],
    )
    .await;
    let mut identity = stage.identity();
    let mut quotes = Vec::new();
    for n in 0..2 {
        identity.body_sha256 = [n; 32];
        quotes.push(made(&stage, &identity).await);
    }
    identity.body_sha256 = [2; 32];
    let limited = |created: QuoteCreated| {
        matches!(
            created,
            QuoteCreated::Refused(QuoteRefusal::RateLimited { .. })
        )
    };
    assert!(limited(create(&stage, &identity).await));
    // A paid one is open no longer.
    pay(&stage, &quotes[0]).await;
    made(&stage, &identity).await;
    pay(&stage, &quotes[1]).await;
    identity.body_sha256 = [3; 32];
    assert!(limited(create(&stage, &identity).await));
}
