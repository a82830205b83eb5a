//! `cargo dev bench --browse`: what a page of the catalog costs among a thousand listings, and among
//! a million of the same kind.
//!
//! Two databases in one Postgres, a control plane for each, and the same requests to both in turns,
//! over kept connections, to the control plane itself: nothing stands before it that would even out
//! the ratio. Every answer must be a 200.

mod load;
mod questions;
mod seed;

use std::process::ExitCode;

use anyhow::Result;
use crochet_dev::{Build, Checkout, Cluster, DemoKeys, Options, Stack, Store, Stores};
use sqlx::PgPool;

use self::load::Timings;
use self::questions::Question;
pub(crate) use self::seed::{RECIPE, seed};
use crate::config::Config;
use crate::report::Grid;
use crate::statistics::quantile;

/// Listings in the two catalogs.
const SIZES: [u32; 2] = [1_000, 1_000_000];
/// Times each question is asked of each catalog, in turns.
const TIMES: u32 = 60;
/// Times with `--quick`.
const TIMES_QUICK: u32 = 20;
/// Asked beforehand, so that both catalogs are in memory and every plan was made once.
const WARM_UP: u32 = 3;
/// Connections of the Postgres of both.
const CONNECTIONS: u16 = 100;
/// Postgres's memory: a production server's catalog is in it.
const SHARED_BUFFERS_MB: u16 = 2048;
/// The mark: how many times the small catalog's time the large one's may be.
const RATIO_MAX: f64 = 3.0;
/// After it nothing holds any more that was remembered of a search that has one of these words, as after a change of a
/// listing with one. `judubo` stands for the third.
const FORGET: &str =
    "update search_word set listings = listings where word in ('sensor', 'travel', 'juduba')";

/// A catalog of one size and the control plane before it.
struct Catalog {
    stack: Stack,
    origin: String,
    database: PgPool,
}

/// Seeds, measures, prints the table. Fails with `--check` when a mark is missed.
pub(crate) async fn run(config: &Config) -> Result<ExitCode> {
    let checkout = Checkout::find()?;
    let directory = checkout.root().join("target/bench/browse");
    crochet_dev::end_leftovers(&directory).await?;
    Cluster::remove(&directory)?;
    let cluster = Cluster::open(&directory, CONNECTIONS)?.shared_buffers_mb(SHARED_BUFFERS_MB);
    let stores = Stores::start_with(&directory, cluster).await?;
    let mut catalogs = Vec::new();
    for size in SIZES {
        catalogs.push(open(&stores, &directory, size).await?);
    }
    let [small, large] = catalogs.as_slice() else {
        anyhow::bail!("two catalogs are compared");
    };
    let times = if config.quick { TIMES_QUICK } else { TIMES };
    let missed = measure(small, large, times).await?;
    for catalog in catalogs {
        catalog.stack.stop().await?;
    }
    stores.stop().await?;
    Cluster::remove(&directory)?;
    Ok(if config.check && missed > 0 {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

async fn open(stores: &Stores, directory: &std::path::Path, size: u32) -> Result<Catalog> {
    let options = Options::for_test("browse")?
        .in_directory(&directory.join(size.to_string()))
        .build(Build::of_this_program())
        .postgres(Store::At(stores.database_url()))
        .say(|what| eprintln!("{what}"));
    let stack = Stack::start(options).await?;
    let file = stack.describe(DemoKeys::default());
    eprintln!("Making {size} listings");
    seed(&file.database_url, size).await?;
    Ok(Catalog {
        stack,
        origin: file.control_plane,
        database: PgPool::connect(&file.database_url).await?,
    })
}

/// Asks every question of both catalogs; how many missed the mark.
async fn measure(small: &Catalog, large: &Catalog, times: u32) -> Result<usize> {
    let client = demo_agent::client()?;
    let mut grid = Grid::new(&[
        "GET /listings?…",
        "1,000: p50",
        "p99",
        "1,000,000: p50",
        "p99",
        "×",
        "≤ 3 ×",
    ]);
    let mut missed = 0;
    for question in questions::all() {
        let [few, many] = ask(&client, small, large, &question, times).await?;
        let ratio = f64::from(many.p50) / f64::from(few.p50.max(1));
        let keeps = ratio <= RATIO_MAX;
        missed += usize::from(!keeps && !question.is_first);
        grid.row(vec![
            question.name.clone(),
            milliseconds(few.p50),
            milliseconds(few.p99),
            milliseconds(many.p50),
            milliseconds(many.p99),
            format!("{ratio:.2}"),
            match (question.is_first, keeps) {
                (true, _) => "first asker",
                (false, true) => "ok",
                (false, false) => "MISSES",
            }
            .to_owned(),
        ]);
    }
    println!("{}", grid.render());
    println!(
        "p50 and p99 in milliseconds, of {times} pages each, one at a time, asked of both in turns. First askers have no \
         mark: before each of their pages what was remembered of the search ceases to hold."
    );
    Ok(missed)
}

/// Of one catalog, in microseconds.
struct Row {
    p50: u32,
    p99: u32,
}

async fn ask(
    client: &reqwest::Client,
    small: &Catalog,
    large: &Catalog,
    question: &Question,
    times: u32,
) -> Result<[Row; 2]> {
    let catalogs = [small, large];
    let mut timings = [
        Timings::begin(client, &small.origin, question).await?,
        Timings::begin(client, &large.origin, question).await?,
    ];
    for time in 0..WARM_UP + times {
        for (one, catalog) in timings.iter_mut().zip(catalogs) {
            if question.is_first {
                sqlx::query(FORGET).execute(&catalog.database).await?;
            }
            one.ask(client, time >= WARM_UP).await?;
        }
    }
    Ok(timings.map(|one| {
        let sorted = one.sorted();
        Row {
            p50: quantile(&sorted, 0.5),
            p99: quantile(&sorted, 0.99),
        }
    }))
}

fn milliseconds(microseconds: u32) -> String {
    format!("{:.2}", f64::from(microseconds) / 1000.0)
}
