//! Paid calls of somebody whom nobody attacks. What an attack costs others is what it costs these.

use std::sync::Arc;
use std::time::Duration;

use demo_agent::{Agent, PaidCall, Quote};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::harness::{Market, ok};

/// A buyer, her call, and what she paid for it.
pub(super) type Paid = (Agent, PaidCall, Quote);

/// How long each call takes, spread evenly over `time`, whatever becomes of those before it. None is refused, and none
/// reaches the seller twice.
pub(super) async fn times(market: &Arc<Market>, paid: &[Paid], time: Duration) -> Vec<Duration> {
    let mut ticks = tokio::time::interval(time / u32::try_from(paid.len()).unwrap());
    let mut calling = JoinSet::new();
    for (buyer, call, quote) in paid {
        let market = Arc::clone(market);
        let (buyer, call, quote) = (buyer.clone(), call.clone(), quote.clone());
        let due = ticks.tick().await;
        calling.spawn(async move {
            let answer = market.once_as(&buyer, &call, &quote).await;
            (answer, Instant::now().duration_since(due))
        });
    }
    let mut times = Vec::new();
    for (answer, took) in calling.join_all().await {
        ok(&answer);
        times.push(took);
    }
    for (.., quote) in paid {
        assert_eq!(market.service.count(&quote.request_id), 1);
    }
    times
}

pub(super) fn percentile(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[(times.len() * 99 / 100).min(times.len() - 1)]
}
