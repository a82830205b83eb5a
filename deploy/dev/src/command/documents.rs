//! `cargo dev documents`: what the API tells of itself, held to what it does. Steps in Python, which lie in
//! `loadtest/documents`, each against a stack that is started for them.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result};
use crochet_dev::install::{self, Part};
use crochet_dev::{Checkout, DemoKeys, Options, Stack, StackFile, Store, Stores};

use super::{compile, python, run, say, shown, transcript};

/// The steps, in the order they run: what is quick first.
const STEPS: [Step; 5] = [
    Step::OpenApi,
    Step::Skill,
    Step::Signatures,
    Step::Browser,
    Step::Schemathesis,
];

/// One of the checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Step {
    /// The document is valid OpenAPI 3.1.
    #[value(name = "openapi")]
    OpenApi,
    /// SKILL.md leads from nothing to a paid call.
    Skill,
    /// The official Standard Webhooks libraries verify what a seller receives.
    Signatures,
    /// The pages show everything in Chromium, and nothing leaves the origin.
    Browser,
    /// Every operation is as the document says.
    Schemathesis,
}

#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    /// Only this one.
    step: Option<Step>,
}

pub(crate) async fn documents(arguments: Arguments) -> Result<ExitCode> {
    const CONNECTIONS: u16 = 200;
    let checkout = Checkout::find()?;
    install::install_missing(say)?;
    compile::build(&checkout, crochet_dev::Build::Debug, &compile::SERVICES)?;
    let directory = checkout.documents();
    let stores = Stores::start(&directory.join("stores"), CONNECTIONS).await?;
    let held = Box::pin(hold(&checkout, &stores.database_url(), arguments.step)).await;
    stores.stop().await?;
    crochet_dev::Cluster::remove(&directory.join("stores"))?;
    Ok(if held? {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Runs the steps against a stack of their own, in a database of this server; true when all hold.
pub(crate) async fn hold(checkout: &Checkout, postgres: &str, only: Option<Step>) -> Result<bool> {
    let steps: Vec<Step> = STEPS
        .into_iter()
        .filter(|step| only.is_none_or(|only| only == *step))
        .collect();
    println!("Holding the documents to the program");
    let tools = Tools::ready(checkout, &steps)?;
    let options = Options::for_test("documents")?
        .postgres(Store::At(postgres.to_owned()))
        .say(say);
    let stack = Stack::start(options).await?;
    let demo = Box::pin(transcript::tell(&stack.describe(DemoKeys::default()))).await?;
    let file = stack.describe(demo);
    let mut held = true;
    for (number, step) in steps.iter().enumerate() {
        println!("\n[{}/{}] {}", number + 1, steps.len(), step.title());
        let began = Instant::now();
        let ended = tools
            .command(*step, &file)
            .status()
            .context("starting Python")?;
        let verdict = if ended.success() { "holds" } else { "FAILED" };
        say(&format!("{verdict}, {} s", began.elapsed().as_secs()));
        held &= ended.success();
    }
    stack.stop().await?;
    Ok(held)
}

impl Step {
    const fn title(self) -> &'static str {
        match self {
            Self::OpenApi => "openapi.json is valid OpenAPI 3.1",
            Self::Skill => "SKILL.md leads from nothing to a paid call",
            Self::Signatures => "Standard Webhooks' own libraries verify what a seller receives",
            Self::Browser => "/docs and /docs/errors in Chromium",
            Self::Schemathesis => "every operation is as documented (schemathesis)",
        }
    }

    const fn script(self) -> &'static str {
        match self {
            Self::OpenApi => "openapi.py",
            Self::Skill => "skill.py",
            Self::Signatures => "signatures.py",
            Self::Browser => "browser.py",
            Self::Schemathesis => "schemathesis.toml",
        }
    }
}

/// What the steps are run with.
struct Tools {
    scripts: PathBuf,
    directory: PathBuf,
    chromium: Option<PathBuf>,
}

impl Tools {
    /// Installs what is missing: Python's packages below `target`, Chromium in the system.
    fn ready(checkout: &Checkout, steps: &[Step]) -> Result<Self> {
        install::install(&[Part::Python], say)?;
        let chromium = if steps.contains(&Step::Browser) {
            install::install(&[Part::Chromium], say)?;
            install::chromium()
        } else {
            None
        };
        let scripts = checkout.root().join("loadtest/documents");
        let directory = checkout.documents();
        python::packages(checkout, &directory, &scripts.join("requirements.txt"))?;
        if steps.contains(&Step::Signatures) {
            install::install(&[Part::Node], say)?;
            node_packages(checkout, &scripts, &node(&directory))?;
        }
        Ok(Self {
            scripts,
            directory,
            chromium,
        })
    }

    fn command(&self, step: Step, stack: &StackFile) -> Command {
        let bin = self.directory.join("python/bin");
        let script = self.scripts.join(step.script());
        let mut command = if step == Step::Schemathesis {
            let mut command = Command::new(bin.join("schemathesis"));
            command
                .arg(format!("--config-file={}", script.display()))
                .args(["run", &format!("{}/api/openapi.json", stack.gateway)]);
            command
        } else {
            let mut command = Command::new(bin.join("python"));
            command.arg("-B").arg(script);
            command
        };
        command
            .current_dir(&self.directory)
            .stdin(Stdio::null())
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("PYTHONPATH", &self.scripts)
            .env("SCHEMATHESIS_HOOKS", "hooks")
            .env("CROCHET_ORIGIN", &stack.gateway)
            .env("CROCHET_RELAY", &stack.relay)
            .env("CROCHET_BUYER_KEY", &stack.demo.buyer_api_key)
            .env("CROCHET_SELLER_KEY", &stack.demo.seller_api_key)
            .env("CROCHET_LISTING", &stack.demo.listing_id)
            .env("CROCHET_NODE", node(&self.directory))
            .env("CROCHET_PICTURES", self.directory.join("pictures"));
        if let Some(chromium) = &self.chromium {
            command.env("CROCHET_CHROMIUM", chromium);
        }
        command
    }
}

/// Where the step in JavaScript is run.
fn node(directory: &Path) -> PathBuf {
    directory.join("node")
}

/// The step in JavaScript beside its packages, exactly those that are locked.
fn node_packages(checkout: &Checkout, scripts: &Path, home: &Path) -> Result<()> {
    say(&format!(
        "Installing what {} locks into {}",
        shown(checkout, &scripts.join("package-lock.json")),
        shown(checkout, home)
    ));
    std::fs::create_dir_all(home)?;
    for file in ["package.json", "package-lock.json", "signatures.mjs"] {
        std::fs::copy(scripts.join(file), home.join(file))
            .with_context(|| format!("copying {file}"))?;
    }
    run(Command::new("npm")
        .args([
            "ci",
            "--ignore-scripts",
            "--no-audit",
            "--no-fund",
            "--silent",
        ])
        .current_dir(home))
}
