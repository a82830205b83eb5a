//! `/reviews/:listingId`

use std::collections::BTreeSet;

use futures_util::future::join_all;
use serde_json::{Value, json};
use sqlx::PgPool;

use super::client::{Agent, Api};
use crate::payments::stage::{Stage, delivery};

/// Praise without words.
fn stars(rating: i64) -> Value {
    json!({ "accuracy_rating": rating, "reliability_rating": rating, "value_rating": rating })
}

/// Where payments between these two for this listing are made.
pub(crate) fn trade(api: &Api, buyer: &Agent, seller: &Agent, listing: &Value) -> Stage {
    Stage {
        app: std::sync::Arc::clone(&api.app),
        buyer: buyer.id.parse().unwrap(),
        seller: seller.id.parse().unwrap(),
        listing: listing["id"].as_str().unwrap().parse().unwrap(),
        sandbox: String::new(),
    }
}

fn path(listing: &Value) -> String {
    format!("/reviews/{}", listing["id"].as_str().unwrap())
}

/// A seller with a listing, and a buyer to whom a call was delivered.
async fn bought(api: &Api) -> (Agent, Agent, Value) {
    let (seller, buyer) = (api.agent().await, api.agent().await);
    let listing = seller.list(json!({})).await;
    trade(api, &buyer, &seller, &listing).delivered().await;
    (seller, buyer, listing)
}

#[sqlx::test(migrations = "./migrations")]
async fn a_buyer_reviews_what_was_delivered_and_everyone_reads_it(pool: PgPool) {
    let api = Api::new(pool);
    let (_, buyer, listing) = bought(&api).await;
    let body = json!({
        "accuracy_rating": 5, "reliability_rating": 4, "value_rating": 4,
        "title": "  Quick  ", "comment": "Echoes well.", "unknown": true,
    });
    let answer = buyer.post(&path(&listing), &body).await;
    assert_eq!(
        answer.header("location"),
        format!("/api/v1{}", path(&listing))
    );
    let review = answer.data(201);
    assert!(review["id"].is_string() && review["created_at"].as_str().unwrap().ends_with('Z'));
    let shown = json!({
        "id": review["id"], "listing_id": listing["id"],
        "reviewer": { "id": buyer.id, "display_name": "Ada", "is_verified": false, "score": 500 },
        "accuracy_rating": 5, "reliability_rating": 4, "value_rating": 4, "rating": 4.33,
        "title": "Quick", "comment": "Echoes well.", "verified_purchase": true,
        "created_at": review["created_at"],
    });
    assert_eq!(review, shown);

    let by_slug = format!("/reviews/{}", listing["slug"].as_str().unwrap());
    for path in [path(&listing), by_slug] {
        let answer = api.get(&path).await;
        assert_eq!(answer.data(200), json!([shown]));
        let json = answer.json();
        assert_eq!(
            json["summary"],
            json!({
                "count": 1, "average": 4.33, "accuracy_average": 5.0, "reliability_average": 4.0,
                "value_average": 4.0, "distribution": { "1": 0, "2": 0, "3": 0, "4": 1, "5": 0 },
            })
        );
        assert_eq!(
            json["pagination"],
            json!({ "page": 1, "limit": 20, "total": 1, "totalPages": 1, "next_cursor": null })
        );
    }
}

#[sqlx::test(migrations = "./migrations")]
async fn a_listing_without_reviews_has_an_empty_list(pool: PgPool) {
    let api = Api::new(pool);
    let listing = api.agent().await.list(json!({})).await;
    let answer = api.get(&path(&listing)).await;
    assert_eq!(answer.data(200), json!([]));
    assert_eq!(answer.json()["summary"]["average"], Value::Null);
    assert_eq!(answer.json()["summary"]["count"], 0);
}

