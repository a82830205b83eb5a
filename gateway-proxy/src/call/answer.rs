//! What the buyer gets: the envelope around the seller's bytes, the failure, the wait.
//!
//! The envelope is built once, before the settlement, in one allocation; its bytes are what is
//! settled, stored, sent and replayed.

use std::io::Write as _;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use crochet_shared::code::{Code, NextAction};
use crochet_shared::envelope::{Amount, Failure, Fees, Success};
use crochet_shared::id::RequestId;
use crochet_shared::internal::Grant;
use crochet_shared::outcome::Encoding;
use serde::Serialize;

use super::settle::{Settled, Told};
use crate::error::{Kind, Refusal, Reply};
use crate::gateway::Gateway;
use crate::seller::SellerAnswer;

/// Bytes of the envelope besides the seller's own and her two headers, generously.
const ENVELOPE_BYTES: usize = 640;

/// The answer of a settled call.
pub fn answer(gateway: &Arc<Gateway>, settled: Settled) -> Result<Reply, Refusal> {
    let request_id = settled.grant.request_id;
    match settled.told {
        Told::Delivered(envelope) => {
            Ok(Reply::ok(200, Kind::Delivered, envelope).about(request_id))
        }
        Told::TooLate => Err(gateway.errors.about(Code::ServiceUnavailable, request_id)),
        Told::Failed {
            code,
            seller_status,
            attempts,
            attempts_remaining,
            refund_due,
        } => {
            let failure = Failure::from(code);
            let failure = if refund_due {
                failure
                    .with_retryable(false)
                    .with_next(NextAction::AwaitRefund, AWAIT_REFUND)
                    .with_names(&[], &["X-Crochet-Relay-Request-Id"])
            } else {
                failure
            };
            let data = FailedData {
                request_id,
                billable: false,
                seller_status_code: seller_status,
                attempts,
                attempts_remaining,
            };
            let refusal = gateway.errors.failure_with_data(&failure, &data);
            Err(refusal.about(request_id))
        }
    }
}

/// Field order as in the contract, §5.
#[derive(Serialize)]
struct FailedData {
    request_id: RequestId,
    billable: bool,
    seller_status_code: Option<u16>,
    attempts: i32,
    attempts_remaining: i32,
}

const AWAIT_REFUND: &str = "This payment cannot be used again: await its refund. To call again, start a new payment without X-Crochet-Relay-Request-Id.";

/// 202: the payment is known and not done.
pub fn pending(
    relay_request_id: &str,
    request_id: RequestId,
    retry_after_seconds: u32,
    next_action: NextAction,
) -> Reply {
    let retry_after_seconds = retry_after_seconds.max(1);
    let body = serde_json::to_vec(&Success::new(Pending {
        status: "pending",
        retryable: true,
        retry_after_seconds,
        relay_request_id,
        request_id,
        next_action,
    }))
    .unwrap_or_default();
    Reply::ok(202, Kind::Pending, body.into())
        .about(request_id)
        .after(retry_after_seconds)
}

/// Field order as in the contract, §5.
#[derive(Serialize)]
struct Pending<'a> {
    status: &'a str,
    retryable: bool,
    retry_after_seconds: u32,
    relay_request_id: &'a str,
    request_id: RequestId,
    next_action: NextAction,
}

/// 409: the call is being forwarded.
pub fn in_progress(
    gateway: &Gateway,
    request_id: Option<RequestId>,
    retry_after_seconds: u32,
) -> Refusal {
    let code = Code::GatewayRequestInProgress;
    let refusal = gateway.errors.wait(code, retry_after_seconds.max(1));
    match request_id {
        Some(request_id) => refusal.about(request_id),
        None => refusal,
    }
}

/// How a seller's bytes stand in the envelope, and how many bytes they are there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    encoding: Encoding,
    /// Exact.
    pub bytes: usize,
}

impl Shape {
    /// Of this body, which has a `Content-Encoding` or none.
    pub fn of(body: &Bytes, is_encoded: bool) -> Self {
        let encoding = Encoding::of(body, is_encoded);
        let bytes = match encoding {
            Encoding::Json if body.is_empty() => NULL.len(),
            Encoding::Json => body.len(),
            Encoding::Text => QUOTES + body.len() + escapes(body),
            Encoding::Base64 => QUOTES + body.len().div_ceil(3) * 4,
        };
        Self { encoding, bytes }
    }
}

