//! What to start.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use demo_agent::random_hex;

use crate::{Build, Checkout, Limits, Settings};

/// Where a store comes from.
#[derive(Clone, Debug)]
pub enum Store {
    /// A server of the stack's own, in its folder.
    Private,
    /// A server that runs already, by URL. In Postgres a new database is made in it and dropped again.
    At(String),
}

/// What to start.
#[derive(Clone, Debug)]
pub struct Options {
    pub(crate) checkout: Checkout,
    pub(crate) directory: PathBuf,
    pub(crate) build: Build,
    pub(crate) gateways: usize,
    pub(crate) settings: Settings,
    pub(crate) postgres: Store,
    pub(crate) redis: Store,
    pub(crate) contract_ports: bool,
    pub(crate) throw_away: bool,
    pub(crate) say: fn(&str),
}

impl Options {
    /// A development stack: the contract's ports, stores of its own, data kept from one start to the next.
    pub fn for_development(checkout: &Checkout) -> Self {
        Self {
            checkout: checkout.clone(),
            directory: checkout.dev(),
            build: Build::Debug,
            gateways: 1,
            settings: Settings::default(),
            postgres: Store::Private,
            redis: Store::Private,
            contract_ports: true,
            throw_away: false,
            say: |_| (),
        }
    }

    /// A stack for one test: free ports, a folder of its own that goes with it, a database in the server of
    /// `DATABASE_URL` (`cargo dev test` provides one; without it a server of its own), a Redis of its own.
    pub fn for_test(name: &str) -> Result<Self> {
        const NAME_BYTES: usize = 4;
        let checkout = Checkout::find()?;
        let directory = checkout
            .test_stacks()
            .join(format!("{name}-{}", random_hex::<NAME_BYTES>()?));
        let postgres = match std::env::var_os("DATABASE_URL") {
            Some(url) => Store::At(url.into_string().ok().context("DATABASE_URL is not text")?),
            None => Store::Private,
        };
        let development = Self::for_development(&checkout);
        Ok(Self {
            directory,
            build: Build::of_this_program(),
            postgres,
            contract_ports: false,
            throw_away: true,
            ..development
        })
    }

    /// Where logs, secrets and state are kept.
    #[must_use]
    pub fn in_directory(mut self, directory: &Path) -> Self {
        self.directory = directory.to_path_buf();
        self
    }

    /// Whether the folder and its data go when the stack does.
    #[must_use]
    pub const fn throw_away(mut self, throw_away: bool) -> Self {
        self.throw_away = throw_away;
        self
    }

    /// Which build of the services runs.
    #[must_use]
    pub const fn build(mut self, build: Build) -> Self {
        self.build = build;
        self
    }

    /// How many gateways; at least one.
    #[must_use]
    pub fn gateways(mut self, gateways: usize) -> Self {
        self.gateways = gateways.max(1);
        self
    }

    /// Whether the limits of production hold.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.settings = self.settings.with_limits(limits);
        self
    }

    /// `--set NAME=VALUE`
    pub fn set(mut self, name: &str, value: &str) -> Result<Self> {
        self.settings.set(name, value)?;
        Ok(self)
    }

    /// All settings at once.
    #[must_use]
    pub fn settings(mut self, settings: Settings) -> Self {
        self.settings = settings;
        self
    }

    /// Where the database is.
    #[must_use]
    pub fn postgres(mut self, postgres: Store) -> Self {
        self.postgres = postgres;
        self
    }

    /// Where the cache is.
    #[must_use]
    pub fn redis(mut self, redis: Store) -> Self {
        self.redis = redis;
        self
    }

    /// Who is told what is being done.
    #[must_use]
    pub fn say(mut self, say: fn(&str)) -> Self {
        self.say = say;
        self
    }
}
