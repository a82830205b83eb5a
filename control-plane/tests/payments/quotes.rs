//! `FIND_QUOTES` and `CREATE_QUOTE`, against the sandbox of the provider.

use std::sync::Arc;
use std::time::{Duration, Instant};

use control_plane::ledger::entry::RequestState;
use control_plane::payments::{open_quote, quote};
use crochet_shared::internal::{
    Check, CheckAnswer, CreateQuote, Quote, QuoteCreated, QuoteFound, QuoteIdentity,
};
use crochet_shared::money::Micros;
use crochet_shared::route::OriginCurrency;
use serde_json::{Value, json};
use sqlx::PgPool;

use super::stage::{self, PRICE, SETTLEMENT, Stage, delivery};

pub(crate) async fn create(stage: &Stage, identity: &QuoteIdentity) -> QuoteCreated {
    let ask = CreateQuote::New {
        identity: identity.clone(),
        request_bytes: 14,
    };
    quote::create(&stage.app, ask).await.unwrap()
}

pub(crate) async fn made(stage: &Stage, identity: &QuoteIdentity) -> Quote {
    match create(stage, identity).await {
        QuoteCreated::New(quote) => quote,
        other => panic!("{other:?}"),
    }
}

async fn find(stage: &Stage, identity: &QuoteIdentity) -> QuoteFound {
    let mut found = quote::find(&stage.app, std::slice::from_ref(identity))
        .await
        .unwrap();
    found.remove(0)
}

pub(crate) async fn provider_quotes(stage: &Stage) -> u64 {
    let seen: Value = reqwest::get(format!("{}/sandbox/requests", stage.sandbox))
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    seen["calls"]["quote"].as_u64().unwrap()
}

pub(crate) async fn pay(stage: &Stage, quote: &Quote) {
    stage.deposit(&quote.relay_request_id).await;
    let check = Check {
        relay_request_id: quote.relay_request_id.clone(),
        buyer: stage.buyer,
    };
    let answer = control_plane::payments::evidence::check(&stage.app, &check)
        .await
        .unwrap();
    assert_eq!(answer, CheckAnswer::Paid);
}

#[sqlx::test(migrations = "./migrations")]
async fn a_quote_is_durable_and_enough_to_pay(pool: PgPool) {
    let stage = Stage::with_sandbox(pool, &[]).await;
    let quote = made(&stage, &stage.identity()).await;
    let requirements: Value = serde_json::from_str(&quote.requirements).unwrap();
    assert_eq!(requirements["provider"], "relay");
    assert_eq!(requirements["chain_id"], 792_703_809);
    assert_eq!(
        requirements["currency"],
        json!({"address": "11111111111111111111111111111111", "symbol": "SOL", "decimals": 9})
    );
    assert!(
        requirements["amount"]
            .as_str()
            .unwrap()
            .bytes()
            .all(|b| b.is_ascii_digit())
    );
    assert!(!requirements["deposit_address"].as_str().unwrap().is_empty());
    assert_eq!(
        requirements["steps"][0]["requestId"],
        quote.relay_request_id.as_str()
    );
    assert!(requirements["fees"].is_object() && requirements["time_estimate_seconds"].is_number());
    let life = quote.expires_at_ms - quote.made_at_ms;
    assert_eq!(life, 900_000);
    assert_eq!(quote.price, Micros(PRICE));
    // What the provider was asked: refunds to the buyer, 120 s longer than she is told.
    let seen: Value = reqwest::get(format!(
        "{}/sandbox/requests?requestId={}",
        stage.sandbox, quote.relay_request_id
    ))
    .await
    .unwrap()
    .json()
    .await
    .unwrap();
    let row = &seen["requests"][0]["row"];
    assert_eq!(
        row["refundTo"],
        "So11111111111111111111111111111111111111112"
    );
    assert!(
        row["recipient"]
            .as_str()
            .unwrap()
            .eq_ignore_ascii_case(SETTLEMENT)
    );
    assert_eq!(row["data"]["referrer"], "crochet");
    assert_eq!(
        open_quote(&stage.app, &stage.identity().digest())
            .await
            .unwrap(),
        Some(quote)
    );
    let told: i64 =
        sqlx::query_scalar("select count(*) from outbox where quote_identity is not null")
            .fetch_one(stage.pool())
            .await
            .unwrap();
    assert_eq!(told, 1);
    stage.assert_audit_empty().await;
}

