//! What the seller remembers: secrets by listing, and who called how often. In memory only.

use std::collections::{BTreeMap, HashMap};

use parking_lot::Mutex;
use serde::Serialize;
use standardwebhooks::Webhook;

/// Secrets and counts.
#[derive(Default)]
pub(crate) struct Book {
    secrets: Mutex<HashMap<String, Vec<Webhook>>>,
    calls: Mutex<Calls>,
}

#[derive(Debug, Default)]
struct Calls {
    by_request: HashMap<String, Tally>,
    total: u64,
    unsigned: u64,
}

/// How often one request id called.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Tally {
    count: u64,
    /// `X-Crochet-Attempt` of each call, in order.
    attempts: Vec<String>,
}

/// All counts.
#[derive(Debug, Serialize)]
pub(crate) struct Counts {
    calls: BTreeMap<String, u64>,
    total: u64,
    unsigned: u64,
}

impl std::fmt::Debug for Book {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Secrets have no place in a log.
        f.debug_struct("Book").finish_non_exhaustive()
    }
}

impl Book {
    /// Takes the secrets of a listing, in place of those before.
    pub(crate) fn put_secrets(&self, listing: &str, secrets: Vec<Webhook>) {
        self.secrets.lock().insert(listing.to_owned(), secrets);
    }

    /// Did one of the listing's secrets sign this?
    pub(crate) fn is_signed(&self, listing: &str, headers: &http::HeaderMap, body: &[u8]) -> bool {
        self.secrets.lock().get(listing).is_some_and(|secrets| {
            secrets
                .iter()
                .any(|secret| secret.verify(body, headers).is_ok())
        })
    }

    /// Counts a call; answers how many this request id has made, this one included.
    pub(crate) fn count(&self, request: Option<&str>, attempt: &str) -> u64 {
        let mut calls = self.calls.lock();
        calls.total += 1;
        let Some(request) = request else {
            return 1;
        };
        if !calls.by_request.contains_key(request) {
            calls
                .by_request
                .insert(request.to_owned(), Tally::default());
        }
        calls.by_request.get_mut(request).map_or(1, |tally| {
            tally.count += 1;
            tally.attempts.push(attempt.to_owned());
            tally.count
        })
    }

    /// Counts a call that was not let in.
    pub(crate) fn count_unsigned(&self) {
        self.calls.lock().unsigned += 1;
    }

    /// Everything counted.
    pub(crate) fn counts(&self) -> Counts {
        let calls = self.calls.lock();
        Counts {
            calls: calls
                .by_request
                .iter()
                .map(|(request, tally)| (request.clone(), tally.count))
                .collect(),
            total: calls.total,
            unsigned: calls.unsigned,
        }
    }

    /// One request id's calls; zero for a stranger.
    pub(crate) fn tally(&self, request: &str) -> Tally {
        self.calls
            .lock()
            .by_request
            .get(request)
            .cloned()
            .unwrap_or_default()
    }

    /// Forgets the counts, not the secrets.
    pub(crate) fn forget(&self) {
        *self.calls.lock() = Calls::default();
    }
}
