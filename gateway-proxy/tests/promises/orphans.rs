//! A success at the provider is never orphaned: money that arrived is found without its buyer's help.

use std::collections::BTreeSet;

use demo_agent::{PaidCall, Quote};
use serde_json::{Value, json};

use super::trade::{Purchase, agree_on_one_call_each, each};
use crate::harness::{Market, ok, operator, refused, sized, text, trials, until};
use crate::states::uuid_of;

trials!(a_success_at_the_provider_is_never_orphaned => few);

/// What a buyer does who then never comes back by herself.
#[derive(Clone, Copy, Debug)]
enum Deed {
    Pays,
    PaysTwice,
    /// The provider still takes it, since it waits longer than we do.
    PaysAfterTheQuoteIsGone,
    /// The provider has waited in vain, too.
    PaysAfterTheProvidersTime,
    Overpays,
    Underpays,
    PaysAndSomethingElseArrives,
}

/// What reaches us where something else than the price arrives, in micros and in the settlement token's own units.
const SOMETHING_ELSE: i64 = 999_999;

const DEEDS: [Deed; 7] = [
    Deed::Pays,
    Deed::PaysTwice,
    Deed::PaysAfterTheQuoteIsGone,
    Deed::PaysAfterTheProvidersTime,
    Deed::Overpays,
    Deed::Underpays,
    Deed::PaysAndSomethingElseArrives,
];

/// What became of a deed, before its buyer came back.
struct Found {
    deed: Deed,
    call: PaidCall,
    quote: Quote,
    state: String,
    /// What the operator's tool tells of it.
    story: Value,
}

async fn a_success_at_the_provider_is_never_orphaned() {
    let market = Market::open().await;
    let mismatches = counted_mismatches(&market).await;
    let deeds = DEEDS.iter().cycle().take(DEEDS.len() * sized(2, 100));
    let all = each(12, deeds, |deed| done(&market, *deed)).await;
    let (mut purchases, mut owed) = (Vec::new(), BTreeSet::new());
    for found in all {
        match found.deed {
            Deed::Underpays => failed(&market, &found, "DEPOSITED_AMOUNT_TOO_LOW_TO_FILL").await,
            Deed::PaysAfterTheProvidersTime => failed(&market, &found, "TTL_EXPIRED").await,
            Deed::PaysAndSomethingElseArrives => {
                owed_back(&market, &found).await;
                owed.insert(found.quote.request_id);
            }
            Deed::Pays | Deed::PaysTwice | Deed::PaysAfterTheQuoteIsGone | Deed::Overpays => {
                purchases.push(redeemed_at_last(&market, found).await);
            }
        }
    }
    agree_on_one_call_each(&market, &purchases).await;
    listed_as_due(&market, &owed).await;
    alarmed(&market, mismatches, owed.len()).await;
}

/// Does it, and waits until it is found.
async fn done(market: &Market, deed: Deed) -> Found {
    let call = market.call();
    let quote = market.buyer.quote(&call).await.unwrap();
    do_it(market, deed, &quote).await;
    let state = found(market, &quote).await;
    let (story, exit) = operator(&["request", &quote.request_id]).await;
    assert_eq!(exit, 0, "{story}");
    Found {
        deed,
        call,
        quote,
        state,
        story,
    }
}

