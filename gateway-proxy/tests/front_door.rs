//! The front door: what is the gateway's own, what passes to the control plane, and what never does.

use demo_agent::{Answer, Method};
use serde_json::json;

use crate::harness::{Market, Wire, shared, trials};

trials!(
    everything_else_passes_to_the_control_plane,
    large_requests_and_answers_pass_whole,
    conditional_and_head_requests_pass,
    an_answer_before_its_body_spoils_no_request,
    the_internal_api_is_not_behind_the_front_door,
    the_control_planes_public_listener_has_no_gateway_route,
    odd_paths_are_400_and_reach_nobody,
    errors_of_the_control_plane_pass_as_they_are,
    a_bodys_framing_cannot_be_smuggled,
    admin_pages_are_on_their_own_address,
);

async fn everything_else_passes_to_the_control_plane() {
    let door = shared().await;
    for api in &door.apis {
        let health = api.get("/health", None).await.unwrap().data(200).unwrap();
        assert_eq!(health["status"], "ok", "{health}");
        let categories = api
            .get("/categories", None)
            .await
            .unwrap()
            .data(200)
            .unwrap();
        assert!(
            categories.as_array().is_some_and(|list| list.len() >= 8),
            "{categories}"
        );
    }
    let market = Market::open().await;
    let listing = market
        .api()
        .get(&format!("/listings/{}", market.listing.slug), None)
        .await
        .unwrap();
    assert!(listing.header("x-request-id").is_some());
    let listing = listing.data(200).unwrap();
    let gateway_url = format!("{}/api/v1/gateway/{}", door.at.gateway, market.listing.id);
    assert_eq!(
        listing["gateway_url"],
        gateway_url.as_str(),
        "the id, never the slug, under the public origin"
    );
    let whole = listing.to_string();
    assert!(
        !whole.contains(&market.service.port().to_string()) && !whole.contains("whsec_"),
        "the private endpoint is private: {whole}"
    );
    let me = market.buyer.get("/me?x=%2F..%2f").await.unwrap();
    assert_eq!(
        me.data(200).unwrap()["profile"]["id"],
        market.buyer.id.as_str(),
        "a query is not a path"
    );
}

async fn large_requests_and_answers_pass_whole() {
    let market = Market::open().await;
    let example = json!({ "filler": "x".repeat(30_000) });
    let listing = market.publish(json!({ "input_schema": { "type": "object", "description": "y".repeat(30_000) }, "example_request": example })).await;
    let shown = market
        .api()
        .get(&format!("/listings/{}", listing.id), None)
        .await
        .unwrap()
        .data(200)
        .unwrap();
    assert_eq!(shown["example_request"], example);
    let too_much = vec![b' '; 3 * 1024 * 1024];
    let answer = market
        .seller
        .send(
            Method::PATCH,
            &format!("/listings/{}", listing.id),
            &[],
            Some(too_much.into()),
        )
        .await
        .unwrap();
    assert_eq!(
        (answer.status, answer.code().as_deref()),
        (413, Some("BODY_TOO_LARGE")),
        "{answer}"
    );
    // Through the same client the next request is answered as ever.
    market.seller.get("/me").await.unwrap().data(200).unwrap();
}

async fn conditional_and_head_requests_pass() {
    let door = shared().await;
    let mut wire = Wire::to(&door.apis[0]).await;
    wire.send(&crate::harness::request(
        "HEAD /api/v1/categories",
        &[],
        b"",
    ))
    .await;
    let head = wire.answer_to_head().await.unwrap();
    assert_eq!(head.status(), 200);
    let get = wire.ask("GET /api/v1/categories", &[], b"").await;
    assert_eq!(
        (get.status(), get.header("content-type")),
        (200, head.header("content-type"))
    );
    assert!(!get.body.is_empty());
}

/// The control plane refuses without a key before it reads a body; its connections are kept and used again.
async fn an_answer_before_its_body_spoils_no_request() {
    const ROUNDS: usize = 40;
    const AT_ONCE: usize = 8;
    let market = Market::open().await;
    let api = market.api();
    let early = async |bytes: usize| {
        let path = format!("/listings/{}/endpoint", market.listing.id);
        let body = Some(vec![b' '; bytes].into());
        api.send(Method::PUT, &path, None, &[], body).await.unwrap()
    };
    for round in 0..ROUNDS {
        // Every tenth is larger than what is read off before the answer.
        let bytes = if round % 10 == 9 {
            2 * 1024 * 1024
        } else {
            200 * 1024
        };
        let pairs = (0..AT_ONCE).map(|_| async {
            let refused = early(bytes).await;
            // A POST is never sent twice: it must not meet a connection that is closing.
            let next = api.post("/auth/challenge", None, &json!({})).await.unwrap();
            (refused, next)
        });
        for (refused, next) in futures_util::future::join_all(pairs).await {
            let (early, late) = (refused.code(), next.code());
            assert_eq!(
                (refused.status, early.as_deref()),
                (401, Some("UNAUTHORIZED")),
                "round {round}: {refused}"
            );
            // Limits are lifted in this stack.
            assert_eq!(
                (next.status, late.as_deref()),
                (400, Some("VALIDATION_ERROR")),
                "round {round}: {next}"
            );
        }
    }
    market.assert_untouched().await;
}

