//! The control plane's tests: one binary, a database each.

mod api;
mod docs;
mod operator;
mod payments;
mod rooms;
