//! The rounds: everything once in each, in turns.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use anyhow::{Context as _, Result, bail};

use crate::baseline::{self, Baselines};
use crate::config::Config;
use crate::crochet::{self, Crochet};
use crate::load::{self, Beside, Exchange, Job, Outcome, Wrong};
use crate::market::{self, Market};
use crate::measure::{Readings, Role, Watched};
use crate::postgres::{Commits, Each, Log, Position};
use crate::report::Round;
use crate::statistics::Summary;
use crate::subject::Subject;

/// Of what a path that is many times slower than the others sends this part.
const SLOW_SHARE: usize = 10;
/// The same of new connections: each leaves a port behind that is not used again for a while.
const CONNECT_SHARE: usize = 4;
/// Of the rate at which the machine is saturated, what is sent at a fixed rate.
const PACED_SHARE: f64 = 0.5;
/// Rows committed in a round.
const COMMITS: usize = 500;

/// What came out.
#[derive(Debug, Default)]
pub(crate) struct Rounds {
    /// A figure a round.
    pub(crate) done: BTreeMap<Subject, Vec<Round>>,
    /// What the paid calls of each round wrote into Postgres's log, for each of them.
    pub(crate) log: Vec<Each>,
    /// What should not have happened.
    pub(crate) wrong: Wrong,
}

/// What stays the same from round to round.
#[derive(Debug)]
pub(crate) struct Bench<'a> {
    config: &'a Config,
    baselines: &'a Baselines,
    crochet: Option<Crochet<'a>>,
    log: Option<Log>,
    commits: Option<Commits>,
    watched: Vec<Watched>,
    baseline: Exchange,
}

/// What is sent before the clock starts, and what is measured.
struct Script {
    warm_up: Vec<Exchange>,
    measured: Vec<Exchange>,
}

impl Script {
    /// The same few exchanges over and over, the first time round on every connection.
    fn repeat(exchanges: &[Exchange], warm_up: usize, measured: usize) -> Self {
        let take = |count| exchanges.iter().cloned().cycle().take(count).collect();
        Self {
            warm_up: take(warm_up),
            measured: take(measured),
        }
    }
}

impl<'a> Bench<'a> {
    pub(crate) async fn new(
        config: &'a Config,
        baselines: &'a Baselines,
        crochet: Option<Crochet<'a>>,
    ) -> Result<Self> {
        let mut watched = baselines.watched();
        watched.extend(crochet.iter().flat_map(Crochet::watched));
        watched.push(Watched {
            role: Role::Load,
            pid: std::process::id(),
        });
        let baseline = baseline::exchange(baselines.seller(), config.answer_bytes).await?;
        let log = match &crochet {
            Some(crochet) => Some(Log::open(crochet.database_url()).await?),
            None => None,
        };
        let commits = match &crochet {
            Some(crochet) if config.wants(Subject::Commit) => {
                Some(Commits::open(crochet.database_url()).await?)
            }
            Some(_) | None => None,
        };
        Ok(Self {
            config,
            baselines,
            crochet,
            log,
            commits,
            watched,
            baseline,
        })
    }

    /// Whose CPU is read.
    pub(crate) fn watched(&self) -> &[Watched] {
        &self.watched
    }

    /// Everything once.
    pub(crate) async fn round(&mut self, number: u32, rounds: &mut Rounds) -> Result<()> {
        let subjects = self.config.subjects().into_iter();
        for subject in subjects.filter(|subject| !subject.is_after_the_rounds()) {
            if subject == Subject::Commit {
                let round = self.commit().await?;
                rounds.done.entry(subject).or_default().push(round);
                continue;
            }
            let script = self.script(subject).await?;
            let expected = if subject.goods().is_some() {
                script.warm_up.len() + script.measured.len()
            } else {
                0
            };
            let before = self.seller_calls().await?;
            let position = self.position(subject).await?;
            let round = self.phase(subject, script, rounds).await?;
            say(number, self.config.rounds(), subject, &round);
            if let (Some(position), Some(log)) = (position, &mut self.log) {
                rounds.log.push(log.since(&position).await?.each(expected));
            }
            rounds.done.entry(subject).or_default().push(round);
            if let Some(what) = miscounted(before, self.seller_calls().await?, expected) {
                rounds.wrong.add(format!("{}: {what}", subject.label()));
            }
        }
        Ok(())
    }

