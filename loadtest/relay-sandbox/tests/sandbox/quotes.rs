//! `POST /quote/v2`, its faults and limits.

use relay_sandbox::Config;
use serde_json::{Value, json};

use crate::harness::{
    EVM_WALLET, KEY, SETTLEMENT, SOLANA_WALLET, Sandbox, base_quote, sol_quote, with,
};

const ETH: &str = "0x0000000000000000000000000000000000000000";
const USDC: &str = "0x833589fcd6edb6e08f4c7c32d4f71b54bda02913";

async fn quoted(body: &Value) -> Value {
    let (status, quote) = Sandbox::instant().await.post("/quote/v2", body).await;
    assert_eq!(status, 200, "{quote}");
    quote
}

#[tokio::test]
async fn a_quote_names_everything_needed_to_pay() {
    let quote = quoted(&sol_quote()).await;
    let step = &quote["steps"][0];
    let id = step["requestId"].as_str().unwrap();
    assert!(id.starts_with("0x") && id.len() == 66, "{id}");
    assert_eq!(
        (&step["id"], &step["kind"]),
        (&json!("deposit"), &json!("transaction"))
    );
    let check = json!({"endpoint": format!("/intents/status/v3?requestId={id}"), "method": "GET"});
    assert_eq!(step["items"][0]["check"], check);
    let details = &quote["details"];
    assert_eq!(
        (&details["sender"], &details["recipient"]),
        (&json!(SOLANA_WALLET), &json!(SETTLEMENT))
    );
    assert_eq!(
        details["currencyIn"],
        json!({
            "currency": {"chainId": 792_703_809, "address": "11111111111111111111111111111111", "symbol": "SOL", "name": "Solana",
                "decimals": 9, "metadata": {"logoURI": "https://assets.relay.link/icons/792703809/light.png", "verified": true, "isNative": true}},
            "amount": "6800000", "amountFormatted": "0.0068", "amountUsd": "1.02", "minimumAmount": "6800000"
        })
    );
    assert_eq!(
        (
            &details["currencyOut"]["amount"],
            &details["currencyOut"]["amountUsd"]
        ),
        (&json!("1000000"), &json!("1"))
    );
    for fee in [
        "gas",
        "relayer",
        "relayerGas",
        "relayerService",
        "app",
        "subsidized",
    ] {
        assert!(quote["fees"][fee]["amount"].is_string(), "{fee}");
    }
    // 0.02 USD, rounded up to a whole lamport.
    assert_eq!(quote["fees"]["relayer"]["amount"], "133334");
}

#[tokio::test]
async fn a_solana_deposit_is_a_transfer_to_the_deposit_address() {
    let quote = quoted(&sol_quote()).await;
    let step = &quote["steps"][0];
    let transfer = &step["items"][0]["data"]["instructions"][0];
    assert_eq!(transfer["keys"][1]["pubkey"], step["depositAddress"]);
    assert_eq!(transfer["data"], "0200000080c2670000000000");
    let usdc = quoted(&with(
        sol_quote(),
        &json!({"originCurrency": "EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1v"}),
    ))
    .await;
    assert_eq!(usdc["details"]["currencyIn"]["amount"], "1020000");
    assert_eq!(
        usdc["steps"][0]["items"][0]["data"]["instructions"][0]["data"],
        "0c60900f000000000006"
    );
}

#[tokio::test]
async fn a_base_deposit_is_an_evm_transaction() {
    let eth = quoted(&base_quote(ETH)).await;
    let data = &eth["steps"][0]["items"][0]["data"];
    assert_eq!(
        (&data["from"], &data["to"]),
        (&json!(EVM_WALLET), &eth["steps"][0]["depositAddress"])
    );
    assert_eq!(
        (&data["value"], &data["chainId"]),
        (&json!("340000000000000"), &json!(8453))
    );
    let usdc = quoted(&base_quote(USDC)).await;
    let data = &usdc["steps"][0]["items"][0]["data"];
    let address = usdc["steps"][0]["depositAddress"].as_str().unwrap();
    let call = format!(
        "0xa9059cbb{:0>64}{:064x}",
        address.trim_start_matches("0x"),
        1_020_000
    );
    assert_eq!(
        (&data["to"], &data["value"], &data["data"]),
        (&json!(USDC), &json!("0"), &json!(call))
    );
}

