//! The one list of what a gateway counts. `deploy/METRICS.md` shows it; a test holds the two together.

use crochet_shared::metric::{Label, Metric};

/// What the gateway batches.
pub(crate) const BATCHES: [&str; 3] = ["claims", "quotes", "settlements"];
/// What the gateway believes for a moment.
pub(crate) const CACHES: [&str; 3] = ["key", "route", "quote"];
/// Classes of statuses.
pub(crate) const CLASSES: [&str; 6] = ["1xx", "2xx", "3xx", "4xx", "5xx", "none"];

const KIND: Label = ("kind", &BATCHES);
const CACHE: Label = ("cache", &CACHES);

pub(super) const ANSWERS: Metric = Metric::counter(
    "gateway_answers_total",
    &[("route", &["call", "test", "other"]), ("result", &[])],
    "Answers of the gateway's own. `result` is the contract's code, or `delivered`, `replayed`, `pending`, `tested`, `preflight`.",
);
pub(super) const PASSED: Metric = Metric::counter(
    "gateway_passed_total",
    &[("status", &CLASSES)],
    "Requests passed to the control plane, by the class of its answer; `none` when it could not be reached.",
);
pub(super) const CALL: Metric = Metric::histogram(
    "gateway_call_seconds",
    &[(
        "result",
        &[
            "delivered",
            "replayed",
            "payment_required",
            "pending",
            "tested",
            "refused",
        ],
    )],
    "From a request's arrival to its answer's last byte handed over.",
);
pub(super) const OVERHEAD: Metric = Metric::histogram(
    "gateway_overhead_seconds",
    &[],
    "What a delivered call took besides the seller: total less the time from the first connect to her last byte.",
);
pub(super) const PHASE: Metric = Metric::histogram(
    "gateway_phase_seconds",
    &[("phase", &["claim", "forward", "settle", "quote", "check"])],
    "Steps of a call: the claim until its answer, the seller's part (`forward`), the settlement until it is durable, a quote asked of the control plane, the provider asked about a payment (`check`).",
);
pub(super) const FORWARDS: Metric = Metric::counter(
    "gateway_forwards_total",
    &[(
        "outcome",
        &[
            "handled",
            "status",
            "unreachable",
            "timeout",
            "too_large",
            "invalid",
            "too_late",
        ],
    )],
    "Calls to sellers by how they ended. `handled` bills; `too_late` was not sent because too little of the lease was left.",
);
pub(super) const REFUSED: Metric = Metric::counter(
    "gateway_refused_total",
    &[(
        "reason",
        &[
            "seller_withdrawn",
            "seller_breaker",
            "seller_busy",
            "body_budget",
            "key_rate",
            "stranger_rate",
        ],
    )],
    "Calls refused for a want of room or of a seller, by reason.",
);
pub(super) const UNDERWAY: Metric = Metric::gauge(
    "gateway_underway",
    &[],
    "Requests and claimed calls under way.",
);
pub(super) const SELLERS_UNDERWAY: Metric = Metric::gauge(
    "gateway_seller_calls_underway",
    &[],
    "Places taken at sellers' endpoints, all together.",
);
pub(super) const BREAKERS: Metric = Metric::gauge(
    "gateway_breakers",
    &[("state", &["open", "half_open"])],
    "Endpoints known here whose breaker is not closed.",
);
pub(super) const BREAKERS_OPENED: Metric = Metric::counter(
    "gateway_breakers_opened_total",
    &[],
    "How often a call's failure opened a breaker.",
);
pub(super) const BUDGET_LEFT: Metric = Metric::gauge(
    "gateway_body_budget_left_bytes",
    &[],
    "Bytes not taken of the half of the body budget that has less left.",
);
pub(super) const BUDGET: Metric =
    Metric::gauge("gateway_body_budget_bytes", &[], "Half of the body budget.");
pub(super) const CACHE_READS: Metric = Metric::counter(
    "gateway_cache_reads_total",
    &[CACHE, ("result", &["hit", "stale", "miss"])],
    "Looks into this process's memory. `stale`: it was known, and too old or changed since.",
);
pub(super) const CACHE_FETCHES: Metric = Metric::counter(
    "gateway_cache_fetches_total",
    &[CACHE, ("from", &["redis", "control_plane"])],
    "Records fetched after a miss, by who had them.",
);
pub(super) const CHANGES: Metric = Metric::counter(
    "gateway_changes_total",
    &[CACHE],
    "Changes heard of through Redis.",
);
pub(super) const LAG: Metric = Metric::histogram(
    "gateway_invalidation_lag_seconds",
    &[],
    "From a change's publication by the control plane to its arrival here, by the two machines' clocks.",
);
pub(super) const CHANGES_CONNECTED: Metric = Metric::gauge(
    "gateway_changes_connected",
    &[],
    "1 while changes are heard of through Redis.",
);
pub(super) const TOLD_AGE: Metric = Metric::gauge(
    "gateway_told_age_seconds",
    &[],
    "How long ago it is, by this clock, until when the control plane has told of everything. From 3 s on nothing is believed that Redis holds.",
);
pub(super) const CLOCK_AHEAD: Metric = Metric::gauge(
    "gateway_clock_ahead_seconds",
    &[],
    "How far this clock was ahead of the control plane's when it last told so; below zero when it was behind.",
);
pub(super) const LIMITS_SHARED: Metric = Metric::gauge(
    "gateway_limits_shared",
    &[],
    "1 while calls are counted together with other gateways, through Redis.",
);
pub(super) const REDIS: Metric = Metric::counter(
    "gateway_redis_requests_total",
    &[
        ("command", &["get", "pipeline"]),
        ("result", &["answered", "failed", "left_alone"]),
    ],
    "What was asked of Redis. `left_alone`: not asked, half a second after a failure.",
);
pub(super) const CONTROL_PLANE_UP: Metric = Metric::gauge(
    "gateway_control_plane_up",
    &[],
    "1 while the internal API answers.",
);
pub(super) const INTERNAL: Metric = Metric::counter(
    "gateway_internal_requests_total",
    &[
        ("call", &super::INTERNAL_CALLS),
        ("result", &["answered", "unreachable", "lost", "failed"]),
    ],
    "Requests to the internal API. `lost`: no reply in time, or 503; nothing is known of what was asked.",
);
pub(super) const INTERNAL_SECONDS: Metric = Metric::histogram(
    "gateway_internal_request_seconds",
    &[("call", &super::INTERNAL_CALLS)],
    "How long the internal API took, whatever came of it.",
);
pub(super) const BATCH: Metric =
    Metric::histogram("gateway_batch_items", &[KIND], "Items that left together.");
