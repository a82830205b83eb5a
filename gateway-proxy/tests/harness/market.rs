//! A seller with a scripted service and a listing, and a buyer, strangers to everybody else in the stack.

use std::time::{Duration, Instant};

use bytes::Bytes;
use demo_agent::{
    Agent, Answer, Api, Chain, Listing, Method, NewListing, PaidCall, Quote, random_hex,
};
use serde_json::{Value, json};

use super::service::Service;
use super::world::{Door, shared};
use super::{SOON, check, text, until, until_within};

/// Bytes of randomness in names and bodies that must not meet.
const UNIQUE_BYTES: usize = 8;
/// Within which every gateway knows that a quote is paid.
const HEARD_WITHIN: Duration = Duration::from_secs(2);
/// Between two tries of a paid call.
const RETRY_PAUSE: Duration = Duration::from_millis(25);

fn unique() -> String {
    random_hex::<UNIQUE_BYTES>().unwrap()
}

/// The marketplace's 4.9 %, rounded half up to a micro (contract §5, "Money").
pub(crate) const fn fee_of(gross: i64) -> i64 {
    (gross * 49_000 + 500_000) / 1_000_000
}

/// Entries of a ledger as (type, micros), sorted.
type Entries = Vec<(String, i64)>;

#[derive(Debug)]
pub(crate) struct Market {
    pub(crate) door: Door,
    pub(crate) service: Service,
    pub(crate) seller: Agent,
    /// Pays from a Solana wallet.
    pub(crate) buyer: Agent,
    pub(crate) listing: Listing,
    /// The listing's price when it was published, in micros.
    pub(crate) gross: i64,
}

impl Market {
    /// A listing at one dollar in the shared stack.
    pub(crate) async fn open() -> Self {
        Self::with(json!({})).await
    }

    /// The same with fields of the listing replaced (`{"endpoint":{"timeout_ms":1000}}`).
    pub(crate) async fn with(fields: Value) -> Self {
        Self::within(&shared().await, fields).await
    }

    /// The same in any stack.
    pub(crate) async fn within(door: &Door, fields: Value) -> Self {
        Self::selling(door, Service::start().await, fields).await
    }

    /// The same with a service that runs already.
    pub(crate) async fn selling(door: &Door, service: Service, fields: Value) -> Self {
        let url = service.url();
        Self::selling_at(door, service, &url, fields).await
    }

    /// The same with an endpoint that need not be the service's.
    pub(crate) async fn selling_at(
        door: &Door,
        service: Service,
        url: &str,
        fields: Value,
    ) -> Self {
        let api = &door.apis[0];
        let seller = Agent::fresh(api, Chain::Evm, "Sally Seller").await.unwrap();
        let buyer = Agent::fresh(api, Chain::Solana, "Bob Buyer").await.unwrap();
        let name = format!("Echo {}", unique());
        let listing = seller
            .publish(&NewListing::per_call(&name, "1", url).with(fields))
            .await
            .unwrap();
        let gross = listing.json["pricing_amount_micros"].as_i64().unwrap();
        Self {
            door: door.clone(),
            service,
            seller,
            buyer,
            listing,
            gross,
        }
    }

    /// Another listing of the same seller and service.
    pub(crate) async fn publish(&self, fields: Value) -> Listing {
        let name = format!("More {}", unique());
        self.seller
            .publish(&NewListing::per_call(&name, "1", &self.service.url()).with(fields))
            .await
            .unwrap()
    }

    pub(crate) fn api(&self) -> &Api {
        &self.door.apis[0]
    }

    /// Another buyer, with a wallet of `chain`.
    pub(crate) async fn another_buyer(&self, chain: Chain) -> Agent {
        Agent::fresh(self.api(), chain, "Eve Buyer").await.unwrap()
    }

    /// The buyer with another key of hers, and that key's id.
    pub(crate) async fn second_key(&self) -> (Agent, String) {
        let made = self
            .buyer
            .post("/api-keys", &json!({ "name": "second" }))
            .await
            .unwrap()
            .data(201)
            .unwrap();
        let mut second = self.buyer.clone();
        text(&made["api_key"]).clone_into(&mut second.key);
        (second, text(&made["key"]["id"]).to_owned())
    }

    /// A call that nobody made before.
    pub(crate) fn call(&self) -> PaidCall {
        self.call_with(json!({}))
    }

    /// The same with fields in its body.
    pub(crate) fn call_with(&self, fields: Value) -> PaidCall {
        let mut body = json!({ "task": "run", "n": unique() });
        if let (Value::Object(body), Value::Object(fields)) = (&mut body, fields) {
            body.extend(fields);
        }
        PaidCall::new(&self.listing.id, &body)
    }

    /// A call with exactly this body.
    pub(crate) fn call_of(&self, body: impl Into<Bytes>) -> PaidCall {
        PaidCall::with_bytes(&self.listing.id, body.into())
    }

    /// Quotes, deposits, and waits until the provider says success.
    pub(crate) async fn paid(&self, call: &PaidCall) -> Quote {
        self.buyer.pay(call, &self.door.sandbox).await.unwrap()
    }

