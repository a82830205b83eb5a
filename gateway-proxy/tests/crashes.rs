//! Processes that die at the worst moment, and what the payment is worth afterwards.

use std::time::Duration;

use crochet_dev::Role;
use demo_agent::{Answer, PaidCall, Quote};
use nix::sys::signal::Signal;
use serde_json::json;

use crate::harness::{Door, Gate, Market, Reply, World, ok, refused, trials, until, until_within};
use crate::states::uuid_of;

trials!(
    the_control_plane_killed_under_load_loses_no_payment,
    a_gateway_killed_after_its_claim_leaves_the_payment_good,
    a_gateway_killed_after_its_claim_closes_what_is_never_redelivered,
    a_gateway_that_wakes_after_its_lease_settles_nothing,
    a_gateway_told_to_stop_finishes_what_it_has,
    without_redis_calls_go_on_and_revoked_keys_are_refused,
);

/// Ends the lease of a claim now, as half a minute would.
async fn end_lease(door: &Door, quote: &Quote) {
    let id = uuid_of(&quote.request_id);
    let changed = door.sql(format!("update gateway_request set lease_until = now() - interval '40 seconds' where id = '{id}' and state = 'claimed'")).await;
    assert_eq!(changed, 1, "{} is claimed", quote.request_id);
    door.sql(format!(
        "update deadline set due_at = now() where request_id = '{id}'"
    ))
    .await;
}

/// A paid call that the second gateway has forwarded and the seller holds until `gate` opens.
async fn held(
    market: &Market,
    gate: &Gate,
) -> (PaidCall, Quote, tokio::task::JoinHandle<Option<Answer>>) {
    market.service.then(Reply::json("\"held\"").behind(gate));
    let call = market.call();
    let quote = market.evidenced(&call).await;
    let (buyer, sent, id) = (
        market.buyer.through(&market.door.apis[1]),
        call.clone(),
        quote.relay_request_id.clone(),
    );
    let asked = tokio::spawn(async move { buyer.call(&sent, Some(&id)).await.ok() });
    market.service.called_for(&quote.request_id).await;
    (call, quote, asked)
}

async fn a_gateway_killed_after_its_claim_leaves_the_payment_good() {
    let mut world = World::own("killed_gateway", |options| options).await;
    let market = Market::within(&world.door, json!({})).await;
    let gate = Gate::shut();
    let (call, quote, asked) = held(&market, &gate).await;
    world.stack.kill(Role::Gateway(1)).unwrap();
    assert!(asked.await.unwrap().is_none(), "its buyer heard nothing");
    gate.open();
    // Until the lease is over nobody knows whether the seller's answer may still come.
    refused(
        &market.once(&call, &quote).await,
        409,
        "GATEWAY_REQUEST_IN_PROGRESS",
    );
    end_lease(&world.door, &quote).await;
    ok(&market.redeem(&call, &quote).await);
    let attempts: Vec<String> = market
        .service
        .of(&quote.request_id)
        .iter()
        .map(|arrival| arrival.header("x-crochet-attempt").to_owned())
        .collect();
    assert_eq!(
        attempts,
        ["1", "2"],
        "the second delivery can be told from the first"
    );
    market.assert_settled(&quote, 2).await;
    world.stack.start_again(Role::Gateway(1)).await.unwrap();
    let again = market
        .once_as(&market.buyer.through(&world.door.apis[1]), &call, &quote)
        .await;
    ok(&again);
    market.assert_settled(&quote, 2).await;
    world.close().await;
}

async fn a_gateway_killed_after_its_claim_closes_what_is_never_redelivered() {
    let mut world = World::own("killed_never", |options| options).await;
    let market = Market::within(
        &world.door,
        json!({ "endpoint": { "redelivery": "never" } }),
    )
    .await;
    let gate = Gate::shut();
    let (call, quote, asked) = held(&market, &gate).await;
    world.stack.kill(Role::Gateway(1)).unwrap();
    drop(asked.await.unwrap());
    gate.open();
    end_lease(&world.door, &quote).await;
    market.reaches(&quote, "refund_due").await;
    refused(
        &market.once(&call, &quote).await,
        409,
        "RELAY_REQUEST_CLOSED",
    );
    market.assert_refund_due(&quote, 1).await;
    world.stack.start_again(Role::Gateway(1)).await.unwrap();
    world.close().await;
}

/// Whether every thread of a process is stopped (`T` in proc(5)).
fn stands_still(pid: u32) -> bool {
    if !cfg!(target_os = "linux") {
        return true;
    }
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    threads.flatten().all(|thread| {
        let stat = std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        stat.rsplit_once(')')
            .is_some_and(|(_, fields)| fields.trim_start().starts_with('T'))
    })
}

async fn a_gateway_that_wakes_after_its_lease_settles_nothing() {
    let mut world = World::own("sleeping_gateway", |options| options).await;
    let market = Market::within(&world.door, json!({})).await;
    let gate = Gate::shut();
    let (call, quote, asked) = held(&market, &gate).await;
    world
        .stack
        .signal(Role::Gateway(1), Signal::SIGSTOP)
        .unwrap();
    let pid = world.stack.pid(Role::Gateway(1)).unwrap();
    // The signal is sent at once and felt a little later, by one thread after the other.
    until("the gateway stands still", || async {
        stands_still(pid).then_some(())
    })
    .await;
    gate.open();
    end_lease(&world.door, &quote).await;
    market.service.then(Reply::json("\"second\""));
    let answer = market.redeem(&call, &quote).await;
    assert_eq!(ok(&answer)["seller_response"], "second");
    world
        .stack
        .signal(Role::Gateway(1), Signal::SIGCONT)
        .unwrap();
    // It wakes with the first answer in its hands. That claim is another's now: epoch and owner say so.
    let woken = asked.await.unwrap().expect("an answer");
    assert!(
        woken.status != 200 || woken.body == answer.body,
        "a second, different answer was given: {woken}"
    );
    assert_eq!(market.once(&call, &quote).await.body, answer.body);
    market.assert_settled(&quote, 2).await;
    world.close().await;
}

