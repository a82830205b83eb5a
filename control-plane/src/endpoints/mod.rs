//! Endpoints.
use std::sync::Arc;
use axum::Router;
use crate::app::App;
/// Public routes.
pub fn routes() -> Router<Arc<App>> { Router::new() }
