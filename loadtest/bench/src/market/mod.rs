//! A buyer, a seller, a listing, and everything bought beforehand so that a measured window holds nothing
//! but the path it measures.
//!
//! Invariants: every request and every expected answer exists before the clock starts; an expected answer
//! was looked at field by field once, and all others of its kind have to be its exact copies but for ids.

mod answers;
mod goods;
mod pay;

use std::collections::{BTreeMap, HashSet};
use std::net::SocketAddr;

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use demo_agent::{Agent, Api, Chain, DemoSeller, Sandbox};
use secrecy::ExposeSecret as _;
use serde_json::Value;

use crate::config::Config;
use crate::load::{self, Exchange, Expect, Job, Kept, Wrong};
use crate::request::{self, Call};
use crate::stack::Target;
use crate::subject::Subject;
pub(crate) use goods::Goods;
use goods::Shelf;
pub(crate) use pay::Payment;

/// One dollar, so that the fee is a round figure to look at.
const PRICE_USD: &str = "1.00";
const PRICE_MICROS: u64 = 1_000_000;

/// Everybody who trades.
#[derive(Debug)]
pub(crate) struct Market {
    owner: Agent,
    buyer: Agent,
    shelves: BTreeMap<Goods, Shelf>,
    sandbox: Sandbox,
    seller: DemoSeller,
    gateway: SocketAddr,
    connections: usize,
    usual_answer_bytes: u32,
    next_serial: u64,
    unknown_key: String,
}

impl Market {
    /// Registers a buyer and a seller, publishes the usual listing, and buys one call of it.
    pub(crate) async fn open(target: &Target, config: &Config) -> Result<Self> {
        let http = demo_agent::client()?;
        let api = Api::with_client(&target.file.base_url, http.clone());
        let mut market = Self {
            owner: Agent::fresh(&api, Chain::Evm, "Bench seller")
                .await
                .context("registering the seller")?,
            // Solana: no minimum, no second wallet needed.
            buyer: Agent::fresh(&api, Chain::Solana, "Bench buyer")
                .await
                .context("registering the buyer")?,
            shelves: BTreeMap::new(),
            sandbox: Sandbox::new(&target.file.relay, http.clone()),
            seller: DemoSeller::new(&target.file.demo_seller, http),
            gateway: target.gateway()?,
            connections: usize::from(config.connections(Subject::Quote)),
            usual_answer_bytes: config.answer_bytes,
            next_serial: 1,
            unknown_key: unknown_key()?,
        };
        let endpoint = market.seller.endpoint_url();
        market.stock(Goods::Usual, &endpoint).await?;
        Ok(market)
    }

    /// Publishes further goods, answered at `endpoint_url` by the same seller, and buys one call of them.
    pub(crate) async fn stock(&mut self, goods: Goods, endpoint_url: &str) -> Result<()> {
        let serial = self.next_serial;
        self.next_serial += 1;
        let stocked = Shelf::stock(
            goods,
            self.usual_answer_bytes,
            (&self.owner, &self.seller, endpoint_url),
            (&self.buyer, &self.sandbox),
            serial,
        )
        .await?;
        self.shelves.insert(goods, stocked);
        Ok(())
    }

    /// Whether these were published already.
    pub(crate) fn has(&self, goods: Goods) -> bool {
        self.shelves.contains_key(&goods)
    }

    /// Where the seller answers.
    pub(crate) fn endpoint_url(&self) -> String {
        self.seller.endpoint_url()
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
            listing: self.shelf(Goods::Usual)?.listing(0),
            key: &self.unknown_key,
            relay_request_id: None,
            payment_signature: None,
        };
        let request = call.bytes(&request::body(0, self.usual_answer_bytes));
        let answer = self.ask_one(self.gateway, request.clone()).await?;
        answers::check_refused(&answer)?;
        Ok(exactly(request, 401, answer.body))
    }

    /// As many calls as there are connections, each with an open quote of its own, made just now.
    pub(crate) async fn quoted(&mut self) -> Result<Vec<Exchange>> {
        let requests = self.unquoted(self.connections)?;
        let fresh = self.ask(self.gateway, &requests).await?;
        let again = self.ask(self.gateway, &requests).await?;
        let mut exchanges = Vec::with_capacity(requests.len());
        for ((request, fresh), again) in requests.into_iter().zip(fresh).zip(again) {
            answers::check_reused(&fresh, &again)?;
            exchanges.push(exactly(request, 402, again.body));
        }
        Ok(exchanges)
    }

    /// Calls that nobody has made yet: each is answered with a quote of its own.
    pub(crate) fn fresh(&mut self, count: usize) -> Result<Vec<Exchange>> {
        let exchange = |request| Exchange {
            request,
            expect: Expect::Anything,
        };
        Ok(self.unquoted(count)?.into_iter().map(exchange).collect())
    }

    fn unquoted(&mut self, count: usize) -> Result<Vec<Bytes>> {
        let first = self.next_serial;
        self.next_serial += u64::try_from(count)?;
        (first..self.next_serial)
            .map(|serial| self.call(Goods::Usual, serial, None))
            .collect()
    }

    /// The retry of a paid call, or the same once more after its delivery.
    pub(crate) fn redeem(&self, payment: &Payment, replayed: bool) -> Result<Exchange> {
        let request = self.call(
            payment.goods,
            payment.serial,
            Some(&payment.relay_request_id),
        )?;
        let body = self
            .shelf(payment.goods)?
            .delivered
            .fill(&payment.request_id, &request::serial_text(payment.serial));
        Ok(Exchange {
            request,
            expect: Expect::Exactly {
                status: 200,
                body,
                replayed,
            },
        })
    }

    fn shelf(&self, goods: Goods) -> Result<&Shelf> {
        let found = self.shelves.get(&goods);
        found.with_context(|| format!("{goods:?} are not for sale"))
    }

    /// The call of this serial.
    fn call(&self, goods: Goods, serial: u64, relay_request_id: Option<&str>) -> Result<Bytes> {
        let of = self.shelf(goods)?;
        let call = Call {
            listing: of.listing(serial),
            key: &self.buyer.key,
            relay_request_id,
            payment_signature: None,
        };
        Ok(call.bytes(&of.body(serial)))
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
            anew: false,
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

/// Answers that should each have been a quote of its own, made just now. Which were no answer at all is known already.
pub(crate) fn not_fresh(answers: &[Option<Kept>]) -> Wrong {
    let (mut seen, mut wrong) = (HashSet::new(), Wrong::default());
    for answer in answers.iter().flatten() {
        match answers::fresh_quote_of(answer) {
            Some(id) if seen.insert(id.clone()) => {}
            Some(id) => wrong.add(format!("the quote {id} was given twice")),
            None => wrong.add(format!(
                "not a fresh quote: {} {}",
                answer.status,
                String::from_utf8_lossy(&answer.body)
            )),
        }
    }
    wrong
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quote_that_is_given_twice_or_again_is_not_fresh() {
        let answer = |id: &str, reused: bool| {
            let body = format!(
                r#"{{"error":{{"code":"PAYMENT_REQUIRED"}},"data":{{"payment":{{"relay_request_id":"{id}","request_id":"gw_req_1","reused":{reused}}}}}}}"#
            );
            Some(Kept {
                status: 402,
                body: body.into(),
            })
        };
        let count = |answers: &[Option<Kept>]| not_fresh(answers).count;
        assert_eq!(
            count(&[answer("0x1", false), None, answer("0x2", false)]),
            0
        );
        assert_eq!(count(&[answer("0x1", false), answer("0x1", false)]), 1);
        assert_eq!(count(&[answer("0x1", true)]), 1);
    }
}
