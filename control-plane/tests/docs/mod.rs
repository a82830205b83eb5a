//! The documents: made from the code, checked in, and true to themselves.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that meets what it does not expect is to fail, there and then"
)]

mod openapi;
mod seed;
mod served;
