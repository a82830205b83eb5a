//! A request's head as bytes: where it ends, whether it can be one, how long what follows it is.
//!
//! pingora parses the head; what is judged here first is what it would answer with a bare 400, and
//! what it cannot know: where the next request begins when several came in together. Framing that
//! can be read in two ways is refused, because a second opinion about it is how requests are
//! smuggled.

use crochet_shared::header::is_token_byte;
use http::uri::Authority;
use http::{HeaderMap, HeaderName, HeaderValue};

/// Largest head of a request.
pub const HEAD_BYTES_MAX: usize = 32 * 1024;
/// Most lines of a head; pingora's parser takes 256 headers.
pub const HEAD_LINES_MAX: usize = 200;

/// Why a head is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BadHead {
    /// Larger than [`HEAD_BYTES_MAX`] or [`HEAD_LINES_MAX`].
    TooLarge,
    /// Not HTTP: which part, and what is wrong with it.
    Malformed {
        /// A header's name, or `request_line` or `headers`.
        field: String,
        /// As a clause.
        problem: &'static str,
    },
}

impl BadHead {
    fn malformed(field: &str, problem: &'static str) -> Self {
        Self::Malformed {
            field: field.to_owned(),
            problem,
        }
    }
}

/// How long the body is, as the head says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    /// So many bytes.
    Bytes(usize),
    /// In chunks, to be found out by whoever parses them.
    Chunked,
}

/// Where the head ends, searched from `from`: after an empty line, with bare line feeds allowed as
/// the parser allows them. An empty line before the request counts too; then pingora reads on.
pub fn end(bytes: &[u8], from: usize) -> Option<usize> {
    let tail = bytes.get(from..)?;
    memchr::memchr_iter(b'\n', tail).find_map(|at| match tail.get(at + 1..)? {
        [b'\n', ..] => Some(from + at + 2),
        [b'\r', b'\n', ..] => Some(from + at + 3),
        _ => None,
    })
}

/// The lines of a head, without their ends.
fn lines(head: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(head);
    std::iter::from_fn(move || {
        let text = rest?;
        let end = memchr::memchr(b'\n', text);
        let line = text.get(..end.unwrap_or(text.len()))?;
        rest = end.and_then(|end| text.get(end + 1..));
        Some(line.strip_suffix(b"\r").unwrap_or(line))
    })
}

/// The headers of one name in a head that is refused, or in the beginning of one.
pub fn named(head: &[u8], wanted: &HeaderName) -> HeaderMap {
    // The last line may be cut off.
    let end = memchr::memrchr(b'\n', head).unwrap_or_default();
    let lines = lines(head.get(..end).unwrap_or_default())
        .skip(1)
        .take_while(|line| !line.is_empty());
    let values = lines.filter_map(|line| {
        let (name, value) = line.split_at_checked(wanted.as_str().len())?;
        let value = value.strip_prefix(b":")?.trim_ascii();
        let is_it = name.eq_ignore_ascii_case(wanted.as_str().as_bytes());
        is_it.then(|| HeaderValue::from_bytes(value).ok()).flatten()
    });
    values.map(|value| (wanted.clone(), value)).collect()
}

/// Judges a whole head, as [`end`] found it.
pub fn judge(head: &[u8]) -> Result<Length, BadHead> {
    if head.len() > HEAD_BYTES_MAX {
        return Err(BadHead::TooLarge);
    }
    let mut lines = lines(head).skip_while(|line| line.is_empty());
    let request_line = lines.next().unwrap_or_default();
    let authority = judge_request_line(request_line)?;
    let mut length: Option<Length> = None;
    let mut hosts = 0_u32;
    for (number, line) in lines.take_while(|line| !line.is_empty()).enumerate() {
        if number >= HEAD_LINES_MAX {
            return Err(BadHead::TooLarge);
        }
        if let Some(host) = host(line) {
            hosts += 1;
            if hosts > 1 {
                return Err(BadHead::malformed("Host", "must stand once"));
            }
            if authority.is_some_and(|authority| authority != host) {
                return Err(BadHead::malformed("Host", "must be the host of the target"));
            }
        }
        let Some(said) = judge_header(line)? else {
            continue;
        };
        if length.replace(said).is_some() {
            return Err(BadHead::malformed("Content-Length", FRAMED_TWICE));
        }
    }
    if length == Some(Length::Chunked) && request_line.ends_with(b"HTTP/1.0") {
        return Err(BadHead::malformed(
            "Transfer-Encoding",
            "must not be sent with HTTP/1.0",
        ));
    }
    Ok(length.unwrap_or(Length::Bytes(0)))
}

