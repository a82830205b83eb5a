//! What commands take from `PyPI`: packages of a list, in a folder of their own below the target folder.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};
use crochet_dev::Checkout;

use super::{run, say, shown};

/// A virtual environment below `directory` with the packages of the list, made anew when the list changes.
pub(crate) fn packages(checkout: &Checkout, directory: &Path, list: &Path) -> Result<()> {
    let home = directory.join("python");
    let done = home.join("requirements.txt");
    let wanted = std::fs::read(list).with_context(|| format!("reading {}", list.display()))?;
    if std::fs::read(&done).is_ok_and(|had| had == wanted) {
        return Ok(());
    }
    say(&format!(
        "Installing {} into {}",
        shown(checkout, list),
        shown(checkout, &home)
    ));
    std::fs::create_dir_all(directory)?;
    run(Command::new("python3")
        .args(["-m", "venv", "--clear"])
        .arg(&home))?;
    run(Command::new(home.join("bin/pip"))
        .args(["install", "--quiet", "--disable-pip-version-check", "-r"])
        .arg(list))?;
    std::fs::write(&done, wanted)?;
    Ok(())
}
