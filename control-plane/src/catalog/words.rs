//! Words that no active listing has any more are forgotten, behind whatever forgot them.
//!
//! Listings count their words up and down; a word at none stays where it is, so that a change of a listing
//! deletes nothing that another may be writing. Here all words are gone through in their order, some at a
//! time and for ever, each replica for itself.

use parking_lot::Mutex;

use super::store;
use crate::app::App;

/// Words looked at in one statement.
const WORDS_MAX: i64 = 1_000;
/// Statements of one turn.
const STEPS_MAX: usize = 10;

/// How far a replica has gone through the words.
#[derive(Debug, Default)]
pub struct Walk(Mutex<String>);

impl Walk {
    /// Goes on for a while; from the beginning once the end is reached.
    pub async fn go_on(&self, app: &App) -> Result<(), sqlx::Error> {
        let mut place = self.0.lock().clone();
        let mut deleted = 0;
        for _ in 0..STEPS_MAX {
            let look = store::delete_unused(app.db.pool(), &place, WORDS_MAX).await?;
            deleted += look.deleted;
            place = look.last.unwrap_or_default();
            if place.is_empty() {
                break;
            }
        }
        *self.0.lock() = place;
        if deleted > 0 {
            tracing::debug!(deleted, "words that no listing has were forgotten");
        }
        Ok(())
    }
}