/// Whether headers that came in another frame than HTTP/1.1's would be too large in it.
pub fn is_too_large(headers: &HeaderMap) -> bool {
    // A name, a colon, a space, a value and the line's end.
    let bytes: usize = headers
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len() + 4)
        .sum();
    bytes > HEAD_BYTES_MAX || headers.len() > HEAD_LINES_MAX
}

const FRAMED_TWICE: &str = "the body's length must be said once";

/// A method, a target without spaces, a version. Gives the authority of a target that is a whole
/// URI (RFC 9112 §3.2.2).
fn judge_request_line(line: &[u8]) -> Result<Option<&[u8]>, BadHead> {
    let mut words = line.split(|byte| *byte == b' ');
    let (method, target, version) = (words.next(), words.next(), words.next());
    let is_method =
        method.is_some_and(|word| !word.is_empty() && word.iter().all(|byte| is_token_byte(*byte)));
    let is_target = target.is_some_and(|word| !word.is_empty() && is_target(word));
    if method == Some(b"CONNECT") {
        return Err(BadHead::malformed(
            "request_line",
            "must not be CONNECT: this is no tunnel",
        ));
    }
    let is_version = matches!(version, Some(b"HTTP/1.1" | b"HTTP/1.0"));
    if is_method && is_target && is_version && words.next().is_none() {
        return judge_target(target.unwrap_or_default());
    }
    let problem = "must be a method, a target and HTTP/1.1, in visible ASCII";
    Err(BadHead::malformed("request_line", problem))
}

/// Visible ASCII, and as pingora's own URIs take it: it would answer what they do not with a bare 400.
fn is_target(target: &[u8]) -> bool {
    target.iter().all(u8::is_ascii_graphic) && http::Uri::try_from(target).is_ok()
}

/// A path, `*`, or a whole `http` URI, whose authority is given: only a host and a port, so that it
/// means one thing to everyone who reads it.
fn judge_target(target: &[u8]) -> Result<Option<&[u8]>, BadHead> {
    if target == b"*" || target.starts_with(b"/") {
        return Ok(None);
    }
    let lower = target.get(..8).unwrap_or(target).to_ascii_lowercase();
    let scheme = [&b"http://"[..], b"https://"]
        .into_iter()
        .find(|scheme| lower.starts_with(scheme));
    let rest = scheme.and_then(|scheme| target.get(scheme.len()..));
    let authority = rest.map(|rest| {
        let end = rest
            .iter()
            .position(|byte| matches!(byte, b'/' | b'?' | b'#'));
        rest.get(..end.unwrap_or(rest.len())).unwrap_or_default()
    });
    authority
        .filter(|name| name.iter().all(|byte| is_of_authority(*byte)))
        .filter(|name| Authority::try_from(*name).is_ok())
        .map(Some)
        .ok_or_else(|| {
            let problem = "must have a path, or a URI of http with a host, as its target";
            BadHead::malformed("request_line", problem)
        })
}

/// The value of a `Host` header.
fn host(line: &[u8]) -> Option<&[u8]> {
    let (name, value) = line.split_at_checked(5)?;
    name.eq_ignore_ascii_case(b"host:")
        .then(|| value.trim_ascii())
}

