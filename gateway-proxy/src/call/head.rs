//! What a gateway call's headers say, read once. Pure: no header is looked at after this.
//!
//! A header that decides about money or identity stands once or is refused: of two copies, this
//! service and another in the chain may each believe a different one.

use std::borrow::Cow;

use crochet_shared::api_key::{self, KeyDigest};
use crochet_shared::envelope::BadField;
use crochet_shared::header as names;
use http::HeaderMap;
use http::header::{
    AUTHORIZATION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, EXPECT, HeaderName,
    HeaderValue,
};

/// Why there is no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoCredential {
    /// None came, or what came is none: 401 `UNAUTHORIZED`.
    NoKey,
    /// A person's session came instead: 403 `AGENT_REQUIRED` (contract §3). Whether it has ended is not asked:
    /// elsewhere that is a 401, and here she could not call either way.
    Person,
}

/// A header that should stand once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Once<T> {
    /// It does not stand.
    Absent,
    /// It does.
    One(T),
    /// It stands more than once.
    Twice,
}

/// What the headers say of the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BodyHead {
    /// `Content-Length`, when it stands. The server's own parser has judged it.
    pub length: Option<usize>,
    /// Whether the client waits for `100 Continue`.
    pub expects_continue: bool,
    /// Whether it is said to be JSON, unencoded.
    pub is_json: bool,
    /// Whether anything is said of its type.
    pub has_type: bool,
}

/// The headers of a gateway call.
#[derive(Clone, Debug)]
pub struct Head {
    /// The API key's digest.
    pub credential: Result<KeyDigest, NoCredential>,
    /// `X-Crochet-Relay-Request-Id`.
    pub relay_request_id: Once<String>,
    /// `X-Crochet-Origin-Currency`.
    pub currency: Once<String>,
    /// `Idempotency-Key`.
    pub idempotency_key: Once<String>,
    /// Of the body.
    pub body: BodyHead,
}

impl Head {
    /// Reads them.
    pub fn read(headers: &HeaderMap) -> Self {
        Self {
            credential: credential(headers),
            relay_request_id: once(headers, &RELAY_REQUEST_ID),
            currency: once(headers, &ORIGIN_CURRENCY),
            idempotency_key: once(headers, &IDEMPOTENCY_KEY),
            body: BodyHead::read(headers),
        }
    }

    /// What is wrong with the headers of a call without a relay id, every bad one.
    pub fn bad_fields(&self) -> Vec<BadField> {
        let mut bad = Vec::new();
        match &self.idempotency_key {
            Once::One(key) if !names::is_idempotency_key(key.as_bytes()) => bad.push(field(
                "Idempotency-Key",
                "must be 1 to 255 printable ASCII characters",
            )),
            Once::Twice => bad.push(field("Idempotency-Key", STANDS_TWICE)),
            Once::One(_) | Once::Absent => {}
        }
        if self.currency == Once::Twice {
            bad.push(field("X-Crochet-Origin-Currency", STANDS_TWICE));
        }
        bad
    }
}

static RELAY_REQUEST_ID: HeaderName = HeaderName::from_static(names::RELAY_REQUEST_ID);
static ORIGIN_CURRENCY: HeaderName = HeaderName::from_static(names::ORIGIN_CURRENCY);
static IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static(names::IDEMPOTENCY_KEY);

/// What is said of a header with copies.
pub const STANDS_TWICE: &str = "must not be sent more than once";

/// A bad field by name.
pub const fn field(name: &'static str, problem: &'static str) -> BadField {
    BadField {
        field: Cow::Borrowed(name),
        problem: Cow::Borrowed(problem),
    }
}

/// The digest of the one well-formed API key in `Authorization: Bearer`.
pub fn credential(headers: &HeaderMap) -> Result<KeyDigest, NoCredential> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let value = match (values.next(), values.next()) {
        (Some(value), None) => value,
        (None, _) if has_session(headers) => return Err(NoCredential::Person),
        _ => return Err(NoCredential::NoKey),
    };
    let key = value.to_str().ok().and_then(|text| {
        let (scheme, token) = text.split_once(' ')?;
        let token = scheme.eq_ignore_ascii_case("bearer").then_some(token)?;
        api_key::parse(token.trim_start_matches(' '))
    });
    key.ok_or(NoCredential::NoKey)
}

fn has_session(headers: &HeaderMap) -> bool {
    let cookies = headers.get_all(COOKIE).iter();
    let mut pairs = cookies
        .filter_map(|value| value.to_str().ok())
        .flat_map(|text| text.split(';'));
    pairs.any(|pair| {
        pair.split_once('=').is_some_and(|(name, value)| {
            matches!(
                name.trim(),
                names::SESSION_COOKIE | names::SESSION_COOKIE_TLS
            ) && names::is_session_id(value.trim().as_bytes())
        })
    })
}

/// Text that is not ASCII is kept as something that matches nothing, so that it is refused where it
/// is judged, in its turn.
fn once(headers: &HeaderMap, name: &HeaderName) -> Once<String> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Once::Absent,
        (Some(value), None) => Once::One(value.to_str().unwrap_or("\u{fffd}").to_owned()),
        (Some(_), Some(_)) => Once::Twice,
    }
}

