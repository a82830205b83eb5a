//! The control plane's tests: one binary, a database each.

mod payments;
