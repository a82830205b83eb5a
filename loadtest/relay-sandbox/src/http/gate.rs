//! In front of each provider route: counts calls, keeps the provider's limits, fails on purpose.

use std::{collections::VecDeque, time::Duration};

use axum::{
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::time;

use super::{App, refuse, refuse_with};
use crate::config::Config;

/// How long a call that is to time out is held, before 504.
const TIMEOUT: Duration = Duration::from_mins(2);

/// A provider route.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Endpoint {
    Quote,
    Status,
    Requests,
}

/// How a call fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Mode {
    Error500,
    Timeout,
    RateLimit,
    Garbage,
    /// One of the provider's error codes.
    Refuse,
    Off,
}

/// A fault set for a route.
#[derive(Debug, Clone)]
pub(super) struct Fault {
    pub(super) mode: Mode,
    /// How many calls fail in a row; all when absent.
    pub(super) count: Option<u64>,
    /// How many are let through then, before as many fail again; all when absent.
    pub(super) then: Option<u64>,
    /// Calls met in this round.
    pub(super) met: u64,
    /// The code of [`Mode::Refuse`].
    pub(super) code: String,
}

/// Calls since the start, or those of them that failed on purpose.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(super) struct Calls {
    quote: u64,
    status: u64,
    requests: u64,
}

#[derive(Debug, Default)]
struct Door {
    calls: u64,
    /// Those that failed on purpose.
    faults: u64,
    fault: Option<Fault>,
    limit: Option<Limit>,
}

#[derive(Debug)]
struct Limit {
    calls: usize,
    window_ms: u64,
    /// When the calls within the window were, oldest first.
    recent: VecDeque<u64>,
}

/// The doors of all routes.
#[derive(Debug)]
pub(super) struct Gate(Mutex<Doors>);

#[derive(Debug)]
struct Doors {
    quote: Door,
    status: Door,
    requests: Door,
}

impl Doors {
    const fn of(&mut self, endpoint: Endpoint) -> &mut Door {
        match endpoint {
            Endpoint::Quote => &mut self.quote,
            Endpoint::Status => &mut self.status,
            Endpoint::Requests => &mut self.requests,
        }
    }
}

impl Gate {
    pub(super) fn new(config: &Config) -> Self {
        let door = |calls: Option<u32>, window_ms| Door {
            limit: calls.map(|calls| Limit {
                calls: usize::try_from(calls).unwrap_or(usize::MAX),
                window_ms,
                recent: VecDeque::new(),
            }),
            ..Door::default()
        };
        Self(Mutex::new(Doors {
            quote: door(config.quotes_per_second, 1000),
            status: door(config.others_per_minute, 60_000),
            requests: door(config.requests_per_second, 1000),
        }))
    }

    pub(super) fn calls(&self) -> Calls {
        self.count(|door| door.calls)
    }

    pub(super) fn faults(&self) -> Calls {
        self.count(|door| door.faults)
    }

    fn count(&self, counter: impl Fn(&Door) -> u64) -> Calls {
        let doors = self.0.lock();
        Calls {
            quote: counter(&doors.quote),
            status: counter(&doors.status),
            requests: counter(&doors.requests),
        }
    }

    pub(super) fn set(&self, endpoint: Option<Endpoint>, fault: &Fault) {
        let mut doors = self.0.lock();
        let all = [Endpoint::Quote, Endpoint::Status, Endpoint::Requests];
        for one in all
            .into_iter()
            .filter(|one| endpoint.is_none_or(|wanted| wanted == *one))
        {
            doors.of(one).fault = (fault.mode != Mode::Off).then(|| fault.clone());
        }
    }
}

impl Limit {
    fn allows(&mut self, now: u64) -> bool {
        while self
            .recent
            .front()
            .is_some_and(|at| at.saturating_add(self.window_ms) <= now)
        {
            self.recent.pop_front();
        }
        let allowed = self.recent.len() < self.calls;
        if allowed {
            self.recent.push_back(now);
        }
        allowed
    }
}

impl Fault {
    /// Whether the call that comes now fails.
    const fn meet(&mut self) -> bool {
        let Some(count) = self.count else {
            return true;
        };
        if let Some(then) = self.then
            && self.met >= count.saturating_add(then)
        {
            self.met = 0;
        }
        let fails = self.met < count;
        self.met = self.met.saturating_add(1);
        fails
    }
}

impl Door {
    fn take_fault(&mut self) -> Option<Fault> {
        let fault = self.fault.as_mut()?;
        let taken = fault.meet().then(|| fault.clone());
        if taken.is_some() {
            self.faults += 1;
        } else if fault.then.is_none() {
            self.fault = None;
        }
        taken
    }
}

/// Lets a call through, or answers in its place.
pub(super) async fn enter(
    app: &App,
    endpoint: Endpoint,
    headers: &HeaderMap,
) -> Result<(), Box<Response>> {
    let (allowed, fault) = {
        let mut doors = app.gate.0.lock();
        let door = doors.of(endpoint);
        door.calls += 1;
        let now = app.clock.now_ms();
        let allowed = door.limit.as_mut().is_none_or(|limit| limit.allows(now));
        (allowed, if allowed { door.take_fault() } else { None })
    };
    if !allowed {
        return Err(Box::new(too_many()));
    }
    if let Some(fault) = fault {
        return Err(Box::new(fail(fault).await));
    }
    let key = headers.get("x-api-key");
    let needed = endpoint == Endpoint::Requests;
    let wrong = key.map_or(needed, |key| key.as_bytes() != app.api_key.as_bytes());
    if wrong {
        return Err(Box::new(refuse_with(
            StatusCode::UNAUTHORIZED,
            "UNAUTHORIZED",
            "Invalid API key",
        )));
    }
    Ok(())
}

fn too_many() -> Response {
    refuse(StatusCode::TOO_MANY_REQUESTS, "Too many requests")
}

async fn fail(fault: Fault) -> Response {
    match fault.mode {
        Mode::RateLimit => too_many(),
        Mode::Garbage => (
            [("content-type", "application/json")],
            "{\"steps\":[{\"id\":<html>",
        )
            .into_response(),
        Mode::Timeout => {
            time::sleep(TIMEOUT).await;
            refuse(StatusCode::GATEWAY_TIMEOUT, "Gateway Timeout")
        }
        Mode::Refuse => refuse_with(
            status_of(&fault.code),
            &fault.code,
            "Refused by a fault of the sandbox",
        ),
        Mode::Error500 | Mode::Off => refuse_with(
            StatusCode::INTERNAL_SERVER_ERROR,
            "UNKNOWN_ERROR",
            "Internal server error",
        ),
    }
}

/// The status the provider gives a code.
fn status_of(code: &str) -> StatusCode {
    match code {
        "UNAUTHORIZED" => StatusCode::UNAUTHORIZED,
        "SERVICE_UNAVAILABLE" => StatusCode::SERVICE_UNAVAILABLE,
        "DESTINATION_TX_FAILED"
        | "UNKNOWN_ERROR"
        | "SWAP_QUOTE_FAILED"
        | "PERMIT_FAILED"
        | "PRICE_FETCH_FAILED"
        | "REQUEST_TIMED_OUT"
        | "RPC_HTTP_ERROR" => StatusCode::INTERNAL_SERVER_ERROR,
        _ => StatusCode::BAD_REQUEST,
    }
}
