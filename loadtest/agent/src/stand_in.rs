//! The two stand-ins of a development stack: the payment provider's sandbox and the demo seller.

use std::time::Instant;

use anyhow::{Result, bail};
use serde_json::{Value, json};

use crate::{Answer, Listing, Patience};

/// The Relay sandbox, through its own controls.
#[derive(Clone, Debug)]
pub struct Sandbox {
    http: reqwest::Client,
    origin: String,
}

impl Sandbox {
    /// The sandbox at `origin`.
    pub fn new(origin: &str, http: reqwest::Client) -> Self {
        Self {
            http,
            origin: origin.trim_end_matches('/').to_owned(),
        }
    }

    /// Pays the exact amount of each of these quotes; thousands at once are fine.
    pub async fn deposit<T: AsRef<str>>(&self, relay_request_ids: &[T]) -> Result<()> {
        let ids: Vec<&str> = relay_request_ids.iter().map(AsRef::as_ref).collect();
        self.post("/sandbox/deposits", &json!({ "requestIds": ids }))
            .await
            .map(drop)
    }

    /// Pays `amount` atomic units of the origin currency, whatever was asked for.
    pub async fn deposit_amount(&self, relay_request_id: &str, amount: &str) -> Result<()> {
        self.post(
            "/sandbox/deposits",
            &json!({ "requestId": relay_request_id, "amount": amount }),
        )
        .await
        .map(drop)
    }

    /// Scripts what happens next (`POST /sandbox/scenarios`).
    pub async fn scenario(&self, scenario: &Value) -> Result<()> {
        self.post("/sandbox/scenarios", scenario).await.map(drop)
    }

    /// Breaks an endpoint (`POST /sandbox/faults`).
    pub async fn fault(&self, fault: &Value) -> Result<()> {
        self.post("/sandbox/faults", fault).await.map(drop)
    }

    /// What it has seen, with counts of quote and status calls.
    pub async fn requests(&self) -> Result<Value> {
        success(&Answer::of(self.http.get(format!("{}/sandbox/requests", self.origin))).await?)
    }

    /// The provider's public status of one request.
    pub async fn status(&self, relay_request_id: &str) -> Result<String> {
        let url = format!(
            "{}/intents/status/v3?requestId={relay_request_id}",
            self.origin
        );
        let json = success(&Answer::of(self.http.get(url)).await?)?;
        Ok(json
            .get("status")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned())
    }

    /// Waits until the provider says `success`.
    pub async fn wait_until_paid(&self, relay_request_id: &str, patience: Patience) -> Result<()> {
        self.wait_for_status(relay_request_id, "success", patience)
            .await
    }

    /// Waits until the provider says `wanted`.
    pub async fn wait_for_status(
        &self,
        relay_request_id: &str,
        wanted: &str,
        patience: Patience,
    ) -> Result<()> {
        let begun = Instant::now();
        loop {
            let status = self.status(relay_request_id).await?;
            if status == wanted {
                return Ok(());
            }
            if begun.elapsed() >= patience.limit {
                bail!(
                    "{relay_request_id} is {status} and not {wanted} after {:?}",
                    patience.limit
                );
            }
            tokio::time::sleep(patience.pause.min(std::time::Duration::from_millis(20))).await;
        }
    }

    async fn post(&self, path: &str, body: &Value) -> Result<Value> {
        success(&Answer::of(self.http.post(format!("{}{path}", self.origin)).json(body)).await?)
    }
}

/// The demo seller, through its own controls.
#[derive(Clone, Debug)]
pub struct DemoSeller {
    http: reqwest::Client,
    origin: String,
}

impl DemoSeller {
    /// The seller at `origin`.
    pub fn new(origin: &str, http: reqwest::Client) -> Self {
        Self {
            http,
            origin: origin.trim_end_matches('/').to_owned(),
        }
    }

    /// The private endpoint its listings name.
    pub fn endpoint_url(&self) -> String {
        format!("{}/call", self.origin)
    }

    /// Hands over the signing secret of `listing`, so that its calls verify.
    pub async fn accept(&self, listing: &Listing) -> Result<()> {
        let secrets: Vec<&str> = listing.signing_secret.iter().map(String::as_str).collect();
        self.set_secrets(&listing.id, &secrets).await
    }

    /// Replaces the secrets a listing's calls may be signed with.
    pub async fn set_secrets(&self, listing_id: &str, secrets: &[&str]) -> Result<()> {
        let request = self
            .http
            .put(format!("{}/secrets/{listing_id}", self.origin))
            .json(&json!({ "secrets": secrets }));
        success(&Answer::of(request).await?).map(drop)
    }

    /// `{"calls":{"gw_req_…":n},"total":n,"unsigned":n}`
    pub async fn calls(&self) -> Result<Value> {
        success(&Answer::of(self.http.get(format!("{}/calls", self.origin))).await?)
    }

    /// How often it was called for one request.
    pub async fn count(&self, request_id: &str) -> Result<u64> {
        let answer =
            Answer::of(self.http.get(format!("{}/calls/{request_id}", self.origin))).await?;
        if answer.status == 404 {
            return Ok(0);
        }
        Ok(success(&answer)?
            .get("count")
            .and_then(Value::as_u64)
            .unwrap_or_default())
    }
}

/// The JSON of a 2xx answer, `null` when it is empty.
fn success(answer: &Answer) -> Result<Value> {
    if !(200..300).contains(&answer.status) {
        bail!("{answer}");
    }
    if answer.body.is_empty() {
        Ok(Value::Null)
    } else {
        answer.json()
    }
}