/// A token, a colon, a value without control characters (RFC 9110 §5.5). Tells the length of the
/// body when this header says it.
fn judge_header(line: &[u8]) -> Result<Option<Length>, BadHead> {
    let colon = memchr::memchr(b':', line);
    let (name, value) = colon
        .and_then(|colon| line.split_at_checked(colon))
        .filter(|(name, _)| !name.is_empty() && name.iter().all(|byte| is_token_byte(*byte)))
        .ok_or_else(|| BadHead::malformed("headers", "must each be a name, a colon and a value"))?;
    let value = value.strip_prefix(b":").unwrap_or(value);
    let stained = value.iter().any(|byte| is_control(*byte));
    let bad = |problem| Err(BadHead::malformed(&String::from_utf8_lossy(name), problem));
    if stained {
        return bad("must not hold control characters");
    }
    match name.first() {
        Some(b'h' | b'H') if name.eq_ignore_ascii_case(b"host") => {
            if value.trim_ascii().iter().all(|byte| is_of_authority(*byte)) {
                Ok(None)
            } else {
                bad("must be a host and a port")
            }
        }
        Some(b'c' | b'C') if name.eq_ignore_ascii_case(b"content-length") => {
            match digits(value.trim_ascii()) {
                Some(bytes) => Ok(Some(Length::Bytes(bytes))),
                None => bad("must be one number of bytes"),
            }
        }
        Some(b't' | b'T') if name.eq_ignore_ascii_case(b"transfer-encoding") => {
            if value.trim_ascii().eq_ignore_ascii_case(b"chunked") {
                Ok(Some(Length::Chunked))
            } else {
                bad("must be chunked")
            }
        }
        _ => Ok(None),
    }
}

/// A plain decimal number.
pub(crate) fn digits(value: &[u8]) -> Option<usize> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(value).ok()?.parse().ok()
}

/// What no header value may hold (RFC 9110 §5.5).
const fn is_control(byte: u8) -> bool {
    (byte < 0x20 && byte != b'\t') || byte == 0x7f
}

