//! The measured Crochet with everything bought in it.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use anyhow::{Context as _, Result, bail};

use crate::baseline::TlsFront;
use crate::config::Config;
use crate::load::Exchange;
use crate::market::{Goods, Market, Payment};
use crate::measure::{Role, Watched};
use crate::stack::Target;
use crate::subject::Subject;

/// A stack, its traders, and payments waiting to be redeemed.
#[derive(Debug)]
pub(crate) struct Crochet<'a> {
    target: &'a Target,
    market: Market,
    refused: Exchange,
    payments: BTreeMap<Goods, Vec<Payment>>,
    front: Option<TlsFront>,
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
            payments: BTreeMap::new(),
            front: None,
            delivered: Vec::new(),
            idle: target.resident_bytes()?,
        })
    }

    /// Buys what all rounds will redeem.
    pub(crate) async fn buy(&mut self, config: &Config) -> Result<()> {
        let mut a_round: BTreeMap<Goods, usize> = BTreeMap::new();
        for subject in config.subjects() {
            if let Some(goods) = subject.goods() {
                *a_round.entry(goods).or_default() += calls_a_round(subject, config)?;
            }
        }
        for (goods, a_round) in a_round {
            if goods != Goods::Usual {
                let endpoint = self.endpoint_url(goods).await?;
                self.market.stock(goods, &endpoint).await?;
            }
            let count = usize::try_from(config.rounds())? * a_round;
            let payments = self.market.pay(goods, count).await?;
            self.payments.insert(goods, payments);
        }
        Ok(())
    }

    /// Where the seller of these goods answers; the one behind TLS is put there now.
    async fn endpoint_url(&mut self, goods: Goods) -> Result<String> {
        let plain = self.market.endpoint_url();
        if goods != Goods::Tls {
            return Ok(plain);
        }
        let front = self.target.tls_front().await?;
        let Some((_, path)) = plain
            .strip_prefix("http://")
            .and_then(|rest| rest.split_once('/'))
        else {
            bail!("{plain} is no address of a seller");
        };
        let url = format!("https://{}/{path}", front.address());
        self.front = Some(front);
        Ok(url)
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
        let mut watched = self.target.watched();
        watched.extend(self.front.iter().map(TlsFront::watched));
        watched
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
        let payments = subject
            .goods()
            .and_then(|goods| self.payments.get_mut(&goods));
        let payments = payments.context("nothing was paid for")?;
        let left = payments.len().checked_sub(count);
        self.delivered = payments.split_off(left.context("more rounds than were paid for")?);
        self.redeem(false)
    }

    /// The same calls once more.
    pub(crate) fn replays(&self) -> Result<Vec<Exchange>> {
        self.redeem(true)
    }

    /// Calls that nobody has made yet.
    pub(crate) fn fresh(&mut self, count: usize) -> Result<Vec<Exchange>> {
        self.market.fresh(count)
    }

    fn redeem(&self, replayed: bool) -> Result<Vec<Exchange>> {
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
        // Beside, two CPU times are of the same seconds, so that fewer are as telling.
        Subject::Beside | Subject::Hundred | Subject::TenThousand | Subject::Tls => {
            config.paid_calls / 2
        }
        // However many connections there are, they wait most of the time.
        Subject::Slow => config.paid_calls / 4,
        // At half of the rate they take as long.
        Subject::Half => paced_calls(config),
        // What is expected of them is in memory whole.
        Subject::Kib64 => config.paid_calls / 8,
        Subject::Mib1 => config.paid_calls / 80,
        Subject::Pingora
        | Subject::X402
        | Subject::Nginx
        | Subject::Haproxy
        | Subject::Quote
        | Subject::Refused
        | Subject::Replay
        | Subject::Fresh
        | Subject::Connect
        | Subject::Direct
        | Subject::Commit
        | Subject::Cold
        | Subject::WithoutRedis
        | Subject::Idle
        | Subject::Flat
        | Subject::Soak => return Ok(0),
    };
    Ok(usize::try_from(measured)? + usize::from(config.connections(subject)))
}
