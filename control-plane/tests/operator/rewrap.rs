//! `rewrap-secrets`: to a new master key while everything is read and changed, and then without the old one.

use control_plane::endpoints;
use control_plane::operator::rewrap_secrets::{RewrapSecrets, rewrap_secrets};
use control_plane::operator::{Change, Exit, Outcome};
use control_plane::payments::answers;
use crochet_shared::id::ListingId;
use crochet_shared::internal::{ReadAnswer, RouteName, StoredAnswer};
use crochet_shared::seal::Keyring;
use serde_json::json;
use sqlx::PgPool;

use super::{kept, rehearsed};
use crate::api::client::{Agent, Api};
use crate::payments::stage::Stage;

const OLD: &str = "k:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
const NEW: &str = "n:AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";
/// Listings whose secrets are wrapped anew: several batches of [`BATCH`].
const LISTINGS: usize = 7;
const BATCH: i64 = 2;

fn ring(keys: &[&str]) -> Keyring {
    Keyring::parse(&keys.join(",")).unwrap()
}

/// A control plane with these master keys over the same database.
fn with_keys(pool: &PgPool, keys: &[&str]) -> Api {
    let more = [
        "--rate-limit-key-reads-per-minute=1000000",
        "--rate-limit-key-writes-per-minute=1000000",
        "--rate-limit-sign-in-per-5-minutes=1000000",
        &format!("--crochet-master-keys={}", keys.join(",")),
    ];
    Api::with(pool.clone(), &more)
}

async fn rewrapped(api: &Api, keys: &[&str], change: Change) -> Outcome {
    let wanted = RewrapSecrets {
        batch: BATCH,
        change,
    };
    rewrap_secrets(&api.app.db, &ring(keys), &wanted)
        .await
        .unwrap()
}

/// Listings with an auth header and a replaced secret each.
async fn furnished(seller: &Agent) -> Vec<ListingId> {
    let mut ids = Vec::new();
    for _ in 0..LISTINGS {
        let endpoint = json!({ "auth_header": { "name": "x-token", "value": "hush" } });
        let listing = seller.list(json!({ "endpoint": endpoint })).await;
        let id = listing["id"].as_str().unwrap();
        seller
            .call(
                http::Method::POST,
                &format!("/listings/{id}/endpoint/rotate-secret"),
                None,
            )
            .await
            .data(200);
        ids.push(id.parse().unwrap());
    }
    ids
}

/// What a gateway would be given of a listing: its secrets, opened.
async fn secrets(api: &Api, id: ListingId) -> Option<(String, usize)> {
    let route = endpoints::route_record(&api.app, &RouteName::Id(id))
        .await
        .ok()??;
    let endpoint = route.endpoint?;
    let (_, header) = endpoint.auth_header?;
    Some((header, endpoint.secrets.len()))
}

#[sqlx::test(migrations = "./migrations")]
async fn every_secret_opens_under_the_new_key_alone_afterwards(pool: PgPool) {
    let stage = Stage::new(pool.clone()).await;
    let delivered = stage.delivered().await;
    stage
        .run("delete from endpoint where url_sealed = ''")
        .await;
    let old = with_keys(&pool, &[OLD]);
    let ids = furnished(&old.agent().await).await;
    let new = with_keys(&pool, &[NEW]);
    assert_eq!(
        secrets(&new, ids[0]).await,
        None,
        "the new key does not open what the old one sealed"
    );

    let rehearsal = rewrapped(&old, &[NEW, OLD], rehearsed()).await;
    assert_eq!(rehearsal.json["endpoint_rows"], 2 * LISTINGS);
    assert_eq!(secrets(&new, ids[0]).await, None);

    let outcome = rewrapped(&old, &[NEW, OLD], kept()).await;
    assert_eq!(outcome.exit, Exit::Done, "{}", outcome.text);
    assert_eq!(outcome.json["endpoint_rows"], 2 * LISTINGS);
    assert_eq!(outcome.json["still_under_other_keys"], 0);
    for id in &ids {
        assert_eq!(secrets(&new, *id).await, Some(("hush".into(), 2)));
        assert_eq!(
            secrets(&old, *id).await,
            None,
            "the old key opens nothing any more"
        );
    }
    let wanted = ReadAnswer {
        request_id: delivered.request_id(),
        buyer: stage.buyer,
    };
    let answer = answers::read(&new.app, &wanted).await.unwrap();
    assert!(matches!(answer, StoredAnswer::Stored(bytes) if bytes == "{}"));

    let again = rewrapped(&new, &[NEW], kept()).await;
    assert_eq!(
        (again.exit, &again.json["changed"]),
        (Exit::Done, &json!(false))
    );
}

#[sqlx::test(migrations = "./migrations")]
async fn owners_and_gateways_notice_nothing_while_it_runs(pool: PgPool) {
    let seller = with_keys(&pool, &[OLD]).agent().await;
    let ids = furnished(&seller).await;
    // As the servers are set by now: both keys, the new one first.
    let api = with_keys(&pool, &[NEW, OLD]);
    let seller = Agent {
        api: api.clone(),
        ..seller
    };
    let change = async {
        for round in 0..3 {
            for id in &ids {
                let path = format!("/listings/{id}/endpoint");
                let value = format!("hush {round}");
                let body = json!({ "auth_header": { "name": "x-token", "value": value } });
                seller.put(&path, &body).await.data(200);
            }
        }
    };
    let read = async {
        for id in ids.iter().cycle().take(6 * LISTINGS) {
            assert!(secrets(&api, *id).await.is_some(), "{id} does not open");
        }
    };
    let rewrap = async {
        for _ in 0..3 {
            let outcome = rewrapped(&api, &[NEW, OLD], kept()).await;
            assert_eq!(outcome.exit, Exit::Done, "{}", outcome.text);
        }
    };
    tokio::join!(change, read, rewrap);
    let new = with_keys(&pool, &[NEW]);
    for id in ids {
        assert_eq!(secrets(&new, id).await, Some(("hush 2".into(), 2)));
    }
}

#[sqlx::test(migrations = "./migrations")]
async fn what_a_server_with_the_old_key_seals_meanwhile_is_told(pool: PgPool) {
    let old = with_keys(&pool, &[OLD]);
    let seller = old.agent().await;
    furnished(&seller).await;
    // A key that is gone cannot be wrapped: everything is said to be shut, and nothing is touched.
    let outcome = rewrapped(&old, &[NEW], kept()).await;
    assert_eq!(outcome.exit, Exit::Attention);
    assert_eq!(
        outcome.json["do_not_open"].as_array().unwrap().len(),
        LISTINGS
    );
    assert_eq!(outcome.json["still_under_other_keys"], LISTINGS);
    rewrapped(&old, &[NEW, OLD], kept()).await;
    // One more by a server that was not told of the new key.
    seller.list(json!({})).await;
    let outcome = rewrapped(&old, &[NEW, OLD], kept()).await;
    assert_eq!(
        (outcome.exit, &outcome.json["endpoint_rows"]),
        (Exit::Done, &json!(1))
    );
}