/// The answer to a request line sent as it is.
async fn ask(
    origin: &str,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
) -> crate::harness::Message {
    Wire::to_origin(origin)
        .await
        .ask(
            &format!("{method} {path}"),
            headers,
            if method == "POST" { b"{}" } else { b"" },
        )
        .await
}

async fn the_internal_api_is_not_behind_the_front_door() {
    let door = shared().await;
    let bearer = format!("Bearer {}", door.internal_secret);
    let headers = [
        ("Authorization", bearer.as_str()),
        ("Content-Type", "application/msgpack"),
    ];
    for name in [
        "keys",
        "routes",
        "quotes",
        "quotes/create",
        "claims",
        "check",
        "settlements",
        "answers",
        "probes",
        "keys/used",
    ] {
        for origin in [&door.at.gateway, &door.at.control_plane] {
            for prefix in ["", "/api/v1"] {
                let answer = ask(
                    origin,
                    "POST",
                    &format!("{prefix}/internal/v1/{name}"),
                    &headers,
                )
                .await;
                assert_eq!(
                    (answer.status(), answer.code()),
                    (404, "NOT_FOUND".to_owned()),
                    "{origin}{prefix}/internal/v1/{name}"
                );
            }
        }
        let inside = ask(
            &door.at.internal,
            "POST",
            &format!("/internal/v1/{name}"),
            &[("Content-Type", "application/msgpack")],
        )
        .await;
        assert_eq!(inside.status(), 401, "no secret, no answer: {name}");
        let wrong = ask(
            &door.at.internal,
            "POST",
            &format!("/internal/v1/{name}"),
            &[("Authorization", "Bearer 0123456789abcdef0123456789abcdef")],
        )
        .await;
        assert_eq!(wrong.status(), 401, "{name}");
    }
}

async fn the_control_planes_public_listener_has_no_gateway_route() {
    let market = Market::open().await;
    let bearer = format!("Bearer {}", market.buyer.key);
    let headers = [
        ("Authorization", bearer.as_str()),
        ("Content-Type", "application/json"),
    ];
    let answer = ask(
        &market.door.at.control_plane,
        "POST",
        &format!("/api/v1/gateway/{}", market.listing.id),
        &headers,
    )
    .await;
    assert_eq!(answer.status(), 404);
    market.assert_untouched().await;
}

async fn odd_paths_are_400_and_reach_nobody() {
    let market = Market::open().await;
    let id = &market.listing.id;
    let bearer = format!("Bearer {}", market.buyer.key);
    let headers = [
        ("Authorization", bearer.as_str()),
        ("Content-Type", "application/json"),
    ];
    for path in [
        "//api/v1/me".to_owned(),
        "/api//v1/me".to_owned(),
        "/api/v1/./me".to_owned(),
        "/api/v1/../v1/me".to_owned(),
        "/api/v1/%2e/me".to_owned(),
        "/api/v1/%2E%2e/v1/me".to_owned(),
        "/api/v1%2fme".to_owned(),
        "/api/v1/listings%2F..%2fme".to_owned(),
        format!("/api/v1/gateway//{id}"),
        format!("/api/v1//gateway/{id}"),
        format!("/api/v1/gateway/./{id}"),
        format!("/api/v1/gateway/..%2fgateway/{id}"),
        format!("/api/v1/x/../gateway/{id}"),
        format!("/api/v1/gateway%2f{id}"),
        "/internal/..//api/v1/me".to_owned(),
        "/..".to_owned(),
        "/api/v1/me/..".to_owned(),
    ] {
        for method in ["GET", "POST"] {
            let answer = ask(&market.door.at.gateway, method, &path, &headers).await;
            assert_eq!(
                (answer.status(), answer.code()),
                (400, "VALIDATION_ERROR".to_owned()),
                "{method} {path}"
            );
        }
    }
    market.assert_untouched().await;
}