pub(super) const QUEUE: Metric = Metric::gauge(
    "gateway_queue_waiting",
    &[KIND],
    "Items that wait for a batch to leave.",
);
pub(super) const QUEUE_MAX: Metric = Metric::gauge(
    "gateway_queue_capacity",
    &[KIND],
    "Items that may wait; more are refused.",
);
pub(super) const QUEUE_FULL: Metric = Metric::counter(
    "gateway_queue_full_total",
    &[KIND],
    "Items refused because too many waited.",
);
pub(super) const REPLIES_LOST: Metric = Metric::counter(
    "gateway_replies_lost_total",
    &[("step", &["claim", "settle"])],
    "Unknown outcomes: claims and settlements whose reply was lost and asked for again.",
);
pub(super) const SETTLE_LATE: Metric = Metric::counter(
    "gateway_settle_late_total",
    &[],
    "Settlements not durable within the 5 s a buyer is kept waiting. They go on without her.",
);
pub(super) const SETTLE_ABANDONED: Metric = Metric::counter(
    "gateway_settle_abandoned_total",
    &[],
    "Settlements given up after their lease. Each needs an operator's eye.",
);
pub(super) const CUT_OFF: Metric = Metric::counter(
    "gateway_answers_cut_off_total",
    &[],
    "Delivered answers cut off on their way, because slow readers held more than may be held; buyers ask again.",
);
pub(super) const CROWDED_OUT: Metric = Metric::counter(
    "gateway_answers_crowded_out_total",
    &[],
    "Sellers' large answers given up for want of room: they came slowly and others waited, or waited themselves until their deadline. Their buyers hear `SELLER_TIMEOUT`.",
);
pub(super) const SETTLE_NOT_OWNER: Metric = Metric::counter(
    "gateway_settle_not_owner_total",
    &[],
    "Settlements that found the claim ended without them.",
);
pub(super) const LEASE_TOO_SHORT: Metric = Metric::counter(
    "gateway_lease_too_short_total",
    &[],
    "Claims released because too little of the lease was left.",
);
pub(super) const DRAINING: Metric = Metric::gauge(
    "gateway_draining",
    &[],
    "1 from SIGTERM on: readiness fails and connections are not kept.",
);
pub(super) const CERTIFICATES: Metric = Metric::counter(
    "gateway_tls_certificates_total",
    &[("outcome", &["taken", "refused"])],
    "New certificates found in their files since the start. While one is `refused`, the one before it serves.",
);
pub(super) const CERTIFICATE_REFUSED: Metric = Metric::gauge(
    "gateway_tls_certificate_refused",
    &[],
    "1 while the files hold a certificate that was refused, and the one before it serves.",
);
pub(super) const CERTIFICATE_ENDS: Metric = Metric::gauge(
    "gateway_tls_certificate_ends_seconds",
    &[],
    "When the certificate that serves ends, in Unix seconds; 0 where TLS is not served.",
);
pub(super) const STREAMS_REFUSED: Metric = Metric::counter(
    "gateway_http2_refused_total",
    &[],
    "HTTP/2 requests refused because 200 of their connection were worked on, most of them reset by their client.",
);

/// All of them.
pub const ALL: [Metric; 41] = [
    ANSWERS,
    PASSED,
    CALL,
    OVERHEAD,
    PHASE,
    FORWARDS,
    REFUSED,
    UNDERWAY,
    SELLERS_UNDERWAY,
    BREAKERS,
    BREAKERS_OPENED,
    BUDGET_LEFT,
    BUDGET,
    CACHE_READS,
    CACHE_FETCHES,
    CHANGES,
    LAG,
    CHANGES_CONNECTED,
    TOLD_AGE,
    CLOCK_AHEAD,
    LIMITS_SHARED,
    REDIS,
    CONTROL_PLANE_UP,
    INTERNAL,
    INTERNAL_SECONDS,
    BATCH,
    QUEUE,
    QUEUE_MAX,
    QUEUE_FULL,
    REPLIES_LOST,
    SETTLE_LATE,
    SETTLE_ABANDONED,
    CUT_OFF,
    CROWDED_OUT,
    SETTLE_NOT_OWNER,
    LEASE_TOO_SHORT,
    DRAINING,
    CERTIFICATES,
    CERTIFICATE_REFUSED,
    CERTIFICATE_ENDS,
    STREAMS_REFUSED,
];
