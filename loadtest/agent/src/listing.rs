//! What a seller offers.

use anyhow::Result;
use serde_json::{Value, json};

use crate::agent::merge;
use crate::api::text_at;

/// A listing to be published. Anything not named here goes in through [`NewListing::with`].
#[derive(Clone, Debug)]
pub struct NewListing {
    body: Value,
}

impl NewListing {
    /// An active listing at `price_usd` a call (decimal text, exact), answered at `endpoint_url`.
    pub fn per_call(name: &str, price_usd: &str, endpoint_url: &str) -> Self {
        Self {
            body: json!({
                "name": name,
                "description": "Answers what it is asked, for a price.",
                "delivery_type": "api",
                "formats": ["json"],
                "connection_instructions": "POST any JSON to the gateway_url.",
                "pricing_model": "per_call",
                "pricing_amount": price_usd,
                "pricing_currency": "USD",
                "private_endpoint_url": endpoint_url,
                "status": "active",
            }),
        }
    }

    /// Sets any fields of the request, replacing those of the same name.
    #[must_use]
    pub fn with(mut self, fields: Value) -> Self {
        merge(&mut self.body, fields);
        self
    }

    pub(crate) fn body(&self) -> Value {
        self.body.clone()
    }
}

/// A published listing, as its owner saw it once.
#[derive(Clone, Debug)]
pub struct Listing {
    /// A UUID.
    pub id: String,
    /// Made from the name; serves wherever the id does.
    pub slug: String,
    /// Where buyers call it; none for a free listing.
    pub gateway_url: Option<String>,
    /// `whsec_…`, shown this once; none for a free listing.
    pub signing_secret: Option<String>,
    /// The whole answer.
    pub json: Value,
}

impl Listing {
    pub(crate) fn from_data(json: Value) -> Result<Self> {
        Ok(Self {
            id: text_at(&json, "/id")?,
            slug: text_at(&json, "/slug")?,
            gateway_url: text_at(&json, "/gateway_url").ok(),
            signing_secret: text_at(&json, "/gateway_endpoint/signing_secret").ok(),
            json,
        })
    }
}
