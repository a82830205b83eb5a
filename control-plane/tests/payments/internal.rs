//! The internal API over HTTP: who is let in, the wire, and the bounds.

use axum::body::Body;
use chrono::{DateTime, TimeDelta, Utc};
use control_plane::error::ApiError;
use control_plane::router;
use crochet_shared::code::Code;
use crochet_shared::id::ApiKeyId;
use crochet_shared::internal::{
    self, CLAIMS, Claim, ClaimAnswer, FIND_QUOTES, KeyUse, PROBES, ProbeReport, QuoteFound,
    SETTLEMENTS, SettleAnswer,
};
use http::{Request, StatusCode, header};
use http_body_util::BodyExt as _;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sqlx::{AssertSqlSafe, PgPool};
use tower::ServiceExt as _;
use uuid::Uuid;

use super::stage::{SECRET, Stage, delivery};

async fn post(stage: &Stage, path: &str, secret: &str, body: Vec<u8>) -> (StatusCode, Vec<u8>) {
    let request = Request::post(path)
        .header(header::AUTHORIZATION, format!("Bearer {secret}"))
        .header(header::CONTENT_TYPE, internal::CONTENT_TYPE)
        .body(Body::from(body))
        .unwrap();
    let app = std::sync::Arc::clone(&stage.app);
    let response = router::internal(app).oneshot(request).await.unwrap();
    let status = response.status();
    (
        status,
        response
            .into_body()
            .collect()
            .await
            .unwrap()
            .to_bytes()
            .to_vec(),
    )
}

async fn ask<Q: Serialize, A: DeserializeOwned>(stage: &Stage, path: &str, question: &Q) -> A {
    let body = rmp_serde::to_vec_named(question).unwrap();
    let (status, body) = post(stage, path, SECRET, body).await;
    assert_eq!(status, StatusCode::OK);
    rmp_serde::from_slice(&body).unwrap()
}

#[sqlx::test(migrations = "./migrations")]
async fn a_call_is_claimed_and_settled_over_the_wire(pool: PgPool) {
    let stage = Stage::new(pool).await;
    let request = stage.paid().await;
    let found: Vec<QuoteFound> = ask(&stage, FIND_QUOTES, &vec![request.identity.clone()]).await;
    assert!(matches!(found[0], QuoteFound::Paid { .. }));
    let item = stage.item(&request);
    let claimed: Vec<ClaimAnswer> = ask(&stage, CLAIMS, &vec![item.clone()]).await;
    let [ClaimAnswer::Claimed(grant)] = claimed.as_slice() else {
        panic!("{claimed:?}");
    };
    let settled: Vec<SettleAnswer> = ask(
        &stage,
        SETTLEMENTS,
        &vec![delivery(grant, item.owner, b"{}")],
    )
    .await;
    assert_eq!(settled, [SettleAnswer::Delivered]);
    let none: Vec<ClaimAnswer> = ask(&stage, CLAIMS, &Vec::<Claim>::new()).await;
    assert!(none.is_empty());
}

#[sqlx::test(migrations = "./migrations")]
async fn only_gateways_are_let_in(pool: PgPool) {
    let stage = Stage::new(pool).await;
    let nothing = rmp_serde::to_vec_named(&Vec::<Claim>::new()).unwrap();
    for path in [
        internal::RESOLVE_KEY,
        internal::RESOLVE_ROUTE,
        internal::FIND_QUOTES,
        internal::CREATE_QUOTE,
        internal::CLAIMS,
        internal::CHECK,
        internal::SETTLEMENTS,
        internal::ANSWERS,
        internal::PROBES,
        internal::KEYS_USED,
    ] {
        for secret in ["", "wrong", &SECRET[..SECRET.len() - 1]] {
            let (status, body) = post(&stage, path, secret, nothing.clone()).await;
            assert_eq!(
                (status, body.len()),
                (StatusCode::UNAUTHORIZED, 0),
                "{path}"
            );
        }
    }
}