async fn a_gateway_told_to_stop_finishes_what_it_has() {
    let mut world = World::own("stopped_gateway", |options| options).await;
    let market = Market::within(&world.door, json!({})).await;
    let gate = Gate::shut();
    let (_, quote, asked) = held(&market, &gate).await;
    world
        .stack
        .signal(Role::Gateway(1), Signal::SIGTERM)
        .unwrap();
    let admin = format!("{}/readyz", world.door.at.gateways[1].admin);
    let http = market.api().http().clone();
    until("readiness fails first", || async {
        // Nobody listening any more says the same.
        let answer = http.get(&admin).send().await;
        answer
            .map_or(true, |answer| !answer.status().is_success())
            .then_some(())
    })
    .await;
    gate.open();
    let answer = asked.await.unwrap().expect("the call is finished");
    ok(&answer);
    let status = world.stack.terminate(Role::Gateway(1)).await.unwrap();
    assert!(
        status.success(),
        "it ended with {status}:\n{}",
        world.log_of(Role::Gateway(1))
    );
    market.assert_settled(&quote, 1).await;
    world.stack.start_again(Role::Gateway(1)).await.unwrap();
    world.close().await;
}

async fn the_control_plane_killed_under_load_loses_no_payment() {
    const CALLS: usize = 60;
    let mut world = World::own("killed_control_plane", |options| options).await;
    let market = Market::within(&world.door, json!({ "endpoint": { "timeout_ms": 2000 } })).await;
    market
        .service
        .usually(Reply::json("1").after(Duration::from_millis(30)));
    let mut paid = Vec::new();
    for _ in 0..CALLS {
        let call = market.call();
        paid.push((market.buyer.quote(&call).await.unwrap(), call));
    }
    let ids: Vec<&str> = paid
        .iter()
        .map(|(quote, _)| quote.relay_request_id.as_str())
        .collect();
    market.door.sandbox.deposit(&ids).await.unwrap();
    for (quote, _) in &paid {
        market.reaches(quote, "paid").await;
    }
    let asking: Vec<_> = paid
        .iter()
        .enumerate()
        .map(|(number, (quote, call))| {
            let (buyer, call, id) = (
                market.buyer.through(&market.door.apis[number % 2]),
                call.clone(),
                quote.relay_request_id.clone(),
            );
            tokio::spawn(persist(buyer, call, id))
        })
        .collect();
    market.service.called(CALLS / 6).await;
    world.stack.kill(Role::ControlPlane).unwrap();
    world.stack.start_again(Role::ControlPlane).await.unwrap();
    for asked in asking {
        assert_eq!(asked.await.unwrap().status, 200);
    }
    for (quote, _) in &paid {
        market.assert_settled(quote, 1).await;
    }
    world.close().await;
}

/// Goes on asking as an agent would: everything but the end of a payment is asked again.
async fn persist(buyer: demo_agent::Agent, call: PaidCall, id: String) -> Answer {
    const LIMIT: Duration = Duration::from_secs(100);
    until_within("the call is delivered", LIMIT, || async {
        let answer = buyer.call(&call, Some(&id)).await.ok()?;
        let again = [202, 409, 429, 500, 503].contains(&answer.status);
        assert!(again || answer.status == 200, "a false failure: {answer}");
        assert_ne!(answer.status, 500, "{answer}");
        (answer.status == 200).then_some(answer)
    })
    .await
}

async fn without_redis_calls_go_on_and_revoked_keys_are_refused() {
    let mut world = World::own("no_redis", |options| options).await;
    let market = Market::within(&world.door, json!({})).await;
    let (second, key_id) = market.second_key().await;
    second.quote(&market.call()).await.unwrap();
    world.stack.kill(Role::Redis).unwrap();
    for api in &world.door.apis {
        let call = market.call();
        let buyer = market.buyer.through(api);
        let quote = buyer.pay(&call, &market.door.sandbox).await.unwrap();
        ok(&market.redeem_as(&buyer, &call, &quote).await);
        market.assert_settled(&quote, 1).await;
        assert_eq!(
            buyer.quote(&market.call()).await.unwrap().payment["amount"]["amount_micros"],
            1_000_000
        );
    }
    market
        .buyer
        .send(
            demo_agent::Method::DELETE,
            &format!("/api-keys/{key_id}"),
            &[],
            None,
        )
        .await
        .unwrap()
        .data(200)
        .unwrap();
    until_within(
        "the revoked key is refused within 5 s",
        Duration::from_millis(5500),
        || async {
            let answer = second.call(&market.call(), None).await.unwrap();
            (answer.status == 401).then_some(())
        },
    )
    .await;
    world.stack.start_again(Role::Redis).await.unwrap();
    let (quote, answer) = market.buy(&market.call()).await;
    ok(&answer);
    market.assert_settled(&quote, 1).await;
    world.close().await;
}
