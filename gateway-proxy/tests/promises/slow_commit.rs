//! A commit that takes long is not a failure either.
//!
//! The claim holds its row and its reply does not come: so a disk that stalls looks, or a replica that has to
//! confirm and does not. Until it is committed, the payment stands for everybody else as it stood before.

use std::time::{Duration, Instant};

use serde_json::json;

use super::trade::paid_in_advance;
use crate::harness::{Market, World, ok, trials};

trials!(a_claim_that_is_committed_late_is_used_and_one_too_late_is_given_back);

/// More than the gateway waits for a claim's reply, less than the buyer is kept waiting.
const LATE: Duration = Duration::from_millis(3_500);
/// More than the buyer is kept waiting.
const TOO_LATE: Duration = Duration::from_secs(7);
/// A claim that nobody holds is over after its lease: thirty seconds and the endpoint's timeout.
const LEASE: Duration = Duration::from_secs(31);

/// Has every claim of this buyer's wait so long at its commit, with its row locked.
async fn slow_down(market: &Market, by: Duration) {
    let buyer = &market.buyer.id;
    let name = buyer.replace('-', "");
    market
        .door
        .sql(format!(
            "create function slow_{name}() returns trigger language plpgsql as
                $$ begin perform pg_sleep({}); return null; end $$;
            create constraint trigger slow_{name} after update on gateway_request
                deferrable initially deferred for each row
                when (new.state = 'claimed' and new.buyer_id = '{buyer}')
                execute function slow_{name}();",
            by.as_secs_f64(),
        ))
        .await;
}

async fn hurry_again(market: &Market) {
    let name = market.buyer.id.replace('-', "");
    market
        .door
        .sql(format!("drop function slow_{name} cascade"))
        .await;
}

/// In a stack of its own: a claim that waits holds up whatever shares its batch.
async fn a_claim_that_is_committed_late_is_used_and_one_too_late_is_given_back() {
    let world = World::own("slow_commit", |options| options).await;
    let endpoint = json!({ "endpoint": { "timeout_ms": 1000 } });
    let market = Market::within(&world.door, endpoint).await;
    let mut paid = paid_in_advance(&market, 2).await;

    let (call, quote) = paid.remove(0);
    slow_down(&market, LATE).await;
    let begun = Instant::now();
    let answer = market.once(&call, &quote).await;
    assert!(begun.elapsed() >= LATE, "the commit was not slow");
    hurry_again(&market).await;
    ok(&answer);
    market.assert_settled(&quote, 1).await;

    let (call, quote) = paid.remove(0);
    slow_down(&market, TOO_LATE).await;
    let begun = Instant::now();
    let answer = market.once(&call, &quote).await;
    let code = answer.code();
    assert_eq!(code.as_deref(), Some("GATEWAY_REQUEST_IN_PROGRESS"));
    hurry_again(&market).await;
    ok(&market.redeem(&call, &quote).await);
    let took = begun.elapsed();
    assert!(took < LEASE, "nobody gave the claim back: {took:?}");
    market.assert_settled(&quote, 1).await;

    let abandoned = "select count(*) from attempt where outcome = 'lease_expired'".to_owned();
    assert_eq!(market.door.number(abandoned).await, 0, "claims left behind");
    world.close().await;
}
