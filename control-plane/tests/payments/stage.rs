//! A database with a buyer, a seller and her listing, and an app over it.

use std::sync::Arc;

use bytes::Bytes;
use clap::Parser as _;
use control_plane::app::App;
use control_plane::config::{Cli, Config};
use control_plane::db::Db;
use control_plane::ledger::audit;
use control_plane::ledger::entry::RequestState;
use control_plane::ledger::post::{self, Evidence};
use control_plane::payments::store::quote::{NewQuote, insert};
use control_plane::payments::{claim, settle};
use crochet_shared::clock;
use crochet_shared::id::{ListingId, Owner, ProfileId, RequestId, random, uuid_v7};
use crochet_shared::internal::{
    Claim, ClaimAnswer, Delivery, Grant, Outcome, QuoteIdentity, Settle, SettleAnswer,
};
use crochet_shared::outcome::SellerFailure;
use crochet_shared::redis_key::hex;
use crochet_shared::route::{CHAIN_BASE, OriginCurrency, USDC_BASE};
use sha2::{Digest as _, Sha256};
use sqlx::PgPool;
use uuid::Uuid;

pub(crate) const SETTLEMENT: &str = "0x52908400098527886E0F7030069857D2E4169EE7";
pub(crate) const SECRET: &str = "internal-secret-of-32-bytes-or-more";
pub(crate) const RELAY_KEY: &str = "relay-sandbox-key";
pub(crate) const PRICE: i64 = 1_000_000;
pub(crate) const BODY: &[u8] = br#"{"task":"run"}"#;
/// What tables that are only added to refuse a change by: `restrict_violation`.
pub(crate) const APPEND_ONLY: &str = "23001";

pub(crate) struct Stage {
    pub(crate) app: Arc<App>,
    pub(crate) buyer: ProfileId,
    pub(crate) seller: ProfileId,
    pub(crate) listing: ListingId,
    pub(crate) sandbox: String,
}

/// A request as seeded.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) id: Uuid,
    pub(crate) relay_request_id: String,
    pub(crate) identity: QuoteIdentity,
}

pub(crate) fn config(relay: &str, more: &[&str]) -> Config {
    let key = "k:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    let mut args = vec![
        "control-plane".to_owned(),
        "--database-url=postgres://127.0.0.1/unused".to_owned(),
        format!("--internal-secrets={SECRET}"),
        format!("--crochet-master-keys={key}"),
        format!("--gateway-cache-keys={key}"),
        format!("--relay-base-url={relay}"),
        format!("--relay-api-key={RELAY_KEY}"),
        format!("--settlement-address={SETTLEMENT}"),
        "--redis-url=redis://127.0.0.1:1".to_owned(),
        "--rate-limit-quotes-per-second=1000000".to_owned(),
    ];
    args.extend(more.iter().map(|arg| (*arg).to_owned()));
    Cli::try_parse_from(args).unwrap().settings.check().unwrap()
}

/// Starts a sandbox of the provider on a free port.
pub(crate) async fn sandbox(config: relay_sandbox::Config) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(relay_sandbox::serve(listener, config));
    format!("http://{address}")
}

impl Stage {
    /// Without a provider.
    pub(crate) async fn new(pool: PgPool) -> Self {
        Self::with(pool, "http://127.0.0.1:1", &[]).await
    }

    /// With a sandbox whose payments succeed at once.
    pub(crate) async fn with_sandbox(pool: PgPool, more: &[&str]) -> Self {
        let settings = relay_sandbox::Config {
            step_ms: 0,
            ..relay_sandbox::Config::default()
        };
        let base = sandbox(settings).await;
        Self::with(pool, &base, more).await
    }

    pub(crate) async fn with(pool: PgPool, relay: &str, more: &[&str]) -> Self {
        let app = App::with_db(config(relay, more), Db::from_pool(pool)).unwrap();
        let (buyer, seller) = (profile(&app).await, profile(&app).await);
        let listing = listing(&app, seller, PRICE).await;
        wallet(
            &app,
            buyer,
            "solana",
            "So11111111111111111111111111111111111111112",
        )
        .await;
        Self {
            app,
            buyer,
            seller,
            listing,
            sandbox: relay.to_owned(),
        }
    }

    pub(crate) fn pool(&self) -> &PgPool {
        self.app.db.pool()
    }

    pub(crate) fn identity(&self) -> QuoteIdentity {
        QuoteIdentity {
            buyer: self.buyer,
            listing: self.listing,
            currency: OriginCurrency::Sol,
            body_sha256: Sha256::digest(BODY).into(),
            idempotency_key: None,
        }
    }

    /// A quote in the database that no provider knows.
    pub(crate) async fn quoted(&self) -> Request {
        self.quoted_at(PRICE).await
    }

