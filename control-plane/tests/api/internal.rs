//! What a gateway asks: keys and routes

use axum::body::{Body, Bytes};
use control_plane::router;
use crochet_shared::api_key;
use crochet_shared::internal::KeyRecord;
use crochet_shared::internal::{
    ListingStatus, RESOLVE_KEY, RESOLVE_ROUTE, Redelivery, RouteName, RouteRecord,
};
use crochet_shared::route::Family;
use http::Request;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use sqlx::PgPool;
use tower::ServiceExt as _;

use super::client::{Api, SECRET, URL};
use super::wallet::Wallet;

async fn ask(api: &Api, secret: &str, path: &str, body: Vec<u8>) -> (u16, Bytes) {
    let request = Request::post(path)
        .header("authorization", format!("Bearer {secret}"))
        .header("content-type", "application/msgpack")
        .body(Body::from(body))
        .unwrap();
    let response = router::internal(api.app.clone())
        .oneshot(request)
        .await
        .unwrap();
    let status = response.status().as_u16();
    (
        status,
        axum::body::to_bytes(response.into_body(), usize::MAX)
            .await
            .unwrap(),
    )
}

async fn resolve<Q: Serialize, A: DeserializeOwned>(api: &Api, path: &str, question: &Q) -> A {
    let body = rmp_serde::to_vec_named(question).unwrap();
    let (status, answer) = ask(api, SECRET, path, body).await;
    assert_eq!(status, 200);
    rmp_serde::from_slice(&answer).unwrap()
}

#[sqlx::test(migrations = "./migrations")]
async fn a_key_is_told_with_what_its_profile_pays_with(pool: PgPool) {
    let api = Api::new(pool);
    let agent = api.register(&Wallet::evm()).await;
    let digest = api_key::parse(&agent.key).unwrap();
    let known = async || -> Option<KeyRecord> { resolve(&api, RESOLVE_KEY, &digest).await };
    let record = known().await.unwrap();
    assert_eq!(record.profile_id.to_string(), agent.id);
    assert_eq!(record.default_family, Some(Family::Evm));
    assert!(record.has_evm && !record.has_solana && !record.revoked);
    agent
        .delete(&format!("/api-keys/{}", record.key_id))
        .await
        .data(200);
    assert!(known().await.unwrap().revoked);
    let unknown = api_key::generate(|| crochet_shared::id::random::<1>()[0]).digest;
    let nobody: Option<KeyRecord> = resolve(&api, RESOLVE_KEY, &unknown).await;
    assert_eq!(nobody, None);
}

#[sqlx::test(migrations = "./migrations")]
async fn a_route_is_told_with_its_secrets_opened(pool: PgPool) {
    let api = Api::new(pool);
    let agent = api.agent().await;
    let more = json!({ "pricing_amount": 0.01, "endpoint": {
        "redelivery": "never", "auth_header": { "name": "X-Api-Key", "value": "hush" } } });
    let listing = agent.list(more).await;
    let id = listing["id"].as_str().unwrap();
    let by_id = RouteName::Id(id.parse().unwrap());
    let by_slug = RouteName::Slug("echo".into());
    let record: Option<RouteRecord> = resolve(&api, RESOLVE_ROUTE, &by_id).await;
    let same: Option<RouteRecord> = resolve(&api, RESOLVE_ROUTE, &by_slug).await;
    assert_eq!(record, same);
    let record = record.unwrap();
    assert_eq!(
        (record.status, record.price.0),
        (ListingStatus::Active, 10_000)
    );
    let endpoint = record.endpoint.unwrap();
    assert_eq!(endpoint.url, URL);
    assert_eq!(
        endpoint.auth_header,
        Some(("X-Api-Key".into(), "hush".into()))
    );
    let secret = listing["gateway_endpoint"]["signing_secret"]
        .as_str()
        .unwrap();
    assert_eq!(endpoint.secrets, [(secret.to_owned(), None)]);
    assert_eq!(
        (endpoint.redelivery, endpoint.paused),
        (Redelivery::Never, false)
    );
    agent
        .put(
            &format!("/listings/{id}/endpoint"),
            &json!({ "status": "paused" }),
        )
        .await
        .data(200);
    let paused: Option<RouteRecord> = resolve(&api, RESOLVE_ROUTE, &by_id).await;
    let paused = paused.unwrap();
    assert!(paused.endpoint.unwrap().paused && paused.version > record.version);
    for nothing in [RouteName::Slug("nope".into()), RouteName::Slug("\0".into())] {
        let none: Option<RouteRecord> = resolve(&api, RESOLVE_ROUTE, &nothing).await;
        assert_eq!(none, None);
    }
}

#[sqlx::test(migrations = "./migrations")]
async fn only_a_gateway_is_answered(pool: PgPool) {
    let api = Api::new(pool);
    let agent = api.agent().await;
    let body = rmp_serde::to_vec_named(&api_key::parse(&agent.key).unwrap()).unwrap();
    for secret in ["", "wrong", &agent.key] {
        assert_eq!(ask(&api, secret, RESOLVE_KEY, body.clone()).await.0, 401);
    }
    assert_eq!(
        ask(&api, SECRET, RESOLVE_KEY, b"nonsense".to_vec()).await.0,
        400
    );
    assert_eq!(ask(&api, SECRET, RESOLVE_KEY, body).await.0, 200);
    let public = api
        .send(Request::post(RESOLVE_KEY).body(Body::empty()).unwrap())
        .await;
    public.error(404, "NOT_FOUND");
}