/// What stands for no bytes at all.
const NULL: &[u8] = b"null";
/// The quotation marks of a string.
const QUOTES: usize = 2;
/// By how many bytes each byte of text is longer in a JSON string, as `serde_json` writes it: `\n`, `\u001f`.
/// A table, because comparing took four times as long for each byte (2 ns).
#[expect(
    clippy::indexing_slicing,
    reason = "computed when this is compiled, where an index out of range does not compile"
)]
static ESCAPES: [u8; 256] = {
    let mut more = [0; 256];
    let mut control = 0;
    while control < 0x20 {
        more[control] = 5;
        control += 1;
    }
    let short = *b"\"\\\n\r\t\x08\x0c";
    let mut next = 0;
    while next < short.len() {
        more[short[next] as usize] = 1;
        next += 1;
    }
    more
};

/// By how many bytes text is longer in a JSON string.
fn escapes(text: &[u8]) -> usize {
    let more = text.iter().map(|byte| ESCAPES.get(usize::from(*byte)));
    more.flatten().map(|more| usize::from(*more)).sum()
}

/// The body of a 200 around what the seller answered, fields in the contract's order.
pub fn envelope(grant: &Grant, answer: &SellerAnswer, shape: Shape) -> Bytes {
    let mut out = Vec::with_capacity(ENVELOPE_BYTES + shape.bytes);
    // Writing into memory and serialising text and numbers cannot fail.
    let _ = write_envelope(&mut out, grant, answer, shape.encoding);
    out.into()
}

fn write_envelope(
    out: &mut Vec<u8>,
    grant: &Grant,
    answer: &SellerAnswer,
    encoding: Encoding,
) -> Result<(), std::io::Error> {
    let fees = grant
        .fee_rate
        .split(grant.gross)
        .map(|split| Fees::of(grant.fee_rate, &split));
    write!(
        out,
        "{{\"success\":true,\"data\":{{\"request_id\":\"{}\",\"billable\":true,\"charged_amount\":",
        grant.request_id
    )?;
    serde_json::to_writer(&mut *out, &Amount::from(grant.gross))?;
    out.extend_from_slice(b",\"fees\":");
    serde_json::to_writer(&mut *out, &fees)?;
    write!(
        out,
        ",\"seller_status_code\":{},\"seller_response\":",
        answer.status
    )?;
    write_response(out, &answer.body, encoding)?;
    write!(
        out,
        ",\"seller_response_encoding\":\"{}\",\"seller_content_type\":",
        encoding.as_str()
    )?;
    serde_json::to_writer(&mut *out, &answer.content_type)?;
    out.extend_from_slice(b",\"seller_content_encoding\":");
    serde_json::to_writer(&mut *out, &answer.content_encoding)?;
    out.extend_from_slice(b"}}");
    Ok(())
}

