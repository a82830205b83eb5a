//! `revoke-key`: a key that must serve no longer, whoever's it is.

use clap::Args;
use crochet_shared::clock;
use crochet_shared::id::ApiKeyId;
use serde_json::json;

use super::{Change, Exit, Outcome, Stop};
use crate::db::{Db, work};
use crate::identity;

/// Revoke an API key
#[derive(Clone, Debug, Args)]
pub struct RevokeKey {
    /// The key's id, as `GET /api-keys` shows it; never its text.
    #[arg(value_name = "KEY_ID")]
    pub key: ApiKeyId,
    /// How it is done.
    #[command(flatten)]
    pub change: Change,
}

/// Revokes the key and has gateways told, in one transaction.
pub async fn revoke_key(db: &Db, wanted: &RevokeKey) -> anyhow::Result<Outcome> {
    let (key, now, dry_run) = (wanted.key, clock::now(), wanted.change.dry_run);
    let revoked = db
        .run("operator.revoke_key", |tx| {
            work(async move {
                let revoked = identity::revoke_any_key(tx, key, now).await?;
                Stop::or_keep(dry_run, revoked)
            })
        })
        .await;
    let Some(revoked) = Stop::end(revoked)? else {
        return Ok(Outcome::unknown(format_args!("key {key}")));
    };
    let at = clock::rfc3339(revoked.revoked_at);
    let text = if revoked.was_revoked {
        format!("key {key} was revoked before, {at}; gateways are told again\n")
    } else {
        let word = wanted.change.tense("is revoked", "would be revoked");
        format!(
            "key {key} ({}…, {:?}) of profile {} {word}\n",
            revoked.prefix, revoked.name, revoked.profile
        )
    };
    wanted.change.log("revoke-key", key, "revoked");
    let json = json!({
        "changed": !revoked.was_revoked,
        "dry_run": dry_run,
        "key_id": key,
        "profile_id": revoked.profile,
        "prefix": revoked.prefix,
        "revoked_at": at,
    });
    Outcome::new(Exit::Done, text, &json)
}
