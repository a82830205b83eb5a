//! What a request body can ask the seller to do, under its key `seller`.

use serde::Deserialize;
use serde_json::value::RawValue;

/// Largest filler, in bytes: well above what a gateway lets through.
const FILLER_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Most extra headers.
const HEADERS_MAX: usize = 1000;

/// How an answer is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Cut {
    /// The connection closes instead of an answer.
    Headers,
    /// Half of the promised body, then the connection closes.
    Body,
    /// Bytes that are not HTTP, then the connection closes.
    Garbage,
}

/// When the connection closes although it was not announced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub(crate) enum CloseAfter {
    /// Right after the answer, or not at all.
    Now(bool),
    /// When the next request begins to arrive, which is neither read nor counted.
    Then(Next),
}

/// The word for the second kind of [`CloseAfter`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Next {
    Next,
}

/// The value of the body's `seller`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Plan {
    /// Status of the answer.
    pub(crate) status: Option<u16>,
    /// Wait before answering or cutting, in milliseconds.
    pub(crate) delay_ms: u64,
    /// Bytes of filler in the answer.
    pub(crate) size: usize,
    pub(crate) content_type: Option<String>,
    /// `gzip`, the only one.
    pub(crate) content_encoding: Option<Encoding>,
    /// Answer with exactly this JSON.
    pub(crate) body: Option<Box<RawValue>>,
    /// Answer with exactly this text.
    pub(crate) body_text: Option<String>,
    /// Answer with nothing.
    pub(crate) empty: bool,
    /// One byte each so many milliseconds.
    pub(crate) drip_ms: Option<u64>,
    pub(crate) cut: Option<Cut>,
    /// `Location`; 302 unless `status` says otherwise.
    pub(crate) redirect: Option<String>,
    /// `Transfer-Encoding: chunked` instead of a Content-Length.
    pub(crate) chunked: bool,
    /// The first so many calls of this request id fail.
    pub(crate) fail_times: u64,
    /// How they fail; 500 when absent.
    pub(crate) fail_status: Option<u16>,
    pub(crate) close_after: Option<CloseAfter>,
    /// So many extra headers.
    pub(crate) headers: usize,
}

/// A content encoding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Encoding {
    Gzip,
}

/// What a call's body says.
#[derive(Debug, Default)]
pub(crate) struct Asked<'a> {
    pub(crate) plan: Plan,
    /// JSON text of the body's `input`, else `task`.
    pub(crate) echo: Option<&'a str>,
}

#[derive(Deserialize, Default)]
struct Body<'a> {
    #[serde(borrow)]
    seller: Option<&'a RawValue>,
    #[serde(borrow)]
    input: Option<&'a RawValue>,
    #[serde(borrow)]
    task: Option<&'a RawValue>,
}

impl<'a> Asked<'a> {
    /// Reads a body. What is no JSON object asks for nothing; a `seller` that is not understood is an
    /// error, or a test would pass for the wrong reason.
    pub(crate) fn read(body: &'a [u8]) -> Result<Self, String> {
        let starts = body.iter().find(|byte| !byte.is_ascii_whitespace());
        let body: Body<'a> = if starts == Some(&b'{') {
            serde_json::from_slice(body).unwrap_or_default()
        } else {
            Body::default()
        };
        let plan = match body.seller {
            Some(seller) => Plan::read(seller.get())?,
            None => Plan::default(),
        };
        Ok(Self {
            plan,
            echo: body.input.or(body.task).map(RawValue::get),
        })
    }
}

impl Plan {
    fn read(json: &str) -> Result<Self, String> {
        let plan: Self = serde_json::from_str(json).map_err(|error| error.to_string())?;
        if plan.size > FILLER_BYTES_MAX {
            return Err(format!("size is above {FILLER_BYTES_MAX}"));
        }
        if plan.headers > HEADERS_MAX {
            return Err(format!("headers is above {HEADERS_MAX}"));
        }
        for status in [plan.status, plan.fail_status].into_iter().flatten() {
            if !(200..=599).contains(&status) {
                return Err(format!("status {status} is not within 200 to 599"));
            }
        }
        let texts = [plan.content_type.as_ref(), plan.redirect.as_ref()];
        if texts
            .into_iter()
            .flatten()
            .any(|text| text.chars().any(char::is_control))
        {
            return Err("a header value has a control character".to_owned());
        }
        Ok(plan)
    }
}
