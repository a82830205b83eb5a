//! What browsing remembers for a while of how many listings there are. All of it may be lost at any time.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::store::Filter;

/// How long anything is remembered.
const REMEMBERED: Duration = Duration::from_mins(1);
/// Filters that are remembered of each kind; then all are forgotten.
const REMEMBERED_MAX: usize = 10_000;

/// What this room keeps in memory.
#[derive(Debug, Default)]
pub struct Memory {
    /// Filters that pass more listings than numbered pages reach, by name. That is dear to find out of common words, and
    /// what it says would change only if nearly all of them went.
    beyond_reach: Mutex<HashMap<String, Instant>>,
    /// Searches of several words, by name and sort.
    searches: Mutex<HashMap<(String, &'static str), Remembered>>,
}

/// What is known of a search, in one order.
#[derive(Clone, Copy, Debug)]
pub(super) enum Known {
    /// How many listings match, exactly.
    Count(i64),
    /// They stand behind so many others that they are not walked to.
    Far,
}

#[derive(Debug)]
struct Remembered {
    known: Known,
    /// [`Filter::changes`] from before it was found out: it holds for as long as they are the same.
    changes: Vec<i64>,
    since: Instant,
}

impl Memory {
    pub(super) fn is_beyond_reach(&self, filter: &Filter) -> bool {
        let found = self.beyond_reach.lock().get(&filter.name()).copied();
        found.is_some_and(|since| since.elapsed() < REMEMBERED)
    }

    pub(super) fn remember_beyond_reach(&self, filter: &Filter) {
        insert(&self.beyond_reach, filter.name(), Instant::now());
    }

    /// What is known of a search whose words stand as in `filter`.
    pub(super) fn known(&self, filter: &Filter, sort: &'static str) -> Option<Known> {
        let changes = filter.changes()?;
        let searches = self.searches.lock();
        let search = searches.get(&(filter.name(), sort))?;
        let holds = search.changes == changes && search.since.elapsed() < REMEMBERED;
        holds.then_some(search.known)
    }

    /// What was found out after the words of `filter` were read.
    pub(super) fn remember(&self, filter: &Filter, sort: &'static str, known: Known) {
        if let Some(changes) = filter.changes() {
            let search = Remembered {
                known,
                changes,
                since: Instant::now(),
            };
            insert(&self.searches, (filter.name(), sort), search);
        }
    }
}

fn insert<K: std::hash::Hash + Eq, V>(into: &Mutex<HashMap<K, V>>, key: K, value: V) {
    let mut known = into.lock();
    if known.len() >= REMEMBERED_MAX {
        known.clear();
    }
    known.insert(key, value);
}
