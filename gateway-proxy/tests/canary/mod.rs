//! Secrets planted in every field that takes one come back nowhere: in no answer of any route to
//! anybody, in no log line, not in Redis, not in the metrics; and none stands readable in the database.

mod watch;

use demo_agent::{Agent, Chain, Method, NewListing, random_hex};
use serde_json::json;

use crate::harness::{Market, Reply, Service, Wire, World, free_port, trials};
use watch::{Watch, database, logs, metrics, redis};

trials!(a_secret_stands_readable_nowhere_in_answers_logs_redis_or_the_database);

/// What of the services' own configuration is secret.
fn note_configuration(watch: &mut Watch, world: &World) {
    for (name, value) in world.stack.control_plane_environment() {
        let is_secret = ["SECRET", "KEY", "DATABASE_URL"]
            .iter()
            .any(|part| name.contains(part));
        for part in value.split(',').filter(|_| is_secret) {
            // A key is told by its id in logs; its bytes are the secret.
            let part = part.split_once(':').map_or(part, |(id, rest)| {
                if id.len() <= 32 && !rest.starts_with('/') {
                    rest
                } else {
                    part
                }
            });
            if part.len() >= 12 {
                watch.note(&name, part);
            }
        }
    }
}

async fn a_secret_stands_readable_nowhere_in_answers_logs_redis_or_the_database() {
    watch::proves_itself();
    let world = World::own("canary", |options| options).await;
    let door = world.door.clone();
    let mut watch = Watch::default();
    note_configuration(&mut watch, &world);

    let service = Service::start().await;
    let (path, query) = (watch.plant("a URL's path"), watch.plant("a URL's query"));
    let auth = watch.plant("an endpoint's auth header");
    let url = format!(
        "{}/{path}?token={query}",
        service.url().trim_end_matches('/')
    );
    let fields =
        json!({ "endpoint": { "auth_header": { "name": "X-Seller-Auth", "value": auth } } });
    let market = Market::selling_at(&door, service, &url, fields).await;
    for (what, text) in [
        ("the buyer's key", &market.buyer.key),
        ("the seller's key", &market.seller.key),
        (
            "a signing secret",
            market.listing.signing_secret.as_ref().unwrap(),
        ),
    ] {
        watch.note(what, text);
    }
    let stranger = Agent::fresh(&door.apis[0], Chain::Evm, "Stan Stranger")
        .await
        .unwrap();

    sell(&mut watch, &market).await;
    buy(&mut watch, &market, &stranger).await;
    look_everywhere(&mut watch, &market, &stranger).await;
    make_mistakes(&mut watch, &market).await;
    sign_in_as_a_person(&mut watch, &market).await;

    watch.assert_nowhere(&watch.answered());
    nothing_of_ours(&watch, &market);
    watch.assert_nowhere(&logs(&world));
    watch.assert_nowhere(&metrics(&door, &market).await);
    watch.assert_nowhere(&redis(&door).await);
    // A buyer's own key of a purchase is found again by itself (contract §5), and is no secret of ours.
    watch.assert_nowhere_but(&["an Idempotency-Key"], &database(&door).await);
    world.close().await;
}

