//! Who a client is and what it calls its request: pure readings of headers and addresses.

use std::net::IpAddr;

use crochet_shared::header;
use http::header::{
    CONTENT_LENGTH, COOKIE, HOST, HeaderMap, HeaderName, HeaderValue, TRANSFER_ENCODING,
};
use http::uri::Authority;
use ipnet::IpNet;

/// `X-Forwarded-For`.
pub static FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// `X-Forwarded-Proto`.
pub static FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
/// `X-Forwarded-Host`.
pub static FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
/// `X-Request-Id`.
pub static REQUEST_ID: HeaderName = HeaderName::from_static(header::REQUEST_ID);

/// Headers a client may not speak with to the control plane.
const SPOKEN_FOR: [&str; 2] = ["forwarded", "x-real-ip"];
const SPOKEN_FOR_PREFIX: &str = "x-forwarded-";

/// The address a request comes from: the peer's, unless the peer is a trusted proxy; then the last
/// one in `X-Forwarded-For` that is not itself a trusted proxy.
pub fn address(peer: IpAddr, headers: &HeaderMap, trusted: &[IpNet]) -> IpAddr {
    let is_trusted = |ip: IpAddr| trusted.iter().any(|net| net.contains(&ip));
    let mut address = peer.to_canonical();
    if trusted.is_empty() || !is_trusted(address) {
        return address;
    }
    let lines: Vec<_> = headers.get_all(&FORWARDED_FOR).iter().collect();
    let named = lines
        .into_iter()
        .rev()
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.rsplit(','));
    for name in named {
        let Ok(next) = name.trim().parse::<IpAddr>() else {
            break;
        };
        address = next.to_canonical();
        if !is_trusted(address) {
            break;
        }
    }
    address
}

/// The client's own id of the request, when it stands once and is one that we repeat.
pub fn request_id(headers: &HeaderMap) -> Option<HeaderValue> {
    let mut values = headers.get_all(&REQUEST_ID).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return None;
    };
    header::is_request_id(value.as_bytes()).then(|| value.clone())
}

/// Whether a request has a body, as its head says.
pub fn has_body(headers: &HeaderMap) -> bool {
    headers.contains_key(TRANSFER_ENCODING)
        || headers
            .get(CONTENT_LENGTH)
            .is_some_and(|length| length.as_bytes() != b"0")
}

/// Names of the headers that a client sent and only we may say.
pub fn spoken_for(headers: &HeaderMap) -> Vec<HeaderName> {
    headers
        .keys()
        .filter(|name| {
            let name = name.as_str();
            name.starts_with(SPOKEN_FOR_PREFIX) || SPOKEN_FOR.contains(&name)
        })
        .cloned()
        .collect()
}

/// What the control plane is told of the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forwarded {
    /// Its address.
    pub address: IpAddr,
    /// `http` or `https`.
    pub proto: &'static str,
    /// The host it asked for.
    pub host: Option<HeaderValue>,
}

/// How a request came, besides its headers.
#[derive(Clone, Copy, Debug)]
pub struct Link<'a> {
    /// The other end of the connection.
    pub peer: IpAddr,
    /// Whether TLS ends here.
    pub by_tls: bool,
    /// Whom it is for, where the target says so: HTTP/2 has it in the place of `Host`.
    pub authority: Option<&'a Authority>,
}

impl Forwarded {
    /// Reads it of a request. A trusted proxy's word holds for protocol and host.
    pub fn read(link: &Link<'_>, headers: &HeaderMap, trusted: &[IpNet]) -> Self {
        let peer = link.peer.to_canonical();
        let by_proxy = trusted.iter().any(|net| net.contains(&peer));
        let said = |name: &HeaderName| headers.get(name).filter(|_| by_proxy);
        let https =
            said(&FORWARDED_PROTO).map_or(link.by_tls, |value| value.as_bytes() == b"https");
        let asked = || {
            let authority = link.authority.map(Authority::as_str);
            let host = authority.and_then(|host| HeaderValue::from_str(host).ok());
            headers.get(HOST).cloned().or(host)
        };
        Self {
            address: address(link.peer, headers, trusted),
            proto: if https { "https" } else { "http" },
            host: said(&FORWARDED_HOST).cloned().or_else(asked),
        }
    }
}

