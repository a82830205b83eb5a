//! The version before this one serves beside it, on this one's schema.

use std::sync::Arc;

use crochet_dev::{Checkout, Previous, Role};
use demo_agent::Agent;
use serde_json::json;

use super::trade::{self, Purchase, agree_on_one_call_each};
use crate::harness::{Market, World, sized, trials};

trials!(the_control_plane_before_this_one_serves_beside_it_on_this_ones_schema => few);

async fn the_control_plane_before_this_one_serves_beside_it_on_this_ones_schema() {
    let checkout = Checkout::find().unwrap();
    let previous = Previous::read(&checkout).unwrap();
    let program = previous.control_plane(&checkout);
    if !program.is_file() {
        let why = if previous.is_here(&checkout) {
            "it is not built: `cargo dev test --full` builds it"
        } else {
            "this clone lacks that commit"
        };
        println!(
            "\nNOT RUN, yesterday's beside today's: {}: {why}\n",
            previous.commit
        );
        return;
    }
    let mut world = World::own("versions", |options| options).await;
    world.stack.run_instead(Role::SecondControlPlane, &program);
    world.stack.start_second_control_plane().await.unwrap();
    let [_, [public, internal, _]] = world.stack.control_planes();
    let old = Role::Gateway(1);
    world.stack.tell(old, "CONTROL_PLANE_URL", &public);
    world
        .stack
        .tell(old, "CONTROL_PLANE_INTERNAL_URL", &internal);
    world.stack.restart(old).await.unwrap();

    // Who registers and publishes with either is served by both.
    let mut door = world.door.clone();
    let mut purchases = Vec::new();
    let mut markets = Vec::new();
    for _ in 0..2 {
        door.apis.rotate_left(1);
        let market = Arc::new(Market::within(&door, json!({})).await);
        purchases.push(every_way(&market).await);
        markets.push(market);
    }
    for (market, purchases) in markets.iter().zip(&purchases) {
        agree_on_one_call_each(market, purchases).await;
    }
    world.close().await;
}

/// Quoted by one and redeemed by another, in each combination of the two.
async fn every_way(market: &Market) -> Vec<Purchase> {
    let rounds = sized(2, 50);
    let buyers = trade::everywhere(market);
    let mut purchases = Vec::new();
    for _ in 0..rounds {
        for (quoting, redeeming) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
            let by = |turn: usize| -> &[Agent] { std::slice::from_ref(&buyers[turn]) };
            let call = market.call();
            let quote = trade::quoted(by(quoting), &call).await;
            let id = [quote.relay_request_id.as_str()];
            market.door.sandbox.deposit(&id).await.unwrap();
            let answer = trade::redeemed(by(redeeming), &call, &quote).await;
            let again = trade::redeemed(by(1 - redeeming), &call, &quote).await;
            assert_eq!(again.body, answer.body, "the other gives the same answer");
            purchases.push(Purchase {
                call,
                quote,
                answer,
            });
        }
    }
    purchases
}
