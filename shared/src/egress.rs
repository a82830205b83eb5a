//! Where Crochet may connect on a seller's behalf. Deny by default.
//!
//! A seller names a URL and Crochet calls it: the rules here keep that from reaching anything but a
//! public host (contract §4, "Endpoint URLs"). They are pure; resolving names is the callers' part,
//! and both callers (saving, connecting) judge every address with [`Egress::allows`].

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use url::{Host, Url};

/// Longest URL, in characters, as it is written and as it is sent.
pub const URL_CHARS_MAX: usize = 2048;

/// What is allowed beyond public https.
#[derive(Clone, Debug, Default)]
pub struct Egress {
    /// Networks that are allowed although they are not public, on any port (`ENDPOINT_ALLOW_CIDRS`).
    pub allow_cidrs: Vec<IpNet>,
    /// Whether plain http is allowed (`ENDPOINT_ALLOW_HTTP`).
    pub allow_http: bool,
    /// Ports besides 443 (`ENDPOINT_PORTS`).
    pub ports: Vec<u16>,
    /// Our own public host, which no endpoint may be.
    pub own_host: Option<String>,
    /// Its port, by which our own address is told from its neighbours where `own_host` is one.
    pub own_port: Option<u16>,
}

/// Why a URL or an address is refused. Only the kind is told to anyone; never an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Forbidden {
    /// Not a URL, too long, or with control characters.
    #[error("must be a valid URL of at most 2048 characters")]
    Malformed,
    /// Neither https nor, where allowed, http.
    #[error("must be https")]
    Scheme,
    /// With a user name or password.
    #[error("must not hold credentials")]
    Credentials,
    /// With a fragment.
    #[error("must not hold a fragment")]
    Fragment,
    /// On a port that is not allowed.
    #[error("must use an allowed port")]
    Port,
    /// An address that is not public, or our own host.
    #[error("must be at a host whose every address is public")]
    Address,
    /// A name without any address, in the time allowed.
    #[error("must be at a host that resolves")]
    Unresolved,
}

/// Where to connect, taken from a URL that passed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Whether to speak TLS.
    pub tls: bool,
    /// The name to resolve and to verify TLS for, or an address literal.
    pub host: TargetHost,
    /// The port.
    pub port: u16,
    /// The value of `Host`: the host, and the port when it is not the scheme's own.
    pub authority: String,
    /// The path and query, beginning with a slash.
    pub path_and_query: String,
}

/// A host by name or by address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TargetHost {
    /// To be resolved; lowercase, IDNA-encoded, without a trailing dot.
    Name(String),
    /// A literal, in any of the spellings the URL standard reads as one.
    Address(IpAddr),
}

impl Target {
    /// The URL as its owner sees it again: scheme and host, the rest hidden (contract: `url_hint`).
    pub fn hint(&self) -> String {
        let scheme = if self.tls { "https" } else { "http" };
        format!("{scheme}://{}/…", self.authority)
    }
}

impl Egress {
    /// Judges a URL by itself. Addresses behind a name are still to be resolved and judged.
    ///
    /// The URL standard's parser runs first, so octal, hexadecimal and short IPv4 spellings are
    /// judged as the address they mean.
    pub fn check_url(&self, text: &str) -> Result<Target, Forbidden> {
        let printable = |c: char| !c.is_control() && !c.is_whitespace();
        if text.chars().count() > URL_CHARS_MAX || !text.chars().all(printable) {
            return Err(Forbidden::Malformed);
        }
        let url = Url::parse(text).map_err(|_| Forbidden::Malformed)?;
        // As it is sent, too: what is not ASCII is three times as long or more then.
        if url.as_str().len() > URL_CHARS_MAX {
            return Err(Forbidden::Malformed);
        }
        let tls = match url.scheme() {
            "https" => true,
            "http" if self.allow_http => false,
            _ => return Err(Forbidden::Scheme),
        };
        if !url.username().is_empty() || url.password().is_some() {
            return Err(Forbidden::Credentials);
        }
        if url.fragment().is_some() {
            return Err(Forbidden::Fragment);
        }
        let host = match url.host().ok_or(Forbidden::Malformed)? {
            Host::Ipv4(ip) => TargetHost::Address(IpAddr::V4(ip)),
            Host::Ipv6(ip) => TargetHost::Address(IpAddr::V6(ip)),
            Host::Domain(name) => TargetHost::Name(self.check_name(name)?),
        };
        let port = url.port_or_known_default().ok_or(Forbidden::Port)?;
        let target = Target {
            tls,
            port,
            authority: authority(&host, url.port()),
            path_and_query: url[url::Position::BeforePath..url::Position::AfterQuery].to_owned(),
            host,
        };
        match target.host {
            TargetHost::Address(ip) => self.check_address(ip, port)?,
            TargetHost::Name(_) => self.check_port_of_name(port)?,
        }
        Ok(target)
    }

