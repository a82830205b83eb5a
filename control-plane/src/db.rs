//! The one way to Postgres: named, metered transactions that are run again when the database asks.

use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use sqlx::migrate::{Migrate as _, Migrator};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{ConnectOptions as _, Connection as _, PgConnection, PgPool};

use crate::metrics::names;

/// Runs of one transaction before its failure is final.
const RUNS_MAX: u32 = 5;
/// Longest wait for a free connection; then the caller is refused rather than kept.
const ACQUIRE_SECONDS_MAX: u64 = 5;
/// A connection that idled for longer is asked whether it still lives before it is used. sqlx has asked it when it was
/// given back; under load that was a moment ago, and asking again would be a round trip more for each batch.
const TRUSTED_IDLE: Duration = Duration::from_millis(500);
/// Browsing may take so many connections for one of the others: whatever is searched for, calls are
/// claimed and settled beside it.
const CONNECTIONS_FOR_ONE_BROWSING: u32 = 4;
/// Claims and settlements have so many of eight connections for themselves: no report, sign-in or sweep is
/// waited for. A gateway has two batches of each under way at most.
const CALLING_OF_EIGHT: u32 = 3;
/// The statements of a claim and of a settlement are the same whatever the batch, and large: planned anew,
/// a batch of one costs Postgres 2 ms, by the plan that is there 0.7 ms. Left to itself Postgres plans small
/// batches anew for ever, because it reckons their plans cheaper and planning nearly free. Each row is looked up
/// by its key: a plan made while the tables are empty must not read them whole once they are not.
const CALLING: [(&str, &str); 2] = [
    ("plan_cache_mode", "force_generic_plan"),
    ("enable_seqscan", "off"),
];
/// A plan made without knowing the filters would serve none of them; browsing has an index for each,
/// and reads too little for a second process to help.
///
/// What a search gathers lies scattered over `listing_search`, which is small beside the listings and stays
/// in memory: to ask for each page beforehand costs another look-up of a page that is there.
const BROWSING: [(&str, &str); 4] = [
    ("plan_cache_mode", "force_custom_plan"),
    ("enable_seqscan", "off"),
    ("max_parallel_workers_per_gather", "0"),
    ("effective_io_concurrency", "0"),
];
/// No statement of ours takes this long; one that does is stopped, so that it holds no lock.
const STATEMENT_TIMEOUT: &str = "20s";
/// Postgres's word for none.
const NO_TIMEOUT: &str = "0";
/// A transaction that waits for its own client is broken off.
const IDLE_IN_TRANSACTION_TIMEOUT: &str = "15s";

/// Finds indexes whose building broke off. Postgres keeps one and writes to it, reads nothing by it, and
/// `create index if not exists` takes it for done. Building is going on where its table's is, or where another role's is, whose table is not shown.
const BROKEN_INDEXES: &str = "select format('%I', c.relname)
    from pg_index i join pg_class c on c.oid = i.indexrelid
    where not i.indisvalid and c.relkind = 'i' and c.relnamespace = current_schema()::regnamespace
        and not exists (select from pg_stat_progress_create_index p
            where p.datname = current_database() and coalesce(p.relid = i.indrelid, true))
    order by c.relname";

/// The schema, embedded at build time. Migrations only add, so a newer version's are no fault: whoever goes
/// back to this version starts its `migrate` first.
pub static MIGRATIONS: LazyLock<Migrator> = LazyLock::new(|| {
    let mut migrations = sqlx::migrate!("./migrations");
    migrations.set_ignore_missing(true);
    migrations
});

/// The pools, and transactions on the first.
#[derive(Clone, Debug)]
pub struct Db {
    pool: PgPool,
    browsing: PgPool,
    calling: PgPool,
}

/// What a transaction does, as a future that may borrow from its caller and from the transaction.
///
/// The two lifetimes say what a plain boxed future cannot: that what it borrows from outside lives
/// longer than the transaction.
pub struct Work<'outer, 'tx, T> {
    future: Pin<Box<dyn Future<Output = T> + Send + 'tx>>,
    outer: PhantomData<&'tx &'outer ()>,
}

/// Makes [`Work`] of an async block: `db.run("name", |tx| work(async move { … }))`.
pub fn work<'outer, 'tx, T>(future: impl Future<Output = T> + Send + 'tx) -> Work<'outer, 'tx, T> {
    Work {
        future: Box::pin(future),
        outer: PhantomData,
    }
}

impl<T> std::fmt::Debug for Work<'_, '_, T> {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        to.write_str("Work")
    }
}

