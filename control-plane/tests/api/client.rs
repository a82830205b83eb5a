//! A client of the router, and an app over a fresh database.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use clap::Parser as _;
use control_plane::app::App;
use control_plane::config::Cli;
use control_plane::db::Db;
use control_plane::router;
use http::{HeaderMap, Method, Request, StatusCode};
use serde_json::{Value, json};
use sqlx::PgPool;
use tower::ServiceExt as _;

use super::documented;
use super::wallet::{Wallet, proof, solve};

const KEY: &str = "k:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
pub(crate) const SECRET: &str = "internal-secret-of-32-bytes-or-more";
/// Every person's password.
pub(crate) const PASSWORD: &str = "correct horse battery";
/// Where the test's own sellers are. Nobody listens there; saving contacts nobody.
pub(crate) const URL: &str = "http://127.0.0.1:8091/private/path?token=hush";

/// The API over a database of its own.
#[derive(Clone)]
pub(crate) struct Api {
    pub(crate) app: Arc<App>,
    public: Router,
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

/// A registered agent.
#[derive(Clone, Debug)]
pub(crate) struct Agent {
    pub(crate) api: Api,
    pub(crate) key: String,
    pub(crate) id: String,
}

/// A signed-in person, as her browser has her.
#[derive(Clone, Debug)]
pub(crate) struct Person {
    pub(crate) api: Api,
    /// Name and value.
    pub(crate) cookie: String,
    pub(crate) id: String,
}

impl std::fmt::Debug for Api {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        to.write_str("Api")
    }
}

impl Api {
    /// Without limits, so that a test sees only what it is about.
    pub(crate) fn new(pool: PgPool) -> Self {
        Self::with(
            pool,
            &[
                "--rate-limit-key-reads-per-minute=1000000",
                "--rate-limit-key-writes-per-minute=1000000",
                "--rate-limit-sign-in-per-5-minutes=1000000",
                "--rate-limit-unknown-keys-per-minute=1000000",
                "--rate-limit-email-sign-in-per-minute=1000000",
            ],
        )
    }

    pub(crate) fn with(pool: PgPool, more: &[&str]) -> Self {
        let mut args = vec![
            "control-plane".to_owned(),
            "--database-url=postgres://127.0.0.1/unused".to_owned(),
            format!("--internal-secrets={SECRET}"),
            format!("--crochet-master-keys={KEY}"),
            format!("--gateway-cache-keys={KEY}"),
            "--relay-base-url=http://127.0.0.1:1".to_owned(),
            "--relay-api-key=relay-key".to_owned(),
            "--settlement-address=0x52908400098527886E0F7030069857D2E4169EE7".to_owned(),
            "--redis-url=redis://127.0.0.1:1".to_owned(),
            "--pow-difficulty=1".to_owned(),
            "--endpoint-allow-cidrs=127.0.0.0/8".to_owned(),
            "--endpoint-allow-http=true".to_owned(),
        ];
        args.extend(more.iter().map(|arg| (*arg).to_owned()));
        let config = Cli::try_parse_from(args).unwrap().settings.check().unwrap();
        let app = App::with_db(config, Db::from_pool(pool)).unwrap();
        let public = router::public(Arc::clone(&app)).unwrap();
        Self { app, public }
    }

    /// The routes, to be served over a connection.
    pub(crate) fn routes(&self) -> Router {
        self.public.clone()
    }

    pub(crate) async fn send(&self, request: Request<Body>) -> Answer {
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let response = self.public.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        documented::judge(&method, &path, parts.status, &parts.headers);
        let bytes = axum::body::to_bytes(body, usize::MAX).await.unwrap();
        Answer {
            status: parts.status,
            headers: parts.headers,
            text: String::from_utf8(bytes.to_vec()).unwrap(),
        }
    }

