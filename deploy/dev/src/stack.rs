//! A whole Crochet: stores, stand-ins, control plane and gateways, each a process that can be killed alone.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitStatus;

use anyhow::{Context as _, Result, bail};
use demo_agent::random_hex;
use nix::sys::signal::Signal;

use crate::environment::{Addresses, Plan};
use crate::postgres::{create_database, create_database_if_missing, drop_database};
use crate::process::{Exited, Process, Program};
use crate::programs::{Ready, service, wait_until_ready};
use crate::redis::Cache;
use crate::secrets::Secrets;
use crate::{Cluster, Options, Role, Store, files, leftovers};

/// How often a start is tried again when a port was lost between the look and the start.
const START_TRIES: usize = 5;
/// What a private Postgres takes at once.
const CONNECTIONS: u16 = 200;

/// A running Crochet. Dropping it ends every process at once; [`Stack::stop`] lets them finish first.
#[derive(Debug)]
pub struct Stack {
    pub(crate) options: Options,
    pub(crate) http: reqwest::Client,
    pub(crate) plan: Plan,
    pub(crate) cluster: Option<Cluster>,
    cache: Option<Cache>,
    /// The server and name of a database to drop at the end.
    borrowed_database: Option<(String, String)>,
    processes: BTreeMap<Role, Process>,
    /// What a test tells one process besides its plan.
    pub(crate) told: BTreeMap<Role, BTreeMap<String, String>>,
    /// What a test runs in the place of a role's own program.
    pub(crate) instead: BTreeMap<Role, PathBuf>,
}

impl Stack {
    /// Starts everything and waits until all of it is ready.
    pub async fn start(options: Options) -> Result<Self> {
        files::make_directory(&options.directory.join("logs"))?;
        let addresses = Self::addresses(&options, true)?;
        let plan = Plan {
            addresses,
            secrets: Secrets::open(&options.directory)?,
            settings: options.settings.clone(),
            database_url: String::new(),
            redis_url: String::new(),
            internal_through: None,
        };
        let http = demo_agent::client()?;
        let mut stack = Self {
            options,
            http,
            plan,
            cluster: None,
            cache: None,
            borrowed_database: None,
            processes: BTreeMap::new(),
            told: BTreeMap::new(),
            instead: BTreeMap::new(),
        };
        // Before anything runs: a folder without a record would never be cleared away.
        stack.record()?;
        stack.start_stores().await?;
        for _ in 1..START_TRIES {
            match stack.start_services().await {
                Err(error)
                    if error
                        .downcast_ref::<Exited>()
                        .is_some_and(Exited::address_was_taken) =>
                {
                    (stack.options.say)("A port was taken in the meantime; trying others.");
                    stack
                        .processes
                        .retain(|role, _| matches!(role, Role::Postgres | Role::Redis));
                    stack.plan.addresses = Self::addresses(&stack.options, false)?;
                }
                result => return result.map(|()| stack),
            }
        }
        stack.start_services().await.map(|()| stack)
    }

    fn addresses(options: &Options, first: bool) -> Result<Addresses> {
        if options.contract_ports && first {
            Addresses::of_the_contract(options.gateways)
        } else {
            Addresses::free(options.gateways)
        }
    }

    async fn start_stores(&mut self) -> Result<()> {
        const DATABASE: &str = "crochet";
        const NAME_BYTES: usize = 8;
        self.plan.database_url = match self.options.postgres.clone() {
            Store::Private => {
                (self.options.say)("Starting Postgres");
                let mut cluster = Cluster::open(&self.options.directory, CONNECTIONS)?;
                let process = cluster.start(&self.log(Role::Postgres)).await?;
                self.insert(Role::Postgres, process)?;
                let url = create_database_if_missing(&cluster.url("postgres"), DATABASE).await?;
                self.cluster = Some(cluster);
                url
            }
            Store::At(server) => {
                let name = format!("{DATABASE}_{}", random_hex::<NAME_BYTES>()?);
                let url = create_database(&server, &name).await?;
                self.borrowed_database = Some((server, name));
                url
            }
        };
        self.plan.redis_url = match self.options.redis.clone() {
            Store::Private => {
                (self.options.say)("Starting Redis");
                let mut cache = Cache::new()?;
                let process = cache.start(&self.log(Role::Redis)).await?;
                self.insert(Role::Redis, process)?;
                let url = cache.url();
                self.cache = Some(cache);
                url
            }
            Store::At(url) => url,
        };
        Ok(())
    }

