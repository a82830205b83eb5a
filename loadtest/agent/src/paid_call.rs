//! One call worth paying for: quote, deposit, retry until it is answered.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use reqwest::Method;
use serde_json::Value;

use crate::api::text_at;
use crate::{Agent, Answer, Sandbox};

/// A call as its buyer makes it. The payment is bound to these exact body bytes.
#[derive(Clone, Debug)]
pub struct PaidCall {
    /// The listing's id or slug.
    pub listing: String,
    /// The exact bytes sent.
    pub body: Bytes,
    /// `X-Crochet-Origin-Currency`, where the default is not wanted.
    pub origin_currency: Option<String>,
    /// `Idempotency-Key`: a new one is a separate purchase of the same call.
    pub idempotency_key: Option<String>,
}

impl PaidCall {
    /// A call of `listing` with a JSON body.
    pub fn new(listing: &str, body: &Value) -> Self {
        Self::with_bytes(listing, body.to_string().into())
    }

    /// A call of `listing` with bytes as they are.
    pub fn with_bytes(listing: &str, body: Bytes) -> Self {
        Self {
            listing: listing.to_owned(),
            body,
            origin_currency: None,
            idempotency_key: None,
        }
    }

    /// Pays in `SOL`, `USDC_SOL`, `ETH` or `USDC`.
    #[must_use]
    pub fn in_currency(mut self, currency: &str) -> Self {
        self.origin_currency = Some(currency.to_owned());
        self
    }

    /// Makes it a purchase of its own under this key.
    #[must_use]
    pub fn under_key(mut self, idempotency_key: &str) -> Self {
        self.idempotency_key = Some(idempotency_key.to_owned());
        self
    }
}

/// What a 402 asked for.
#[derive(Clone, Debug)]
pub struct Quote {
    /// The provider's own id: goes into `X-Crochet-Relay-Request-Id`.
    pub relay_request_id: String,
    /// `gw_req_…`
    pub request_id: String,
    /// Whether an earlier quote was given again.
    pub reused: bool,
    /// All of `data.payment`.
    pub payment: Value,
}

/// A purchase carried through to its answer.
#[derive(Clone, Debug)]
pub struct Bought {
    /// The quote that was paid.
    pub quote: Quote,
    /// The first answer that was neither pending nor in progress.
    pub answer: Answer,
}

/// How long to go on asking, and how often.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// Between two tries. `Retry-After` is for strangers' clients; here it would only make tests slow.
    pub pause: Duration,
    /// After this the last answer is an error.
    pub limit: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            pause: Duration::from_millis(100),
            limit: Duration::from_secs(30),
        }
    }
}

impl Agent {
    /// Makes the call once: without a relay id it asks for a quote, with one it redeems the payment.
    pub async fn call(&self, call: &PaidCall, relay_request_id: Option<&str>) -> Result<Answer> {
        let mut headers = Vec::with_capacity(3);
        headers.extend(
            call.origin_currency
                .as_deref()
                .map(|value| ("x-crochet-origin-currency", value)),
        );
        headers.extend(
            call.idempotency_key
                .as_deref()
                .map(|value| ("idempotency-key", value)),
        );
        headers.extend(relay_request_id.map(|value| ("x-crochet-relay-request-id", value)));
        self.send(
            Method::POST,
            &format!("/gateway/{}", call.listing),
            &headers,
            Some(call.body.clone()),
        )
        .await
    }

    /// Asks for a quote; anything but a 402 `PAYMENT_REQUIRED` is an error.
    pub async fn quote(&self, call: &PaidCall) -> Result<Quote> {
        Quote::from_answer(&self.call(call, None).await?)
    }