/// Tells [`Db::run`] whether a failure of the work is the database asking to run it again.
pub trait Retry {
    /// The database's own error, when it is one.
    fn database_error(&self) -> Option<&sqlx::Error>;
}

impl Retry for sqlx::Error {
    fn database_error(&self) -> Option<&sqlx::Error> {
        Some(self)
    }
}

impl Db {
    /// Pools of at most `connections` together, of which browsing and calling have their shares; not yet
    /// connected. Each has one at least.
    pub fn new(url: &str, connections: u32) -> Result<Self, sqlx::Error> {
        let options = options(url, STATEMENT_TIMEOUT)?;
        let browsing = (connections / CONNECTIONS_FOR_ONE_BROWSING).max(1);
        let calling = (connections * CALLING_OF_EIGHT / 8).max(1);
        let main = connections.saturating_sub(browsing + calling).max(1);
        Ok(Self {
            browsing: pool(options.clone().options(BROWSING), browsing),
            calling: pool(options.clone().options(CALLING), calling),
            pool: pool(options, main),
        })
    }

    /// For a command that a person waits for, such as a migration or an audit of the whole history:
    /// its statements may take as long as they take.
    pub fn patient(url: &str) -> Result<Self, sqlx::Error> {
        Ok(Self::from_pool(pool(options(url, NO_TIMEOUT)?, 2)))
    }

    /// Over a pool that is there already (tests).
    pub fn from_pool(pool: PgPool) -> Self {
        Self {
            browsing: pool.clone(),
            calling: pool.clone(),
            pool,
        }
    }

    /// The pool, for single statements that need no transaction.
    pub const fn pool(&self) -> &PgPool {
        &self.pool
    }

    /// The pool for lists of the catalog, whose statements are planned for each call.
    pub const fn browsing(&self) -> &PgPool {
        &self.browsing
    }

    /// The pool for claims and settlements, whose statements are planned once for each connection.
    pub const fn calling(&self) -> &PgPool {
        &self.calling
    }

    /// Runs `work` in one transaction and commits it, or rolls it back when it fails.
    ///
    /// The work is run again, whole, when the database broke it off for a serialisation failure or a
    /// deadlock: so it must not do anything but SQL. `name` is a constant; it names the metric.
    pub async fn run<'outer, T, E, F>(&self, name: &'static str, work: F) -> Result<T, E>
    where
        F: for<'tx> Fn(&'tx mut PgConnection) -> Work<'outer, 'tx, Result<T, E>> + Send + Sync,
        E: From<sqlx::Error> + Retry,
    {
        let mut run = 1;
        loop {
            let started = Instant::now();
            let outcome = self.once(&work).await;
            let retry = match &outcome {
                Ok(_) => false,
                Err(error) => error.database_error().is_some_and(is_transient) && run < RUNS_MAX,
            };
            let result = match (&outcome, retry) {
                (Ok(_), _) => "committed",
                (Err(_), true) => "retried",
                (Err(_), false) => "rolled_back",
            };
            metrics::histogram!(names::DB_TRANSACTION.name, "name" => name, "result" => result)
                .record(started.elapsed());
            if !retry {
                return outcome;
            }
            // A little apart, so that two that met do not meet again.
            let pause = u64::from(crochet_shared::id::random::<1>()[0] % 16) * u64::from(run);
            tokio::time::sleep(Duration::from_millis(pause)).await;
            run += 1;
        }
    }

    async fn once<'outer, T, E, F>(&self, work: &F) -> Result<T, E>
    where
        F: for<'tx> Fn(&'tx mut PgConnection) -> Work<'outer, 'tx, Result<T, E>> + Send + Sync,
        E: From<sqlx::Error> + Retry,
    {
        let mut connection = acquire(&self.pool, "main").await?;
        let mut tx = connection.begin().await?;
        let value = work(&mut tx).future.await?;
        tx.commit().await?;
        Ok(value)
    }

    /// Applies what is missing of the schema.
    pub async fn migrate(&self) -> Result<(), sqlx::migrate::MigrateError> {
        MIGRATIONS.run(&self.pool).await
    }

    /// How many migrations of this build the database has not had. A server does not start on any.
    pub async fn migrations_missing(&self) -> Result<usize, sqlx::migrate::MigrateError> {
        Ok(self.migrations_pending().await?.len())
    }

    /// The migrations of this build that the database has not had: version and description.
    pub async fn migrations_pending(
        &self,
    ) -> Result<Vec<(i64, String)>, sqlx::migrate::MigrateError> {
        let mut connection = self.pool.acquire().await?;
        let table = &MIGRATIONS.table_name;
        // A database that was never migrated has no such table, and looking makes none.
        let exists: bool = sqlx::query_scalar("select to_regclass($1) is not null")
            .bind(table.as_ref())
            .fetch_one(&mut *connection)
            .await?;
        let applied = if exists {
            connection.list_applied_migrations(table).await?
        } else {
            Vec::new()
        };
        Ok(MIGRATIONS
            .iter()
            .filter(|wanted| !applied.iter().any(|had| had.version == wanted.version))
            .map(|wanted| (wanted.version, wanted.description.to_string()))
            .collect())
    }

    /// Indexes whose building broke off, and is not going on: their names, quoted where they have to be.
    pub async fn broken_indexes(&self) -> Result<Vec<String>, sqlx::Error> {
        sqlx::query_scalar(BROKEN_INDEXES)
            .fetch_all(&self.pool)
            .await
    }

    /// Waits for a connection of each pool as a caller would, which records how long it took, and
    /// asks the first whether it lives.
    pub async fn try_pools(&self) -> Result<(), sqlx::Error> {
        let mut connection = acquire(&self.pool, "main").await?;
        connection.ping().await?;
        drop(connection);
        acquire(&self.calling, "calling").await?;
        acquire(&self.browsing, "browsing").await.map(drop)
    }

    /// Whether Postgres takes a connection beside the pools: they may be used up while it is well.
    pub async fn answers_beside(&self) -> bool {
        let options = self.pool.connect_options();
        let connecting = PgConnection::connect_with(&options);
        match tokio::time::timeout(Duration::from_secs(2), connecting).await {
            Ok(Ok(connection)) => connection.close().await.is_ok(),
            // It lives and says no: it has no connection left.
            Ok(Err(sqlx::Error::Database(_))) => true,
            Ok(Err(_)) | Err(_) => false,
        }
    }

    /// Whether the database answers.
    pub async fn is_up(&self) -> bool {
        let ping = async {
            let mut connection = self.pool.acquire().await?;
            connection.ping().await
        };
        matches!(
            tokio::time::timeout(Duration::from_secs(2), ping).await,
            Ok(Ok(()))
        )
    }
}