    async fn start_services(&mut self) -> Result<()> {
        (self.options.say)("Starting the Relay sandbox and the demo seller");
        for role in [Role::Relay, Role::DemoSeller] {
            self.spawn(role)?;
        }
        (self.options.say)("Migrating the database");
        self.migrate().await?;
        (self.options.say)("Starting the control plane");
        self.spawn(Role::ControlPlane)?;
        for role in [Role::Relay, Role::DemoSeller, Role::ControlPlane] {
            self.wait_until_ready(role).await?;
        }
        let gateways = self.plan.addresses.gateways.len();
        (self.options.say)(&format!(
            "Starting {gateways} gateway{}",
            if gateways == 1 { "" } else { "s" }
        ));
        for number in 0..gateways {
            self.spawn(Role::Gateway(number))?;
        }
        for number in 0..gateways {
            self.wait_until_ready(Role::Gateway(number)).await?;
        }
        Ok(())
    }

    /// `control-plane migrate`, to its end.
    async fn migrate(&self) -> Result<()> {
        let output = self.control_plane_command(&["migrate"]).await?;
        if !output.status.success() {
            bail!(
                "`control-plane migrate` ended with {}:\n{}",
                output.status,
                text_of(&output)
            );
        }
        Ok(())
    }

    /// Runs the invariants against the database: the rows that violate one, none when all hold.
    pub async fn audit(&self) -> Result<Option<String>> {
        let output = self.control_plane_command(&["audit"]).await?;
        match output.status.code() {
            Some(0) => Ok(None),
            Some(1) => Ok(Some(text_of(&output))),
            _ => bail!(
                "`control-plane audit` ended with {}:\n{}",
                output.status,
                text_of(&output)
            ),
        }
    }

    /// Runs a subcommand of the control plane with this stack's environment.
    pub async fn control_plane_command(&self, arguments: &[&str]) -> Result<std::process::Output> {
        let mut program = self.program(Role::ControlPlane)?;
        program.arguments = arguments
            .iter()
            .map(|&argument| argument.to_owned())
            .collect();
        tokio::process::Command::from(program.command())
            .kill_on_drop(true)
            .output()
            .await
            .with_context(|| format!("running control-plane {}", arguments.join(" ")))
    }

    /// The environment of the control plane, for a command that runs beside it.
    pub fn control_plane_environment(&self) -> BTreeMap<String, String> {
        self.plan.control_plane()
    }

    fn program(&self, role: Role) -> Result<Program> {
        let mut program = self.planned(role)?;
        let told = self.told.get(&role).cloned();
        program.environment.extend(told.unwrap_or_default());
        if let Some(path) = self.instead.get(&role) {
            program.path.clone_from(path);
        }
        Ok(program)
    }

