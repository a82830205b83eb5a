//! Whole stacks: every part can be killed alone, two stand side by side, nothing is left behind.

use crochet_dev::{Options, Role, Stack};
use demo_agent::{Agent, Chain, NewListing, PaidCall, random_hex};
use nix::sys::signal::kill;
use nix::unistd::Pid;
use serde_json::json;

fn is_alive(pid: u32) -> bool {
    i32::try_from(pid).is_ok_and(|pid| kill(Pid::from_raw(pid), None).is_ok())
}

fn pids(stack: &Stack) -> Vec<u32> {
    stack
        .roles()
        .into_iter()
        .filter_map(|role| stack.pid(role))
        .collect()
}

/// One purchase through the gateway of this number, from registration to the seller's answer.
async fn buy(stack: &Stack, gateway: usize) -> anyhow::Result<()> {
    let api = stack.api(gateway)?;
    let seller = Agent::fresh(&api, Chain::Solana, "Seller").await?;
    let buyer = Agent::fresh(&api, Chain::Solana, "Buyer").await?;
    let demo_seller = stack.demo_seller();
    let listing = seller
        .publish(&NewListing::per_call(
            "Echo",
            "0.01",
            &demo_seller.endpoint_url(),
        ))
        .await?;
    demo_seller.accept(&listing).await?;
    let call = PaidCall::new(&listing.id, &json!({ "input": random_hex::<8>()? }));
    let bought = buyer.buy(&call, &stack.sandbox()).await?;
    bought.answer.data(200)?;
    anyhow::ensure!(
        demo_seller.count(&bought.quote.request_id).await? == 1,
        "one call"
    );
    Ok(())
}

#[tokio::test]
async fn every_part_can_be_killed_and_started_again() {
    let mut stack = Stack::start(Options::for_test("killed_parts").unwrap().gateways(2))
        .await
        .unwrap();
    for role in stack.roles() {
        let before = stack.pid(role);
        stack.kill(role).unwrap();
        assert_eq!(stack.crashed().unwrap().name, role.to_string());
        stack.start_again(role).await.unwrap();
        assert_ne!(stack.pid(role), before, "{role}");
        assert!(stack.crashed().is_none());
    }
    for gateway in 0..2 {
        stack
            .wait_until_ready(Role::Gateway(gateway))
            .await
            .unwrap();
        buy(&stack, gateway).await.unwrap();
    }
    assert_eq!(stack.audit().await.unwrap(), None);
    let (pids, database) = (pids(&stack), stack.database_url().to_owned());
    stack.stop().await.unwrap();
    assert!(!pids.into_iter().any(is_alive));
    assert!(
        sqlx::PgPool::connect(&database).await.is_err(),
        "the database is gone"
    );
}

#[tokio::test]
async fn two_stacks_stand_side_by_side_and_a_dropped_one_leaves_nothing() {
    let one = Stack::start(Options::for_test("side_by_side").unwrap())
        .await
        .unwrap();
    let two = Stack::start(Options::for_test("side_by_side").unwrap())
        .await
        .unwrap();
    buy(&one, 0).await.unwrap();
    let (pids, directory) = (pids(&one), one.directory().to_path_buf());
    assert!(directory.join("logs").is_dir());
    drop(one);
    assert!(!pids.into_iter().any(is_alive));
    assert!(!directory.exists());
    buy(&two, 0).await.unwrap();
}

#[tokio::test]
async fn a_service_that_refuses_its_configuration_is_reported_with_its_own_words() {
    let options = Options::for_test("nonsense")
        .unwrap()
        .set("CROCHET_MASTER_KEYS", "nonsense")
        .unwrap();
    let error = format!("{:#}", Stack::start(options).await.unwrap_err());
    assert!(error.contains("CROCHET_MASTER_KEYS"), "{error}");
}