    /// The same, and waits until Crochet has the provider's word too.
    pub(crate) async fn evidenced(&self, call: &PaidCall) -> Quote {
        let quote = self.paid(call).await;
        self.reaches(&quote, "paid").await;
        quote
    }

    /// Retries the paid call until it is neither pending nor in progress.
    pub(crate) async fn redeem(&self, call: &PaidCall, quote: &Quote) -> Answer {
        self.redeem_as(&self.buyer, call, quote).await
    }

    /// The same where an answer takes its time to be settled, or to be read again: whoever is told to ask again does, when
    /// she is told to.
    pub(crate) async fn redeem_patiently(&self, call: &PaidCall, quote: &Quote) -> Answer {
        let begun = Instant::now();
        loop {
            let answer = self.redeem(call, quote).await;
            if answer.code().as_deref() != Some("SERVICE_UNAVAILABLE") {
                return answer;
            }
            assert!(begun.elapsed() < SOON, "for {SOON:?}: {answer}");
            let seconds = answer.header("retry-after").unwrap().parse().unwrap();
            tokio::time::sleep(Duration::from_secs(seconds)).await;
        }
    }

    /// The same by another agent, or through another gateway.
    pub(crate) async fn redeem_as(&self, buyer: &Agent, call: &PaidCall, quote: &Quote) -> Answer {
        let begun = Instant::now();
        loop {
            let answer = self.once_as(buyer, call, quote).await;
            let again = answer.status == 202
                || answer.code().as_deref() == Some("GATEWAY_REQUEST_IN_PROGRESS");
            if !again {
                return answer;
            }
            assert!(
                begun.elapsed() < SOON,
                "still unfinished after {SOON:?}: {answer}"
            );
            tokio::time::sleep(RETRY_PAUSE).await;
        }
    }

    /// The paid call once.
    pub(crate) async fn once(&self, call: &PaidCall, quote: &Quote) -> Answer {
        self.once_as(&self.buyer, call, quote).await
    }

    pub(crate) async fn once_as(&self, buyer: &Agent, call: &PaidCall, quote: &Quote) -> Answer {
        let answer = buyer
            .call(call, Some(&quote.relay_request_id))
            .await
            .unwrap();
        check::manners(&answer);
        answer
    }

    /// Pays and redeems.
    pub(crate) async fn buy(&self, call: &PaidCall) -> (Quote, Answer) {
        let quote = self.paid(call).await;
        let answer = self.redeem(call, &quote).await;
        (quote, answer)
    }

    /// Redeems in a task of its own, for a test that acts meanwhile.
    pub(crate) fn redeem_meanwhile(
        &self,
        call: &PaidCall,
        quote: &Quote,
    ) -> tokio::task::JoinHandle<Answer> {
        let (buyer, call, id) = (
            self.buyer.clone(),
            call.clone(),
            quote.relay_request_id.clone(),
        );
        tokio::spawn(async move { buyer.call(&call, Some(&id)).await.unwrap() })
    }

    /// Changes the listing.
    pub(crate) async fn patch(&self, fields: Value) {
        let path = format!("/listings/{}", self.listing.id);
        let answer = self
            .seller
            .send(Method::PATCH, &path, &[], Some(fields.to_string().into()))
            .await
            .unwrap();
        assert_eq!(answer.status, 200, "{answer}");
    }

    /// Changes the endpoint.
    pub(crate) async fn put_endpoint(&self, fields: Value) -> Value {
        let path = format!("/listings/{}/endpoint", self.listing.id);
        self.seller
            .send(Method::PUT, &path, &[], Some(fields.to_string().into()))
            .await
            .unwrap()
            .data(200)
            .unwrap()
    }

    /// What `GET /relay-requests/:id` says.
    pub(crate) async fn relay_request(&self, quote: &Quote) -> Value {
        self.buyer
            .get(&format!("/relay-requests/{}", quote.relay_request_id))
            .await
            .unwrap()
            .data(200)
            .unwrap()
    }

    /// Waits until `GET /relay-requests/:id` says `status`.
    pub(crate) async fn reaches(&self, quote: &Quote, status: &str) -> Value {
        until(&format!("{} is {status}", quote.request_id), || async {
            let now = self.relay_request(quote).await;
            (now["status"] == status).then_some(now)
        })
        .await
    }

    /// Waits until the gateway refuses an unpaid call with `code`, or asks for payment when it is `PAYMENT_REQUIRED`.
    pub(crate) async fn gateway_says(&self, code: &str) -> Answer {
        until(&format!("the gateway says {code}"), || async {
            let answer = self.buyer.call(&self.call(), None).await.unwrap();
            (answer.code().as_deref() == Some(code)).then_some(answer)
        })
        .await
    }

