//! No double send.

use serde_json::json;

use super::trade::{Purchase, agree, each, paid_in_advance};
use crate::harness::{Market, Reply, refused, shared, sized, trials};

trials!(a_call_that_was_read_and_not_answered_is_never_sent_again_by_itself => few);

/// Sellers at the same time, each with one connection that is kept alive.
const SELLERS: usize = 6;

/// The seller answers one call, takes the next from the same connection, and closes it without a word:
/// the moment at which many clients send again by themselves.
async fn a_call_that_was_read_and_not_answered_is_never_sent_again_by_itself() {
    // Two calls a purchase.
    let purchases = sized(5 * SELLERS, 5_000_usize).div_ceil(SELLERS);
    let door = shared().await;
    let closed = each(SELLERS, 0..SELLERS, |_| async {
        let market = Market::within(&door, json!({ "endpoint": { "max_concurrency": 1 } })).await;
        closing_seller(&market, purchases).await
    })
    .await;
    println!(
        "{} calls, of which {} were read from a kept connection and never answered",
        2 * purchases * SELLERS,
        closed.iter().sum::<usize>()
    );
}

/// Gives back how many calls were read from a connection that had been kept alive, and never answered.
async fn closing_seller(market: &Market, purchases: usize) -> usize {
    let mut done = Vec::new();
    let first = market.call();
    let (quote, answer) = market.buy(&first).await;
    done.push(Purchase {
        call: first,
        quote,
        answer,
    });
    for (call, quote) in paid_in_advance(market, purchases).await {
        market.service.then(Reply::hang_up());
        let answer = market.redeem(&call, &quote).await;
        refused(&answer, 502, "SELLER_INVALID_RESPONSE");
        assert_eq!(answer.at("/data/attempts"), 1);
        let answer = market.redeem(&call, &quote).await;
        assert_eq!(answer.status, 200, "{answer}");
        done.push(Purchase {
            call,
            quote,
            answer,
        });
    }
    // Also sees that no attempt arrived twice.
    let counts = agree(market, &done).await;
    let mut closed = 0;
    let mut answered_on = None;
    for purchase in &done {
        let arrivals = market.service.of(&purchase.quote.request_id);
        let on: Vec<usize> = arrivals.iter().map(|arrival| arrival.connection).collect();
        if let [unanswered, _] = on[..] {
            closed += usize::from(answered_on == Some(unanswered));
        }
        answered_on = on.last().copied();
    }
    assert_eq!(counts.values().sum::<usize>(), 2 * purchases + 1);
    // Not every one: a machine too busy lets an idle connection grow old.
    assert!(
        closed * 2 > purchases,
        "{closed} of {purchases} were taken from a kept connection"
    );
    closed
}
