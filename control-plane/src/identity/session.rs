//! A person's browser session: the cookie that carries it, and whom it belongs to.
//!
//! Sessions are read where a route asks for one ([`super::Caller`], [`super::Human`]), and by a
//! request that has no key where one is needed: no other request looks for a cookie. A cookie is
//! sent by browsers without being asked, so what changes state by session, or changes the session,
//! is refused to pages of a foreign origin ([`own_origin`]); `SameSite=Lax` is the second lock.

use axum::extract::FromRequestParts;
use axum::response::{AppendHeaders, IntoResponse, Response};
use cookie::{Cookie, SameSite};
use crochet_shared::code::Code;
use crochet_shared::header::{SESSION_COOKIE, SESSION_COOKIE_TLS};
use crochet_shared::id::ProfileId;
use http::request::Parts;
use http::{HeaderMap, header};
use std::sync::Arc;
use tower_sessions_core::session::Id;
use tower_sessions_core::session_store::Error;
use tower_sessions_core::{Expiry, Session, SessionStore as _};

use super::store::sessions::Sessions;
use crate::app::App;
use crate::config::Config;
use crate::error::ApiError;

/// Life of a session from its sign-in, in days, whatever it is used for.
const LIFE_DAYS: i64 = 14;
/// What a session knows: whose it is.
const PROFILE: &str = "profile";

/// A change of the cookie, beside an answer.
#[derive(Debug)]
pub(super) struct WithCookie<R> {
    cookie: String,
    answer: R,
}

impl<R: IntoResponse> IntoResponse for WithCookie<R> {
    fn into_response(self) -> Response {
        (
            AppendHeaders([(header::SET_COOKIE, self.cookie)]),
            self.answer,
        )
            .into_response()
    }
}

/// Signs a human in: any session that the request carries ends, and the answer carries a new one.
pub(super) async fn open<R>(
    app: &App,
    headers: &HeaderMap,
    human: ProfileId,
    answer: R,
) -> Result<WithCookie<R>, ApiError> {
    let store = Sessions::new(app.db.pool().clone());
    if let Some(standing) = presented(headers, &app.config) {
        store.delete(&standing).await.map_err(away)?;
    }
    let life = time::Duration::days(LIFE_DAYS);
    let session = Session::new(None, Arc::new(store), Some(Expiry::OnInactivity(life)));
    session
        .insert(PROFILE, human)
        .await
        .map_err(ApiError::internal)?;
    session
        .save()
        .await
        .map_err(|error| ApiError::from(Code::ServiceUnavailable).caused_by(error))?;
    let id = session
        .id()
        .ok_or_else(|| ApiError::internal(anyhow::anyhow!("a saved session has no id")))?;
    Ok(WithCookie {
        cookie: cookie(&app.config, id.to_string(), life),
        answer,
    })
}

/// Ends the session that the request carries, if it carries one.
pub(super) async fn close<R>(
    app: &App,
    headers: &HeaderMap,
    answer: R,
) -> Result<WithCookie<R>, ApiError> {
    if let Some(standing) = presented(headers, &app.config) {
        let store = Sessions::new(app.db.pool().clone());
        store.delete(&standing).await.map_err(away)?;
    }
    Ok(WithCookie {
        cookie: cookie(&app.config, String::new(), time::Duration::ZERO),
        answer,
    })
}

/// Whose session the request carries; nobody's when it carries none or one that is over.
pub(super) async fn holder(app: &App, headers: &HeaderMap) -> Result<Option<ProfileId>, ApiError> {
    let Some(id) = presented(headers, &app.config) else {
        return Ok(None);
    };
    let record = Sessions::new(app.db.pool().clone())
        .load(&id)
        .await
        .map_err(away)?;
    let profile = record.and_then(|record| record.data.get(PROFILE).cloned());
    profile
        .map(serde_json::from_value)
        .transpose()
        .map_err(ApiError::internal)
}

/// Refuses a request that a page of another origin had a browser send. Who sends no `Origin` is no
/// browser, or one that came by a link, which changes nothing here.
pub(super) fn own_origin(headers: &HeaderMap, config: &Config) -> Result<(), ApiError> {
    let own = |value: &http::HeaderValue| value.as_bytes() == config.public_base_url.as_bytes();
    if headers.get_all(header::ORIGIN).iter().all(own) {
        Ok(())
    } else {
        Err(Code::OriginForbidden.into())
    }
}

/// A request that is not of a foreign origin, whether or not it carries a session.
pub(super) struct OwnOrigin;

impl FromRequestParts<Arc<App>> for OwnOrigin {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, ApiError> {
        own_origin(&parts.headers, &app.config).map(|()| Self)
    }
}

/// The session id in the cookies, when one is there and well-formed.
fn presented(headers: &HeaderMap, config: &Config) -> Option<Id> {
    let name = name(config);
    headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(Cookie::split_parse)
        .filter_map(Result::ok)
        .find(|cookie| cookie.name() == name)
        .and_then(|cookie| cookie.value().parse().ok())
}

fn cookie(config: &Config, value: String, life: time::Duration) -> String {
    Cookie::build((name(config), value))
        .http_only(true)
        .same_site(SameSite::Lax)
        .secure(is_secure(config))
        .path("/")
        .max_age(life)
        .to_string()
}

fn name(config: &Config) -> &'static str {
    if is_secure(config) {
        SESSION_COOKIE_TLS
    } else {
        SESSION_COOKIE
    }
}

fn is_secure(config: &Config) -> bool {
    config.public_base_url.starts_with("https://")
}

/// A store that fails is away: its statements are too plain to be wrong.
fn away(error: Error) -> ApiError {
    ApiError::from(Code::ServiceUnavailable).caused_by(error)
}
