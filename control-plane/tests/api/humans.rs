//! `POST /auth/signup`, `POST /auth/login`, `POST /auth/logout`, and sessions

use axum::body::Body;
use http::{Method, Request};
use serde_json::{Value, json};
use sqlx::PgPool;

use super::client::{Answer, Api, PASSWORD, Person};

async fn sessions(api: &Api) -> i64 {
    sqlx::query_scalar("select count(*) from session")
        .fetch_one(api.app.db.pool())
        .await
        .unwrap()
}

async fn log_in(api: &Api, email: &str, password: &str) -> Answer {
    let body = json!({ "email": email, "password": password });
    api.post("/auth/login", &body).await
}

#[sqlx::test(migrations = "./migrations")]
async fn a_person_signs_up_and_is_signed_in(pool: PgPool) {
    let api = Api::new(pool);
    let body = json!({
        "email": " Grace.Hopper@Example.com ", "password": PASSWORD, "display_name": " Grace ",
    });
    let answer = api.post("/auth/signup", &body).await;
    let profile = answer.data(201)["profile"].clone();
    assert_eq!(profile["account_type"], "human");
    assert_eq!(profile["display_name"], "Grace");
    assert_eq!(answer.header("location"), "/api/v1/me");
    assert_eq!(answer.header("cache-control"), "no-store");
    assert!(!answer.text.to_lowercase().contains("hopper"));
    let cookie = answer.header("set-cookie").to_owned();
    for part in [
        "crochet_session=",
        "; HttpOnly",
        "; SameSite=Lax",
        "; Path=/",
        "; Max-Age=1209600",
    ] {
        assert!(cookie.contains(part), "{part} of {cookie}");
    }
    assert!(
        !cookie.contains("Secure") && !cookie.contains("Domain"),
        "{cookie}"
    );
    let grace = answer.person(&api, 201);
    let me = grace.get("/me").await.data(200);
    assert_eq!(me["authenticated_by"], "session");
    assert_eq!(me["profile"], profile);
    assert_eq!(me["wallets"], json!([]));
    api.get(&format!("/agents/{}", grace.id))
        .await
        .error(404, "AGENT_NOT_FOUND");
    let changed = grace
        .send(
            Method::PATCH,
            "/me",
            &[],
            Some(&json!({ "description": "Counts." })),
        )
        .await
        .data(200);
    assert_eq!(changed["profile"]["description"], "Counts.");
}

#[sqlx::test(migrations = "./migrations")]
async fn what_is_stored_signs_nobody_in(pool: PgPool) {
    let api = Api::new(pool);
    let grace = api.person("grace@example.com").await;
    let (_, id) = grace.cookie.split_once('=').unwrap();
    let stored: String = sqlx::query_scalar(
        "select (select string_agg(s::text, ' ') from session s)
             || (select string_agg(h::text, ' ') from human h)",
    )
    .fetch_one(api.app.db.pool())
    .await
    .unwrap();
    assert!(stored.contains("$argon2id$v=19$m=19456,t=2,p=1$"));
    assert!(
        !stored.contains(id) && !stored.contains(PASSWORD),
        "{stored}"
    );
}

#[sqlx::test(migrations = "./migrations")]
async fn over_tls_the_cookie_is_bound_to_the_host(pool: PgPool) {
    let api = Api::with(
        pool,
        &[
            "--public-base-url=https://crochet.example",
            "--rate-limit-sign-in-per-5-minutes=1000000",
        ],
    );
    let body = json!({ "email": "g@example.com", "password": PASSWORD, "display_name": "G" });
    let answer = api.post("/auth/signup", &body).await;
    let cookie = answer.header("set-cookie").to_owned();
    assert!(cookie.starts_with("__Host-crochet_session="), "{cookie}");
    assert!(
        cookie.contains("; Secure") && cookie.contains("; Path=/"),
        "{cookie}"
    );
    let grace = answer.person(&api, 201);
    grace.get("/me").await.data(200);
    let out = grace
        .send(
            Method::POST,
            "/auth/logout",
            &[("origin", "https://crochet.example")],
            None,
        )
        .await;
    out.data(200);
    let cookie = out.header("set-cookie");
    // A browser takes the removal of a `__Host-` cookie only with its attributes.
    assert!(
        cookie.starts_with("__Host-crochet_session=;") && cookie.contains("; Secure"),
        "{cookie}"
    );
    assert!(cookie.contains("Max-Age=0"), "{cookie}");
    // The name without the prefix is not looked at: anything on a sister host could set it.
    let plain = Person {
        cookie: grace.cookie.replace("__Host-", ""),
        ..grace
    };
    plain.get("/me").await.error(401, "UNAUTHORIZED");
}

