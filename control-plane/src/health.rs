//! `GET /health`, readiness, and a look at the stores now and then: whether the API and what it leans
//! on are up.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use crochet_shared::envelope::Success;
use http::StatusCode;
use serde::Serialize;
use tokio::sync::watch;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::answer::Data;
use crate::app::App;
use crate::metrics::{names, worked};
use crate::publish;

/// How often the stores are looked at.
const LOOK: Duration = Duration::from_secs(5);

/// `GET /health`
pub(crate) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::default().routes(routes!(health))
}

/// Looks at the stores and the outbox until told to stop, and sets their gauges.
pub(crate) async fn watch(app: Arc<App>, mut stopped: watch::Receiver<bool>) {
    let mut ticks = tokio::time::interval(LOOK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            _ = stopped.wait_for(|stop| *stop) => return,
        }
        let (database, redis) = tokio::join!(app.db.try_pools(), app.publisher.is_up());
        if let Err(error) = &database {
            tracing::warn!(%error, "Postgres does not answer");
        }
        // A pool whose every connection is used says nothing of Postgres.
        let database = database.is_ok() || app.db.answers_beside().await;
        metrics::gauge!(names::DB_UP.name).set(f64::from(u8::from(database)));
        metrics::gauge!(names::REDIS_UP.name).set(f64::from(u8::from(redis)));
        let observed = database && publish::observe(&app).await.is_ok();
        worked("stores", observed);
    }
}

/// Whether this process is fit to serve, then a line for each thing it leans on. Only Postgres makes
/// it unfit: gateways and limits do without Redis, and what was paid is served without the provider.
pub(crate) async fn readiness(app: &App, serving: bool) -> (StatusCode, String) {
    let (database, redis) = tokio::join!(app.db.is_up(), app.publisher.is_up());
    let (status, verdict) = if !serving {
        (StatusCode::SERVICE_UNAVAILABLE, "draining")
    } else if database {
        (StatusCode::OK, "ready")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "database away")
    };
    let word = |up: bool| if up { "ok" } else { "away" };
    let text = format!(
        "{verdict}\ndatabase: {}\nredis: {}\npayment_provider: {}\n",
        word(database),
        word(redis),
        word(app.relay.is_healthy()),
    );
    (status, text)
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