/// Another control plane beside the stage's.
fn replica(stage: &Stage, pool: PgPool) -> Arc<control_plane::app::App> {
    let config = stage::config(&stage.sandbox, &[]);
    control_plane::app::App::with_db(config, control_plane::db::Db::from_pool(pool)).unwrap()
}

#[sqlx::test(migrations = "./migrations")]
async fn the_same_identity_at_once_from_two_replicas_buys_one_quote(pool: PgPool) {
    let stage = Stage::with_sandbox(pool.clone(), &[]).await;
    let second = replica(&stage, pool);
    let tasks: Vec<_> = (0..20)
        .map(|n| {
            let app = if n % 2 == 0 {
                Arc::clone(&stage.app)
            } else {
                Arc::clone(&second)
            };
            let ask = CreateQuote::New {
                identity: stage.identity(),
                request_bytes: 14,
            };
            tokio::spawn(async move { quote::create(&app, ask).await.unwrap() })
        })
        .collect();
    let (mut new, mut found) = (0, 0);
    for task in tasks {
        match task.await.unwrap() {
            QuoteCreated::New(_) => new += 1,
            QuoteCreated::Found(QuoteFound::Open(_)) => found += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((new, found), (1, 19));
    assert_eq!(provider_quotes(&stage).await, 1);
}

#[sqlx::test(migrations = "./migrations")]
async fn a_key_for_two_purchases_at_once_is_one_of_them(pool: PgPool) {
    let stage = Stage::with_sandbox(pool.clone(), &[]).await;
    let second = replica(&stage, pool);
    for round in 0..10 {
        let uses = [&stage.app, &stage.app, &second].into_iter().zip(0_u8..);
        let uses = uses.map(|(app, body)| {
            let mut identity = stage.identity();
            identity.idempotency_key = Some(format!("key {round}"));
            identity.body_sha256 = [body; 32];
            let ask = CreateQuote::New {
                identity,
                request_bytes: 14,
            };
            async move { quote::create(app, ask).await.unwrap() }
        });
        let answers = futures_util::future::join_all(uses).await;
        let new = |answer: &&QuoteCreated| matches!(answer, QuoteCreated::New(_));
        let reused =
            |answer: &&QuoteCreated| **answer == QuoteCreated::Found(QuoteFound::KeyReused);
        assert_eq!(answers.iter().filter(new).count(), 1, "{answers:?}");
        assert_eq!(answers.iter().filter(reused).count(), 2, "{answers:?}");
    }
}

#[sqlx::test(migrations = "./migrations")]
async fn an_open_quote_is_found_while_it_may_be_reused(pool: PgPool) {
    let stage = Stage::with_sandbox(pool, &[]).await;
    let identity = stage.identity();
    assert_eq!(find(&stage, &identity).await, QuoteFound::None);
    let quote = made(&stage, &identity).await;
    assert_eq!(
        find(&stage, &identity).await,
        QuoteFound::Open(quote.clone())
    );
    let mut other = identity.clone();
    other.body_sha256[0] ^= 1;
    assert_eq!(find(&stage, &other).await, QuoteFound::None);
    other = identity.clone();
    other.currency = OriginCurrency::UsdcSol;
    assert_eq!(find(&stage, &other).await, QuoteFound::None);
    // Another price, or older than a minute: a new one.
    stage
        .run("update listing set price_micros = price_micros + 1")
        .await;
    assert_eq!(find(&stage, &identity).await, QuoteFound::None);
    stage.run("update listing set price_micros = price_micros - 1; update gateway_request set created_at = created_at - interval '61 seconds'").await;
    assert_eq!(find(&stage, &identity).await, QuoteFound::None);
    assert_ne!(
        made(&stage, &identity).await.relay_request_id,
        quote.relay_request_id
    );
}

#[sqlx::test(migrations = "./migrations")]
async fn a_key_keeps_its_quote_while_five_minutes_remain(pool: PgPool) {
    let stage = Stage::with_sandbox(pool, &[]).await;
    let mut identity = stage.identity();
    identity.idempotency_key = Some("k".into());
    let quote = made(&stage, &identity).await;
    stage.run("update gateway_request set created_at = created_at - interval '590 seconds', expires_at = expires_at - interval '590 seconds'").await;
    assert!(
        matches!(find(&stage, &identity).await, QuoteFound::Open(found) if found.relay_request_id == quote.relay_request_id)
    );
    stage
        .run("update gateway_request set expires_at = expires_at - interval '20 seconds'")
        .await;
    assert_eq!(find(&stage, &identity).await, QuoteFound::None);
    // The same key with anything else is refused, for a day.
    let mut other = identity.clone();
    other.body_sha256[0] ^= 1;
    assert_eq!(find(&stage, &other).await, QuoteFound::KeyReused);
    assert_eq!(
        create(&stage, &other).await,
        QuoteCreated::Found(QuoteFound::KeyReused)
    );
    let mut anothers = other.clone();
    anothers.buyer = stage.seller;
    assert_eq!(find(&stage, &anothers).await, QuoteFound::None);
    stage
        .run("update gateway_request set created_at = created_at - interval '1 day'")
        .await;
    assert_eq!(find(&stage, &other).await, QuoteFound::None);
}

#[sqlx::test(migrations = "./migrations")]
async fn what_is_paid_in_progress_or_delivered_is_told_instead_of_a_second_402(pool: PgPool) {
    let stage = Stage::with_sandbox(pool, &[]).await;
    for key in [None, Some("k".to_owned())] {
        let mut identity = stage.identity();
        identity.idempotency_key.clone_from(&key);
        identity.body_sha256 = [u8::from(key.is_some()); 32];
        let quote = made(&stage, &identity).await;
        sqlx::query(
            "update gateway_request set deposit_seen_at = now() where relay_request_id = $1",
        )
        .bind(&quote.relay_request_id)
        .execute(stage.pool())
        .await
        .unwrap();
        assert!(matches!(
            find(&stage, &identity).await,
            QuoteFound::Paid { .. }
        ));
        pay(&stage, &quote).await;
        assert!(matches!(
            find(&stage, &identity).await,
            QuoteFound::Paid { .. }
        ));
        assert!(matches!(
            create(&stage, &identity).await,
            QuoteCreated::Found(QuoteFound::Paid { .. })
        ));
        assert_eq!(
            open_quote(&stage.app, &identity.digest()).await.unwrap(),
            None
        );
        let request = stage::Request {
            id: quote.request_id.0,
            relay_request_id: quote.relay_request_id.clone(),
            identity: identity.clone(),
        };
        let (grant, owner) = stage.claimed(&request).await;
        assert!(matches!(
            find(&stage, &identity).await,
            QuoteFound::InProgress { .. }
        ));
        stage.settle(delivery(&grant, owner, b"{}")).await;
        let found = find(&stage, &identity).await;
        if key.is_some() {
            assert_eq!(
                found,
                QuoteFound::Delivered {
                    relay_request_id: quote.relay_request_id,
                    request_id: quote.request_id
                }
            );
        } else {
            assert_eq!(found, QuoteFound::None);
        }
    }
    stage.assert_audit_empty().await;
}

#[sqlx::test(migrations = "./migrations")]
async fn an_older_quote_that_was_paid_late_counts_before_a_newer_one(pool: PgPool) {
    let stage = Stage::with_sandbox(pool, &[]).await;
    let identity = stage.identity();
    let old = made(&stage, &identity).await;
    stage
        .run("update gateway_request set created_at = created_at - interval '61 seconds'")
        .await;
    made(&stage, &identity).await;
    pay(&stage, &old).await;
    assert!(
        matches!(find(&stage, &identity).await, QuoteFound::Paid { relay_request_id, .. } if relay_request_id == old.relay_request_id)
    );
}

#[sqlx::test(migrations = "./migrations")]
async fn a_failed_payment_is_followed_by_one_fresh_quote_of_its_identity(pool: PgPool) {
    // Of a provider who gives one quote a second, and to a buyer who may have one: what was made is found all the same.
    let slow = [
        "--rate-limit-provider-quotes-per-second=1",
        "--rate-limit-quotes-per-second=1",
    ];
    let stage = Stage::with_sandbox(pool, &slow).await;
    let mut identity = stage.identity();
    identity.idempotency_key = Some("k".into());
    let failed = made(&stage, &identity).await;
    stage
        .control(
            "scenarios",
            json!({"requestId": failed.relay_request_id, "outcome": "failure"}),
        )
        .await;
    stage.deposit(&failed.relay_request_id).await;
    let check = Check {
        relay_request_id: failed.relay_request_id.clone(),
        buyer: stage.buyer,
    };
    let answer = control_plane::payments::evidence::check(&stage.app, &check)
        .await
        .unwrap();
    assert_eq!(answer, CheckAnswer::Failed);
    let after = CreateQuote::After {
        buyer: stage.buyer,
        relay_request_id: failed.relay_request_id.clone(),
    };
    let begun = Instant::now();
    let fresh = loop {
        assert!(begun.elapsed() < Duration::from_secs(20), "always refused");
        match quote::create(&stage.app, after.clone()).await.unwrap() {
            QuoteCreated::New(quote) => break quote,
            QuoteCreated::Refused(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            other @ QuoteCreated::Found(_) => panic!("{other:?}"),
        }
    };
    assert_ne!(fresh.relay_request_id, failed.relay_request_id);
    assert_eq!(
        quote::create(&stage.app, after).await.unwrap(),
        QuoteCreated::Found(QuoteFound::Open(fresh.clone()))
    );
    assert_eq!(find(&stage, &identity).await, QuoteFound::Open(fresh));
    let strangers = CreateQuote::After {
        buyer: stage.seller,
        relay_request_id: failed.relay_request_id.clone(),
    };
    quote::create(&stage.app, strangers).await.unwrap_err();
    let state: RequestState =
        sqlx::query_scalar("select state from gateway_request where relay_request_id = $1")
            .bind(&failed.relay_request_id)
            .fetch_one(stage.pool())
            .await
            .unwrap();
    assert_eq!(state, RequestState::Failed);
    stage.assert_audit_empty().await;
}

#[sqlx::test(migrations = "./migrations")]
async fn a_full_batch_of_identities_is_answered_in_its_order(pool: PgPool) {
    let stage = Stage::with_sandbox(pool, &[]).await;
    let identity = stage.identity();
    let quote = made(&stage, &identity).await;
    let batch: Vec<QuoteIdentity> = (0..64_u8)
        .map(|n| {
            let mut item = identity.clone();
            if n % 3 != 0 {
                item.body_sha256 = [n; 32];
            }
            item
        })
        .collect();
    let found = quote::find(&stage.app, &batch).await.unwrap();
    for (n, found) in found.into_iter().enumerate() {
        let wanted = if n % 3 == 0 {
            QuoteFound::Open(quote.clone())
        } else {
            QuoteFound::None
        };
        assert_eq!(found, wanted, "{n}");
    }
}
