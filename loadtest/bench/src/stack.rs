//! The Crochet that is measured: one of our own, or one that runs already.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use crochet_dev::{Build, DemoKeys, Options, Settings, Stack, StackFile, Store};

use crate::baseline::{Certificate, TlsFront};
use crate::config::Config;
use crate::measure::{Role, Watched, is_debug_build, resident_bytes, with_descendants};
use crate::subject::Subject;

/// A running stack.
#[derive(Debug)]
pub(crate) struct Target {
    /// Where everything is.
    pub(crate) file: StackFile,
    own: Option<Stack>,
    /// What a seller behind TLS shows, where one is measured.
    certificate: Option<Certificate>,
    directory: PathBuf,
}

impl Target {
    /// The stack `--stack` names, or a fresh one of release builds in `directory`.
    pub(crate) async fn open(config: &Config, directory: &Path) -> Result<Self> {
        match &config.stack {
            Some(path) => Self::attach(config, path),
            None => Self::start(config, directory).await,
        }
    }

    fn attach(config: &Config, path: &Path) -> Result<Self> {
        let apart = [Subject::Cold, Subject::WithoutRedis];
        if apart.into_iter().any(|subject| config.wants(subject)) {
            bail!(
                "what others use is not taken away: nothing cached, and no Redis, are measured on a stack of the bench's own"
            );
        }
        if config.wants(Subject::Tls) {
            bail!(
                "a seller behind TLS is measured on a stack of the bench's own: its gateway has to be told whom to trust"
            );
        }
        let directory = if path.is_dir() {
            path
        } else {
            path.parent().unwrap_or(path)
        };
        let Some(file) = StackFile::read(directory)? else {
            bail!(
                "no stack.json in {}: nothing runs there",
                directory.display()
            );
        };
        Ok(Self {
            file,
            own: None,
            certificate: None,
            directory: directory.to_path_buf(),
        })
    }

    /// A fresh one of release builds in `directory`, or one on the data that is there.
    pub(crate) async fn start(config: &Config, directory: &Path) -> Result<Self> {
        let mut settings = Settings::default();
        // Payments are made by the thousand before anything is measured: no need to watch each one's progress.
        settings.set("RELAY_SANDBOX_STEP_MS", "0")?;
        // The sweep reads the last quarter of an hour of the provider's records anew each time: of payments made by
        // the thousand in a minute that is half a second of work, in whichever row it falls. A soak is to see it.
        if !config.wants(Subject::Soak) {
            settings.set("RELAY_SWEEP_SECONDS", "3600")?;
        }
        let mut certificate = None;
        if config.wants(Subject::Tls) {
            let made = Certificate::make(&directory.join("tls"))?;
            let path = made.authority.to_str().context("a path that is no text")?;
            settings.set("ENDPOINT_EXTRA_CA_FILE", path)?;
            certificate = Some(made);
        }
        for pair in &config.settings {
            settings.set_pair(pair)?;
        }
        let options = Options::for_test("bench")?
            .in_directory(directory)
            .build(Build::of_this_program())
            // Logs and data stay for whoever looks into a failure; the next run removes them.
            .throw_away(false)
            .postgres(Store::Private)
            .settings(settings)
            .say(|what| eprintln!("{what}"));
        let stack = Stack::start(options).await?;
        Ok(Self {
            file: stack.describe(DemoKeys::default()),
            own: Some(stack),
            certificate,
            directory: directory.to_path_buf(),
        })
    }

    /// Puts TLS in front of the seller.
    pub(crate) async fn tls_front(&self) -> Result<TlsFront> {
        let certificate = self.certificate.as_ref();
        let certificate = certificate.context("the gateway was told of no certificate")?;
        let seller = address(&self.file.demo_seller)?;
        // Beside the baselines, where nginx is when it had to be unpacked.
        let bench = self.directory.parent().unwrap_or(&self.directory);
        TlsFront::start(bench, seller, certificate).await
    }

    /// Whether this run started it, so that its processes may be started again.
    pub(crate) const fn is_own(&self) -> bool {
        self.own.is_some()
    }

    /// Starts the gateway again, where it is our own; one that serves others goes on.
    pub(crate) async fn fresh_gateway(&mut self) -> Result<()> {
        if let Some(stack) = &mut self.own {
            stack.restart(crochet_dev::Role::Gateway(0)).await?;
            self.file = stack.describe(DemoKeys::default());
        }
        Ok(())
    }

    /// Starts the gateway and an empty Redis again, so that nothing is known to either.
    pub(crate) async fn forget(&mut self) -> Result<()> {
        use crochet_dev::Role::{Gateway, Redis};
        let stack = self.own.as_mut().context("the stack is not our own")?;
        stack.terminate(Gateway(0)).await?;
        stack.restart(Redis).await?;
        stack.start_again(Gateway(0)).await?;
        self.file = stack.describe(DemoKeys::default());
        Ok(())
    }

