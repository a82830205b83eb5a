//! One version of one endpoint, with everything a call needs made ready once.

use std::sync::Arc;
use std::time::Instant;

use chrono::{DateTime, Utc};
use crochet_shared::egress::{Forbidden, Target};
use crochet_shared::id::ListingId;
use crochet_shared::internal::EndpointRecord;
use crochet_shared::signing::Signer;
use http::{HeaderName, HeaderValue, Uri};
use rustls::pki_types::ServerName;
use secrecy::SecretString;

use super::breaker::Health;
use super::connect::{Network, server_name};
use super::permit::{Gate, Permit, Unavailable};
use super::pool::Pool;
use super::request::Template;

/// A seller's endpoint, ready to be called.
pub struct Seller {
    pub(super) target: Target,
    pub(super) server_name: Option<ServerName<'static>>,
    pub(super) uri: Uri,
    pub(super) template: Template,
    pub(super) max_response_bytes: usize,
    pub(super) max_concurrency: u32,
    pub(super) pool: Arc<Pool>,
    signers: Vec<(Signer, Option<i64>)>,
    gate: Gate,
}

/// Why an endpoint's record cannot be served. The control plane saves none like it, so this says
/// that the rules of the two differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unservable {
    /// The URL is not allowed here.
    #[error("the endpoint's URL is not allowed: {0}")]
    Url(#[from] Forbidden),
    /// There is no signing secret, or one that is none.
    #[error("the endpoint has no usable signing secret")]
    Secret,
    /// The seller's own header is none.
    #[error("the endpoint's own header is not one")]
    Header,
}

impl Seller {
    /// Prepares a version. From the version before it carries over the permits, the breaker and the
    /// idle connections; the latter two only while the URL stays.
    pub fn new(
        listing: ListingId,
        endpoint: &EndpointRecord,
        network: &Network,
        before: Option<&Self>,
    ) -> Result<Arc<Self>, Unservable> {
        let target = network.egress.check_url(&endpoint.url)?;
        let same_url = before.filter(|before| before.target == target);
        let gate = match (same_url, before) {
            (Some(before), _) => before.gate.clone(),
            (None, Some(before)) => before.gate.with_new_breaker(network.breaker),
            (None, None) => Gate::new(network.breaker),
        };
        Ok(Arc::new(Self {
            server_name: server_name(&target)?,
            uri: Uri::try_from(target.path_and_query.as_str()).map_err(|_| Forbidden::Malformed)?,
            template: Template::new(
                HeaderValue::from_str(&target.authority).map_err(|_| Forbidden::Malformed)?,
                HeaderValue::from_str(&listing.to_string()).map_err(|_| Unservable::Header)?,
                endpoint.auth_header.as_ref().map(auth).transpose()?,
            ),
            max_response_bytes: endpoint.max_response_bytes as usize,
            max_concurrency: endpoint.max_concurrency,
            pool: same_url.map_or_else(Arc::default, |before| Arc::clone(&before.pool)),
            signers: signers(&endpoint.secrets)?,
            gate,
            target,
        }))
    }

    /// Whether a call would be admitted now. Takes nothing: this is what a 402 asks.
    pub fn check(&self) -> Result<(), Unavailable> {
        self.gate.check(self.max_concurrency)
    }

    /// A place for one call: the breaker first, then the concurrency limit.
    pub fn try_admit(&self) -> Result<Permit, Unavailable> {
        self.gate.admit(self.max_concurrency)
    }

    /// A place for a test of the endpoint: only the concurrency limit.
    pub fn try_admit_test(&self) -> Result<Permit, Unavailable> {
        self.gate.admit_test(self.max_concurrency)
    }

    /// How it stands: its breaker, and the calls under way.
    pub fn standing(&self, now: Instant) -> (Health, u32) {
        self.gate.standing(now)
    }

    /// Appends one signature for each secret in force, newest first, separated by spaces. The
    /// newest signs even past its end: a request is never unsigned.
    pub(super) fn sign_into(
        &self,
        id: &str,
        timestamp: &str,
        body: &[u8],
        now: DateTime<Utc>,
        out: &mut String,
    ) {
        let in_force = |end: &Option<i64>| end.is_none_or(|end_ms| now.timestamp_millis() < end_ms);
        for (index, (signer, end)) in self.signers.iter().enumerate() {
            if index > 0 && !in_force(end) {
                continue;
            }
            if index > 0 {
                out.push(' ');
            }
            signer.sign_into(id, timestamp, body, out);
        }
    }
}

impl std::fmt::Debug for Seller {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        to.debug_struct("Seller")
            .field("listing", &self.template.listing())
            .finish_non_exhaustive()
    }
}

fn signers(secrets: &[(String, Option<i64>)]) -> Result<Vec<(Signer, Option<i64>)>, Unservable> {
    if secrets.is_empty() {
        return Err(Unservable::Secret);
    }
    secrets
        .iter()
        .map(|(text, end)| {
            let signer = Signer::new(&SecretString::from(text.as_str()));
            signer.map(|signer| (signer, *end))
        })
        .collect::<Result<_, _>>()
        .map_err(|_| Unservable::Secret)
}

/// Judged again here: what could not be saved is not sent either.
fn auth((name, value): &(String, String)) -> Result<(HeaderName, HeaderValue), Unservable> {
    let known = crochet_shared::header::is_endpoint_auth_header_name(name)
        && crochet_shared::header::is_endpoint_auth_header_value(value);
    if !known {
        return Err(Unservable::Header);
    }
    let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| Unservable::Header)?;
    let mut value = HeaderValue::from_str(value).map_err(|_| Unservable::Header)?;
    value.set_sensitive(true);
    Ok((name, value))
}
