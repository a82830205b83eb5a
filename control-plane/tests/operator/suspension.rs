//! What an operator withdraws, and that she gives back exactly that.

use control_plane::operator::suspension::{
    Listing, Seller, pause_listing, resume_listing, resume_seller, suspend_seller,
};
use control_plane::operator::{Change, Exit};
use crochet_shared::clock;
use crochet_shared::id::{ListingId, ProfileId};
use serde_json::{Value, json};
use sqlx::PgPool;

use super::{kept, rehearsed};
use crate::api::client::{Agent, Api};

fn listing(of: &Value, change: Change) -> Listing {
    Listing {
        listing: of["id"].as_str().unwrap().parse().unwrap(),
        change,
    }
}

fn seller(of: &Agent, change: Change) -> Seller {
    Seller {
        seller: of.id.parse().unwrap(),
        change,
    }
}

/// A listing's status as its owner sees it.
async fn status(owner: &Agent, of: &Value) -> String {
    let path = format!("/listings/{}", of["id"].as_str().unwrap());
    let listing = owner.get(&path).await.data(200);
    listing["status"].as_str().unwrap().to_owned()
}

async fn become_(owner: &Agent, of: &Value, status: &str) -> crate::api::client::Answer {
    let path = format!("/listings/{}", of["id"].as_str().unwrap());
    owner.patch(&path, &json!({ "status": status })).await
}

/// Which listings gateways wait to hear of; afterwards none.
async fn told(api: &Api) -> Vec<ListingId> {
    let ids: Vec<uuid::Uuid> = sqlx::query_scalar(
        "delete from outbox returning coalesce(listing_id, '00000000-0000-0000-0000-000000000000')",
    )
    .fetch_all(api.app.db.pool())
    .await
    .unwrap();
    ids.into_iter()
        .filter(|id| !id.is_nil())
        .map(ListingId)
        .collect()
}

#[sqlx::test(migrations = "./migrations")]
async fn a_paused_listing_is_not_its_owners_to_lift_and_returns_as_it_was(pool: PgPool) {
    let api = Api::new(pool);
    let (db, owner) = (&api.app.db, api.agent().await);
    let sold = owner.list(json!({})).await;
    told(&api).await;

    let rehearsal = pause_listing(db, &listing(&sold, rehearsed()))
        .await
        .unwrap();
    assert!(
        rehearsal.text.contains("would be changed"),
        "{}",
        rehearsal.text
    );
    assert_eq!(
        (status(&owner, &sold).await.as_str(), told(&api).await),
        ("active", vec![])
    );

    let paused = pause_listing(db, &listing(&sold, kept())).await.unwrap();
    assert_eq!(
        (paused.exit, &paused.json["changed"]),
        (Exit::Done, &json!(true))
    );
    assert_eq!(told(&api).await, [listing(&sold, kept()).listing]);
    assert_eq!(status(&owner, &sold).await, "suspended");
    become_(&owner, &sold, "active")
        .await
        .error(403, "FORBIDDEN");
    let again = pause_listing(db, &listing(&sold, kept())).await.unwrap();
    assert_eq!(
        (&again.json["changed"], told(&api).await),
        (&json!(false), vec![])
    );

    let resumed = resume_listing(db, &listing(&sold, kept())).await.unwrap();
    assert_eq!(resumed.json["status"], "active");
    assert_eq!(told(&api).await, [listing(&sold, kept()).listing]);
    become_(&owner, &sold, "suspended").await.data(200);
    become_(&owner, &sold, "active").await.data(200);
}

#[sqlx::test(migrations = "./migrations")]
async fn what_its_owner_had_suspended_stays_so_when_it_is_given_back(pool: PgPool) {
    let api = Api::new(pool);
    let (db, owner) = (&api.app.db, api.agent().await);
    let (before, while_asked, while_deleted) = (
        owner.list(json!({})).await,
        owner.list(json!({})).await,
        owner.list(json!({})).await,
    );
    become_(&owner, &before, "suspended").await.data(200);
    for sold in [&before, &while_asked, &while_deleted] {
        pause_listing(db, &listing(sold, kept())).await.unwrap();
    }
    become_(&owner, &while_asked, "suspended").await.data(200);
    let path = format!("/listings/{}", while_deleted["id"].as_str().unwrap());
    owner.delete(&path).await.data(200);
    for sold in [&before, &while_asked, &while_deleted] {
        let resumed = resume_listing(db, &listing(sold, kept())).await.unwrap();
        assert_eq!(resumed.json["status"], "suspended");
        become_(&owner, sold, "active").await.data(200);
    }
}

