//! All SQL of identity, a file for each kind of row.

pub(super) mod by_operator;
pub(super) mod challenges;
pub(super) mod humans;
pub(super) mod keys;
pub(super) mod profiles;
pub(super) mod sessions;
pub(super) mod wallets;
