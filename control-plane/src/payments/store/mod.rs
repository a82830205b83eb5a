//! All SQL of this room, a file for each verb. What posts transfers is in [`crate::ledger::post`].

pub mod answers;
pub mod claim;
pub mod evidence;
pub mod history;
pub mod outcomes;
pub mod quote;
pub mod sweep;
pub mod waiting;