/// Waits for a connection and records how long, also when there was none.
async fn acquire(
    pool: &PgPool,
    name: &'static str,
) -> Result<sqlx::pool::PoolConnection<sqlx::Postgres>, sqlx::Error> {
    let began = Instant::now();
    let acquired = pool.acquire().await;
    metrics::histogram!(names::DB_ACQUIRE.name, "pool" => name).record(began.elapsed());
    acquired
}

fn options(url: &str, statement_timeout: &str) -> Result<PgConnectOptions, sqlx::Error> {
    Ok(url
        .parse::<PgConnectOptions>()?
        .application_name("crochet-control-plane")
        .options([
            ("client_min_messages", "warning"),
            ("statement_timeout", statement_timeout),
            (
                "idle_in_transaction_session_timeout",
                IDLE_IN_TRANSACTION_TIMEOUT,
            ),
        ])
        .disable_statement_logging())
}

fn pool(options: PgConnectOptions, connections: u32) -> PgPool {
    PgPoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(Duration::from_secs(ACQUIRE_SECONDS_MAX))
        .test_before_acquire(false)
        .before_acquire(|connection, idling| {
            Box::pin(async move {
                if idling.idle_for >= TRUSTED_IDLE {
                    connection.ping().await?;
                }
                Ok(true)
            })
        })
        .connect_lazy_with(options)
}

/// `SQLSTATE` 40001 and 40P01: the transaction lost against another and may be run again.
fn is_transient(error: &sqlx::Error) -> bool {
    error
        .as_database_error()
        .and_then(sqlx::error::DatabaseError::code)
        .is_some_and(|code| code == "40001" || code == "40P01")
}

/// Whether a statement broke the constraint of this name. Constraint names are API.
pub fn broke_constraint(error: &sqlx::Error, name: &str) -> bool {
    error
        .as_database_error()
        .and_then(sqlx::error::DatabaseError::constraint)
        == Some(name)
}

/// Turns the breaking of a named constraint into the caller's own error; others pass unchanged.
pub trait OnConstraint<T> {
    /// `insert.await.on_constraint("wallet_address_once", Register::AlreadyRegistered)?`
    fn on_constraint<E: From<sqlx::Error>>(self, name: &str, error: E) -> Result<T, E>;
}

impl<T> OnConstraint<T> for Result<T, sqlx::Error> {
    fn on_constraint<E: From<sqlx::Error>>(self, name: &str, error: E) -> Result<T, E> {
        self.map_err(|found| {
            if broke_constraint(&found, name) {
                error
            } else {
                found.into()
            }
        })
    }
}
