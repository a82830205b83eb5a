//! The shapes of success: one value, something created, a page, or something with a secret in it.

use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use crochet_shared::envelope::{Success, always};
use http::{HeaderName, HeaderValue, StatusCode, header};
use serde::Serialize;
use utoipa::ToSchema;

use crate::error::ApiError;
use crate::paging::{Page, Pagination};

/// 200 with `{"success":true,"data":…}`.
#[derive(Debug)]
pub struct Data<T>(pub T);

/// 201 with its `Location`.
#[derive(Debug)]
pub struct Created<T> {
    /// Path of what was created, from `/api/v1`.
    pub location: String,
    /// What was created.
    pub data: T,
}

/// Marks an answer that holds a secret: `Cache-Control: no-store`.
#[derive(Debug)]
pub struct Secret<R>(pub R);

/// The body of a [`Page`].
#[derive(Debug, Serialize, ToSchema)]
pub struct Listed<T> {
    #[schema(schema_with = always)]
    success: bool,
    data: Vec<T>,
    pagination: Pagination,
}

impl<T: Serialize> IntoResponse for Data<T> {
    fn into_response(self) -> Response {
        json(StatusCode::OK, &Success::new(self.0))
    }
}

impl<T: Serialize> IntoResponse for Created<T> {
    fn into_response(self) -> Response {
        let mut response = json(StatusCode::CREATED, &Success::new(self.data));
        if let Ok(location) = HeaderValue::try_from(self.location) {
            response.headers_mut().insert(header::LOCATION, location);
        }
        response
    }
}

impl<R: IntoResponse> IntoResponse for Secret<R> {
    fn into_response(self) -> Response {
        const NO_STORE: [(HeaderName, HeaderValue); 1] =
            [(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))];
        (NO_STORE, self.0).into_response()
    }
}

impl<T: Serialize> IntoResponse for Page<T> {
    fn into_response(self) -> Response {
        json(
            StatusCode::OK,
            &Listed {
                success: true,
                data: self.items,
                pagination: self.pagination,
            },
        )
    }
}

/// A body of JSON. A value that cannot be written is a fault of ours, told as one.
pub fn json<T: Serialize>(status: StatusCode, value: &T) -> Response {
    match serde_json::to_vec(value) {
        Ok(bytes) => (
            status,
            [(
                header::CONTENT_TYPE,
                HeaderValue::from_static("application/json"),
            )],
            Bytes::from(bytes),
        )
            .into_response(),
        Err(error) => ApiError::internal(error).into_response(),
    }
}