/// Endpoints changed, rotated and tested, good and bad.
async fn sell(watch: &mut Watch, market: &Market) {
    let seller = &market.seller;
    let endpoint = format!("/listings/{}/endpoint", market.listing.id);
    let auth = watch.plant("a later auth header");
    let change =
        json!({ "auth_header": { "name": "Authorization", "value": format!("Bearer {auth}") } });
    watch
        .send(seller, Method::PUT, &endpoint, Some(change))
        .await
        .data(200)
        .unwrap();
    for bad in [
        json!({ "auth_header": { "name": "Host", "value": watch.plant("the value of a forbidden header") } }),
        json!({ "auth_header": { "name": "X-A", "value": format!("{}\n", watch.plant("a value with a line feed")) } }),
        json!({ "auth_header": watch.plant("a header of the wrong type") }),
        json!({ "auth_header": { "name": "X-A", "value": [watch.plant("a value of the wrong type")] } }),
        json!({ "private_endpoint_url": format!("http://10.0.0.1/{}", watch.plant("a forbidden URL")) }),
        json!({ "private_endpoint_url": format!("https://u:{}@example.com/", watch.plant("a URL's password")) }),
        json!({ "private_endpoint_url": format!("no URL {}", watch.plant("no URL")) }),
        json!({ "private_endpoint_url": [watch.plant("a URL of the wrong type")] }),
        json!({ "private_endpoint_url": format!("https://{}.invalid/", watch.plant("a host that is none")) }),
    ] {
        let answer = watch.send(seller, Method::PUT, &endpoint, Some(bad)).await;
        assert_eq!(answer.status, 400, "{answer}");
    }
    let rotated = seller
        .post(&format!("{endpoint}/rotate-secret"), &json!({}))
        .await
        .unwrap();
    let secret = rotated.data(200).unwrap();
    watch.note(
        "a rotated secret",
        secret["signing_secret"].as_str().unwrap(),
    );
    let port = free_port().await;
    for reply in [
        Reply::json("{}"),
        Reply::hang_up(),
        Reply::raw("garbage\r\n\r\n").then_close(),
    ] {
        market.service.then(reply);
        let body = json!({ "body": { "canary": watch.plant("a test's body") } });
        watch
            .send(
                seller,
                Method::POST,
                &format!("{endpoint}/test"),
                Some(body),
            )
            .await
            .data(200)
            .unwrap();
    }
    let nowhere = format!(
        "http://127.0.0.1:{port}/{}",
        watch.plant("the URL of nobody")
    );
    let listing = seller
        .publish(&NewListing::per_call("Nowhere", "1", &nowhere))
        .await
        .unwrap();
    watch.note(
        "another signing secret",
        listing.signing_secret.as_ref().unwrap(),
    );
    let test = format!("/listings/{}/endpoint/test", listing.id);
    watch
        .send(seller, Method::POST, &test, None)
        .await
        .data(200)
        .unwrap();
    let bought = demo_agent::PaidCall::new(&listing.id, &json!({}));
    let quote = market
        .buyer
        .pay(&bought, &market.door.sandbox)
        .await
        .unwrap();
    let answer = market.redeem(&bought, &quote).await;
    watch.keep("a call of a seller nobody reaches", answer);
}

/// Calls, delivered and failed, with secrets in bodies and headers that no log and no cache may hold.
async fn buy(watch: &mut Watch, market: &Market, stranger: &Agent) {
    for reply in [
        Reply::status(
            500,
            &json!({ "secret": watch.plant("a failing seller's answer") }).to_string(),
        ),
        Reply::raw(format!(
            "garbage {}\r\n\r\n",
            watch.plant("a broken answer")
        ))
        .then_close(),
        Reply::new(
            302,
            &[(
                "Location",
                &format!("http://x/{}", watch.plant("a redirect")),
            )],
            "",
        ),
        Reply::hang_up(),
    ] {
        market.service.then(reply);
        let call = market.call_with(json!({ "secret": watch.plant("a call's body") }));
        let (_, answer) = market.buy(&call).await;
        assert_eq!(answer.status, 502, "{answer}");
        watch.keep("a paid call", answer);
    }
    let key = watch.plant("an Idempotency-Key");
    let headers = [("idempotency-key", key.as_str())];
    let path = format!("/gateway/{}", market.listing.id);
    let answer = market
        .buyer
        .send(Method::POST, &path, &headers, Some("{}".into()))
        .await
        .unwrap();
    assert_eq!(answer.status, 402, "{answer}");
    watch.keep("a call with a key", answer);
    delivered_to_its_buyer_alone(watch, market, stranger).await;
    let made = market
        .buyer
        .post("/api-keys", &json!({ "name": "spare" }))
        .await
        .unwrap();
    let made = made.data(201).unwrap();
    watch.note("a made key", made["api_key"].as_str().unwrap());
    let id = made["key"]["id"].as_str().unwrap();
    watch
        .send(
            &market.buyer,
            Method::DELETE,
            &format!("/api-keys/{id}"),
            None,
        )
        .await
        .data(200)
        .unwrap();
}

