//! The documents as they are served: made once at start, from this process's own configuration, and
//! answered from memory.

use std::sync::Arc;

use axum::Router;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bytes::Bytes;
use flate2::read::GzDecoder;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use utoipa::openapi::OpenApi;

use super::{errors, openapi, texts};
use crate::app::App;

/// How long a document may be taken as it is, in seconds; then it is asked for again by its `ETag`.
const CACHE_CONTROL: HeaderValue = HeaderValue::from_static("public, max-age=300");
/// Our own pages run no script and load nothing but their style sheet.
const PAGE_POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; style-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
);
/// The interactive reference runs its own script and asks this origin only. It sets styles from script
/// and keeps its icons in data URLs.
const REFERENCE_POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
);
/// Everything else is not a page.
const DATA_POLICY: HeaderValue =
    HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'");
const REFERRER: HeaderValue = HeaderValue::from_static("no-referrer");

const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");
const CSS: HeaderValue = HeaderValue::from_static("text/css; charset=utf-8");
const JAVASCRIPT: HeaderValue = HeaderValue::from_static("text/javascript; charset=utf-8");
const MARKDOWN: HeaderValue = HeaderValue::from_static("text/markdown; charset=utf-8");
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// The parts of Swagger UI that the reference is made of.
const SWAGGER: [(&str, HeaderValue); 2] = [
    ("swagger-ui.css", CSS),
    ("swagger-ui-bundle.js", JAVASCRIPT),
];

/// One document.
#[derive(Debug)]
struct Document {
    body: Bytes,
    /// The same, compressed, where it is kept that way.
    gzip: Option<Bytes>,
    kind: HeaderValue,
    policy: HeaderValue,
    etag: HeaderValue,
}

/// `/`, `/docs` and what is below it, `/llms.txt`, `/SKILL.md`, `/api/openapi.json` and
/// `/.well-known/agent-protocol.json`. `described` is what the API's routes say of themselves.
pub fn routes(app: &App, described: OpenApi) -> anyhow::Result<Router<Arc<App>>> {
    let document = openapi::document(described, &app.config.public_base_url);
    let mut router = Router::new();
    for (path, document) in documents(app, &document)? {
        let document = Arc::new(document);
        router = router.route(
            path.as_str(),
            get(move |headers: HeaderMap| async move { document.answer(&headers) }),
        );
    }
    Ok(router)
}

fn documents(app: &App, document: &Value) -> anyhow::Result<Vec<(String, Document)>> {
    let page = |text: &str| Document::new(text.to_owned(), HTML, PAGE_POLICY);
    let asset = |text: &str, kind| Document::new(text.to_owned(), kind, DATA_POLICY);
    let protocol = serde_json::to_string_pretty(&texts::protocol(app))?;
    let reference = include_str!("pages/reference.html").to_owned();
    let mut documents = vec![
        ("/".to_owned(), page(include_str!("pages/landing.html"))),
        (
            "/docs".to_owned(),
            Document::new(reference, HTML, REFERENCE_POLICY),
        ),
        ("/docs/errors".to_owned(), page(&errors::page())),
        (
            "/docs/assets/page.css".to_owned(),
            asset(include_str!("pages/page.css"), CSS),
        ),
        (
            "/docs/assets/reference.css".to_owned(),
            asset(include_str!("pages/reference.css"), CSS),
        ),
        (
            "/docs/assets/reference.js".to_owned(),
            asset(include_str!("pages/reference.js"), JAVASCRIPT),
        ),
        (
            "/api/openapi.json".to_owned(),
            asset(&serde_json::to_string(document)?, JSON),
        ),
        (
            "/llms.txt".to_owned(),
            asset(&texts::llms(app, document), TEXT),
        ),
        ("/SKILL.md".to_owned(), asset(&texts::skill(app), MARKDOWN)),
        (
            "/.well-known/agent-protocol.json".to_owned(),
            asset(&protocol, JSON),
        ),
    ];
    for (name, kind) in SWAGGER {
        documents.push((
            format!("/docs/assets/{name}"),
            Document::swagger(name, kind)?,
        ));
    }
    Ok(documents)
}

impl Document {
    fn new(text: String, kind: HeaderValue, policy: HeaderValue) -> Self {
        let etag = etag(text.as_bytes());
        Self {
            body: text.into(),
            gzip: None,
            kind,
            policy,
            etag,
        }
    }

