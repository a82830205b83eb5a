//! Round trips to Postgres for each batch of paid calls, counted in a pass of their own: the control plane is
//! started again with a counter between it and Postgres, which would cost time in any other pass.

use anyhow::{Context as _, Result};
use serde::Serialize;

use crate::load::{self, Exchange, Job, Wrong};
use crate::market::{Goods, Market};
use crate::postgres::{Tally, Wire};
use crate::stack::Target;

/// Paid calls of the pass. What is counted hardly varies, so a few batches are enough.
const CALLS: usize = 2_000;
/// What the gateway sends in batches for a paid call.
const KINDS: [&str; 2] = ["claims", "settlements"];

/// What came out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(crate) struct RoundTrips {
    /// Batches of claims and of settlements.
    pub(crate) batches: u64,
    /// Calls in a batch, on the average.
    pub(crate) calls_a_batch: f64,
    /// Round trips for a batch: its statements, and what each connection is asked before and after.
    pub(crate) a_batch: f64,
    /// Round trips of everything else in the same time, for a batch: background work.
    pub(crate) others_a_batch: f64,
}

/// Buys some calls, redeems them on `connections`, and counts.
pub(crate) async fn count(
    target: &mut Target,
    market: &mut Market,
    connections: u16,
) -> Result<(RoundTrips, Wrong)> {
    let connections = usize::from(connections);
    let payments = market.pay(Goods::Usual, connections + CALLS).await?;
    let mut measured: Vec<Exchange> = payments
        .iter()
        .map(|payment| market.redeem(payment, false))
        .collect::<Result<_>>()?;
    let warm_up = measured.split_off(CALLS);
    let wire = Wire::before(&target.file.database_url).await?;
    target.reach_postgres_at(Some(wire.url())).await?;
    let job = |measured| {
        anyhow::Ok(Job {
            address: target.gateway()?,
            connections,
            warm_up: Vec::new(),
            measured,
            pace: None,
            beside: None,
            anew: false,
            watched: Vec::new(),
        })
    };
    // Connections to Postgres are opened and statements made ready.
    let mut wrong = load::run(job(warm_up)?).await?.wrong;
    let before = Batches::read(target).await?;
    wire.take();
    wrong.merge(load::run(job(measured)?).await?.wrong);
    let tally = wire.take();
    let counted = Batches::read(target).await?.since(&before).share(tally);
    target.reach_postgres_at(None).await?;
    Ok((counted, wrong))
}

/// Batches that have left the gateway, and what was in them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Batches {
    count: u64,
    items: u64,
}

impl Batches {
    async fn read(target: &Target) -> Result<Self> {
        let url = format!("{}/metrics", target.file.gateway_admin);
        let answer = demo_agent::client()?.get(&url).send().await?;
        let text = answer.error_for_status()?.text().await?;
        Self::parse(&text).with_context(|| format!("no batches in {url}"))
    }

    fn parse(metrics: &str) -> Option<Self> {
        let sum = |name: &str| {
            let of_kind = |kind: &&str| {
                let begin = format!("gateway_batch_items_{name}{{kind=\"{kind}\"}} ");
                let value = metrics.lines().find_map(|line| line.strip_prefix(&begin))?;
                value.trim().parse::<u64>().ok()
            };
            KINDS.iter().map(of_kind).sum::<Option<u64>>()
        };
        Some(Self {
            count: sum("count")?,
            items: sum("sum")?,
        })
    }

    fn since(self, earlier: &Self) -> Self {
        Self {
            count: self.count.saturating_sub(earlier.count),
            items: self.items.saturating_sub(earlier.items),
        }
    }

    fn share(self, tally: Tally) -> RoundTrips {
        #[expect(
            clippy::cast_precision_loss,
            reason = "counts of a pass are far below 2^52"
        )]
        let a_batch = |count: u64| count as f64 / self.count.max(1) as f64;
        RoundTrips {
            batches: self.count,
            calls_a_batch: a_batch(self.items),
            a_batch: a_batch(tally.batchs),
            others_a_batch: a_batch(tally.others),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_of_both_kinds_are_summed_and_no_other() {
        let metrics = "\
# TYPE gateway_batch_items histogram
gateway_batch_items_bucket{kind=\"claims\",le=\"1\"} 3
gateway_batch_items_sum{kind=\"claims\"} 100
gateway_batch_items_count{kind=\"claims\"} 4
gateway_batch_items_sum{kind=\"quotes\"} 900
gateway_batch_items_count{kind=\"quotes\"} 90
gateway_batch_items_sum{kind=\"settlements\"} 60
gateway_batch_items_count{kind=\"settlements\"} 6
";
        let batches = Batches::parse(metrics).unwrap();
        assert_eq!(
            batches,
            Batches {
                count: 10,
                items: 160
            }
        );
        assert_eq!(
            Batches::parse("gateway_batch_items_count{kind=\"claims\"} 4\n"),
            None
        );
        let tally = Tally {
            batchs: 20,
            others: 5,
            preparing: 1,
        };
        let shared = batches.share(tally);
        assert_eq!(
            (shared.a_batch, shared.others_a_batch, shared.calls_a_batch),
            (2.0, 0.5, 16.0)
        );
    }
}
