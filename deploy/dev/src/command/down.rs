//! `cargo dev down`: ask the runner of this clone's stack to stop, and wait until it has.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result};
use crochet_dev::{Checkout, Deadline, StackFile, end_leftovers};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::lock::{Found, take};

/// Longer than all processes may take one after the other.
const STOP_LIMIT: Duration = Duration::from_mins(2);

pub(crate) async fn down() -> Result<ExitCode> {
    let checkout = Checkout::find()?;
    if stop_and_wait(&checkout).await? {
        println!("Stopped");
    } else {
        println!("No stack runs in this clone");
    }
    Ok(ExitCode::SUCCESS)
}

/// Whether there was anything to stop. What a killed runner left is ended here too.
pub(crate) async fn stop_and_wait(checkout: &Checkout) -> Result<bool> {
    let directory = checkout.dev();
    let deadline = Deadline::new("the stack to stop", STOP_LIMIT);
    let mut asked = false;
    loop {
        match take(&directory)? {
            Found::Free(_lock) => {
                StackFile::remove(&directory)?;
                let left = end_leftovers(&directory).await?;
                return Ok(asked || !left.is_empty());
            }
            Found::Held(Some(runner)) if !asked => {
                kill(Pid::from_raw(runner), Signal::SIGTERM)
                    .with_context(|| format!("asking the runner (process {runner}) to stop"))?;
                asked = true;
            }
            Found::Held(_) => {}
        }
        deadline.tick().await?;
    }
}