/// What is delivered goes to its buyer, as often as she asks, and to nobody else: not to a stranger who
/// knows the payment's id and the body, nor to the seller.
async fn delivered_to_its_buyer_alone(watch: &mut Watch, market: &Market, stranger: &Agent) {
    let (body, told) = (
        watch.plant("a delivered call's body"),
        watch.plant("a delivered answer"),
    );
    market
        .service
        .then(Reply::json(&json!({ "answer": told }).to_string()));
    let call = market.call_with(json!({ "secret": body }));
    let (quote, answer) = market.buy(&call).await;
    assert_eq!(answer.status, 200, "{answer}");
    let again = market.once(&call, &quote).await;
    assert_eq!(again.body, answer.body, "{again}");
    for own in [answer, again] {
        watch.keep_but("a paid call by its buyer", own, &told);
    }
    let stored = format!(
        "select count(*) from stored_answer a join gateway_request r on r.id = a.request_id
        where r.relay_request_id = '{}'",
        quote.relay_request_id
    );
    let stored = market.door.number(stored).await;
    assert!(stored > 0, "it stands in the database, where it is sealed");
    for other in [stranger, &market.seller] {
        let refused = market.once_as(other, &call, &quote).await;
        assert_ne!(refused.status, 200, "{refused}");
        watch.keep("a paid call by another", refused);
    }
}

/// Every page that shows something, to its owner, to others and to nobody.
async fn look_everywhere(watch: &mut Watch, market: &Market, stranger: &Agent) {
    let id = &market.listing.id;
    let pages = [
        "/health".to_owned(),
        "/categories".to_owned(),
        "/listings?limit=100".to_owned(),
        format!("/listings/{id}"),
        format!("/listings/{}", market.listing.slug),
        format!("/listings/{id}/endpoint"),
        "/me".to_owned(),
        "/me/listings".to_owned(),
        "/me/wallets".to_owned(),
        "/api-keys".to_owned(),
        "/gateway-requests?limit=100".to_owned(),
        "/ledger?limit=100".to_owned(),
        "/ledger/summary".to_owned(),
        format!("/reviews/{id}"),
        format!("/agents/{}", market.seller.id),
        format!("/agents/{}/score", market.seller.id),
    ];
    for page in &pages {
        for agent in [&market.seller, &market.buyer, stranger] {
            watch.send(agent, Method::GET, page, None).await;
        }
        let answer = market.api().get(page, None).await.unwrap();
        watch.keep(&format!("GET {page} of nobody"), answer);
    }
    let patch = json!({ "description": "Another one." });
    watch
        .send(
            &market.seller,
            Method::PATCH,
            &format!("/listings/{id}"),
            Some(patch),
        )
        .await
        .data(200)
        .unwrap();
    for (method, path, body) in [
        (
            Method::PATCH,
            format!("/listings/{id}"),
            Some(json!({ "name": "mine" })),
        ),
        (
            Method::PUT,
            format!("/listings/{id}/endpoint"),
            Some(json!({ "status": "paused" })),
        ),
        (Method::POST, format!("/listings/{id}/endpoint/test"), None),
        (
            Method::POST,
            format!("/listings/{id}/endpoint/rotate-secret"),
            None,
        ),
        (Method::DELETE, format!("/listings/{id}"), None),
    ] {
        let answer = watch.send(stranger, method, &path, body).await;
        assert_eq!(answer.status, 403, "{answer}");
    }
}

