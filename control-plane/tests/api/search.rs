//! `GET /listings?q=…`: what is kept of words, and the ways in which a search is read

use serde_json::json;
use sqlx::{AssertSqlSafe, PgPool};

use super::browse::Market;

#[sqlx::test(migrations = "./migrations")]
async fn words_that_no_listing_has_any_more_are_forgotten_and_found_again_when_one_has(
    pool: PgPool,
) {
    let market = Market::new(pool).await;
    market.list("Quixotic zephyr", json!({})).await;
    market.list("Steady zephyr", json!({})).await;
    let words = async || -> Vec<String> {
        sqlx::query_scalar(
            "select word from search_word where word in ('quixotic', 'steady', 'zephyr') order by word",
        )
        .fetch_all(market.api.app.db.pool())
        .await
        .unwrap()
    };
    let status = async |status: &str| {
        let change = json!({ "status": status });
        let changed = market.agent.patch("/listings/quixotic-zephyr", &change);
        changed.await.data(200);
    };
    // Twice round: the second begins where the first began.
    let walk = control_plane::catalog::Walk::default();
    let round = async || {
        for _ in 0..2 {
            walk.go_on(&market.api.app).await.unwrap();
        }
    };
    round().await;
    assert_eq!(words().await, ["quixotic", "steady", "zephyr"]);
    status("suspended").await;
    assert_eq!(
        words().await.len(),
        3,
        "a change of a listing deletes no word"
    );
    round().await;
    assert_eq!(words().await, ["steady", "zephyr"]);
    status("active").await;
    assert_eq!(market.found("quixotc").await, ["Quixotic zephyr"]);
    assert_eq!(words().await, ["quixotic", "steady", "zephyr"]);
}

/// Listings that come and go while words are forgotten: in the end each word's count is right.
#[sqlx::test(migrations = "./migrations")]
async fn words_are_counted_right_while_unused_ones_are_forgotten(pool: PgPool) {
    let market = Market::new(pool).await;
    market.list("Quixotic zephyr", json!({})).await;
    let changes = async {
        for number in 0..40 {
            let status = if number % 2 == 0 {
                "suspended"
            } else {
                "active"
            };
            let change = json!({ "status": status });
            let changed = market.agent.patch("/listings/quixotic-zephyr", &change);
            changed.await.data(200);
        }
    };
    let walk = control_plane::catalog::Walk::default();
    let rounds = async {
        loop {
            walk.go_on(&market.api.app).await.unwrap();
        }
    };
    tokio::select! {
        () = changes => {}
        () = rounds => {}
    }
    let counts: Vec<i64> =
        sqlx::query_scalar("select listings from search_word where word in ('quixotic', 'zephyr')")
            .fetch_all(market.api.app.db.pool())
            .await
            .unwrap();
    assert_eq!(counts, [1, 1]);
}

/// So many that the order of a sort is walked, and a few of them that are gathered.
#[sqlx::test(migrations = "./migrations")]
async fn a_search_finds_the_same_gathered_or_walked(pool: PgPool) {
    let market = Market::new(pool).await;
    market.list("Origin", json!({})).await;
    let db = market.api.app.db.pool();
    for sql in [
        "insert into listing (id, slug, seller_id, name, description, pricing_model, price_micros, delivery_type, status)
         select gen_random_uuid(), 'slug-' || n, seller_id,
             case when n % 50 = 0 then 'Zephyr ' when n % 5 = 0 then 'Alone ' else 'Sound ' end || n,
             case when n % 5 = 0 then 'Other.' else 'A zephyr.' end, 'per_call', 1 + n % 7, 'api', 'active'
         from listing, generate_series(1, 4000) n",
        "update listing_stats set calls_30d = price_micros % 3, review_count = 1, rating_sum = price_micros % 5",
    ] {
        sqlx::query(sql).execute(db).await.unwrap();
    }
    for (q, having, sort, order) in [
        ("zephyr", "Zephyr %|Sound %", "newest", "l.id desc"),
        (
            "zephyr",
            "Zephyr %|Sound %",
            "popular",
            "s.calls_30d desc, l.id desc",
        ),
        (
            "sound",
            "Sound %",
            "rating",
            "s.rating_order desc, l.id desc",
        ),
        (
            "sound+zephyr",
            "Sound %",
            "price_low",
            "l.price_micros, l.id",
        ),
        (
            "alone+other",
            "Alone %",
            "popular",
            "s.calls_30d desc, l.id desc",
        ),
        (
            "alone",
            "Alone %",
            "price_high",
            "l.price_micros desc, l.id desc",
        ),
    ] {
        let sql = format!(
            "select l.name from listing l join listing_stats s on s.listing_id = l.id
             where l.name like any (string_to_array($1, '|')) order by {order}"
        );
        let expected: Vec<String> = sqlx::query_scalar(AssertSqlSafe(sql))
            .bind(having)
            .fetch_all(db)
            .await
            .unwrap();
        let query = format!("q={q}&sort={sort}&limit=100");
        assert_eq!(market.walked(&query).await, expected, "{query}");
        let mut paged = Vec::new();
        for page in 1..=expected.len().div_ceil(100) {
            let path = format!("/listings?{query}&page={page}");
            let answer = market.api.get(&path).await.json();
            assert_eq!(answer["pagination"]["total"], expected.len(), "{query}");
            let rows = answer["data"].as_array().unwrap().iter();
            paged.extend(rows.map(|row| row["name"].as_str().unwrap().to_owned()));
        }
        assert_eq!(paged, expected, "{query} by page");
    }
}

