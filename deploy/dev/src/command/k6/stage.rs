//! Who trades in a scenario: agents with keys and what they sell, for k6 to read. Wallets sign here, because in a
//! script of k6 they could not.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use crochet_dev::StackFile;
use demo_agent::{Agent, Api, Chain, DemoSeller, NewListing, random_hex};
use serde::Serialize;
use serde_json::{Value, json};

/// Enough that no buyer stands for everybody, few enough to be registered in a moment.
const BUYERS: usize = 16;
/// Prices of the listings, as text for people and in micro-dollars: whole, small, and one whose fee is rounded.
const PRICES: [(&str, i64); 6] = [
    ("1.00", 1_000_000),
    ("0.25", 250_000),
    ("0.10", 100_000),
    ("2.50", 2_500_000),
    ("0.123457", 123_457),
    ("12.999999", 12_999_999),
];
/// What the slow listing's endpoint allows.
const SLOW_TIMEOUT_MS: u64 = 1_500;
const SLOW_CONCURRENCY: u64 = 16;

/// The file's contents.
#[derive(Serialize)]
pub(super) struct Stage {
    /// Part of every body, so that no two runs buy the same.
    run: String,
    gateways: Vec<String>,
    relay: String,
    buyers: Vec<Key>,
    /// A key that was given out and taken back.
    gone: Key,
    listings: Vec<Offer>,
    hot: Offer,
    slow: Offer,
    #[serde(skip)]
    seller: Agent,
}

#[derive(Serialize)]
struct Key {
    id: String,
    key: String,
}

/// Something for sale.
#[derive(Serialize)]
struct Offer {
    id: String,
    slug: String,
    price_micros: i64,
    seller_id: String,
    seller_key: String,
    /// Of the endpoint, where it is not the usual one.
    #[serde(skip_serializing_if = "Option::is_none")]
    timeout_ms: Option<u64>,
}

impl Stage {
    /// Registers everybody anew: what a run sold is then all that its seller ever sold.
    pub(super) async fn set(stack: &StackFile) -> Result<Self> {
        let api = Api::new(&stack.base_url)?;
        let run = random_hex::<6>()?;
        let seller = Agent::fresh(&api, Chain::Evm, &format!("Seller {run}")).await?;
        let shop = Shop {
            run: &run,
            seller: &seller,
            endpoints: DemoSeller::new(&stack.demo_seller, api.http().clone()),
        };
        let mut listings = Vec::with_capacity(PRICES.len());
        for price in PRICES {
            listings.push(shop.publish("Echo", price, json!({})).await?);
        }
        let dollar = ("1.00", 1_000_000);
        let hot = shop.publish("Hot echo", dollar, json!({})).await?;
        let patience =
            json!({ "timeout_ms": SLOW_TIMEOUT_MS, "max_concurrency": SLOW_CONCURRENCY });
        let mut slow = shop.publish("Slow echo", dollar, patience).await?;
        slow.timeout_ms = Some(SLOW_TIMEOUT_MS);
        Ok(Self {
            gateways: stack
                .gateways
                .iter()
                .map(|gateway| gateway.origin.clone())
                .collect(),
            relay: stack.relay.clone(),
            buyers: buyers(&api, &run).await?,
            gone: revoked(&seller).await?,
            listings,
            hot,
            slow,
            run,
            seller,
        })
    }

    /// Who sells everything.
    pub(super) const fn seller(&self) -> &Agent {
        &self.seller
    }

    /// Writes it, readable by its owner alone: there are keys in it.
    pub(super) fn write(&self, path: &Path) -> Result<()> {
        let file = std::fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(path);
        let mut file = file.with_context(|| format!("opening {}", path.display()))?;
        file.write_all(&serde_json::to_vec_pretty(self)?)
            .with_context(|| format!("writing {}", path.display()))
    }
}

/// Half of them pay in SOL, half in USDC on Base.
async fn buyers(api: &Api, run: &str) -> Result<Vec<Key>> {
    let mut buyers = Vec::with_capacity(BUYERS);
    for number in 0..BUYERS {
        let chain = if number % 2 == 0 {
            Chain::Solana
        } else {
            Chain::Evm
        };
        let buyer = Agent::fresh(api, chain, &format!("Buyer {number} {run}")).await?;
        buyers.push(Key {
            id: buyer.id,
            key: buyer.key,
        });
    }
    Ok(buyers)
}

/// A key of the seller's that is hers no longer.
async fn revoked(seller: &Agent) -> Result<Key> {
    let made = seller
        .post("/api-keys", &json!({ "name": "for a moment" }))
        .await?
        .data(201)?;
    let text = |pointer: &str| {
        let text = made.pointer(pointer).and_then(Value::as_str);
        text.map(str::to_owned).context("a key without its parts")
    };
    let key = Key {
        id: text("/key/id")?,
        key: text("/api_key")?,
    };
    let path = format!("/api-keys/{}", key.id);
    seller
        .send(demo_agent::Method::DELETE, &path, &[], None)
        .await?
        .data(200)?;
    Ok(key)
}

/// Where listings come from.
struct Shop<'a> {
    run: &'a str,
    seller: &'a Agent,
    endpoints: DemoSeller,
}

impl Shop<'_> {
    async fn publish(&self, name: &str, price: (&str, i64), endpoint: Value) -> Result<Offer> {
        let (usd, price_micros) = price;
        let name = format!("{name} for ${usd} {}", self.run);
        let new = NewListing::per_call(&name, usd, &self.endpoints.endpoint_url());
        let listing = self
            .seller
            .publish(&new.with(json!({ "endpoint": endpoint })))
            .await?;
        self.endpoints.accept(&listing).await?;
        Ok(Offer {
            id: listing.id,
            slug: listing.slug,
            price_micros,
            seller_id: self.seller.id.clone(),
            seller_key: self.seller.key.clone(),
            timeout_ms: None,
        })
    }
}
