//! The client against the real stand-ins, in this process.

use std::time::Duration;

use anyhow::{Context as _, Result};
use demo_agent::{Answer, DemoSeller, Patience, Sandbox, Wallet, client};
use serde_json::{Value, json};
use tokio::net::TcpListener;

const PATIENCE: Patience = Patience {
    pause: Duration::from_millis(5),
    limit: Duration::from_secs(20),
};

async fn listen() -> Result<(TcpListener, String)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let origin = format!("http://{}", listener.local_addr()?);
    Ok((listener, origin))
}

async fn sandbox() -> Result<(Sandbox, String)> {
    let (listener, origin) = listen().await?;
    let config = relay_sandbox::Config {
        step_ms: 1,
        ..relay_sandbox::Config::default()
    };
    tokio::spawn(relay_sandbox::serve(listener, config));
    Ok((Sandbox::new(&origin, client()?), origin))
}

/// Asks the sandbox for one dollar, as the control plane does.
async fn provider_quote(origin: &str) -> Result<String> {
    let buyer = Wallet::solana()?;
    let body = json!({
        "user": buyer.address(), "recipient": Wallet::evm()?.address(), "originChainId": 792_703_809,
        "originCurrency": "11111111111111111111111111111111", "destinationChainId": 8453,
        "destinationCurrency": "0x833589fcd6edb6e08f4c7c32d4f71b54bda02913", "amount": "1000000", "tradeType": "EXACT_OUTPUT",
        "useDepositAddress": true, "strict": true, "refundTo": buyer.address(), "ttl": 900,
    });
    let answer = Answer::of(client()?.post(format!("{origin}/quote/v2")).json(&body)).await?;
    let id = answer.at("/steps/0/requestId");
    Ok(id
        .as_str()
        .with_context(|| format!("no request id: {answer}"))?
        .to_owned())
}

#[tokio::test]
async fn a_deposit_at_the_sandbox_becomes_a_success() {
    let (sandbox, origin) = sandbox().await.unwrap();
    let id = provider_quote(&origin).await.unwrap();
    assert_eq!(sandbox.status(&id).await.unwrap(), "waiting");
    sandbox.deposit(&[&id]).await.unwrap();
    sandbox.wait_until_paid(&id, PATIENCE).await.unwrap();
    assert_eq!(
        sandbox.requests().await.unwrap()["calls"]["quote"],
        json!(1)
    );
}

#[tokio::test]
async fn a_scripted_payment_ends_as_scripted() {
    let (sandbox, origin) = sandbox().await.unwrap();
    let id = provider_quote(&origin).await.unwrap();
    sandbox
        .scenario(&json!({ "requestId": id, "outcome": "refund" }))
        .await
        .unwrap();
    sandbox.deposit(&[&id]).await.unwrap();
    sandbox
        .wait_for_status(&id, "refund", PATIENCE)
        .await
        .unwrap();
    let impatient = Patience {
        limit: Duration::ZERO,
        ..PATIENCE
    };
    assert!(sandbox.wait_until_paid(&id, impatient).await.is_err());
    sandbox
        .fault(&json!({ "endpoint": "status", "mode": "error500" }))
        .await
        .unwrap();
    assert!(
        sandbox.status(&id).await.is_err(),
        "a provider's error is not a status"
    );
}

#[tokio::test]
async fn the_demo_seller_counts_and_refuses_what_is_not_signed() {
    let (listener, origin) = listen().await.unwrap();
    tokio::spawn(demo_seller::serve(listener, demo_seller::Config::default()));
    let seller = DemoSeller::new(&origin, client().unwrap());
    seller
        .set_secrets("a-listing", &["whsec_MDEyMzQ1Njc4OWFiY2RlZg=="])
        .await
        .unwrap();
    let unsigned = Answer::of(client().unwrap().post(seller.endpoint_url()).body("{}"))
        .await
        .unwrap();
    assert_eq!(unsigned.status, 401);
    let calls = seller.calls().await.unwrap();
    assert_eq!(
        (&calls["total"], &calls["unsigned"]),
        (&Value::from(0), &Value::from(1))
    );
    assert_eq!(seller.count("gw_req_unheard_of").await.unwrap(), 0);
}
