//! What the faults act on: a stack, a seller, a buyer, and what either does.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use crochet_dev::{Deadline, DemoKeys, Options, Role, Stack, StackFile};
use demo_agent::{Agent, Api, Chain, Listing, NewListing, PaidCall, Patience, Quote, random_hex};
use serde_json::json;
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;

use super::certificate::{self, Certificate};

/// What the stack is told: the settings that decide how soon a fault shows, and a body budget of one
/// body each way.
const SETTINGS: [(&str, &str); 6] = [
    ("AUDIT_SECONDS", "1"),
    ("RELAY_SWEEP_SECONDS", "1"),
    ("LEASE_GRACE_SECONDS", "1"),
    ("BREAKER_OPEN_SECONDS", "1"),
    ("BREAKER_OPEN_SECONDS_MAX", "2"),
    ("BODY_BUDGET_BYTES", "16777216"),
];
/// How long the seller may take; her slow answers take less.
const TIMEOUT_MS: u32 = 2_000;
const SLOW_MS: u32 = 1_200;
const STATE_LIMIT: Duration = Duration::from_secs(30);

/// Everything.
pub(super) struct Stage {
    pub(super) stack: Stack,
    pub(super) sql: PgPool,
    pub(super) buyer: Agent,
    pub(super) listing: Listing,
    /// The control plane's public API without a gateway before it.
    pub(super) direct: Api,
    /// What the gateway serves TLS with.
    pub(super) certificate: Certificate,
}

/// A call that is paid for.
pub(super) struct Paid {
    pub(super) call: PaidCall,
    pub(super) quote: Quote,
}

impl Stage {
    /// Starts a stack, a seller with a listing, and a buyer.
    pub(super) async fn set() -> Result<Self> {
        let mut options = Options::for_test("drill")?
            .postgres(crochet_dev::Store::Private)
            .say(super::say);
        for (name, value) in SETTINGS {
            options = options.set(name, value)?;
        }
        let mut stack = Stack::start(options).await?;
        let certificate = certificate::serve_tls(&mut stack).await?;
        let api = stack.api(0)?;
        let seller = Agent::fresh(&api, Chain::Solana, "Seller").await?;
        let buyer = Agent::fresh(&api, Chain::Solana, "Buyer").await?;
        let endpoint = stack.demo_seller().endpoint_url();
        let listing = NewListing::per_call("Echo", "0.01", &endpoint)
            .with(json!({ "endpoint": { "timeout_ms": TIMEOUT_MS } }));
        let listing = seller.publish(&listing).await?;
        stack.demo_seller().accept(&listing).await?;
        let described = stack.describe(DemoKeys::default());
        let direct = Api::with_client(
            &format!("{}/api/v1", described.control_plane),
            api.http().clone(),
        );
        let sql = PgPoolOptions::new()
            .max_connections(4)
            .connect(stack.database_url())
            .await
            .context("connecting to the stack's database")?;
        Ok(Self {
            stack,
            sql,
            buyer,
            listing,
            direct,
            certificate,
        })
    }

    pub(super) fn describe(&self) -> StackFile {
        self.stack.describe(DemoKeys::default())
    }

    fn new_call(&self, slow: bool) -> Result<PaidCall> {
        let input = random_hex::<8>()?;
        let body = if slow {
            json!({ "input": input, "seller": { "delay_ms": SLOW_MS } })
        } else {
            json!({ "input": input })
        };
        Ok(PaidCall::new(&self.listing.id, &body))
    }

    /// Pays for a call, and waits until the control plane has it in evidence.
    pub(super) async fn pay(&self, slow: bool) -> Result<Paid> {
        let call = self.new_call(slow)?;
        let quote = self.buyer.pay(&call, &self.stack.sandbox()).await?;
        self.wait_for_state(&quote, "paid").await?;
        Ok(Paid { call, quote })
    }

    /// A quote that nobody has paid.
    pub(super) async fn quote(&self) -> Result<Paid> {
        let call = self.new_call(false)?;
        let quote = self.buyer.quote(&call).await?;
        Ok(Paid { call, quote })
    }

    /// Buys, from the quote to the seller's answer.
    pub(super) async fn buy(&self) -> Result<()> {
        let call = self.new_call(false)?;
        let bought = self.buyer.buy(&call, &self.stack.sandbox()).await?;
        bought.answer.data(200).map(drop)
    }

    /// Presents a payment until it is delivered.
    pub(super) async fn redeem(&self, paid: &Paid) -> Result<()> {
        let began = Instant::now();
        loop {
            let id = &paid.quote.relay_request_id;
            let answer = self
                .buyer
                .redeem(&paid.call, id, Patience::default())
                .await?;
            if answer.status == 200 {
                return Ok(());
            }
            ensure!(began.elapsed() < STATE_LIMIT * 4, "not delivered: {answer}");
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
    }

    /// Waits until a purchase is in this state.
    pub(super) async fn wait_for_state(&self, quote: &Quote, wanted: &str) -> Result<()> {
        let deadline = Deadline::new(format!("a purchase to be {wanted}"), STATE_LIMIT);
        loop {
            let state: String = sqlx::query_scalar(
                "select state::text from gateway_request where relay_request_id = $1",
            )
            .bind(&quote.relay_request_id)
            .fetch_one(&self.sql)
            .await?;
            if state == wanted {
                return Ok(());
            }
            deadline.tick().await?;
        }
    }

    /// Runs statements for one purchase; `$1` is its provider's id.
    pub(super) async fn change(&self, statement: &'static str, quote: &Quote) -> Result<()> {
        sqlx::query(statement)
            .bind(&quote.relay_request_id)
            .execute(&self.sql)
            .await?;
        Ok(())
    }

    /// Runs statements in one transaction.
    pub(super) async fn statements(&self, statements: &'static str) -> Result<()> {
        sqlx::raw_sql(statements).execute(&self.sql).await?;
        Ok(())
    }

    /// Kills a process and starts it again.
    pub(super) async fn start_again(&mut self, role: Role) -> Result<()> {
        self.stack.start_again(role).await?;
        if role == Role::DemoSeller {
            // It keeps secrets in memory.
            self.stack.demo_seller().accept(&self.listing).await?;
        }
        Ok(())
    }

    /// Registers somebody past the gateway, which is a change that gateways must hear of.
    pub(super) async fn change_something(&self) -> Result<()> {
        Agent::fresh(&self.direct, Chain::Solana, "Somebody")
            .await
            .map(drop)
    }

    /// Waits until every change is told.
    pub(super) async fn wait_until_told(&self) -> Result<()> {
        let deadline = Deadline::new("every change to be told", STATE_LIMIT);
        loop {
            let waiting: i64 = sqlx::query_scalar("select count(*) from outbox")
                .fetch_one(&self.sql)
                .await?;
            if waiting == 0 {
                return Ok(());
            }
            deadline.tick().await?;
        }
    }
}