    /// Judges one address a name resolved to, or a literal. This is the check that stands directly
    /// before every connection.
    pub fn check_address(&self, ip: IpAddr, port: u16) -> Result<(), Forbidden> {
        // ::ffff:0:0/96 is not globally routable, and an allowed IPv4 network does not open it.
        if is_mapped(ip) || self.is_own(ip, port) {
            return Err(Forbidden::Address);
        }
        if self.allow_cidrs.iter().any(|net| net.contains(&ip)) {
            return Ok(());
        }
        if !is_public(ip) {
            return Err(Forbidden::Address);
        }
        if self.port_allowed(port) {
            Ok(())
        } else {
            Err(Forbidden::Port)
        }
    }

    /// Whether an address may be connected to on this port.
    pub fn allows(&self, ip: IpAddr, port: u16) -> bool {
        self.check_address(ip, port).is_ok()
    }

    /// Whether this is our own front door, where `PUBLIC_BASE_URL` names it by address.
    fn is_own(&self, ip: IpAddr, port: u16) -> bool {
        let own = self
            .own_host
            .as_deref()
            .map(|own| own.trim_matches(['[', ']']));
        own.is_some_and(|own| own.parse() == Ok(ip)) && self.own_port == Some(port)
    }

    fn check_name(&self, name: &str) -> Result<String, Forbidden> {
        let name = name.strip_suffix('.').unwrap_or(name);
        let own = self
            .own_host
            .as_deref()
            .is_some_and(|own| own.eq_ignore_ascii_case(name));
        // An empty label, and with it more than one dot at the end, is no part of a name; without them what
        // is left might read as an address.
        if name.split('.').any(str::is_empty) {
            return Err(Forbidden::Malformed);
        }
        if own {
            return Err(Forbidden::Address);
        }
        Ok(name.to_ascii_lowercase())
    }

    /// A name may lead into an allowed network, where any port goes; without one the port decides.
    fn check_port_of_name(&self, port: u16) -> Result<(), Forbidden> {
        if !self.allow_cidrs.is_empty() || self.port_allowed(port) {
            return Ok(());
        }
        Err(Forbidden::Port)
    }

    fn port_allowed(&self, port: u16) -> bool {
        port == 443 || self.ports.contains(&port)
    }
}

fn authority(host: &TargetHost, port: Option<u16>) -> String {
    let host = match host {
        TargetHost::Name(name) => name.clone(),
        TargetHost::Address(IpAddr::V4(ip)) => ip.to_string(),
        TargetHost::Address(IpAddr::V6(ip)) => format!("[{ip}]"),
    };
    port.map_or_else(|| host.clone(), |port| format!("{host}:{port}"))
}

/// An IPv4 address in IPv6 clothing: the kernel would connect to the IPv4 address.
fn is_mapped(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some())
}

/// The port of a public origin, said or by its scheme: [`Egress::own_port`].
pub fn port_of(origin: &str) -> Option<u16> {
    Url::parse(origin).ok()?.port_or_known_default()
}

/// Whether the IANA special-purpose registries leave an address globally routable.
pub fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => !SPECIAL_V4.iter().any(|net| net.contains(&ip)),
        IpAddr::V6(ip) => {
            GLOBAL_V6.contains(&ip) && !SPECIAL_V6.iter().any(|net| net.contains(&ip))
        }
    }
}

const fn v4(a: u8, b: u8, c: u8, d: u8, prefix: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix)
}

const fn v6(a: u16, b: u16, c: u16, prefix: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0), prefix)
}

/// IANA IPv4 Special-Purpose Address Registry, the blocks that are not globally reachable, with
/// multicast (RFC 5771) and the deprecated 6to4 relay anycast. The few globally reachable /32s
/// inside 192.0.0.0/24 serve protocols, not sellers, and stay refused.
const SPECIAL_V4: [Ipv4Net; 18] = [
    v4(0, 0, 0, 0, 8),
    v4(10, 0, 0, 0, 8),
    v4(100, 64, 0, 0, 10),
    v4(127, 0, 0, 0, 8),
    v4(169, 254, 0, 0, 16),
    v4(172, 16, 0, 0, 12),
    v4(192, 0, 0, 0, 24),
    v4(192, 0, 2, 0, 24),
    v4(192, 31, 196, 0, 24),
    v4(192, 52, 193, 0, 24),
    v4(192, 88, 99, 0, 24),
    v4(192, 168, 0, 0, 16),
    v4(192, 175, 48, 0, 24),
    v4(198, 18, 0, 0, 15),
    v4(198, 51, 100, 0, 24),
    v4(203, 0, 113, 0, 24),
    v4(224, 0, 0, 0, 4),
    v4(240, 0, 0, 0, 4),
];

/// Global unicast as allotted so far. Everything outside (loopback, link-local, unique local,
/// multicast, NAT64, mapped) is refused by not being in it.
const GLOBAL_V6: Ipv6Net = v6(0x2000, 0, 0, 3);