#[sqlx::test(migrations = "./migrations")]
async fn an_address_has_one_account_in_any_case(pool: PgPool) {
    let api = Api::new(pool);
    api.person("grace@example.com").await;
    let body = json!({ "email": "GRACE@example.COM", "password": PASSWORD, "display_name": "G" });
    let again = api.post("/auth/signup", &body).await;
    again.error(409, "EMAIL_ALREADY_REGISTERED");
    assert!(!again.headers.contains_key("set-cookie"));
    log_in(&api, " Grace@Example.Com", PASSWORD).await.data(200);
    let bodies: Vec<Value> = (0..8)
        .map(|n| json!({ "email": "Ada@x.org", "password": PASSWORD, "display_name": n.to_string() }))
        .collect();
    let calls = bodies.iter().map(|body| api.post("/auth/signup", body));
    let answers = futures_util::future::join_all(calls).await;
    assert_eq!(
        answers.iter().filter(|answer| answer.status == 201).count(),
        1
    );
    for answer in answers.iter().filter(|answer| answer.status != 201) {
        answer.error(409, "EMAIL_ALREADY_REGISTERED");
    }
    let people: i64 = sqlx::query_scalar("select count(*) from profile")
        .fetch_one(api.app.db.pool())
        .await
        .unwrap();
    assert_eq!(people, 2, "a refused sign-up leaves no profile");
}

#[sqlx::test(migrations = "./migrations")]
async fn an_unknown_address_and_a_wrong_password_look_the_same(pool: PgPool) {
    let api = Api::new(pool);
    api.person("grace@example.com").await;
    let wrong = log_in(&api, "grace@example.com", "wrong horse battery").await;
    let unknown = log_in(&api, "nobody@example.com", "wrong horse battery").await;
    for answer in [&wrong, &unknown] {
        answer.error(401, "INVALID_CREDENTIALS");
        assert!(!answer.headers.contains_key("set-cookie"));
    }
    assert_eq!(wrong.text, unknown.text);
    let names = |answer: &Answer| -> Vec<String> {
        answer.headers.keys().map(ToString::to_string).collect()
    };
    assert_eq!(names(&wrong), names(&unknown));
}

#[sqlx::test(migrations = "./migrations")]
async fn each_sign_in_is_a_new_session_and_signing_out_ends_it(pool: PgPool) {
    let api = Api::new(pool);
    let first = api.person("grace@example.com").await;
    // Whoever planted a cookie before the sign-in has nothing of the session after it.
    let body = json!({ "email": "grace@example.com", "password": PASSWORD });
    let second = first.post("/auth/login", &body).await.person(&api, 200);
    assert_ne!(first.cookie, second.cookie);
    first.get("/me").await.error(401, "UNAUTHORIZED");
    second.get("/me").await.data(200);
    let planted = Person {
        cookie: "crochet_session=AAAAAAAAAAAAAAAAAAAAAA".to_owned(),
        ..first.clone()
    };
    planted.get("/me").await.error(401, "UNAUTHORIZED");
    let third = planted.post("/auth/login", &body).await.person(&api, 200);
    assert_ne!(third.cookie, planted.cookie);
    assert_eq!(sessions(&api).await, 2);

    let out = second.send(Method::POST, "/auth/logout", &[], None).await;
    assert_eq!(out.data(200), json!({ "logged_out": true }));
    assert!(out.header("set-cookie").contains("Max-Age=0"));
    second.get("/me").await.error(401, "UNAUTHORIZED");
    third.get("/me").await.data(200);
    // Also where nobody is signed in.
    assert_eq!(
        api.call(Method::POST, "/auth/logout", None, None)
            .await
            .data(200),
        json!({ "logged_out": true })
    );
    assert_eq!(sessions(&api).await, 1);
}

