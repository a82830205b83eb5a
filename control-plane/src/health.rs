//! `GET /health`: whether the API and what it leans on are up.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use serde::Serialize;

use crate::answer::Data;
use crate::app::App;

/// `GET /health`
pub(crate) fn routes() -> Router<Arc<App>> {
    Router::new().route("/health", get(health))
}

#[derive(Debug, Serialize)]
struct Health {
    status: &'static str,
    version: &'static str,
    database: &'static str,
    redis: &'static str,
    payment_provider: &'static str,
}

async fn health(State(app): State<Arc<App>>) -> Data<Health> {
    let (database, redis) = tokio::join!(app.db.is_up(), app.publisher.is_up());
    let provider = app.relay.is_healthy();
    let word = |up: bool| if up { "ok" } else { "unavailable" };
    Data(Health {
        status: if database && redis && provider {
            "ok"
        } else {
            "degraded"
        },
        version: env!("CARGO_PKG_VERSION"),
        database: word(database),
        redis: word(redis),
        payment_provider: word(provider),
    })
}