#[sqlx::test(migrations = "./migrations")]
async fn only_a_delivered_call_of_this_listing_is_a_qualifying_purchase(pool: PgPool) {
    let api = Api::new(pool);
    let (seller, buyer) = (api.agent().await, api.agent().await);
    let listing = seller.list(json!({})).await;
    let other = seller.list(json!({ "name": "Other" })).await;
    let refused = async || {
        let error = buyer.post(&path(&listing), &stars(5)).await;
        let error = error.error(403, "NO_QUALIFYING_PURCHASE");
        assert_eq!(error["recovery"]["next_action"], "purchase_first");
    };
    refused().await;
    // Another listing of hers, another buyer of this one, and a payment without its call.
    trade(&api, &buyer, &seller, &other).delivered().await;
    let stranger = api.agent().await;
    trade(&api, &stranger, &seller, &listing).delivered().await;
    let stage = trade(&api, &buyer, &seller, &listing);
    let paid = stage.paid().await;
    refused().await;
    control_plane::reviews::fold(&api.app, std::time::Duration::ZERO)
        .await
        .unwrap();
    refused().await;
    let (grant, owner) = stage.claimed(&paid).await;
    stage.settle(delivery(&grant, owner, b"{}")).await;
    buyer.post(&path(&listing), &stars(5)).await.data(201);
}

/// Whether the fold has read of the purchase or not, its age counts from the delivery.
#[sqlx::test(migrations = "./migrations")]
async fn a_purchase_qualifies_for_as_long_as_the_window(pool: PgPool) {
    let api = Api::with(pool.clone(), &["--review-window-seconds=3600"]);
    let (_, buyer, listing) = bought(&api).await;
    let age = async |seconds: i32| {
        sqlx::raw_sql(sqlx::AssertSqlSafe(format!(
            "alter table transfer disable trigger transfer_no_change;
             update transfer set created_at = now() - interval '{seconds} seconds';
             update fold_cursor set position = now() - interval '1 day'"
        )))
        .execute(&pool)
        .await
        .unwrap();
    };
    let post = async || buyer.post(&path(&listing), &stars(5)).await;
    age(3601).await;
    post().await.error(403, "NO_QUALIFYING_PURCHASE");
    control_plane::reviews::fold(&api.app, std::time::Duration::ZERO)
        .await
        .unwrap();
    post().await.error(403, "NO_QUALIFYING_PURCHASE");
    sqlx::query("update purchase set last_delivered_at = now() - interval '3590 seconds'")
        .execute(&pool)
        .await
        .unwrap();
    post().await.data(201);
    // Reviewed once: that is what a second is told, whatever has become of the window.
    age(3601).await;
    post().await.error(409, "REVIEW_ALREADY_EXISTS");
    sqlx::query("delete from purchase")
        .execute(&pool)
        .await
        .unwrap();
    post().await.error(409, "REVIEW_ALREADY_EXISTS");
}

#[sqlx::test(migrations = "./migrations")]
async fn a_seller_cannot_review_her_own_listing(pool: PgPool) {
    let api = Api::new(pool);
    let (seller, buyer, listing) = bought(&api).await;
    seller
        .post(&path(&listing), &stars(5))
        .await
        .error(403, "CANNOT_REVIEW_OWN_LISTING");
    api.post(&path(&listing), &stars(5))
        .await
        .error(401, "UNAUTHORIZED");
    // Withdrawn since, it can still be reviewed and read.
    seller
        .patch(
            &format!("/listings/{}", listing["id"].as_str().unwrap()),
            &json!({ "status": "suspended" }),
        )
        .await
        .data(200);
    buyer.post(&path(&listing), &stars(2)).await.data(201);
    assert_eq!(
        api.get(&path(&listing)).await.json()["summary"]["average"],
        2.0
    );
}

#[sqlx::test(migrations = "./migrations")]
async fn what_is_no_listing_or_a_draft_has_no_reviews(pool: PgPool) {
    let api = Api::new(pool);
    let (seller, buyer) = (api.agent().await, api.agent().await);
    let draft = seller.list(json!({ "status": "draft" })).await;
    let unknown = json!({ "id": "0190a000-0000-7000-8000-000000000001" });
    for listing in [
        draft,
        unknown,
        json!({ "id": "no-such-slug" }),
        json!({ "id": "'" }),
    ] {
        api.get(&path(&listing))
            .await
            .error(404, "LISTING_NOT_FOUND");
        buyer
            .post(&path(&listing), &stars(5))
            .await
            .error(404, "LISTING_NOT_FOUND");
    }
}

