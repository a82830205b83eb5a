//! Building with Cargo, in front of the user.

use std::process::Command;

use anyhow::{Context as _, Result, bail};
use crochet_dev::{Build, Checkout};

/// What a stack runs.
pub(crate) const SERVICES: [&str; 4] = [
    "control-plane",
    "gateway-proxy",
    "relay-sandbox",
    "demo-seller",
];

/// A `cargo` command in the clone's root, without what `cargo run` added to our environment: some build
/// scripts look at those variables, and would run again each time they come and go.
pub(crate) fn cargo(checkout: &Checkout) -> Command {
    const OURS: [&str; 6] = [
        "CARGO_MANIFEST_DIR",
        "CARGO_MANIFEST_PATH",
        "CARGO_CRATE_NAME",
        "CARGO_BIN_NAME",
        "CARGO_PRIMARY_PACKAGE",
        "OUT_DIR",
    ];
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || OURS.contains(&text.as_ref()) {
            command.env_remove(&name);
        }
    }
    // Queries are checked against the committed descriptions, not against whatever database is at hand.
    command
        .current_dir(checkout.root())
        .env("SQLX_OFFLINE", "true");
    command
}

/// Builds programs of the workspace. No package is named, so that Cargo unites features over the whole
/// workspace and every command shares one build of each dependency.
pub(crate) fn build(checkout: &Checkout, build: Build, programs: &[&str]) -> Result<()> {
    let mut command = cargo(checkout);
    command.arg("build");
    for program in programs {
        command.args(["--bin", program]);
    }
    if build == Build::Release {
        command.arg("--release");
    }
    let status = command.status().context("starting cargo")?;
    if !status.success() {
        bail!("the build failed ({status})");
    }
    Ok(())
}
