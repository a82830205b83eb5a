//! The operator's tool: what a person who runs Crochet asks of it and does to it, a file a verb.
//!
//! Owns no table. It reads what the rooms keep ([`store`]), and changes it through the rooms' own
//! statements only: money moves in [`crate::ledger`], what gateways must hear stands in the outbox in
//! the transaction of the change. It talks to Postgres, and to the provider where a verb says so; the
//! servers need not run for it, nor stop.
//!
//! Invariants:
//! - Every verb that changes something can be rehearsed with `--dry-run`, which does it all and takes it back.
//! - Every verb that changes something can be done twice; the second time changes nothing and says so.
//! - What was done is one line in the log, with who did it; what was found goes to standard output.

use std::fmt;
use std::process::ExitCode;

use anyhow::ensure;
use clap::{Args, Subcommand};
use secrecy::ExposeSecret as _;
use serde::Serialize;

use crate::config::Settings;
use crate::db::{Db, Retry};

pub mod audit;
pub mod migrate;
mod paper;
pub mod payouts;
pub mod reconcile;
pub mod refund_due;
pub mod replay_outbox;
pub mod request;
pub mod revoke_key;
pub mod rewrap_secrets;
pub mod status;
pub mod store;
pub mod suspension;
mod timeline;
pub mod transaction;
pub mod when;

/// Told below every verb's help.
const EXITS: &str = "\
Exit codes:
  0  done, or nothing to say
  1  done, and something found needs a person
  2  could not be run: a setting, the database or the provider
  3  refused: it does not fit what the books say; nothing was changed
  4  there is no such thing

Needs DATABASE_URL, and the settings that the verb names; see the control plane's own --help.";

/// What an operator may ask and do.
#[derive(Clone, Debug, Subcommand)]
pub enum Verb {
    /// How the marketplace stands: schema, requests by state, money that waits, lags, provider, audit.
    #[command(after_help = EXITS)]
    Status(status::Status),
    /// Check every invariant of payments and ledger over the whole history; exit 1 when one is violated.
    #[command(after_help = EXITS)]
    Audit(Form),
    /// Bring the database's schema up to date, or with --dry-run list what is missing.
    #[command(after_help = EXITS)]
    Migrate(Change),
    /// Ask the provider for its successes now, and record those nobody asked about.
    #[command(after_help = EXITS)]
    Reconcile(reconcile::Reconcile),
    /// Refunds that buyers are owed: list them, note those that were sent.
    #[command(subcommand, after_help = EXITS)]
    RefundDue(refund_due::RefundDue),
    /// What sellers are owed: list it, export it for paying, note what was paid.
    #[command(subcommand, after_help = EXITS)]
    Payouts(payouts::Payouts),
    /// The whole story of one request, from its quote to its settlement or refund.
    #[command(after_help = EXITS, visible_alias = "ledger")]
    Request(request::Request),
    /// Revoke an API key, whoever's it is; gateways refuse it within a second.
    #[command(after_help = EXITS)]
    RevokeKey(revoke_key::RevokeKey),
    /// Withdraw a listing; its owner cannot lift it. Payments for it stay good and wait.
    #[command(after_help = EXITS)]
    PauseListing(suspension::Listing),
    /// Give a withdrawn listing back, as its owner had it.
    #[command(after_help = EXITS)]
    ResumeListing(suspension::Listing),
    /// Withdraw all of a seller's listings and let her make no new one. Her keys go on to buy.
    #[command(after_help = EXITS)]
    SuspendSeller(suspension::Seller),
    /// Let a suspended seller sell again, and give her listings back but for those paused by themselves.
    #[command(after_help = EXITS)]
    ResumeSeller(suspension::Seller),
    /// Have every route and key published again, at a pace that lets other changes through.
    #[command(after_help = EXITS)]
    ReplayOutbox(replay_outbox::ReplayOutbox),
    /// Wrap every secret at rest under the newest of `CROCHET_MASTER_KEYS`, while serving; can be stopped and run again.
    #[command(after_help = EXITS)]
    RewrapSecrets(rewrap_secrets::RewrapSecrets),
}

/// How the answer is written.
#[derive(Clone, Copy, Debug, Default, Args)]
pub struct Form {
    /// Answer with one JSON document instead of text.
    #[arg(long)]
    pub json: bool,
}

/// What every verb takes that changes something.
#[derive(Clone, Debug, Default, Args)]
pub struct Change {
    /// Do it all and take it back: say what would be changed.
    #[arg(long)]
    pub dry_run: bool,
    /// Who does it, for the log.
    #[arg(long, env = "USER", hide_env_values = true, default_value = "unknown")]
    pub by: String,
    /// How the answer is written.
    #[command(flatten)]
    pub form: Form,
}

impl Change {
    /// One line for the log of what was done.
    fn log(&self, verb: &'static str, on: impl fmt::Display, result: &str) {
        let (by, dry_run) = (self.by.as_str(), self.dry_run);
        tracing::info!(target: "crochet::operations", verb, %on, result, by, dry_run, "an operator's act");
    }

    /// `would be`, or `was`: how a rehearsal speaks of what it took back.
    const fn tense<'a>(&self, done: &'a str, rehearsed: &'a str) -> &'a str {
        if self.dry_run { rehearsed } else { done }
    }
}

/// How a verb ended (see [`EXITS`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Done.
    Done,
    /// Done, and a person should look.
    Attention,
    /// It does not fit.
    Refused,
    /// There is none.
    NotFound,
}