async fn errors_of_the_control_plane_pass_as_they_are() {
    let market = Market::open().await;
    let check = |answer: &Answer, status: u16, code: &str| {
        assert_eq!(
            (answer.status, answer.code().as_deref()),
            (status, Some(code)),
            "{answer}"
        );
        assert!(
            answer.at("/error/recovery/next_action").is_string()
                && answer.header("x-request-id").is_some(),
            "{answer}"
        );
    };
    check(
        &market.api().get("/me", None).await.unwrap(),
        401,
        "UNAUTHORIZED",
    );
    assert!(
        market
            .api()
            .get("/me", None)
            .await
            .unwrap()
            .header("www-authenticate")
            .is_some()
    );
    check(
        &market.buyer.get("/nowhere").await.unwrap(),
        404,
        "NOT_FOUND",
    );
    check(
        &market
            .buyer
            .get("/gateway-requests/gw_req_00000000000070008000000000000000")
            .await
            .unwrap(),
        404,
        "REQUEST_NOT_FOUND",
    );
    let wrong_method = market
        .buyer
        .send(Method::DELETE, "/me", &[], None)
        .await
        .unwrap();
    check(&wrong_method, 405, "METHOD_NOT_ALLOWED");
    assert!(
        wrong_method
            .header("allow")
            .is_some_and(|allow| allow.contains("GET")),
        "{:?}",
        wrong_method.headers
    );
    let draft = market.publish(json!({ "status": "draft" })).await;
    check(
        &market
            .buyer
            .get(&format!("/listings/{}", draft.id))
            .await
            .unwrap(),
        404,
        "LISTING_NOT_FOUND",
    );
    check(
        &market
            .buyer
            .send(
                Method::PATCH,
                &format!("/listings/{}", market.listing.id),
                &[],
                Some("{}".into()),
            )
            .await
            .unwrap(),
        403,
        "FORBIDDEN",
    );
}

async fn a_bodys_framing_cannot_be_smuggled() {
    let market = Market::open().await;
    let bearer = format!("Bearer {}", market.buyer.key);
    let key = ("Authorization", bearer.as_str());
    let smuggled = "GET /api/v1/me HTTP/1.1\r\nHost: x\r\n\r\n";
    for path in [
        format!("/api/v1/gateway/{}", market.listing.id),
        "/api/v1/listings/challenge".to_owned(),
    ] {
        for framing in [
            &[("Content-Length", "4"), ("Transfer-Encoding", "chunked")][..],
            &[("Content-Length", "4"), ("Content-Length", "5")],
            &[("Content-Length", "-1")],
            &[("Content-Length", "+4")],
            &[("Content-Length", "4, 5")],
            &[("Content-Length", "99999999999999999999")],
            &[("Transfer-Encoding", "chunked, identity")],
            &[("Transfer-Encoding", "xchunked")],
        ] {
            let mut wire = Wire::to(market.api()).await;
            let headers: Vec<(&str, &str)> = [key, ("Content-Type", "application/json")]
                .into_iter()
                .chain(framing.iter().copied())
                .collect();
            wire.send(&crate::harness::request(
                &format!("POST {path}"),
                &headers,
                format!("0\r\n\r\n{smuggled}").as_bytes(),
            ))
            .await;
            wire.finish().await;
            let mut answers = Vec::new();
            while let Some(answer) = wire.answer().await {
                answers.push(answer.status());
            }
            // Whatever the first was taken for, nothing behind it is answered as a request of its own.
            assert!(
                answers.len() <= 1
                    && answers
                        .first()
                        .is_none_or(|status| (400..500).contains(status) || *status == 501),
                "{framing:?} on {path}: {answers:?}"
            );
        }
    }
    market.assert_untouched().await;
}

async fn admin_pages_are_on_their_own_address() {
    let door = shared().await;
    for page in ["/metrics", "/healthz", "/readyz"] {
        for admin in [&door.at.gateway_admin, &door.at.control_plane_admin] {
            let answer = ask(admin, "GET", page, &[]).await;
            assert_eq!(answer.status(), 200, "{admin}{page}");
        }
        for public in [&door.at.gateway, &door.at.control_plane] {
            let answer = ask(public, "GET", page, &[]).await;
            assert_eq!(answer.status(), 404, "{public}{page}");
        }
    }
    let metrics = ask(&door.at.gateway_admin, "GET", "/metrics", &[]).await;
    assert!(
        String::from_utf8_lossy(&metrics.body).contains("# TYPE"),
        "Prometheus text"
    );
}
