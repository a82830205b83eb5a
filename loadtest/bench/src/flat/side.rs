//! One of the two: a whole Crochet on a database of one size, its traders, and what they have paid for.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use sqlx::{Connection as _, PgConnection};

use super::seed;
use super::size::Size;
use crate::config::Config;
use crate::load::{self, Exchange, Job, Wrong};
use crate::market::{Goods, Market, Payment};
use crate::measure::{Role, Watched};
use crate::report::Round;
use crate::rounds::miscounted;
use crate::run;
use crate::stack::Target;
use crate::subject::Subject;

/// Beside a database that is kept: what it was filled with. Without it, it is not whole.
const FILLED: &str = "filled";

/// A stack with its database.
pub(super) struct Side {
    target: Target,
    market: Market,
    payments: Vec<Payment>,
    watched: Vec<Watched>,
    connections: usize,
    calls: usize,
}

impl Side {
    /// Starts it in `directory`, with the database that an earlier run filled there, or else one that is filled now.
    pub(super) async fn open(config: &Config, directory: &Path, size: Size) -> Result<Self> {
        crochet_dev::end_leftovers(directory).await?;
        let (recipe, filled) = (seed::recipe(size), directory.join(FILLED));
        let is_known = std::fs::read_to_string(&filled).is_ok_and(|found| found == recipe);
        if !is_known {
            run::remove(directory)?;
        }
        let mut target = Target::start(config, directory).await?;
        // Its data may be elsewhere, and may have been removed there.
        if is_known && seed::is_there(&target.file.database_url, size).await? {
            eprintln!("Filled by an earlier run: {}", directory.display());
        } else {
            target
                .refill(|url| async move { seed::seed(&url, size).await })
                .await?;
            std::fs::write(&filled, recipe)
                .with_context(|| format!("writing {}", filled.display()))?;
        }
        let market = Market::open(&target, config).await?;
        let mut watched = target.watched();
        watched.push(Watched {
            role: Role::Load,
            pid: std::process::id(),
        });
        Ok(Self {
            target,
            market,
            payments: Vec::new(),
            watched,
            connections: usize::from(config.connections),
            calls: usize::try_from(config.paid_calls)?,
        })
    }

    /// Pays for the calls of all rounds, and begins them with nothing left to be written out.
    pub(super) async fn prepare(&mut self, rounds: u32) -> Result<()> {
        let a_round = self.calls + self.connections;
        self.payments = self
            .market
            .pay(Goods::Usual, a_round * usize::try_from(rounds)?)
            .await?;
        let mut connection = PgConnection::connect(&self.target.file.database_url).await?;
        sqlx::raw_sql("checkpoint").execute(&mut connection).await?;
        connection.close().await?;
        Ok(())
    }

    /// Redeems some of them.
    pub(super) async fn round(&mut self) -> Result<(Round, Wrong)> {
        let count = self.calls + self.connections;
        let left = self.payments.len().checked_sub(count);
        let payments = self
            .payments
            .split_off(left.context("more rounds than were paid for")?);
        let redeem = |payment| self.market.redeem(payment, false);
        let mut measured: Vec<Exchange> = payments.iter().map(redeem).collect::<Result<_>>()?;
        let warm_up = measured.split_off(self.calls);
        let before = self.market.seller_calls().await?;
        let outcome = load::run(Job {
            address: self.target.gateway()?,
            connections: self.connections,
            warm_up,
            measured,
            pace: None,
            beside: None,
            anew: false,
            watched: self.watched.clone(),
        })
        .await?;
        let round = Round::of(Subject::Paid, &outcome);
        let mut wrong = outcome.wrong;
        if let Some(what) = miscounted(before, self.market.seller_calls().await?, count) {
            wrong.add(what);
        }
        Ok((round, wrong))
    }

    /// What a reader must know of it.
    pub(super) fn notes(&self) -> Vec<String> {
        self.target.notes()
    }

    /// Holds its books together and stops it.
    pub(super) async fn close(self) -> Result<Option<String>> {
        let found = self.target.audit().await?;
        self.target.stop().await?;
        Ok(found)
    }
}

/// Where the databases of the two are, below the bench's folder.
pub(super) fn places(directory: &Path) -> [PathBuf; 2] {
    ["small", "large"].map(|name| directory.join("flat").join(name))
}
