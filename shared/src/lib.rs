//! The vocabulary of Crochet's two services, with no I/O.
//!
//! Whatever both the control plane and the gateway must spell, compute or check in the same way
//! lives here once: ids, money, error codes, headers, signatures, address rules, the internal API.
//! Nothing here reads a clock, a socket, a file or the environment; time and randomness come in as
//! arguments, or through [`clock`] and [`id`], which are the two places that ask the system.

pub mod api_key;
pub mod clock;
pub mod code;
pub mod egress;
pub mod envelope;
pub mod fault;
pub mod header;
pub mod id;
pub mod internal;
pub mod json;
pub mod limit;
pub mod metric;
pub mod money;
pub mod outcome;
pub mod page;
pub mod redis_key;
pub mod route;
pub mod seal;
pub mod signing;
