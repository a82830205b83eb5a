//! The room that talks to sellers' endpoints.
//!
//! It owns: resolving and judging addresses, connections and their reuse, the signed request, the
//! reading of the answer, the breaker and the concurrency permits of each endpoint. It never sees a
//! price, a claim or a buyer's headers, and it never decides what an answer costs.
//!
//! Invariants:
//!
//! - **Deny by default.** [`Egress::check_address`](crochet_shared::egress::Egress::check_address)
//!   is asked about every address of a DNS answer, and again about the one address directly before
//!   each `connect`. One address that fails refuses the host. No redirect is followed, no proxy is
//!   read from the environment, and TLS is verified for the host in the URL.
//! - **Never sent twice.** A request goes to a second connection only while the socket of the first
//!   has accepted none of its bytes ([`wire`]). After that, whatever happens is a failure of this
//!   attempt. [`SendError::Unsent`] is said only where that is proven.
//! - **One deadline** covers resolving, connecting, sending and the whole answer ([`send`]).
//! - **Nothing of the buyer's but the body**: the header set is built from nothing ([`request`]).
//! - **Everything is bounded**: the head of an answer with all its 1xx, the body, idle connections
//!   and their age, DNS answers and their age, addresses tried, the memory of large answers ([`reading`]).
//!
//! Connections have no task of their own: the call that uses one drives it, so an exchange costs no
//! hand-off between tasks, and a call that is dropped takes its connection with it ([`exchange`]).

mod breaker;
mod connect;
mod endpoint;
mod exchange;
mod permit;
mod pool;
mod reading;
mod request;
mod resolve;
mod send;
mod wire;

#[cfg(test)]
mod tests;

pub use breaker::{BreakerConfig, Health};
pub use connect::{Network, NetworkConfig, NetworkError};
pub use endpoint::{Seller, Unservable};
pub use permit::{Closed, Permit, Unavailable};
pub use reading::{Kept, Reading};
pub use request::SignedCall;
pub use send::{SellerAnswer, SendError, Started, Unsent, send};