/// The cookies as one line, where they stand in several: HTTP/2 may split what HTTP/1.1 must not
/// (RFC 9113 §8.2.3).
pub fn joined_cookies(headers: &HeaderMap) -> Option<HeaderValue> {
    let mut lines = headers.get_all(COOKIE).iter();
    let (first, second) = (lines.next()?, lines.next()?);
    let mut joined = first.as_bytes().to_vec();
    for line in std::iter::once(second).chain(lines) {
        joined.extend_from_slice(b"; ");
        joined.extend_from_slice(line.as_bytes());
    }
    HeaderValue::from_bytes(&joined).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in pairs {
            map.append(
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            );
        }
        map
    }

    fn from(peer: &str, forwarded: &[(&'static str, &'static str)]) -> String {
        let trusted = ["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()];
        address(peer.parse().unwrap(), &headers(forwarded), &trusted).to_string()
    }

    #[test]
    fn forwarded_for_is_read_right_to_left_and_only_from_trusted_proxies() {
        let lie = [("x-forwarded-for", "1.1.1.1")];
        assert_eq!(from("9.9.9.9", &lie), "9.9.9.9");
        assert_eq!(from("10.0.0.1", &lie), "1.1.1.1");
        assert_eq!(from("::ffff:10.0.0.1", &lie), "1.1.1.1");
        let chain = [("x-forwarded-for", "6.6.6.6, 1.1.1.1 ,10.0.0.2")];
        assert_eq!(from("10.0.0.1", &chain), "1.1.1.1");
        let lines = [
            ("x-forwarded-for", "6.6.6.6"),
            ("x-forwarded-for", "2.2.2.2"),
        ];
        assert_eq!(from("10.0.0.1", &lines), "2.2.2.2");
        assert_eq!(from("10.0.0.1", &[]), "10.0.0.1");
        let garbage = [("x-forwarded-for", "1.1.1.1, what, 10.0.0.3")];
        assert_eq!(from("10.0.0.1", &garbage), "10.0.0.3");
        assert_eq!(
            address("10.0.0.1".parse().unwrap(), &headers(&lie), &[]).to_string(),
            "10.0.0.1"
        );
    }

    #[test]
    fn a_clients_word_about_itself_is_dropped_and_a_proxys_is_kept() {
        let said = headers(&[
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "evil"),
            ("x-forwarded-port", "1"),
            ("forwarded", "for=1.1.1.1"),
            ("x-real-ip", "1.1.1.1"),
            ("host", "api"),
        ]);
        assert_eq!(spoken_for(&said).len(), 5);
        let trusted = ["10.0.0.0/8".parse().unwrap()];
        let link = |peer: &str, by_tls| Link {
            peer: peer.parse().unwrap(),
            by_tls,
            authority: None,
        };
        let plain = Forwarded::read(&link("9.9.9.9", false), &said, &trusted);
        assert_eq!(
            (plain.proto, plain.host.unwrap().to_str().unwrap()),
            ("http", "api")
        );
        let proxied = Forwarded::read(&link("10.1.1.1", false), &said, &trusted);
        assert_eq!(
            (proxied.proto, proxied.host.unwrap().to_str().unwrap()),
            ("https", "evil")
        );
        let by_tls = Forwarded::read(&link("9.9.9.9", true), &said, &trusted);
        assert_eq!(by_tls.proto, "https");
    }

    #[test]
    fn what_http2_says_in_its_own_way_is_passed_on_in_the_way_of_http1() {
        let authority = Authority::from_static("api:443");
        let link = Link {
            peer: "9.9.9.9".parse().unwrap(),
            by_tls: true,
            authority: Some(&authority),
        };
        let said = Forwarded::read(&link, &HeaderMap::new(), &[]);
        assert_eq!(said.host.unwrap(), "api:443");
        let split = headers(&[("cookie", "a=1"), ("cookie", "b=2"), ("cookie", "c=3")]);
        assert_eq!(joined_cookies(&split).unwrap(), "a=1; b=2; c=3");
        assert!(joined_cookies(&headers(&[("cookie", "a=1; b=2")])).is_none());
        assert!(joined_cookies(&HeaderMap::new()).is_none());
    }

    #[test]
    fn only_one_well_formed_request_id_is_kept() {
        assert!(request_id(&headers(&[("x-request-id", "abc_DEF-1")])).is_some());
        assert!(request_id(&headers(&[("x-request-id", "short")])).is_none());
        assert!(request_id(&headers(&[("x-request-id", "has space")])).is_none());
        let two = [("x-request-id", "abcdefgh"), ("x-request-id", "abcdefgh")];
        assert!(request_id(&headers(&two)).is_none());
    }
}