    /// A file of Swagger UI, which the library keeps compressed.
    fn swagger(name: &str, kind: HeaderValue) -> anyhow::Result<Self> {
        let config = Arc::new(utoipa_swagger_ui::Config::from("/api/openapi.json"));
        let file = utoipa_swagger_ui::serve(name, config)
            .map_err(|error| anyhow::anyhow!("reading {name}: {error}"))?
            .ok_or_else(|| anyhow::anyhow!("Swagger UI has no {name}"))?;
        let gzip = Bytes::from(file.bytes.into_owned());
        let mut body = Vec::new();
        std::io::copy(&mut GzDecoder::new(gzip.as_ref()), &mut body)?;
        Ok(Self {
            etag: etag(&body),
            body: body.into(),
            gzip: Some(gzip),
            kind,
            policy: DATA_POLICY,
        })
    }

    fn answer(&self, asked: &HeaderMap) -> Response {
        let headers = [
            (header::CACHE_CONTROL, CACHE_CONTROL),
            (header::ETAG, self.etag.clone()),
            (header::VARY, HeaderValue::from_static("Accept-Encoding")),
            (header::CONTENT_SECURITY_POLICY, self.policy.clone()),
            (header::REFERRER_POLICY, REFERRER),
        ];
        if self.is_known(asked) {
            return (StatusCode::NOT_MODIFIED, headers).into_response();
        }
        let kind = (header::CONTENT_TYPE, self.kind.clone());
        match &self.gzip {
            Some(gzip) if takes_gzip(asked) => {
                let encoding: (HeaderName, HeaderValue) =
                    (header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
                (headers, [kind, encoding], gzip.clone()).into_response()
            }
            _ => (headers, [kind], self.body.clone()).into_response(),
        }
    }

    /// Whether the asker has it already (RFC 9110 §13.1.2).
    fn is_known(&self, asked: &HeaderMap) -> bool {
        asked
            .get_all(header::IF_NONE_MATCH)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .map(|tag| tag.trim().trim_start_matches("W/"))
            .any(|tag| tag == "*" || tag.as_bytes() == self.etag.as_bytes())
    }
}

fn takes_gzip(asked: &HeaderMap) -> bool {
    asked
        .get_all(header::ACCEPT_ENCODING)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|coding| {
            let mut parts = coding.split(';').map(str::trim);
            parts
                .next()
                .is_some_and(|name| name.eq_ignore_ascii_case("gzip"))
                && !parts.any(|weight| matches!(weight, "q=0" | "q=0.0" | "q=0.00" | "q=0.000"))
        })
}

/// A strong tag: the same bytes have the same.
fn etag(bytes: &[u8]) -> HeaderValue {
    let digest = crochet_shared::redis_key::hex(&Sha256::digest(bytes));
    let tag = digest.get(..32).unwrap_or_default();
    HeaderValue::try_from(format!("\"{tag}\"")).unwrap_or(HeaderValue::from_static("\"0\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asking(name: HeaderName, value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(name, HeaderValue::from_static(value))])
    }

    #[test]
    fn what_is_known_is_not_sent_again() {
        let document = Document::new("x".to_owned(), TEXT, DATA_POLICY);
        let tag = document.etag.to_str().unwrap().to_owned();
        let mut asked = HeaderMap::new();
        assert_eq!(document.answer(&asked).status(), StatusCode::OK);
        let list = HeaderValue::try_from(format!("\"other\", W/{tag}")).unwrap();
        asked.insert(header::IF_NONE_MATCH, list);
        assert_eq!(document.answer(&asked).status(), StatusCode::NOT_MODIFIED);
        let other = asking(header::IF_NONE_MATCH, "\"other\"");
        assert_eq!(document.answer(&other).status(), StatusCode::OK);
    }

    #[test]
    fn compressed_only_for_those_who_take_it() {
        assert!(takes_gzip(&asking(
            header::ACCEPT_ENCODING,
            "br, GZIP;q=0.5"
        )));
        assert!(!takes_gzip(&asking(
            header::ACCEPT_ENCODING,
            "gzip;q=0, br"
        )));
        assert!(!takes_gzip(&HeaderMap::new()));
    }
}
