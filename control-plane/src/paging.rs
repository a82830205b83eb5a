//! Lists in pages: by number as far as 10,000 rows, by cursor without end (contract §2).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use crochet_shared::envelope::{BadField, Failure};
use serde::Serialize;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use crate::describe::{self, schema_type};
use crate::error::ApiError;
use crate::query::Query;

/// Rows that numbered pages reach, and where `total` stops counting.
pub const ROWS_MAX: i64 = 10_000;
const LIMIT_MIN: i64 = 1;
const LIMIT_MAX: i64 = 100;
const PAGE_MAX: i64 = i64::MAX / LIMIT_MAX;
const LIMIT_DEFAULT: i64 = 20;
/// A sort and its number, before the id, in a cursor of a sorted list.
const KEY_BYTES: usize = 9;
const ID_BYTES: usize = 16;

/// Which part of a list is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paging {
    /// Rows in a page, 1 to 100.
    pub limit: i64,
    /// Where the page begins.
    pub start: Start,
}

/// What [`Paging::read`] reads, for the API document.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "read by the API document")]
pub struct PagingParams {
    /// Rows in a page.
    #[param(value_type = Limit, required = false, inline)]
    limit: Option<i64>,
    /// Which page, from 1. Pages past the end are empty; `page` × `limit` reaches 10,000 rows.
    #[param(value_type = Number, required = false, inline)]
    page: Option<i64>,
    /// A `next_cursor` of this list, in place of `page`: goes on without end.
    #[param(value_type = CursorText, required = false, inline)]
    cursor: Option<String>,
}

schema_type!(Limit = describe::integer_or(LIMIT_MIN, LIMIT_MAX, LIMIT_DEFAULT));
schema_type!(Number = describe::integer_or(1, PAGE_MAX, 1));
schema_type!(
    CursorText = describe::pattern(
        "^([A-Za-z0-9_-]{22}|[A-Za-z0-9_-]{34})$",
        "AZxKqG2gdO-Au7MCCZqAVw",
    )
);

/// Where a page begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    /// At a page number, from 1.
    Page(i64),
    /// Behind the row that the cursor names.
    After(Cursor),
}

/// What `next_cursor` says: opaque text to callers, the last row's place to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// The sort, and what it sorted the last row by; `None` in lists of the newest first.
    pub key: Option<Key>,
    /// The last row.
    pub id: Uuid,
}

/// A row's place in a list that is sorted by a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    /// Which sort of the list: a cursor of one says nothing in another.
    pub sort: u8,
    /// What the row is sorted by. Rows with the same are in the order of their ids.
    pub value: i64,
}

/// One page of a list.
#[derive(Debug)]
pub struct Page<T> {
    /// Its rows.
    pub items: Vec<T>,
    /// Where it stands.
    pub pagination: Pagination,
}

/// `pagination` beside `data`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Pagination {
    /// `null` behind a cursor.
    #[schema(example = 1)]
    page: Option<i64>,
    #[schema(example = 20)]
    limit: i64,
    /// Exact up to 10,000, where counting stops; `null` behind a cursor.
    #[schema(example = 1)]
    total: Option<i64>,
    /// `null` behind a cursor.
    #[serde(rename = "totalPages")]
    #[schema(example = 1)]
    total_pages: Option<i64>,
    /// Send it as `cursor` for what follows; `null` on the last page.
    #[schema(example = "AZxKqG2gdO-Au7MCCZqAVw")]
    next_cursor: Option<String>,
}

impl Paging {
    /// Reads `page`, `limit` and `cursor` of a list of the newest first; what is wrong is kept in
    /// the query's list.
    pub fn read(query: &mut Query) -> Self {
        Self::read_sorted(query, None)
    }

