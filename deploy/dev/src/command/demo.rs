//! `cargo dev demo`: the paid call again, once as a transcript or many times with mixed outcomes.

use std::process::ExitCode;

use anyhow::Result;
use crochet_dev::Checkout;

use super::{audit, loops, running, transcript};

#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    /// Buy this often, many at a time, with sellers that fail, providers that refund and buyers that hang up;
    /// then compare every ledger with what the seller counted, and audit.
    #[arg(long, value_name = "N")]
    times: Option<u32>,
}

pub(crate) async fn demo(arguments: Arguments) -> Result<ExitCode> {
    let checkout = Checkout::find()?;
    let stack = running(&checkout)?;
    let Some(times) = arguments.times else {
        Box::pin(transcript::tell(&stack)).await?;
        return Ok(ExitCode::SUCCESS);
    };
    let right = Box::pin(loops::buy_many(&stack, times)).await?;
    let audited = audit::run(&checkout)?;
    Ok(if right && audited.success() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
