//! Stacks: the one that all peaceful tests share, and those that a test may break.

use std::sync::Arc;

use crochet_dev::{Checkout, DemoKeys, Options, Role, Stack, StackFile};
use demo_agent::{Api, Sandbox};
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore};

use super::RUNTIME;

/// Connections to a stack's database that its tests share.
const CONNECTIONS: u32 = 4;
/// How many stacks besides the shared one run at a time on a machine of two cores.
const OWN_STACKS: usize = 2;

static SHARED: Mutex<Option<Result<Arc<World>, String>>> = Mutex::const_new(None);
static OWN: std::sync::LazyLock<Arc<Semaphore>> =
    std::sync::LazyLock::new(|| Arc::new(Semaphore::new(OWN_STACKS)));

/// Everything a test needs to know of a stack; cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Door {
    /// The public API through each gateway.
    pub(crate) apis: Vec<Api>,
    pub(crate) sandbox: Sandbox,
    /// All addresses.
    pub(crate) at: StackFile,
    /// Signs webhooks.
    pub(crate) relay_api_key: String,
    pub(crate) internal_secret: String,
    /// Connections for what the tests themselves ask: many look again and again, and each new one costs a process.
    database: PgPool,
}

impl Door {
    /// Runs SQL on the stack's database: the only way to make time pass for a row. Gives back the rows it changed.
    pub(crate) async fn sql(&self, statement: String) -> u64 {
        let done = sqlx::raw_sql(sqlx::AssertSqlSafe(statement.clone()))
            .execute(&self.database)
            .await;
        done.unwrap_or_else(|error| panic!("{statement}: {error}"))
            .rows_affected()
    }

    /// One number out of the stack's database.
    pub(crate) async fn number(&self, query: String) -> i64 {
        let found = sqlx::query_scalar(sqlx::AssertSqlSafe(query.clone()))
            .fetch_one(&self.database)
            .await;
        found.unwrap_or_else(|error| panic!("{query}: {error}"))
    }

    /// Empties Redis.
    pub(crate) async fn flush(&self) {
        let address = self
            .at
            .redis_url
            .trim_start_matches("redis://")
            .trim_end_matches('/');
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"FLUSHALL\r\nQUIT\r\n").await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("+OK"), "FLUSHALL: {answer}");
    }
}

/// A running stack.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) stack: Stack,
    pub(crate) door: Door,
    _permit: Option<OwnedSemaphorePermit>,
}

impl World {
    /// A stack that the test may break. `adjust` sets what differs from the shared one.
    pub(crate) async fn own(name: &str, adjust: impl FnOnce(Options) -> Options) -> Self {
        let permit = Arc::clone(&OWN).acquire_owned().await.unwrap();
        Self::start(name, Some(permit), adjust)
            .await
            .unwrap_or_else(|error| panic!("{error}"))
    }

    async fn start(
        name: &str,
        permit: Option<OwnedSemaphorePermit>,
        adjust: impl FnOnce(Options) -> Options,
    ) -> Result<Self, String> {
        let say = |error: anyhow::Error| format!("starting a stack: {error:#}");
        let options = Options::for_test(name)
            .map_err(say)?
            .gateways(2)
            // A breaker that opens closes again while a test can wait for it.
            .set("BREAKER_OPEN_SECONDS", "1")
            // Twenty failures are within the window however busy the machine is.
            .and_then(|options| options.set("BREAKER_WINDOW_SECONDS", "600"))
            .and_then(|options| options.set("LEASE_GRACE_SECONDS", "1"))
            .and_then(|options| options.set("RELAY_SWEEP_SECONDS", "1"))
            .map_err(say)?;
        let stack = Stack::start(adjust(options)).await.map_err(say)?;
        let at = stack.describe(DemoKeys::default());
        let apis = (0..at.gateways.len())
            .map(|number| stack.api(number).unwrap())
            .collect();
        let (relay_api_key, internal_secret) = (
            stack.relay_api_key().to_owned(),
            stack.internal_secret().to_owned(),
        );
        let database = PgPoolOptions::new()
            .max_connections(CONNECTIONS)
            .connect_lazy(&at.database_url)
            .map_err(|error| say(error.into()))?;
        let door = Door {
            apis,
            sandbox: stack.sandbox(),
            database,
            at,
            relay_api_key,
            internal_secret,
        };
        Ok(Self {
            stack,
            door,
            _permit: permit,
        })
    }

