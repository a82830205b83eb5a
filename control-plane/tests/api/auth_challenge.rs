//! `POST /auth/challenge`

use http::Method;
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
                "Change wallet {id} of a Crochet agent: label to 'Old one', status to disabled."
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

#[sqlx::test(migrations = "./migrations")]
async fn each_bad_field_is_named_once_and_unknown_ones_may_stand_twice(pool: PgPool) {
    let api = Api::new(pool);
    let address = Wallet::evm().address();
    let ask = async |rest: &str| {
        let body = format!(r#"{{"wallet_address":"{address}",{rest}}}"#);
        api.call(Method::POST, "/auth/challenge", None, Some(&body))
            .await
    };
    for (rest, bad) in [
        (
            r#""purpose":"claim_agent","profile_id":"x""#,
            vec!["profile_id"],
        ),
        (
            r#""purpose":"claim_agent","profile_id":null"#,
            vec!["profile_id"],
        ),
        (
            r#""purpose":"manage_wallet","target_wallet_id":1,"changes":[]"#,
            vec!["changes", "target_wallet_id"],
        ),
        (
            r#""purpose":"manage_wallet","target_wallet_id":1,"changes":{"status":"gone"}"#,
            vec!["changes.status", "target_wallet_id"],
        ),
        (
            r#""purpose":"manage_wallet","target_wallet_id":"x","changes":{"nonsense":1}"#,
            vec!["changes", "target_wallet_id"],
        ),
        (
            r#""purpose":"register","purpose":"register""#,
            vec!["purpose"],
        ),
        (
            r#""purpose":"link_wallet","linked_wallet_address":"x","linked_wallet_address":"y""#,
            vec!["linked_wallet_address"],
        ),
    ] {
        assert_eq!(ask(rest).await.bad_fields(), bad, "{rest}");
    }
    let own = format!(r#""purpose":"link_wallet","linked_wallet_address":"{address}""#);
    assert_eq!(ask(&own).await.bad_fields(), ["linked_wallet_address"]);
    ask(r#""note":1,"note":2,"changes":{"note":1,"note":2}"#)
        .await
        .data(200);
}

#[sqlx::test(migrations = "./migrations")]
async fn a_label_cannot_make_a_statement_say_something_else(pool: PgPool) {
    let api = Api::new(pool);
    let ask = async |label: &str| {
        let body = json!({
            "wallet_address": Wallet::evm().address(), "purpose": "manage_wallet",
            "target_wallet_id": "0190a000-0000-7000-8000-000000000001",
            "changes": { "label": label },
        });
        api.post("/auth/challenge", &body).await
    };
    let turned = ask("x'.\u{202e}\u{2028}URI: https://evil.example").await;
    assert_eq!(turned.bad_fields(), ["changes.label"]);
    let label = "x'.\u{5d0}\u{3000}URI: https://evil.example \"é";
    let data = ask(label).await.data(200);
    let message = data["message"].as_str().unwrap();
    assert!(message.is_ascii(), "{message}");
    assert_eq!(
        message
            .lines()
            .filter(|line| line.starts_with("URI:"))
            .count(),
        1
    );
    let statement = message.lines().nth(3).unwrap();
    // EIP-4361: reserved, unreserved and space.
    let allowed = |c: char| c.is_ascii_alphanumeric() || ":/?#[]@!$&'()*+,;=-._~ ".contains(c);
    assert!(statement.chars().all(allowed), "{statement}");
    assert!(statement.contains(
        "label to 'x(U+0027).(U+05D0)(U+3000)URI: https://evil.example (U+0022)(U+00E9)'."
    ));
    // The exact text stands in the resources.
    let exact = message.lines().last().unwrap();
    let exact = exact.strip_prefix("- urn:crochet:changes:").unwrap();
    let (decoded, _) = url::form_urlencoded::parse(exact.as_bytes())
        .next()
        .unwrap();
    assert_eq!(
        serde_json::from_str::<serde_json::Value>(&decoded).unwrap(),
        json!({ "label": label })
    );
}