#[sqlx::test(migrations = "./migrations")]
async fn the_last_use_of_a_key_is_what_gateways_tell_of_it(pool: PgPool) {
    let stage = Stage::new(pool).await;
    stage
        .run(
            "insert into api_key (id, profile_id, name, prefix, digest)
             select gen_random_uuid(), id, 'caller', 'am_k_caller', sha256('caller') from profile limit 1",
        )
        .await;
    let select = "select id, last_used_at from api_key where name = 'caller'";
    let row = async || -> (Uuid, Option<DateTime<Utc>>) {
        sqlx::query_as(select)
            .fetch_one(stage.pool())
            .await
            .unwrap()
    };
    let (id, unused) = row().await;
    assert_eq!(unused, None);
    let now = crochet_shared::clock::now();
    let at = |ago: TimeDelta| KeyUse {
        key_id: ApiKeyId(id),
        at_ms: (now - ago).timestamp_millis(),
    };
    let minutes = TimeDelta::minutes;
    // The latest of what is told counts; nothing older, nor what is less than a minute later, is noted after it.
    for (told, shown) in [
        (vec![at(minutes(9)), at(minutes(5)), at(minutes(7))], 5),
        (vec![at(minutes(6))], 5),
        (vec![at(minutes(5) - TimeDelta::seconds(59))], 5),
        (vec![at(minutes(3))], 3),
        (vec![], 3),
    ] {
        ask::<_, ()>(&stage, internal::KEYS_USED, &told).await;
        let last = row().await.1.unwrap().timestamp_millis();
        assert_eq!(last, at(minutes(shown)).at_ms, "{told:?}");
    }
    // A gateway's clock may be ahead.
    for at_ms in [i64::MAX, i64::MIN, at(-minutes(60)).at_ms] {
        let told = KeyUse {
            at_ms,
            ..at(minutes(0))
        };
        ask::<_, ()>(&stage, internal::KEYS_USED, &vec![told]).await;
        assert!(row().await.1.unwrap() <= crochet_shared::clock::now());
    }
    let many = rmp_serde::to_vec_named(&vec![at(minutes(0)); 65]).unwrap();
    let (status, _) = post(&stage, internal::KEYS_USED, SECRET, many).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
}

#[sqlx::test(migrations = "./migrations")]
async fn what_is_not_the_message_or_too_much_is_refused(pool: PgPool) {
    let stage = Stage::new(pool).await;
    let (status, _) = post(&stage, CLAIMS, SECRET, b"\xc1nonsense".to_vec()).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    let request = stage.paid().await;
    let items: Vec<Claim> = (0..65).map(|_| stage.item(&request)).collect();
    let (status, _) = post(
        &stage,
        CLAIMS,
        SECRET,
        rmp_serde::to_vec_named(&items).unwrap(),
    )
    .await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
    let (status, _) = post(&stage, CLAIMS, SECRET, vec![0; 2 * 1024 * 1024]).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
}

#[sqlx::test(migrations = "./migrations")]
async fn a_database_that_is_away_is_unknown_and_not_failed(pool: PgPool) {
    let stage = Stage::new(pool.clone()).await;
    let request = stage.paid().await;
    pool.close().await;
    let body = rmp_serde::to_vec_named(&vec![stage.item(&request)]).unwrap();
    let (status, _) = post(&stage, CLAIMS, SECRET, body).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
}

/// What Postgres says when it goes down, has no room, or may not write after a failover; and what is a fault of ours.
#[sqlx::test(migrations = false)]
async fn a_database_that_cannot_serve_is_told_from_one_that_was_asked_wrongly(pool: PgPool) {
    let away = [Code::ServiceUnavailable; 5];
    let wrong = [Code::InternalError; 2];
    let states = [
        "57P01", "08006", "53100", "53300", "25006", "42601", "25001",
    ];
    for (state, code) in states.into_iter().zip(away.into_iter().chain(wrong)) {
        let raise = format!("do $$ begin raise sqlstate '{state}'; end $$");
        let said = sqlx::raw_sql(AssertSqlSafe(raise)).execute(&pool).await;
        let error = ApiError::from(said.unwrap_err());
        assert_eq!(error.code(), code, "{state}");
    }
}

#[sqlx::test(migrations = "./migrations")]
async fn a_probe_becomes_the_endpoints_last_test(pool: PgPool) {
    let stage = Stage::new(pool).await;
    let probe = ProbeReport {
        listing: stage.listing,
        ok: false,
        status_code: None,
        outcome: "timeout".into(),
        latency_ms: 7,
    };
    let () = ask(&stage, PROBES, &probe).await;
    let stored: serde_json::Value = sqlx::query_scalar("select last_test from endpoint")
        .fetch_one(stage.pool())
        .await
        .unwrap();
    assert_eq!(
        (&stored["ok"], &stored["outcome"]),
        (&false.into(), &"timeout".into())
    );
}