fn write_response(
    out: &mut Vec<u8>,
    body: &[u8],
    encoding: Encoding,
) -> Result<(), std::io::Error> {
    match encoding {
        Encoding::Json if body.is_empty() => out.extend_from_slice(NULL),
        Encoding::Json => out.extend_from_slice(body),
        Encoding::Text => {
            let text = std::str::from_utf8(body).unwrap_or_default();
            serde_json::to_writer(out, text)?;
        }
        Encoding::Base64 => {
            out.push(b'"');
            let start = out.len();
            out.resize(start + body.len().div_ceil(3) * 4, 0);
            let room = out.get_mut(start..).unwrap_or_default();
            STANDARD
                .encode_slice(body, room)
                .map_err(std::io::Error::other)?;
            out.push(b'"');
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seller::Kept;
    use crochet_shared::internal::Redelivery;
    use crochet_shared::money::{FEE_RATE, Micros};
    use proptest::prelude::*;
    use serde_json::Value;
    use std::time::Duration;

    fn grant() -> Grant {
        Grant {
            request_id: "gw_req_01890a5dac96774bbcceb302099a8057".parse().unwrap(),
            epoch: 1,
            attempt: 1,
            max_attempts: 5,
            gross: Micros(1_000_000),
            fee_rate: FEE_RATE,
            timeout_ms: 1,
            lease_ms: 1,
            redelivery: Redelivery::SameRequestId,
        }
    }

    fn answer(
        status: u16,
        body: &[u8],
        content_type: Option<&str>,
        content_encoding: Option<&str>,
    ) -> SellerAnswer {
        SellerAnswer {
            status,
            content_type: content_type.map(str::to_owned),
            content_encoding: content_encoding.map(str::to_owned),
            body: Bytes::copy_from_slice(body),
            latency: Duration::ZERO,
            kept: Kept::default(),
        }
    }

    const HEAD: &str = r#"{"success":true,"data":{"request_id":"gw_req_01890a5dac96774bbcceb302099a8057","billable":true,"charged_amount":{"amount_cents":100,"amount_micros":1000000,"currency":"USD"},"fees":{"fee_rate":0.049,"fee_amount_cents":5,"seller_receives_cents":95,"fee_amount_micros":49000,"seller_receives_micros":951000},"seller_status_code":"#;

    fn shape_of(answer: &SellerAnswer) -> Shape {
        Shape::of(&answer.body, answer.content_encoding.is_some())
    }

    fn exact(answer: &SellerAnswer, tail: &str) {
        let built = envelope(&grant(), answer, shape_of(answer));
        assert_eq!(
            std::str::from_utf8(&built).unwrap(),
            format!("{HEAD}{tail}")
        );
    }

    #[test]
    fn json_stands_byte_for_byte() {
        exact(
            &answer(
                200,
                b" {\"a\": 1.10, \"a\":2}\n",
                Some("application/json"),
                None,
            ),
            "200,\"seller_response\": {\"a\": 1.10, \"a\":2}\n,\"seller_response_encoding\":\"json\",\"seller_content_type\":\"application/json\",\"seller_content_encoding\":null}}",
        );
    }

    #[test]
    fn text_becomes_a_string_whatever_its_type_says() {
        exact(
            &answer(
                404,
                "he said \"né\"\n".as_bytes(),
                Some("application/json"),
                None,
            ),
            "404,\"seller_response\":\"he said \\\"né\\\"\\n\",\"seller_response_encoding\":\"text\",\"seller_content_type\":\"application/json\",\"seller_content_encoding\":null}}",
        );
    }

    #[test]
    fn other_bytes_and_encoded_ones_are_base64() {
        exact(
            &answer(200, b"\xff\xfe", None, None),
            "200,\"seller_response\":\"//4=\",\"seller_response_encoding\":\"base64\",\"seller_content_type\":null,\"seller_content_encoding\":null}}",
        );
        exact(
            &answer(200, b"{}", Some("a\"b"), Some("gzip")),
            "200,\"seller_response\":\"e30=\",\"seller_response_encoding\":\"base64\",\"seller_content_type\":\"a\\\"b\",\"seller_content_encoding\":\"gzip\"}}",
        );
    }

    #[test]
    fn nothing_is_null() {
        exact(
            &answer(204, b"", None, None),
            "204,\"seller_response\":null,\"seller_response_encoding\":\"json\",\"seller_content_type\":null,\"seller_content_encoding\":null}}",
        );
    }

    proptest! {
        #[test]
        fn an_envelope_is_always_json_and_gives_the_bytes_back(
            body in proptest::collection::vec(any::<u8>(), 0..200),
            encoded in any::<bool>(),
        ) {
            let answer = answer(200, &body, None, encoded.then_some("x"));
            let shape = shape_of(&answer);
            let built = envelope(&grant(), &answer, shape);
            let mut alone = Vec::new();
            write_response(&mut alone, &body, shape.encoding).unwrap();
            prop_assert_eq!(alone.len(), shape.bytes);
            prop_assert!(built.len() <= ENVELOPE_BYTES + shape.bytes);
            let built: Value = serde_json::from_slice(&built).unwrap();
            let data = &built["data"];
            match data["seller_response_encoding"].as_str().unwrap() {
                "json" => {
                    let given = serde_json::from_slice::<Value>(&body).unwrap_or(Value::Null);
                    prop_assert_eq!(&data["seller_response"], &given);
                }
                "text" => prop_assert_eq!(
                    data["seller_response"].as_str().unwrap().as_bytes(), &body[..]
                ),
                _ => prop_assert_eq!(
                    STANDARD.decode(data["seller_response"].as_str().unwrap()).unwrap(), body
                ),
            }
        }
    }

    #[test]
    fn every_byte_of_text_is_as_long_as_it_is_written() {
        for byte in 0..0x80_u8 {
            // Two, because a digit alone is JSON.
            let text = answer(200, &[b'x', byte], None, None);
            let shape = shape_of(&text);
            let mut written = Vec::new();
            write_response(&mut written, &text.body, shape.encoding).unwrap();
            assert_eq!(written.len(), shape.bytes, "{byte}");
        }
        let worst = answer(200, &[1; 1000], None, None);
        assert_eq!(shape_of(&worst).bytes, 6002);
    }

    #[test]
    fn a_202_is_exact() {
        let request_id = grant().request_id;
        let reply = pending("0xa", request_id, 0, NextAction::RetryWithRelayRequestId);
        assert_eq!(
            std::str::from_utf8(&reply.body).unwrap(),
            r#"{"success":true,"data":{"status":"pending","retryable":true,"retry_after_seconds":1,"relay_request_id":"0xa","request_id":"gw_req_01890a5dac96774bbcceb302099a8057","next_action":"retry_with_relay_request_id"}}"#
        );
        assert_eq!((reply.status, reply.retry_after), (202, Some(1)));
    }
}
