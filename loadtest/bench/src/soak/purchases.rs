//! Whole purchases: quoted, paid, redeemed, and asked for once more.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::config::Config;
use crate::load::{self, Exchange, Job, Wrong};
use crate::market::{Goods, Market, Payment};

/// Made as fast as it goes, twice: the second time every cache and connection is there.
const SATURATING: usize = 1_000;
/// What is left of a slice for what is paid for, at the least.
const LEAST_LEFT: Duration = Duration::from_secs(1);

/// A buyer that goes on buying.
pub(super) struct Purchases {
    market: Market,
    gateway: SocketAddr,
    connections: usize,
    pub(super) wrong: Wrong,
}

impl Purchases {
    pub(super) fn new(market: Market, gateway: SocketAddr, config: &Config) -> Self {
        Self {
            market,
            gateway,
            connections: usize::from(config.connections),
            wrong: Wrong::default(),
        }
    }

    /// How many a second the machine makes at the most.
    pub(super) async fn saturate(&mut self) -> Result<f64> {
        let mut rate = 0.0;
        for _ in 0..2 {
            let begun = Instant::now();
            let payments = self.market.pay_untold(Goods::Usual, SATURATING).await?;
            self.redeem(&payments, None).await?;
            #[expect(clippy::cast_precision_loss, reason = "a thousand")]
            let count = SATURATING as f64;
            rate = count / begun.elapsed().as_secs_f64().max(f64::MIN_POSITIVE);
        }
        Ok(rate)
    }

    /// Makes `count` of them in `time`: paid for as fast as it goes, redeemed evenly in what is left.
    pub(super) async fn slice(&mut self, count: usize, time: Duration) -> Result<()> {
        let begun = Instant::now();
        let payments = self.market.pay_untold(Goods::Usual, count).await?;
        let left = time.saturating_sub(begun.elapsed()).max(LEAST_LEFT);
        self.redeem(&payments, Some(left)).await
    }

    /// Every call, and then every one again.
    async fn redeem(&mut self, payments: &[Payment], within: Option<Duration>) -> Result<()> {
        let calls = |replayed| payments.iter().map(move |payment| (payment, replayed));
        let measured: Vec<Exchange> = calls(false)
            .chain(calls(true))
            .map(|(payment, replayed)| self.market.redeem(payment, replayed))
            .collect::<Result<_>>()?;
        #[expect(
            clippy::cast_precision_loss,
            reason = "calls of a slice are far below 2^52"
        )]
        let pace = within.map(|within| measured.len() as f64 / within.as_secs_f64());
        let job = Job {
            address: self.gateway,
            connections: self.connections,
            warm_up: Vec::new(),
            measured,
            pace,
            beside: None,
            anew: false,
            watched: Vec::new(),
        };
        let outcome = load::run(job).await?;
        for what in &outcome.wrong.shown {
            eprintln!("wrong: {what}");
        }
        self.wrong.merge(outcome.wrong);
        Ok(())
    }
}

/// How many there are in `time` at so many a second; one at the least.
pub(super) fn in_time(rate: f64, time: Duration) -> usize {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a few thousand"
    )]
    let count = (rate * time.as_secs_f64()) as usize;
    count.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_what_saturates_is_made_in_a_slice() {
        assert_eq!(in_time(125.0, Duration::from_secs(10)), 1_250);
        assert_eq!(in_time(0.0, Duration::from_secs(10)), 1);
    }
}