#[sqlx::test(migrations = "./migrations")]
async fn a_session_ends_on_the_servers_clock_and_no_forged_one_counts(pool: PgPool) {
    let api = Api::new(pool);
    let grace = api.person("grace@example.com").await;
    let days: f64 = sqlx::query_scalar(
        "select (extract(epoch from expires_at - now()) / 86400)::float8 from session",
    )
    .fetch_one(api.app.db.pool())
    .await
    .unwrap();
    assert!((13.9..=14.0).contains(&days), "{days}");
    sqlx::query("update session set expires_at = now() - interval '1 second'")
        .execute(api.app.db.pool())
        .await
        .unwrap();
    grace.get("/me").await.error(401, "UNAUTHORIZED");
    for forged in [
        "crochet_session=",
        "crochet_session=x",
        "crochet_session=%00",
        "crochet_session=\"",
        "crochet_session",
        ";;;=;",
        &format!("crochet_session={}", "A".repeat(10_000)),
    ] {
        let nobody = Person {
            cookie: forged.to_owned(),
            ..grace.clone()
        };
        nobody.get("/me").await.error(401, "UNAUTHORIZED");
    }
}

#[sqlx::test(migrations = "./migrations")]
async fn a_foreign_page_neither_signs_in_nor_out_nor_changes_anything(pool: PgPool) {
    let api = Api::new(pool);
    let grace = api.person("grace@example.com").await;
    let credentials = json!({
        "email": "grace@example.com", "password": PASSWORD, "display_name": "G",
    });
    for origin in [
        "https://evil.example",
        "null",
        "http://127.0.0.1:8080.evil.example",
    ] {
        let from = [("origin", origin)];
        for path in ["/auth/signup", "/auth/login", "/auth/logout"] {
            let answer = grace
                .send(Method::POST, path, &from, Some(&credentials))
                .await;
            answer.error(403, "ORIGIN_FORBIDDEN");
            assert!(!answer.headers.contains_key("set-cookie"));
            assert!(!answer.headers.contains_key("access-control-allow-origin"));
        }
        let change = json!({ "display_name": "Mallory" });
        grace
            .send(Method::PATCH, "/me", &from, Some(&change))
            .await
            .error(403, "ORIGIN_FORBIDDEN");
        grace.send(Method::GET, "/me", &from, None).await.data(200);
    }
    let two = [
        ("origin", "http://127.0.0.1:8080"),
        ("origin", "https://evil.example"),
    ];
    grace
        .send(Method::POST, "/auth/logout", &two, None)
        .await
        .error(403, "ORIGIN_FORBIDDEN");
    let own = [("origin", "http://127.0.0.1:8080")];
    let me = grace
        .send(
            Method::PATCH,
            "/me",
            &own,
            Some(&json!({ "display_name": "Ada" })),
        )
        .await
        .data(200);
    assert_eq!(me["profile"]["display_name"], "Ada");
    // A key is always meant, wherever the page is from.
    let agent = api.agent().await;
    let bearer = format!("Bearer {}", agent.key);
    let with_key = [
        ("origin", "https://evil.example"),
        ("authorization", bearer.as_str()),
    ];
    let me = grace
        .send(
            Method::PATCH,
            "/me",
            &with_key,
            Some(&json!({ "display_name": "Bea" })),
        )
        .await
        .data(200);
    assert_eq!(me["authenticated_by"], "api_key", "the key wins");
    assert_eq!(me["profile"]["id"], agent.id.as_str());
}

