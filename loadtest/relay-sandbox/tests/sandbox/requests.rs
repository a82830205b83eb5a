//! `GET /requests/v3`: filters, order, pages.

use std::collections::HashSet;

use relay_sandbox::Config;
use serde_json::json;

use crate::harness::{Hand, KEY, Sandbox, sol_quote};

/// A sandbox at second 1000 whose deposits are a success at once.
async fn by_hand() -> (Sandbox, Hand) {
    let hand = Hand::at(1_000_000);
    let sandbox = Sandbox::start(Config {
        step_ms: 0,
        clock: hand.clock(),
        ..Config::default()
    })
    .await;
    (sandbox, hand)
}

/// Every page of a query, in order.
async fn pages(sandbox: &Sandbox, query: &str) -> Vec<Vec<String>> {
    let mut pages = Vec::new();
    let mut next = String::new();
    loop {
        let (ids, continuation) = sandbox.page(&format!("{query}{next}")).await;
        pages.push(ids);
        assert!(pages.len() < 100, "the pages have no end");
        match continuation {
            Some(continuation) => next = format!("&continuation={continuation}"),
            None => return pages,
        }
    }
}

#[tokio::test]
async fn the_record_needs_the_key() {
    let sandbox = Sandbox::instant().await;
    assert_eq!(sandbox.get_with_key("/requests/v3", None).await, 401);
    assert_eq!(
        sandbox.get_with_key("/requests/v3", Some("other")).await,
        401
    );
    assert_eq!(sandbox.get_with_key("/requests/v3", Some(KEY)).await, 200);
}

#[tokio::test]
async fn many_ids_can_be_asked_for_in_three_ways() {
    let (sandbox, hand) = by_hand().await;
    let mut ids = Vec::new();
    for _ in 0..4 {
        hand.forward(1);
        ids.push(sandbox.quote(&sol_quote()).await);
    }
    let [a, _, c, d] = &ids[..] else { panic!() };
    let wanted = vec![d.clone(), c.clone(), a.clone()];
    let unknown = format!("0x{}", "f".repeat(64));
    let filters = json!([{"id": [a, c]}, {"id": d}]).to_string();
    let filters: String = url::form_urlencoded::byte_serialize(filters.as_bytes()).collect();
    for query in [
        format!("id={a}&id={d}&id={c}&id={unknown}"),
        format!("id={c},{unknown},{a},{d},{a}"),
        format!("id=nonsense,{c}&id={d},{a}"),
        format!("filters={filters}"),
    ] {
        assert_eq!(
            sandbox.page(&query).await,
            (wanted.clone(), None),
            "{query}"
        );
    }
    assert_eq!(sandbox.page(&format!("id={unknown}")).await, (vec![], None));
}

#[tokio::test]
async fn ids_are_paged_too() {
    let (sandbox, _) = by_hand().await;
    let mut ids = Vec::new();
    for _ in 0..60 {
        ids.push(sandbox.quote(&sol_quote()).await);
    }
    for (limit, sizes) in [
        (25, vec![25, 25, 10]),
        (20, vec![20, 20, 20]),
        (500, vec![50, 10]),
    ] {
        let pages = pages(
            &sandbox,
            &format!("limit={limit}&sortBy=updatedAt&id={}", ids.join(",")),
        )
        .await;
        assert_eq!(pages.iter().map(Vec::len).collect::<Vec<_>>(), sizes);
        let seen: HashSet<_> = pages.into_iter().flatten().collect();
        assert_eq!(seen, ids.iter().cloned().collect());
    }
}

#[tokio::test]
async fn pages_visit_every_row_once_in_order_also_when_times_are_equal() {
    let (sandbox, hand) = by_hand().await;
    let mut made = Vec::new();
    for nth in 0..23 {
        made.push(sandbox.quote(&sol_quote()).await);
        if nth % 5 == 0 {
            hand.forward(1);
        }
    }
    // The last change of the first three is the newest.
    hand.forward(10);
    for id in &made[..3] {
        sandbox.deposit(id).await;
    }
    let updated: Vec<String> = made[3..].iter().chain(&made[..3]).cloned().collect();
    for (query, ascending) in [
        ("sortBy=updatedAt", updated),
        ("sortBy=createdAt", made.clone()),
        ("", made),
    ] {
        let descending: Vec<String> = ascending.iter().rev().cloned().collect();
        for limit in [1, 7, 23, 50] {
            let up = pages(
                &sandbox,
                &format!("{query}&limit={limit}&sortDirection=asc"),
            )
            .await;
            assert_eq!(up.concat(), ascending, "{query} {limit}");
            let down = pages(&sandbox, &format!("{query}&limit={limit}")).await;
            assert_eq!(down.concat(), descending, "{query} {limit}");
        }
    }
    assert_eq!(sandbox.page("").await.0.len(), 20);
}