impl Exit {
    const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Attention => 1,
            Self::Refused => 3,
            Self::NotFound => 4,
        }
    }
}

/// What a verb answers.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// How it ended.
    pub exit: Exit,
    /// For a person.
    pub text: String,
    /// For a program.
    pub json: serde_json::Value,
}

impl Outcome {
    /// An answer that is written both ways.
    fn new(exit: Exit, text: impl Into<String>, json: &impl Serialize) -> anyhow::Result<Self> {
        Ok(Self {
            exit,
            text: text.into(),
            json: serde_json::to_value(json)?,
        })
    }

    /// Nothing was changed, and why.
    fn not(exit: Exit, why: impl Into<String>) -> Self {
        let why = why.into();
        Self {
            exit,
            json: serde_json::json!({ "changed": false, "problem": why }),
            text: format!("{why}\n"),
        }
    }

    /// There is no such thing.
    fn unknown(what: impl fmt::Display) -> Self {
        Self::not(Exit::NotFound, format!("there is no {what}"))
    }
}

/// Ends a rehearsal's transaction, which takes back what it did.
#[derive(Debug)]
enum Stop<T> {
    Rehearsed(T),
    Failed(sqlx::Error),
}

impl<T> From<sqlx::Error> for Stop<T> {
    fn from(error: sqlx::Error) -> Self {
        Self::Failed(error)
    }
}

impl<T> Retry for Stop<T> {
    fn database_error(&self) -> Option<&sqlx::Error> {
        match self {
            Self::Rehearsed(_) => None,
            Self::Failed(error) => Some(error),
        }
    }
}

impl<T> Stop<T> {
    /// The last word of a transaction: commits, or in a rehearsal rolls back.
    const fn or_keep(dry_run: bool, value: T) -> Result<T, Self> {
        if dry_run {
            Err(Self::Rehearsed(value))
        } else {
            Ok(value)
        }
    }

    /// What the transaction came to, kept or not.
    fn end(outcome: Result<T, Self>) -> Result<T, sqlx::Error> {
        match outcome {
            Ok(value) | Err(Self::Rehearsed(value)) => Ok(value),
            Err(Self::Failed(error)) => Err(error),
        }
    }
}

/// Runs a verb and prints its answer.
pub async fn run(verb: Verb, settings: Settings) -> anyhow::Result<ExitCode> {
    let form = verb.form();
    let outcome = Box::pin(answer(verb, settings)).await?;
    print(&outcome, form);
    Ok(ExitCode::from(outcome.exit.code()))
}

async fn answer(verb: Verb, settings: Settings) -> anyhow::Result<Outcome> {
    let db = Db::patient(settings.database_url()?.expose_secret())?;
    if !matches!(verb, Verb::Migrate(_) | Verb::Status(_)) {
        let missing = db.migrations_missing().await?;
        ensure!(
            missing == 0,
            "the database's schema is behind by {missing}: run `migrate` first"
        );
    }
    match verb {
        Verb::Status(status) => status::status(&db, &settings, &status).await,
        Verb::Audit(_) => audit::audit(&db).await,
        Verb::Migrate(change) => migrate::migrate(&db, &change).await,
        Verb::Reconcile(wanted) => reconcile::reconcile(settings, &wanted).await,
        Verb::RefundDue(wanted) => refund_due::refund_due(&db, &wanted).await,
        Verb::Payouts(wanted) => payouts::payouts(&db, &wanted).await,
        Verb::Request(wanted) => request::request(&db, &wanted.id).await,
        Verb::RevokeKey(wanted) => revoke_key::revoke_key(&db, &wanted).await,
        Verb::PauseListing(wanted) => suspension::pause_listing(&db, &wanted).await,
        Verb::ResumeListing(wanted) => suspension::resume_listing(&db, &wanted).await,
        Verb::SuspendSeller(wanted) => suspension::suspend_seller(&db, &wanted).await,
        Verb::ResumeSeller(wanted) => suspension::resume_seller(&db, &wanted).await,
        Verb::ReplayOutbox(wanted) => replay_outbox::replay_outbox(&db, &wanted).await,
        Verb::RewrapSecrets(wanted) => {
            rewrap_secrets::rewrap_secrets(&db, &settings.master_keys()?, &wanted).await
        }
    }
}

impl Verb {
    fn form(&self) -> Form {
        match self {
            Self::Status(status) => status.form,
            Self::Audit(form) => *form,
            Self::Migrate(change) => change.form,
            Self::Reconcile(wanted) => wanted.change.form,
            Self::RefundDue(wanted) => wanted.form(),
            Self::Payouts(wanted) => wanted.form(),
            Self::Request(wanted) => wanted.form,
            Self::RevokeKey(wanted) => wanted.change.form,
            Self::PauseListing(wanted) | Self::ResumeListing(wanted) => wanted.change.form,
            Self::SuspendSeller(wanted) | Self::ResumeSeller(wanted) => wanted.change.form,
            Self::ReplayOutbox(wanted) => wanted.change.form,
            Self::RewrapSecrets(wanted) => wanted.change.form,
        }
    }
}

/// Answers go to standard output, refusals in words to standard error.
#[expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the output of a command that a person runs"
)]
fn print(outcome: &Outcome, form: Form) {
    if form.json {
        println!("{:#}", outcome.json);
    } else if matches!(outcome.exit, Exit::Refused | Exit::NotFound) {
        eprint!("{}", outcome.text);
    } else {
        print!("{}", outcome.text);
    }
}
