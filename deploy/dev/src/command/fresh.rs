//! `cargo dev fresh`: the next `up` begins with nothing.

use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use crochet_dev::{Checkout, Cluster, end_leftovers};

use super::lock::{Found, take};

pub(crate) async fn fresh() -> Result<ExitCode> {
    let checkout = Checkout::find()?;
    let directory = checkout.dev();
    let Found::Free(lock) = take(&directory)? else {
        bail!("a stack of this clone runs; `cargo dev down` first")
    };
    end_leftovers(&directory).await?;
    Cluster::remove(&directory)?;
    for entry in std::fs::read_dir(&directory)?.flatten() {
        let path = entry.path();
        let removed = if path.is_dir() {
            std::fs::remove_dir_all(&path)
        } else {
            std::fs::remove_file(&path)
        };
        removed.with_context(|| format!("removing {}", path.display()))?;
    }
    drop(lock);
    println!("Dropped the data, secrets and logs of this clone's stack");
    Ok(ExitCode::SUCCESS)
}
