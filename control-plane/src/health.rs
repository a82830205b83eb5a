//! `GET /health`: whether the API and what it leans on are up.

use std::sync::Arc;

use axum::extract::State;
use crochet_shared::envelope::Success;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::answer::Data;
use crate::app::App;

/// `GET /health`
pub(crate) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::default().routes(routes!(health))
}

/// Whether the API and what it leans on are up.
#[derive(Debug, Serialize, ToSchema)]
struct Health {
    /// `degraded` when one of the parts is away.
    #[schema(extensions(("x-one-of" = json!(["ok", "degraded"]))))]
    status: &'static str,
    #[schema(example = "0.1.0")]
    version: &'static str,
    #[schema(extensions(("x-one-of" = json!(["ok", "unavailable"]))))]
    database: &'static str,
    #[schema(extensions(("x-one-of" = json!(["ok", "unavailable"]))))]
    redis: &'static str,
    #[schema(extensions(("x-one-of" = json!(["ok", "unavailable"]))))]
    payment_provider: &'static str,
}

/// Tells whether the API is up.
///
/// Always 200 while the API answers at all; `status` tells whether everything it leans on does.
#[utoipa::path(get, path = "/health", tag = "System", operation_id = "getHealth",
    responses((status = 200, body = Success<Health>)))]
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
