//! The file that survives the sandbox: JSON lines, appended before an answer leaves, rewritten at each start.
//!
//! Nothing is synced to disk: it survives the process, not the machine. A line cut short by a kill is
//! the last one and was never answered for; a bad line anywhere else is refused.

use std::{
    fs::{self, File, OpenOptions},
    io::{BufRead, BufReader, BufWriter, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::{
    payment::{Payment, Plan},
    quote::Quote,
};

/// One line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Line {
    /// A quote given: the next row.
    Quote(Box<Quote>, Box<Payment>),
    /// Row `0` stands like this now.
    Payment(u32, Box<Payment>),
    /// The last webhook of row `0` was accepted.
    Heard(u32),
    /// What later quotes are planned to become.
    Later(Box<Plan>),
}

/// Where lines go.
#[derive(Debug)]
pub(crate) struct Journal {
    file: Option<File>,
    buffer: Vec<u8>,
}

impl Journal {
    /// A journal that keeps nothing.
    pub(crate) const fn none() -> Self {
        Self {
            file: None,
            buffer: Vec::new(),
        }
    }

    /// Reads what is there, hands every line over, and starts a new file with the lines that
    /// `rewrite` makes of it.
    pub(crate) fn open<S>(
        path: &Path,
        state: &mut S,
        mut read: impl FnMut(&mut S, Line) -> Result<()>,
        rewrite: impl FnOnce(&S, &mut dyn FnMut(&Line) -> Result<()>) -> Result<()>,
    ) -> Result<Self> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).with_context(|| format!("folder of {}", path.display()))?;
        }
        if path.exists() {
            replay(path, |line| read(state, line))?;
        }
        let fresh = PathBuf::from(format!("{}.new", path.display()));
        let mut out = BufWriter::new(
            File::create(&fresh).with_context(|| format!("writing {}", fresh.display()))?,
        );
        rewrite(state, &mut |line| {
            serde_json::to_writer(&mut out, line)?;
            Ok(out.write_all(b"\n")?)
        })?;
        out.flush()?;
        drop(out);
        fs::rename(&fresh, path).with_context(|| format!("replacing {}", path.display()))?;
        let file = OpenOptions::new().append(true).open(path)?;
        Ok(Self {
            file: Some(file),
            buffer: Vec::new(),
        })
    }

    /// Remembers a line until [`Journal::write`].
    pub(crate) fn add(&mut self, line: &Line) -> Result<()> {
        if self.file.is_some() {
            serde_json::to_writer(&mut self.buffer, line)?;
            self.buffer.push(b'\n');
        }
        Ok(())
    }

    /// Writes the remembered lines at once; what was changed may be told afterwards.
    pub(crate) fn write(&mut self) -> Result<()> {
        if let Some(file) = &mut self.file
            && !self.buffer.is_empty()
        {
            let written = file.write_all(&self.buffer);
            self.buffer.clear();
            written.context("writing the journal")?;
        }
        Ok(())
    }
}

fn replay(path: &Path, mut read: impl FnMut(Line) -> Result<()>) -> Result<()> {
    let mut file =
        BufReader::new(File::open(path).with_context(|| format!("reading {}", path.display()))?);
    let mut text = Vec::new();
    for number in 1_u64.. {
        text.clear();
        if file.read_until(b'\n', &mut text)? == 0 || text.last() != Some(&b'\n') {
            break;
        }
        match serde_json::from_slice(&text) {
            Ok(line) => read(line)?,
            Err(error) => bail!(
                "{}: line {number} is no journal line: {error}",
                path.display()
            ),
        }
    }
    Ok(())
}