#[tokio::test]
async fn times_are_seconds_and_bound_what_is_sorted_by() {
    let (sandbox, hand) = by_hand().await;
    let first = sandbox.quote(&sol_quote()).await;
    hand.forward(1000);
    let second = sandbox.quote(&sol_quote()).await;
    hand.forward(500);
    sandbox.deposit(&first).await;
    let ask = async |query: &str| sandbox.page(query).await.0;
    let (first, second) = (vec![first], vec![second]);
    assert_eq!(ask("startTimestamp=1001").await, second);
    assert_eq!(ask("endTimestamp=1000").await, first);
    assert_eq!(ask("startTimestamp=1000&endTimestamp=1001").await.len(), 2);
    assert_eq!(ask("startTimestamp=1002").await.len(), 0);
    assert_eq!(ask("endTimestamp=999").await.len(), 0);
    assert_eq!(
        ask("sortBy=updatedAt&startTimestamp=1001&endTimestamp=1001").await,
        second
    );
    assert_eq!(
        ask("sortBy=updatedAt&startTimestamp=1001&endTimestamp=1002").await,
        [first.clone(), second.clone()].concat()
    );
    assert_eq!(
        ask("sortBy=updatedAt&startTimestamp=1001&endTimestamp=1002&status=success").await,
        first
    );
    assert_eq!(
        ask("sortBy=updatedAt&startTimestamp=1002&endTimestamp=1001")
            .await
            .len(),
        0
    );
}

#[tokio::test]
async fn a_status_filters_lists_and_ids() {
    let (sandbox, _) = by_hand().await;
    let (paid, open) = (sandbox.paid().await, sandbox.quote(&sol_quote()).await);
    for query in ["status=success", "status=success&sortBy=updatedAt"] {
        assert_eq!(sandbox.page(query).await, (vec![paid.clone()], None));
        assert_eq!(
            sandbox.page(&format!("{query}&id={paid},{open}")).await.0,
            vec![paid.clone()]
        );
    }
    assert_eq!(sandbox.page("status=waiting").await.0, vec![open]);
    assert_eq!(sandbox.page("status=refund").await.0.len(), 0);
}

#[tokio::test]
async fn a_row_that_changes_while_one_pages_backwards_is_found_by_the_next_sweep() {
    let (sandbox, hand) = by_hand().await;
    let mut ids = Vec::new();
    for _ in 0..4 {
        hand.forward(1);
        ids.push(sandbox.quote(&sol_quote()).await);
    }
    let (newest, continuation) = sandbox.page("sortBy=updatedAt&limit=2").await;
    assert_eq!(newest, [ids[3].clone(), ids[2].clone()]);
    hand.forward(1000);
    sandbox.deposit(&ids[0]).await;
    let rest = sandbox
        .page(&format!(
            "sortBy=updatedAt&limit=2&continuation={}",
            continuation.unwrap()
        ))
        .await;
    assert_eq!(rest, (vec![ids[1].clone()], None));
    assert_eq!(
        sandbox.page("sortBy=updatedAt&startTimestamp=1001").await.0,
        vec![ids[0].clone()]
    );
}

#[tokio::test]
async fn what_is_not_understood_is_refused() {
    let sandbox = Sandbox::instant().await;
    for query in [
        "limit=0",
        "limit=x",
        "status=done",
        "sortBy=amountUsd",
        "sortDirection=up",
        "startTimestamp=now",
        "continuation=5",
        "continuation=a_b",
        "user=0x1",
        "filters=[{\"status\":\"success\"}]",
        "filters=x",
    ] {
        let query = query.replace('"', "%22");
        let (status, error) = sandbox.get(&format!("/requests/v3?{query}")).await;
        assert_eq!(status, 400, "{query}");
        assert!(error["message"].is_string());
    }
}