impl Market {
    async fn run(&self, sql: &'static str) {
        sqlx::raw_sql(sql)
            .execute(self.api.app.db.pool())
            .await
            .unwrap();
    }
}

/// So many match that the first rows are remembered, until a listing with one of the words comes or goes.
#[sqlx::test(migrations = "./migrations")]
async fn the_first_rows_of_a_dear_search_are_remembered_until_a_listing_with_its_words_changes(
    pool: PgPool,
) {
    let market = Market::new(pool).await;
    market.list("Origin", json!({})).await;
    market
        .run(
            "insert into listing (id, slug, seller_id, name, description, pricing_model, price_micros, delivery_type, status)
             select gen_random_uuid(), 'slug-' || n, seller_id, 'Ambers ' || n,
                 case when n % 5 = 0 then 'Other.' else 'A translator.' end, 'per_call', n, 'api', 'active'
             from listing, generate_series(1, 3000) n",
        )
        .await;
    // By stems, and with a slip in one.
    for q in ["ambers+translators", "amber+tranlator"] {
        let shows = async |name: &str, total: i64| {
            let query = format!("q={q}&sort=price_high&limit=2");
            let answer = market.api.get(&format!("/listings?{query}")).await.json();
            assert_eq!(answer["pagination"]["total"], total, "{q}");
            assert_eq!(answer["data"][0]["name"], name, "{q}");
        };
        // Whoever gathers finds another first.
        let is_cheap = async |cheap: bool| {
            market
                .run(if cheap {
                    "update listing_search set price_micros = 1 where price_micros = 2999"
                } else {
                    "update listing_search s set price_micros = l.price_micros from listing l where l.id = s.listing_id"
                })
                .await;
        };
        let gathered_then_remembered = async |total| {
            shows("Ambers 2999", total).await;
            is_cheap(true).await;
            shows("Ambers 2999", total).await;
        };
        gathered_then_remembered(2400).await;
        // It has one of the words, and costs more than all others.
        market.list("Amber", json!({})).await;
        shows("Ambers 2998", 2400).await;
        is_cheap(false).await;
        market
            .run("update listing set status = 'suspended' where slug = 'slug-2999'")
            .await;
        shows("Ambers 2998", 2399).await;
        market
            .run("update listing set status = 'active' where slug = 'slug-2999'")
            .await;
        gathered_then_remembered(2400).await;
        is_cheap(false).await;
        // As many match afterwards, but others.
        market
            .run(
                "update listing set description = case name when 'Origin' then 'An amber translator.' else 'Other.' end
                 where name in ('Origin', 'Ambers 2999')",
            )
            .await;
        shows("Origin", 2400).await;
        market
            .run(
                "update listing set description = case name when 'Origin' then 'Other.' else 'A translator.' end
                 where name in ('Origin', 'Ambers 2999')",
            )
            .await;
    }
}

#[sqlx::test(migrations = "./migrations")]
async fn what_is_remembered_is_shown_as_what_is_gathered(pool: PgPool) {
    let market = Market::new(pool).await;
    market.list("Origin", json!({})).await;
    market
        .run(
            "insert into listing (id, slug, seller_id, name, description, pricing_model, price_micros, delivery_type, status)
             select gen_random_uuid(), 'slug-' || n, seller_id, 'Amber ' || n,
                 case when n % 5 = 0 then 'Other.' else 'A lantern.' end, 'per_call', 1 + n % 7, 'api', 'active'
             from listing, generate_series(1, 3000) n;
             update listing_stats set calls_30d = price_micros % 3, review_count = 1, rating_sum = price_micros % 5",
        )
        .await;
    for (sort, order) in [
        ("newest", "l.id desc"),
        ("popular", "s.calls_30d desc, l.id desc"),
        ("rating", "s.rating_order desc, l.id desc"),
        ("price_low", "l.price_micros, l.id"),
        ("price_high", "l.price_micros desc, l.id desc"),
    ] {
        let sql = format!(
            "select l.name from listing l join listing_stats s on s.listing_id = l.id
             where l.description = 'A lantern.' order by {order}"
        );
        let expected: Vec<String> = sqlx::query_scalar(AssertSqlSafe(sql))
            .fetch_all(market.api.app.db.pool())
            .await
            .unwrap();
        let query = format!("q=amber+lantern&sort={sort}");
        for page in [1, 1, 2, 11, 12] {
            let path = format!("/listings?{query}&limit=9&page={page}");
            let answer = market.api.get(&path).await.json();
            let rows = answer["data"].as_array().unwrap().iter();
            let names: Vec<&str> = rows.map(|row| row["name"].as_str().unwrap()).collect();
            assert_eq!(names, expected[9 * (page - 1)..9 * page], "{sort} {page}");
            assert_eq!(answer["pagination"]["total"], 2400, "{sort} {page}");
        }
        let walked = market.walked(&format!("{query}&limit=20")).await;
        assert_eq!(walked, expected, "{sort}");
    }
}

/// Few match: they are gathered each time, in the order of this moment.
#[sqlx::test(migrations = "./migrations")]
async fn a_small_search_is_not_remembered(pool: PgPool) {
    let market = Market::new(pool).await;
    for name in ["Amber lamp", "Amber lantern"] {
        market.list(name, json!({ "pricing_amount": "1" })).await;
    }
    for (slug, price, first) in [
        ("amber-lantern", "2", "Amber lantern"),
        ("amber-lamp", "3", "Amber lamp"),
    ] {
        let change = json!({ "pricing_amount": price });
        let path = format!("/listings/{slug}");
        market.agent.patch(&path, &change).await.data(200);
        assert_eq!(market.names("q=amber&sort=price_high").await[0], first);
    }
}
