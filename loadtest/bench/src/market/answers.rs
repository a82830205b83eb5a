//! What each kind of answer has to say, looked at field by field.

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use demo_agent::Answer;
use serde_json::Value;

use crate::load::Kept;

/// A delivered answer with holes where the request's id and the body's serial stand.
#[derive(Clone, Debug)]
pub(super) struct Template {
    text: String,
    request_id: String,
    serial: String,
}

impl Template {
    pub(super) fn new(body: &[u8], request_id: &str, serial: &str) -> Result<Self> {
        let text = std::str::from_utf8(body)
            .context("an answer that is no text")?
            .to_owned();
        ensure!(
            text.matches(request_id).count() > 0,
            "the answer does not name its request {request_id}"
        );
        ensure!(
            text.matches(serial).count() == 1,
            "the serial {serial} does not stand in the answer exactly once: {text}"
        );
        Ok(Self {
            text,
            request_id: request_id.to_owned(),
            serial: serial.to_owned(),
        })
    }

    /// The whole body of another delivered call.
    pub(super) fn fill(&self, request_id: &str, serial: &str) -> Bytes {
        self.text
            .replace(&self.request_id, request_id)
            .replace(&self.serial, serial)
            .into()
    }
}

/// The first delivered call.
pub(super) fn check_delivered(
    answer: &Answer,
    request_id: &str,
    serial: &str,
    price_micros: u64,
) -> Result<()> {
    let data = answer.data(200)?;
    let at = |pointer: &str| data.pointer(pointer).cloned().unwrap_or_default();
    let right = at("/request_id") == request_id
        && at("/billable") == true
        && at("/charged_amount/amount_micros") == price_micros
        && at("/seller_status_code") == 200
        && at("/seller_response/ok") == true
        && at("/seller_response/echo") == serial
        && answer.header("idempotent-replayed").is_none();
    ensure!(
        right,
        "not a delivered call {request_id} of {price_micros} micro-dollars: {answer}"
    );
    Ok(())
}

/// A refused key.
pub(super) fn check_refused(answer: &Kept) -> Result<()> {
    let json = json(answer)?;
    ensure!(
        answer.status == 401 && code(&json) == "INVALID_API_KEY",
        "not a refused key: {} {json}",
        answer.status
    );
    Ok(())
}

/// Two 402s for the same call: the second gives the first one's quote again.
pub(super) fn check_reused(fresh: &Kept, again: &Kept) -> Result<()> {
    let (first, second) = (json(fresh)?, json(again)?);
    for (answer, json) in [(fresh, &first), (again, &second)] {
        ensure!(
            answer.status == 402 && code(json) == "PAYMENT_REQUIRED",
            "not a 402: {} {json}",
            answer.status
        );
    }
    let id = |json: &Value| {
        json.pointer("/data/payment/relay_request_id")
            .cloned()
            .unwrap_or_default()
    };
    ensure!(
        id(&first).is_string() && id(&first) == id(&second),
        "another quote the second time: {first} {second}"
    );
    ensure!(
        second.pointer("/data/payment/reused") == Some(&Value::Bool(true)),
        "not a reused quote: {second}"
    );
    Ok(())
}

/// A 402's ids: the provider's and ours; none when it is no 402.
pub(super) fn quote_of(answer: &Kept) -> Option<(String, String)> {
    let json = json(answer).ok()?;
    if answer.status != 402 || code(&json) != "PAYMENT_REQUIRED" {
        return None;
    }
    let text = |name: &str| {
        Some(
            json.pointer("/data/payment")?
                .get(name)?
                .as_str()?
                .to_owned(),
        )
    };
    Some((text("relay_request_id")?, text("request_id")?))
}

/// The provider's id of a quote that was made for this very call.
pub(super) fn fresh_quote_of(answer: &Kept) -> Option<String> {
    let reused = json(answer)
        .ok()?
        .pointer("/data/payment/reused")
        .cloned()?;
    let (relay_request_id, _) = quote_of(answer)?;
    (reused == Value::Bool(false)).then_some(relay_request_id)
}

/// Whether a payment is in evidence: `GET /relay-requests/:id` says so.
pub(super) fn is_paid(answer: &Kept) -> bool {
    answer.status == 200
        && json(answer).is_ok_and(|json| json.pointer("/data/status") == Some(&Value::from("paid")))
}

fn json(answer: &Kept) -> Result<Value> {
    serde_json::from_slice(&answer.body).with_context(|| format!("{} without JSON", answer.status))
}

fn code(json: &Value) -> &str {
    json.pointer("/error/code")
        .and_then(Value::as_str)
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(status: u16, body: &'static str) -> Kept {
        Kept {
            status,
            body: Bytes::from_static(body.as_bytes()),
        }
    }

    #[test]
    fn a_template_fills_both_holes_and_nothing_else() {
        let body = br#"{"data":{"request_id":"gw_req_aa","seller_response":{"echo":"000000000001"},"amount":1}}"#;
        let template = Template::new(body, "gw_req_aa", "000000000001").unwrap();
        let filled = template.fill("gw_req_bb", "000000000002");
        assert_eq!(&filled[..], br#"{"data":{"request_id":"gw_req_bb","seller_response":{"echo":"000000000002"},"amount":1}}"#);
        Template::new(body, "gw_req_cc", "000000000001").unwrap_err();
        Template::new(body, "gw_req_aa", "000000000009").unwrap_err();
    }

    #[test]
    fn only_the_same_quote_marked_as_reused_counts_as_reused() {
        let fresh = kept(
            402,
            r#"{"error":{"code":"PAYMENT_REQUIRED"},"data":{"payment":{"relay_request_id":"0x1","request_id":"gw_req_1","reused":false}}}"#,
        );
        let again = kept(
            402,
            r#"{"error":{"code":"PAYMENT_REQUIRED"},"data":{"payment":{"relay_request_id":"0x1","request_id":"gw_req_1","reused":true}}}"#,
        );
        let other = kept(
            402,
            r#"{"error":{"code":"PAYMENT_REQUIRED"},"data":{"payment":{"relay_request_id":"0x2","request_id":"gw_req_2","reused":true}}}"#,
        );
        check_reused(&fresh, &again).unwrap();
        check_reused(&fresh, &fresh).unwrap_err();
        check_reused(&fresh, &other).unwrap_err();
        assert_eq!(
            quote_of(&other),
            Some(("0x2".to_owned(), "gw_req_2".to_owned()))
        );
        assert_eq!(quote_of(&kept(503, "{}")), None);
    }

    #[test]
    fn only_a_recorded_payment_is_in_evidence() {
        assert!(is_paid(&kept(
            200,
            r#"{"success":true,"data":{"status":"paid"}}"#
        )));
        assert!(!is_paid(&kept(
            200,
            r#"{"success":true,"data":{"status":"pending"}}"#
        )));
        assert!(!is_paid(&kept(
            404,
            r#"{"success":true,"data":{"status":"paid"}}"#
        )));
        assert!(!is_paid(&kept(502, "")));
    }

    #[test]
    fn a_refused_key_is_told_by_its_code() {
        check_refused(&kept(401, r#"{"error":{"code":"INVALID_API_KEY"}}"#)).unwrap();
        check_refused(&kept(401, r#"{"error":{"code":"UNAUTHORIZED"}}"#)).unwrap_err();
        check_refused(&kept(429, r#"{"error":{"code":"INVALID_API_KEY"}}"#)).unwrap_err();
    }
}
