//! What every handler can reach: configuration, stores, keys, and the clients of other services.

use std::sync::Arc;
use std::time::Instant;

use crochet_shared::egress::Egress;
use crochet_shared::envelope::DocLinks;
use crochet_shared::seal::Keyring;
use hickory_resolver::TokioResolver;
use secrecy::ExposeSecret as _;

use crate::config::Config;
use crate::db::Db;
use crate::limits::Limits;
use crate::publish::Publisher;
use crate::{catalog, identity, payments};

/// The state of the program, shared by all listeners and tasks.
#[derive(Debug)]
pub struct App {
    /// The configuration in force.
    pub config: Config,
    /// Postgres.
    pub db: Db,
    /// Seals secrets at rest.
    pub vault: Keyring,
    /// Seals records in Redis.
    pub cache_keys: Keyring,
    /// Links into the documents.
    pub docs: DocLinks,
    /// Where endpoints may be.
    pub egress: Egress,
    /// Resolves hosts of endpoints.
    pub resolver: TokioResolver,
    /// The payment provider.
    pub relay: payments::relay::Client,
    /// Redis.
    pub publisher: Publisher,
    /// Counters of callers.
    pub limits: Limits,
    /// How hard proof of work is now.
    pub difficulty: identity::Difficulty,
    /// State of `catalog` that lives in memory.
    pub catalog: catalog::Memory,
    /// Hashes passwords.
    pub passwords: identity::Passwords,
    /// State of `payments` that lives in memory.
    pub payments: payments::State,
}

impl App {
    /// Makes everything ready. Connects nowhere: what is away at start may come later.
    pub fn new(config: Config) -> anyhow::Result<Arc<Self>> {
        let db = Db::new(
            config.database_url.expose_secret(),
            config.database_connections,
        )?;
        Self::with_db(config, db)
    }

    /// As [`Self::new`], over a database that is there already (tests).
    pub fn with_db(config: Config, db: Db) -> anyhow::Result<Arc<Self>> {
        Ok(Arc::new(Self {
            db,
            vault: config.master_keys.clone(),
            cache_keys: config.cache_keys.clone(),
            docs: DocLinks::new(&config.public_base_url),
            egress: config.egress.clone(),
            resolver: crate::resolve::resolver(&config.dns_servers)?,
            relay: payments::relay::Client::new(&config)?,
            publisher: Publisher::new(&config)?,
            limits: Limits::new(&config)?,
            difficulty: identity::Difficulty::new(
                config.pow_difficulty,
                config.pow_pinned,
                Instant::now(),
            ),
            catalog: catalog::Memory::default(),
            passwords: identity::Passwords::default(),
            payments: payments::State::new(&config)?,
            config,
        }))
    }
}
