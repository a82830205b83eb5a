//! What goes wrong in a marketplace and is nobody's fault here: a seller who cannot be reached, a payment of
//! which too little arrives, an endpoint that is tried out. Made so that dashboards have something to show of it.

use anyhow::{Context as _, Result, ensure};
use crochet_dev::{StackFile, free_port};
use demo_agent::{Agent, Api, Chain, DemoSeller, NewListing, PaidCall, Quote, Sandbox, random_hex};
use serde_json::json;

/// Failures in a row that open a breaker, and a call that it refuses.
const CALLS: usize = 7;

/// One of each.
pub(crate) async fn make(stack: &StackFile) -> Result<()> {
    let api = Api::new(&stack.base_url)?;
    let sandbox = Sandbox::new(&stack.relay, api.http().clone());
    let demo_seller = DemoSeller::new(&stack.demo_seller, api.http().clone());
    let seller = Agent::fresh(&api, Chain::Evm, "Seller with mishaps").await?;
    let buyer = Agent::fresh(&api, Chain::Solana, "Buyer with mishaps").await?;

    let listing = NewListing::per_call("Mishaps", "1.00", &demo_seller.endpoint_url());
    let listing = seller.publish(&listing).await?;
    demo_seller.accept(&listing).await?;
    let tested = format!("/listings/{}/endpoint/test", listing.id);
    seller.post(&tested, &json!({})).await?.data(200)?;
    too_little(&buyer, &listing.id, &sandbox).await?;

    let nowhere = format!("http://127.0.0.1:{}/", free_port()?);
    let listing = NewListing::per_call("Nobody there", "1.00", &nowhere);
    let listing = seller.publish(&listing).await?;
    unreachable(&buyer, &listing.id, &sandbox).await
}

/// A deposit of which half arrives: it is due for refund.
async fn too_little(buyer: &Agent, listing: &str, sandbox: &Sandbox) -> Result<()> {
    let quote = buyer.quote(&call(listing)?).await?;
    sandbox
        .scenario(&json!({
            "requestId": quote.relay_request_id,
            "details": { "amount": "500000" },
        }))
        .await?;
    sandbox.deposit(&[&quote.relay_request_id]).await
}

/// A paid call that is tried until the seller's breaker is open. The payment stays good.
async fn unreachable(buyer: &Agent, listing: &str, sandbox: &Sandbox) -> Result<()> {
    let call = call(listing)?;
    let quote: Quote = buyer.pay(&call, sandbox).await?;
    let mut told = Vec::new();
    while told.len() < CALLS {
        let answer = buyer.call(&call, Some(&quote.relay_request_id)).await?;
        if answer.status != 202 {
            told.push(answer.code().unwrap_or_default());
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let last = told.pop().context("nothing was told")?;
    ensure!(
        last == "SELLER_UNAVAILABLE" && told.contains(&"SELLER_UNREACHABLE".to_owned()),
        "{told:?}, then {last}"
    );
    Ok(())
}

fn call(listing: &str) -> Result<PaidCall> {
    Ok(PaidCall::new(
        listing,
        &json!({ "input": random_hex::<8>()? }),
    ))
}
