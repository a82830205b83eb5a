//! A registered profile with its key and wallet.

use anyhow::{Context as _, Result};
use bytes::Bytes;
use reqwest::Method;
use serde_json::{Value, json};

use crate::api::text_at;
use crate::{Answer, Api, Chain, Listing, NewListing, Wallet, proof_of_work};

/// An agent that can sign in: it buys, sells and reads its own history.
#[derive(Clone, Debug)]
pub struct Agent {
    api: Api,
    wallet: Wallet,
    /// The profile's id, a UUID.
    pub id: String,
    /// The API key, `am_k_…`.
    pub key: String,
}

impl Agent {
    /// Registers `wallet` under `display_name`: challenge, proof of work, signature, profile.
    pub async fn register(api: &Api, wallet: Wallet, display_name: &str) -> Result<Self> {
        let mut body = signed(api, &wallet, "register", json!({})).await?;
        merge(&mut body, json!({ "display_name": display_name }));
        let data = api.post("/register", None, &body).await?.data(201)?;
        Self::from_data(api, wallet, &data)
    }

    /// Registers a fresh wallet of `chain`.
    pub async fn fresh(api: &Api, chain: Chain, display_name: &str) -> Result<Self> {
        Self::register(api, Wallet::random(chain)?, display_name).await
    }

    /// Proves an already registered wallet again and receives a fresh key.
    pub async fn recover(api: &Api, wallet: Wallet, revoke_existing_keys: bool) -> Result<Self> {
        let mut body = signed(api, &wallet, "recover", json!({})).await?;
        merge(
            &mut body,
            json!({ "revoke_existing_keys": revoke_existing_keys }),
        );
        let data = api.post("/auth/recover", None, &body).await?.data(200)?;
        Self::from_data(api, wallet, &data)
    }

    fn from_data(api: &Api, wallet: Wallet, data: &Value) -> Result<Self> {
        Ok(Self {
            api: api.clone(),
            wallet,
            id: text_at(data, "/profile/id")?,
            key: text_at(data, "/api_key")?,
        })
    }

    /// The same agent through another gateway.
    #[must_use]
    pub fn through(&self, api: &Api) -> Self {
        Self {
            api: api.clone(),
            ..self.clone()
        }
    }

    /// Where this agent sends its requests.
    pub const fn api(&self) -> &Api {
        &self.api
    }

    /// The wallet it registered with.
    pub const fn wallet(&self) -> &Wallet {
        &self.wallet
    }

    /// Any request with this agent's key.
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<Bytes>,
    ) -> Result<Answer> {
        self.api
            .send(method, path, Some(&self.key), headers, body)
            .await
    }

    /// `GET path` with this agent's key.
    pub async fn get(&self, path: &str) -> Result<Answer> {
        self.api.get(path, Some(&self.key)).await
    }

    /// `POST path` with this agent's key and a JSON body.
    pub async fn post(&self, path: &str, body: &Value) -> Result<Answer> {
        self.api.post(path, Some(&self.key), body).await
    }

    /// Publishes a listing: its challenge, the proof of work, the listing.
    pub async fn publish(&self, listing: &NewListing) -> Result<Listing> {
        let challenge = self
            .post("/listings/challenge", &json!({}))
            .await?
            .data(200)?;
        let mut body = listing.body();
        merge(
            &mut body,
            json!({ "nonce": text_at(&challenge, "/nonce")?, "pow_nonce": solve(&challenge).await? }),
        );
        Listing::from_data(self.post("/listings", &body).await?.data(201)?)
    }

    /// Links `other` to this profile; both wallets prove themselves.
    pub async fn link_wallet(&self, other: &Wallet) -> Result<Value> {
        let proofs = json!({
            "existing_wallet_proof": proof(&self.api, &self.wallet, "link_wallet", json!({ "linked_wallet_address": other.address() })).await?,
            "new_wallet_proof": proof(&self.api, other, "link_wallet", json!({ "linked_wallet_address": self.wallet.address() })).await?,
        });
        self.post("/me/wallets", &proofs).await?.data(201)
    }

    /// This agent's ledger entries of one request.
    pub async fn ledger(&self, request_id: &str) -> Result<Vec<Value>> {
        let data = self
            .get(&format!("/ledger?limit=100&request_id={request_id}"))
            .await?
            .data(200)?;
        Ok(data.as_array().cloned().unwrap_or_default())
    }

    /// One request of this agent's history.
    pub async fn gateway_request(&self, request_id: &str) -> Result<Value> {
        self.get(&format!("/gateway-requests/{request_id}"))
            .await?
            .data(200)
    }
}

/// Asks for a challenge of `purpose`; `extra` holds what the purpose is bound to.
pub(crate) async fn challenge(
    api: &Api,
    wallet: &Wallet,
    purpose: &str,
    extra: Value,
) -> Result<Value> {
    let mut body = json!({ "wallet_address": wallet.address(), "purpose": purpose });
    merge(&mut body, extra);
    api.post("/auth/challenge", None, &body).await?.data(200)
}

/// A wallet's answer to a challenge, without proof of work.
async fn proof(api: &Api, wallet: &Wallet, purpose: &str, extra: Value) -> Result<Value> {
    let challenge = challenge(api, wallet, purpose, extra).await?;
    answer_to(&challenge, wallet)
}

/// The same with the proof of work that public routes ask for.
async fn signed(api: &Api, wallet: &Wallet, purpose: &str, extra: Value) -> Result<Value> {
    let challenge = challenge(api, wallet, purpose, extra).await?;
    let mut body = answer_to(&challenge, wallet)?;
    merge(&mut body, json!({ "pow_nonce": solve(&challenge).await? }));
    Ok(body)
}

fn answer_to(challenge: &Value, wallet: &Wallet) -> Result<Value> {
    Ok(json!({
        "wallet_address": wallet.address(),
        "nonce": text_at(challenge, "/nonce")?,
        "signature": wallet.sign(&text_at(challenge, "/message")?),
    }))
}

/// Solves the proof of work of any challenge, off the async threads.
async fn solve(challenge: &Value) -> Result<String> {
    let text = text_at(challenge, "/pow/challenge")?;
    let difficulty = challenge
        .pointer("/pow/difficulty")
        .and_then(Value::as_u64)
        .context("no pow.difficulty")?;
    let difficulty = u32::try_from(difficulty).context("pow.difficulty")?;
    Ok(tokio::task::spawn_blocking(move || proof_of_work(&text, difficulty)).await?)
}

/// Puts the fields of `extra` into `body`.
pub(crate) fn merge(body: &mut Value, extra: Value) {
    if let (Value::Object(body), Value::Object(extra)) = (body, extra) {
        body.extend(extra);
    }
}
