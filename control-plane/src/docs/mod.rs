//! The documents that machines and people read: the OpenAPI document and what is made from the same
//! tables.
//!
//! Owns no data. Each route describes itself beside its handler, in its own room; this room puts the
//! descriptions together, adds what every operation of a kind has in common, and describes the two
//! operations that the gateway answers. Invariants: a route of the API cannot stand without its
//! description, because both are registered in one call; nothing here repeats a number, a name or a
//! code that the program itself goes by.

mod errors;
mod examples;
mod gateway;
mod openapi;
mod refusals;
mod schemas;
mod served;
mod texts;

pub use openapi::document;
pub use served::routes;
