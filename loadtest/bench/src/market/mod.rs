//! A buyer, a seller, a listing, and everything bought beforehand so that a measured window holds nothing
//! but the path it measures.
//!
//! Invariants: every request and every expected answer exists before the clock starts; an expected answer
//! was looked at field by field once, and all others of its kind have to be its exact copies but for ids.

mod answers;
mod pay;

use std::net::SocketAddr;

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use demo_agent::{Agent, Api, Chain, DemoSeller, Listing, NewListing, PaidCall, Sandbox};
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};

use crate::config::Config;
use crate::load::{self, Exchange, Expect, Job, Kept};
use crate::request::{self, Call};
use crate::stack::Target;
use crate::subject::Subject;
use answers::Template;
pub(crate) use pay::Payment;

/// One dollar, so that the fee is a round figure to look at.
const PRICE_USD: &str = "1.00";
const PRICE_MICROS: u64 = 1_000_000;

/// Everybody who trades.
#[derive(Debug)]
pub(crate) struct Market {
    buyer: Agent,
    listing: Listing,
    sandbox: Sandbox,
    seller: DemoSeller,
    gateway: SocketAddr,
    connections: usize,
    answer_bytes: u32,
    next_serial: u64,
    unknown_key: String,
    /// What a delivered call answers.
    delivered: Template,
}

impl Market {
    /// Registers a buyer and a seller, publishes a listing, and buys one call of it.
    pub(crate) async fn open(target: &Target, config: &Config) -> Result<Self> {
        let http = demo_agent::client()?;
        let api = Api::with_client(&target.file.base_url, http.clone());
        let sandbox = Sandbox::new(&target.file.relay, http.clone());
        let seller = DemoSeller::new(&target.file.demo_seller, http);
        let owner = Agent::fresh(&api, Chain::Evm, "Bench seller")
            .await
            .context("registering the seller")?;
        // Solana: no minimum, no second wallet needed.
        let buyer = Agent::fresh(&api, Chain::Solana, "Bench buyer")
            .await
            .context("registering the buyer")?;
        // More than there are connections: what is measured is a call, not a queue in front of a seller.
        let listing = NewListing::per_call("Bench", PRICE_USD, &seller.endpoint_url())
            .with(json!({ "endpoint": { "max_concurrency": 1000 } }));
        let listing = owner
            .publish(&listing)
            .await
            .context("publishing the listing")?;
        seller
            .accept(&listing)
            .await
            .context("handing the secret to the seller")?;
        let first_serial = 1;
        let delivered = first_purchase(
            &buyer,
            &listing,
            &sandbox,
            request::body(first_serial, config.answer_bytes),
            first_serial,
        )
        .await?;
        Ok(Self {
            buyer,
            listing,
            sandbox,
            seller,
            gateway: target.gateway()?,
            connections: usize::from(config.connections(Subject::Quote)),
            answer_bytes: config.answer_bytes,
            next_serial: first_serial + 1,
            unknown_key: unknown_key()?,
            delivered,
        })
    }

    /// How many calls the seller has answered and how many it refused for want of a signature.
    pub(crate) async fn seller_calls(&self) -> Result<(u64, u64)> {
        let calls = self.seller.calls().await?;
        let number = |name: &str| {
            calls
                .get(name)
                .and_then(Value::as_u64)
                .with_context(|| format!("no {name} in the seller's counts"))
        };
        Ok((number("total")?, number("unsigned")?))
    }

    /// A call with a well-formed key that nobody has.
    pub(crate) async fn refused(&self) -> Result<Exchange> {
        let call = Call {
            listing: &self.listing.id,
            key: &self.unknown_key,
            relay_request_id: None,
            payment_signature: None,
        };
        let request = call.bytes(&self.body(0));
        let answer = self.ask_one(self.gateway, request.clone()).await?;
        answers::check_refused(&answer)?;
        Ok(exactly(request, 401, answer.body))
    }