    /// The end of a test that broke things: nothing crashed that was not killed, nothing panicked, and every
    /// invariant holds.
    pub(crate) async fn close(mut self) {
        let wrong = wrong_with(&mut self.stack).await;
        assert!(wrong.is_none(), "{}", wrong.unwrap());
        self.stack.stop().await.unwrap();
    }

    /// Where the gateways say what they did.
    pub(crate) fn log_of(&self, role: Role) -> String {
        std::fs::read_to_string(self.stack.log(role)).unwrap_or_default()
    }
}

/// The stack that nobody may break, started by the first test that asks.
pub(crate) async fn shared() -> Door {
    let mut shared = SHARED.lock().await;
    if shared.is_none() {
        if let Ok(checkout) = Checkout::find() {
            // What an earlier run that was killed has left; it is no failure of this one.
            drop(
                crochet_dev::end_all_abandoned(
                    &checkout.test_stacks(),
                    crochet_dev::Abandoned::Remove,
                )
                .await,
            );
        }
        *shared = Some(
            World::start("shared", None, |options| options)
                .await
                .map(Arc::new),
        );
    }
    match shared.as_ref() {
        Some(Ok(world)) => world.door.clone(),
        Some(Err(error)) => panic!("{error}"),
        None => unreachable!("it was just put there"),
    }
}

/// What the operator's tool answers of the shared stack: its JSON, and its exit code.
pub(crate) async fn operator(arguments: &[&str]) -> (serde_json::Value, i32) {
    shared().await;
    let world = match SHARED.lock().await.as_ref() {
        Some(Ok(world)) => Arc::clone(world),
        other => panic!("{other:?}"),
    };
    let arguments: Vec<&str> = arguments.iter().copied().chain(["--json"]).collect();
    let output = world.stack.control_plane_command(&arguments).await.unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    let json = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{arguments:?}: {error}\n{said}"));
    (json, output.status.code().unwrap_or(-1))
}

/// What is wrong with a stack at its end, if anything. Its services are ended, because one may panic on its
/// way down.
async fn wrong_with(stack: &mut Stack) -> Option<String> {
    if let Some(crashed) = stack.crashed() {
        return Some(crashed.to_string());
    }
    match stack.audit().await {
        Ok(None) => {}
        Ok(Some(violations)) => return Some(format!("the audit says:\n{violations}")),
        Err(error) => return Some(format!("{error:#}")),
    }
    if let Err(error) = stack.stop_services().await {
        return Some(format!("{error:#}"));
    }
    let is_ours = |role: &Role| {
        matches!(
            role,
            Role::Gateway(_) | Role::ControlPlane | Role::SecondControlPlane
        )
    };
    let mut ours = stack.roles().into_iter().filter(is_ours);
    ours.find_map(|role| panic_of(stack, role))
}

/// The first panic in a service's log, all its runs together. A call that panics is caught and a connection
/// that does is closed, so neither is seen in an answer.
fn panic_of(stack: &Stack, role: Role) -> Option<String> {
    const SHOWN_LINES: usize = 8;
    let log = match std::fs::read(stack.log(role)) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) => return Some(format!("the log of {role} cannot be read: {error}")),
    };
    let lines = log.lines().skip_while(|line| !line.contains("panicked"));
    let shown: Vec<&str> = lines.take(SHOWN_LINES).collect();
    (!shown.is_empty()).then(|| format!("{role} panicked:\n{}", shown.join("\n")))
}

/// Audits and stops the shared stack: what violates an invariant, crashed or panicked, if anything.
pub(crate) fn close() -> Option<String> {
    RUNTIME.block_on(async {
        let world = SHARED.lock().await.take()?.ok().and_then(Arc::into_inner)?;
        let mut stack = world.stack;
        let wrong = wrong_with(&mut stack).await;
        let stopped = stack.stop().await.err().map(|error| format!("{error:#}"));
        wrong.or(stopped)
    })
}