impl BodyHead {
    /// Reads the headers that speak of the body.
    pub fn read(headers: &HeaderMap) -> Self {
        let mut types = headers.get_all(CONTENT_TYPE).iter();
        let (first, second) = (types.next(), types.next());
        let encoded = headers
            .get_all(CONTENT_ENCODING)
            .iter()
            .any(|value| !value.as_bytes().eq_ignore_ascii_case(b"identity"));
        Self {
            length: headers
                .get(CONTENT_LENGTH)
                .and_then(|value| value.to_str().ok())
                .and_then(|text| text.parse().ok()),
            expects_continue: headers
                .get(EXPECT)
                .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue")),
            is_json: second.is_none() && !encoded && first.is_some_and(is_json),
            has_type: first.is_some() || encoded,
        }
    }
}

/// `application/json`, with any parameters but another charset.
fn is_json(value: &HeaderValue) -> bool {
    let Ok(text) = value.to_str() else {
        return false;
    };
    let mut parts = text.split(';').map(str::trim);
    let essence = parts.next().unwrap_or_default();
    essence.eq_ignore_ascii_case("application/json")
        && parts.all(|parameter| {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            !name.eq_ignore_ascii_case("charset")
                || value.trim_matches('"').eq_ignore_ascii_case("utf-8")
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use secrecy::ExposeSecret as _;

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in pairs {
            map.append(
                HeaderName::from_bytes(name.as_bytes()).unwrap(),
                HeaderValue::from_bytes(value.as_bytes()).unwrap(),
            );
        }
        map
    }

    fn key() -> String {
        let mut next = 7_u8;
        let key = api_key::generate(move || {
            next = next.wrapping_mul(31).wrapping_add(17);
            next
        });
        key.text.expose_secret().to_owned()
    }

    #[test]
    fn a_session_without_a_key_is_a_persons() {
        let person = |pairs: &[(&str, &str)]| {
            credential(&headers(pairs)).err() == Some(NoCredential::Person)
        };
        let plain = "a=b; crochet_session=0123456789abcdefghi-_A";
        let secure = "__Host-crochet_session=0123456789abcdefghi-_A;c=d";
        assert!(person(&[("cookie", plain)]));
        assert!(person(&[("cookie", "a=b"), ("cookie", secure)]));
        assert!(!person(&[("cookie", "crochet_session=x")]));
        assert!(!person(&[(
            "cookie",
            "a=crochet_session; xcrochet_session=y"
        )]));
        // A key is always meant, whatever cookie comes with it.
        let cookie = ("cookie", plain);
        assert!(!person(&[cookie, ("authorization", "Bearer no key")]));
        let good = format!("Bearer {}", key());
        assert!(credential(&headers(&[cookie, ("authorization", &good)])).is_ok());
    }

    #[test]
    fn one_well_formed_bearer_key_is_a_credential_and_nothing_else_is() {
        let key = key();
        for good in [
            format!("Bearer {key}"),
            format!("bearer {key}"),
            format!("BEARER  {key}"),
        ] {
            assert!(credential(&headers(&[("authorization", &good)])).is_ok());
        }
        let typo = format!("Bearer {}", key.replace("am_k_", "am_k-"));
        for bad in [
            "",
            "Bearer",
            "Bearer ",
            &key,
            "Basic abc",
            &typo,
            &format!("Bearer {key} "),
            &format!("Bearer {}", "x".repeat(5000)),
        ] {
            assert!(
                credential(&headers(&[("authorization", bad)])).is_err(),
                "{bad}"
            );
        }
        assert!(credential(&HeaderMap::new()).is_err());
        let one = format!("Bearer {key}");
        let two = headers(&[("authorization", &one), ("authorization", &one)]);
        assert!(credential(&two).is_err());
    }

    #[test]
    fn copies_of_deciding_headers_are_seen() {
        let head = Head::read(&headers(&[
            ("idempotency-key", "a"),
            ("idempotency-key", "a"),
            ("x-crochet-origin-currency", "SOL"),
            ("x-crochet-origin-currency", "ETH"),
            ("x-crochet-relay-request-id", "0x1"),
            ("x-crochet-relay-request-id", "0x1"),
        ]));
        assert_eq!(head.relay_request_id, Once::Twice);
        assert_eq!(head.bad_fields().len(), 2);
        let head = Head::read(&headers(&[("idempotency-key", "")]));
        assert_eq!(head.bad_fields().len(), 1);
        let long = "k".repeat(256);
        assert_eq!(
            Head::read(&headers(&[("idempotency-key", &long)]))
                .bad_fields()
                .len(),
            1
        );
        let head = Head::read(&headers(&[("idempotency-key", "k 1")]));
        assert!(head.bad_fields().is_empty());
        assert_eq!(head.idempotency_key, Once::One("k 1".into()));
    }

    #[test]
    fn only_unencoded_json_is_json() {
        for (pairs, json) in [
            (vec![("content-type", "application/json")], true),
            (
                vec![("content-type", "Application/JSON; charset=UTF-8")],
                true,
            ),
            (
                vec![("content-type", "application/json; charset=\"utf-8\"")],
                true,
            ),
            (
                vec![("content-type", "application/json; charset=latin1")],
                false,
            ),
            (vec![("content-type", "application/jsonx")], false),
            (vec![("content-type", "text/plain")], false),
            (vec![], false),
            (
                vec![
                    ("content-type", "application/json"),
                    ("content-encoding", "gzip"),
                ],
                false,
            ),
            (
                vec![
                    ("content-type", "application/json"),
                    ("content-encoding", "identity"),
                ],
                true,
            ),
            (
                vec![
                    ("content-type", "application/json"),
                    ("content-type", "text/plain"),
                ],
                false,
            ),
        ] {
            assert_eq!(BodyHead::read(&headers(&pairs)).is_json, json, "{pairs:?}");
        }
    }
}