    /// Ends Redis.
    pub(crate) async fn end_redis(&mut self) -> Result<()> {
        let stack = self.own.as_mut().context("the stack is not our own")?;
        stack.terminate(crochet_dev::Role::Redis).await?;
        Ok(())
    }

    /// Starts Redis again, empty.
    pub(crate) async fn start_redis(&mut self) -> Result<()> {
        let stack = self.own.as_mut().context("the stack is not our own")?;
        stack.start_again(crochet_dev::Role::Redis).await?;
        self.file = stack.describe(DemoKeys::default());
        Ok(())
    }

    /// Starts the control plane again with the database at this URL, or where it was.
    pub(crate) async fn reach_postgres_at(&mut self, url: Option<&str>) -> Result<()> {
        let stack = self.own.as_mut().context("the stack is not our own")?;
        match url {
            Some(url) => stack.tell(crochet_dev::Role::ControlPlane, "DATABASE_URL", url),
            None => stack.untell(crochet_dev::Role::ControlPlane),
        }
        stack.restart(crochet_dev::Role::ControlPlane).await?;
        self.file = stack.describe(DemoKeys::default());
        Ok(())
    }

    /// Fills the database while nobody uses it: both services are stopped meanwhile.
    pub(crate) async fn refill<F>(&mut self, fill: impl FnOnce(String) -> F) -> Result<()>
    where
        F: Future<Output = Result<()>>,
    {
        use crochet_dev::Role::{ControlPlane, Gateway};
        let stack = self.own.as_mut().context("the stack is not our own")?;
        for role in [Gateway(0), ControlPlane] {
            stack.terminate(role).await?;
        }
        fill(self.file.database_url.clone()).await?;
        for role in [ControlPlane, Gateway(0)] {
            stack.start_again(role).await?;
        }
        self.file = stack.describe(DemoKeys::default());
        Ok(())
    }

    /// The gateway that is measured: the first.
    pub(crate) fn gateway(&self) -> Result<SocketAddr> {
        address(&self.file.gateway)
    }

    /// Every process of the stack.
    pub(crate) fn watched(&self) -> Vec<Watched> {
        let pids = &self.file.pids;
        let all = [
            (Role::Gateway, pids.gateway),
            (Role::ControlPlane, pids.control_plane),
            (Role::Postgres, pids.postgres),
            (Role::Redis, pids.redis),
            (Role::Relay, pids.relay),
            (Role::Seller, pids.demo_seller),
        ];
        // Zero is a store that is not the stack's own.
        let ours = all.into_iter().filter(|(_, pid)| *pid != 0);
        ours.map(|(role, pid)| Watched { role, pid }).collect()
    }

    /// Resident bytes of the two services.
    pub(crate) fn resident_bytes(&self) -> Result<BTreeMap<Role, u64>> {
        let pids = &self.file.pids;
        let services = [
            (Role::Gateway, pids.gateway),
            (Role::ControlPlane, pids.control_plane),
        ];
        services
            .into_iter()
            .map(|(role, pid)| Ok((role, resident_bytes(with_descendants(pid)?)?)))
            .collect()
    }

    /// What a reader must know before believing the figures.
    pub(crate) fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if is_debug_build(self.file.pids.gateway) || is_debug_build(self.file.pids.control_plane) {
            notes.push("the services are debug builds: these figures mean nothing".to_owned());
        }
        if self.file.pids.postgres == 0 {
            notes.push("Postgres is not the stack's own: its CPU is not counted".to_owned());
        }
        notes
    }

    /// The rows that violate an invariant of money or state; none when all hold or the stack is not ours.
    pub(crate) async fn audit(&self) -> Result<Option<String>> {
        match &self.own {
            Some(stack) => stack.audit().await,
            None => Ok(None),
        }
    }

    /// Stops a stack of our own in order; one that ran already goes on.
    pub(crate) async fn stop(self) -> Result<()> {
        match self.own {
            Some(stack) => stack.stop().await,
            None => Ok(()),
        }
    }
}

/// The socket address of `http://127.0.0.1:8080`.
fn address(origin: &str) -> Result<SocketAddr> {
    let address = origin.trim_end_matches('/').strip_prefix("http://");
    let address = address.with_context(|| format!("{origin} is not an http:// origin"))?;
    address
        .parse()
        .with_context(|| format!("{origin} has no numeric address and port"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_gives_its_address() {
        assert_eq!(
            address("http://127.0.0.1:8080").unwrap(),
            "127.0.0.1:8080".parse().unwrap()
        );
        address("https://example.com").unwrap_err();
        address("http://localhost:1").unwrap_err();
    }
}
