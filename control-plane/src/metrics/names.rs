//! The one list of what the control plane counts. `deploy/METRICS.md` shows it; tests hold the two
//! and the code together.

use crochet_shared::metric::{Label, Metric};

use crate::ledger::audit;

/// What gateways ask of the internal API.
const INTERNAL_KIND: Label = (
    "kind",
    &[
        "quotes",
        "quotes_create",
        "claims",
        "check",
        "settlements",
        "answers",
        "probes",
        "keys_used",
    ],
);
const POOL: Label = ("pool", &["main", "browsing", "calling"]);
const INVARIANTS: [&str; audit::INVARIANTS.len()] = invariants();
const WORK: Label = (
    "work",
    &[
        "deadlines",
        "provider_sweep",
        "stored_answers",
        "outcomes",
        "old_attempts",
        "ledger_hours",
        "unused_words",
        "invariants",
        "gauges",
        "refunds",
        "scores",
        "stores",
    ],
);
const ENDPOINT: Label = ("endpoint", &["quote", "requests"]);

/// `route` is the matched template, never a path.
pub const HTTP: Metric = Metric::histogram(
    "crochet_http_request_seconds",
    &[
        ("route", &[]),
        ("method", &[]),
        ("status", &["1xx", "2xx", "3xx", "4xx", "5xx"]),
    ],
    "Requests of the public API, by the template their path matched.",
);
pub const INTERNAL: Metric = Metric::histogram(
    "crochet_internal_request_seconds",
    &[INTERNAL_KIND, ("status", &[])],
    "Requests of gateways, by their HTTP status.",
);
pub const INTERNAL_BATCH: Metric = Metric::histogram(
    "crochet_internal_batch_items",
    &[("kind", &["quotes", "claims", "settlements"])],
    "Items of a gateway's batch.",
);
pub const INTERNAL_UNDERWAY: Metric = Metric::gauge(
    "crochet_internal_underway",
    &[INTERNAL_KIND],
    "Requests of gateways under way.",
);
pub const INTERNAL_MAX: Metric = Metric::gauge(
    "crochet_internal_underway_max",
    &[INTERNAL_KIND],
    "How many may be under way; more are refused.",
);
pub const INTERNAL_REFUSED: Metric = Metric::counter(
    "crochet_internal_refused_total",
    &[INTERNAL_KIND],
    "Requests of gateways refused because too many were under way.",
);
pub const UNAUTHORIZED: Metric = Metric::counter(
    "crochet_internal_unauthorized_total",
    &[],
    "Requests of the internal API without one of its secrets. Nobody but gateways should reach it.",
);

pub const DB_UP: Metric = Metric::gauge("crochet_db_up", &[], "1 while Postgres answers.");
pub const DB_CONNECTIONS: Metric = Metric::gauge(
    "crochet_db_connections",
    &[POOL, ("state", &["idle", "used"])],
    "Connections to Postgres.",
);
pub const DB_MAX: Metric = Metric::gauge(
    "crochet_db_connections_max",
    &[POOL],
    "Most connections of a pool.",
);
pub const DB_ACQUIRE: Metric = Metric::histogram(
    "crochet_db_acquire_seconds",
    &[POOL],
    "How long a connection was waited for: by every transaction, and by a look every 5 s.",
);
pub const DB_TRANSACTION: Metric = Metric::histogram(
    "crochet_db_transaction_seconds",
    &[
        ("name", &[]),
        ("result", &["committed", "retried", "rolled_back"]),
    ],
    "Named transactions, by how each run ended.",
);

pub const REDIS_UP: Metric = Metric::gauge("crochet_redis_up", &[], "1 while Redis answers.");
pub const REDIS: Metric = Metric::counter(
    "crochet_redis_requests_total",
    &[
        ("use", &["publish", "limits"]),
        ("result", &["answered", "failed"]),
    ],
    "What was asked of Redis.",
);
pub const PUBLISHED: Metric = Metric::counter(
    "crochet_outbox_published_total",
    &[],
    "Changes told to gateways.",
);
pub const OUTBOX_LAG: Metric = Metric::histogram(
    "crochet_outbox_lag_seconds",
    &[],
    "From a change's transaction to its publication.",
);
pub const OUTBOX_WAITING: Metric =
    Metric::gauge("crochet_outbox_waiting", &[], "Changes not told yet.");
