//! The bytes of a request, the same for the gateway and for every baseline.

use bytes::Bytes;

/// Digits of a serial: every body has the same length, so all requests cost the same to read.
const SERIAL_DIGITS: usize = 12;
/// Filler of a request body: about what a short prompt or query takes.
const CONTEXT_BYTES: usize = 120;

/// The serial of a body, as it stands there and as the seller echoes it.
pub(crate) fn serial_text(serial: u64) -> String {
    format!("{serial:0SERIAL_DIGITS$}")
}

/// A body that asks the demo seller to echo `serial` with `answer_bytes` of filler.
pub(crate) fn body(serial: u64, answer_bytes: u32) -> Bytes {
    body_of(serial, &format!(r#""size":{answer_bytes}"#))
}

/// The same of a seller who takes her time.
pub(crate) fn slow_body(serial: u64, answer_bytes: u32, delay_ms: u32) -> Bytes {
    body_of(
        serial,
        &format!(r#""size":{answer_bytes},"delay_ms":{delay_ms}"#),
    )
}

fn body_of(serial: u64, wanted: &str) -> Bytes {
    let (serial, context) = (serial_text(serial), "c".repeat(CONTEXT_BYTES));
    format!(r#"{{"input":"{serial}","context":"{context}","seller":{{{wanted}}}}}"#).into()
}

/// A call as an agent's client would write it, head and body in one piece.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call<'a> {
    /// The listing's id.
    pub(crate) listing: &'a str,
    /// The buyer's key.
    pub(crate) key: &'a str,
    /// `X-Crochet-Relay-Request-Id`
    pub(crate) relay_request_id: Option<&'a str>,
    /// `PAYMENT-SIGNATURE`, of an x402 gateway.
    pub(crate) payment_signature: Option<&'a str>,
}

impl Call<'_> {
    /// Where it goes.
    pub(crate) fn path(self) -> String {
        format!("/api/v1/gateway/{}", self.listing)
    }

    /// The request as it is sent.
    pub(crate) fn bytes(self, body: &[u8]) -> Bytes {
        let mut head = format!("POST {} HTTP/1.1\r\nHost: crochet.test\r\n", self.path());
        push_header(&mut head, "User-Agent", "crochet-bench");
        push_header(&mut head, "Accept", "*/*");
        push_header(&mut head, "Authorization", &format!("Bearer {}", self.key));
        push_header(&mut head, "Content-Type", "application/json");
        if let Some(id) = self.relay_request_id {
            push_header(&mut head, "X-Crochet-Relay-Request-Id", id);
        }
        if let Some(payment) = self.payment_signature {
            push_header(&mut head, "PAYMENT-SIGNATURE", payment);
        }
        push_header(&mut head, "Content-Length", &body.len().to_string());
        head.push_str("\r\n");
        let mut bytes = head.into_bytes();
        bytes.extend_from_slice(body);
        bytes.into()
    }
}

/// `GET path` with a key.
pub(crate) fn get(path: &str, key: &str) -> Bytes {
    format!("GET {path} HTTP/1.1\r\nHost: crochet.test\r\nAuthorization: Bearer {key}\r\n\r\n")
        .into()
}

fn push_header(head: &mut String, name: &str, value: &str) {
    for part in [name, ": ", value, "\r\n"] {
        head.push_str(part);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_differ_in_their_serial_alone() {
        let (one, two) = (body(1, 970), body(987_654_321, 970));
        assert_ne!(one, two);
        assert_eq!(one.len(), two.len());
        let json: serde_json::Value = serde_json::from_slice(&one).unwrap();
        assert_eq!(json["input"], "000000000001");
        assert_eq!(json["seller"], serde_json::json!({ "size": 970 }));
        let slow: serde_json::Value = serde_json::from_slice(&slow_body(1, 970, 100)).unwrap();
        assert_eq!(
            slow["seller"],
            serde_json::json!({ "size": 970, "delay_ms": 100 })
        );
    }

    #[test]
    fn a_request_is_one_http_message() {
        let call = Call {
            listing: "abc",
            key: "am_k_x",
            relay_request_id: Some("0x1"),
            payment_signature: None,
        };
        let bytes = call.bytes(b"{}");
        let mut headers = [httparse::EMPTY_HEADER; 16];
        let mut request = httparse::Request::new(&mut headers);
        let head = request.parse(&bytes).unwrap().unwrap();
        assert_eq!(request.path, Some("/api/v1/gateway/abc"));
        assert_eq!(&bytes[head..], b"{}");
        let value = |name: &str| {
            let header = request.headers.iter().find(|h| h.name == name);
            header.map(|h| String::from_utf8_lossy(h.value).into_owned())
        };
        assert_eq!(value("Content-Length").as_deref(), Some("2"));
        assert_eq!(value("X-Crochet-Relay-Request-Id").as_deref(), Some("0x1"));
        assert_eq!(value("Authorization").as_deref(), Some("Bearer am_k_x"));
    }
}