    fn planned(&self, role: Role) -> Result<Program> {
        let (checkout, build, label) =
            (&self.options.checkout, self.options.build, role.to_string());
        match role {
            Role::Postgres => Ok(self
                .cluster
                .as_ref()
                .context("Postgres is not this stack's own")?
                .program()),
            Role::Redis => Ok(self
                .cache
                .as_ref()
                .context("Redis is not this stack's own")?
                .program()),
            Role::Relay => service(
                checkout,
                build,
                "relay-sandbox",
                label,
                &[],
                self.plan.relay(&self.options.directory),
            ),
            Role::DemoSeller => service(
                checkout,
                build,
                "demo-seller",
                label,
                &[],
                self.plan.demo_seller(),
            ),
            Role::ControlPlane => service(
                checkout,
                build,
                "control-plane",
                label,
                &["serve"],
                self.plan.control_plane(),
            ),
            Role::SecondControlPlane => service(
                checkout,
                build,
                "control-plane",
                label,
                &["serve"],
                self.plan.second_control_plane(),
            ),
            Role::Gateway(number) => {
                let ports = self
                    .plan
                    .addresses
                    .gateways
                    .get(number)
                    .with_context(|| format!("there is no gateway {number}"))?;
                service(
                    checkout,
                    build,
                    "gateway-proxy",
                    label,
                    &[],
                    self.plan.gateway(*ports),
                )
            }
        }
    }

    fn ready(&self, role: Role) -> Option<Ready> {
        let addresses = &self.plan.addresses;
        match role {
            Role::Postgres | Role::Redis => None,
            Role::Relay => Some(Ready::Healthz(addresses.relay)),
            Role::DemoSeller => Some(Ready::Healthz(addresses.demo_seller)),
            Role::ControlPlane => Some(Ready::Readyz(addresses.control_plane_admin)),
            Role::SecondControlPlane => Some(Ready::Readyz(addresses.second_control_plane.admin)),
            Role::Gateway(number) => addresses
                .gateways
                .get(number)
                .map(|ports| Ready::Readyz(ports.admin)),
        }
    }

    fn spawn(&mut self, role: Role) -> Result<()> {
        let process = Process::spawn(self.program(role)?, &self.log(role))?;
        self.insert(role, process)
    }

    fn insert(&mut self, role: Role, process: Process) -> Result<()> {
        self.processes.insert(role, process);
        self.record()
    }

    fn record(&self) -> Result<()> {
        let children = self
            .processes
            .values()
            .map(|process| (process.program().name.as_str(), process.id()));
        leftovers::record(&self.options.directory, children)
    }

    fn process(&mut self, role: Role) -> Result<&mut Process> {
        self.processes
            .get_mut(&role)
            .with_context(|| format!("this stack runs no {role}"))
    }

    /// Waits until a process is ready; an error with the end of its log when it ended instead.
    pub async fn wait_until_ready(&mut self, role: Role) -> Result<()> {
        let (ready, http) = (self.ready(role), self.http.clone());
        match ready {
            Some(ready) => wait_until_ready(self.process(role)?, &ready, &http).await,
            None => Ok(()),
        }
    }

    /// SIGKILL, as a power cut would: nothing is finished, nothing is said.
    pub fn kill(&mut self, role: Role) -> Result<()> {
        self.process(role)?.kill().map(drop)
    }

    /// The signal that asks to finish and stop; waits for the end and gives back how it ended.
    pub async fn terminate(&mut self, role: Role) -> Result<ExitStatus> {
        self.process(role)?.stop().await
    }

    /// Sends any signal (SIGSTOP and SIGCONT make a process deaf for a while).
    pub fn signal(&mut self, role: Role, signal: Signal) -> Result<()> {
        self.process(role)?.signal(signal)
    }

    /// Starts a process that was killed or terminated, on its old port, and waits until it is ready.
    pub async fn start_again(&mut self, role: Role) -> Result<()> {
        self.start_again_unready(role).await?;
        self.wait_until_ready(role).await
    }

    /// The same without waiting for readiness, which may not come while something else is down.
    pub async fn start_again_unready(&mut self, role: Role) -> Result<()> {
        if self.process(role)?.exited().is_none() {
            bail!("{role} still runs");
        }
        let log = self.log(role);
        let process = match (role, &self.cluster, &self.cache) {
            (Role::Postgres, Some(cluster), _) => cluster.start_once(&log).await?,
            (Role::Redis, _, Some(cache)) => cache.start_once(&log).await?,
            _ => Process::spawn(self.program(role)?, &log)?,
        };
        self.insert(role, process)
    }

