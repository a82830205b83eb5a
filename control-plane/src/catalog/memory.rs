//! What browsing remembers for a while of how many listings there are. All of it may be lost at any time.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::store::Filter;
use crate::paging::Paging;

/// How long anything is remembered.
const REMEMBERED: Duration = Duration::from_mins(1);
/// Filters that are remembered of each kind; then all are forgotten.
const REMEMBERED_MAX: usize = 10_000;

/// What this room keeps in memory.
#[derive(Debug, Default)]
pub struct Memory {
    /// Filters that pass more listings than numbered pages reach, by name. That is dear to find out of common words, and
    /// what it says is seldom other a minute later.
    beyond_reach: Mutex<HashMap<String, Instant>>,
    searches: Mutex<HashMap<Way, Search>>,
}

/// A search by its name, its sort, and whether it goes by numbered pages.
type Way = (String, &'static str, bool);

/// What is known of a search of several words.
#[derive(Debug)]
struct Search {
    /// How many listings match.
    count: i64,
    /// [`Filter::changes`] from before they were counted: the number is exact while these are the same.
    changes: Vec<i64>,
    /// The last row that is walked to. Beyond it the matches stand behind too many others.
    near: i64,
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

    /// How many listings match a search whose words stand as in `filter`, if that is known and the page may be near.
    pub(super) fn counted(
        &self,
        filter: &Filter,
        sort: &'static str,
        paging: &Paging,
    ) -> Option<i64> {
        let changes = filter.changes()?;
        let searches = self.searches.lock();
        let search = searches.get(&way(filter, sort, paging))?;
        let holds = search.is_fresh() && search.changes == changes && paging.end() <= search.near;
        holds.then_some(search.count)
    }

    /// What was counted after the words of `filter` were read.
    pub(super) fn remember_count(
        &self,
        filter: &Filter,
        sort: &'static str,
        paging: &Paging,
        count: i64,
    ) {
        let Some(changes) = filter.changes() else {
            return;
        };
        let way = way(filter, sort, paging);
        let mut searches = self.searches.lock();
        if let Some(search) = searches.get_mut(&way).filter(|search| search.is_fresh()) {
            (search.count, search.changes) = (count, changes);
            return;
        }
        drop(searches);
        let search = Search {
            count,
            changes,
            near: i64::MAX,
            since: Instant::now(),
        };
        insert(&self.searches, way, search);
    }

    /// A walk to this page was given up.
    pub(super) fn note_far(&self, filter: &Filter, sort: &'static str, paging: &Paging) {
        let mut searches = self.searches.lock();
        if let Some(search) = searches.get_mut(&way(filter, sort, paging)) {
            search.near = search.near.min(paging.end() - 1);
        }
    }
}

impl Search {
    fn is_fresh(&self) -> bool {
        self.since.elapsed() < REMEMBERED
    }
}

fn way(filter: &Filter, sort: &'static str, paging: &Paging) -> Way {
    (filter.name(), sort, paging.counts())
}

fn insert<K: std::hash::Hash + Eq, V>(into: &Mutex<HashMap<K, V>>, key: K, value: V) {
    let mut known = into.lock();
    if known.len() >= REMEMBERED_MAX {
        known.clear();
    }
    known.insert(key, value);
}
