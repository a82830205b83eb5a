//! `cargo dev operator …`: the operator's tool, against the running stack.

use std::os::unix::process::CommandExt as _;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use crochet_dev::Checkout;

use super::audit;

#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    /// A verb and its arguments; `help` tells them all.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
    arguments: Vec<String>,
}

/// Becomes the operator's tool, so that its exit code is ours.
pub(crate) fn operator(arguments: &Arguments) -> Result<ExitCode> {
    let checkout = Checkout::find()?;
    let error = audit::beside(&checkout)?
        // The name that it tells help under.
        .arg0("crochet")
        .args(&arguments.arguments)
        .exec();
    Err(error).context("starting the operator's tool")
}