pub const ENDPOINTS_SEALED: Metric = Metric::counter(
    "crochet_endpoints_sealed_total",
    &[],
    "Looks at an endpoint that could not be opened, its secrets being under another key than CROCHET_MASTER_KEYS has. Gateways are told that it cannot be served.",
);
pub const OUTBOX_OLDEST: Metric = Metric::gauge(
    "crochet_outbox_oldest_seconds",
    &[],
    "Age of the oldest change not told yet.",
);

pub const RELAY_UP: Metric = Metric::gauge(
    "crochet_relay_up",
    &[],
    "0 while calls to the payment provider pause after its failures.",
);
pub const RELAY: Metric = Metric::counter(
    "crochet_relay_calls_total",
    &[
        ENDPOINT,
        (
            "result",
            &[
                "answered",
                "refused",
                "limited",
                "server_error",
                "silent",
                "nonsense",
                "not_asked",
            ],
        ),
    ],
    "Calls to the payment provider. `refused`: it understood and said no. `not_asked`: over our own limit, or paused.",
);
pub const RELAY_SECONDS: Metric = Metric::histogram(
    "crochet_relay_call_seconds",
    &[ENDPOINT],
    "How long the payment provider took, whatever came of it.",
);
pub const CHECKS_WAITING: Metric = Metric::gauge(
    "crochet_checks_waiting",
    &[],
    "Questions about payments that wait for a call to the provider.",
);
pub const WEBHOOKS: Metric = Metric::counter(
    "crochet_webhooks_total",
    &[("result", &["genuine", "forged"])],
    "The provider's webhooks.",
);

pub const QUOTES: Metric = Metric::counter(
    "crochet_quotes_total",
    &[("result", &["new", "found", "refused"])],
    "Quotes asked for: made, found open, or refused.",
);
pub const EVIDENCE: Metric = Metric::counter(
    "crochet_evidence_total",
    &[("result", &["paid", "mismatch"])],
    "Payments recorded. `mismatch`: the provider's success is not what was quoted, a refund is due.",
);
pub const CLAIMS: Metric = Metric::counter(
    "crochet_claims_total",
    &[(
        "answer",
        &[
            "claimed",
            "delivered",
            "no_longer_stored",
            "in_progress",
            "closed",
            "paid",
            "unevidenced",
            "mismatch",
            "unknown",
            "undecided",
        ],
    )],
    "Claims by their answer. `delivered`, `no_longer_stored`, `in_progress` and `closed` are payments presented again: duplicate redeems refused.",
);
pub const SETTLEMENTS: Metric = Metric::counter(
    "crochet_settlements_total",
    &[(
        "answer",
        &[
            "delivered",
            "released",
            "refund_due",
            "not_owner",
            "undecided",
        ],
    )],
    "Settlements by their answer.",
);
pub const SETTLED_MICROS: Metric = Metric::counter(
    "crochet_settled_micros_total",
    &[("account", &["seller", "fees"])],
    "Micro-dollars settled, by whose they became.",
);
pub const SETTLEMENT_LAG: Metric = Metric::histogram(
    "crochet_settlement_lag_seconds",
    &[],
    "From a payment's evidence to the settlement of its delivered call.",
);
pub const LAPSED: Metric = Metric::counter(
    "crochet_lapsed_total",
    &[("result", &["paid", "refund_due"])],
    "What time ended. `paid`: a claim whose outcome stayed unknown until its lease was over; it may be claimed again.",
);
pub const POISON: Metric = Metric::counter(
    "crochet_poison_items_total",
    &[],
    "Items of a batch that the database refuses alone. Each needs an operator's eye.",
);
pub const OPEN_REQUESTS: Metric = Metric::gauge(
    "crochet_open_requests",
    &[("state", &["quoted", "paid", "claimed"])],
    "Purchases that are not closed. `paid` and `claimed` are paid and not delivered.",
);
pub const OPEN_MICROS: Metric = Metric::gauge(
    "crochet_open_micros",
    &[("state", &["quoted", "paid", "claimed"])],
    "Their prices. `paid` and `claimed` together stand in clearing.",
);
pub const PAID_OLDEST: Metric = Metric::gauge(
    "crochet_paid_oldest_seconds",
    &[],
    "Age of the oldest payment that is neither delivered nor closed.",
);
pub const DEPOSIT_OLDEST: Metric = Metric::gauge(
    "crochet_deposit_oldest_seconds",
    &[],
    "How long the oldest deposit is known that the provider has neither filled nor sent back.",
);
pub const REFUND_DUE: Metric = Metric::gauge(
    "crochet_refund_due_requests",
    &[],
    "Purchases whose refund is due, and delivered ones that were paid beyond their price by what is worth sending back.",
);
pub const REFUND_DUE_MICROS: Metric =
    Metric::gauge("crochet_refund_due_micros", &[], "What is owed for them.");
