//! What operators read: `/metrics`, `/healthz`, `/readyz`.

use std::sync::Arc;

use async_trait::async_trait;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderValue, Response, StatusCode};
use metrics_exporter_prometheus::PrometheusHandle;
use pingora::apps::http_app::ServeHttp;
use pingora::protocols::http::ServerSession;

use crate::gateway::Gateway;

/// Answers operators.
pub struct Admin {
    gateway: Arc<Gateway>,
    scrape: PrometheusHandle,
}

impl std::fmt::Debug for Admin {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        to.write_str("Admin")
    }
}

/// Why a gateway should get no traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotReady {
    /// SIGTERM came.
    Draining,
    /// Redis never answered, and the control plane does not: nothing can be known of any caller.
    KnowsNobody,
    /// It has just started, and the other gateways do not count its calls yet.
    NotKnown,
}

impl NotReady {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Draining => "draining: this process is about to stop",
            Self::KnowsNobody => {
                "not ready: Redis never answered and the control plane cannot be reached"
            }
            Self::NotKnown => "not ready: the other gateways do not know of this one yet",
        }
    }
}

/// The rule of readiness, but for a newcomer's.
const fn ready(
    draining: bool,
    redis_answered: bool,
    control_plane_up: bool,
) -> Result<(), NotReady> {
    if draining {
        Err(NotReady::Draining)
    } else if !redis_answered && !control_plane_up {
        Err(NotReady::KnowsNobody)
    } else {
        Ok(())
    }
}

impl Admin {
    /// Answers for this gateway.
    pub const fn new(gateway: Arc<Gateway>, scrape: PrometheusHandle) -> Self {
        Self { gateway, scrape }
    }

    fn answer(&self, path: &str) -> (StatusCode, String) {
        match path {
            "/metrics" => {
                self.gateway.metrics.observe(&self.gateway);
                (StatusCode::OK, self.scrape.render())
            }
            "/healthz" => (StatusCode::OK, "ok\n".into()),
            "/readyz" => self.readiness(),
            _ => (StatusCode::NOT_FOUND, "there is nothing here\n".into()),
        }
    }

    /// The verdict, then a line for each thing the gateway leans on. What is away need not make it
    /// unfit: [`ready`] says what does.
    fn readiness(&self) -> (StatusCode, String) {
        let gateway = &self.gateway;
        let (draining, up) = (gateway.is_draining(), gateway.control_plane.is_up());
        let fit = ready(draining, gateway.redis.ever_answered(), up);
        let known = gateway.rates.is_known();
        let fit = fit.and_then(|()| known.then_some(()).ok_or(NotReady::NotKnown));
        let (status, verdict) = match fit {
            Ok(()) => (StatusCode::OK, "ready"),
            Err(why) => (StatusCode::SERVICE_UNAVAILABLE, why.as_str()),
        };
        let word = |there: bool| if there { "ok" } else { "away" };
        let text = format!(
            "{verdict}\ncontrol_plane: {}\nredis: {}\n",
            word(up),
            word(gateway.hearing.connected()),
        );
        (status, text)
    }
}

#[async_trait]
impl ServeHttp for Admin {
    async fn response(&self, session: &mut ServerSession) -> Response<Vec<u8>> {
        let (status, text) = self.answer(session.req_header().uri.path());
        let mut response = Response::new(text.into_bytes());
        *response.status_mut() = status;
        let length = HeaderValue::from(response.body().len());
        let headers = response.headers_mut();
        headers.insert(CONTENT_LENGTH, length);
        headers.insert(
            CONTENT_TYPE,
            HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8"),
        );
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readiness_fails_first_while_draining_and_else_only_when_nobody_can_be_known() {
        assert_eq!(ready(true, true, true), Err(NotReady::Draining));
        assert_eq!(ready(false, false, false), Err(NotReady::KnowsNobody));
        for (redis, control_plane) in [(true, false), (false, true), (true, true)] {
            assert_eq!(ready(false, redis, control_plane), Ok(()));
        }
    }
}
