//! The operator's tool beside a running marketplace, as the program that she starts.

use demo_agent::Method;
use serde_json::{Value, json};

use crate::harness::{Market, Reply, ok, operator, text, trials, until};

trials!(
    a_call_that_failed_twice_and_then_succeeded_is_told_whole,
    what_an_operator_takes_back_reaches_every_gateway,
    who_is_owed_what_is_told_and_paid_once,
);

async fn a_call_that_failed_twice_and_then_succeeded_is_told_whole() {
    let market = Market::open().await;
    market.service.then(Reply::status(503, "{}"));
    market.service.then(Reply::status(500, "{}"));
    let call = market.call();
    let quote = market.paid(&call).await;
    for _ in 0..2 {
        assert_eq!(market.redeem(&call, &quote).await.status, 502);
    }
    ok(&market.redeem(&call, &quote).await);
    market.assert_settled(&quote, 3).await;

    let (story, exit) = operator(&["request", &quote.request_id]).await;
    assert_eq!(exit, 0);
    let told: Vec<&Value> = story["timeline"]
        .as_array()
        .unwrap()
        .iter()
        // The deposit is told where the provider was asked before its success.
        .filter(|event| event["event"] != "deposit")
        .collect();
    let events: Vec<&str> = told.iter().map(|event| text(&event["event"])).collect();
    assert_eq!(
        events,
        [
            "quoted",
            "paid",
            "claimed",
            "failed",
            "claimed",
            "failed",
            "claimed",
            "delivered"
        ]
    );
    assert!(text(&told[3]["told"]).starts_with("epoch 1: the seller failed with 503"));
    assert!(text(&told[5]["told"]).starts_with("epoch 2: the seller failed with 500"));
    assert!(text(&told[7]["told"]).starts_with("epoch 3: the seller answered 200"));
    // Each as it was: when, by which claim, what became of the attempt.
    let times: Vec<&str> = told.iter().map(|event| text(&event["at"])).collect();
    assert!(
        times.is_sorted() && times[0] < times[7],
        "in the order of their times: {times:?}"
    );
    for (claim, epoch) in [(2, 1), (4, 2), (6, 3)] {
        let begin = format!("epoch {epoch} by call ");
        let claimed = text(&told[claim]["told"]);
        assert!(
            claimed.starts_with(&begin) && claimed.contains("lease until"),
            "{claimed}"
        );
    }
    for failed in [3, 5] {
        assert!(text(&told[failed]["told"]).contains(" after "), "{story}");
    }
    assert_eq!(story["attempts"], 3);
    assert_eq!(
        (
            &story["answer"]["is_stored"],
            &story["answer"]["seller_status"]
        ),
        (&json!(true), &json!(200))
    );
    assert_eq!(story["answer"]["delivered_at"], told[7]["at"]);
    assert_eq!(money(&story), MONEY);
    let (by_relay, _) = operator(&["request", &quote.relay_request_id]).await;
    assert_eq!(by_relay, story);
}

/// Kind, amount, and the accounts from which and to which it went.
const MONEY: [(&str, i64, &str, &str); 3] = [
    ("gateway_payment", 1_000_000, "provider", "clearing"),
    ("seller_credit", 951_000, "clearing", "seller"),
    ("marketplace_fee", 49_000, "clearing", "fees"),
];

fn money(story: &Value) -> Vec<(&str, i64, &str, &str)> {
    let rows = story["ledger"].as_array().unwrap().iter();
    rows.map(|row| {
        (
            text(&row["kind"]),
            row["amount_micros"].as_i64().unwrap(),
            text(&row["debit_account"]),
            text(&row["credit_account"]),
        )
    })
    .collect()
}

async fn what_an_operator_takes_back_reaches_every_gateway() {
    let market = Market::open().await;
    let (agent, key) = market.second_key().await;
    let path = format!("/gateway/{}", market.listing.id);
    let all_say = async |status: u16| {
        for api in &market.door.apis {
            let agent = &agent.through(api);
            let path = path.as_str();
            until("every gateway has heard of it", || async move {
                let asked = agent.send(Method::POST, path, &[], Some("{}".into()));
                (asked.await.unwrap().status == status).then_some(())
            })
            .await;
        }
    };
    all_say(402).await;
    let (paused, exit) = operator(&["pause-listing", &market.listing.id]).await;
    assert_eq!((&paused["changed"], exit), (&json!(true), 0));
    all_say(409).await;
    operator(&["resume-listing", &market.listing.id]).await;
    all_say(402).await;
    let (revoked, exit) = operator(&["revoke-key", &key]).await;
    assert_eq!((&revoked["changed"], exit), (&json!(true), 0));
    all_say(401).await;
}

async fn who_is_owed_what_is_told_and_paid_once() {
    let market = Market::open().await;
    let (_, answer) = market.buy(&market.call()).await;
    ok(&answer);
    let seller = market.seller.id.as_str();
    let owed = async || {
        let (list, _) = operator(&["payouts", "list"]).await;
        let rows = list["payouts"].as_array().unwrap().clone();
        rows.into_iter().find(|row| row["seller_id"] == seller)
    };
    let row = owed().await.unwrap();
    assert_eq!(
        (&row["owed_usd"], &row["chain"]),
        (&json!("0.951"), &json!("evm"))
    );
    let hash = format!("0x{}", demo_agent::random_hex::<32>().unwrap());
    let mark = [
        "payouts", "mark", seller, "--amount", "0.951", "--tx", &hash,
    ];
    let (first, exit) = operator(&mark).await;
    assert_eq!((&first["changed"], exit), (&json!(true), 0));
    let (again, exit) = operator(&mark).await;
    assert_eq!((&again["changed"], exit), (&json!(false), 0));
    let other = format!("0x{}", demo_agent::random_hex::<32>().unwrap());
    let (_, exit) = operator(&[
        "payouts", "mark", seller, "--amount", "0.951", "--tx", &other,
    ])
    .await;
    assert_eq!(exit, 3, "no more is owed");
    assert_eq!(owed().await, None);
}