#[tokio::test]
async fn exact_input_and_a_wallets_own_transaction_are_quoted_too() {
    let body = with(
        base_quote(ETH),
        &json!({"tradeType": "EXACT_INPUT", "amount": "340000000000000", "useDepositAddress": false, "strict": false}),
    );
    let quote = quoted(&body).await;
    assert_eq!(quote["details"]["currencyOut"]["amount"], "1000000");
    assert_eq!(quote["steps"][0]["depositAddress"], Value::Null);
}

#[tokio::test]
async fn each_quote_has_its_own_address_and_id() {
    let sandbox = Sandbox::instant().await;
    let (_, one) = sandbox.post("/quote/v2", &sol_quote()).await;
    let (_, two) = sandbox.post("/quote/v2", &sol_quote()).await;
    assert_ne!(one["steps"][0]["requestId"], two["steps"][0]["requestId"]);
    assert_ne!(
        one["steps"][0]["depositAddress"],
        two["steps"][0]["depositAddress"]
    );
}

#[tokio::test]
async fn what_the_provider_refuses_is_refused_with_its_code() {
    let sandbox = Sandbox::instant().await;
    let cases = [
        (json!({"strict": null}), "UNSUPPORTED_EXECUTION_TYPE"),
        (json!({"refundTo": null}), "UNSUPPORTED_EXECUTION_TYPE"),
        (
            json!({"useDepositAddress": null}),
            "UNSUPPORTED_EXECUTION_TYPE",
        ),
        (json!({"originChainId": 1}), "UNSUPPORTED_CHAIN"),
        (json!({"originCurrency": USDC}), "INVALID_INPUT_CURRENCY"),
        (
            json!({"destinationCurrency": "0x0000000000000000000000000000000000000001"}),
            "INVALID_OUTPUT_CURRENCY",
        ),
        (json!({"destinationCurrency": ETH}), "UNSUPPORTED_ROUTE"),
        (json!({"user": EVM_WALLET}), "INVALID_ADDRESS"),
        (json!({"refundTo": EVM_WALLET}), "INVALID_ADDRESS"),
        (json!({"recipient": SOLANA_WALLET}), "INVALID_RECIPIENT"),
        (json!({"amount": "0"}), "AMOUNT_TOO_LOW"),
        (
            json!({"amount": "99999999999999999999999999"}),
            "INSUFFICIENT_LIQUIDITY",
        ),
        (
            json!({"amount": u128::MAX.to_string()}),
            "INSUFFICIENT_LIQUIDITY",
        ),
    ];
    for (change, code) in cases {
        let (status, error) = sandbox.post("/quote/v2", &with(sol_quote(), &change)).await;
        assert_eq!(
            (status, &error["errorCode"]),
            (400, &json!(code)),
            "{change} {error}"
        );
        assert!(error["message"].is_string());
    }
    for change in [
        json!({"user": null}),
        json!({"amount": "1.5"}),
        json!({"amount": 5}),
        json!({"tradeType": "GUESS"}),
    ] {
        let (status, error) = sandbox.post("/quote/v2", &with(sol_quote(), &change)).await;
        assert_eq!(status, 400);
        assert!(
            error["message"].is_string() && error["errorCode"].is_null(),
            "{error}"
        );
    }
    assert_eq!(sandbox.get("/sandbox/requests").await.1["total"], 0);
}

#[tokio::test]
async fn each_route_has_its_own_minimum() {
    let sandbox = Sandbox::start(Config {
        minimums: "SOL=50,USDC=200000".parse().unwrap(),
        ..Config::default()
    })
    .await;
    let quote = async |body: Value, amount: u64| {
        let (status, answer) = sandbox
            .post(
                "/quote/v2",
                &with(body, &json!({"amount": amount.to_string()})),
            )
            .await;
        (status, answer["errorCode"].as_str().map(str::to_owned))
    };
    let too_low = || (400, Some("AMOUNT_TOO_LOW".to_owned()));
    assert_eq!(quote(sol_quote(), 49).await, too_low());
    assert_eq!(quote(sol_quote(), 50).await, (200, None));
    assert_eq!(quote(base_quote(USDC), 199_999).await, too_low());
    assert_eq!(quote(base_quote(USDC), 200_000).await, (200, None));
    assert_eq!(quote(base_quote(ETH), 99_999).await, too_low());
}

