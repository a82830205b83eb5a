//! The front door of Crochet: it issues 402s, claims payments, forwards signed calls, and passes the
//! rest to the control plane.
//!
//! Read it in this order: [`front`] reads requests off connections, and [`incoming`] is a call as it
//! comes in; [`proxy`] says whose any other request is; [`call`] is the life of a gateway call,
//! [`seller`] talks to sellers, [`cache`] and [`adapter`] talk to the control plane and Redis,
//! [`serve`] starts and stops it all.
//!
//! What it never does: hold a database credential, decide about money, believe Redis, log a key, a
//! seller's URL or a body.

pub mod adapter;
pub mod admin;
pub mod aside;
pub mod cache;
pub mod call;
pub mod client;
pub mod config;
pub mod error;
pub mod front;
pub mod gateway;
pub mod head;
pub mod incoming;
pub mod limits;
pub mod metrics;
pub mod on_way;
pub mod path;
pub mod pieces;
pub mod proxy;
pub mod rate;
pub mod reply;
pub mod seller;
pub mod sending;
pub mod serve;
pub mod tls;
pub mod upstream;
