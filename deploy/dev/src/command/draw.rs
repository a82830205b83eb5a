//! `cargo dev observe --draw` and `--from-nothing`: the dashboards as pictures, with what a Prometheus saw of live
//! calls, where there is no Grafana to show them; and the page that leads there, followed to the letter.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use crochet_dev::install::{self, Part};
use crochet_dev::{Checkout, Prometheus, StackFile};

use super::drill::page;
use super::{loops, mishaps, python, run, running, say, shown, transcript, watched};

/// The page, and its section, that leads from nothing to pictures.
const PAGE: &str = "deploy/README.md";
const SECTION: &str = "## Watching";
/// Where the pictures are laid, below the clone's own target folder.
const PICTURES: &str = "target/pictures";
/// How long calls are made for; then there is something to see.
const LIVE: Duration = Duration::from_secs(100);
/// Purchases of one round.
const ROUND: u32 = 200;

/// Makes mixed calls in the stack that runs, with a Prometheus over it, and draws every dashboard. True when
/// every panel has something to draw and every purchase ended as it should.
pub(crate) async fn draw(checkout: &Checkout) -> Result<bool> {
    let stack = running(checkout)?;
    install::install(&[Part::Prometheus, Part::Python], say)?;
    let scripts = checkout.root().join("loadtest/dashboards");
    python::packages(
        checkout,
        &checkout.watched(),
        &scripts.join("requirements.txt"),
    )?;
    let rules = watched::rules(checkout)?;
    let prometheus = Prometheus::start(&checkout.watched(), &stack, &rules, "1s").await?;
    let began = Instant::now();
    let right = Box::pin(live(&stack)).await?;
    let pictures = checkout.root().join(PICTURES);
    say(&format!("Drawing into {}", shown(checkout, &pictures)));
    let drawn = Command::new(checkout.watched().join("python/bin/python"))
        .arg("-B")
        .arg(scripts.join("draw.py"))
        .env("CROCHET_PROMETHEUS", prometheus.origin())
        .env("CROCHET_DASHBOARDS", checkout.root().join("deploy/grafana"))
        .env("CROCHET_PICTURES", &pictures)
        .env("CROCHET_SECONDS", began.elapsed().as_secs().to_string())
        .status()
        .context("starting Python")?;
    prometheus.stop().await?;
    Ok(right && drawn.success())
}

/// Calls with everything that can become of one, until there is something to see.
async fn live(stack: &StackFile) -> Result<bool> {
    let began = Instant::now();
    let mut right = true;
    while began.elapsed() < LIVE {
        // Browsing, and whatever else makes up a marketplace's first call.
        Box::pin(transcript::tell(stack)).await?;
        right &= Box::pin(loops::buy_many(stack, ROUND)).await?;
        Box::pin(mishaps::make(stack)).await?;
    }
    Ok(right)
}

/// Follows the page's commands in a clone of what is committed here, and demands a picture of each dashboard.
pub(crate) fn from_nothing(checkout: &Checkout) -> Result<()> {
    let clone = checkout.root().join("target/from-nothing");
    if clone.exists() {
        follow(checkout, &clone, "cargo dev down")?;
        std::fs::remove_dir_all(&clone)?;
    }
    run(Command::new("git")
        .args(["clone", "--quiet"])
        .args([checkout.root(), &clone]))?;
    let page = std::fs::read_to_string(clone.join(PAGE)).context(PAGE)?;
    let block = commands(&page)?;
    for line in block.lines() {
        println!("    {line}");
    }
    let followed = follow(checkout, &clone, &block);
    // A block that broke off may have left its stack.
    follow(checkout, &clone, "cargo dev down")?;
    followed?;
    let dashboards = names(&clone.join("deploy/grafana"), "json")?;
    let pictures = names(&clone.join(PICTURES), "png")?;
    ensure!(
        !dashboards.is_empty() && dashboards == pictures,
        "of the dashboards {dashboards:?} there are pictures of {pictures:?}"
    );
    let here = checkout.root().join(PICTURES);
    std::fs::create_dir_all(&here)?;
    for name in &pictures {
        let file = format!("{name}.png");
        std::fs::copy(clone.join(PICTURES).join(&file), here.join(&file))?;
    }
    std::fs::remove_dir_all(&clone)?;
    say(&format!(
        "{} pictures in {}",
        pictures.len(),
        shown(checkout, &here)
    ));
    Ok(())
}

/// What a person is to type: the one block of the page's section.
fn commands(page: &str) -> Result<String> {
    let mut sections = page.split("\n## ").skip(1);
    let section = sections
        .find(|section| SECTION.ends_with(section.split([',', '\n']).next().unwrap_or_default()))
        .with_context(|| format!("{PAGE} has no section {SECTION}"))?;
    match page::blocks(section).as_slice() {
        [block] => Ok(block.clone()),
        blocks => bail!(
            "{SECTION} of {PAGE} has {} blocks of commands",
            blocks.len()
        ),
    }
}

/// Runs commands in the clone, each of which must succeed. Builds are shared with this one.
fn follow(checkout: &Checkout, clone: &Path, commands: &str) -> Result<()> {
    let watched = checkout.watched();
    let target = watched.parent().context("the target folder")?;
    run(Command::new("sh")
        .args(["-e", "-c", commands])
        .current_dir(clone)
        .env("CARGO_TARGET_DIR", target))
}

/// The names, without their ending, of a folder's files that end so.
fn names(folder: &Path, ending: &str) -> Result<Vec<String>> {
    let entries = std::fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    let paths = entries.flatten().map(|entry| entry.path());
    let mut names: Vec<String> = paths
        .filter(|path: &PathBuf| path.extension().is_some_and(|end| end == ending))
        .filter_map(|path| Some(path.file_stem()?.to_string_lossy().into_owned()))
        .collect();
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_leads_from_nothing_to_pictures_in_one_block() {
        let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md");
        let block = commands(&std::fs::read_to_string(page).unwrap()).unwrap();
        let words: Vec<&str> = block
            .lines()
            .map(|line| line.split('#').next().unwrap_or_default().trim())
            .collect();
        assert_eq!(
            words,
            [
                "cargo dev up --detach --set AUDIT_SECONDS=5",
                "cargo dev observe --draw",
                "cargo dev down"
            ]
        );
    }
}
