//! No double send.

use demo_agent::{PaidCall, Quote};
use serde_json::json;

use super::trade::{Purchase, agree, each, paid_in_advance};
use crate::harness::{Market, Reply, refused, shared, sized, trials};

trials!(a_call_that_was_read_and_not_answered_is_never_sent_again_by_itself => few);

/// Purchases of one seller that are paid for at once, before any of them is redeemed.
const PAID_AT_ONCE: usize = 250;
/// The least that must be met by the fault, of a hundred purchases. Not every one: a machine too busy lets an
/// idle connection grow old.
const MET: usize = 90;

/// The seller answers one call, takes the next from the same connection, and closes it without a word:
/// the moment at which many clients send again by themselves.
async fn a_call_that_was_read_and_not_answered_is_never_sent_again_by_itself() {
    // Sellers at the same time, each with one connection that is kept alive.
    let sellers = sized(6, 12);
    // Each is a call that is read and not answered, and one that is.
    let purchases = sized(30, 10_000_usize).div_ceil(sellers);
    let door = shared().await;
    let closed = each(sellers, 0..sellers, |_| async {
        let market = Market::within(&door, json!({ "endpoint": { "max_concurrency": 1 } })).await;
        closing_seller(&market, purchases).await
    })
    .await;
    let closed: usize = closed.iter().sum();
    let purchases = purchases * sellers;
    println!(
        "{purchases} purchases, of which {closed} were read from a kept connection and not answered the first time"
    );
    assert!(
        closed * 100 >= purchases * MET,
        "{closed} of {purchases} were taken from a kept connection"
    );
}

/// Gives back how many calls were read from a connection that had been kept alive, and never answered.
async fn closing_seller(market: &Market, purchases: usize) -> usize {
    let mut done = Vec::new();
    let mut opened = 0;
    while done.len() < purchases + opened {
        let left = purchases + opened - done.len();
        let paid = paid_in_advance(market, left.min(PAID_AT_ONCE)).await;
        // Until all these were paid for, the kept connection has grown old: a call that is answered opens another.
        let first = market.call();
        let (quote, answer) = market.buy(&first).await;
        assert_eq!(answer.status, 200, "{answer}");
        done.push(Purchase {
            call: first,
            quote,
            answer,
        });
        opened += 1;
        for (call, quote) in paid {
            done.push(hung_up_on(market, call, quote).await);
        }
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
    assert_eq!(counts.values().sum::<usize>(), 2 * purchases + opened);
    assert!(
        closed * 2 > purchases,
        "{closed} of {purchases} were taken from a kept connection"
    );
    closed
}

/// The first call is read and not answered; the second, which the buyer asks for, is.
async fn hung_up_on(market: &Market, call: PaidCall, quote: Quote) -> Purchase {
    market.service.then(Reply::hang_up());
    let answer = market.redeem(&call, &quote).await;
    refused(&answer, 502, "SELLER_INVALID_RESPONSE");
    assert_eq!(answer.at("/data/attempts"), 1);
    let answer = market.redeem(&call, &quote).await;
    assert_eq!(answer.status, 200, "{answer}");
    Purchase {
        call,
        quote,
        answer,
    }
}
