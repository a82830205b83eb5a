//! The demo's purchase, many times over and with everything that can become of one.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use crochet_dev::StackFile;
use demo_agent::{
    Agent, Answer, Api, Chain, DemoSeller, Listing, NewListing, PaidCall, Patience, Quote, Sandbox,
    random_hex,
};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::transcript::sum;

/// Purchases under way at a time.
const AT_A_TIME: usize = 16;
const BUYERS: usize = 4;
/// What every listing here costs, in micro-dollars, and the seller's part of it.
const PRICE_MICROS: i64 = 1_000_000;
const CREDIT_MICROS: i64 = 951_000;

/// What is going to become of a purchase.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fate {
    Plain,
    SellerSaysNotFound,
    SellerFailsOnce,
    SellerFailsTwice,
    ProviderRefunds,
    NeverPaid,
    RetriedFromThreeSides,
    OtherBodyFirst,
    BuyerHangsUp,
    AnswerIsText,
}

const FATES: [Fate; 10] = [
    Fate::Plain,
    Fate::SellerSaysNotFound,
    Fate::SellerFailsOnce,
    Fate::SellerFailsTwice,
    Fate::ProviderRefunds,
    Fate::NeverPaid,
    Fate::RetriedFromThreeSides,
    Fate::OtherBodyFirst,
    Fate::BuyerHangsUp,
    Fate::AnswerIsText,
];

impl Fate {
    /// What the body tells the demo seller.
    fn seller(self) -> Value {
        match self {
            Self::SellerSaysNotFound => json!({ "status": 404 }),
            Self::SellerFailsOnce => json!({ "fail_times": 1 }),
            Self::SellerFailsTwice => json!({ "fail_times": 2, "fail_status": 503 }),
            Self::BuyerHangsUp => json!({ "delay_ms": 150 }),
            Self::AnswerIsText => json!({ "body_text": "no JSON at all" }),
            Self::Plain
            | Self::ProviderRefunds
            | Self::NeverPaid
            | Self::RetriedFromThreeSides
            | Self::OtherBodyFirst => json!({}),
        }
    }

    /// How often the seller must have been called in the end.
    const fn seller_calls(self) -> u64 {
        match self {
            Self::ProviderRefunds | Self::NeverPaid => 0,
            Self::SellerFailsOnce => 2,
            Self::SellerFailsTwice => 3,
            Self::Plain
            | Self::SellerSaysNotFound
            | Self::RetriedFromThreeSides
            | Self::OtherBodyFirst
            | Self::BuyerHangsUp
            | Self::AnswerIsText => 1,
        }
    }

    const fn is_delivered(self) -> bool {
        self.seller_calls() > 0
    }
}

struct Market {
    sandbox: Sandbox,
    demo_seller: DemoSeller,
    seller: Agent,
    listing: Listing,
    buyers: Vec<Agent>,
}

/// Makes the purchases, prints a table, and tells whether everything was as it must be.
pub(crate) async fn buy_many(stack: &StackFile, times: u32) -> Result<bool> {
    let market = Arc::new(Market::open(stack).await?);
    let before = total_calls(&market.demo_seller).await?;
    let begun = Instant::now();
    let mut under_way = JoinSet::new();
    let mut done: BTreeMap<Fate, (u32, u32)> = BTreeMap::new();
    let mut wanted_calls = 0;
    for (number, fate) in (0..times as usize).zip(FATES.into_iter().cycle()) {
        if under_way.len() >= AT_A_TIME {
            count(&mut done, under_way.join_next().await)?;
        }
        wanted_calls += fate.seller_calls();
        let market = Arc::clone(&market);
        under_way.spawn(async move { (fate, market.purchase(number, fate).await) });
    }
    while let Some(finished) = under_way.join_next().await {
        count(&mut done, Some(finished))?;
    }
    println!(
        "\n{times} purchases in {:.1} s",
        begun.elapsed().as_secs_f64()
    );
    for (fate, (right, wrong)) in &done {
        println!(
            "  {:<24} {right:>6} as it must be, {wrong} not",
            format!("{fate:?}")
        );
    }
    let calls = total_calls(&market.demo_seller).await? - before;
    println!("  seller calls: {calls}, and {wanted_calls} were due");
    Ok(calls == wanted_calls && done.values().all(|(_, wrong)| *wrong == 0))
}

type Finished = Option<std::result::Result<(Fate, Result<()>), tokio::task::JoinError>>;

fn count(done: &mut BTreeMap<Fate, (u32, u32)>, finished: Finished) -> Result<()> {
    let (fate, result) = finished.context("nothing was under way")??;
    let entry = done.entry(fate).or_default();
    match result {
        Ok(()) => entry.0 += 1,
        Err(error) => {
            eprintln!("  {fate:?}: {error:#}");
            entry.1 += 1;
        }
    }
    Ok(())
}

async fn total_calls(seller: &DemoSeller) -> Result<u64> {
    seller
        .calls()
        .await?
        .get("total")
        .and_then(Value::as_u64)
        .context("the seller tells no total")
}