#[tokio::test]
async fn a_key_is_optional_but_not_arbitrary() {
    let sandbox = Sandbox::instant().await;
    assert_eq!(
        sandbox
            .post_with_key("/quote/v2", &sol_quote(), Some(KEY))
            .await
            .0,
        200
    );
    let (status, error) = sandbox
        .post_with_key("/quote/v2", &sol_quote(), Some("other"))
        .await;
    assert_eq!((status, &error["errorCode"]), (401, &json!("UNAUTHORIZED")));
}

#[tokio::test]
async fn faults_last_as_long_as_they_were_asked_to() {
    let sandbox = Sandbox::instant().await;
    let quote = async || sandbox.post("/quote/v2", &sol_quote()).await;
    let fault = async |body: Value| sandbox.control("/sandbox/faults", &body).await;
    fault(json!({"endpoint": "quote", "mode": "error500", "count": 2})).await;
    assert_eq!(
        (quote().await.0, quote().await.0, quote().await.0),
        (500, 500, 200)
    );
    fault(json!({"endpoint": "quote", "mode": "rate_limit"})).await;
    let (status, error) = quote().await;
    assert_eq!(
        (status, error),
        (429, json!({"message": "Too many requests"}))
    );
    fault(json!({"endpoint": "quote", "mode": "refuse", "errorCode": "SANCTIONED_WALLET_ADDRESS"}))
        .await;
    let (status, error) = quote().await;
    assert_eq!(
        (status, &error["errorCode"]),
        (400, &json!("SANCTIONED_WALLET_ADDRESS"))
    );
    fault(json!({"endpoint": "*", "mode": "off"})).await;
    assert_eq!(quote().await.0, 200);
    fault(json!({"endpoint": "requests", "mode": "garbage"})).await;
    let (status, text) = sandbox.get_text("/requests/v3").await;
    assert!(
        status == 200 && serde_json::from_str::<Value>(&text).is_err(),
        "{text}"
    );
    fault(json!({"endpoint": "status", "mode": "error500", "count": 1})).await;
    assert_eq!(sandbox.get("/intents/status/v3?requestId=0x").await.0, 500);
    assert_eq!(sandbox.get("/intents/status/v3?requestId=0x").await.0, 200);
}

#[tokio::test]
async fn a_fault_comes_again_after_so_many_good_answers_and_is_counted() {
    let sandbox = Sandbox::instant().await;
    let fault = json!({"endpoint": "quote", "mode": "error500", "count": 2, "then": 3});
    sandbox.control("/sandbox/faults", &fault).await;
    let mut said = Vec::new();
    for _ in 0..12 {
        said.push(sandbox.post("/quote/v2", &sol_quote()).await.0);
    }
    assert_eq!(
        said,
        [500, 500, 200, 200, 200, 500, 500, 200, 200, 200, 500, 500]
    );
    let seen = sandbox.get("/sandbox/requests").await.1;
    assert_eq!(
        (&seen["calls"], &seen["faults"]),
        (
            &json!({"quote": 12, "status": 0, "requests": 0}),
            &json!({"quote": 6, "status": 0, "requests": 0})
        )
    );
    let endless = json!({"endpoint": "quote", "mode": "error500", "then": 3});
    assert_eq!(sandbox.post("/sandbox/faults", &endless).await.0, 400);
}

#[tokio::test]
async fn a_call_that_times_out_gets_no_answer_while_others_do() {
    let sandbox = Sandbox::instant().await;
    sandbox
        .control(
            "/sandbox/faults",
            &json!({"endpoint": "status", "mode": "timeout"}),
        )
        .await;
    let asked = sandbox.get("/intents/status/v3?requestId=0x");
    let waited = tokio::time::timeout(std::time::Duration::from_millis(200), asked).await;
    assert!(waited.is_err());
    assert_eq!(sandbox.post("/quote/v2", &sol_quote()).await.0, 200);
}

#[tokio::test]
async fn the_providers_limits_can_be_switched_on() {
    let hand = crate::harness::Hand::at(1_000_000);
    let sandbox = Sandbox::start(Config {
        quotes_per_second: Some(2),
        clock: hand.clock(),
        ..Config::default()
    })
    .await;
    let quote = async || sandbox.post("/quote/v2", &sol_quote()).await.0;
    assert_eq!(
        (quote().await, quote().await, quote().await),
        (200, 200, 429)
    );
    hand.forward(1000);
    assert_eq!(quote().await, 200);
    assert_eq!(
        sandbox.get("/sandbox/requests").await.1["calls"]["quote"],
        4
    );
}