    pub(crate) async fn quoted_at(&self, price: i64) -> Request {
        let now = clock::now();
        let id = uuid_v7(now);
        let relay_request_id = format!("0x{}", hex(&random::<32>()));
        let identity = self.identity();
        insert(
            self.pool(),
            &NewQuote {
                id,
                relay_request_id: &relay_request_id,
                buyer: self.buyer.0,
                seller: self.seller.0,
                listing: self.listing.0,
                body_sha256: &identity.body_sha256,
                request_bytes: 14,
                origin_currency: "SOL",
                idempotency_key: None,
                price_micros: price,
                fee_rate_ppm: 49_000,
                created_at: now,
                expires_at: now + chrono::TimeDelta::seconds(900),
                identity: &identity.digest(),
                requirements: "{}",
                recipient: SETTLEMENT,
                chain_id: CHAIN_BASE,
                token: USDC_BASE,
                deposit_address: "deposit",
                refund_to: "wallet",
            },
        )
        .await
        .unwrap();
        Request {
            id,
            relay_request_id,
            identity,
        }
    }

    pub(crate) async fn paid(&self) -> Request {
        let request = self.quoted().await;
        let state = self.evidence(&request, true, Some(PRICE)).await;
        assert_eq!(state, Some(RequestState::Paid));
        request
    }

    /// Records a success as the provider might tell it.
    pub(crate) async fn evidence(
        &self,
        request: &Request,
        matches: bool,
        received: Option<i64>,
    ) -> Option<RequestState> {
        let now = clock::now();
        let amount = received.unwrap_or(PRICE).to_string();
        post::payment(
            self.pool(),
            &Evidence {
                relay_request_id: &request.relay_request_id,
                provider_status: "success",
                matches,
                received,
                recipient: Some(SETTLEMENT),
                chain_id: CHAIN_BASE,
                token: USDC_BASE,
                amount: &amount,
                in_tx_hashes: &[],
                out_tx_hashes: &[],
                provider_updated_at: Some(now),
            },
            86_400.0,
            [uuid_v7(now), uuid_v7(now), uuid_v7(now)],
        )
        .await
        .unwrap()
    }

    pub(crate) fn item(&self, request: &Request) -> Claim {
        Claim {
            relay_request_id: request.relay_request_id.clone(),
            buyer: self.buyer,
            listing: Some(self.listing),
            body_sha256: request.identity.body_sha256,
            owner: Owner::new(),
            serve: true,
        }
    }

    pub(crate) async fn claim(&self, item: &Claim) -> ClaimAnswer {
        let mut answers = claim::claim(&self.app, std::slice::from_ref(item))
            .await
            .unwrap();
        assert_eq!(answers.len(), 1);
        answers.remove(0)
    }

    /// Claims and expects a grant.
    pub(crate) async fn claimed(&self, request: &Request) -> (Grant, Owner) {
        let item = self.item(request);
        match self.claim(&item).await {
            ClaimAnswer::Claimed(grant) => (grant, item.owner),
            other => panic!("not claimed: {other:?}"),
        }
    }

    pub(crate) async fn settle(&self, item: Settle) -> SettleAnswer {
        let answers = settle::settle(&self.app, &[item]).await.unwrap();
        assert_eq!(answers.len(), 1);
        answers[0]
    }

    pub(crate) async fn delivered(&self) -> Request {
        let request = self.paid().await;
        let (grant, owner) = self.claimed(&request).await;
        let answer = self.settle(delivery(&grant, owner, b"{}")).await;
        assert_eq!(answer, SettleAnswer::Delivered);
        request
    }

    pub(crate) async fn state(&self, request: &Request) -> RequestState {
        sqlx::query_scalar("select state from gateway_request where id = $1")
            .bind(request.id)
            .fetch_one(self.pool())
            .await
            .unwrap()
    }

    /// Transfers of a request: kind and amount, by kind.
    pub(crate) async fn transfers(&self, request: &Request) -> Vec<(String, i64)> {
        sqlx::query_as("select kind::text, amount_micros from transfer where request_id = $1 order by transfer.kind")
            .bind(request.id)
            .fetch_all(self.pool())
            .await
            .unwrap()
    }

    /// Moves the times of a request into the past.
    pub(crate) async fn age(&self, request: &Request, seconds: f64) {
        sqlx::query(
            "update gateway_request set
                created_at = created_at - make_interval(secs => $2),
                expires_at = expires_at - make_interval(secs => $2),
                checked_at = checked_at - make_interval(secs => $2),
                paid_at = paid_at - make_interval(secs => $2),
                redeem_until = redeem_until - make_interval(secs => $2),
                lease_until = lease_until - make_interval(secs => $2),
                delivered_at = delivered_at - make_interval(secs => $2),
                closed_at = closed_at - make_interval(secs => $2)
            where id = $1",
        )
        .bind(request.id)
        .bind(seconds)
        .execute(self.pool())
        .await
        .unwrap();
        for watched in [
            "update deadline set due_at = due_at - make_interval(secs => $2) where request_id = $1",
            "update lease set due_at = due_at - make_interval(secs => $2) where $1 = any(request_ids)",
        ] {
            sqlx::query(watched)
                .bind(request.id)
                .bind(seconds)
                .execute(self.pool())
                .await
                .unwrap();
        }
    }