/// The blocks of IANA's IPv6 Special-Purpose Address Registry that lie within [`GLOBAL_V6`]. The
/// first holds tunnels, benchmarking and overlay identifiers; the third hides an IPv4 address.
const SPECIAL_V6: [Ipv6Net; 5] = [
    v6(0x2001, 0, 0, 23),
    v6(0x2001, 0xdb8, 0, 32),
    v6(0x2002, 0, 0, 16),
    v6(0x2620, 0x4f, 0x8000, 48),
    v6(0x3fff, 0, 0, 20),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn open() -> Egress {
        Egress::default()
    }

    #[test]
    fn only_public_addresses_pass_in_any_spelling() {
        for url in [
            "https://127.0.0.1/",
            "https://0x7f.1/",
            "https://017700000001/",
            "https://2130706433/",
            "https://127.1/",
            "https://10.1.2.3/",
            "https://169.254.169.254/latest",
            "https://[::1]/",
            "https://[::]/",
            "https://[::ffff:127.0.0.1]/",
            "https://[::ffff:10.0.0.1]/",
            "https://[64:ff9b::7f00:1]/",
            "https://[2002:7f00:1::]/",
            "https://[2001:0:7f00:1::]/",
            "https://[fe80::1]/",
            "https://[fc00::1]/",
            "https://[ff02::1]/",
            "https://[2001:db8::1]/",
            "https://192.168.0.1./",
            "https://100.64.0.1/",
            "https://198.18.0.1/",
            "https://224.0.0.1/",
            "https://255.255.255.255/",
            "https://0.0.0.0/",
            "https://１２７.0.0.1/",
        ] {
            assert_eq!(open().check_url(url), Err(Forbidden::Address), "{url}");
        }
        for url in [
            "https://93.184.216.34/",
            "https://[2606:4700::1111]/x",
            "https://1.1.1.1",
        ] {
            assert!(open().check_url(url).is_ok(), "{url}");
        }
    }

    #[test]
    fn the_url_itself_is_judged() {
        for (url, why) in [
            ("http://example.com/", Forbidden::Scheme),
            ("ftp://example.com/", Forbidden::Scheme),
            ("https://user@example.com/", Forbidden::Credentials),
            ("https://user:pw@example.com/", Forbidden::Credentials),
            ("https://example.com/#x", Forbidden::Fragment),
            ("https://example.com:8443/", Forbidden::Port),
            ("https://exa mple.com/", Forbidden::Malformed),
            ("https://", Forbidden::Malformed),
            ("https://46.5182../", Forbidden::Malformed),
            ("https://127.1../", Forbidden::Malformed),
            ("https://a..example/", Forbidden::Malformed),
            ("example.com", Forbidden::Malformed),
            ("https://example.com/\u{0}", Forbidden::Malformed),
        ] {
            assert_eq!(open().check_url(url), Err(why), "{url}");
        }
        let long = format!("https://example.com/{}", "a".repeat(2100));
        assert_eq!(open().check_url(&long), Err(Forbidden::Malformed));
        // As each of these letters is sent it has six characters.
        let long = format!("https://example.com/{}", "é".repeat(339));
        assert_eq!(open().check_url(&long), Err(Forbidden::Malformed));
        let longest = format!("https://example.com/{}", "é".repeat(338));
        assert_eq!(
            open()
                .check_url(&longest)
                .map(|target| target.path_and_query.len()),
            Ok(2_029)
        );
        let own = Egress {
            own_host: Some("api.example".into()),
            ..open()
        };
        assert_eq!(
            own.check_url("https://API.example./x"),
            Err(Forbidden::Address)
        );
    }

    #[test]
    fn a_target_keeps_path_and_query_and_hides_them_in_its_hint() {
        let target = open().check_url("https://Example.com/a/b?x=1").unwrap();
        assert_eq!(target.path_and_query, "/a/b?x=1");
        assert_eq!(target.authority, "example.com");
        assert_eq!(target.hint(), "https://example.com/…");
        assert_eq!(
            open()
                .check_url("https://example.com?q")
                .unwrap()
                .path_and_query,
            "/?q"
        );
    }

    #[test]
    fn an_allowed_network_opens_itself_and_nothing_else() {
        let local = Egress {
            allow_cidrs: vec!["127.0.0.0/8".parse().unwrap()],
            allow_http: true,
            ..open()
        };
        let target = local.check_url("http://127.0.0.1:8091/call").unwrap();
        assert_eq!(
            (target.port, target.authority.as_str()),
            (8091, "127.0.0.1:8091")
        );
        assert_eq!(
            local.check_url("http://10.0.0.1:80/"),
            Err(Forbidden::Address)
        );
        assert!(!local.allows("1.1.1.1".parse().unwrap(), 8091));
        assert!(!local.allows("::ffff:127.0.0.1".parse().unwrap(), 8091));
        let own = Egress {
            own_host: Some("127.0.0.1".into()),
            own_port: port_of("http://127.0.0.1:8080"),
            ..local
        };
        assert!(!own.allows("127.0.0.1".parse().unwrap(), 8080));
        assert!(own.allows("127.0.0.1".parse().unwrap(), 8091));
    }
}
