//! Identity: who there is, which wallets and keys prove it, and the challenges that are signed.
//!
//! Owns `profile`, `wallet`, `api_key`, `challenge`, `human` and `session`. It never knows what is sold or paid: other
//! rooms take an [`Agent`] as an argument and ask here for nothing but profiles, keys and challenges.
//!
//! Invariants:
//! - A wallet belongs to one profile for good; its address is stored in one spelling.
//! - A challenge serves once. The statement that uses it up is in the transaction of what it proves,
//!   so that only a success uses it up, and of parallel uses at most one succeeds.
//! - Of a profile's wallets exactly one each is the default for paying and for being paid, and at
//!   least one can recover the profile. Whoever changes wallets has locked the profile's row.
//! - The text of an API key, a password or a session id is stored nowhere, and logged nowhere.
//! - A request with an `Authorization` header is judged by that alone; a session counts where none
//!   comes, and changes nothing for a page of a foreign origin.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::App;

mod agent;
mod api_keys;
mod binding;
mod caller;
mod challenge;
mod claim;
mod email;
mod link_wallet;
mod log_in;
mod me;
mod message;
mod password;
mod pow;
mod profile;
mod proof;
mod recover;
mod register;
mod resolve;
mod session;
mod sign_up;
mod store;
mod wallet;
mod wallet_change;
mod wallets;

pub use agent::{Agent, MaybeAgent};
pub use challenge::{LIFE_SECONDS as CHALLENGE_SECONDS, ListingChallenge, issue_listing_challenge};
pub use password::Passwords;
pub use pow::{Difficulty, Pow};
pub use profile::{ProfileCard, VERIFIED_SCORE};
pub use proof::{ListingProof, listing_challenge, use_up};
pub use resolve::{key_record, note_uses};
pub use store::by_operator::{
    RevokedKey, SellingStop, may_sell, resume_selling, revoke_any_key, stop_selling,
};
pub use wallet::evm_address;

/// What `loadtest/fuzz` reaches of this room.
#[cfg(fuzzing)]
pub mod fuzzed {
    use super::wallet::Address;

    /// An address in its one spelling.
    pub fn address(text: &str) -> Option<String> {
        Address::parse(text).map(|address| address.text)
    }

    /// Whether a wallet signed a message.
    pub fn signed(address: &str, message: &str, signature: &str) -> bool {
        Address::parse(address).is_some_and(|address| address.signed(message, signature))
    }
}

/// Expired challenges are kept this much longer, so that a late use is told what it is.
const CHALLENGES_KEPT: Duration = Duration::from_hours(1);
/// Pause between sweeps of old challenges.
const SWEEP: Duration = Duration::from_mins(1);

/// `/auth`, `POST /register`, `/me`, `/agents/:id`, `/api-keys`
pub fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::default()
        .routes(routes!(challenge::challenge))
        .routes(routes!(register::register))
        .routes(routes!(recover::recover))
        .routes(routes!(sign_up::sign_up))
        .routes(routes!(log_in::log_in))
        .routes(routes!(log_in::log_out))
        .routes(routes!(me::get, me::change))
        .routes(routes!(wallets::list, link_wallet::link))
        .routes(routes!(wallets::get, wallets::change))
        .routes(routes!(me::agent))
        .routes(routes!(claim::claim))
        .routes(routes!(api_keys::list, api_keys::create))
        .routes(routes!(api_keys::revoke))
}

/// Deletes challenges and sessions that are over, until told to stop.
pub async fn background(app: Arc<App>, mut stopped: watch::Receiver<bool>) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(SWEEP) => {}
            _ = stopped.wait_for(|stop| *stop) => return,
        }
        let before = crochet_shared::clock::now() - CHALLENGES_KEPT;
        if let Err(error) = store::challenges::delete_challenges(app.db.pool(), before).await {
            tracing::warn!(%error, "old challenges were not deleted");
        }
        if let Err(error) = store::sessions::delete_expired(app.db.pool()).await {
            tracing::warn!(%error, "old sessions were not deleted");
        }
    }
}