pub const REFUND_DUE_OLDEST: Metric = Metric::gauge(
    "crochet_refund_due_oldest_seconds",
    &[],
    "How long the oldest of them waits.",
);
pub const DUST: Metric = Metric::gauge(
    "crochet_surplus_dust_requests",
    &[],
    "Delivered purchases that were paid beyond their price by less than sending it back costs; not in `crochet_refund_due_requests`.",
);
pub const DUST_MICROS: Metric =
    Metric::gauge("crochet_surplus_dust_micros", &[], "What is owed for them.");
pub const OVERDUE: Metric = Metric::gauge(
    "crochet_deadlines_overdue",
    &[],
    "Requests more than 30 s past the time they had to be looked at.",
);
pub const VIOLATIONS: Metric = Metric::gauge(
    "crochet_invariant_violations",
    &[("invariant", &INVARIANTS)],
    "Rows that violate an invariant, of the last two days and at most 100. Always 0. `hours_agree_with_ledger` looks at each hour once, when it is over, and goes on when it is as it should be. `successes_are_in_evidence` counts the provider's successes without evidence.",
);
pub const UNFINISHED: Metric = Metric::gauge(
    "crochet_invariant_unfinished",
    &[("invariant", &INVARIANTS)],
    "1 when the last look at an invariant failed or ran out of its time: its violations are those of a look before.",
);

pub const BACKGROUND: Metric = Metric::counter(
    "crochet_background_total",
    &[WORK, ("result", &["done", "failed"])],
    "Turns of background work.",
);
pub const BACKGROUND_DONE: Metric = Metric::gauge(
    "crochet_background_done_timestamp_seconds",
    &[WORK],
    "When each kind of background work last succeeded, as Unix time.",
);
pub const SCORES: Metric = Metric::counter(
    "crochet_scores_computed_total",
    &[],
    "Crochet Scores computed.",
);
pub const SCORE_LAG: Metric = Metric::gauge(
    "crochet_score_fold_lag_seconds",
    &[],
    "How far scores are behind the calls they are made of.",
);

/// All of them.
pub const ALL: [Metric; 48] = [
    HTTP,
    INTERNAL,
    INTERNAL_BATCH,
    INTERNAL_UNDERWAY,
    INTERNAL_MAX,
    INTERNAL_REFUSED,
    UNAUTHORIZED,
    DB_UP,
    DB_CONNECTIONS,
    DB_MAX,
    DB_ACQUIRE,
    DB_TRANSACTION,
    REDIS_UP,
    REDIS,
    PUBLISHED,
    OUTBOX_LAG,
    OUTBOX_WAITING,
    OUTBOX_OLDEST,
    ENDPOINTS_SEALED,
    RELAY_UP,
    RELAY,
    RELAY_SECONDS,
    CHECKS_WAITING,
    WEBHOOKS,
    QUOTES,
    EVIDENCE,
    CLAIMS,
    SETTLEMENTS,
    SETTLED_MICROS,
    SETTLEMENT_LAG,
    LAPSED,
    POISON,
    OPEN_REQUESTS,
    OPEN_MICROS,
    PAID_OLDEST,
    DEPOSIT_OLDEST,
    REFUND_DUE,
    REFUND_DUE_MICROS,
    REFUND_DUE_OLDEST,
    DUST,
    DUST_MICROS,
    OVERDUE,
    VIOLATIONS,
    UNFINISHED,
    BACKGROUND,
    BACKGROUND_DONE,
    SCORES,
    SCORE_LAG,
];

#[expect(
    clippy::indexing_slicing,
    reason = "evaluated by the compiler, which would refuse"
)]
const fn invariants() -> [&'static str; audit::INVARIANTS.len()] {
    let mut names = [""; audit::INVARIANTS.len()];
    let mut at = 0;
    while at < names.len() {
        names[at] = audit::INVARIANTS[at].name;
        at += 1;
    }
    names
}