#[sqlx::test(migrations = "./migrations")]
async fn a_paused_draft_stays_a_draft_and_does_not_become_active(pool: PgPool) {
    let api = Api::new(pool);
    let (db, owner) = (&api.app.db, api.agent().await);
    let draft = owner.list(json!({ "status": "draft" })).await;
    pause_listing(db, &listing(&draft, kept())).await.unwrap();
    assert_eq!(status(&owner, &draft).await, "draft");
    become_(&owner, &draft, "active")
        .await
        .error(403, "FORBIDDEN");
    resume_listing(db, &listing(&draft, kept())).await.unwrap();
    become_(&owner, &draft, "active").await.data(200);
}

#[sqlx::test(migrations = "./migrations")]
async fn a_suspended_seller_sells_nothing_old_or_new_and_still_buys(pool: PgPool) {
    let api = Api::new(pool);
    let (db, owner) = (&api.app.db, api.agent().await);
    let (sold, draft) = (
        owner.list(json!({})).await,
        owner.list(json!({ "status": "draft" })).await,
    );
    told(&api).await;
    let rehearsal = suspend_seller(db, &seller(&owner, rehearsed()))
        .await
        .unwrap();
    assert_eq!(rehearsal.json["listings"].as_array().unwrap().len(), 2);
    assert_eq!(status(&owner, &sold).await, "active");

    suspend_seller(db, &seller(&owner, kept())).await.unwrap();
    assert_eq!(told(&api).await.len(), 2);
    assert_eq!(status(&owner, &sold).await, "suspended");
    for withdrawn in [&sold, &draft] {
        become_(&owner, withdrawn, "active")
            .await
            .error(403, "FORBIDDEN");
    }
    let body = owner.listing_body(json!({ "name": "Another" })).await;
    owner.post("/listings", &body).await.error(403, "FORBIDDEN");
    owner.get("/me").await.data(200);

    let resumed = resume_seller(db, &seller(&owner, kept())).await.unwrap();
    assert_eq!(resumed.json["listings"].as_array().unwrap().len(), 2);
    assert_eq!(status(&owner, &sold).await, "active");
    assert_eq!(status(&owner, &draft).await, "draft");
    let body = owner.listing_body(json!({ "name": "Another" })).await;
    owner.post("/listings", &body).await.data(201);
}

#[sqlx::test(migrations = "./migrations")]
async fn what_was_paused_by_itself_does_not_return_with_its_seller(pool: PgPool) {
    let api = Api::new(pool);
    let (db, owner) = (&api.app.db, api.agent().await);
    let (by_itself, with_her) = (owner.list(json!({})).await, owner.list(json!({})).await);
    pause_listing(db, &listing(&by_itself, kept()))
        .await
        .unwrap();
    suspend_seller(db, &seller(&owner, kept())).await.unwrap();
    resume_seller(db, &seller(&owner, kept())).await.unwrap();
    assert_eq!(status(&owner, &by_itself).await, "suspended");
    assert_eq!(status(&owner, &with_her).await, "active");

    // And one that is given back while she is suspended waits for her.
    suspend_seller(db, &seller(&owner, kept())).await.unwrap();
    let waits = resume_listing(db, &listing(&by_itself, kept()))
        .await
        .unwrap();
    assert_eq!(waits.json["suspended_with_seller"], true);
    assert_eq!(status(&owner, &by_itself).await, "suspended");
    resume_seller(db, &seller(&owner, kept())).await.unwrap();
    assert_eq!(status(&owner, &by_itself).await, "active");
}

#[sqlx::test(migrations = "./migrations")]
async fn who_is_not_there_is_not_found(pool: PgPool) {
    let api = Api::new(pool);
    let (db, now) = (&api.app.db, clock::now());
    let nothing = Listing {
        listing: ListingId::new(now),
        change: kept(),
    };
    let nobody = Seller {
        seller: ProfileId::new(now),
        change: kept(),
    };
    assert_eq!(
        pause_listing(db, &nothing).await.unwrap().exit,
        Exit::NotFound
    );
    assert_eq!(
        resume_listing(db, &nothing).await.unwrap().exit,
        Exit::NotFound
    );
    assert_eq!(
        suspend_seller(db, &nobody).await.unwrap().exit,
        Exit::NotFound
    );
    assert_eq!(
        resume_seller(db, &nobody).await.unwrap().exit,
        Exit::NotFound
    );
}
