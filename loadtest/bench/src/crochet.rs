//! The measured Crochet with everything bought in it.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use anyhow::{Context as _, Result};

use crate::config::Config;
use crate::load::Exchange;
use crate::market::{Market, Payment};
use crate::measure::{Role, Watched};
use crate::stack::Target;
use crate::subject::Subject;

/// A stack, its traders, and payments waiting to be redeemed.
#[derive(Debug)]
pub(crate) struct Crochet<'a> {
    target: &'a Target,
    market: Market,
    refused: Exchange,
    payments: Vec<Payment>,
    /// The payments of the round's paid calls: what is replayed.
    delivered: Vec<Payment>,
    /// Resident bytes of both services, started, one call made.
    pub(crate) idle: BTreeMap<Role, u64>,
}

impl<'a> Crochet<'a> {
    /// Opens the market and makes one paid call.
    pub(crate) async fn prepare(config: &Config, target: &'a Target) -> Result<Self> {
        let market = Market::open(target, config).await?;
        Ok(Self {
            target,
            refused: market.refused().await?,
            market,
            payments: Vec::new(),
            delivered: Vec::new(),
            idle: target.resident_bytes()?,
        })
    }

    /// Buys what all rounds will redeem.
    pub(crate) async fn buy(&mut self, config: &Config) -> Result<()> {
        let mut a_round = 0;
        for subject in config.subjects() {
            a_round += calls_a_round(subject, config)?;
        }
        if a_round > 0 {
            let count = usize::try_from(config.rounds())? * a_round;
            self.payments = self.market.pay(count).await?;
        }
        Ok(())
    }

    /// The traders alone, when all rounds are over.
    pub(crate) fn into_market(self) -> Market {
        self.market
    }

    /// Where Postgres is.
    pub(crate) fn database_url(&self) -> &str {
        &self.target.file.database_url
    }

    pub(crate) fn watched(&self) -> Vec<Watched> {
        self.target.watched()
    }

    pub(crate) fn address(&self) -> Result<SocketAddr> {
        self.target.gateway()
    }

    /// How many calls the seller has answered and how many it refused for want of a signature.
    pub(crate) async fn seller_calls(&self) -> Result<(u64, u64)> {
        self.market.seller_calls().await
    }

    /// The retries of payments nobody has redeemed yet, for the warm-up and the measurement of one round.
    pub(crate) fn paid(&mut self, subject: Subject, config: &Config) -> Result<Vec<Exchange>> {
        let count = calls_a_round(subject, config)?;
        let left = self.payments.len().checked_sub(count);
        self.delivered = self
            .payments
            .split_off(left.context("more rounds than were paid for")?);
        Ok(self.redeem(false))
    }

    /// The same calls once more.
    pub(crate) fn replays(&self) -> Vec<Exchange> {
        self.redeem(true)
    }

    fn redeem(&self, replayed: bool) -> Vec<Exchange> {
        self.delivered
            .iter()
            .map(|payment| self.market.redeem(payment, replayed))
            .collect()
    }

    /// Calls with an open quote each.
    pub(crate) async fn quoted(&mut self) -> Result<Vec<Exchange>> {
        self.market.quoted().await
    }

    /// A call with a key nobody has.
    pub(crate) fn refused(&self) -> Vec<Exchange> {
        vec![self.refused.clone()]
    }
}

/// How many requests are sent at a fixed rate in a round.
pub(crate) const fn paced_calls(config: &Config) -> u32 {
    config.paid_calls / 2
}

/// How many payments a subject redeems in a round: what is measured, and one more on each connection
/// to warm it up.
fn calls_a_round(subject: Subject, config: &Config) -> Result<usize> {
    let measured = match subject {
        Subject::Paid => config.paid_calls,
        // Two CPU times of the same seconds, so that fewer are as telling.
        Subject::Beside => config.paid_calls / 2,
        // At half of the rate they take as long.
        Subject::Half => paced_calls(config),
        Subject::Pingora
        | Subject::X402
        | Subject::Nginx
        | Subject::Haproxy
        | Subject::Quote
        | Subject::Refused
        | Subject::Replay
        | Subject::Direct
        | Subject::Commit
        | Subject::Idle
        | Subject::Flat
        | Subject::Soak => return Ok(0),
    };
    Ok(usize::try_from(measured)? + usize::from(config.connections(subject)))
}