    /// As [`Self::read`], for a list in the order `sort`. A cursor of another order is refused.
    pub fn read_sorted(query: &mut Query, sort: Option<u8>) -> Self {
        let limit = query
            .integer("limit", LIMIT_MIN, LIMIT_MAX)
            .unwrap_or(LIMIT_DEFAULT);
        let page = query.integer("page", 1, PAGE_MAX);
        let start = match query.text("cursor") {
            Some(text) => {
                if let Some(cursor) = Cursor::read(text)
                    && cursor.key.map(|key| key.sort) == sort
                {
                    Start::After(cursor)
                } else {
                    query.refuse("cursor", "must be a next_cursor of this list");
                    Start::Page(1)
                }
            }
            None => Start::Page(page.unwrap_or(1)),
        };
        Self { limit, start }
    }

    /// Rows to skip. Nothing beyond [`ROWS_MAX`] is ever read by number.
    pub fn offset(&self) -> i64 {
        match self.start {
            Start::Page(page) => ((page - 1) * self.limit).min(ROWS_MAX),
            Start::After(_) => 0,
        }
    }

    /// Rows to read: one more than the page shows, which tells whether another follows.
    pub fn fetch(&self) -> i64 {
        self.limit + 1
    }

    /// Whether it begins where the list does.
    pub fn is_first(&self) -> bool {
        self.start == Start::Page(1)
    }

    /// The last row that is read, counted from where the list or the cursor begins.
    pub fn end(&self) -> i64 {
        self.offset() + self.fetch()
    }

    /// The id that rows must stand behind (below, in lists of the newest first).
    pub fn after(&self) -> Option<Uuid> {
        match &self.start {
            Start::Page(_) => None,
            Start::After(cursor) => Some(cursor.id),
        }
    }

    /// What the row that [`Self::after`] names was sorted by, in a sorted list.
    pub fn after_key(&self) -> Option<i64> {
        match &self.start {
            Start::Page(_) => None,
            Start::After(cursor) => cursor.key.map(|key| key.value),
        }
    }

    /// Whether `total` is to be counted. Count at most [`ROWS_MAX`] rows.
    pub fn counts(&self) -> bool {
        matches!(self.start, Start::Page(_))
    }

    /// Makes the page of rows read with [`Self::fetch`]; `key` names a row for the cursor.
    pub fn page<R, T>(
        &self,
        rows: Vec<R>,
        total: Option<i64>,
        key: impl Fn(&R) -> Uuid,
        show: impl Fn(R) -> T,
    ) -> Result<Page<T>, ApiError> {
        let cursor = |row: &R| Cursor {
            key: None,
            id: key(row),
        };
        self.page_sorted(rows, total, cursor, show)
    }

    /// As [`Self::page`], for a list that was read with [`Self::read_sorted`].
    pub fn page_sorted<R, T>(
        &self,
        mut rows: Vec<R>,
        total: Option<i64>,
        cursor: impl Fn(&R) -> Cursor,
        show: impl Fn(R) -> T,
    ) -> Result<Page<T>, ApiError> {
        let limit = usize::try_from(self.limit).unwrap_or(usize::MAX);
        let more = rows.len() > limit;
        rows.truncate(limit);
        let page = match self.start {
            Start::Page(page) => Some(page),
            Start::After(_) => None,
        };
        let before = page.map_or(0, |page| (page - 1) * self.limit);
        if before >= ROWS_MAX {
            // An empty answer would be a lie when there is more behind the reach.
            if total.is_some_and(|total| total >= ROWS_MAX) {
                return Err(beyond_reach());
            }
            rows.clear();
        }
        // The last page within reach may have room for more than that.
        let within = usize::try_from(ROWS_MAX.saturating_sub(before)).unwrap_or(0);
        let more = more || rows.len() > within;
        rows.truncate(within);
        let next_cursor = rows.last().filter(|_| more).map(|row| cursor(row).write());
        Ok(Page {
            items: rows.into_iter().map(show).collect(),
            pagination: Pagination {
                page,
                limit: self.limit,
                total,
                total_pages: total.map(|total| (total + self.limit - 1) / self.limit),
                next_cursor,
            },
        })
    }
}

