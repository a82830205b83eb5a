//! What buyers and sellers see, and the webhook, over the public API.

use std::sync::Arc;

use axum::body::Body;
use control_plane::router;
use crochet_shared::api_key;
use crochet_shared::clock;
use crochet_shared::id::{ProfileId, uuid_v7};
use crochet_shared::redis_key::hex;
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt as _;
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use sqlx::PgPool;
use tower::ServiceExt as _;

use super::stage::{self, PRICE, RELAY_KEY, Stage, delivery, failure};
use control_plane::ledger::entry::RequestState;
use crochet_shared::outcome::SellerFailure;

pub(crate) async fn key(stage: &Stage, profile: ProfileId) -> String {
    let key = api_key::generate(|| crochet_shared::id::random::<1>()[0]);
    sqlx::query(
        "insert into api_key (id, profile_id, name, prefix, digest) values ($1, $2, 'k', $3, $4)",
    )
    .bind(uuid_v7(clock::now()))
    .bind(profile.0)
    .bind(&key.shown)
    .bind(key.digest.0.as_slice())
    .execute(stage.pool())
    .await
    .unwrap();
    key.text.expose_secret().to_owned()
}

async fn send(stage: &Stage, request: Request<Body>) -> (StatusCode, HeaderMap, Vec<u8>) {
    let response = router::public(Arc::clone(&stage.app))
        .unwrap()
        .oneshot(request)
        .await
        .unwrap();
    let (status, headers) = (response.status(), response.headers().clone());
    (
        status,
        headers,
        response
            .into_body()
            .collect()
            .await
            .unwrap()
            .to_bytes()
            .to_vec(),
    )
}

async fn get(stage: &Stage, key: &str, path: &str) -> (StatusCode, Value) {
    let request = Request::get(format!("/api/v1{path}"))
        .header("authorization", format!("Bearer {key}"))
        .body(Body::empty())
        .unwrap();
    let (status, _, body) = send(stage, request).await;
    (status, serde_json::from_slice(&body).unwrap())
}

pub(crate) async fn data(stage: &Stage, key: &str, path: &str) -> Value {
    let (status, body) = get(stage, key, path).await;
    assert_eq!(status, StatusCode::OK, "{path}: {body}");
    body["data"].clone()
}

pub(crate) async fn unlimited(pool: PgPool) -> Stage {
    Stage::with(
        pool,
        "http://127.0.0.1:1",
        &["--rate-limit-key-reads-per-minute=100000"],
    )
    .await
}

#[sqlx::test(migrations = "./migrations")]
async fn both_sides_see_a_delivered_call_and_their_own_ledger(pool: PgPool) {
    let stage = unlimited(pool).await;
    let (buyer, seller) = (
        key(&stage, stage.buyer).await,
        key(&stage, stage.seller).await,
    );
    let request = stage.delivered().await;
    let id = request.request_id().to_string();
    for key in [&buyer, &seller] {
        let row = data(&stage, key, &format!("/gateway-requests/{id}")).await;
        assert_eq!(row["status"], "delivered");
        assert_eq!(row["billable"], true);
        assert_eq!(
            row["amount"],
            json!({"amount_cents": 100, "amount_micros": PRICE, "currency": "USD"})
        );
        assert_eq!(row["fees"]["seller_receives_micros"], 951_000);
        assert_eq!(
            (&row["latency_ms"], &row["seller_status_code"]),
            (&json!(9), &json!(200))
        );
        assert_eq!(row["response_bytes"], 2);
        assert_eq!(row["listing_name"], "a listing");
    }
    let kinds = |rows: &Value| -> Vec<String> {
        rows.as_array()
            .unwrap()
            .iter()
            .map(|row| {
                format!(
                    "{} {} {} {}",
                    row["type"], row["account"], row["direction"], row["amount_micros"]
                )
                .replace('"', "")
            })
            .collect()
    };
    let ledger = format!("/ledger?request_id={id}");
    assert_eq!(
        kinds(&data(&stage, &buyer, &ledger).await),
        ["gateway_payment buyer debit 1000000"]
    );
    let mut sellers = kinds(&data(&stage, &seller, &ledger).await);
    sellers.sort();
    assert_eq!(
        sellers,
        [
            "marketplace_fee marketplace credit 49000",
            "seller_credit seller credit 951000"
        ]
    );
    assert!(kinds(&data(&stage, &buyer, "/ledger?role=seller").await).is_empty());
    assert_eq!(
        kinds(&data(&stage, &seller, "/ledger?type=seller_credit").await).len(),
        1
    );
    let summary = data(&stage, &seller, "/ledger/summary").await;
    assert_eq!(
        (&summary["net_micros"], &summary["payable_micros"]),
        (&json!(951_000), &json!(951_000))
    );
    assert_eq!(summary["by_type"][0]["count"], 1);
    let summary = data(&stage, &buyer, "/ledger/summary?role=buyer").await;
    assert_eq!(
        (&summary["net_micros"], &summary["payable_micros"]),
        (&json!(-PRICE), &json!(0))
    );
}

