//! Building the version before this one, for the test that lets both serve side by side.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use crochet_dev::{Checkout, Previous};

use super::{compile, run, say};

/// Builds its control plane, unless that was done. Where the clone lacks its source it says so and goes on;
/// the test says the same.
pub(crate) fn build(checkout: &Checkout) -> Result<()> {
    let previous = Previous::read(checkout)?;
    let program = previous.control_plane(checkout);
    if program.is_file() {
        return Ok(());
    }
    if !previous.is_here(checkout) {
        say(&format!(
            "NOT BUILT: this clone lacks commit {} (git fetch --unshallow brings it)",
            previous.commit
        ));
        return Ok(());
    }
    println!("Building the control plane of {}", previous.commit);
    let (source, target) = (
        checkout.previous().join("source"),
        checkout.previous().join("build"),
    );
    unpack(checkout, &previous.commit, &source)?;
    let mut cargo = compile::cargo(checkout);
    cargo
        .current_dir(&source)
        .args(["build", "--locked", "--bin", "control-plane"])
        .arg("--target-dir")
        .arg(&target);
    run(&mut cargo)?;
    std::fs::copy(target.join("debug/control-plane"), &program)
        .with_context(|| format!("keeping {}", program.display()))?;
    // It takes gigabytes, and is built once.
    for folder in [&source, &target] {
        std::fs::remove_dir_all(folder)
            .with_context(|| format!("removing {}", folder.display()))?;
    }
    Ok(())
}

/// The files of a commit, without a trace in the clone's own records.
fn unpack(checkout: &Checkout, commit: &str, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to).with_context(|| format!("making {}", to.display()))?;
    let mut archive = Command::new("git")
        .current_dir(checkout.root())
        .args(["archive", "--format=tar", commit])
        .stdout(Stdio::piped())
        .spawn()
        .context("starting git")?;
    let files = archive.stdout.take().context("what git archives")?;
    run(Command::new("tar").arg("-x").arg("-C").arg(to).stdin(files))?;
    let status = archive.wait().context("waiting for git")?;
    ensure!(status.success(), "git archive ended with {status}");
    Ok(())
}