impl<T> Page<T> {
    /// The same page, its rows shown in another way. `None` for what is not there any more.
    pub fn filled<U>(self, show: impl FnMut(T) -> Option<U>) -> Page<U> {
        Page {
            items: self.items.into_iter().filter_map(show).collect(),
            pagination: self.pagination,
        }
    }
}

impl Cursor {
    /// Reads what [`Self::write`] wrote.
    pub fn read(text: &str) -> Option<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        let (key, id) = match bytes.split_at_checked(KEY_BYTES) {
            Some(([sort, value @ ..], id)) if !id.is_empty() && bytes.len() > ID_BYTES => {
                let value = i64::from_be_bytes(value.try_into().ok()?);
                let key = Key { sort: *sort, value };
                (Some(key), id)
            }
            _ => (None, bytes.as_slice()),
        };
        let id = Uuid::from_slice(id).ok()?;
        Some(Self { key, id })
    }

    /// The text a caller sends back.
    pub fn write(&self) -> String {
        let mut bytes = Vec::with_capacity(KEY_BYTES + ID_BYTES);
        if let Some(key) = self.key {
            bytes.push(key.sort);
            bytes.extend(key.value.to_be_bytes());
        }
        bytes.extend(self.id.as_bytes());
        URL_SAFE_NO_PAD.encode(bytes)
    }
}

fn beyond_reach() -> ApiError {
    Failure::validation(&[BadField {
        field: "page".into(),
        problem: "page × limit reaches 10000 rows; go on with cursor=next_cursor".into(),
    }])
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_cursor_serves_its_own_order_alone() {
        let id = Uuid::from_u128(7);
        let key = Some(Key { sort: 2, value: -5 });
        for (cursor, sort, serves) in [
            (Cursor { key, id }, Some(2), true),
            (Cursor { key, id }, Some(1), false),
            (Cursor { key, id }, None, false),
            (Cursor { key: None, id }, None, true),
            (Cursor { key: None, id }, Some(2), false),
        ] {
            let mut query = Query::parse(&format!("cursor={}", cursor.write()));
            let paging = Paging::read_sorted(&mut query, sort);
            assert_eq!(query.finish().is_ok(), serves, "{cursor:?} in {sort:?}");
            let expected = if serves {
                Start::After(cursor)
            } else {
                Start::Page(1)
            };
            assert_eq!(paging.start, expected);
        }
    }

    #[test]
    fn the_last_page_within_reach_ends_where_the_reach_does() {
        let page = |query: &str, rows: std::ops::Range<i64>, total| {
            let paging = Paging::read(&mut Query::parse(query));
            let cursor = |row: &i64| Uuid::from_u128(u128::try_from(*row).unwrap());
            paging.page(rows.collect(), Some(total), cursor, |row| row)
        };
        // 333 pages of 30, and one of 10.
        let last = page("limit=30&page=334", 9_990..10_021, 10_000).unwrap();
        assert_eq!(last.items, (9_990..10_000).collect::<Vec<i64>>());
        assert!(last.pagination.next_cursor.is_some());
        let whole = page("limit=30&page=334", 9_990..9_995, 9_995).unwrap();
        assert_eq!((whole.items.len(), whole.pagination.next_cursor), (5, None));
        let past = page("limit=30&page=335", 0..0, 9_995).unwrap();
        assert!(past.items.is_empty());
        assert!(page("limit=30&page=335", 0..0, 10_000).is_err());
    }

    proptest! {
        #[test]
        fn a_cursor_reads_what_it_wrote(sort: u8, value: i64, id: u128, sorted: bool) {
            let key = sorted.then_some(Key { sort, value });
            let cursor = Cursor { key, id: Uuid::from_u128(id) };
            prop_assert_eq!(Cursor::read(&cursor.write()), Some(cursor));
        }

        #[test]
        fn any_text_is_a_cursor_or_none(text: String) {
            let _read = Cursor::read(&text);
        }
    }
}