#[sqlx::test(migrations = "./migrations")]
async fn people_do_not_buy_list_or_hold_wallets(pool: PgPool) {
    let api = Api::new(pool);
    let grace = api.person("grace@example.com").await;
    for (method, path) in [
        (Method::GET, "/me/wallets"),
        (Method::POST, "/me/wallets"),
        (Method::GET, "/me/wallets/x"),
        (Method::PATCH, "/me/wallets/x"),
        (Method::POST, "/api-keys"),
        (Method::POST, "/listings/challenge"),
        (Method::POST, "/listings"),
        (Method::GET, "/gateway-requests"),
        (Method::GET, "/ledger"),
    ] {
        let empty = json!({});
        let answer = grace.send(method.clone(), path, &[], Some(&empty)).await;
        let error = answer.error(403, "AGENT_REQUIRED");
        assert_eq!(error["recovery"]["next_action"], "send_api_key");
        let none = api.call(method.clone(), path, None, Some("{}")).await;
        none.error(401, "UNAUTHORIZED");
        // A wrong key is a wrong key, whoever is signed in beside it.
        let wrong = [("authorization", "Bearer am_k_wrong")];
        let answer = grace.send(method, path, &wrong, Some(&empty)).await;
        answer.error(401, "UNAUTHORIZED");
    }
}

#[sqlx::test(migrations = "./migrations")]
async fn guesses_are_slowed_by_address_and_by_account(pool: PgPool) {
    let api = Api::with(
        pool,
        &[
            "--rate-limit-sign-in-per-5-minutes=3",
            "--rate-limit-email-sign-in-per-minute=4",
        ],
    );
    let from = async |address: String, path: &str, email: &str| {
        let body = json!({ "email": email, "password": PASSWORD, "display_name": "G" });
        let request = Request::builder()
            .method(Method::POST)
            .uri(format!("/api/v1/auth/{path}"))
            .header("x-forwarded-for", address)
            .header("content-type", "application/json")
            .body(Body::from(body.to_string()))
            .unwrap();
        api.send(request).await
    };
    let address = |n: u8| format!("203.0.113.{n}");
    from(address(1), "signup", "grace@example.com")
        .await
        .data(201);
    for _ in 0..2 {
        from(address(1), "login", "other@example.com")
            .await
            .error(401, "INVALID_CREDENTIALS");
    }
    let slowed = from(address(1), "login", "grace@example.com").await;
    slowed.error(429, "RATE_LIMITED");
    assert_eq!(slowed.header("ratelimit-policy"), "\"default\";q=3;w=300");
    // Each guess from an address of its own: the account's own limit holds, for at most a minute.
    for (n, email) in (10..14).zip(["Grace@example.com", "grace@EXAMPLE.com"].iter().cycle()) {
        from(address(n), "login", email).await.data(200);
    }
    let slowed = from(address(20), "login", "grace@example.com").await;
    let error = slowed.error(429, "RATE_LIMITED");
    let wait = error["recovery"]["retry_after_seconds"].as_u64().unwrap();
    assert!((1..=60).contains(&wait), "{wait}");
    from(address(21), "login", "other@example.com")
        .await
        .error(401, "INVALID_CREDENTIALS");
}

#[sqlx::test(migrations = "./migrations")]
async fn a_persons_reads_and_writes_are_limited_as_an_agents_are(pool: PgPool) {
    let api = Api::with(
        pool,
        &[
            "--rate-limit-key-reads-per-minute=2",
            "--rate-limit-key-writes-per-minute=1",
        ],
    );
    let grace = api.person("grace@example.com").await;
    for _ in 0..2 {
        grace.get("/me").await.data(200);
    }
    grace.get("/me").await.error(429, "RATE_LIMITED");
    let nothing = json!({});
    grace
        .send(Method::PATCH, "/me", &[], Some(&nothing))
        .await
        .data(200);
    grace
        .send(Method::PATCH, "/me", &[], Some(&nothing))
        .await
        .error(429, "RATE_LIMITED");
    api.person("ada@example.com")
        .await
        .get("/me")
        .await
        .data(200);
}
