//! Payments and ledger, from a quote to a settled answer.

mod claims;
mod evidence;
mod quotes;
mod settlements;
mod stage;