    /// How far Postgres's log is before a path whose share of it is told.
    async fn position(&mut self, subject: Subject) -> Result<Option<Position>> {
        match &mut self.log {
            Some(log) if subject == Subject::Paid => log.position().await.map(Some),
            Some(_) | None => Ok(None),
        }
    }

    /// Commits some rows.
    async fn commit(&mut self) -> Result<Round> {
        let commits = self.commits.as_mut().context("no stack was started")?;
        let before = Readings::take(&self.watched)?;
        let begun = std::time::Instant::now();
        let latencies_us = commits.time(COMMITS).await?;
        let outcome = Outcome {
            right: latencies_us.len(),
            elapsed: begun.elapsed(),
            before,
            after: Readings::take(&self.watched)?,
            latencies_us,
            kept: Vec::new(),
            wrong: Wrong::default(),
        };
        Ok(Round::of(Subject::Commit, &outcome))
    }

    /// Tidies up when all rounds are over; the traders are left.
    pub(crate) async fn end(self) -> Result<Option<Market>> {
        if let Some(commits) = self.commits {
            commits.end().await?;
        }
        Ok(self.crochet.map(Crochet::into_market))
    }

    async fn seller_calls(&self) -> Result<(u64, u64)> {
        match &self.crochet {
            Some(crochet) => crochet.seller_calls().await,
            None => Ok((0, 0)),
        }
    }

    async fn script(&mut self, subject: Subject) -> Result<Script> {
        let (connections, requests) = (
            usize::from(self.config.connections(subject)),
            usize::try_from(self.config.requests)?,
        );
        let same = |exchanges: &[Exchange]| Script::repeat(exchanges, connections, requests);
        Ok(match subject {
            Subject::Pingora | Subject::Nginx | Subject::Haproxy => {
                same(std::slice::from_ref(&self.baseline))
            }
            Subject::Direct => {
                let count = usize::try_from(crochet::paced_calls(self.config))?;
                Script::repeat(std::slice::from_ref(&self.baseline), connections, count)
            }
            Subject::X402 => {
                let paid = self.baselines.paid_x402(&self.baseline).await?;
                Script::repeat(&[paid], connections, requests / SLOW_SHARE)
            }
            Subject::Refused => same(&self.crochet()?.refused()),
            Subject::Quote => same(&self.crochet()?.quoted().await?),
            Subject::Connect => {
                let quoted = self.crochet()?.quoted().await?;
                Script::repeat(&quoted, connections, requests / CONNECT_SHARE)
            }
            Subject::Fresh => Script {
                warm_up: self.crochet()?.fresh(connections)?,
                measured: self.crochet()?.fresh(requests / SLOW_SHARE)?,
            },
            Subject::Replay => {
                let replays = self.crochet()?.replays()?;
                Script::repeat(&replays, connections, replays.len())
            }
            Subject::Paid
            | Subject::Beside
            | Subject::Hundred
            | Subject::TenThousand
            | Subject::Tls
            | Subject::Slow
            | Subject::Kib64
            | Subject::Mib1
            | Subject::Half => {
                let config = self.config;
                let mut warm_up = self.crochet()?.paid(subject, config)?;
                let measured = warm_up.split_off(connections.min(warm_up.len()));
                Script { warm_up, measured }
            }
            Subject::Commit
            | Subject::Idle
            | Subject::Cold
            | Subject::WithoutRedis
            | Subject::Flat
            | Subject::Soak => {
                bail!("{} is no request of a round", subject.label())
            }
        })
    }

