//! `cargo dev bench --only soak`: whether the services' memory stands still under steady work.
//!
//! Whole purchases, from the quote to the answer, are made for some minutes at half of the rate at which the machine
//! can make them; every delivered call is asked for once more. All are different, so that whatever is kept for each
//! is kept for all.
//!
//! Invariants: the resident bytes are read between slices and never in a rush of requests; every answer is
//! compared as in any other run, and the books are held together at the end.

mod memory;
mod purchases;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use crochet_dev::{Build, end_leftovers};

use self::memory::{Course, Sample};
use self::purchases::Purchases;
use crate::config::Config;
use crate::load::Wrong;
use crate::market::Market;
use crate::measure::{Readings, Role, Watched};
use crate::report;
use crate::run::{self, Workplace};
use crate::stack::Target;

/// As long as purchases are made before memory is read: a sixth of a minute.
const SLICE: Duration = Duration::from_secs(10);
/// Of the rate that saturates the machine.
const SHARE: f64 = 0.5;

/// Runs it and prints the table. Fails with `--check` when memory grows.
pub(crate) async fn run(config: &Config) -> Result<ExitCode> {
    let workplace = Workplace::take()?;
    let directory = workplace.directory.join("soak");
    end_leftovers(&directory).await?;
    run::remove(&directory)?;
    let target = Target::start(config, &directory).await?;
    let soaked = soak(config, &target).await;
    let kept = || format!("logs are in {}", directory.join("logs").display());
    let (mut course, mut wrong) = soaked.with_context(kept)?;
    if let Some(rows) = target.audit().await? {
        wrong.add(format!("`control-plane audit` found:\n{rows}"));
    }
    course.notes.append(&mut target.notes());
    target.stop().await?;
    course.judge(wrong);
    println!("{}", course.render());
    if course.wrong == 0 {
        run::remove(&directory)?;
    }
    let is_standard = config.is_standard_soak() && Build::of_this_program() == Build::Release;
    let path = report::json::write_as("soak", &course, is_standard)?;
    println!("Also in {}", path.display());
    Ok(course.exit_code(config.check))
}

async fn soak(config: &Config, target: &Target) -> Result<(Course, Wrong)> {
    let market = Market::open(target, config).await?;
    let mut purchases = Purchases::new(market, target.gateway()?, config);
    let saturated = purchases.saturate().await?;
    let count = purchases::in_time(saturated * SHARE, SLICE);
    eprintln!(
        "{saturated:.0} whole purchases a second saturate the machine: {count} in each {SLICE:?}"
    );
    let slices = usize::try_from(config.alone.minutes)? * memory::SAMPLES_A_MINUTE;
    let watched = everybody(target);
    let (begun, before) = (Instant::now(), Readings::take(&watched)?);
    let mut course = Course::new(config.alone.minutes, saturated);
    for _ in 0..slices {
        let slice_begun = Instant::now();
        purchases.slice(count, SLICE).await?;
        tokio::time::sleep(SLICE.saturating_sub(slice_begun.elapsed())).await;
        let resident = target.resident_bytes()?;
        let of = |role| resident.get(&role).copied().unwrap_or_default();
        course.push(Sample {
            purchases: count,
            gateway: of(Role::Gateway),
            control_plane: of(Role::ControlPlane),
        });
        if let Some(minute) = course.last_minute() {
            eprintln!("{minute}");
        }
    }
    let spent = Readings::take(&watched)?.since(&before);
    course.busy = busy(
        spent.values().map(|spent| spent.clock).sum(),
        begun.elapsed(),
    );
    Ok((course, purchases.wrong))
}

fn everybody(target: &Target) -> Vec<Watched> {
    let mut watched = target.watched();
    watched.push(Watched {
        role: Role::Load,
        pid: std::process::id(),
    });
    watched
}

/// The share of all CPUs' time that was used.
fn busy(spent: Duration, elapsed: Duration) -> f64 {
    let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let cpus = f64::from(u32::try_from(cpus).unwrap_or(u32::MAX));
    spent.as_secs_f64() / (elapsed.as_secs_f64() * cpus).max(f64::MIN_POSITIVE)
}
