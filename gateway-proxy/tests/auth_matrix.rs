//! Who may do what: every operation of the OpenAPI document × every kind of credential.
//!
//! The test walks the document; what each operation asks for stands in [`CLASSES`], written by hand, so
//! that a route that was added without a thought about who may call it fails here.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use demo_agent::{Agent, Answer, Chain, Method, Quote};
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};

use crate::harness::{Market, World, text, trials};

trials!(every_operation_of_the_document_asks_for_what_it_should);

/// Where the document is, from this crate.
const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../control-plane/openapi.json");

/// Who an operation is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    /// Everybody. A credential is neither needed nor looked at.
    Public,
    /// Everybody; a key that is sent must be good, and shows its owner more.
    KeyWelcome,
    /// An agent, about her own things only.
    Agent,
    /// An agent, about one thing that is not everybody's: others are refused, or find nothing.
    Owner,
    /// An agent or a signed-in person, about their own things.
    AgentOrPerson,
    /// The same about one thing of theirs.
    OwnerOrPerson,
    /// A signed-in person.
    Person,
    /// Who can show a secret of another kind: the provider's signature, a session, a password.
    OtherSecret,
}

use Class::{
    Agent as ByAgent, AgentOrPerson, KeyWelcome, OtherSecret, Owner, OwnerOrPerson, Person, Public,
};

/// Every operation. An operation that is not here is an operation nobody has thought about.
const CLASSES: [(&str, Class); 48] = [
    ("GET /health", Public),
    ("POST /auth/challenge", Public),
    ("POST /register", Public),
    ("POST /auth/recover", Public),
    ("POST /auth/signup", Public),
    ("POST /auth/login", Public),
    ("POST /auth/logout", OtherSecret),
    ("GET /me", AgentOrPerson),
    ("PATCH /me", AgentOrPerson),
    ("GET /me/wallets", ByAgent),
    ("POST /me/wallets", ByAgent),
    ("GET /me/wallets/{}", Owner),
    ("PATCH /me/wallets/{}", Owner),
    ("GET /me/listings", ByAgent),
    ("GET /api-keys", AgentOrPerson),
    ("POST /api-keys", ByAgent),
    ("DELETE /api-keys/{}", OwnerOrPerson),
    ("GET /agents/{}", Public),
    ("GET /agents/{}/score", Public),
    ("POST /agents/{}/claim", Person),
    ("GET /categories", Public),
    ("GET /listings", Public),
    ("GET /listings/{}", KeyWelcome),
    ("POST /listings/challenge", ByAgent),
    ("POST /listings", ByAgent),
    ("PATCH /listings/{}", Owner),
    ("DELETE /listings/{}", Owner),
    ("GET /listings/{}/endpoint", Owner),
    ("PUT /listings/{}/endpoint", Owner),
    ("POST /listings/{}/endpoint/test", Owner),
    ("POST /listings/{}/endpoint/rotate-secret", Owner),
    ("POST /gateway/{}", ByAgent),
    ("GET /relay-requests/{}", Owner),
    ("GET /gateway-requests", ByAgent),
    ("GET /gateway-requests/{}", Owner),
    ("GET /gateway-requests/{}/response", Owner),
    ("GET /ledger", ByAgent),
    ("GET /ledger/summary", ByAgent),
    ("GET /reviews/{}", Public),
    ("POST /reviews/{}", ByAgent),
    ("POST /webhooks/relay", OtherSecret),
    ("GET /docs", Public),
    ("GET /docs/errors", Public),
    ("GET /llms.txt", Public),
    ("GET /SKILL.md", Public),
    ("GET /api/openapi.json", Public),
    ("GET /openapi.json", Public),
    ("GET /.well-known/agent-protocol.json", Public),
];

/// An operation with its path filled in with things of the market.
struct Operation {
    /// `GET /listings/{}`: as in [`CLASSES`].
    name: String,
    method: Method,
    path: String,
    /// Who owns what is in the path.
    by_seller: bool,
}

/// What stands in the paths.
struct Things {
    listing: String,
    seller: String,
    wallet: String,
    key: String,
    relay_request: String,
    gateway_request: String,
}

impl Things {
    async fn of(market: &Market, quote: &Quote) -> Self {
        let (_, key) = market.second_key().await;
        let me = market.buyer.get("/me").await.unwrap().data(200).unwrap();
        Self {
            listing: market.listing.id.clone(),
            seller: market.seller.id.clone(),
            wallet: text(&me["wallets"][0]["id"]).to_owned(),
            key,
            relay_request: quote.relay_request_id.clone(),
            gateway_request: quote.request_id.clone(),
        }
    }

