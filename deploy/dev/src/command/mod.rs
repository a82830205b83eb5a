//! The commands, a file each.

pub(crate) mod audit;
pub(crate) mod bench;
pub(crate) mod compile;
pub(crate) mod demo;
pub(crate) mod documents;
pub(crate) mod down;
pub(crate) mod draw;
pub(crate) mod drill;
pub(crate) mod fresh;
pub(crate) mod fuzz;
pub(crate) mod k6;
pub(crate) mod lock;
pub(crate) mod logs;
pub(crate) mod loops;
pub(crate) mod manifests;
pub(crate) mod mishaps;
pub(crate) mod observe;
pub(crate) mod operator;
pub(crate) mod previous;
pub(crate) mod python;
pub(crate) mod signals;
pub(crate) mod test;
pub(crate) mod transcript;
pub(crate) mod up;
pub(crate) mod watched;

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use crochet_dev::{Checkout, StackFile};

/// One line of progress on the terminal.
pub(crate) fn say(line: &str) {
    println!("  {line}");
}

/// The stack that runs in this clone; where none does, the error says how to start one.
pub(crate) fn running(checkout: &Checkout) -> Result<StackFile> {
    StackFile::read(&checkout.dev())?.context(
        "no stack runs in this clone; `cargo dev up` (or `cargo dev up --detach`) starts one",
    )
}

/// A path as a person at the clone's root would type it.
pub(crate) fn shown(checkout: &Checkout, path: &Path) -> String {
    path.strip_prefix(checkout.root())
        .unwrap_or(path)
        .display()
        .to_string()
}

/// Runs a program to its end, which must be a good one.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command
        .status()
        .with_context(|| format!("starting {}", command.get_program().display()))?;
    ensure!(
        status.success(),
        "{} ended with {status}",
        command.get_program().display()
    );
    Ok(())
}