    fn crochet(&mut self) -> Result<&mut Crochet<'a>> {
        self.crochet.as_mut().context("no stack was started")
    }

    fn address(&mut self, subject: Subject) -> Result<SocketAddr> {
        match subject {
            Subject::Pingora => Ok(self.baselines.pingora()),
            Subject::Nginx => Ok(self.baselines.nginx()),
            Subject::Haproxy => self.baselines.haproxy(),
            Subject::X402 => self.baselines.x402(),
            Subject::Direct => Ok(self.baselines.seller()),
            Subject::Beside
            | Subject::Paid
            | Subject::Quote
            | Subject::Refused
            | Subject::Replay
            | Subject::Fresh
            | Subject::Connect
            | Subject::Hundred
            | Subject::TenThousand
            | Subject::Tls
            | Subject::Slow
            | Subject::Kib64
            | Subject::Mib1
            | Subject::Cold
            | Subject::WithoutRedis
            | Subject::Half
            | Subject::Commit
            | Subject::Idle
            | Subject::Flat
            | Subject::Soak => self.crochet()?.address(),
        }
    }

    async fn phase(
        &mut self,
        subject: Subject,
        script: Script,
        rounds: &mut Rounds,
    ) -> Result<Round> {
        let job = Job {
            address: self.address(subject)?,
            connections: usize::from(self.config.connections(subject)),
            warm_up: script.warm_up,
            measured: script.measured,
            pace: pace(subject, rounds)?,
            beside: (subject == Subject::Beside).then(|| Beside {
                address: self.baselines.pingora(),
                exchange: self.baseline.clone(),
            }),
            anew: subject == Subject::Connect,
            watched: self.watched.clone(),
        };
        let mut outcome = load::run(job).await.with_context(|| subject.label())?;
        if subject == Subject::Fresh {
            outcome.wrong.merge(market::not_fresh(&outcome.kept));
        }
        let round = Round::of(subject, &outcome);
        for what in &outcome.wrong.shown {
            eprintln!("wrong, {}: {what}", subject.label());
        }
        rounds.wrong.merge(outcome.wrong);
        Ok(round)
    }
}

/// How a round went, while others are to come.
pub(crate) fn say(number: u32, rounds: u32, subject: Subject, round: &Round) {
    eprintln!(
        "round {number} of {rounds}: {:<31} {:>6.1} µs {:>7.0}/s",
        subject.label(),
        round.cpu_us,
        round.rate
    );
}

/// The fixed rate of a path that has one: the same for all of a round, from how fast paid calls were so far.
fn pace(subject: Subject, rounds: &Rounds) -> Result<Option<f64>> {
    if !subject.is_paced() {
        return Ok(None);
    }
    let paid = rounds.done.get(&Subject::Paid);
    let paid = paid.context("no rate of paid calls to take half of")?;
    let saturated = Summary::of(paid.iter().map(|round| round.rate)).median;
    Ok(Some(saturated * PACED_SHARE))
}

/// What is wrong with the seller's counts (calls, unsigned calls) before and after a phase, if anything.
pub(crate) fn miscounted(before: (u64, u64), after: (u64, u64), expected: usize) -> Option<String> {
    let (calls, unsigned) = (
        after.0.saturating_sub(before.0),
        after.1.saturating_sub(before.1),
    );
    let right = usize::try_from(calls).is_ok_and(|calls| calls == expected) && unsigned == 0;
    (!right).then(|| format!("the seller was called {calls} times and not {expected}, and {unsigned} times without a signature"))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::load::Expect;

    #[test]
    fn a_seller_called_twice_or_unsigned_is_wrong() {
        assert_eq!(miscounted((5, 0), (15, 0), 10), None);
        assert!(miscounted((5, 0), (16, 0), 10).is_some_and(|what| what.contains("11 times")));
        assert!(miscounted((5, 0), (15, 1), 10).is_some());
        assert!(miscounted((5, 0), (6, 0), 0).is_some());
    }

    #[test]
    fn the_fixed_rate_is_half_of_the_usual_one() {
        let round = |rate| Round {
            rate,
            ..Round::default()
        };
        let mut rounds = Rounds::default();
        assert!(pace(Subject::Half, &rounds).is_err());
        assert_eq!(pace(Subject::Paid, &rounds).unwrap(), None);
        let paid = vec![round(8_000.0), round(2_000.0), round(7_000.0)];
        rounds.done.insert(Subject::Paid, paid);
        for subject in [Subject::Half, Subject::Direct] {
            assert_eq!(pace(subject, &rounds).unwrap(), Some(3_500.0));
        }
    }

    #[test]
    fn every_connection_is_warmed_up_and_exchanges_go_round() {
        let exchange = |text: &'static str| Exchange {
            request: Bytes::from_static(text.as_bytes()),
            expect: Expect::Anything,
        };
        let script = Script::repeat(&[exchange("a"), exchange("b")], 3, 5);
        let text = |exchanges: &[Exchange]| {
            exchanges
                .iter()
                .map(|one| String::from_utf8_lossy(&one.request).into_owned())
                .collect::<String>()
        };
        assert_eq!(
            (
                text(&script.warm_up).as_str(),
                text(&script.measured).as_str()
            ),
            ("aba", "ababa")
        );
    }
}
