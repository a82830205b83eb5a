//! Counting callers in one place for many processes (contract §2, "Rate limits").
//!
//! A window begins with a caller's first call and lasts a fixed time. Its count stands in Redis, so
//! that all processes that enforce a limit fill one window; each process also keeps what it was told
//! last, which is what holds while Redis is away and what restores a count that Redis has lost.
//!
//! Names in Redis hold ids, and of addresses a keyed digest: no API key, no address. Counts stand
//! there in clear; whoever writes to Redis can slow callers down, or let them hurry, and no more.

use std::net::IpAddr;

use uuid::Uuid;

use crate::redis_key::push_hex;
use crate::seal::Keyring;

/// How much of an IPv6 address is counted: what one customer is given (contract §1).
const IPV6_PREFIX_BITS: u32 = 64;

/// What is limited. Each kind counts for itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Gateway calls of an API key.
    Calls,
    /// Reads of an API key on the control plane.
    Reads,
    /// Writes of an API key on the control plane.
    Writes,
    /// Sign-in and challenge calls of an address.
    SignIn,
    /// Sign-ins to a human account, by the digest of its e-mail address.
    EmailSignIn,
    /// Unknown keys of an address, at gateways and control planes together.
    UnknownKeys,
    /// New quotes of a buyer.
    Quotes,
}

impl Kind {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Calls => "calls",
            Self::Reads => "reads",
            Self::Writes => "writes",
            Self::SignIn => "sign_in",
            Self::EmailSignIn => "email_sign_in",
            Self::UnknownKeys => "unknown_keys",
            Self::Quotes => "quotes",
        }
    }
}

/// The count of a caller who has an id: a key's own id (not its text, not its digest), a profile's.
pub fn by_id(kind: Kind, id: Uuid) -> String {
    format!("crochet:limit:{}:{}", kind.as_str(), id.simple())
}

/// The count of a caller who has only an address. `keys` are the gateway cache keys, which all
/// processes share; without them an IPv4 address could be found by trying them all.
pub fn by_address(kind: Kind, keys: &Keyring, address: IpAddr) -> String {
    let text = counted(address).to_string();
    let mut name = format!("crochet:limit:{}:", kind.as_str());
    push_hex(&keys.pseudonym(text.as_bytes()), &mut name);
    name
}

/// What of an address is counted: an IPv4 address, also a mapped one, or an IPv6 one's /64.
pub fn counted(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => {
            let kept = u128::MAX << (128 - IPV6_PREFIX_BITS);
            IpAddr::V6((u128::from(v6) & kept).into())
        }
        v4 @ IpAddr::V4(_) => v4,
    }
}

/// Adds a control plane's hits to a window and tells how it stands: `{count, milliseconds left}`.
///
/// `KEYS[1]` the name; `ARGV[1]` hits to add, `ARGV[2]` the count this process was told last, 0 for
/// none, `ARGV[3]` the milliseconds its window lasts still, or a whole window's for a new one.
///
/// A window is a hash, so that each gateway's part stands for itself ([`TELL`]). One that is gone
/// begins again, as the caller knows it. A count below what the caller was told of the same window
/// has been lost (`FLUSHALL`, a restart) and is restored. Windows are the same when they end within
/// a quarter of a second; hits of a window that is over are not added to the next one.
pub const COUNT: &str = r"
local hits, known, mine = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local left, total = redis.call('PTTL', KEYS[1]), 0
if left > 0 then
  for _, part in ipairs(redis.call('HVALS', KEYS[1])) do total = total + part end
else
  redis.call('DEL', KEYS[1])
  left = mine
end
if known > 0 and left - mine > 250 then return {total, left} end
if mine - left <= 250 and known > total then hits = hits + known - total end
redis.call('HINCRBY', KEYS[1], 'control_planes', hits)
redis.call('PEXPIRE', KEYS[1], left)
return {total + hits, left}
";

/// Says how many hits a gateway has had in a window, and tells how it stands, as [`COUNT`] does.
///
/// `KEYS[1]` the name; `ARGV[1]` the process's own name, `ARGV[2]` its hits, all of them: said twice
/// they count once, and a Redis that lost them has them again; `ARGV[3]` the milliseconds its window
/// lasts still; `ARGV[4]` 1 when it was told of this window before.
pub const TELL: &str = r"
local mine = tonumber(ARGV[3])
local left, total = redis.call('PTTL', KEYS[1]), 0
local over = false
if left <= 0 then
  redis.call('DEL', KEYS[1])
  left = mine
else
  over = ARGV[4] == '1' and left - mine > 250
end
if not over then
  redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
  redis.call('PEXPIRE', KEYS[1], left)
end
for _, part in ipairs(redis.call('HVALS', KEYS[1])) do total = total + part end
return {total, left}
";

/// Notes that a gateway lives and tells how many do. `KEYS[1]` is [`GATEWAYS`], `ARGV[1]` the
/// process's own random name. On Redis's clock, so that nobody else's matters.
pub const COUNT_GATEWAYS: &str = r"
local now = tonumber(redis.call('TIME')[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - 5)
redis.call('ZADD', KEYS[1], now, ARGV[1])
redis.call('EXPIRE', KEYS[1], 10)
return redis.call('ZCARD', KEYS[1])
";

/// Where gateways note that they live.
pub const GATEWAYS: &str = "crochet:gateways";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ipv6_counts_by_64_bits_and_a_mapped_address_as_the_ipv4_one_it_is() {
        let of = |text: &str| counted(text.parse().unwrap()).to_string();
        assert_eq!(of("2001:db8:1:2::1"), of("2001:db8:1:2:ffff::9"));
        assert_ne!(of("2001:db8:1:2::1"), of("2001:db8:1:3::1"));
        assert_eq!(of("::ffff:10.0.0.1"), "10.0.0.1");
        assert_ne!(of("10.0.0.1"), of("10.0.0.2"));
    }

    #[test]
    fn a_name_tells_no_address_and_differs_by_kind_caller_and_key() {
        let keys = Keyring::parse("k:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=").unwrap();
        let other = Keyring::parse("k:AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=").unwrap();
        let address: IpAddr = "203.0.113.7".parse().unwrap();
        let name = by_address(Kind::UnknownKeys, &keys, address);
        assert!(!name.contains("203") && name.starts_with("crochet:limit:unknown_keys:"));
        assert_eq!(name, by_address(Kind::UnknownKeys, &keys, address));
        assert_ne!(name, by_address(Kind::UnknownKeys, &other, address));
        assert_ne!(name, by_address(Kind::SignIn, &keys, address));
        let neighbour = "203.0.113.8".parse().unwrap();
        assert_ne!(name, by_address(Kind::UnknownKeys, &keys, neighbour));
        let id = Uuid::from_u128(7);
        assert_ne!(by_id(Kind::Reads, id), by_id(Kind::Writes, id));
    }
}
