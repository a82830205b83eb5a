//! A success at the provider is never orphaned: money that arrived is found without its buyer's help.

use demo_agent::{PaidCall, Quote};
use serde_json::json;

use super::trade::{Purchase, agree_on_one_call_each, each};
use crate::harness::{Market, ok, refused, sized, trials, until};
use crate::states::uuid_of;

trials!(a_success_at_the_provider_is_never_orphaned => few);

/// What a buyer does who then never comes back by herself.
#[derive(Clone, Copy, Debug)]
enum Deed {
    Pays,
    PaysTwice,
    PaysAfterTheQuoteIsGone,
    Overpays,
    Underpays,
    PaysAndSomethingElseArrives,
}

const DEEDS: [Deed; 6] = [
    Deed::Pays,
    Deed::PaysTwice,
    Deed::PaysAfterTheQuoteIsGone,
    Deed::Overpays,
    Deed::Underpays,
    Deed::PaysAndSomethingElseArrives,
];

async fn a_success_at_the_provider_is_never_orphaned() {
    let market = Market::open().await;
    let deeds = DEEDS.iter().cycle().take(DEEDS.len() * sized(2, 100));
    let done = each(12, deeds, |deed| {
        let market = &market;
        async move {
            let call = market.call();
            let quote = market.buyer.quote(&call).await.unwrap();
            do_it(market, *deed, &quote).await;
            let found = found(market, &quote).await;
            (*deed, call, quote, found)
        }
    })
    .await;
    let mut purchases = Vec::new();
    for (deed, call, quote, state) in done {
        match deed {
            Deed::Underpays => failed(&market, &call, &quote, &state).await,
            Deed::PaysAndSomethingElseArrives => owed_back(&market, &call, &quote, &state).await,
            Deed::Pays | Deed::PaysTwice | Deed::PaysAfterTheQuoteIsGone | Deed::Overpays => {
                assert_eq!(state, "paid", "{deed:?}");
                assert_eq!(market.relay_request(&quote).await["status"], "paid");
                market.assert_still_paid(&quote, 0).await;
                let answer = market.redeem(&call, &quote).await;
                ok(&answer);
                purchases.push(Purchase {
                    call,
                    quote,
                    answer,
                });
            }
        }
    }
    agree_on_one_call_each(&market, &purchases).await;
}

/// The money moves at the provider; no webhook tells of it, and the buyer asks for nothing.
async fn do_it(market: &Market, deed: Deed, quote: &Quote) {
    let (id, sandbox) = (quote.relay_request_id.as_str(), &market.door.sandbox);
    let asked = quote.payment["requirements"]["amount"].as_str().unwrap();
    let asked: u128 = asked.parse().unwrap();
    let details = match deed {
        Deed::PaysAndSomethingElseArrives => json!({ "amount": "999999" }),
        Deed::Pays
        | Deed::PaysTwice
        | Deed::PaysAfterTheQuoteIsGone
        | Deed::Overpays
        | Deed::Underpays => json!({}),
    };
    let silent = json!({ "requestId": id, "webhook_copies": 0, "details": details });
    sandbox.scenario(&silent).await.unwrap();
    let row = uuid_of(&quote.request_id);
    match deed {
        Deed::Pays | Deed::PaysAndSomethingElseArrives => sandbox.deposit(&[id]).await.unwrap(),
        Deed::PaysTwice => sandbox.deposit(&[id, id]).await.unwrap(),
        Deed::PaysAfterTheQuoteIsGone => {
            // As a quarter of an hour and its margin would.
            market
                .door
                .sql(format!(
                    "update gateway_request set expires_at = now() - interval '10 minutes' where id = '{row}'"
                ))
                .await;
            market
                .door
                .sql(format!(
                    "update deadline set due_at = now() where request_id = '{row}'"
                ))
                .await;
            in_state(market, quote, &["expired"]).await;
            sandbox.deposit(&[id]).await.unwrap();
        }
        Deed::Overpays => {
            let twice = (asked * 2).to_string();
            sandbox.deposit_amount(id, &twice).await.unwrap();
        }
        Deed::Underpays => {
            let less = (asked - 1).to_string();
            sandbox.deposit_amount(id, &less).await.unwrap();
        }
    }
}

/// The state of a purchase that nobody asks about, once it is known that money moved.
pub(super) async fn found(market: &Market, quote: &Quote) -> String {
    in_state(market, quote, &["paid", "failed", "refund_due"]).await
}

/// Waits until the database, which is all that is looked at, has it in one of these states.
async fn in_state(market: &Market, quote: &Quote, states: &[&str]) -> String {
    let row = uuid_of(&quote.request_id);
    let what = format!("{} is found to be {states:?}", quote.request_id);
    until(&what, || async {
        for state in states {
            let query = format!(
                "select count(*) from gateway_request where id = '{row}' and state = '{state}'"
            );
            if market.door.number(query).await == 1 {
                return Some((*state).to_owned());
            }
        }
        None
    })
    .await
}

/// The provider sent too little back: nothing is owed by us, and the buyer is told.
async fn failed(market: &Market, call: &PaidCall, quote: &Quote, state: &str) {
    assert_eq!(state, "failed");
    assert_eq!(market.relay_request(quote).await["status"], "failed");
    market.assert_unpaid(quote).await;
    refused(&market.once(call, quote).await, 402, "PAYMENT_FAILED");
}

/// Money reached us, and not as quoted: it is owed back, to the buyer's eyes and to the operator's.
async fn owed_back(market: &Market, call: &PaidCall, quote: &Quote, state: &str) {
    assert_eq!(state, "refund_due");
    assert_eq!(market.relay_request(quote).await["status"], "refund_due");
    refused(&market.once(call, quote).await, 409, "RELAY_REQUEST_CLOSED");
    let (bought, sold) = market.ledgers(&quote.request_id).await;
    let owed = |kind: &str| (kind.to_owned(), 999_999);
    assert_eq!(bought, [owed("adjustment"), owed("gateway_payment")]);
    assert_eq!(sold, [], "the seller's ledger");
    let metrics = market
        .api()
        .http()
        .get(format!("{}/metrics", market.door.at.control_plane_admin))
        .send()
        .await
        .unwrap()
        .text()
        .await
        .unwrap();
    assert!(
        metrics.contains("crochet_evidence_total{result=\"mismatch\"}"),
        "operators see it"
    );
}
