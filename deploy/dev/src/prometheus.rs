//! A Prometheus of our own: scrapes a stack with the repository's rules, at a pace of the caller's.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::Signal;
use serde::Deserialize;
use serde_json::Value;

use crate::account::Account;
use crate::checkout::{data_home, make_data_home};
use crate::process::{Process, Program};
use crate::{Deadline, StackFile, files, install, ports};

const START_LIMIT: Duration = Duration::from_mins(1);
const ASK_LIMIT: Duration = Duration::from_secs(10);

/// A running Prometheus; dropping it ends it and removes what it kept.
#[derive(Debug)]
pub struct Prometheus {
    process: Process,
    http: reqwest::Client,
    port: u16,
    home: PathBuf,
}

/// An alert that is pending or fires.
#[derive(Clone, Debug, Deserialize)]
pub struct Alert {
    /// `alertname` is among them.
    pub labels: BTreeMap<String, String>,
    /// `pending` or `firing`.
    pub state: String,
}

impl Alert {
    /// Its rule.
    pub fn name(&self) -> &str {
        self.labels.get("alertname").map_or("", String::as_str)
    }

    /// Whether it fires.
    pub fn is_firing(&self) -> bool {
        self.state == "firing"
    }
}

/// A rule, as Prometheus read it.
#[derive(Clone, Debug, Deserialize)]
pub struct Rule {
    /// The alert's name.
    pub name: String,
    /// Its expression.
    pub query: String,
    /// `runbook_url` is among them.
    pub annotations: BTreeMap<String, String>,
}

impl Prometheus {
    /// Starts one that scrapes every process of `stack` each `scrape`, with `rules`, keeping its
    /// files below `directory`.
    pub async fn start(
        directory: &Path,
        stack: &StackFile,
        rules: &str,
        scrape: &str,
    ) -> Result<Self> {
        let account = Account::for_server(&["prometheus", "nobody"])?;
        files::make_directory(directory)?;
        let home = data_home(directory, account.as_ref());
        make_data_home(&home)?;
        let home = home.join("prometheus");
        files::remove(&home)?;
        files::make_directory(&home)?;
        std::fs::write(home.join("rules.yml"), rules)?;
        std::fs::write(home.join("prometheus.yml"), configuration(stack, scrape))?;
        if let Some(account) = &account {
            account.own(&home)?;
        }
        let port = ports::free()?;
        let program = program(&home, account, port)?;
        let process = Process::spawn(program, &directory.join("prometheus.log"))?;
        let mut started = Self {
            process,
            http: demo_agent::client()?,
            port,
            home,
        };
        started.wait_until_ready().await?;
        Ok(started)
    }

    /// `http://127.0.0.1:PORT`
    pub fn origin(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    async fn wait_until_ready(&mut self) -> Result<()> {
        let deadline = Deadline::new("Prometheus to be ready", START_LIMIT);
        let url = format!("{}/-/ready", self.origin());
        loop {
            if let Some(exited) = self.process.exit_report() {
                return Err(exited.into());
            }
            let answer = self.http.get(&url).timeout(ASK_LIMIT).send().await;
            if answer.is_ok_and(|answer| answer.status().is_success()) {
                return Ok(());
            }
            deadline
                .tick()
                .await
                .with_context(|| self.process.log_end())?;
        }
    }

    async fn ask(&self, path: &str, query: &[(&str, &str)]) -> Result<Value> {
        let mut url = reqwest::Url::parse(&self.origin())?.join(path)?;
        url.query_pairs_mut().extend_pairs(query);
        let answer = self.http.get(url).timeout(ASK_LIMIT).send().await?;
        let body: Value = answer.json().await?;
        if body.get("status").and_then(Value::as_str) != Some("success") {
            bail!("Prometheus: {body}");
        }
        body.get("data").cloned().context("no data in its answer")
    }

    /// The series an expression gives now, with their values as text.
    pub async fn query(&self, expression: &str) -> Result<Vec<(String, String)>> {
        let data = self.ask("api/v1/query", &[("query", expression)]).await?;
        let series = data.get("result").and_then(Value::as_array);
        Ok(series
            .into_iter()
            .flatten()
            .map(|one| {
                let labels = one.get("metric").map(Value::to_string).unwrap_or_default();
                let value = one.pointer("/value/1").and_then(Value::as_str);
                (labels, value.unwrap_or_default().to_owned())
            })
            .collect())
    }

    /// Every name there is a series of.
    pub async fn names(&self) -> Result<Vec<String>> {
        let data = self.ask("api/v1/label/__name__/values", &[]).await?;
        Ok(serde_json::from_value(data)?)
    }

    /// Alerts that are pending or fire.
    pub async fn alerts(&self) -> Result<Vec<Alert>> {
        #[derive(Deserialize)]
        struct Data {
            alerts: Vec<Alert>,
        }
        let data = self.ask("api/v1/alerts", &[]).await?;
        Ok(serde_json::from_value::<Data>(data)?.alerts)
    }

    /// Every rule.
    pub async fn rules(&self) -> Result<Vec<Rule>> {
        #[derive(Deserialize)]
        struct Data {
            groups: Vec<Group>,
        }
        #[derive(Deserialize)]
        struct Group {
            rules: Vec<Rule>,
        }
        let data = self.ask("api/v1/rules", &[]).await?;
        let groups = serde_json::from_value::<Data>(data)?.groups;
        Ok(groups.into_iter().flat_map(|group| group.rules).collect())
    }

    /// Stops it.
    pub async fn stop(mut self) -> Result<()> {
        self.process.stop().await?;
        Ok(())
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        // An error says that it has ended.
        let _ended = self.process.kill();
        drop(files::remove(&self.home));
    }
}

fn configuration(stack: &StackFile, scrape: &str) -> String {
    let target = |origin: &str| format!("{:?}", origin.trim_start_matches("http://"));
    let gateways: Vec<String> = stack
        .gateways
        .iter()
        .map(|gateway| target(&gateway.admin))
        .collect();
    format!(
        "global:\n  scrape_interval: {scrape}\n  scrape_timeout: {scrape}\n  evaluation_interval: {scrape}\n\
         rule_files: [rules.yml]\nscrape_configs:\n\
         \x20 - job_name: gateway\n    static_configs: [{{targets: [{}]}}]\n\
         \x20 - job_name: control-plane\n    static_configs: [{{targets: [{}]}}]\n",
        gateways.join(", "),
        target(&stack.control_plane_admin),
    )
}

fn program(home: &Path, account: Option<Account>, port: u16) -> Result<Program> {
    let path = install::on_path("prometheus").context("Prometheus is not installed")?;
    let arguments = [
        format!("--config.file={}", home.join("prometheus.yml").display()),
        format!("--storage.tsdb.path={}", home.join("data").display()),
        format!("--web.listen-address=127.0.0.1:{port}"),
        "--log.level=warn".to_owned(),
    ];
    Ok(Program {
        name: "prometheus".to_owned(),
        path,
        arguments: arguments.to_vec(),
        environment: BTreeMap::new(),
        account,
        directory: "/".into(),
        stop_signal: Signal::SIGTERM,
        drop_signal: Signal::SIGKILL,
    })
}
