//! One error for every handler: a [`Failure`] of the public table, and a source for the log alone.
//!
//! A handler's answer carries the failure as an extension; [`crate::router`] writes the envelope, so
//! that links, headers and the log line are made in one place.

use std::sync::Arc;

use axum::response::{IntoResponse, Response};
use crochet_shared::code::Code;
use crochet_shared::envelope::{BadField, Failure};
use http::StatusCode;

use crate::db::Retry;

/// A refusal or a fault, on its way to the caller.
#[derive(Debug, thiserror::Error)]
#[error("{}", failure.code.as_str())]
pub struct ApiError {
    /// What the caller is told.
    pub failure: Box<Failure>,
    /// What the log is told. Never leaves the process.
    #[source]
    source: Option<anyhow::Error>,
}

/// What [`ApiError`] leaves in the extensions of a response for [`crate::router`] to write.
#[derive(Clone, Debug)]
pub(crate) struct Refused {
    pub(crate) failure: Box<Failure>,
    pub(crate) source: Option<Arc<anyhow::Error>>,
}

impl ApiError {
    /// A `VALIDATION_ERROR` for one field.
    pub fn field(
        field: impl Into<std::borrow::Cow<'static, str>>,
        problem: impl Into<std::borrow::Cow<'static, str>>,
    ) -> Self {
        Failure::validation(&[BadField {
            field: field.into(),
            problem: problem.into(),
        }])
        .into()
    }

    /// A fault of ours: 500, with its cause in the log.
    pub fn internal(source: impl Into<anyhow::Error>) -> Self {
        Self {
            failure: Box::new(Code::InternalError.into()),
            source: Some(source.into()),
        }
    }

    /// Keeps a cause for the log beside a failure.
    #[must_use]
    pub fn caused_by(mut self, source: impl Into<anyhow::Error>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// The public code.
    pub fn code(&self) -> Code {
        self.failure.code
    }
}

impl From<Failure> for ApiError {
    fn from(failure: Failure) -> Self {
        Self {
            failure: Box::new(failure),
            source: None,
        }
    }
}

impl From<Code> for ApiError {
    fn from(code: Code) -> Self {
        Failure::from(code).into()
    }
}

/// A database that is away is 503 and may be tried again; anything else it says is our fault.
impl From<sqlx::Error> for ApiError {
    fn from(error: sqlx::Error) -> Self {
        let code = if is_away(&error) {
            Code::ServiceUnavailable
        } else {
            Code::InternalError
        };
        Self::from(code).caused_by(error)
    }
}

impl From<crochet_shared::seal::Unsealable> for ApiError {
    fn from(error: crochet_shared::seal::Unsealable) -> Self {
        Self::internal(error)
    }
}

impl Retry for ApiError {
    fn database_error(&self) -> Option<&sqlx::Error> {
        self.source.as_ref()?.downcast_ref()
    }
}

/// No connection to be had, or one lost, or the server going down or not yet up (class 57P, 08), without room (53), or not
/// to be written to (25006, after a failover). A server that dies before it has said whether it takes TLS is a protocol
/// error to the driver, which takes the end of the stream for a byte.
fn is_away(error: &sqlx::Error) -> bool {
    if let Some(database) = error.as_database_error() {
        return database.code().is_some_and(|code| {
            let classes = ["57P", "08", "53", "25006"];
            classes.iter().any(|class| code.starts_with(class))
        });
    }
    matches!(
        error,
        sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::Protocol(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::WorkerCrashed
    )
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.failure.code.status())
            .unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = status.into_response();
        response.extensions_mut().insert(Refused {
            failure: self.failure,
            source: self.source.map(Arc::new),
        });
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt as _;
    use tokio::net::TcpListener;

    /// A Postgres that is killed while it is connected to.
    #[tokio::test]
    async fn a_server_that_hangs_up_on_whoever_connects_is_away() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            // The request for TLS, whole: what is unread would reset the connection.
            stream.read_exact(&mut [0; 8]).await.unwrap();
        });
        let url = format!("postgres://somebody@{address}/nothing?sslmode=prefer");
        let error = <sqlx::PgConnection as sqlx::Connection>::connect(&url)
            .await
            .unwrap_err();
        server.await.unwrap();
        let error = ApiError::from(error);
        assert_eq!(error.code(), Code::ServiceUnavailable, "{error:?}");
    }

    #[test]
    fn what_the_database_does_not_understand_is_our_fault() {
        let error = ApiError::from(sqlx::Error::RowNotFound);
        assert_eq!(error.code(), Code::InternalError);
    }
}
