//! `GET /listings`: filters, sorts, searches and pages (how a search is read: `search`)

use http::Method;
use serde_json::{Value, json};
use sqlx::PgPool;

use super::client::{Agent, Api};

/// A market of listings, each with a price in dollars, calls and a rating in hundredths.
pub(super) struct Market {
    pub(super) api: Api,
    pub(super) agent: Agent,
}

const ABSENT: &str = "\u{0}absent";

impl Market {
    pub(super) async fn new(pool: PgPool) -> Self {
        let api = Api::new(pool);
        let agent = api.agent().await;
        Self { api, agent }
    }

    pub(super) async fn list(&self, name: &str, mut more: Value) -> Value {
        more["name"] = name.into();
        self.agent.list(more).await
    }

    pub(super) async fn names(&self, query: &str) -> Vec<String> {
        let data = self.api.get(&format!("/listings?{query}")).await.data(200);
        let rows = data.as_array().unwrap().iter();
        rows.map(|row| row["name"].as_str().unwrap().to_owned())
            .collect()
    }

    /// All names, page after page by cursor.
    pub(super) async fn walked(&self, query: &str) -> Vec<String> {
        let mut names = Vec::new();
        let mut cursor = String::new();
        loop {
            let answer = self.api.get(&format!("/listings?{query}{cursor}")).await;
            for row in answer.data(200).as_array().unwrap() {
                names.push(row["name"].as_str().unwrap().to_owned());
            }
            let Some(next) = answer.json()["pagination"]["next_cursor"]
                .as_str()
                .map(str::to_owned)
            else {
                return names;
            };
            cursor = format!("&cursor={next}");
        }
    }

    pub(super) async fn found(&self, text: &str) -> Vec<String> {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        let mut names = self.names(&query.append_pair("q", text).finish()).await;
        names.sort();
        names
    }

    async fn stats(&self, slug: &str, calls: i64, reviews: i32, rating_sum: i64) {
        sqlx::query(
            "update listing_stats set calls_30d = $2, review_count = $3, rating_sum = $4
             where listing_id = (select id from listing where slug = $1)",
        )
        .bind(slug)
        .bind(calls)
        .bind(reviews)
        .bind(rating_sum)
        .execute(self.api.app.db.pool())
        .await
        .unwrap();
    }
}

#[sqlx::test(migrations = "./migrations")]
async fn each_sort_has_its_order_and_ties_are_in_the_order_of_ids(pool: PgPool) {
    let market = Market::new(pool).await;
    let free = json!({ "pricing_model": "free", "pricing_amount": ABSENT, "private_endpoint_url": ABSENT });
    market.list("Alpha", json!({ "pricing_amount": 2 })).await;
    market.list("Beta", json!({ "pricing_amount": 1 })).await;
    market.list("Gamma", free).await;
    market.list("Delta", json!({ "pricing_amount": 2 })).await;
    market.stats("alpha", 5, 1, 450).await;
    market.stats("beta", 7, 3, 3 * 450).await;
    market.stats("gamma", 5, 1, 451).await;
    for (sort, order) in [
        ("newest", ["Delta", "Gamma", "Beta", "Alpha"]),
        ("popular", ["Beta", "Gamma", "Alpha", "Delta"]),
        ("price_low", ["Gamma", "Beta", "Alpha", "Delta"]),
        ("price_high", ["Delta", "Alpha", "Beta", "Gamma"]),
        ("rating", ["Gamma", "Beta", "Alpha", "Delta"]),
    ] {
        assert_eq!(market.names(&format!("sort={sort}")).await, order, "{sort}");
        for limit in 1..=4 {
            let walked = market.walked(&format!("sort={sort}&limit={limit}")).await;
            assert_eq!(walked, order, "{sort} by {limit}");
        }
        let pages = [
            market.names(&format!("sort={sort}&limit=3&page=1")).await,
            market.names(&format!("sort={sort}&limit=3&page=2")).await,
        ];
        assert_eq!(pages.concat(), order, "{sort} by page");
        assert!(
            market
                .names(&format!("sort={sort}&page=400"))
                .await
                .is_empty()
        );
    }
}

