//! `POST /auth/challenge`

use serde_json::json;
use sqlx::PgPool;

use super::client::Api;
use super::wallet::Wallet;

#[sqlx::test(migrations = "./migrations")]
async fn the_message_says_who_signs_what_for_whom_and_until_when(pool: PgPool) {
    let api = Api::new(pool);
    for (wallet, account, chain) in [
        (Wallet::evm(), "Ethereum", "Chain ID: 8453"),
        (
            Wallet::solana(),
            "Solana",
            "Chain ID: 5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp",
        ),
    ] {
        let answer = api
            .post(
                "/auth/challenge",
                &json!({ "wallet_address": wallet.address() }),
            )
            .await;
        assert_eq!(answer.header("cache-control"), "no-store");
        let data = answer.data(200);
        assert_eq!(data["purpose"], "register");
        assert_eq!(data["expires_in"], 300);
        assert_eq!(data["pow"]["algorithm"], "sha256");
        assert_eq!(data["pow"]["difficulty"], 1);
        let message = data["message"].as_str().unwrap();
        let lines: Vec<&str> = message.lines().collect();
        assert_eq!(
            lines[0],
            format!("127.0.0.1:8080 wants you to sign in with your {account} account:")
        );
        assert_eq!(lines[1].to_lowercase(), wallet.address().to_lowercase());
        assert_eq!(lines[3], "Register a new Crochet agent with this wallet.");
        let nonce = data["nonce"].as_str().unwrap();
        let expires = data["expires_at"].as_str().unwrap();
        for line in [
            "URI: http://127.0.0.1:8080",
            "Version: 1",
            chain,
            &format!("Nonce: {nonce}"),
            &format!("Expiration Time: {expires}"),
            "Resources:",
            "- urn:crochet:purpose:register",
        ] {
            assert!(lines.contains(&line), "{line} in {message}");
        }
    }
}

#[sqlx::test(migrations = "./migrations")]
async fn each_purpose_says_what_it_is_bound_to(pool: PgPool) {
    let api = Api::new(pool);
    let (wallet, other) = (Wallet::solana(), Wallet::evm());
    let id = "0190a000-0000-7000-8000-000000000001";
    for (purpose, more, said) in [
        ("recover", json!({}), "receive a new API key".to_owned()),
        (
            "link_wallet",
            json!({ "linked_wallet_address": other.address() }),
            "urn:crochet:wallet:evm:0x".to_owned(),
        ),
        (
            "manage_wallet",
            json!({ "target_wallet_id": id, "changes": { "status": "disabled", "label": "Old one" } }),
            format!(
                "Change wallet {id} of a Crochet agent: label to \"Old one\", status to \"disabled\"."
            ),
        ),
        (
            "claim_agent",
            json!({ "profile_id": id }),
            format!("urn:crochet:profile:{id}"),
        ),
    ] {
        let mut body = json!({ "wallet_address": wallet.address(), "purpose": purpose });
        super::client::merge(&mut body, more);
        let data = api.post("/auth/challenge", &body).await.data(200);
        assert_eq!(data["purpose"], purpose);
        let message = data["message"].as_str().unwrap();
        assert!(message.contains(&said), "{message}");
    }
    for (purpose, missing) in [
        ("link_wallet", vec!["linked_wallet_address"]),
        ("manage_wallet", vec!["changes", "target_wallet_id"]),
        ("claim_agent", vec!["profile_id"]),
    ] {
        let body = json!({ "wallet_address": wallet.address(), "purpose": purpose });
        let bad = api.post("/auth/challenge", &body).await.bad_fields();
        assert_eq!(bad, missing, "{purpose}");
    }
}
