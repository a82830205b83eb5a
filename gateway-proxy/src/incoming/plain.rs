//! The plain head of a call. Pure.
//!
//! Whatever is unusual in the least is left to the long way, which judges it and says what is wrong: this
//! reading refuses nothing, and takes only what [`head::judge`](crate::head::judge) takes too.

use bytes::Bytes;
use http::HeaderMap;
use http::header::{
    CONNECTION, CONTENT_LENGTH, EXPECT, HOST, HeaderName, HeaderValue, TRANSFER_ENCODING, UPGRADE,
};

use crate::head::{digits, is_of_authority};
use crate::path::{self, Place};

/// What a plain head begins with.
const BEGINNING: &[u8] = b"POST /api/v1/gateway/";
/// Lines of a plain head, at most.
const LINES_MAX: usize = 48;
/// Longest plain head, in bytes.
const BYTES_MAX: usize = 8 * 1024;

/// A plain head, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plain {
    /// The listing in the path: its id or slug.
    pub name: String,
    /// The headers.
    pub headers: HeaderMap,
    /// Bytes of the body.
    pub length: usize,
}

/// Whether what begins so is worth reading as a plain head.
pub fn may_be(bytes: &[u8]) -> bool {
    bytes.starts_with(BEGINNING)
}

/// Reads a whole head. `None` says only that it is not a plain one.
pub fn read(head: &Bytes) -> Option<Plain> {
    if !may_be(head) || head.len() > BYTES_MAX {
        return None;
    }
    let mut lines = [httparse::EMPTY_HEADER; LINES_MAX];
    let mut request = httparse::Request::new(&mut lines);
    let parsed = request.parse(head).ok()?;
    if parsed != httparse::Status::Complete(head.len()) || request.version != Some(1) {
        return None;
    }
    let target = request.path?;
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'-' | b'_');
    if !target.bytes().all(is_plain) {
        return None;
    }
    let Place::Gateway(name) = path::place(target) else {
        return None;
    };
    let (mut length, mut hosts) = (None, 0_u32);
    let mut headers = HeaderMap::with_capacity(request.headers.len());
    for line in &*request.headers {
        let header = HeaderName::from_bytes(line.name.as_bytes()).ok()?;
        match header {
            CONTENT_LENGTH if length.is_some() => return None,
            CONTENT_LENGTH => length = Some(digits(line.value)?),
            HOST if !line.value.iter().all(|byte| is_of_authority(*byte)) => return None,
            HOST => hosts += 1,
            CONNECTION if !line.value.eq_ignore_ascii_case(b"keep-alive") => return None,
            EXPECT | TRANSFER_ENCODING | UPGRADE => return None,
            _ => {}
        }
        let value = HeaderValue::from_maybe_shared(head.slice_ref(line.value)).ok()?;
        headers.append(header, value);
    }
    (hosts == 1).then_some(Plain {
        name: name.to_owned(),
        headers,
        length: length?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::head::{self, Length};
    use proptest::prelude::*;

    fn plain(head: &str) -> Option<Plain> {
        read(&Bytes::copy_from_slice(head.as_bytes()))
    }

    fn call(lines: &str) -> String {
        format!("POST /api/v1/gateway/a-b_1 HTTP/1.1\r\n{lines}\r\n")
    }

    #[test]
    fn what_clients_send_is_plain() {
        let read = plain(&call(
            "Host: api:443\r\nAuthorization: Bearer x\r\nContent-Length: 12\r\nConnection: Keep-Alive\r\nX-A: 1\r\nX-A: 2\r\n",
        ))
        .unwrap();
        assert_eq!((read.name.as_str(), read.length), ("a-b_1", 12));
        assert_eq!(read.headers.get("authorization").unwrap(), "Bearer x");
        assert_eq!(read.headers.get_all("x-a").iter().count(), 2);
    }

    #[test]
    fn anything_unusual_goes_the_long_way() {
        let usual = "Host: a\r\nContent-Length: 1\r\n";
        assert!(plain(&call(usual)).is_some());
        for lines in [
            "Host: a\r\n",
            "Content-Length: 1\r\n",
            "Host: a\r\nHost: a\r\nContent-Length: 1\r\n",
            "Host: a, b\r\nContent-Length: 1\r\n",
            "Host: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n",
            "Host: a\r\nContent-Length: +1\r\n",
            "Host: a\r\nContent-Length: 99999999999999999999\r\n",
            "Host: a\r\nTransfer-Encoding: chunked\r\n",
            "Host: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n",
            "Host: a\r\nContent-Length: 1\r\nExpect: 100-continue\r\n",
            "Host: a\r\nContent-Length: 1\r\nConnection: close\r\n",
            "Host: a\r\nContent-Length: 1\r\nConnection: keep-alive, x\r\n",
            "Host: a\r\nContent-Length: 1\r\nUpgrade: x\r\n",
            "Host: a\r\nContent-Length: 1\r\nX : y\r\n",
            "Host: a\r\nContent-Length: 1\r\nX: a\u{1}b\r\n",
            "Host: a\r\nContent-Length: 1\r\n folded\r\n",
        ] {
            assert_eq!(plain(&call(lines)), None, "{lines:?}");
        }
        for target in [
            "GET /api/v1/gateway/a HTTP/1.1",
            "POST /api/v1/gateway/a HTTP/1.0",
            "POST /api/v1/gateway/a?b HTTP/1.1",
            "POST /api/v1/gateway/a%62 HTTP/1.1",
            "POST /api/v1/gateway/ HTTP/1.1",
            "POST /api/v1/gateway/a/b HTTP/1.1",
            "POST /api/v1/gateway/.. HTTP/1.1",
            "POST http://a/api/v1/gateway/a HTTP/1.1",
            " POST /api/v1/gateway/a HTTP/1.1",
            "\r\nPOST /api/v1/gateway/a HTTP/1.1",
        ] {
            assert_eq!(plain(&format!("{target}\r\n{usual}\r\n")), None, "{target}");
        }
        let many = format!("{usual}{}", "A: b\r\n".repeat(LINES_MAX));
        assert_eq!(plain(&call(&many)), None);
        let wide = format!("{usual}A: {}\r\n", "b".repeat(BYTES_MAX));
        assert_eq!(plain(&call(&wide)), None);
        // What comes behind the head is no part of it.
        assert_eq!(plain(&format!("{}x", call(usual))), None);
    }

    proptest! {
        /// The short way is no way around the judge.
        #[test]
        fn the_judge_takes_what_is_plain_and_means_the_same(
            lines in proptest::collection::vec(
                prop_oneof![
                    Just("Host: a".to_owned()),
                    Just("Content-Length: 7".to_owned()),
                    "[A-Za-z-]{1,12}: ?[ -~]{0,12}",
                    "(Host|Content-Length|Connection|Transfer-Encoding|Expect)( ?):[ -~\t]{0,8}",
                    "[ -~\t\r]{0,16}",
                ],
                0..6,
            ),
            end in prop_oneof![Just("\r\n"), Just("\n")],
        ) {
            let mut text = format!("POST /api/v1/gateway/a HTTP/1.1{end}");
            for line in &lines {
                text.push_str(line);
                text.push_str(end);
            }
            text.push_str(end);
            if let Some(read) = plain(&text) {
                prop_assert_eq!(head::judge(text.as_bytes()), Ok(Length::Bytes(read.length)));
            }
        }
    }
}