    /// As many calls as there are connections, each with an open quote of its own, made just now.
    pub(crate) async fn quoted(&mut self) -> Result<Vec<Exchange>> {
        let first = self.next_serial;
        self.next_serial += u64::try_from(self.connections)?;
        let requests: Vec<Bytes> = (first..self.next_serial)
            .map(|serial| self.call(None).bytes(&self.body(serial)))
            .collect();
        let fresh = self.ask(self.gateway, &requests).await?;
        let again = self.ask(self.gateway, &requests).await?;
        let mut exchanges = Vec::with_capacity(requests.len());
        for ((request, fresh), again) in requests.into_iter().zip(fresh).zip(again) {
            answers::check_reused(&fresh, &again)?;
            exchanges.push(exactly(request, 402, again.body));
        }
        Ok(exchanges)
    }

    /// The retry of a paid call, or the same once more after its delivery.
    pub(crate) fn redeem(&self, payment: &Payment, replayed: bool) -> Exchange {
        let request = self
            .call(Some(&payment.relay_request_id))
            .bytes(&self.body(payment.serial));
        let body = self
            .delivered
            .fill(&payment.request_id, &request::serial_text(payment.serial));
        Exchange {
            request,
            expect: Expect::Exactly {
                status: 200,
                body,
                replayed,
            },
        }
    }

    fn body(&self, serial: u64) -> Bytes {
        request::body(serial, self.answer_bytes)
    }

    fn call<'a>(&'a self, relay_request_id: Option<&'a str>) -> Call<'a> {
        Call {
            listing: &self.listing.id,
            key: &self.buyer.key,
            relay_request_id,
            payment_signature: None,
        }
    }

    /// Sends requests outside any measurement; every one has to be answered, whatever with.
    async fn ask(&self, address: SocketAddr, requests: &[Bytes]) -> Result<Vec<Kept>> {
        let exchanges = requests.iter().map(|request| Exchange {
            request: request.clone(),
            expect: Expect::Anything,
        });
        let job = Job {
            address,
            connections: self.connections,
            warm_up: Vec::new(),
            measured: exchanges.collect(),
            pace: None,
            beside: None,
            watched: Vec::new(),
        };
        let outcome = load::run(job).await?;
        if let Some(wrong) = outcome.wrong.shown.first() {
            bail!(
                "{} of {} requests went unanswered, the first: {wrong}",
                outcome.wrong.count,
                requests.len()
            );
        }
        Ok(outcome.kept.into_iter().flatten().collect())
    }

    async fn ask_one(&self, address: SocketAddr, request: Bytes) -> Result<Kept> {
        self.ask(address, &[request])
            .await?
            .pop()
            .context("no answer")
    }
}

/// Buys one call as any client would, looks at its answer field by field, and makes it the pattern of all others.
async fn first_purchase(
    buyer: &Agent,
    listing: &Listing,
    sandbox: &Sandbox,
    body: Bytes,
    serial: u64,
) -> Result<Template> {
    let bought = buyer
        .buy(&PaidCall::with_bytes(&listing.id, body), sandbox)
        .await
        .context("buying the first call")?;
    let serial = request::serial_text(serial);
    answers::check_delivered(
        &bought.answer,
        &bought.quote.request_id,
        &serial,
        PRICE_MICROS,
    )?;
    Template::new(&bought.answer.body, &bought.quote.request_id, &serial)
}

fn exactly(request: Bytes, status: u16, body: Bytes) -> Exchange {
    Exchange {
        request,
        expect: Expect::Exactly {
            status,
            body,
            replayed: false,
        },
    }
}

/// A key with a right checksum: it costs a look-up to refuse, once, and a look into a cache from then on.
fn unknown_key() -> Result<String> {
    let mut failed = None;
    let random = || {
        let mut byte = [0];
        if let Err(error) = getrandom::fill(&mut byte) {
            failed = Some(error);
        }
        let [byte] = byte;
        byte
    };
    let key = crochet_shared::api_key::generate(random);
    match failed {
        Some(error) => bail!("no random bytes: {error}"),
        None => Ok(key.text.expose_secret().to_owned()),
    }
}