#[sqlx::test(migrations = "./migrations")]
async fn each_state_has_its_public_names_and_is_found_by_them(pool: PgPool) {
    let stage = unlimited(pool).await;
    let buyer = key(&stage, stage.buyer).await;
    let mut wanted = vec![(stage.quoted().await, "payment_required", "quoted")];
    let seen = stage.quoted().await;
    sqlx::query("update gateway_request set deposit_seen_at = now() where id = $1")
        .bind(seen.id)
        .execute(stage.pool())
        .await
        .unwrap();
    wanted.push((seen, "payment_pending", "pending"));
    wanted.push((stage.paid().await, "paid", "paid"));
    let failed = stage.paid().await;
    let (grant, owner) = stage.claimed(&failed).await;
    stage
        .settle(failure(&grant, owner, SellerFailure::Status))
        .await;
    wanted.push((failed, "seller_failed", "paid"));
    let claimed = stage.paid().await;
    stage.claimed(&claimed).await;
    wanted.push((claimed, "in_progress", "in_progress"));
    wanted.push((stage.delivered().await, "delivered", "delivered"));
    let refund = stage.quoted().await;
    stage.evidence(&refund, false, None).await;
    wanted.push((refund, "refund_due", "refund_due"));
    for (request, status, payment) in &wanted {
        let listed = data(
            &stage,
            &buyer,
            &format!("/gateway-requests?status={status}"),
        )
        .await;
        assert_eq!(listed.as_array().unwrap().len(), 1, "{status}");
        assert_eq!(listed[0]["id"], request.request_id().to_string());
        let shown = data(
            &stage,
            &buyer,
            &format!("/relay-requests/{}", request.relay_request_id),
        )
        .await;
        assert_eq!(shown["status"], *payment);
        assert_eq!(shown["response_available"], *status == "delivered");
        assert_eq!(
            shown["response_available_until"].is_string(),
            *status == "delivered"
        );
    }
    let (status, body) = get(&stage, &buyer, "/gateway-requests?limit=3").await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(
        (
            &body["pagination"]["total"],
            &body["pagination"]["totalPages"]
        ),
        (&json!(7), &json!(3))
    );
    let next = body["pagination"]["next_cursor"].as_str().unwrap();
    let rest = data(
        &stage,
        &buyer,
        &format!("/gateway-requests?limit=100&cursor={next}"),
    )
    .await;
    assert_eq!(rest.as_array().unwrap().len(), 4);
    assert!(
        data(&stage, &buyer, "/gateway-requests?role=seller")
            .await
            .as_array()
            .unwrap()
            .is_empty()
    );
}

