//! Whose a path is, decided after one normalisation (contract §1).
//!
//! Both services then see the same spelling: what could be read in two ways is refused, and what is
//! only written in two ways is written in one.

use std::borrow::Cow;

/// A path that could mean another: encoded slashes, dot segments, `//`, backslashes, control
/// characters that are not escaped, broken escapes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the path can be read in more than one way")]
pub struct AmbiguousPath;

/// Who answers a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place<'a> {
    /// A gateway call: the listing's id or slug.
    Gateway(&'a str),
    /// A test of an endpoint: the listing's id or slug.
    Test(&'a str),
    /// Never passes.
    Internal,
    /// Everything else.
    ControlPlane,
}

/// Writes a path in the one way that is matched and passed on.
pub fn normalise(path: &str) -> Result<Cow<'_, str>, AmbiguousPath> {
    if !path.starts_with('/') {
        return Err(AmbiguousPath);
    }
    let plain = |byte: u8| byte.is_ascii_graphic() && byte != b'\\';
    if !path.bytes().all(plain) {
        return Err(AmbiguousPath);
    }
    let path = if path.contains('%') {
        Cow::Owned(decode_unreserved(path)?)
    } else {
        Cow::Borrowed(path)
    };
    let ambiguous = |segment: &str| matches!(segment, "." | "..");
    if path.contains("//") || path.split('/').any(ambiguous) {
        return Err(AmbiguousPath);
    }
    Ok(path)
}

/// Undoes escapes that were not needed and writes the others in capitals.
fn decode_unreserved(path: &str) -> Result<String, AmbiguousPath> {
    let mut out = String::with_capacity(path.len());
    let mut rest = path;
    while let Some((before, after)) = rest.split_once('%') {
        out.push_str(before);
        let hex = after.get(..2).ok_or(AmbiguousPath)?;
        rest = after.get(2..).ok_or(AmbiguousPath)?;
        if !hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(AmbiguousPath);
        }
        let byte = u8::from_str_radix(hex, 16).map_err(|_| AmbiguousPath)?;
        match byte {
            b'/' | b'\\' => return Err(AmbiguousPath),
            _ if is_unreserved(byte) => out.push(char::from(byte)),
            _ => {
                out.push('%');
                out.push_str(&hex.to_ascii_uppercase());
            }
        }
    }
    out.push_str(rest);
    Ok(out)
}

/// RFC 3986 §2.3.
const fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// Whose a normalised path is.
pub fn place(path: &str) -> Place<'_> {
    if let Some(rest) = path.strip_prefix("/api/v1/") {
        if let Some(name) = rest.strip_prefix("gateway/")
            && !name.is_empty()
            && !name.contains('/')
        {
            return Place::Gateway(name);
        }
        if let Some(name) = rest
            .strip_prefix("listings/")
            .and_then(|rest| rest.strip_suffix("/endpoint/test"))
            && !name.is_empty()
            && !name.contains('/')
        {
            return Place::Test(name);
        }
    }
    let first = path.split('/').nth(1).unwrap_or_default();
    if first.eq_ignore_ascii_case("internal") {
        Place::Internal
    } else {
        Place::ControlPlane
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_path_that_can_be_read_in_two_ways_is_refused() {
        for path in [
            "//",
            "/api//v1",
            "/api/v1/gateway%2Fx",
            "/api/v1/gateway%2fx",
            "/api/v1/gateway%5cx",
            "/api/v1/../internal",
            "/api/v1/./gateway/x",
            "/api/v1/%2e%2e/internal",
            "/api/v1/%2E/x",
            "/api/..",
            "/a\\b",
            "/a%",
            "/a%4",
            "/a%4g",
            "/a%+1",
            "/a b",
            "/a\u{e9}",
            "*",
            "",
            "http://x/",
        ] {
            assert_eq!(normalise(path), Err(AmbiguousPath), "{path}");
        }
    }

    #[test]
    fn needless_escapes_are_undone_and_others_kept() {
        for (path, same) in [
            ("/", "/"),
            ("/api/v1/gateway/x", "/api/v1/gateway/x"),
            ("/%61pi/v1/g%61teway/x", "/api/v1/gateway/x"),
            ("/a%c3%a9%20%0a", "/a%C3%A9%20%0A"),
            ("/a..b/...", "/a..b/..."),
            ("/%2e%2e%2e", "/..."),
        ] {
            assert_eq!(normalise(path).as_deref(), Ok(same), "{path}");
        }
    }

    #[test]
    fn each_path_has_one_owner() {
        for (path, owner) in [
            ("/api/v1/gateway/x", Place::Gateway("x")),
            ("/api/v1/gateway/", Place::ControlPlane),
            ("/api/v1/gateway/x/", Place::ControlPlane),
            ("/api/v1/gateway/x/y", Place::ControlPlane),
            ("/api/v1/listings/x/endpoint/test", Place::Test("x")),
            ("/api/v1/listings/x/endpoint", Place::ControlPlane),
            ("/api/v1/listings/a/b/endpoint/test", Place::ControlPlane),
            ("/api/v1/gateway-requests", Place::ControlPlane),
            ("/internal", Place::Internal),
            ("/Internal/v1/claims", Place::Internal),
            ("/internalx", Place::ControlPlane),
            ("/", Place::ControlPlane),
        ] {
            assert_eq!(place(path), owner, "{path}");
        }
        assert_eq!(
            place(&normalise("/%69nternal/v1").unwrap()),
            Place::Internal
        );
    }

    proptest! {
        #[test]
        fn normalising_twice_is_normalising_once(path in "/[a-zA-Z0-9%./_~ -]{0,40}") {
            if let Ok(once) = normalise(&path) {
                let twice = normalise(&once);
                prop_assert_eq!(twice.as_deref(), Ok(&*once));
            }
        }
    }
}
