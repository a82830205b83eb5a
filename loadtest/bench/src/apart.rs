//! Paid calls while something is missing: after the rounds, because what is taken away is missing to everybody.

use anyhow::{Context as _, Result, ensure};

use crate::config::Config;
use crate::load::{self, Exchange, Job};
use crate::market::{Goods, Market};
use crate::measure::{Role, Watched};
use crate::report::Round;
use crate::rounds::{Rounds, miscounted, say};
use crate::stack::Target;
use crate::subject::Subject;

/// Measures what of it is wanted, as often as there were rounds.
pub(crate) async fn measure(
    config: &Config,
    target: &mut Target,
    market: &mut Market,
    rounds: &mut Rounds,
) -> Result<()> {
    let wanted = config.subjects().into_iter();
    for subject in wanted.filter(|subject| subject.is_after_the_rounds()) {
        let goods = goods(subject);
        if !market.has(goods) {
            market.stock(goods, &market.endpoint_url()).await?;
        }
        for number in 1..=config.rounds() {
            let round = once(subject, config, target, market, rounds)
                .await
                .with_context(|| subject.label())?;
            say(number, config.rounds(), subject, &round);
            rounds.done.entry(subject).or_default().push(round);
        }
    }
    Ok(())
}

/// What is bought: with nothing cached, each call is of another listing.
fn goods(subject: Subject) -> Goods {
    if subject == Subject::Cold {
        Goods::TenThousand
    } else {
        Goods::Usual
    }
}

async fn once(
    subject: Subject,
    config: &Config,
    target: &mut Target,
    market: &mut Market,
    rounds: &mut Rounds,
) -> Result<Round> {
    let connections = usize::from(config.connections(subject));
    let calls = usize::try_from(config.paid_calls / 2)? + connections;
    let goods = goods(subject);
    ensure!(
        subject != Subject::Cold || calls <= goods.listings(),
        "{calls} calls are of no listing twice only up to {} (--paid-calls)",
        goods.listings()
    );
    let payments = market.pay_untold(goods, calls).await?;
    if subject == Subject::Cold {
        target.forget().await?;
    } else {
        target.end_redis().await?;
    }
    let mut warm_up: Vec<Exchange> = payments
        .iter()
        .map(|payment| market.redeem(payment, false))
        .collect::<Result<_>>()?;
    let measured = warm_up.split_off(connections);
    let before = market.seller_calls().await?;
    let outcome = load::run(Job {
        address: target.gateway()?,
        connections,
        warm_up,
        measured,
        pace: None,
        beside: None,
        anew: false,
        watched: watched(subject, target),
    })
    .await?;
    if subject == Subject::WithoutRedis {
        target.start_redis().await?;
    }
    let round = Round::of(subject, &outcome);
    for what in &outcome.wrong.shown {
        eprintln!("wrong, {}: {what}", subject.label());
    }
    rounds.wrong.merge(outcome.wrong);
    if let Some(what) = miscounted(before, market.seller_calls().await?, calls) {
        rounds.wrong.add(format!("{}: {what}", subject.label()));
    }
    Ok(round)
}

/// Who is there.
fn watched(subject: Subject, target: &Target) -> Vec<Watched> {
    let mut watched = target.watched();
    if subject == Subject::WithoutRedis {
        watched.retain(|one| one.role != Role::Redis);
    }
    watched.push(Watched {
        role: Role::Load,
        pid: std::process::id(),
    });
    watched
}
