//! `cargo dev logs`: what the processes print.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use crochet_dev::{Checkout, end_of};

/// Between two looks at a log that is followed.
const LOOK_EVERY: Duration = Duration::from_millis(200);

#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    /// One process (`gateway`, `control-plane`, `relay-sandbox`, `demo-seller`, `postgres`, `redis`, `up`); all when left out.
    role: Option<String>,
    /// Stay and show what comes.
    #[arg(short, long)]
    follow: bool,
}

pub(crate) async fn logs(arguments: Arguments) -> Result<ExitCode> {
    let checkout = Checkout::find()?;
    let files = log_files(&checkout.dev().join("logs"), arguments.role.as_deref())?;
    for (role, path) in &files {
        if arguments.role.is_some() && !arguments.follow {
            std::io::copy(&mut File::open(path)?, &mut std::io::stdout())?;
        } else {
            println!("--- {role}: {}\n{}\n", path.display(), end_of(path, 0));
        }
    }
    if arguments.follow {
        follow(&files).await?;
    }
    Ok(ExitCode::SUCCESS)
}

fn log_files(logs: &Path, role: Option<&str>) -> Result<BTreeMap<String, PathBuf>> {
    let entries =
        std::fs::read_dir(logs).with_context(|| format!("no logs yet: {}", logs.display()))?;
    let mut files: BTreeMap<String, PathBuf> = entries
        .flatten()
        .filter_map(|entry| Some((entry.path().file_stem()?.to_str()?.to_owned(), entry.path())))
        .collect();
    if let Some(role) = role {
        let known = files.keys().cloned().collect::<Vec<_>>().join(", ");
        files.retain(|name, _| name == role);
        if files.is_empty() {
            bail!("there is no log of {role:?}; there are: {known}");
        }
    }
    Ok(files)
}

async fn follow(files: &BTreeMap<String, PathBuf>) -> Result<()> {
    let mut open = Vec::new();
    for (role, path) in files {
        let mut file = File::open(path)?;
        file.seek(SeekFrom::End(0))?;
        open.push((role, file));
    }
    loop {
        for (role, file) in &mut open {
            let mut text = Vec::new();
            file.read_to_end(&mut text)?;
            for line in String::from_utf8_lossy(&text).lines() {
                writeln!(std::io::stdout(), "{role:>14} | {line}")?;
            }
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
