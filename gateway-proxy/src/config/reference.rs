//! The reference of the settings, `deploy/CONFIGURATION.md`, held to what clap reads.

use std::path::Path;

use clap::{Arg, CommandFactory as _};
use crochet_shared::page::with_section;

use super::Args;

const PAGE: &str = "../deploy/CONFIGURATION.md";

fn row(arg: &Arg) -> Option<String> {
    let name = arg.get_env()?.to_string_lossy();
    let defaults: Vec<String> = arg
        .get_default_values()
        .iter()
        .map(|value| value.to_string_lossy().into_owned())
        .filter(|value| !value.is_empty())
        .collect();
    let default = match defaults.join(",") {
        none if none.is_empty() && arg.is_required_set() => "required".to_owned(),
        none if none.is_empty() => String::new(),
        value => format!("`{value}`"),
    };
    let secret = if arg.is_hide_env_values_set() {
        " Secret."
    } else {
        ""
    };
    let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
    let help = help.trim_end_matches('.');
    Some(format!("| `{name}` | {default} | {help}.{secret} |\n"))
}

/// `CROCHET_WRITE=1 cargo test` writes the page instead.
#[test]
fn the_reference_page_shows_every_setting() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(PAGE);
    let page = std::fs::read_to_string(&path).unwrap();
    let command = Args::command();
    let rows: String = command.get_arguments().filter_map(row).collect();
    let table = format!("| variable | default | what it is |\n|---|---|---|\n{rows}");
    let wanted = with_section(&page, "gateway-proxy", &table).unwrap();
    if std::env::var_os("CROCHET_WRITE").is_some() {
        std::fs::write(&path, wanted).unwrap();
    } else {
        assert!(
            page == wanted,
            "{PAGE} is behind; write it with CROCHET_WRITE=1"
        );
    }
}
