//! `pause-listing`, `resume-listing`, `suspend-seller`, `resume-seller`: what an operator withdraws.
//!
//! Each stands in the outbox in the transaction of the change, so gateways hear of it within a second.
//! Nobody's money is touched: what is paid stays good, waits for its time, and is due for refund after.

use clap::Args;
use crochet_shared::clock;
use crochet_shared::id::{ListingId, ProfileId};
use serde_json::json;

use super::{Change, Exit, Outcome, Stop};
use crate::catalog::{self, Withdrawal};
use crate::db::{Db, work};
use crate::identity;

/// One listing
#[derive(Clone, Debug, Args)]
pub struct Listing {
    /// The listing's id.
    #[arg(value_name = "LISTING_ID")]
    pub listing: ListingId,
    /// How it is done.
    #[command(flatten)]
    pub change: Change,
}

/// One seller
#[derive(Clone, Debug, Args)]
pub struct Seller {
    /// The seller's profile.
    #[arg(value_name = "PROFILE_ID")]
    pub seller: ProfileId,
    /// How it is done.
    #[command(flatten)]
    pub change: Change,
}

/// Withdraws a listing.
pub async fn pause_listing(db: &Db, wanted: &Listing) -> anyhow::Result<Outcome> {
    let (listing, dry_run) = (wanted.listing, wanted.change.dry_run);
    let done = db
        .run("operator.pause_listing", |tx| {
            work(async move { Stop::or_keep(dry_run, catalog::withdraw(tx, listing).await?) })
        })
        .await;
    of_listing("pause-listing", wanted, Stop::end(done)?)
}

/// Gives a listing back.
pub async fn resume_listing(db: &Db, wanted: &Listing) -> anyhow::Result<Outcome> {
    let (listing, dry_run) = (wanted.listing, wanted.change.dry_run);
    let done = db
        .run("operator.resume_listing", |tx| {
            work(async move { Stop::or_keep(dry_run, catalog::give_back(tx, listing).await?) })
        })
        .await;
    of_listing("resume-listing", wanted, Stop::end(done)?)
}

fn of_listing(
    verb: &'static str,
    wanted: &Listing,
    stands: Option<Withdrawal>,
) -> anyhow::Result<Outcome> {
    let Some(stands) = stands else {
        return Ok(Outcome::unknown(format_args!("listing {}", wanted.listing)));
    };
    let how = match (stands.suspended_by_operator, stands.suspended_with_seller) {
        (true, true) => "withdrawn with its seller, and returns with her",
        (true, false) => "withdrawn by an operator",
        (false, _) => "its owner's to decide",
    };
    let word = match (stands.changed, wanted.change.dry_run) {
        (false, _) => "is as it was",
        (true, false) => "is changed",
        (true, true) => "would be changed",
    };
    let text = format!(
        "listing {} ({:?}) {word}: {}, {how}\n",
        stands.id, stands.name, stands.status
    );
    wanted.change.log(verb, stands.id, how);
    let json = json!({
        "changed": stands.changed,
        "dry_run": wanted.change.dry_run,
        "listing_id": stands.id,
        "status": stands.status,
        "suspended_by_operator": stands.suspended_by_operator,
        "suspended_with_seller": stands.suspended_with_seller,
    });
    Outcome::new(Exit::Done, text, &json)
}

/// Withdraws all of a seller's listings, and lets her make no new one.
pub async fn suspend_seller(db: &Db, wanted: &Seller) -> anyhow::Result<Outcome> {
    let (seller, now, dry_run) = (wanted.seller, clock::now(), wanted.change.dry_run);
    let done = db
        .run("operator.suspend_seller", |tx| {
            work(async move {
                // She first: who makes a listing meanwhile has looked at her before, and is waited for.
                let stop = identity::stop_selling(tx, seller, now).await?;
                let listings = catalog::withdraw_all_of(tx, seller).await?;
                Stop::or_keep(dry_run, (stop, listings))
            })
        })
        .await;
    let (stop, listings) = Stop::end(done)?;
    of_seller("suspend-seller", wanted, stop, &listings)
}

/// Lets a seller sell again.
pub async fn resume_seller(db: &Db, wanted: &Seller) -> anyhow::Result<Outcome> {
    let (seller, dry_run) = (wanted.seller, wanted.change.dry_run);
    let done = db
        .run("operator.resume_seller", |tx| {
            work(async move {
                let stop = identity::resume_selling(tx, seller).await?;
                let listings = catalog::give_back_all_of(tx, seller).await?;
                Stop::or_keep(dry_run, (stop, listings))
            })
        })
        .await;
    let (stop, listings) = Stop::end(done)?;
    of_seller("resume-seller", wanted, stop, &listings)
}

fn of_seller(
    verb: &'static str,
    wanted: &Seller,
    stop: Option<identity::SellingStop>,
    listings: &[ListingId],
) -> anyhow::Result<Outcome> {
    let Some(stop) = stop else {
        return Ok(Outcome::unknown(format_args!("profile {}", wanted.seller)));
    };
    let changed = stop.changed || !listings.is_empty();
    let does = if verb == "suspend-seller" {
        wanted
            .change
            .tense("sells nothing from now on", "would sell nothing")
    } else {
        wanted.change.tense("may sell again", "might sell again")
    };
    let text = format!(
        "profile {} ({:?}) {does}; listings changed: {}\n",
        wanted.seller,
        stop.display_name,
        listings.len()
    );
    wanted.change.log(verb, wanted.seller, does);
    let json = json!({
        "changed": changed,
        "dry_run": wanted.change.dry_run,
        "profile_id": wanted.seller,
        "listings": listings,
    });
    Outcome::new(Exit::Done, text, &json)
}