    /// Retries a paid call while it is pending (202) or in progress (409), and gives back the answer that ends it.
    pub async fn redeem(
        &self,
        call: &PaidCall,
        relay_request_id: &str,
        patience: Patience,
    ) -> Result<Answer> {
        let begun = Instant::now();
        loop {
            let answer = self.call(call, Some(relay_request_id)).await?;
            if !is_unfinished(&answer) {
                return Ok(answer);
            }
            if begun.elapsed() >= patience.limit {
                bail!("still unfinished after {:?}: {answer}", patience.limit);
            }
            tokio::time::sleep(patience.pause).await;
        }
    }

    /// The whole purchase: quote, deposit at the sandbox, wait for the provider, redeem.
    pub async fn buy(&self, call: &PaidCall, sandbox: &Sandbox) -> Result<Bought> {
        let quote = self.pay(call, sandbox).await?;
        let answer = self
            .redeem(call, &quote.relay_request_id, Patience::default())
            .await?;
        Ok(Bought { quote, answer })
    }

    /// Quote and deposit, until the provider says success; the call itself is left to be redeemed.
    pub async fn pay(&self, call: &PaidCall, sandbox: &Sandbox) -> Result<Quote> {
        let quote = self.quote(call).await?;
        sandbox.deposit(&[&quote.relay_request_id]).await?;
        sandbox
            .wait_until_paid(&quote.relay_request_id, Patience::default())
            .await?;
        Ok(quote)
    }
}

/// 202 pending and 409 in progress ask for the same request again; everything else is an answer.
fn is_unfinished(answer: &Answer) -> bool {
    answer.status == 202
        || (answer.status == 409 && answer.code().as_deref() == Some("GATEWAY_REQUEST_IN_PROGRESS"))
}

impl Quote {
    /// Reads a 402 `PAYMENT_REQUIRED`.
    pub fn from_answer(answer: &Answer) -> Result<Self> {
        if answer.status != 402 || answer.code().as_deref() != Some("PAYMENT_REQUIRED") {
            bail!("wanted 402 PAYMENT_REQUIRED, got {answer}");
        }
        let payment = answer.at("/data/payment");
        Ok(Self {
            relay_request_id: text_at(&payment, "/relay_request_id")?,
            request_id: text_at(&payment, "/request_id")?,
            reused: payment
                .get("reused")
                .and_then(Value::as_bool)
                .context("no payment.reused")?,
            payment,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, body: &str) -> Answer {
        Answer {
            status,
            headers: reqwest::header::HeaderMap::new(),
            body: Bytes::copy_from_slice(body.as_bytes()),
        }
    }

    #[test]
    fn only_pending_and_in_progress_are_asked_again() {
        assert!(is_unfinished(&answer(
            202,
            r#"{"success":true,"data":{"status":"pending"}}"#
        )));
        assert!(is_unfinished(&answer(
            409,
            r#"{"success":false,"error":{"code":"GATEWAY_REQUEST_IN_PROGRESS"}}"#
        )));
        assert!(!is_unfinished(&answer(
            409,
            r#"{"success":false,"error":{"code":"RELAY_REQUEST_MISMATCH"}}"#
        )));
        assert!(!is_unfinished(&answer(
            200,
            r#"{"success":true,"data":{}}"#
        )));
        assert!(!is_unfinished(&answer(
            502,
            r#"{"success":false,"error":{"code":"SELLER_ERROR"}}"#
        )));
    }

    #[test]
    fn a_quote_is_read_from_a_402_alone() {
        let body = r#"{"success":false,"error":{"code":"PAYMENT_REQUIRED"},"data":{"payment":{"relay_request_id":"0xab","request_id":"gw_req_1","reused":false}}}"#;
        let quote = Quote::from_answer(&answer(402, body)).unwrap();
        assert_eq!(
            (
                quote.relay_request_id.as_str(),
                quote.request_id.as_str(),
                quote.reused
            ),
            ("0xab", "gw_req_1", false)
        );
        Quote::from_answer(&answer(200, body)).unwrap_err();
        Quote::from_answer(&answer(
            402,
            &body.replace("PAYMENT_REQUIRED", "PAYMENT_FAILED"),
        ))
        .unwrap_err();
    }
}
