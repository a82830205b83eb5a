//! What operators read: `/metrics`, `/healthz`, `/readyz`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

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
    /// Whether anything could be known of callers, once.
    knew: AtomicBool,
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
    /// Nobody has ever told it anything, and the control plane cannot be asked: nothing can be known of any
    /// caller.
    KnowsNobody,
    /// It has just started, and the other gateways do not count its calls yet.
    NotKnown,
}

impl NotReady {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Draining => "draining: this process is about to stop",
            Self::KnowsNobody => {
                "not ready: nothing was ever told and the control plane cannot be reached"
            }
            Self::NotKnown => "not ready: the other gateways do not know of this one yet",
        }
    }
}

/// The rule of readiness.
const fn ready(draining: bool, knows: bool, is_known: bool) -> Result<(), NotReady> {
    if draining {
        Err(NotReady::Draining)
    } else if !knows {
        Err(NotReady::KnowsNobody)
    } else if !is_known {
        Err(NotReady::NotKnown)
    } else {
        Ok(())
    }
}

impl Admin {
    /// Answers for this gateway.
    pub const fn new(gateway: Arc<Gateway>, scrape: PrometheusHandle) -> Self {
        Self {
            gateway,
            scrape,
            knew: AtomicBool::new(false),
        }
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

    /// Whether anything can be known of callers: it was told, or the control plane can be asked. That Redis
    /// answers says nothing, whose records are not believed before somebody tells.
    ///
    /// Once so it stays so: without the control plane all gateways know the same, and if they left the balancer
    /// for that, nobody would answer at all.
    fn knows(&self, control_plane_up: bool) -> bool {
        let knows = control_plane_up || self.gateway.hearing.was_told();
        self.knew.fetch_or(knows, Ordering::Relaxed) || knows
    }

    /// The verdict, then a line for each thing the gateway leans on. What is away need not make it
    /// unfit: [`ready`] says what does.
    fn readiness(&self) -> (StatusCode, String) {
        let gateway = &self.gateway;
        let (draining, up) = (gateway.is_draining(), gateway.control_plane.is_up());
        let fit = ready(draining, self.knows(up), gateway.rates.is_known());
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
    use std::time::{Duration, Instant};

    #[test]
    fn readiness_fails_first_while_draining_and_else_only_when_nobody_can_be_known() {
        assert_eq!(ready(true, true, true), Err(NotReady::Draining));
        assert_eq!(ready(false, false, true), Err(NotReady::KnowsNobody));
        assert_eq!(ready(false, true, false), Err(NotReady::NotKnown));
        assert_eq!(ready(false, true, true), Ok(()));
    }

    fn admin() -> Admin {
        let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
        Admin::new(Gateway::for_test(&[]), recorder.handle())
    }

    /// The first line, and so the verdict.
    fn says(admin: &Admin) -> String {
        let (_, text) = admin.answer("/readyz");
        text.lines().next().unwrap_or_default().to_owned()
    }

    #[test]
    fn an_open_channel_is_no_knowledge_before_somebody_tells() {
        let admin = admin();
        admin.gateway.hearing.open();
        assert_eq!(says(&admin), NotReady::KnowsNobody.as_str());
        admin.gateway.hearing.told(Duration::ZERO, Instant::now());
        assert_eq!(says(&admin), NotReady::NotKnown.as_str());
    }

    #[test]
    fn once_the_control_plane_could_be_asked_its_going_makes_no_gateway_unfit() {
        let admin = admin();
        assert!(!admin.knows(false));
        assert!(admin.knows(true));
        assert!(admin.knows(false));
        assert_ne!(says(&admin), NotReady::KnowsNobody.as_str());
    }
}
