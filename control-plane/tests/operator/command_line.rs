//! The command line: both names, and help that tells what a verb needs and no more.

use clap::FromArgMatches as _;
use control_plane::config::{Cli, Command};
use control_plane::program::{CROCHET, command};

fn help(arguments: &[&str]) -> String {
    let line = std::iter::once(CROCHET).chain(arguments.iter().copied());
    command(CROCHET)
        .try_get_matches_from(line.chain(["--help"]))
        .unwrap_err()
        .to_string()
}

fn parsed(name: &'static str, arguments: &[&str]) -> Result<Cli, clap::Error> {
    let line = std::iter::once(name).chain(arguments.iter().copied());
    let matches = command(name).try_get_matches_from(line)?;
    Cli::from_arg_matches(&matches)
}

const TX: &str = "0x0101010101010101010101010101010101010101010101010101010101010101";

#[test]
fn every_verb_is_understood_under_both_names() {
    let id = "0190a000-0000-7000-8000-000000000001";
    let request = "gw_req_0190a000000070008000000000000001";
    for line in [
        vec!["status", "--since", "7d", "--json"],
        vec!["audit", "--json"],
        vec!["migrate", "--dry-run"],
        vec!["reconcile", "--since", "24h", "--dry-run"],
        vec!["refund-due", "list"],
        vec!["refund-due", "mark", request, "--tx", TX],
        vec!["payouts", "list", "--min", "1.5"],
        vec!["payouts", "export"],
        vec![
            "payouts", "mark", id, "--amount", "12.34", "--tx", TX, "--json",
        ],
        vec!["request", request],
        vec!["ledger", request],
        vec!["revoke-key", id],
        vec!["pause-listing", id],
        vec!["resume-listing", id],
        vec!["suspend-seller", id],
        vec!["resume-seller", id],
        vec!["replay-outbox", "--patience", "5"],
        vec!["rewrap-secrets", "--batch", "10", "--by", "grace"],
    ] {
        for name in ["control-plane", CROCHET] {
            let cli = parsed(name, &line).unwrap_or_else(|error| panic!("{line:?}: {error}"));
            assert!(
                matches!(cli.command, Some(Command::Operator(_))),
                "{line:?}"
            );
        }
    }
}

#[test]
fn a_slip_is_refused_before_anything_is_asked() {
    for line in [
        vec!["refund-due", "mark", "gw_req_1", "--tx", TX],
        vec![
            "refund-due",
            "mark",
            "gw_req_0190a000000070008000000000000001",
            "--tx",
            "0x1",
        ],
        vec![
            "payouts",
            "mark",
            "0190a000-0000-7000-8000-000000000001",
            "--amount",
            "-1",
            "--tx",
            TX,
        ],
        vec!["status", "--since", "yesterday"],
        vec!["unknown"],
    ] {
        assert!(parsed(CROCHET, &line).is_err(), "{line:?}");
    }
    // Under the operators' name nothing is served because a verb was forgotten.
    assert!(parsed(CROCHET, &[]).is_err());
    assert!(parsed("control-plane", &[]).unwrap().command.is_none());
}

#[test]
fn help_tells_exit_codes_and_leaves_the_servers_settings_out() {
    for verb in [
        vec!["status"],
        vec!["refund-due", "mark"],
        vec!["payouts", "mark"],
        vec!["request"],
        vec!["rewrap-secrets"],
    ] {
        let help = help(&verb);
        assert!(help.contains("--json"), "{help}");
        assert!(help.contains("DATABASE_URL"), "{help}");
        assert!(!help.contains("RATE_LIMIT_"), "{help}");
        assert!(help.contains("Exit codes"), "{help}");
    }
    assert!(!help(&[]).contains("RATE_LIMIT_"));
    assert!(help(&["serve"]).contains("RATE_LIMIT_OPEN_QUOTES"));
}
