//! `GET /requests/v3`: the record that counts as evidence.

use std::{collections::BTreeSet, sync::Arc};

use axum::{
    extract::{RawQuery, State},
    http::{HeaderMap, StatusCode},
    response::Response,
};
use serde::{Deserialize, Serialize};

use super::{
    App,
    gate::{self, Endpoint},
    json_bytes, refuse,
};
use crate::{
    payment::Status,
    show::RowAnswer,
    store::{Request, Row, Store},
};

/// Rows of a page when the caller says nothing.
const LIMIT_DEFAULT: usize = 20;
/// Most rows of a page.
const LIMIT_MAX: usize = 50;

/// What was asked for.
#[derive(Debug, Default)]
struct Wanted {
    /// None: everything.
    ids: Option<Vec<String>>,
    status: Option<Status>,
    /// Inclusive, milliseconds.
    from_ms: Option<u64>,
    /// Inclusive, milliseconds.
    to_ms: Option<u64>,
    by_update: bool,
    ascending: bool,
    limit: Option<usize>,
    /// The last row of the page before, with the time it is sorted by.
    after: Option<(u64, Row)>,
}

#[derive(Serialize)]
struct Page<'a> {
    requests: Vec<RowAnswer<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    continuation: Option<String>,
}

pub(super) async fn requests(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Response {
    if let Err(response) = gate::enter(&app, Endpoint::Requests, &headers).await {
        return *response;
    }
    let wanted = match Wanted::read(query.as_deref().unwrap_or_default()) {
        Ok(wanted) => wanted,
        Err(problem) => return refuse(StatusCode::BAD_REQUEST, &problem),
    };
    let limit = wanted.limit.unwrap_or(LIMIT_DEFAULT);
    // Copied out, so that nobody waits while the page is written.
    let mut found = wanted.find(&app.store.lock(), limit + 1);
    let more = found.len() > limit;
    found.truncate(limit);
    let continuation = found
        .last()
        .filter(|_| more)
        .map(|(row, request)| format!("{}_{row}", wanted.time(request)));
    json_bytes(&Page {
        requests: found
            .iter()
            .map(|(_, request)| RowAnswer::of(request))
            .collect(),
        continuation,
    })
}

impl Wanted {
    fn read(query: &str) -> Result<Self, String> {
        let mut wanted = Self::default();
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            wanted.read_one(&name, &value)?;
        }
        Ok(wanted)
    }

    fn read_one(&mut self, name: &str, value: &str) -> Result<(), String> {
        let bad = || format!("querystring/{name} is not valid: {value}");
        let seconds = || {
            let seconds: u64 = value.parse().map_err(|_| bad())?;
            seconds.checked_mul(1000).ok_or_else(bad)
        };
        match name {
            "id" => self.add_ids(value.split(',').map(str::to_owned)),
            "filters" => self.add_ids(filtered_ids(value).map_err(|_| bad())?),
            "status" => {
                let status = Status::ALL
                    .into_iter()
                    .find(|status| status.name() == value);
                self.status = Some(status.ok_or_else(bad)?);
            }
            "startTimestamp" => self.from_ms = Some(seconds()?),
            "endTimestamp" => self.to_ms = Some(seconds()?),
            "sortBy" => match value {
                "updatedAt" => self.by_update = true,
                "createdAt" => self.by_update = false,
                _ => return Err(bad()),
            },
            "sortDirection" => match value {
                "asc" => self.ascending = true,
                "desc" => self.ascending = false,
                _ => return Err(bad()),
            },
            "limit" => {
                let limit: usize = value.parse().map_err(|_| bad())?;
                self.limit = Some(limit.min(LIMIT_MAX)).filter(|limit| *limit > 0);
                self.limit.ok_or_else(bad)?;
            }
            "continuation" => {
                let (at, row) = value.split_once('_').ok_or_else(bad)?;
                let after = (
                    at.parse().map_err(|_| bad())?,
                    row.parse().map_err(|_| bad())?,
                );
                self.after = Some(after);
            }
            _ => return Err(format!("querystring/{name} is not served by the sandbox")),
        }
        Ok(())
    }

    fn add_ids(&mut self, ids: impl IntoIterator<Item = String>) {
        self.ids.get_or_insert_default().extend(ids);
    }

    /// The time a request is sorted and filtered by.
    fn time(&self, request: &Request) -> u64 {
        if self.by_update {
            request.payment.updated_at
        } else {
            request.quote.created_at
        }
    }

    fn find(&self, store: &Store, most: usize) -> Vec<(Row, Request)> {
        let rows: Box<dyn DoubleEndedIterator<Item = Row> + '_> = match &self.ids {
            Some(ids) => Box::new(self.among(store, ids).into_iter()),
            None if self.by_update => Box::new(self.updated(store)),
            None => self.made(store),
        };
        let rows: Box<dyn Iterator<Item = Row> + '_> = if self.ascending {
            rows
        } else {
            Box::new(rows.rev())
        };
        rows.filter_map(|row| Some((row, store.row(row)?.clone())))
            .take(most)
            .collect()
    }

    /// The rows of these ids, ascending by the sorted time.
    fn among(&self, store: &Store, ids: &[String]) -> Vec<Row> {
        let (from, to) = self.bounds();
        let keys: BTreeSet<(u64, Row)> = ids
            .iter()
            .filter_map(|id| {
                let row = store.find(id)?;
                let request = store.row(row)?;
                let wanted = self
                    .status
                    .is_none_or(|status| status == request.payment.status);
                wanted.then(|| (self.time(request), row))
            })
            .filter(|key| (from..=to).contains(key))
            .collect();
        keys.into_iter().map(|(_, row)| row).collect()
    }

    fn updated<'a>(&self, store: &'a Store) -> impl DoubleEndedIterator<Item = Row> + use<'a> {
        let (from, to) = self.bounds();
        store.by_update(self.status, from, to)
    }

    fn made<'a>(&self, store: &'a Store) -> Box<dyn DoubleEndedIterator<Item = Row> + 'a> {
        // Rows are numbered in the order they were made, so numbers bound times.
        let (mut from, mut to) = (store.first_made_since(self.from_ms.unwrap_or(0)), Row::MAX);
        if let Some(ms) = self.to_ms {
            match store.first_made_since(ms.saturating_add(1)).checked_sub(1) {
                Some(last) => to = last,
                None => return Box::new(std::iter::empty()),
            }
        }
        match self.after {
            Some((_, row)) if self.ascending => from = from.max(row.saturating_add(1)),
            Some((_, 0)) => return Box::new(std::iter::empty()),
            Some((_, row)) => to = to.min(row - 1),
            None => {}
        }
        store.by_age(self.status, from, to)
    }

    /// The keys still wanted, both ends included.
    fn bounds(&self) -> ((u64, Row), (u64, Row)) {
        let mut from = (self.from_ms.unwrap_or(0), 0);
        let mut to = (self.to_ms.unwrap_or(u64::MAX), Row::MAX);
        if let Some((at, row)) = self.after {
            if self.ascending {
                from = from.max((at, row.saturating_add(1)));
            } else {
                to = to.min(
                    row.checked_sub(1)
                        .map_or((at.saturating_sub(1), Row::MAX), |row| (at, row)),
                );
            }
        }
        (from, to)
    }
}

/// The ids of the provider's own filter form: `[{"id": "…" or ["…", …]}, …]`.
fn filtered_ids(json: &str) -> Result<Vec<String>, serde_json::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum OneOrMany {
        One(String),
        Many(Vec<String>),
    }
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Group {
        id: OneOrMany,
    }
    let groups: Vec<Group> = serde_json::from_str(json)?;
    Ok(groups
        .into_iter()
        .flat_map(|group| match group.id {
            OneOrMany::One(id) => vec![id],
            OneOrMany::Many(ids) => ids,
        })
        .collect())
}
