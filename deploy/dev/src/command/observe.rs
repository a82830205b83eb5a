//! `cargo dev observe`: a real Prometheus over a stack, and what rules and dashboards are held to.
//!
//! Alone it watches the stack that runs in this clone until Ctrl-C; with `--draw` it makes calls in it and
//! draws every dashboard ([`super::draw`]). With `--check` it starts a stack
//! of its own, makes paid calls, and demands that `promtool` finds nothing wrong, that every
//! expression of a rule or a panel can be evaluated, and that every metric it names is there.

use std::collections::BTreeSet;
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use crochet_dev::install::{self, Part};
use crochet_dev::{
    Build, Checkout, Cluster, Deadline, DemoKeys, Options, Prometheus, Stack, StackFile, Store,
    Stores,
};

use super::signals::Signals;
use super::watched::{self, Query};
use super::{compile, draw, running, say, transcript};

/// What Grafana's choice of a window is taken to be.
const WINDOW: &str = "30s";
/// Until every metric of rules and panels is there: background work takes its first turn.
const NAMES_LIMIT: Duration = Duration::from_mins(1);
/// Until a panel has something to draw: rates need two scrapes.
const DRAWN_LIMIT: Duration = Duration::from_secs(20);
/// Where an expression of a rule stands in the table.
const RULES: &str = "rules";

#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    /// Start a stack of its own, hold rules and dashboards to it, and end.
    #[arg(long)]
    check: bool,
    /// Make mixed calls in the stack that runs, and draw every dashboard into `target/pictures`.
    #[arg(long, conflicts_with = "check")]
    draw: bool,
    /// Follow the commands of `deploy/README.md` in a clone of what is committed, from nothing to the
    /// pictures.
    #[arg(long, conflicts_with_all = ["check", "draw"])]
    from_nothing: bool,
}

pub(crate) async fn observe(arguments: Arguments) -> Result<ExitCode> {
    const CONNECTIONS: u16 = 200;
    let checkout = Checkout::find()?;
    if arguments.from_nothing {
        draw::from_nothing(&checkout)?;
        return Ok(ExitCode::SUCCESS);
    }
    install::install_missing(say)?;
    if arguments.draw {
        let drawn = Box::pin(draw::draw(&checkout)).await?;
        return Ok(if drawn {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        });
    }
    if !arguments.check {
        return watch(&checkout).await;
    }
    compile::build(&checkout, Build::Debug, &compile::SERVICES)?;
    let directory = checkout.watched().join("stores");
    let stores = Stores::start(&directory, CONNECTIONS).await?;
    let held = Box::pin(hold(&checkout, &stores.database_url())).await;
    stores.stop().await?;
    Cluster::remove(&directory)?;
    Ok(if held? {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Watches the stack that runs, until Ctrl-C.
async fn watch(checkout: &Checkout) -> Result<ExitCode> {
    let stack = running(checkout)?;
    install::install(&[Part::Prometheus], say)?;
    let mut signals = Signals::listen()?;
    let rules = watched::rules(checkout)?;
    let prometheus = Prometheus::start(&checkout.watched(), &stack, &rules, "5s").await?;
    println!("Prometheus: {}/alerts  (stop: Ctrl-C)", prometheus.origin());
    signals.any().await;
    prometheus.stop().await?;
    Ok(ExitCode::SUCCESS)
}

/// Holds rules and dashboards to a stack in a database of this server; true when all hold.
pub(crate) async fn hold(checkout: &Checkout, postgres: &str) -> Result<bool> {
    println!("Holding rules and dashboards to what a Prometheus sees");
    install::install(&[Part::Prometheus], say)?;
    promtool(checkout)?;
    let options = Options::for_test("observe")?
        .postgres(Store::At(postgres.to_owned()))
        .say(say);
    let stack = Stack::start(options).await?;
    // A first call: what has labels of its own shows when it is first counted.
    Box::pin(transcript::tell(&stack.describe(DemoKeys::default()))).await?;
    let held = Box::pin(seen(checkout, &stack.describe(DemoKeys::default()))).await;
    stack.stop().await?;
    held
}

/// What `promtool` says of the configuration, the rules and their tests.
fn promtool(checkout: &Checkout) -> Result<()> {
    for arguments in [
        ["check", "config", "prometheus.yml"],
        ["check", "rules", "rules.yml"],
        ["test", "rules", "rules.test.yml"],
    ] {
        let output = Command::new("promtool")
            .args(arguments)
            .current_dir(watched::folder(checkout))
            .output()
            .context("starting promtool")?;
        ensure!(
            output.status.success(),
            "`promtool {}` failed:\n{}{}",
            arguments.join(" "),
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr),
        );
        say(&format!("promtool {}: holds", arguments.join(" ")));
    }
    Ok(())
}

/// Looks through a Prometheus at every expression while paid calls are made; true when each can be
/// evaluated, names only what is there, and, of a panel, has something to draw.
async fn seen(checkout: &Checkout, stack: &StackFile) -> Result<bool> {
    let rules = watched::rules(checkout)?;
    let prometheus = Prometheus::start(&checkout.watched(), stack, &rules, "1s").await?;
    let mut queries = watched::queries(checkout, WINDOW)?;
    queries.extend(prometheus.rules().await?.into_iter().map(|rule| Query {
        dashboard: RULES.to_owned(),
        panel: rule.name,
        expression: rule.query,
    }));
    let missing = wait_for_names(&prometheus, &queries).await?;
    // Calls between two scrapes: without them no rate has anything to say.
    Box::pin(transcript::tell(stack)).await?;
    println!(
        "\n  {:<12} {:<46} {:>6}  first value",
        "where", "what", "series"
    );
    let mut held = missing.is_empty();
    for query in &queries {
        held &= show(&prometheus, query).await?;
    }
    prometheus.stop().await?;
    for name in &missing {
        println!("  FAILED: no service shows {name}");
    }
    say(&format!(
        "{} expressions, {}",
        queries.len(),
        if held { "all hold" } else { "FAILED" }
    ));
    Ok(held)
}

/// One line of the table; whether the expression holds.
async fn show(prometheus: &Prometheus, query: &Query) -> Result<bool> {
    let deadline = Deadline::new("something to draw", DRAWN_LIMIT);
    // A rule gives nothing while all is well.
    let may_be_empty = query.dashboard == RULES;
    let series = loop {
        let series = prometheus.query(&query.expression).await?;
        if may_be_empty || !series.is_empty() || deadline.tick().await.is_err() {
            break series;
        }
    };
    let holds = may_be_empty || !series.is_empty();
    let first = series.first().map_or("", |(_, value)| value.as_str());
    println!(
        "  {:<12} {:<46} {:>6}  {first}{}",
        query.dashboard,
        query.panel,
        series.len(),
        if holds { "" } else { "FAILED: nothing to draw" }
    );
    Ok(holds)
}

/// The metrics that rules and panels name and nobody shows, after waiting for them.
async fn wait_for_names(prometheus: &Prometheus, queries: &[Query]) -> Result<BTreeSet<String>> {
    let wanted: BTreeSet<String> = queries
        .iter()
        .flat_map(|query| watched::metrics(&query.expression))
        .collect();
    let deadline = Deadline::new("every metric", NAMES_LIMIT);
    loop {
        let shown: BTreeSet<String> = prometheus.names().await?.into_iter().collect();
        let missing: BTreeSet<String> = wanted.difference(&shown).cloned().collect();
        if missing.is_empty() || deadline.tick().await.is_err() {
            return Ok(missing);
        }
    }
}