/// The money moves at the provider; no webhook tells of it, and the buyer asks for nothing.
async fn do_it(market: &Market, deed: Deed, quote: &Quote) {
    let (id, sandbox) = (quote.relay_request_id.as_str(), &market.door.sandbox);
    let asked = asked_amount(quote);
    let details = match deed {
        Deed::PaysAndSomethingElseArrives => json!({ "amount": SOMETHING_ELSE.to_string() }),
        Deed::Pays
        | Deed::PaysTwice
        | Deed::PaysAfterTheQuoteIsGone
        | Deed::PaysAfterTheProvidersTime
        | Deed::Overpays
        | Deed::Underpays => json!({}),
    };
    let silent = json!({
        "requestId": id,
        "webhook_copies": 0,
        "late": matches!(deed, Deed::PaysAfterTheProvidersTime),
        "details": details,
    });
    sandbox.scenario(&silent).await.unwrap();
    match deed {
        Deed::Pays | Deed::PaysAndSomethingElseArrives => sandbox.deposit(&[id]).await.unwrap(),
        Deed::PaysTwice => sandbox.deposit(&[id, id]).await.unwrap(),
        Deed::PaysAfterTheQuoteIsGone | Deed::PaysAfterTheProvidersTime => {
            expire(market, quote).await;
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

/// What the deposit has to be, in units of the currency it is made in.
pub(super) fn asked_amount(quote: &Quote) -> u128 {
    let asked = text(&quote.payment["requirements"]["amount"]);
    asked.parse().unwrap()
}

/// Lets the quote's time be over, as a quarter of an hour and its margin would, and waits until it is known to be.
async fn expire(market: &Market, quote: &Quote) {
    let row = uuid_of(&quote.request_id);
    for statement in [
        format!(
            "update gateway_request set expires_at = now() - interval '10 minutes' where id = '{row}'"
        ),
        format!("update deadline set due_at = now() where request_id = '{row}'"),
    ] {
        market.door.sql(statement).await;
    }
    in_state(market, quote, &["expired"]).await;
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

/// What the tool tells of it: the state, and what happened in its order. The deposit is left out, which is told
/// only where the provider was asked before its success.
fn told(found: &Found) -> (&str, Vec<&Value>) {
    let events = found.story["timeline"].as_array().unwrap().iter();
    let events = events.filter(|event| event["event"] != "deposit").collect();
    (text(&found.story["state"]), events)
}

#[track_caller]
fn assert_events(found: &Found, events: &[&Value], wanted: &[&str]) {
    let names: Vec<&str> = events.iter().map(|event| text(&event["event"])).collect();
    assert_eq!(names, wanted, "{:?}: {}", found.deed, found.story);
}

/// Kinds and amounts of what the tool shows of the ledger, sorted.
fn booked(found: &Found) -> Vec<(&str, i64)> {
    let rows = found.story["ledger"].as_array().unwrap().iter();
    let mut rows: Vec<(&str, i64)> = rows
        .map(|row| (text(&row["kind"]), row["amount_micros"].as_i64().unwrap()))
        .collect();
    rows.sort_unstable();
    rows
}

/// The payment is good, and the operator is told so, and whether it came late. Now its buyer comes back after all.
async fn redeemed_at_last(market: &Market, found: Found) -> Purchase {
    let (state, events) = told(&found);
    assert_eq!(
        (found.state.as_str(), state),
        ("paid", "paid"),
        "{}",
        found.story
    );
    assert_events(&found, &events, &["quoted", "paid"]);
    let paid = events[1];
    assert!(
        text(&paid["told"]).starts_with("as quoted; good until "),
        "{paid}"
    );
    let paid_at = text(&paid["at"]).replace('T', " ").replace('Z', "");
    let (_, to_be_paid_by) = text(&events[0]["told"]).rsplit_once(" by ").unwrap();
    assert_eq!(
        paid_at.as_str() > to_be_paid_by,
        matches!(found.deed, Deed::PaysAfterTheQuoteIsGone),
        "{:?} is not told as it was: {}",
        found.deed,
        found.story
    );
    assert_eq!(booked(&found), [("gateway_payment", market.gross)]);
    let Found { call, quote, .. } = found;
    assert_eq!(market.relay_request(&quote).await["status"], "paid");
    market.assert_still_paid(&quote, 0).await;
    let answer = market.redeem(&call, &quote).await;
    ok(&answer);
    Purchase {
        call,
        quote,
        answer,
    }
}

/// The provider sent the deposit back: nothing is owed by us, buyer and operator are told, the operator also why.
async fn failed(market: &Market, found: &Found, why: &str) {
    let (state, events) = told(found);
    assert_eq!(
        (found.state.as_str(), state),
        ("failed", "failed"),
        "{}",
        found.story
    );
    assert_events(found, &events, &["quoted", "failed"]);
    assert!(
        text(&events[1]["told"]).ends_with(why),
        "{why}: {}",
        found.story
    );
    assert_eq!(booked(found), []);
    let (call, quote) = (&found.call, &found.quote);
    assert_eq!(market.relay_request(quote).await["status"], "failed");
    market.assert_unpaid(quote).await;
    refused(&market.once(call, quote).await, 402, "PAYMENT_FAILED");
}

/// Money reached us, and not as quoted: it is owed back, to the buyer's eyes and to the operator's.
async fn owed_back(market: &Market, found: &Found) {
    let (state, events) = told(found);
    assert_eq!(
        (found.state.as_str(), state),
        ("refund_due", "refund_due"),
        "{}",
        found.story
    );
    assert_events(found, &events, &["quoted", "paid", "refund due"]);
    assert_eq!(events[1]["told"], "otherwise than quoted");
    let arrived = format!("arrived {SOMETHING_ELSE} of ");
    assert!(
        text(&events[1]["more"][0]).starts_with(&arrived),
        "{}",
        found.story
    );
    let owed = ["gateway_payment", "refund_due"].map(|kind| (kind, SOMETHING_ELSE));
    assert_eq!(booked(found), owed);
    let (call, quote) = (&found.call, &found.quote);
    assert_eq!(market.relay_request(quote).await["status"], "refund_due");
    refused(&market.once(call, quote).await, 409, "RELAY_REQUEST_CLOSED");
    let (bought, sold) = market.ledgers(&quote.request_id).await;
    let owed = |kind: &str| (kind.to_owned(), SOMETHING_ELSE);
    assert_eq!(bought, [owed("adjustment"), owed("gateway_payment")]);
    assert_eq!(sold, [], "the seller's ledger");
}

/// The operator's list of refunds has these of the buyer's purchases with what arrived of each, and no other.
async fn listed_as_due(market: &Market, owed: &BTreeSet<String>) {
    let (list, exit) = operator(&["refund-due", "list"]).await;
    assert_eq!(exit, 0);
    let rows = list["refunds"].as_array().unwrap().iter();
    let mut listed = BTreeSet::new();
    for row in rows.filter(|row| row["buyer_id"] == market.buyer.id.as_str()) {
        assert_eq!(
            (
                &row["amount_micros"],
                &row["reason"],
                &row["arrived"]["amount"]
            ),
            (
                &json!(SOMETHING_ELSE),
                &json!("paid_otherwise_than_quoted"),
                &json!(SOMETHING_ELSE.to_string())
            ),
            "{row}"
        );
        assert!(
            listed.insert(text(&row["request_id"]).to_owned()),
            "twice: {row}"
        );
    }
    assert_eq!(&listed, owed);
}

/// How many payments the control plane has told its operators to be otherwise than quoted: what alerts are made of.
async fn counted_mismatches(market: &Market) -> i64 {
    let page = format!("{}/metrics", market.door.at.control_plane_admin);
    let page = market.api().http().get(page).send().await.unwrap();
    let page = page.text().await.unwrap();
    let series = "crochet_evidence_total{result=\"mismatch\"} ";
    let count = page.lines().find_map(|line| line.strip_prefix(series));
    count.unwrap().parse().unwrap()
}

/// Waits until each of these was counted. Other tests pay otherwise than quoted in the same stack, so the count is
/// also held against the books: one that was not counted is missing for good.
async fn alarmed(market: &Market, before: i64, owed: usize) {
    let (wanted, market) = (before + i64::try_from(owed).unwrap(), &market);
    until(
        "every payment otherwise than quoted is counted",
        || async move {
            let recorded = "select count(*) from payment_evidence where not matches".to_owned();
            let recorded = market.door.number(recorded).await;
            let counted = counted_mismatches(market).await;
            (counted >= wanted && counted == recorded).then_some(())
        },
    )
    .await;
}