    /// Makes the call without its payment's id until the gateway gives another answer than `quote` again.
    /// A gateway hears of a deposit a moment after the control plane has recorded it.
    pub(crate) async fn no_longer_quoted(
        &self,
        api: &Api,
        call: &PaidCall,
        quote: &Quote,
    ) -> Answer {
        let buyer = self.buyer.through(api);
        until_within(
            "the gateway hears that the quote is open no longer",
            HEARD_WITHIN,
            || async {
                let answer = buyer.call(call, None).await.unwrap();
                let again =
                    answer.at("/data/payment/relay_request_id") == quote.relay_request_id.as_str();
                (!again).then_some(answer)
            },
        )
        .await
    }

    async fn entries(&self, agent: &Agent, query: &str) -> Entries {
        let data = agent
            .get(&format!("/ledger?limit=100{query}"))
            .await
            .unwrap()
            .data(200)
            .unwrap();
        let entries = data.as_array().unwrap().iter();
        let mut entries: Entries = entries
            .map(|entry| {
                (
                    text(&entry["type"]).to_owned(),
                    entry["amount_micros"].as_i64().unwrap(),
                )
            })
            .collect();
        entries.sort();
        entries
    }

    /// Both ledgers of one request: the buyer's, then the seller's.
    pub(crate) async fn ledgers(&self, request_id: &str) -> (Entries, Entries) {
        let query = format!("&request_id={request_id}");
        (
            self.entries(&self.buyer, &query).await,
            self.entries(&self.seller, &query).await,
        )
    }

    /// Paid once, the seller credited once, the fee taken once; the seller called `calls` times.
    pub(crate) async fn assert_settled(&self, quote: &Quote, calls: usize) {
        let (gross, fee) = (price_of(quote), fee_of(price_of(quote)));
        let (buyer, seller) = self.ledgers(&quote.request_id).await;
        assert_eq!(
            buyer,
            [("gateway_payment".to_owned(), gross)],
            "the buyer's ledger of {}",
            quote.request_id
        );
        let mut wanted = vec![("seller_credit".to_owned(), gross - fee)];
        if fee > 0 {
            wanted.insert(0, ("marketplace_fee".to_owned(), fee));
        }
        assert_eq!(
            seller, wanted,
            "the seller's ledger of {}",
            quote.request_id
        );
        assert_eq!(
            self.service.count(&quote.request_id),
            calls,
            "calls to the seller for {}",
            quote.request_id
        );
        for agent in [&self.buyer, &self.seller] {
            let row = agent.gateway_request(&quote.request_id).await.unwrap();
            assert_eq!(
                (&row["status"], &row["billable"]),
                (&json!("delivered"), &json!(true)),
                "{row}"
            );
        }
    }

    /// Paid and good for another try: the seller has nothing, and was called `calls` times.
    pub(crate) async fn assert_still_paid(&self, quote: &Quote, calls: usize) {
        let (buyer, seller) = self.ledgers(&quote.request_id).await;
        assert_eq!(
            buyer,
            [("gateway_payment".to_owned(), price_of(quote))],
            "the buyer's ledger"
        );
        assert_eq!(seller, [], "the seller's ledger");
        assert_eq!(
            self.service.count(&quote.request_id),
            calls,
            "calls to the seller"
        );
        assert_eq!(self.relay_request(quote).await["status"], "paid");
    }

    /// Paid, never delivered, and owed back; the seller was called `calls` times.
    pub(crate) async fn assert_refund_due(&self, quote: &Quote, calls: usize) {
        let gross = price_of(quote);
        let (buyer, seller) = self.ledgers(&quote.request_id).await;
        assert_eq!(
            buyer,
            [
                ("adjustment".to_owned(), gross),
                ("gateway_payment".to_owned(), gross)
            ],
            "the buyer's ledger"
        );
        assert_eq!(seller, [], "the seller's ledger");
        assert_eq!(
            self.service.count(&quote.request_id),
            calls,
            "calls to the seller"
        );
        assert_eq!(self.relay_request(quote).await["status"], "refund_due");
        assert_eq!(
            self.buyer.gateway_request(&quote.request_id).await.unwrap()["status"],
            "refund_due"
        );
    }

    /// No money moved for `quote`, and the seller was not called.
    pub(crate) async fn assert_unpaid(&self, quote: &Quote) {
        let (buyer, seller) = self.ledgers(&quote.request_id).await;
        assert_eq!(
            (buyer, seller),
            (vec![], vec![]),
            "the ledgers of {}",
            quote.request_id
        );
        assert_eq!(
            self.service.count(&quote.request_id),
            0,
            "calls to the seller"
        );
    }

    /// Nothing at all happened: no entry in either ledger, no call.
    pub(crate) async fn assert_untouched(&self) {
        for agent in [&self.buyer, &self.seller] {
            assert_eq!(
                self.entries(agent, "").await,
                [],
                "the ledger of {}",
                agent.id
            );
        }
        assert_eq!(self.service.total(), 0, "calls to the seller");
    }
}

/// What `quote` asks for, in micros.
fn price_of(quote: &Quote) -> i64 {
    quote.payment["amount"]["amount_micros"].as_i64().unwrap()
}
