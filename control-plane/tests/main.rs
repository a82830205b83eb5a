//! The control plane's tests: one binary, a database each.

mod api;
mod docs;
mod migrations;
mod operator;
mod payments;
mod rooms;
