//! The report as JSON, for the next run to be compared with, and its chart beside it.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use crochet_dev::{Build, Checkout};
use serde::Serialize;

use super::{Report, chart};
use crate::config::Config;

/// Writes `NAME.svg` and `NAME.json` whole and says where the latter is: a standard run of a release build in `loadtest/results`, to be
/// committed, anything else in `target/bench`, lest it pass for one.
pub(crate) fn write(report: &Report, config: &Config) -> Result<PathBuf> {
    let is_standard = config.is_standard() && Build::of_this_program() == Build::Release;
    let path = write_as(config.name(), report, is_standard)?;
    if let Some(chart) = chart::render(report) {
        let path = path.with_extension("svg");
        std::fs::write(&path, chart).with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(path)
}

/// Writes what came out as `NAME.json` and says where: to be committed when it is a standard run's.
pub(crate) fn write_as(name: &str, report: &impl Serialize, is_standard: bool) -> Result<PathBuf> {
    let folder = if is_standard {
        "loadtest/results"
    } else {
        "target/bench"
    };
    let directory = Checkout::find()?.root().join(folder);
    std::fs::create_dir_all(&directory)
        .with_context(|| format!("creating {}", directory.display()))?;
    let path = directory.join(format!("{name}.json"));
    let mut text = serde_json::to_string_pretty(report)?;
    text.push('\n');
    std::fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use crate::report::tests::report;

    #[test]
    fn the_json_names_rows_and_marks() {
        let json =
            serde_json::to_value(report([50.0, 60.0, 20.0], [10_000.0, 2_000.0], 60, 0)).unwrap();
        let rows = json["rows"].as_array().unwrap();
        let paid = rows.iter().find(|row| row["subject"] == "paid").unwrap();
        assert_eq!(paid["against_pingora"]["median"], 1.2);
        assert_eq!(paid["box_us"]["load"], 9.0);
        assert_eq!(json["marks"][0]["limit"], 1.3);
        assert_eq!(json["memory"]["idle"]["gateway"], 60_000_000);
    }
}
