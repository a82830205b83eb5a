//! The commands, a file each.

pub(crate) mod audit;
pub(crate) mod bench;
pub(crate) mod compile;
pub(crate) mod demo;
pub(crate) mod documents;
pub(crate) mod down;
pub(crate) mod fresh;
pub(crate) mod k6;
pub(crate) mod lock;
pub(crate) mod logs;
pub(crate) mod loops;
pub(crate) mod python;
pub(crate) mod signals;
pub(crate) mod test;
pub(crate) mod transcript;
pub(crate) mod up;

use std::path::Path;

use anyhow::{Context as _, Result};
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
