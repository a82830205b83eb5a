//! `cargo dev bench`: builds everything optimised and hands over to the bench.

use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result};
use crochet_dev::{Build, Checkout, install};

use super::{compile, say};

#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    /// Arguments of the bench.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

pub(crate) fn bench(arguments: &Arguments) -> Result<ExitCode> {
    let checkout = Checkout::find()?;
    install::install_missing(say)?;
    let programs: Vec<&str> = compile::SERVICES
        .into_iter()
        .chain(["crochet-bench"])
        .collect();
    compile::build(&checkout, Build::Release, &programs)?;
    let error = Command::new(checkout.program(Build::Release, "crochet-bench"))
        .args(&arguments.arguments)
        .exec();
    Err(error).context("starting crochet-bench")
}
