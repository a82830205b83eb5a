//! `POST /auth/login` and `POST /auth/logout`.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::{Extension, State};
use crochet_shared::code::Code;
use crochet_shared::envelope::Success;
use crochet_shared::id::ProfileId;
use http::HeaderMap;
use secrecy::SecretString;
use serde::Serialize;
use utoipa::ToSchema;

use super::challenge::SignIn;
use super::email::Email;
use super::password;
use super::session::{self, OwnOrigin, WithCookie};
use super::sign_up::SignedIn;
use super::store::humans;
use crate::answer::{Data, Secret};
use crate::app::App;
use crate::error::ApiError;
use crate::extract::AppJson;
use crate::fields::{Fields, FromFields};
use crate::router::RateSlot;

/// The body of `POST /auth/login`.
#[derive(ToSchema)]
#[expect(dead_code, reason = "read by the API document")]
struct Credentials {
    #[schema(example = "ada@example.com", max_length = 254)]
    email: String,
    #[schema(example = "correct horse battery", extensions(("x-text" = json!([password::CHARS.0, password::CHARS.1]))))]
    password: String,
}

/// What [`Credentials`] describes, read.
#[derive(Debug)]
pub(super) struct LogIn {
    email: Email,
    password: SecretString,
}

impl FromFields for LogIn {
    fn from_fields(fields: &mut Fields<'_>) -> Option<Self> {
        let email = fields.required("email", Email::from_field);
        let password = fields.required("password", password::from_field);
        Some(Self {
            email: email?,
            password: password?,
        })
    }
}

/// Signs a person in.
///
/// The answer sets the session cookie; a session that the request carries ends. An unknown address
/// and a wrong password look the same.
#[utoipa::path(post, path = "/auth/login", tag = "Identity", operation_id = "logIn",
    request_body = Credentials, responses((status = 200, body = Success<SignedIn>, headers(("Set-Cookie" = String)))),
    extensions(("x-error-codes" = json!([Code::InvalidCredentials, Code::OriginForbidden, Code::RateLimited]))))]
pub(super) async fn log_in(
    State(app): State<Arc<App>>,
    _: OwnOrigin,
    _: SignIn,
    Extension(slot): Extension<RateSlot>,
    headers: HeaderMap,
    AppJson(LogIn { email, password }): AppJson<LogIn>,
) -> Result<Secret<WithCookie<Data<SignedIn>>>, ApiError> {
    within_limit(&app, &slot, &email).await?;
    let found = humans::by_email(app.db.pool(), &email.folded).await?;
    let (human, hash) = found
        .map(|human| (ProfileId(human.profile_id), human.password_hash))
        .unzip();
    let matches = app.passwords.matches(password, hash).await?;
    let human = human.filter(|_| matches).ok_or(Code::InvalidCredentials)?;
    let answer = Data(SignedIn::read(&app, human).await?);
    session::open(&app, &headers, human, answer)
        .await
        .map(Secret)
}

/// Guesses at one account from many addresses are slowed down, known or not. The window is a minute,
/// so that whoever fills it on purpose keeps the account's owner out no longer than that.
async fn within_limit(app: &App, slot: &RateSlot, email: &Email) -> Result<(), ApiError> {
    let standing = app
        .limits
        .email_sign_in
        .take(email.counted(&app.config.cache_keys), Instant::now())
        .await;
    if standing.allowed {
        return Ok(());
    }
    slot.apply(standing)
}

/// What `POST /auth/logout` answers, whether or not somebody was signed in.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct LoggedOut {
    /// Always `true`.
    logged_out: bool,
}

/// Signs a person out.
///
/// Ends the session that the request carries, if it carries one, and clears the cookie.
#[utoipa::path(post, path = "/auth/logout", tag = "Identity", operation_id = "logOut",
    responses((status = 200, body = Success<LoggedOut>, headers(("Set-Cookie" = String)))),
    extensions(("x-error-codes" = json!([Code::OriginForbidden]))))]
pub(super) async fn log_out(
    State(app): State<Arc<App>>,
    _: OwnOrigin,
    headers: HeaderMap,
) -> Result<Secret<WithCookie<Data<LoggedOut>>>, ApiError> {
    let answer = Data(LoggedOut { logged_out: true });
    session::close(&app, &headers, answer).await.map(Secret)
}