    /// Terminates a process and starts it again.
    pub async fn restart(&mut self, role: Role) -> Result<()> {
        self.terminate(role).await?;
        self.start_again(role).await
    }

    /// Starts a second control plane beside the first, on ports of its own ([`Stack::control_planes`]).
    pub async fn start_second_control_plane(&mut self) -> Result<()> {
        self.spawn(Role::SecondControlPlane)?;
        self.wait_until_ready(Role::SecondControlPlane).await
    }

    /// Starts another process of this role with `--upgrade`, asks the one that runs to hand its listeners
    /// over, and waits until it has ended and the other is ready.
    pub async fn upgrade(&mut self, role: Role) -> Result<ExitStatus> {
        let mut program = self.program(role)?;
        program.arguments.push("--upgrade".to_owned());
        let next = Process::spawn(program, &self.log(role))?;
        let last = self.process(role)?;
        last.signal(Signal::SIGQUIT)?;
        let status = last.end().await?;
        self.insert(role, next)?;
        self.wait_until_ready(role).await?;
        Ok(status)
    }

    /// The process id of a role.
    pub fn pid(&self, role: Role) -> Option<u32> {
        self.processes.get(&role).map(Process::id)
    }

    /// All roles that were started.
    pub fn roles(&self) -> Vec<Role> {
        self.processes.keys().copied().collect()
    }

    /// The first process found to have ended.
    pub fn crashed(&mut self) -> Option<Exited> {
        self.processes.values_mut().find_map(Process::exit_report)
    }

    /// Stops everything in order, gateways first, stores last; each may finish what it does.
    pub async fn stop(mut self) -> Result<()> {
        self.stop_services().await?;
        if let Some((server, name)) = self.borrowed_database.take() {
            drop_database(&server, &name).await?;
        }
        for role in [Role::Redis, Role::Postgres] {
            if let Some(process) = self.processes.get_mut(&role) {
                process.stop().await?;
            }
        }
        self.processes.clear();
        leftovers::forget(&self.options.directory)
    }

    /// Stops what is not a store, gateways first. What is asked of the stores and of logs can still be asked.
    pub async fn stop_services(&mut self) -> Result<()> {
        let gateways: Vec<Role> = self
            .processes
            .keys()
            .copied()
            .filter(|role| matches!(role, Role::Gateway(_)))
            .collect();
        for &gateway in &gateways {
            self.signal(gateway, Signal::SIGTERM)?;
        }
        for role in gateways.into_iter().chain([
            Role::SecondControlPlane,
            Role::ControlPlane,
            Role::DemoSeller,
            Role::Relay,
        ]) {
            if let Some(process) = self.processes.get_mut(&role) {
                process.stop().await?;
            }
        }
        Ok(())
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        // The last started first, so that nobody logs the loss of what it depends on.
        while self.processes.len() > usize::from(self.cluster.is_some()) {
            drop(self.processes.pop_last());
        }
        if let Some((server, name)) = self.borrowed_database.take() {
            drop_database_blocking(server, name);
        }
        self.processes.clear();
        if std::thread::panicking() {
            eprintln!(
                "the logs of this stack are in {}",
                self.options.directory.join("logs").display()
            );
            return;
        }
        drop(leftovers::forget(&self.options.directory));
        if self.options.throw_away {
            drop(Cluster::remove(&self.options.directory));
            drop(files::remove(&self.options.directory));
        }
    }
}

/// A drop cannot await, and may run inside a runtime: the statement gets a thread with a runtime of its own.
fn drop_database_blocking(server: String, name: String) {
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(drop_database(&server, &name))
    });
    drop(thread.join());
}

fn text_of(output: &std::process::Output) -> String {
    let (stdout, stderr) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    format!("{stdout}{stderr}").trim_end().to_owned()
}