    /// The path with its parameters filled in, and whether what it names is the seller's.
    fn fill(&self, path: &str) -> (String, bool) {
        let (thing, by_seller) = match path.split('/').nth(1) {
            Some("listings" | "gateway" | "reviews") => (&self.listing, true),
            Some("agents") => (&self.seller, true),
            Some("me") => (&self.wallet, false),
            Some("api-keys") => (&self.key, false),
            Some("relay-requests") => (&self.relay_request, false),
            _ => (&self.gateway_request, false),
        };
        let filled = path.split('/').map(|part| {
            if part.starts_with('{') {
                thing.as_str()
            } else {
                part
            }
        });
        (filled.collect::<Vec<_>>().join("/"), by_seller)
    }
}

fn operations(things: &Things) -> Vec<Operation> {
    let document = std::fs::read_to_string(DOCUMENT).unwrap();
    let document: Value = serde_json::from_str(&document).unwrap();
    let mut found = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for method in ["get", "post", "put", "patch", "delete"] {
            if item.get(method).is_none() {
                continue;
            }
            let parts = path
                .split('/')
                .map(|part| if part.starts_with('{') { "{}" } else { part });
            let (filled, by_seller) = things.fill(path);
            let method = method.to_uppercase();
            found.push(Operation {
                name: format!("{method} {}", parts.collect::<Vec<_>>().join("/")),
                method: method.parse().unwrap(),
                path: filled,
                by_seller,
            });
        }
    }
    assert!(
        found.len() >= 25,
        "the document has {} operations",
        found.len()
    );
    found
}

/// Credentials that open nothing, and what they are answered.
async fn bad_keys(market: &Market) -> Vec<(&'static str, Option<String>, &'static str)> {
    let (revoked, id) = market.second_key().await;
    let path = format!("/api-keys/{id}");
    let deleted = market.buyer.send(Method::DELETE, &path, &[], None).await;
    deleted.unwrap().data(200).unwrap();
    let (expired, id) = market.second_key().await;
    let past =
        "set expires_at = now() - interval '1 second', created_at = now() - interval '1 day'";
    let changed = market
        .door
        .sql(format!("update api_key {past} where id = '{id}'"))
        .await;
    assert_eq!(changed, 1);
    let random = || u8::try_from(getrandom::u32().unwrap() % 256).unwrap();
    let unknown = crochet_shared::api_key::generate(random);
    vec![
        ("no key", None, "UNAUTHORIZED"),
        (
            "a malformed key",
            Some("am_k_typo".to_owned()),
            "UNAUTHORIZED",
        ),
        (
            "an unknown key",
            Some(unknown.text.expose_secret().to_owned()),
            "INVALID_API_KEY",
        ),
        ("a revoked key", Some(revoked.key), "INVALID_API_KEY"),
        ("an expired key", Some(expired.key), "INVALID_API_KEY"),
    ]
}

/// A signed-in person's cookie.
async fn session(market: &Market) -> String {
    let email = format!("{}@example.com", demo_agent::random_hex::<8>().unwrap());
    let person =
        json!({ "email": email, "password": "correct horse battery", "display_name": "Pia" });
    let answer = market
        .api()
        .post("/auth/signup", None, &person)
        .await
        .unwrap();
    assert_eq!(answer.status, 201, "{answer}");
    let cookie = answer.header("set-cookie").unwrap();
    cookie.split(';').next().unwrap().to_owned()
}

/// A well-formed body: `{}`, or what an operation cannot do without. What it is refused for comes after
/// who asks.
fn body(operation: &Operation) -> Option<bytes::Bytes> {
    let body = match operation.name.as_str() {
        // Who owns a wallet is looked up with the proof, so the proof must be one that can be read.
        "PATCH /me/wallets/{}" => json!({
            "label": "Mine now",
            "wallet_proof": {
                "wallet_address": format!("0x{}", "1".repeat(40)),
                "nonce": "0".repeat(32),
                "signature": format!("0x{}", "1".repeat(130)),
            },
        }),
        _ => json!({}),
    };
    (operation.method != Method::GET).then(|| body.to_string().into())
}