#[sqlx::test(migrations = "./migrations")]
async fn a_cursor_of_another_sort_or_list_is_refused(pool: PgPool) {
    let market = Market::new(pool).await;
    for name in ["Alpha", "Beta"] {
        market.list(name, json!({})).await;
    }
    let next = async |path: &str| {
        let page = market.agent.get(path).await.json();
        page["pagination"]["next_cursor"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let popular = next("/listings?sort=popular&limit=1").await;
    let own = next("/me/listings?limit=1").await;
    for (path, cursor) in [
        ("/listings?", &popular),
        ("/listings?sort=rating&", &popular),
        ("/listings?", &own),
        ("/me/listings?", &popular),
    ] {
        let answer = market.agent.get(&format!("{path}cursor={cursor}")).await;
        assert_eq!(answer.bad_fields(), ["cursor"], "{path}");
    }
    let rest = market
        .names(&format!("sort=popular&cursor={popular}"))
        .await;
    assert_eq!(rest, ["Alpha"]);
}

#[sqlx::test(migrations = "./migrations")]
async fn filters_narrow_together_with_every_sort(pool: PgPool) {
    let market = Market::new(pool).await;
    let free = json!({ "pricing_model": "free", "pricing_amount": ABSENT, "private_endpoint_url": ABSENT,
        "category": "code" });
    market.list("Free code", free).await;
    market
        .list(
            "Cheap code",
            json!({ "category": "code", "pricing_amount": 1 }),
        )
        .await;
    market
        .list(
            "Dear code",
            json!({ "category": "code", "pricing_amount": 9, "delivery_type": "file" }),
        )
        .await;
    market
        .list(
            "Dear data",
            json!({ "category": "data", "pricing_amount": 9 }),
        )
        .await;
    for (query, expected) in [
        (
            "category=code",
            vec!["Cheap code", "Dear code", "Free code"],
        ),
        ("category=code&pricing_model=free", vec!["Free code"]),
        ("pricing_model=free&min_price=0.000001", vec![]),
        (
            "category=code&pricing_model=per_call",
            vec!["Cheap code", "Dear code"],
        ),
        ("min_price=1&max_price=8.99", vec!["Cheap code"]),
        (
            "max_price=1000000",
            vec!["Cheap code", "Dear code", "Dear data", "Free code"],
        ),
        ("min_price=1000000", vec![]),
        ("delivery_type=file&category=code", vec!["Dear code"]),
        ("q=dear", vec!["Dear code", "Dear data"]),
        ("q=dear&category=data", vec!["Dear data"]),
        ("q=code&pricing_model=free", vec!["Free code"]),
        (
            "q=code&pricing_model=per_call&max_price=1",
            vec!["Cheap code"],
        ),
        ("q=dear&delivery_type=file", vec!["Dear code"]),
        ("q=dear&min_price=10", vec![]),
        ("q=code&pricing_model=per_call&max_price=0", vec![]),
        ("q=code&min_price=0.000001&max_price=0", vec![]),
    ] {
        for sort in ["newest", "popular", "price_low", "price_high", "rating"] {
            let query = format!("{query}&sort={sort}");
            let mut names = market.names(&query).await;
            names.sort();
            assert_eq!(names, expected, "{query}");
            let mut walked = market.walked(&format!("{query}&limit=1")).await;
            walked.sort();
            assert_eq!(walked, expected, "{query} by cursor");
            let answer = market.api.get(&format!("/listings?{query}")).await.json();
            assert_eq!(answer["pagination"]["total"], expected.len(), "{query}");
        }
    }
}

#[sqlx::test(migrations = "./migrations")]
async fn words_are_found_in_every_part_and_in_every_form(pool: PgPool) {
    let market = Market::new(pool).await;
    market
        .list("Weather oracle", json!({ "description": "Forecasts, translated into any language.", "tags": ["AI tool"] }))
        .await;
    market
        .list("The Who", json!({ "description": "Names of people." }))
        .await;
    market
        .list("天气预报", json!({ "description": "Wetter überall." }))
        .await;
    let draft = json!({ "status": "draft" });
    market.list("Weather draft", draft).await;
    for (text, expected) in [
        ("weather", vec!["Weather oracle"]),
        ("WEATHER", vec!["Weather oracle"]),
        ("forecasting", vec!["Weather oracle"]),
        ("translation", vec!["Weather oracle"]),
        ("ai", vec!["Weather oracle"]),
        ("weather people", vec![]),
        ("weather the", vec!["Weather oracle"]),
        ("the who", vec!["The Who"]),
        ("überall", vec!["天气预报"]),
        ("天气预报", vec!["天气预报"]),
        ("天气", vec!["天气预报"]),
        ("nothing", vec![]),
        ("+++", vec![]),
        ("", vec!["The Who", "Weather oracle", "天气预报"]),
        ("  ", vec!["The Who", "Weather oracle", "天气预报"]),
    ] {
        assert_eq!(market.found(text).await, expected, "{text:?}");
    }
    market
        .agent
        .delete("/listings/weather-oracle")
        .await
        .data(200);
    let left = market.found("weather").await;
    assert!(!left.contains(&"Weather oracle".to_owned()), "{left:?}");
}

#[sqlx::test(migrations = "./migrations")]
async fn a_typo_still_finds(pool: PgPool) {
    let market = Market::new(pool).await;
    market.list("Weather oracle", json!({})).await;
    market.list("Image translator", json!({})).await;
    for (text, expected) in [
        ("wether", "Weather oracle"),
        ("weahter", "Weather oracle"),
        ("waether oracel", "Weather oracle"),
        ("imgae", "Image translator"),
        ("imge", "Image translator"),
        ("tranlsator", "Image translator"),
        ("translatr image", "Image translator"),
    ] {
        assert_eq!(market.found(text).await, [expected], "{text}");
    }
    let described = json!({ "description": "Interpretation of contracts" });
    market.list("Brief", described).await;
    for text in ["interpretation", "interpertation", "interperted"] {
        assert_eq!(market.found(text).await, ["Brief"], "{text}");
    }
    for text in ["whatever", "zzzzzz", "weather translator", "a1b2c3"] {
        assert!(market.found(text).await.is_empty(), "{text}");
    }
}

#[sqlx::test(migrations = "./migrations")]
async fn nothing_in_a_search_is_syntax(pool: PgPool) {
    let market = Market::new(pool).await;
    market.list("Weather oracle", json!({})).await;
    for text in [
        "weather & !oracle",
        "weather | nothing:*",
        "'weather'",
        "\"weather oracle\"",
        "weather <-> oracle",
        "weather:* & (",
        "'; drop table listing; --",
        "\\",
        "%",
        "_",
        "' or 1=1 --",
        "weather\\' & oracle",
        "/c/",
        "$1",
        "((((((((((",
        "\u{202e}weather",
        "\u{feff}",
        "\u{1f300}",
        "e\u{301}\u{301}\u{301}",
        &"a ".repeat(100),
        &"ab".repeat(100),
        &"'".repeat(200),
        &"天".repeat(200),
    ] {
        market.found(text).await;
    }
    assert_eq!(market.found("weather & !oracle").await, ["Weather oracle"]);
    assert_eq!(market.found("\"oracle weather\"").await, ["Weather oracle"]);
    for (query, bad) in [
        (format!("q={}", "a".repeat(201)), "q"),
        ("q=a%00b".to_owned(), "q"),
        ("q=a%0Ab".to_owned(), "q"),
        ("q=a&q=b".to_owned(), "q"),
    ] {
        let answer = market.api.get(&format!("/listings?{query}")).await;
        assert_eq!(answer.bad_fields(), [bad], "{query}");
    }
    let lossy = market.api.get("/listings?q=%ff%fe").await;
    lossy.data(200);
    let head = market
        .api
        .call(Method::HEAD, "/listings?q=weather", None, None)
        .await;
    assert_eq!(head.status, 200);
}

#[sqlx::test(migrations = "./migrations")]
async fn a_total_stops_where_numbered_pages_end_and_a_cursor_goes_on(pool: PgPool) {
    let market = Market::new(pool).await;
    market.list("Echo", json!({})).await;
    sqlx::query(
        "insert into listing (id, slug, seller_id, name, description, pricing_model, price_micros, delivery_type, status)
         select gen_random_uuid(), 'slug-' || n, seller_id, 'Many echoes', 'Text.', 'per_call', n, 'api', 'active'
         from listing, generate_series(1, 10050) n",
    )
    .execute(market.api.app.db.pool())
    .await
    .unwrap();
    for query in [
        "sort=price_low&limit=100",
        "q=many+echoes&sort=price_low&limit=100",
    ] {
        let page = async |more: &str| market.api.get(&format!("/listings?{query}{more}")).await;
        let last = page("&page=100").await.json();
        assert_eq!(last["pagination"]["total"], 10_000, "{query}");
        assert_eq!(last["pagination"]["totalPages"], 100);
        assert_eq!(last["data"].as_array().unwrap().len(), 100);
        assert_eq!(page("&page=101").await.bad_fields(), ["page"]);
        let cursor = last["pagination"]["next_cursor"].as_str().unwrap();
        let beyond = page(&format!("&cursor={cursor}")).await.json();
        let rows = beyond["data"].as_array().unwrap();
        assert_eq!(rows[0]["pricing_amount_micros"], 10_001, "{query}");
        assert!(beyond["pagination"]["total"].is_null());
        assert!(beyond["pagination"]["next_cursor"].is_null());
    }
}

#[sqlx::test(migrations = "./migrations")]
async fn a_search_follows_its_listings_through_every_change(pool: PgPool) {
    let market = Market::new(pool).await;
    for (name, price) in [("Alpha zephyr", 2), ("Beta zephyr", 1), ("Gamma zephyr", 3)] {
        market.list(name, json!({ "pricing_amount": price })).await;
    }
    market.stats("alpha-zephyr", 5, 1, 450).await;
    market.stats("beta-zephyr", 7, 1, 300).await;
    let popular = async || market.names("q=zephyr&sort=popular").await;
    assert_eq!(
        popular().await,
        ["Beta zephyr", "Alpha zephyr", "Gamma zephyr"]
    );
    market.stats("gamma-zephyr", 6, 2, 1000).await;
    assert_eq!(
        popular().await,
        ["Beta zephyr", "Gamma zephyr", "Alpha zephyr"]
    );
    assert_eq!(
        market.names("q=zephyr&sort=rating").await,
        ["Gamma zephyr", "Alpha zephyr", "Beta zephyr"]
    );
    let change = async |slug: &str, change: Value| {
        let path = format!("/listings/{slug}");
        market.agent.patch(&path, &change).await.data(200);
    };
    change("gamma-zephyr", json!({ "status": "suspended" })).await;
    market.stats("gamma-zephyr", 8, 2, 1000).await;
    assert_eq!(popular().await, ["Beta zephyr", "Alpha zephyr"]);
    change("gamma-zephyr", json!({ "status": "active" })).await;
    assert_eq!(
        popular().await,
        ["Gamma zephyr", "Beta zephyr", "Alpha zephyr"]
    );
    change(
        "beta-zephyr",
        json!({ "pricing_amount": 4, "name": "Beta sound" }),
    )
    .await;
    assert_eq!(
        market.names("q=zephyr&sort=price_low").await,
        ["Alpha zephyr", "Gamma zephyr"]
    );
    change("beta-zephyr", json!({ "name": "Beta zephyr" })).await;
    assert_eq!(
        market.names("q=zephyr&sort=price_low").await,
        ["Alpha zephyr", "Gamma zephyr", "Beta zephyr"]
    );
    let seller = format!("provider_id={}", market.agent.id);
    assert_eq!(
        market.names(&format!("q=zephyr&{seller}")).await,
        ["Gamma zephyr", "Beta zephyr", "Alpha zephyr"]
    );
    let other = market.api.agent().await;
    let other = format!("provider_id={}", other.id);
    assert!(market.names(&format!("q=zephyr&{other}")).await.is_empty());
    change("gamma-zephyr", json!({ "pricing_amount": 1 })).await;
    let left: Vec<String> = sqlx::query_scalar(
        "select word from search_word where listings > 0 and word in ('zephyr', 'sound', 'beta')
         order by word",
    )
    .fetch_all(market.api.app.db.pool())
    .await
    .unwrap();
    assert_eq!(left, ["beta", "zephyr"]);
}