impl Market {
    async fn open(stack: &StackFile) -> Result<Self> {
        let api = Api::new(&stack.base_url)?;
        let demo_seller = DemoSeller::new(&stack.demo_seller, api.http().clone());
        let seller = Agent::fresh(&api, Chain::Evm, "Seller of many").await?;
        let listing = seller
            .publish(&NewListing::per_call(
                "Many calls",
                "1.00",
                &demo_seller.endpoint_url(),
            ))
            .await?;
        demo_seller.accept(&listing).await?;
        let mut buyers = Vec::new();
        for number in 0..BUYERS {
            let chain = if number % 2 == 0 {
                Chain::Solana
            } else {
                Chain::Evm
            };
            // Buyers take turns at the gateways.
            let gateway = stack
                .gateways
                .get(number % stack.gateways.len().max(1))
                .map_or(&stack.gateway, |gateway| &gateway.origin);
            let through = Api::with_client(&format!("{gateway}/api/v1"), api.http().clone());
            buyers.push(Agent::fresh(&through, chain, &format!("Buyer {number}")).await?);
        }
        Ok(Self {
            sandbox: Sandbox::new(&stack.relay, api.http().clone()),
            demo_seller,
            seller,
            listing,
            buyers,
        })
    }

    /// One purchase to its end, checked against history, ledger and the seller's own count.
    async fn purchase(&self, number: usize, fate: Fate) -> Result<()> {
        let buyer = self
            .buyers
            .get(number % self.buyers.len())
            .context("no buyer")?;
        let call = PaidCall::new(
            &self.listing.id,
            &json!({ "input": random_hex::<8>()?, "seller": fate.seller() }),
        );
        let quote = buyer.quote(&call).await?;
        self.pay(&quote, fate).await?;
        self.redeem(buyer, &call, &quote, fate)
            .await
            .with_context(|| quote.request_id.clone())?;
        self.check(buyer, &quote, fate)
            .await
            .with_context(|| quote.request_id.clone())
    }

    async fn pay(&self, quote: &Quote, fate: Fate) -> Result<()> {
        let id = &quote.relay_request_id;
        match fate {
            Fate::NeverPaid => return Ok(()),
            Fate::ProviderRefunds => {
                self.sandbox
                    .scenario(&json!({ "requestId": id, "outcome": "refund" }))
                    .await?;
            }
            Fate::Plain
            | Fate::SellerSaysNotFound
            | Fate::SellerFailsOnce
            | Fate::SellerFailsTwice
            | Fate::RetriedFromThreeSides
            | Fate::OtherBodyFirst
            | Fate::BuyerHangsUp
            | Fate::AnswerIsText => {}
        }
        self.sandbox.deposit(&[id]).await?;
        let status = if fate == Fate::ProviderRefunds {
            "refund"
        } else {
            "success"
        };
        self.sandbox
            .wait_for_status(id, status, Patience::default())
            .await
    }

    async fn redeem(
        &self,
        buyer: &Agent,
        call: &PaidCall,
        quote: &Quote,
        fate: Fate,
    ) -> Result<()> {
        let id = quote.relay_request_id.as_str();
        match fate {
            Fate::NeverPaid => return expect(&buyer.call(call, Some(id)).await?, 202, None),
            Fate::ProviderRefunds => {
                return expect(
                    &buyer.redeem(call, id, Patience::default()).await?,
                    402,
                    Some("PAYMENT_FAILED"),
                );
            }
            Fate::OtherBodyFirst => {
                let other = PaidCall::new(&self.listing.id, &json!({ "input": "another" }));
                expect(
                    &buyer.call(&other, Some(id)).await?,
                    409,
                    Some("RELAY_REQUEST_MISMATCH"),
                )?;
            }
            Fate::RetriedFromThreeSides => {
                let redeem = || buyer.redeem(call, id, Patience::default());
                let (one, two, three) = tokio::try_join!(redeem(), redeem(), redeem())?;
                ensure!(
                    one.body == two.body && two.body == three.body,
                    "three answers differ: {one} / {two} / {three}"
                );
            }
            Fate::BuyerHangsUp => {
                // Whatever came within so short a time, the connection is gone with it.
                drop(
                    tokio::time::timeout(Duration::from_millis(60), buyer.call(call, Some(id)))
                        .await,
                );
            }
            Fate::SellerFailsOnce | Fate::SellerFailsTwice => {
                for _ in 1..fate.seller_calls() {
                    expect(
                        &buyer.redeem(call, id, Patience::default()).await?,
                        502,
                        Some("SELLER_ERROR"),
                    )?;
                }
            }
            Fate::Plain | Fate::SellerSaysNotFound | Fate::AnswerIsText => {}
        }
        expect(
            &buyer.redeem(call, id, Patience::default()).await?,
            200,
            None,
        )
    }

    async fn check(&self, buyer: &Agent, quote: &Quote, fate: Fate) -> Result<()> {
        let id = &quote.request_id;
        let calls = self.demo_seller.count(id).await?;
        ensure!(
            calls == fate.seller_calls(),
            "the seller was called {calls} times instead of {}",
            fate.seller_calls()
        );
        let (bought, sold) = (buyer.ledger(id).await?, self.seller.ledger(id).await?);
        let money = (
            sum(&bought, "gateway_payment"),
            sum(&sold, "seller_credit"),
            sum(&sold, "marketplace_fee"),
        );
        let due = if fate.is_delivered() {
            (PRICE_MICROS, CREDIT_MICROS, PRICE_MICROS - CREDIT_MICROS)
        } else {
            (0, 0, 0)
        };
        ensure!(
            money == due,
            "the ledger says {money:?} instead of {due:?} (paid, credited, fee)"
        );
        let row = buyer.gateway_request(id).await?;
        let delivered = row.get("status") == Some(&json!("delivered"));
        ensure!(delivered == fate.is_delivered(), "its history says {row}");
        Ok(())
    }
}

fn expect(answer: &Answer, status: u16, code: Option<&str>) -> Result<()> {
    ensure!(
        answer.status == status && answer.code().as_deref() == code,
        "wanted {status} {}, got {answer}",
        code.unwrap_or_default()
    );
    Ok(())
}