/// Asks with a key or a cookie.
async fn ask(
    market: &Market,
    operation: &Operation,
    key: Option<&str>,
    cookie: Option<&str>,
) -> Answer {
    let body = body(operation);
    let headers: Vec<(&str, &str)> = cookie
        .map(|cookie| ("cookie", cookie))
        .into_iter()
        .collect();
    market
        .api()
        .send(
            operation.method.clone(),
            &operation.path,
            key,
            &headers,
            body,
        )
        .await
        .unwrap()
}

/// What is wrong with the answer to a credential that opens nothing.
fn judge_bad(class: Class, is_key: bool, code: &str, answer: &Answer) -> Option<String> {
    let refused = answer.status == 401 && answer.code().as_deref() == Some(code);
    let opened = ![401, 403].contains(&answer.status) && answer.status < 500;
    let right = match class {
        Public => opened,
        KeyWelcome if !is_key => opened,
        KeyWelcome | ByAgent | Owner | AgentOrPerson | OwnerOrPerson => refused,
        // A person's route is told so, or told that no session came.
        Person => answer.status == 401 || answer.status == 403,
        OtherSecret => answer.status != 500 && answer.status != 201,
    };
    let explained = answer.status != 401 || answer.header("www-authenticate").is_some();
    (!right || !explained).then(|| format!("{answer}"))
}

/// What is wrong with the answer to another agent, whose key is good.
fn judge_other(class: Class, answer: &Answer) -> Option<String> {
    let right = match class {
        Owner | OwnerOrPerson => answer.status == 403 || answer.status == 404,
        Person => answer.status == 403,
        Public | KeyWelcome | ByAgent | AgentOrPerson => answer.status != 401,
        OtherSecret => true,
    };
    (!right || answer.status >= 500).then(|| format!("{answer}"))
}

/// What is wrong with the answer to a signed-in person who owns nothing of it.
fn judge_person(class: Class, answer: &Answer) -> Option<String> {
    let is_agents = answer.status == 403 && answer.code().as_deref() == Some("AGENT_REQUIRED");
    let right = match class {
        ByAgent | Owner => is_agents,
        OwnerOrPerson => answer.status == 403 || answer.status == 404,
        Public | KeyWelcome | AgentOrPerson | Person => answer.status != 401,
        OtherSecret => true,
    };
    (!right || answer.status >= 500).then(|| format!("{answer}"))
}

async fn every_operation_of_the_document_asks_for_what_it_should() {
    let world = World::own("auth_matrix", |options| options).await;
    let market = Market::within(&world.door, json!({})).await;
    let quote = market.buyer.quote(&market.call()).await.unwrap();
    let things = Things::of(&market, &quote).await;
    let classes: BTreeMap<&str, Class> = CLASSES.into();
    let bad = bad_keys(&market).await;
    let another = Agent::fresh(market.api(), Chain::Evm, "Stan Stranger")
        .await
        .unwrap();
    let cookie = session(&market).await;

    let mut wrong = String::new();
    for operation in operations(&things) {
        let name = operation.name.as_str();
        let Some(class) = classes.get(name).copied() else {
            writeln!(wrong, "{name} is not classified: who is it for?").unwrap();
            continue;
        };
        let mut note = |who: &str, why: Option<String>| {
            if let Some(why) = why {
                writeln!(wrong, "{name} ({class:?}) with {who}: {why}").unwrap();
            }
        };
        for (who, key, code) in &bad {
            let answer = ask(&market, &operation, key.as_deref(), None).await;
            note(who, judge_bad(class, key.is_some(), code, &answer));
        }
        let answer = ask(&market, &operation, Some(&another.key), None).await;
        note("another agent's key", judge_other(class, &answer));
        if operation.by_seller && matches!(class, Owner | OwnerOrPerson) {
            // Also to the buyer, who knows of the listing.
            let answer = ask(&market, &operation, Some(&market.buyer.key), None).await;
            note("the buyer's key", judge_other(class, &answer));
        }
        // Signing out ends a session of its own; the others go on with theirs.
        let leaves = name == "POST /auth/logout";
        let cookie = if leaves {
            session(&market).await
        } else {
            cookie.clone()
        };
        let answer = ask(&market, &operation, None, Some(&cookie)).await;
        note("a person's session", judge_person(class, &answer));
    }
    assert!(wrong.is_empty(), "\n{wrong}");
    market.assert_untouched().await;
    world.close().await;
}