#[sqlx::test(migrations = "./migrations")]
async fn a_stored_answer_is_its_buyers_and_then_gone(pool: PgPool) {
    let stage = unlimited(pool).await;
    let (buyer, seller) = (
        key(&stage, stage.buyer).await,
        key(&stage, stage.seller).await,
    );
    let request = stage.paid().await;
    let (grant, owner) = stage.claimed(&request).await;
    stage
        .settle(delivery(&grant, owner, br#"{"exact": 1}"#))
        .await;
    let path = format!("/api/v1/gateway-requests/{}/response", request.request_id());
    let ask = |key: &str| {
        Request::get(&path)
            .header("authorization", format!("Bearer {key}"))
            .body(Body::empty())
            .unwrap()
    };
    let (status, headers, body) = send(&stage, ask(&buyer)).await;
    assert_eq!(
        (status, body.as_slice()),
        (StatusCode::OK, br#"{"exact": 1}"#.as_slice())
    );
    assert_eq!(headers["cache-control"], "no-store");
    assert_eq!(
        headers["x-crochet-request-id"],
        request.request_id().to_string()
    );
    assert_eq!(send(&stage, ask(&seller)).await.0, StatusCode::NOT_FOUND);
    stage.age(&request, 86_401.0).await;
    let (status, _, body) = send(&stage, ask(&buyer)).await;
    let body: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(
        (status, &body["error"]["code"]),
        (StatusCode::GONE, &json!("RESPONSE_NO_LONGER_STORED"))
    );
    assert_eq!(body["data"]["charged_amount"]["amount_micros"], PRICE);
    assert_eq!(body["data"]["response_sha256"].as_str().unwrap().len(), 64);
}

#[sqlx::test(migrations = "./migrations")]
async fn strangers_see_nothing_and_bad_filters_are_named(pool: PgPool) {
    let stage = unlimited(pool).await;
    let stranger = stage::profile(&stage.app).await;
    let stranger = key(&stage, stranger).await;
    let request = stage.delivered().await;
    for (path, code) in [
        (
            format!("/gateway-requests/{}", request.request_id()),
            "REQUEST_NOT_FOUND",
        ),
        ("/gateway-requests/gw_req_x".into(), "REQUEST_NOT_FOUND"),
        (
            format!("/relay-requests/{}", request.relay_request_id),
            "RELAY_REQUEST_NOT_FOUND",
        ),
        ("/relay-requests/%20".into(), "RELAY_REQUEST_NOT_FOUND"),
        (
            "/gateway-requests?status=nope&role=x&from=y&listing_id=1".into(),
            "VALIDATION_ERROR",
        ),
        ("/ledger?type=nope&request_id=1".into(), "VALIDATION_ERROR"),
        (
            format!("/relay-requests/{}?wait=31", request.relay_request_id),
            "VALIDATION_ERROR",
        ),
    ] {
        let (_, body) = get(&stage, &stranger, &path).await;
        assert_eq!(body["error"]["code"], code, "{path}");
    }
    let (_, body) = get(&stage, &stranger, "/gateway-requests?status=nope&role=x").await;
    assert_eq!(
        body["error"]["details"]["fields"].as_array().unwrap().len(),
        2
    );
    assert!(
        data(&stage, &stranger, "/gateway-requests")
            .await
            .as_array()
            .unwrap()
            .is_empty()
    );
    assert!(
        data(&stage, &stranger, "/ledger")
            .await
            .as_array()
            .unwrap()
            .is_empty()
    );
}

#[sqlx::test(migrations = "./migrations")]
async fn a_reader_waits_until_the_payment_is_news(pool: PgPool) {
    let base = stage::sandbox(relay_sandbox::Config {
        step_ms: 0,
        ..relay_sandbox::Config::default()
    })
    .await;
    let stage = Stage::with(pool, &base, &["--rate-limit-key-reads-per-minute=100000"]).await;
    let buyer = key(&stage, stage.buyer).await;
    let ask = crochet_shared::internal::CreateQuote::New {
        identity: stage.identity(),
        request_bytes: 14,
    };
    let crochet_shared::internal::QuoteCreated::New(quote) =
        control_plane::payments::quote::create(&stage.app, ask)
            .await
            .unwrap()
    else {
        panic!("no quote");
    };
    let id = quote.relay_request_id;
    let path = format!("/relay-requests/{id}?wait=30");
    let started = std::time::Instant::now();
    let (shown, ()) = tokio::join!(data(&stage, &buyer, &path), stage.deposit(&id));
    assert_eq!(shown["status"], "paid");
    assert!(started.elapsed().as_secs() < 20);
    // Nobody publishes here: until gateways were told is waited for, and no longer than it may be.
    let started = std::time::Instant::now();
    let path_at_once = format!("/relay-requests/{id}");
    let shown = data(&stage, &buyer, &path_at_once).await;
    assert_eq!(shown["status"], "paid");
    assert!(started.elapsed().as_millis() >= 200);
    // What will not change by waiting is told at once.
    assert_eq!(data(&stage, &buyer, &path).await["status"], "paid");
}

fn webhook(id: &str, sign_with: &str) -> Request<Body> {
    let body = json!({"event": "request.status.updated", "timestamp": 1, "data": {"status": "success", "requestId": id}}).to_string();
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(sign_with.as_bytes()).unwrap();
    mac.update(format!("17.{body}").as_bytes());
    Request::post("/api/v1/webhooks/relay")
        .header("x-signature-timestamp", "17")
        .header("x-signature-sha256", hex(&mac.finalize().into_bytes()))
        .header("content-type", "application/json")
        .body(Body::from(body))
        .unwrap()
}

#[sqlx::test(migrations = "./migrations")]
async fn webhooks_are_verified_hints_however_often_they_come(pool: PgPool) {
    let base = stage::sandbox(relay_sandbox::Config {
        step_ms: 0,
        ..relay_sandbox::Config::default()
    })
    .await;
    let stage = Stage::with(pool, &base, &[]).await;
    let ask = crochet_shared::internal::CreateQuote::New {
        identity: stage.identity(),
        request_bytes: 14,
    };
    let crochet_shared::internal::QuoteCreated::New(quote) =
        control_plane::payments::quote::create(&stage.app, ask)
            .await
            .unwrap()
    else {
        panic!("no quote");
    };
    let request = stage::Request {
        id: quote.request_id.0,
        relay_request_id: quote.relay_request_id.clone(),
        identity: stage.identity(),
    };
    let id = &request.relay_request_id;
    let (status, _, body) = send(&stage, webhook(id, "another key")).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    assert!(
        String::from_utf8(body)
            .unwrap()
            .contains("INVALID_SIGNATURE")
    );
    // A genuine lie: the provider's record, not the webhook, is believed.
    assert_eq!(send(&stage, webhook(id, RELAY_KEY)).await.0, StatusCode::OK);
    stage.deposit(id).await;
    for _ in 0..20 {
        assert_eq!(send(&stage, webhook(id, RELAY_KEY)).await.0, StatusCode::OK);
    }
    let paid = async {
        while stage.state(&request).await != RequestState::Paid {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(10), paid)
        .await
        .unwrap();
    assert_eq!(stage.transfers(&request).await.len(), 1);
    // One that names nothing of ours is accepted and forgotten.
    assert_eq!(
        send(&stage, webhook("0xother", RELAY_KEY)).await.0,
        StatusCode::OK
    );
}
