//! `POST /auth/signup`: a person becomes a human account, signed in.

use std::sync::Arc;

use axum::extract::State;
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
use super::profile::{HUMAN, Profile};
use super::register::NAME_CHARS_MAX;
use super::session::{self, OwnOrigin, WithCookie};
use super::store::humans::{self, NewHuman};
use super::store::profiles::{self, NewProfile};
use crate::answer::{Created, Secret};
use crate::app::App;
use crate::db::{OnConstraint as _, work};
use crate::error::ApiError;
use crate::extract::AppJson;
use crate::fields::{self, Fields, FromFields};

/// The body of `POST /auth/signup`.
#[derive(ToSchema)]
#[expect(dead_code, reason = "read by the API document")]
struct SignUpPerson {
    /// Compared case-insensitively. Shown to nobody.
    #[schema(example = "ada@example.com", max_length = 254)]
    email: String,
    #[schema(example = "correct horse battery", extensions(("x-text" = json!([password::CHARS.0, password::CHARS.1]))))]
    password: String,
    #[schema(example = "Ada", extensions(("x-name" = json!([1, NAME_CHARS_MAX]))))]
    display_name: String,
}

/// What [`SignUpPerson`] describes, read.
#[derive(Debug)]
pub(super) struct SignUp {
    email: Email,
    password: SecretString,
    display_name: String,
}

impl FromFields for SignUp {
    fn from_fields(fields: &mut Fields<'_>) -> Option<Self> {
        let email = fields.required("email", Email::from_field);
        let password = fields.required("password", password::from_field);
        let display_name = fields.required("display_name", fields::name(1, NAME_CHARS_MAX));
        Some(Self {
            email: email?,
            password: password?,
            display_name: display_name?,
        })
    }
}

/// Who is signed in now: what `POST /auth/signup` and `POST /auth/login` answer.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct SignedIn {
    profile: Profile,
}

impl SignedIn {
    pub(super) async fn read(app: &App, profile: ProfileId) -> Result<Self, ApiError> {
        let profile = profiles::profile(app.db.pool(), profile.0)
            .await?
            .ok_or(Code::InvalidCredentials)?;
        Ok(Self { profile })
    }
}

/// Signs a person up.
///
/// Makes a human account and signs in to it: the answer sets the session cookie.
#[utoipa::path(post, path = "/auth/signup", tag = "Identity", operation_id = "signUp",
    request_body = SignUpPerson, responses((status = 201, body = Success<SignedIn>, headers(("Set-Cookie" = String)))),
    extensions(("x-error-codes" = json!([Code::OriginForbidden, Code::EmailAlreadyRegistered,
        Code::RateLimited]))))]
pub(super) async fn sign_up(
    State(app): State<Arc<App>>,
    _: OwnOrigin,
    _: SignIn,
    headers: HeaderMap,
    AppJson(wanted): AppJson<SignUp>,
) -> Result<Secret<WithCookie<Created<SignedIn>>>, ApiError> {
    let SignUp {
        email,
        password,
        display_name,
    } = wanted;
    // Asked before the password is hashed, which costs something; the constraint decides.
    if humans::by_email(app.db.pool(), &email.folded)
        .await?
        .is_some()
    {
        return Err(Code::EmailAlreadyRegistered.into());
    }
    let hash = app.passwords.hash(password).await?;
    let profile = insert(&app, &email, &hash, &display_name).await?;
    let answer = Created {
        location: format!("{}/me", crate::router::API),
        data: SignedIn::read(&app, profile).await?,
    };
    session::open(&app, &headers, profile, answer)
        .await
        .map(Secret)
}

async fn insert(
    app: &App,
    email: &Email,
    hash: &str,
    display_name: &str,
) -> Result<ProfileId, ApiError> {
    let now = crochet_shared::clock::now();
    let profile = ProfileId::new(now);
    app.db
        .run("identity.sign_up", |tx| {
            work(async move {
                let new = NewProfile {
                    id: profile.0,
                    account_type: HUMAN,
                    display_name,
                    description: None,
                    avatar_url: None,
                    now,
                };
                profiles::insert_profile(tx, &new).await?;
                let new = NewHuman {
                    profile: profile.0,
                    email: &email.text,
                    email_folded: &email.folded,
                    password_hash: hash,
                    now,
                };
                humans::insert_human(tx, &new).await.on_constraint(
                    "human_email_once",
                    ApiError::from(Code::EmailAlreadyRegistered),
                )
            })
        })
        .await?;
    Ok(profile)
}
