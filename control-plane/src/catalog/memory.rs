//! What browsing remembers for a while. All of it may be lost at any time.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::store::{Filter, Gathered, Place};
use crate::paging::{Paging, Start};

/// How long it is remembered that a filter passes more than numbered pages reach. It is dear to find out of common words, and
/// seldom other a minute later.
const REACH_REMEMBERED: Duration = Duration::from_mins(1);
/// Filters of which that is remembered; then all are forgotten.
const REACHES_MAX: usize = 10_000;
/// How long the first rows of a search are remembered. Which listings match, and how many, is exact meanwhile; in which
/// order a listing stands whose price, calls or reviews changed may be so much too old; on a walk by cursors that began in
/// that order it may be missing, or shown twice.
const ROWS_REMEMBERED: Duration = Duration::from_secs(10);
/// Searches whose first rows are remembered, some 2.4 kB each; then all are forgotten.
const SEARCHES_MAX: usize = 2_000;

/// What this room keeps in memory.
#[derive(Debug, Default)]
pub struct Memory {
    /// Filters that pass more listings than numbered pages reach, by name.
    beyond_reach: Mutex<HashMap<String, Instant>>,
    searches: Mutex<HashMap<Way, Search>>,
}

/// A search by its name, and its sort.
type Way = (String, &'static str);

/// What is known of a search that was dear to gather.
#[derive(Debug)]
struct Search {
    /// How many listings match.
    count: i64,
    /// The first of them, in the order of the sort.
    first: Vec<Place>,
    /// [`Filter::changes`] from before they were gathered: the same listings match while these are the same.
    changes: Vec<i64>,
    since: Instant,
}

impl Memory {
    pub(super) fn is_beyond_reach(&self, filter: &Filter) -> bool {
        let found = self.beyond_reach.lock().get(&filter.name()).copied();
        found.is_some_and(|since| since.elapsed() < REACH_REMEMBERED)
    }

    pub(super) fn remember_beyond_reach(&self, filter: &Filter) {
        let known = &self.beyond_reach;
        insert(known, REACHES_MAX, filter.name(), Instant::now());
    }

    /// The page of a search whose words stand as in `filter`, if its rows are among those remembered.
    pub(super) fn page(
        &self,
        filter: &Filter,
        sort: &'static str,
        paging: &Paging,
    ) -> Option<Gathered> {
        let (changes, way) = (filter.changes()?, (filter.name(), sort));
        let searches = self.searches.lock();
        let search = searches.get(&way)?;
        (search.since.elapsed() < ROWS_REMEMBERED && search.changes == changes)
            .then(|| search.page(paging))?
    }

    /// Remembers what was gathered, from its first row on, after the words of `filter` were read.
    pub(super) fn remember_first(&self, filter: &Filter, sort: &'static str, gathered: &Gathered) {
        if let Some(changes) = filter.changes() {
            let search = Search {
                count: gathered.count,
                first: gathered.places.clone(),
                changes,
                since: Instant::now(),
            };
            let way = (filter.name(), sort);
            insert(&self.searches, SEARCHES_MAX, way, search);
        }
    }
}

impl Search {
    fn page(&self, paging: &Paging) -> Option<Gathered> {
        let begin = match &paging.start {
            Start::Page(_) => usize::try_from(paging.offset()).ok()?,
            Start::After(cursor) => {
                let value = cursor.key.map(|key| key.value);
                let is_named = |place: &Place| place.id == cursor.id && Some(place.value) == value;
                self.first.iter().position(is_named)? + 1
            }
        };
        let rows = self.first.get(begin..)?;
        let fetch = usize::try_from(paging.fetch()).ok()?;
        let are_all = i64::try_from(self.first.len()) == Ok(self.count);
        (are_all || rows.len() >= fetch).then(|| Gathered {
            places: rows.iter().take(fetch).copied().collect(),
            count: self.count,
        })
    }
}

fn insert<K: std::hash::Hash + Eq, V>(into: &Mutex<HashMap<K, V>>, max: usize, key: K, value: V) {
    let mut known = into.lock();
    if known.len() >= max && !known.contains_key(&key) {
        known.clear();
    }
    known.insert(key, value);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::store::meaning;
    use crate::paging::{Cursor, Key};
    use uuid::Uuid;

    const SORT: &str = "price_low";

    fn filter(changes: &[i64]) -> Filter {
        let mut word = meaning(&["a"], 1);
        word.changes = changes.to_vec();
        Filter {
            words: vec![word],
            ..Filter::default()
        }
    }

    fn places(numbers: std::ops::Range<u8>) -> Vec<Place> {
        let place = |number| Place {
            id: Uuid::from_bytes([number; 16]),
            value: i64::from(number),
        };
        numbers.map(place).collect()
    }

    /// So many first rows, of `count` that match.
    fn remember(memory: &Memory, rows: u8, count: i64) {
        let places = places(0..rows);
        memory.remember_first(&filter(&[7]), SORT, &Gathered { places, count });
    }

    fn at(start: Start) -> Paging {
        Paging { limit: 2, start }
    }

    /// Ids and count of the page.
    fn shown(memory: &Memory, start: Start) -> Option<(Vec<i64>, i64)> {
        let page = memory.page(&filter(&[7]), SORT, &at(start))?;
        Some((
            page.places.iter().map(|place| place.value).collect(),
            page.count,
        ))
    }

    fn after(number: u8, value: i64) -> Start {
        let key = Some(Key { sort: 2, value });
        let id = Uuid::from_bytes([number; 16]);
        Start::After(Cursor { key, id })
    }

    #[test]
    fn pages_within_the_first_rows_are_remembered() {
        let memory = Memory::default();
        assert_eq!(shown(&memory, Start::Page(1)), None);
        remember(&memory, 6, 9);
        assert_eq!(shown(&memory, Start::Page(1)), Some((vec![0, 1, 2], 9)));
        assert_eq!(shown(&memory, Start::Page(2)), Some((vec![2, 3, 4], 9)));
        assert_eq!(shown(&memory, Start::Page(3)), None, "two rows of three");
        assert_eq!(shown(&memory, Start::Page(9)), None);
        assert_eq!(shown(&memory, after(2, 2)), Some((vec![3, 4, 5], 9)));
        assert_eq!(shown(&memory, after(3, 3)), None, "two rows of three");
        assert_eq!(shown(&memory, after(2, 3)), None, "it stood elsewhere");
        assert_eq!(shown(&memory, after(8, 8)), None);
        let paging = at(Start::Page(1));
        assert!(memory.page(&filter(&[8]), SORT, &paging).is_none());
        assert!(memory.page(&filter(&[7]), "newest", &paging).is_none());
    }

    #[test]
    fn of_few_rows_the_last_page_is_remembered_too() {
        let memory = Memory::default();
        remember(&memory, 3, 3);
        assert_eq!(shown(&memory, Start::Page(2)), Some((vec![2], 3)));
        assert_eq!(shown(&memory, after(2, 2)), Some((vec![], 3)));
    }

    #[test]
    fn rows_are_remembered_for_seconds() {
        let memory = Memory::default();
        remember(&memory, 3, 3);
        for search in memory.searches.lock().values_mut() {
            search.since -= ROWS_REMEMBERED;
        }
        assert_eq!(shown(&memory, Start::Page(1)), None);
    }
}