    /// A call with an optional key and JSON body, given as a value or as text.
    pub(crate) async fn call(
        &self,
        method: Method,
        path: &str,
        key: Option<&str>,
        body: Option<&str>,
    ) -> Answer {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("/api/v1{path}"));
        if let Some(key) = key {
            request = request.header("authorization", format!("Bearer {key}"));
        }
        if body.is_some() {
            request = request.header("content-type", "application/json");
        }
        let body = Body::from(body.unwrap_or_default().to_owned());
        self.send(request.body(body).unwrap()).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        self.call(Method::POST, path, None, Some(&body.to_string()))
            .await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.call(Method::GET, path, None, None).await
    }

    pub(crate) async fn challenge(&self, wallet: &Wallet, purpose: &str) -> Value {
        let body = json!({ "wallet_address": wallet.address(), "purpose": purpose });
        self.post("/auth/challenge", &body).await.data(200)
    }

    /// The body with which a wallet registers.
    pub(crate) async fn registration(&self, wallet: &Wallet, name: &str) -> Value {
        let mut body = proof(wallet, &self.challenge(wallet, "register").await);
        body["display_name"] = name.into();
        body
    }

    pub(crate) async fn register(&self, wallet: &Wallet) -> Agent {
        let body = self.registration(wallet, "Ada").await;
        let data = self.post("/register", &body).await.data(201);
        Agent {
            api: self.clone(),
            key: data["api_key"].as_str().unwrap().to_owned(),
            id: data["profile"]["id"].as_str().unwrap().to_owned(),
        }
    }

    /// A challenge of a purpose with what it is bound to, signed by a wallet.
    pub(crate) async fn signed(&self, wallet: &Wallet, purpose: &str, bound: Value) -> Value {
        let mut body = json!({ "wallet_address": wallet.address(), "purpose": purpose });
        merge(&mut body, bound);
        let challenge = self.post("/auth/challenge", &body).await.data(200);
        json!({
            "wallet_address": wallet.address(),
            "nonce": challenge["nonce"],
            "signature": wallet.sign(challenge["message"].as_str().unwrap()),
        })
    }

    /// The body with which a wallet recovers.
    pub(crate) async fn recovery(&self, wallet: &Wallet) -> Value {
        proof(wallet, &self.challenge(wallet, "recover").await)
    }

    /// The body of `POST /me/wallets`.
    pub(crate) async fn link_body(&self, existing: &Wallet, new: &Wallet) -> Value {
        let naming = |other: &Wallet| json!({ "linked_wallet_address": other.address() });
        json!({
            "existing_wallet_proof": self.signed(existing, "link_wallet", naming(new)).await,
            "new_wallet_proof": self.signed(new, "link_wallet", naming(existing)).await,
        })
    }

    pub(crate) async fn person(&self, email: &str) -> Person {
        let body = json!({ "email": email, "password": PASSWORD, "display_name": "Grace" });
        self.post("/auth/signup", &body).await.person(self, 201)
    }

    pub(crate) async fn agent(&self) -> Agent {
        self.register(&Wallet::solana()).await
    }
}

impl Agent {
    pub(crate) async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> Answer {
        let body = body.map(Value::to_string);
        self.api
            .call(method, path, Some(&self.key), body.as_deref())
            .await
    }

    pub(crate) async fn raw(&self, method: Method, path: &str, body: &str) -> Answer {
        self.api
            .call(method, path, Some(&self.key), Some(body))
            .await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.call(Method::GET, path, None).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        self.call(Method::POST, path, Some(body)).await
    }

    pub(crate) async fn patch(&self, path: &str, body: &Value) -> Answer {
        self.call(Method::PATCH, path, Some(body)).await
    }

    pub(crate) async fn put(&self, path: &str, body: &Value) -> Answer {
        self.call(Method::PUT, path, Some(body)).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        self.call(Method::DELETE, path, None).await
    }

    /// A solved listing challenge: the two fields of `POST /listings`.
    pub(crate) async fn listing_proof(&self) -> Value {
        let challenge = self
            .call(Method::POST, "/listings/challenge", None)
            .await
            .data(200);
        json!({ "nonce": challenge["nonce"], "pow_nonce": solve(&challenge["pow"]) })
    }

    /// The body of an active `per_call` listing, with `more` over it.
    pub(crate) async fn listing_body(&self, more: Value) -> Value {
        let mut body = json!({
            "name": "Echo", "description": "Echoes what it is sent.", "delivery_type": "api",
            "pricing_model": "per_call", "pricing_amount": 1.0, "private_endpoint_url": URL,
            "status": "active",
        });
        merge(&mut body, self.listing_proof().await);
        merge(&mut body, more);
        body
    }

    pub(crate) async fn list(&self, more: Value) -> Value {
        let body = self.listing_body(more).await;
        self.post("/listings", &body).await.data(201)
    }
}

impl Agent {
    /// Links another wallet, and gives its id.
    pub(crate) async fn link(&self, existing: &Wallet, new: &Wallet) -> String {
        let body = self.api.link_body(existing, new).await;
        let wallet = self.post("/me/wallets", &body).await.data(201);
        wallet["id"].as_str().unwrap().to_owned()
    }