#[sqlx::test(migrations = "./migrations")]
async fn every_bad_field_is_named_at_once(pool: PgPool) {
    let api = Api::new(pool);
    let (_, buyer, listing) = bought(&api).await;
    let bad = json!({
        "accuracy_rating": 6, "reliability_rating": 4.5, "title": "a".repeat(121), "comment": "tab\there",
    });
    let answer = buyer.post(&path(&listing), &bad).await;
    let all = [
        "accuracy_rating",
        "comment",
        "reliability_rating",
        "title",
        "value_rating",
    ];
    assert_eq!(answer.bad_fields(), all);
    for rating in [
        json!(0),
        json!(-1),
        json!("5"),
        json!(null),
        json!(true),
        json!([5]),
        json!(1.5),
    ] {
        let mut body = stars(5);
        body["value_rating"] = rating.clone();
        let answer = buyer.post(&path(&listing), &body).await;
        assert_eq!(answer.bad_fields(), ["value_rating"], "{rating}");
    }
    for comment in ["nul\u{0}", "line\nbreak", &"é".repeat(4001)] {
        let mut body = stars(5);
        body["comment"] = comment.into();
        assert_eq!(
            buyer.post(&path(&listing), &body).await.bad_fields(),
            ["comment"]
        );
    }
    for title in [
        "Ex\u{200b}act",
        "\u{202e}tcaxE",
        "Ex\u{200d}act",
        "\u{feff}Exact",
    ] {
        let mut body = stars(5);
        body["title"] = title.into();
        assert_eq!(
            buyer.post(&path(&listing), &body).await.bad_fields(),
            ["title"],
            "{title:?}"
        );
    }
    for query in [
        "sort=best",
        "limit=0",
        "limit=101",
        "page=0",
        "cursor=x",
        "sort=newest&sort=newest",
    ] {
        let answer = api.get(&format!("{}?{query}", path(&listing))).await;
        assert_eq!(
            answer.bad_fields(),
            [query.split('=').next().unwrap()],
            "{query}"
        );
    }
    assert_eq!(api.get(&path(&listing)).await.json()["summary"]["count"], 0);
    let mut longest = stars(1);
    longest["title"] = "é".repeat(120).into();
    longest["comment"] = "é".repeat(4000).into();
    buyer.post(&path(&listing), &longest).await.data(201);
}

#[sqlx::test(migrations = "./migrations")]
async fn of_a_hundred_reviews_at_once_one_is_written(pool: PgPool) {
    let api = Api::new(pool.clone());
    let (_, buyer, listing) = bought(&api).await;
    let posts = (0..100).map(|_| async { buyer.post(&path(&listing), &stars(4)).await });
    let answers = join_all(posts).await;
    let mut written = 0;
    for answer in answers {
        if answer.status == 201 {
            written += 1;
        } else {
            answer.error(409, "REVIEW_ALREADY_EXISTS");
        }
    }
    assert_eq!(written, 1);
    // What lost has left nothing in any sum.
    let answer = api.get(&path(&listing)).await.json();
    assert_eq!(
        (
            answer["data"].as_array().unwrap().len(),
            &answer["summary"]["count"]
        ),
        (1, &json!(1))
    );
    let stats = api
        .get(&format!("/listings/{}", listing["id"].as_str().unwrap()))
        .await
        .data(200)["stats"]
        .clone();
    assert_eq!(
        (&stats["review_count"], &stats["rating_average"]),
        (&json!(1), &json!(4.0))
    );
    let reviews: i64 = sqlx::query_scalar("select reviews from reputation")
        .fetch_one(&pool)
        .await
        .unwrap();
    assert_eq!(reviews, 1);
}

