//! Quotes that are not made: each refusal, in its order, and the limits of a buyer.

use crochet_shared::internal::{QuoteCreated, QuoteFound, QuoteIdentity, QuoteRefusal};
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
async fn a_buyer_holds_so_many_open_quotes(pool: PgPool) {
    let stage = Stage::with_sandbox(pool, &["--rate-limit-open-quotes=2"]).await;
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
}

#[sqlx::test(migrations = "./migrations")]
async fn a_buyer_makes_one_new_quote_a_second(pool: PgPool) {
    let stage = Stage::with_sandbox(pool, &["--rate-limit-quotes-per-second=1"]).await;
    let mut identity = stage.identity();
    let first = made(&stage, &identity).await;
    identity.body_sha256 = [1; 32];
    assert!(matches!(
        create(&stage, &identity).await,
        QuoteCreated::Refused(QuoteRefusal::RateLimited {
            retry_after_seconds: 1
        })
    ));
    // The same one again is none more.
    let again = create(&stage, &stage.identity()).await;
    assert!(
        matches!(&again, QuoteCreated::Found(QuoteFound::Open(quote)) if quote.relay_request_id == first.relay_request_id),
        "{again:?}"
    );
}

#[sqlx::test(migrations = "./migrations")]
async fn quotes_made_at_once_stay_within_the_open_ones(pool: PgPool) {
    let stage = Stage::with_sandbox(pool, &["--rate-limit-open-quotes=3"]).await;
    let base = stage.identity();
    let asking = (0..8).map(|n| {
        let mut identity = base.clone();
        identity.body_sha256 = [n; 32];
        let stage = &stage;
        async move { create(stage, &identity).await }
    });
    let answers = futures_util::future::join_all(asking).await;
    let new = |created: &&QuoteCreated| matches!(created, QuoteCreated::New(_));
    assert_eq!(answers.iter().filter(new).count(), 3, "{answers:?}");
    let open: i64 = sqlx::query_scalar("select count(*) from deadline where unpaid_by = $1")
        .bind(stage.buyer.0)
        .fetch_one(stage.pool())
        .await
        .unwrap();
    assert_eq!(open, 3);
}