    /// The body of a PATCH of a wallet, proven by `by`.
    pub(crate) async fn change_body(&self, by: &Wallet, id: &str, changes: &Value) -> Value {
        let bound = json!({ "target_wallet_id": id, "changes": changes });
        let mut body = changes.clone();
        body["wallet_proof"] = self.api.signed(by, "manage_wallet", bound).await;
        body
    }

    pub(crate) async fn change_wallet(&self, by: &Wallet, id: &str, changes: Value) -> Answer {
        let body = self.change_body(by, id, &changes).await;
        self.patch(&format!("/me/wallets/{id}"), &body).await
    }

    /// The id of her only wallet.
    pub(crate) async fn wallet_id(&self) -> String {
        let wallets = self.get("/me/wallets").await.data(200);
        assert_eq!(wallets.as_array().unwrap().len(), 1);
        wallets[0]["id"].as_str().unwrap().to_owned()
    }
}

impl Person {
    /// A call with her cookie, and with what else her browser or somebody sends.
    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Answer {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("/api/v1{path}"))
            .header("cookie", format!("theme=dark; {}", self.cookie));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let text = body.map(Value::to_string).unwrap_or_default();
        if body.is_some() {
            request = request.header("content-type", "application/json");
        }
        self.api.send(request.body(Body::from(text)).unwrap()).await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, &[], None).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        self.send(Method::POST, path, &[], Some(body)).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        self.send(Method::DELETE, path, &[], None).await
    }

    /// The body with which she claims an agent through one of its wallets.
    pub(crate) async fn claim_body(&self, agent: &Agent, wallet: &Wallet) -> Value {
        let bound = json!({ "profile_id": agent.id });
        self.api.signed(wallet, "claim_agent", bound).await
    }

    pub(crate) async fn claim(&self, agent: &Agent, wallet: &Wallet) -> Answer {
        let body = self.claim_body(agent, wallet).await;
        self.post(&format!("/agents/{}/claim", agent.id), &body)
            .await
    }
}

/// Puts `more` over `body`, member by member; `"\u{0}absent"` removes one.
pub(crate) fn merge(body: &mut Value, more: Value) {
    let Value::Object(more) = more else { return };
    let body = body.as_object_mut().unwrap();
    for (name, value) in more {
        if value == "\u{0}absent" {
            body.remove(&name);
        } else {
            body.insert(name, value);
        }
    }
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("not JSON: {self:?}"))
    }

    /// The data of a success.
    #[track_caller]
    pub(crate) fn data(&self, status: u16) -> Value {
        assert_eq!(self.status.as_u16(), status, "{}", self.text);
        let json = self.json();
        assert_eq!(json["success"], true, "{json}");
        json["data"].clone()
    }

    /// The error of a failure, which has all its common parts.
    #[track_caller]
    pub(crate) fn error(&self, status: u16, code: &str) -> Value {
        assert_eq!(self.status.as_u16(), status, "{}", self.text);
        let json = self.json();
        assert_eq!(json["success"], false, "{json}");
        let error = json["error"].clone();
        assert_eq!(error["code"], code, "{error}");
        let recovery = &error["recovery"];
        for part in [
            "retryable",
            "next_action",
            "summary",
            "docs_url",
            "reference_url",
        ] {
            assert!(!recovery[part].is_null(), "{part} of {error}");
        }
        assert!(self.headers.contains_key("x-request-id"));
        error
    }

    /// Who is signed in by an answer that sets a session.
    #[track_caller]
    pub(crate) fn person(&self, api: &Api, status: u16) -> Person {
        let data = self.data(status);
        let cookie = self.header("set-cookie").split(';').next().unwrap();
        Person {
            api: api.clone(),
            cookie: cookie.to_owned(),
            id: data["profile"]["id"].as_str().unwrap().to_owned(),
        }
    }

    /// The names of the fields that a `VALIDATION_ERROR` finds bad.
    #[track_caller]
    pub(crate) fn bad_fields(&self) -> Vec<String> {
        let error = self.error(400, "VALIDATION_ERROR");
        let mut names: Vec<String> = error["details"]["fields"]
            .as_array()
            .unwrap_or_else(|| panic!("{error}"))
            .iter()
            .map(|bad| {
                assert!(bad["problem"].as_str().is_some_and(|why| !why.is_empty()));
                bad["field"].as_str().unwrap().to_owned()
            })
            .collect();
        names.sort();
        names
    }

    #[track_caller]
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .unwrap_or_else(|| panic!("no {name}: {self:?}"))
            .to_str()
            .unwrap()
    }
}
