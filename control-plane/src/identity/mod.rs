//! Identity: who there is, which wallets and keys prove it, and the challenges that are signed.
//!
//! Owns `profile`, `wallet`, `api_key` and `challenge`. It never knows what is sold or paid: other
//! rooms take an [`Agent`] as an argument and ask here for nothing but profiles, keys and challenges.
//!
//! Invariants:
//! - A wallet belongs to one profile for good; its address is stored in one spelling.
//! - A challenge serves once. The statement that uses it up is in the transaction of what it proves,
//!   so that only a success uses it up, and of parallel uses at most one succeeds.
//! - The text of an API key is stored nowhere, and logged nowhere.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::App;

mod agent;
mod api_keys;
mod challenge;
mod me;
mod message;
mod pow;
mod profile;
mod register;
mod resolve;
mod store;
mod wallet;

pub use agent::{Agent, MaybeAgent};
pub use challenge::{
    LIFE_SECONDS as CHALLENGE_SECONDS, ListingChallenge, ListingProof, issue_listing_challenge,
    listing_challenge, use_up,
};
pub use pow::{Difficulty, Pow};
pub use profile::{ProfileCard, VERIFIED_SCORE};
pub use resolve::key_record;
pub use wallet::evm_address;

/// Expired challenges are kept this much longer, so that a late use is told what it is.
const CHALLENGES_KEPT: Duration = Duration::from_hours(1);
/// Pause between sweeps of old challenges.
const SWEEP: Duration = Duration::from_mins(1);

/// `POST /auth/challenge`, `POST /register`, `/me`, `/agents/:id`, `/api-keys`
pub fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::default()
        .routes(routes!(challenge::challenge))
        .routes(routes!(register::register))
        .routes(routes!(me::get, me::change))
        .routes(routes!(me::agent))
        .routes(routes!(api_keys::list, api_keys::create))
        .routes(routes!(api_keys::revoke))
}

/// Deletes challenges that are long over, until told to stop.
pub async fn background(app: Arc<App>, mut stopped: watch::Receiver<bool>) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(SWEEP) => {}
            _ = stopped.wait_for(|stop| *stop) => return,
        }
        let before = crochet_shared::clock::now() - CHALLENGES_KEPT;
        if let Err(error) = store::delete_challenges(app.db.pool(), before).await {
            tracing::warn!(%error, "old challenges were not deleted");
        }
    }
}