    /// Every violation the audit finds.
    pub(crate) async fn audit(&self) -> Vec<(&'static str, audit::Violation)> {
        audit::violations(self.pool()).await.unwrap()
    }

    pub(crate) async fn assert_audit_empty(&self) {
        let violations = self.audit().await;
        assert!(violations.is_empty(), "{violations:#?}");
    }

    pub(crate) async fn run(&self, sql: &'static str) {
        sqlx::raw_sql(sql).execute(self.pool()).await.unwrap();
    }

    /// By what the database refuses statements that must not pass ([`refused_by`]).
    pub(crate) async fn refusal(&self, sql: &str) -> String {
        let tried = sqlx::raw_sql(sqlx::AssertSqlSafe(sql.to_owned()))
            .execute(self.pool())
            .await;
        match tried {
            Ok(_) => panic!("not refused: {sql}"),
            Err(error) => refused_by(&error),
        }
    }

    /// Speaks to the sandbox's controls.
    pub(crate) async fn control(&self, path: &str, body: serde_json::Value) -> serde_json::Value {
        let response = reqwest::Client::new()
            .post(format!("{}/sandbox/{path}", self.sandbox))
            .json(&body)
            .send()
            .await
            .unwrap();
        assert!(
            response.status().is_success(),
            "{path}: {}",
            response.status()
        );
        response.json().await.unwrap_or_default()
    }

    pub(crate) async fn deposit(&self, relay_request_id: &str) {
        self.control(
            "deposits",
            serde_json::json!({"requestId": relay_request_id}),
        )
        .await;
    }
}

/// By what the database refused a statement: the constraint's name or else the `SQLSTATE`, so that a slip in
/// the statement is not taken for the refusal.
pub(crate) fn refused_by(error: &sqlx::Error) -> String {
    let Some(said) = error.as_database_error() else {
        panic!("not refused by the database: {error}");
    };
    let constraint = said.constraint().map(str::to_owned);
    constraint.unwrap_or_else(|| said.code().unwrap().into_owned())
}

pub(crate) async fn profile(app: &App) -> ProfileId {
    let id = uuid_v7(clock::now());
    sqlx::query(
        "insert into profile (id, account_type, display_name) values ($1, 'agent', 'someone')",
    )
    .bind(id)
    .execute(app.db.pool())
    .await
    .unwrap();
    ProfileId(id)
}

pub(crate) async fn wallet(app: &App, profile: ProfileId, chain: &str, address: &str) {
    sqlx::query("insert into wallet (id, profile_id, chain, address) values ($1, $2, $3, $4)")
        .bind(uuid_v7(clock::now()))
        .bind(profile.0)
        .bind(chain)
        .bind(address)
        .execute(app.db.pool())
        .await
        .unwrap();
}

pub(crate) async fn listing(app: &App, seller: ProfileId, price: i64) -> ListingId {
    let id = uuid_v7(clock::now());
    sqlx::query(
        "insert into listing (id, slug, seller_id, name, description, pricing_model, price_micros, delivery_type, status)
        values ($1, $2, $3, 'a listing', 'text', 'per_call', $4, 'api', 'active')",
    )
    .bind(id)
    .bind(format!("listing-{id}"))
    .bind(seller.0)
    .bind(price)
    .execute(app.db.pool())
    .await
    .unwrap();
    sqlx::query(
        "insert into endpoint (listing_id, url_sealed, url_hint, secret_sealed, secret_prefix) values ($1, '', 'http://x', '', 'whsec_')",
    )
    .bind(id)
    .execute(app.db.pool())
    .await
    .unwrap();
    ListingId(id)
}

pub(crate) fn delivery(grant: &Grant, owner: Owner, envelope: &'static [u8]) -> Settle {
    Settle {
        request_id: grant.request_id,
        epoch: grant.epoch,
        owner,
        outcome: Outcome::Delivered(Delivery {
            envelope: Bytes::from_static(envelope),
            envelope_sha256: Sha256::digest(envelope).into(),
            seller_status: 200,
            seller_latency_ms: 5,
            latency_ms: 9,
        }),
    }
}

pub(crate) fn failure(grant: &Grant, owner: Owner, failure: SellerFailure) -> Settle {
    Settle {
        request_id: grant.request_id,
        epoch: grant.epoch,
        owner,
        outcome: Outcome::Failed {
            failure,
            seller_status: failure.answered().then_some(500),
            seller_latency_ms: 5,
        },
    }
}

pub(crate) fn unsent(grant: &Grant, owner: Owner) -> Settle {
    Settle {
        request_id: grant.request_id,
        epoch: grant.epoch,
        owner,
        outcome: Outcome::Unsent {
            failure: Some(SellerFailure::Unreachable),
        },
    }
}

impl Request {
    pub(crate) fn request_id(&self) -> RequestId {
        RequestId(self.id)
    }
}