/// Secrets in the wrong place, as people do.
async fn make_mistakes(watch: &mut Watch, market: &Market) {
    let api = market.api();
    let wrong = watch.plant("a malformed credential");
    let answer = api.get("/me", Some(&wrong)).await.unwrap();
    watch.keep("GET /me with no key", answer);
    let typo = format!("{}x", &market.buyer.key[..market.buyer.key.len() - 1]);
    watch.note("a mistyped key", &typo);
    for path in ["/me", "/gateway/nobody"] {
        let answer = api
            .send(Method::POST, path, Some(&typo), &[], Some("{}".into()))
            .await
            .unwrap();
        watch.keep(&format!("POST {path} with a typo"), answer);
    }
    let seed = watch.plant("a seed in a wrong field");
    for (path, body) in [
        (
            "/register",
            json!({ "wallet_address": seed, "signature": seed, "nonce": seed, "pow_nonce": seed, "display_name": "A" }),
        ),
        ("/auth/challenge", json!({ "wallet_address": seed })),
        (
            "/auth/recover",
            json!({ "wallet_address": seed, "signature": seed, "nonce": seed, "pow_nonce": seed }),
        ),
        ("/webhooks/relay", json!({ "event": seed })),
    ] {
        let answer = api.post(path, None, &body).await.unwrap();
        assert!((400..500).contains(&answer.status), "{answer}");
        watch.keep(&format!("POST {path}"), answer);
    }
    let body = format!(
        "{{\"auth_header\": {{\"name\": \"A\", \"value\": \"{}",
        watch.plant("broken JSON")
    );
    let path = format!("/listings/{}/endpoint", market.listing.id);
    let answer = market
        .seller
        .send(Method::PUT, &path, &[], Some(body.into()))
        .await
        .unwrap();
    watch.keep("PUT of broken JSON", answer);
    // In a query, and in a head that is no HTTP: neither may be written down.
    let query = watch.plant("a query");
    let answer = api
        .get(&format!("/health?api_key={query}"), None)
        .await
        .unwrap();
    watch.keep("GET with a query", answer);
    let mut wire = Wire::to(api).await;
    let garbage = format!("GET /{} HTTP/9.9\r\n\r\n", watch.plant("a garbled request"));
    wire.send(garbage.as_bytes()).await;
    let refused = wire.answer().await.unwrap();
    let place = (
        "the answer to a garbled request".to_owned(),
        refused.raw.to_vec(),
    );
    watch.assert_nowhere(&[place]);
}

/// Where people have accounts, their passwords are theirs.
async fn sign_in_as_a_person(watch: &mut Watch, market: &Market) {
    let password = watch.plant("a password");
    let email = format!("{}@example.com", random_hex::<8>().unwrap());
    for (path, body) in [
        (
            "/auth/signup",
            json!({ "email": email, "password": password, "display_name": "Pia" }),
        ),
        (
            "/auth/login",
            json!({ "email": email, "password": password }),
        ),
        (
            "/auth/login",
            json!({ "email": email, "password": [password] }),
        ),
        (
            "/auth/login",
            json!({ "email": format!("x{email}"), "password": password }),
        ),
    ] {
        let answer = market.api().post(path, None, &body).await.unwrap();
        if let Some(cookie) = answer.header("set-cookie") {
            let session = cookie
                .split([';', '='])
                .nth(1)
                .unwrap_or_default()
                .to_owned();
            // It is told in this header, this once.
            if session.len() >= 12 {
                watch.note("a session", &session);
            }
            let mut answer = answer.clone();
            answer.headers.remove("set-cookie");
            watch.keep(&format!("POST {path}"), answer);
        } else {
            watch.keep(&format!("POST {path}"), answer);
        }
    }
}

/// No answer tells how we are built or where a seller is.
fn nothing_of_ours(watch: &Watch, market: &Market) {
    let seller = format!("127.0.0.1:{}", market.service.port());
    // All that its owner is shown of an endpoint's address (contract §4).
    let hint = format!("\"url_hint\":\"http://{seller}/…\"");
    for (asked, answer) in &watch.answers {
        let body = String::from_utf8_lossy(&answer.body).to_lowercase();
        let body = body.replace(&hint, "");
        for ours in [
            "panicked",
            "sqlx",
            "postgres",
            "select ",
            "insert into",
            ".rs:",
            &seller,
        ] {
            assert!(
                !body.contains(ours),
                "{ours:?} in the answer to {asked}: {body}"
            );
        }
        assert_ne!(answer.status, 500, "{asked}: {body}");
    }
}
