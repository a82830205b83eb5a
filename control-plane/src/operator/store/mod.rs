//! What the operator's verbs read, a file a verb.

pub(super) mod outbox;
pub(super) mod payouts;
pub(super) mod refunds;
pub(super) mod request;
pub(super) mod status;
