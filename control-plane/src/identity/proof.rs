//! Signed and solved challenges, as clients send them back, and what uses one up.

use crochet_shared::code::Code;
use crochet_shared::id::ProfileId;
use serde_json::json;
use sqlx::PgConnection;
use utoipa::ToSchema;

use super::binding::Binding;
use super::challenge::CREATE_LISTING;
use super::pow;
use super::store::challenges::{self, Challenge};
use super::wallet::{ADDRESS_PATTERN, Address};
use crate::app::App;
use crate::error::ApiError;
use crate::fields::{self, Fields};

/// Longest nonce that is looked up.
const NONCE_CHARS_MAX: usize = 64;

/// A wallet's signature over a challenge. Needs no proof of work.
#[derive(ToSchema)]
#[expect(dead_code, reason = "read by the API document")]
pub(super) struct WalletProof {
    /// The wallet that signed.
    #[schema(example = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed", extensions(("x-pattern" = json!(ADDRESS_PATTERN))))]
    wallet_address: String,
    /// The challenge's `nonce`.
    #[schema(example = "5feceb66ffc86f38d952786c6d696c79")]
    nonce: String,
    /// Over the challenge's exact message.
    #[schema(
        example = "0xb91467e570a6466aa9e9876cbcd013baba02900b8979d43fe208a4a4f339f5fd6007e74cd82e037b800186422fc2da167c747ef045e5d18a5f5d4300f8e1a0291c"
    )]
    signature: String,
}

/// What [`WalletProof`] describes, read: what proves a wallet where the caller is known already.
#[derive(Debug)]
pub(super) struct Signed {
    pub(super) address: Address,
    nonce: String,
    signature: String,
}

impl Signed {
    /// Reads `wallet_address`, `nonce` and `signature`.
    pub(super) fn from_fields(fields: &mut Fields<'_>) -> Option<Self> {
        let address = fields.required("wallet_address", Address::from_field);
        let signature = fields.required("signature", fields::any_text);
        let nonce = fields.required("nonce", fields::any_text);
        Some(Self {
            address: address?,
            nonce: nonce?,
            signature: signature?,
        })
    }

    /// Judges it for what it must be bound to, cheapest first. Gives the nonce, which [`use_up`] then
    /// takes in the transaction of what is proven.
    pub(super) async fn check(&self, app: &App, binding: &Binding) -> Result<&str, ApiError> {
        let given = self.given(app, binding).await?;
        self.verify(&given)
    }

    /// As [`Self::check`], for one of several proofs of a request: a refusal names it.
    pub(super) async fn check_as(
        &self,
        field: &'static str,
        app: &App,
        binding: &Binding,
    ) -> Result<&str, ApiError> {
        self.check(app, binding).await.map_err(|mut error| {
            error.failure.details = Some(json!({ "proof": field }));
            error
        })
    }

    /// The open challenge of this wallet, purpose and binding.
    async fn given(&self, app: &App, binding: &Binding) -> Result<Challenge, ApiError> {
        if self.nonce.chars().count() > NONCE_CHARS_MAX {
            return Err(Code::ChallengeInvalid.into());
        }
        let now = crochet_shared::clock::now();
        let found = challenges::challenge(app.db.pool(), &self.nonce).await?;
        found
            .filter(|given| given.used_at.is_none() && given.expires_at > now)
            .filter(|given| given.purpose == binding.purpose())
            .filter(|given| {
                given.wallet_address.as_deref() == Some(&self.address.text)
                    && given.chain.as_deref() == Some(self.address.family.as_str())
            })
            .filter(|given| given.binding == binding.to_json())
            .ok_or_else(|| Code::ChallengeInvalid.into())
    }

    fn verify(&self, given: &Challenge) -> Result<&str, ApiError> {
        let message = given.message.as_deref().unwrap_or_default();
        if self.address.signed(message, &self.signature) {
            Ok(&self.nonce)
        } else {
            Err(Code::InvalidSignature.into())
        }
    }
}

/// A signed and solved challenge: what proves a wallet of a caller that nobody knows yet.
#[derive(Debug)]
pub(super) struct Proof {
    signed: Signed,
    pow_nonce: String,
}

impl Proof {
    /// Reads the fields of [`Signed`], and `pow_nonce`.
    pub(super) fn from_fields(fields: &mut Fields<'_>) -> Option<Self> {
        let signed = Signed::from_fields(fields);
        let pow_nonce = fields.required("pow_nonce", pow_nonce);
        Some(Self {
            signed: signed?,
            pow_nonce: pow_nonce?,
        })
    }

    /// The wallet that proves itself.
    pub(super) const fn address(&self) -> &Address {
        &self.signed.address
    }

    /// Judges it, cheapest first: expiry, purpose, proof of work, signature.
    pub(super) async fn check(&self, app: &App, binding: &Binding) -> Result<&str, ApiError> {
        let given = self.signed.given(app, binding).await?;
        check_pow(&given, &self.pow_nonce)?;
        self.signed.verify(&given)
    }
}

fn check_pow(given: &Challenge, nonce: &str) -> Result<(), ApiError> {
    let difficulty = given.pow_difficulty.and_then(|n| u32::try_from(n).ok());
    match (given.pow_challenge.as_deref(), difficulty) {
        (Some(challenge), Some(difficulty)) if pow::solves(challenge, nonce, difficulty) => Ok(()),
        _ => Err(Code::PowInvalid.into()),
    }
}

/// Reads a `pow_nonce`.
fn pow_nonce(raw: &serde_json::value::RawValue) -> Result<String, fields::Problem> {
    let text = fields::any_text(raw)?;
    if text.chars().count() > pow::NONCE_CHARS_MAX {
        return Err(format!("must be at most {} characters", pow::NONCE_CHARS_MAX).into());
    }
    Ok(text)
}

/// Uses a challenge up, in the transaction of the success it serves. A second use waits for the
/// first to commit, then finds nothing to use.
pub async fn use_up(tx: &mut PgConnection, nonce: &str) -> Result<(), ApiError> {
    if challenges::use_challenge(tx, nonce, crochet_shared::clock::now()).await? {
        Ok(())
    } else {
        Err(Code::ChallengeInvalid.into())
    }
}

/// The proof of work of a new listing: `pow_nonce`, and `nonce` when another challenge than the
/// agent's newest is meant.
#[derive(Clone, Debug)]
pub struct ListingProof {
    nonce: Option<String>,
    pow_nonce: String,
}

impl ListingProof {
    /// Reads the two fields.
    pub fn from_fields(fields: &mut Fields<'_>) -> Option<Self> {
        let pow_nonce = fields.required("pow_nonce", pow_nonce);
        let nonce = fields.optional("nonce", fields::any_text);
        Some(Self {
            nonce,
            pow_nonce: pow_nonce?,
        })
    }
}

/// Judges a listing's proof of work. Gives the challenge's nonce, for [`use_up`].
pub async fn listing_challenge(
    app: &App,
    agent: ProfileId,
    proof: &ListingProof,
) -> Result<String, ApiError> {
    let long = |nonce: &String| nonce.chars().count() > NONCE_CHARS_MAX;
    if proof.nonce.as_ref().is_some_and(long) {
        return Err(Code::ChallengeInvalid.into());
    }
    let now = crochet_shared::clock::now();
    let given = challenges::agent_challenge(
        app.db.pool(),
        agent.0,
        CREATE_LISTING,
        proof.nonce.as_deref(),
        now,
    )
    .await?
    .ok_or(Code::ChallengeInvalid)?;
    check_pow(&given, &proof.pow_nonce)?;
    Ok(given.nonce)
}
