//! One request to Crochet, and everything that came back.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use reqwest::Method;
use reqwest::header::HeaderMap;
use serde_json::Value;

/// Longer than the longest a gateway may hold a call: 120 s of seller and the settlement.
const REQUEST_LIMIT: Duration = Duration::from_secs(150);

/// An HTTP client that follows no redirect and reads no proxy from the environment.
pub fn client() -> Result<reqwest::Client> {
    // Whoever installed a provider first in this process is welcome to it.
    drop(rustls::crypto::ring::default_provider().install_default());
    reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .timeout(REQUEST_LIMIT)
        .pool_max_idle_per_host(1024)
        .build()
        .context("building the HTTP client")
}

/// The public API of one Crochet, seen through one of its gateways.
#[derive(Clone, Debug)]
pub struct Api {
    http: reqwest::Client,
    base_url: String,
}

impl Api {
    /// `base_url` ends in `/api/v1`.
    pub fn new(base_url: &str) -> Result<Self> {
        Ok(Self::with_client(base_url, client()?))
    }

    /// The same with a client of the caller's, so that thousands of agents share one pool.
    pub fn with_client(base_url: &str, http: reqwest::Client) -> Self {
        Self {
            http,
            base_url: base_url.trim_end_matches('/').to_owned(),
        }
    }

    /// What every path is relative to.
    pub fn base_url(&self) -> &str {
        &self.base_url
    }

    /// The client, for addresses outside the API (sandbox, seller, metrics).
    pub const fn http(&self) -> &reqwest::Client {
        &self.http
    }

    /// `GET path`.
    pub async fn get(&self, path: &str, key: Option<&str>) -> Result<Answer> {
        self.send(Method::GET, path, key, &[], None).await
    }

    /// `POST path` with a JSON body.
    pub async fn post(&self, path: &str, key: Option<&str>, body: &Value) -> Result<Answer> {
        self.send(Method::POST, path, key, &[], Some(body.to_string().into()))
            .await
    }

    /// Any request: `key` becomes the bearer credential, a body is sent as `application/json` unless a header says otherwise.
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        key: Option<&str>,
        headers: &[(&str, &str)],
        body: Option<Bytes>,
    ) -> Result<Answer> {
        let mut request = self
            .http
            .request(method.clone(), format!("{}{path}", self.base_url));
        if let Some(key) = key {
            request = request.bearer_auth(key);
        }
        if let Some(body) = body {
            if !headers
                .iter()
                .any(|(name, _)| name.eq_ignore_ascii_case("content-type"))
            {
                request = request.header("content-type", "application/json");
            }
            request = request.body(body);
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        Answer::of(request)
            .await
            .with_context(|| format!("{method} {path}"))
    }
}

/// What came back, whole.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// All response headers.
    pub headers: HeaderMap,
    /// The exact bytes of the body.
    pub body: Bytes,
}

impl Answer {
    /// Sends `request` and reads all of the answer.
    pub async fn of(request: reqwest::RequestBuilder) -> Result<Self> {
        let response = request.send().await?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Ok(Self {
            status,
            headers,
            body: response.bytes().await?,
        })
    }

    /// The body as JSON.
    pub fn json(&self) -> Result<Value> {
        serde_json::from_slice(&self.body).with_context(|| format!("not JSON: {self}"))
    }

    /// `data` of a success with exactly this status; anything else is an error that shows the answer.
    pub fn data(&self, status: u16) -> Result<Value> {
        let mut json = self.json()?;
        if self.status != status || json.get("success") != Some(&Value::Bool(true)) {
            bail!("wanted {status}, got {self}");
        }
        Ok(json.get_mut("data").map(Value::take).unwrap_or_default())
    }

    /// `error.code`, where there is one.
    pub fn code(&self) -> Option<String> {
        Some(
            self.json()
                .ok()?
                .pointer("/error/code")?
                .as_str()?
                .to_owned(),
        )
    }

    /// The value at a JSON pointer (`/error/recovery/next_action`), `null` where there is none.
    pub fn at(&self, pointer: &str) -> Value {
        self.json()
            .ok()
            .and_then(|json| json.pointer(pointer).cloned())
            .unwrap_or_default()
    }

    /// A header's text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

impl std::fmt::Display for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        const SHOWN_BYTES: usize = 600;
        let shown = self.body.get(..SHOWN_BYTES).unwrap_or(&self.body);
        write!(f, "{} {}", self.status, String::from_utf8_lossy(shown))
    }
}

/// The text at a JSON pointer, or an error that names it.
pub(crate) fn text_at(value: &Value, pointer: &str) -> Result<String> {
    let found = value.pointer(pointer).and_then(Value::as_str);
    Ok(found
        .with_context(|| format!("no text at {pointer} in {value}"))?
        .to_owned())
}
