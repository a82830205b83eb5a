//! The parts of a stack, in the order of starting.

/// A process of a stack. The order is the order of starting; stopping goes the other way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// The database, when it is the stack's own.
    Postgres,
    /// The cache, when it is the stack's own.
    Redis,
    /// The payment provider's stand-in.
    Relay,
    /// The seller's stand-in.
    DemoSeller,
    /// The control plane.
    ControlPlane,
    /// Another control plane beside it, where a test starts one.
    SecondControlPlane,
    /// The gateway of this number, from 0.
    Gateway(usize),
}

impl std::fmt::Display for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Postgres => f.write_str("postgres"),
            Self::Redis => f.write_str("redis"),
            Self::Relay => f.write_str("relay-sandbox"),
            Self::DemoSeller => f.write_str("demo-seller"),
            Self::ControlPlane => f.write_str("control-plane"),
            Self::SecondControlPlane => f.write_str("control-plane-2"),
            Self::Gateway(0) => f.write_str("gateway"),
            Self::Gateway(number) => write!(f, "gateway-{}", number + 1),
        }
    }
}