/// Reviews of a listing by many buyers, with ratings that repeat and differ.
async fn reviewed(pool: &PgPool, api: &Api, listing: &Value, count: i64) {
    for number in 0..count {
        let buyer = api.agent().await;
        sqlx::query(
            "insert into purchase (listing_id, buyer_id, last_delivered_at) values ($1, $2, now())",
        )
        .bind(
            listing["id"]
                .as_str()
                .unwrap()
                .parse::<uuid::Uuid>()
                .unwrap(),
        )
        .bind(buyer.id.parse::<uuid::Uuid>().unwrap())
        .execute(pool)
        .await
        .unwrap();
        let rating = |step: i64| number * step % 5 + 1;
        let body = json!({ "accuracy_rating": rating(1), "reliability_rating": rating(2), "value_rating": rating(3) });
        buyer.post(&path(listing), &body).await.data(201);
    }
}

/// The sum of a review's ratings.
fn total(review: &Value) -> i64 {
    ["accuracy_rating", "reliability_rating", "value_rating"]
        .iter()
        .map(|name| review[*name].as_i64().unwrap())
        .sum()
}

fn id(review: &Value) -> String {
    review["id"].as_str().unwrap().to_owned()
}

#[sqlx::test(migrations = "./migrations")]
async fn each_sort_is_walked_by_cursor_and_by_page_without_gap_or_repeat(pool: PgPool) {
    let api = Api::new(pool.clone());
    let seller = api.agent().await;
    let listing = seller.list(json!({})).await;
    reviewed(&pool, &api, &listing, 23).await;
    for (sort, sorted) in [
        (
            "newest",
            (|a, b| id(b).cmp(&id(a))) as fn(&Value, &Value) -> std::cmp::Ordering,
        ),
        ("highest", |a, b| (total(b), id(b)).cmp(&(total(a), id(a)))),
        ("lowest", |a, b| {
            total(a).cmp(&total(b)).then(id(b).cmp(&id(a)))
        }),
    ] {
        let base = format!("{}?sort={sort}&limit=5", path(&listing));
        let (mut by_cursor, mut by_page, mut query) = (Vec::new(), Vec::new(), String::new());
        loop {
            let answer = api.get(&format!("{base}{query}")).await;
            by_cursor.extend(answer.data(200).as_array().unwrap().clone());
            match answer.json()["pagination"]["next_cursor"].as_str() {
                Some(cursor) => query = format!("&cursor={cursor}"),
                None => break,
            }
        }
        for page in 1..=5 {
            let answer = api.get(&format!("{base}&page={page}")).await;
            assert_eq!(answer.json()["pagination"]["total"], 23);
            by_page.extend(answer.data(200).as_array().unwrap().clone());
        }
        let distinct: BTreeSet<String> = by_cursor.iter().map(id).collect();
        assert_eq!((by_cursor.len(), distinct.len()), (23, 23), "{sort}");
        assert_eq!(by_cursor, by_page, "{sort}");
        assert!(
            by_cursor.is_sorted_by(|a, b| sorted(a, b).is_le()),
            "{sort}"
        );
        assert_eq!(
            api.get(&format!("{base}&page=6")).await.data(200),
            json!([])
        );
    }
    // A cursor of another listing's reviews names no place in a list by rating.
    let other = seller.list(json!({ "name": "Other" })).await;
    let answer = api.get(&format!("{}?limit=1", path(&listing))).await.json();
    let cursor = answer["pagination"]["next_cursor"].as_str().unwrap();
    let answer = api
        .get(&format!("{}?sort=highest&cursor={cursor}", path(&other)))
        .await;
    assert_eq!(answer.bad_fields(), ["cursor"]);

    let shown = api.get(&path(&listing)).await.json()["summary"].clone();
    let (count, average, accuracy, fives): (i64, f64, f64, i64) = sqlx::query_as(
        "select count(*), round(avg(total) / 3, 2)::float8, round(avg(accuracy), 2)::float8,
            count(*) filter (where round(total / 3.0) = 5)
         from review",
    )
    .fetch_one(&pool)
    .await
    .unwrap();
    assert_eq!(
        (
            &shown["count"],
            &shown["average"],
            &shown["accuracy_average"],
            &shown["distribution"]["5"]
        ),
        (
            &json!(count),
            &json!(average),
            &json!(accuracy),
            &json!(fives)
        )
    );
}