/// What a host and a port are made of (RFC 3986 §3.2), escapes and rarer signs left out.
pub(crate) const fn is_of_authority(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b':' | b'[' | b']')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_pingora_would_refuse_without_a_word_is_refused_here() {
        for head in [
            "GET / HTTP/1.1\r\nHost: a\r\nhost: a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: x@y\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a, b\r\n\r\n",
            "CONNECT x:443 HTTP/1.1\r\nHost: x:443\r\n\r\n",
            "GET /api?q=\"a\" HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET /<a> HTTP/1.1\r\nHost: a\r\n\r\n",
            "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n",
        ] {
            assert!(
                matches!(judge(head.as_bytes()), Err(BadHead::Malformed { .. })),
                "{head}"
            );
        }
        let head = b"GET / HTTP/1.1\r\nHost: [::1]:8080\r\n\r\n";
        assert_eq!(judge(head), Ok(Length::Bytes(0)));
    }

    #[test]
    fn a_whole_uri_names_the_host_that_the_header_names() {
        let judged = |target: &str, host: &str| {
            judge(format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes())
        };
        for (target, host) in [
            ("http://x/api", "x"),
            ("HTTP://x:80?q", "x:80"),
            ("https://[::1]", "[::1]"),
        ] {
            assert_eq!(judged(target, host), Ok(Length::Bytes(0)), "{target}");
        }
        assert!(judge(b"GET http://x/ HTTP/1.0\r\n\r\n").is_ok());
        for (target, host, named) in [
            ("http://x/api", "y", "Host"),
            ("http://x/api", "x:80", "Host"),
            ("http://x/api", "", "Host"),
            ("http://u@x/", "x", "request_line"),
            ("http:///api", "x", "request_line"),
            ("http:/api", "x", "request_line"),
            ("http://[::1/", "[::1", "request_line"),
            ("http:\\\\x/", "x", "request_line"),
            ("ftp://x/", "x", "request_line"),
            ("api", "x", "request_line"),
        ] {
            assert_eq!(field(judged(target, host)), named, "{target} {host}");
        }
    }

    #[test]
    fn a_head_ends_at_its_empty_line_however_lines_end() {
        for (bytes, expected) in [
            (&b"GET / HTTP/1.1\r\n\r\nbody"[..], Some(18)),
            (b"GET / HTTP/1.1\n\nbody", Some(16)),
            (b"GET / HTTP/1.1\r\nA: b\n\r\nx", Some(23)),
            (b"GET / HTTP/1.1\r\n", None),
            (b"GET / HTTP/1.1\r\n\r", None),
            (b"", None),
        ] {
            assert_eq!(end(bytes, 0), expected);
            if let Some(at) = expected {
                // Also when the end came in with the last bytes only.
                assert_eq!(end(bytes, at - 4), Some(at));
            }
        }
    }

    fn length(headers: &str) -> Result<Length, BadHead> {
        judge(format!("POST /x HTTP/1.1\r\n{headers}\r\n").as_bytes())
    }

    fn field(judged: Result<Length, BadHead>) -> String {
        match judged {
            Err(BadHead::Malformed { field, .. }) => field,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_length_is_said_in_one_way_or_refused() {
        for (headers, expected) in [
            ("", Length::Bytes(0)),
            ("Host: x\r\n", Length::Bytes(0)),
            ("Content-Length: 12\r\n", Length::Bytes(12)),
            ("content-LENGTH:12 \r\n", Length::Bytes(12)),
            ("Transfer-Encoding: Chunked\r\n", Length::Chunked),
            ("Content-Lengthy: 4\r\n", Length::Bytes(0)),
        ] {
            assert_eq!(length(headers), Ok(expected), "{headers:?}");
        }
        for headers in [
            "Content-Length: 1\r\nContent-Length: 1\r\n",
            "Content-Length: 1, 1\r\n",
            "Content-Length: +1\r\n",
            "Content-Length: -1\r\n",
            "Content-Length: \r\n",
            "Content-Length: 99999999999999999999\r\n",
            "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n",
        ] {
            assert_eq!(field(length(headers)), "Content-Length", "{headers:?}");
        }
        for headers in [
            "Transfer-Encoding: xchunked\r\n",
            "Transfer-Encoding: chunked, identity\r\n",
        ] {
            assert_eq!(field(length(headers)), "Transfer-Encoding", "{headers:?}");
        }
    }

    #[test]
    fn what_is_no_header_is_named_and_what_is_one_passes() {
        for (headers, named) in [
            ("Idempotency-Key: \u{7f}\r\n", "Idempotency-Key"),
            ("A: b\r\nX-Y: a\u{0}b\r\n", "X-Y"),
            ("a b\r\n", "headers"),
            ("Content-Length : 4\r\n", "headers"),
            (" folded: x\r\n", "headers"),
            (": x\r\n", "headers"),
        ] {
            assert_eq!(field(length(headers)), named, "{headers:?}");
        }
        for headers in ["A: b\tc\r\n", "A: na\u{ef}ve\r\n", "A:\r\n"] {
            assert_eq!(length(headers), Ok(Length::Bytes(0)), "{headers:?}");
        }
    }

    #[test]
    fn what_is_no_request_line_is_refused() {
        for line in [
            "GARBAGE",
            "GET /",
            "GET / HTTP/2.0",
            "GET  / HTTP/1.1",
            "GET /a b HTTP/1.1",
            "GET /\u{1} HTTP/1.1",
            "GET /\u{e9} HTTP/1.1",
            "G(T / HTTP/1.1",
            " GET / HTTP/1.1",
        ] {
            let judged = judge(format!("{line}\r\n\r\n").as_bytes());
            assert_eq!(field(judged), "request_line", "{line:?}");
        }
        assert!(judge(b"\r\nGET / HTTP/1.0\r\n\r\n").is_ok());
        assert!(judge(b"OPTIONS * HTTP/1.1\n\n").is_ok());
    }

    #[test]
    fn large_heads_are_large() {
        assert_eq!(length(&"A: b\r\n".repeat(250)), Err(BadHead::TooLarge));
        assert!(length(&"A: b\r\n".repeat(190)).is_ok());
        let wide = format!("A: {}\r\n", "b".repeat(HEAD_BYTES_MAX));
        assert_eq!(length(&wide), Err(BadHead::TooLarge));
    }
}
