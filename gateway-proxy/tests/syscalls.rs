//! What a request costs the gateway in system calls, on one kept connection with nobody else about.
//!
//! Unlike time they are the same on a busy machine and in a debug build, so a write too many, a lost kept
//! connection or another round trip shows here, whatever else runs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crochet_dev::install::{self, Part};
use demo_agent::{Agent, Method, PaidCall, Quote};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStderr, Command};

use crate::harness::{Market, World, trials};

trials!(a_call_costs_the_gateway_no_more_system_calls_than_it_did);

/// Requests of a kind that are counted, and those made beforehand.
const COUNTED: usize = 100;
const WARM_UP: usize = 10;
/// How long the gateway is watched doing nothing, to know what it does anyway.
const IDLE: Duration = Duration::from_secs(1);

/// What a request may cost: all system calls, and those that send.
struct Budget {
    name: &'static str,
    all: f64,
    sends: f64,
}

/// A wait, a read, the answer in one write.
const REFUSED: Budget = Budget {
    name: "401, refused key",
    all: 3.0,
    sends: 1.0,
};
/// The same: who asks and what is quoted is in memory.
const REUSED: Budget = Budget {
    name: "402, quote reused",
    all: 3.0,
    sends: 1.0,
};
/// The same four times over: the buyer, the claim, the seller, the settlement. A read and a wait for the
/// change that the settlement publishes, randomness for the claim's owner, and the timer of a batch that
/// wakes its own thread.
const PAID: Budget = Budget {
    name: "paid call",
    all: 16.0,
    sends: 4.0,
};
/// What is done now and then rather than for a request; less than one send or one round trip more.
const SLACK: f64 = 1.15;
/// What sends to a socket; `write` is a thread's own waking.
const SENDS: [&str; 3] = ["writev", "sendto", "sendmsg"];

/// strace, counting the calls of a process.
struct Trace {
    child: Child,
    says: Lines<BufReader<ChildStderr>>,
    table: PathBuf,
    begun: Instant,
}

/// How often each system call was made, and in how long.
#[derive(Debug)]
struct Counts {
    by_name: BTreeMap<String, f64>,
    seconds: f64,
}

impl Trace {
    /// Attaches; counting has begun when it comes back.
    async fn attach(pid: u32, table: &Path) -> Self {
        let mut child = Command::new("strace")
            .args(["-f", "-c", "-o"])
            .arg(table)
            .args(["-p", &pid.to_string()])
            .stderr(std::process::Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut says = BufReader::new(child.stderr.take().unwrap()).lines();
        let line = says.next_line().await.unwrap().unwrap_or_default();
        assert!(line.contains("attached"), "strace: {line}");
        Self {
            child,
            says,
            table: table.to_owned(),
            begun: Instant::now(),
        }
    }

    /// Detaches and reads what was counted.
    async fn finish(mut self) -> Counts {
        let seconds = self.begun.elapsed().as_secs_f64();
        let pid = i32::try_from(self.child.id().unwrap()).unwrap();
        kill(Pid::from_raw(pid), Signal::SIGINT).unwrap();
        while self.says.next_line().await.unwrap().is_some() {}
        self.child.wait().await.unwrap();
        let table = std::fs::read_to_string(&self.table).unwrap();
        let by_name = counts(&table);
        assert!(!by_name.is_empty(), "nothing was counted: {table}");
        Counts { by_name, seconds }
    }
}

/// Reads strace's table: `% time  seconds  usecs/call  calls  [errors]  syscall`.
fn counts(table: &str) -> BTreeMap<String, f64> {
    table
        .lines()
        .filter_map(|line| {
            let fields: Vec<&str> = line.split_ascii_whitespace().collect();
            let [_, _, _, calls, .., name] = fields.as_slice() else {
                return None;
            };
            let calls: f64 = calls.parse().ok()?;
            (*name != "total").then(|| ((*name).to_owned(), calls))
        })
        .collect()
}

impl Counts {
    /// Of each of so many requests, without what `idle` shows to happen anyway.
    fn each_of(&self, requests: usize, idle: &Self) -> BTreeMap<String, f64> {
        let requests = f64::from(u32::try_from(requests).unwrap());
        let anyway = self.seconds / idle.seconds;
        self.by_name
            .iter()
            .map(|(name, count)| {
                let idle = idle.by_name.get(name).copied().unwrap_or_default() * anyway;
                (name.clone(), (count - idle).max(0.0) / requests)
            })
            .collect()
    }
}

/// What is over budget, if anything. The table is printed.
fn judge(budget: &Budget, each: &BTreeMap<String, f64>) -> Option<String> {
    let all: f64 = each.values().sum();
    let sends: f64 = SENDS.iter().filter_map(|name| each.get(*name)).sum();
    let list: Vec<String> = each
        .iter()
        .filter(|(_, count)| **count >= 0.05)
        .map(|(name, count)| format!("{name} {count:.1}"))
        .collect();
    let found = format!(
        "{}: {all:.1} system calls, {sends:.1} of them send ({})",
        budget.name,
        list.join(", ")
    );
    println!("{found}");
    let over = all > budget.all * SLACK || sends > budget.sends * SLACK;
    over.then(|| format!("{found}; allowed are {} and {}\n", budget.all, budget.sends))
}

async fn a_call_costs_the_gateway_no_more_system_calls_than_it_did() {
    install::install(&[Part::Strace], |what| eprintln!("{what}")).unwrap();
    let world = World::own("syscalls", |options| options.gateways(1)).await;
    let market = Market::within(&world.door, json!({})).await;
    let folder = tempfile::tempdir().unwrap();
    let pid = world.door.at.gateways[0].pid;
    let trace = |name: &str| {
        let table = folder.path().join(name);
        async move { Trace::attach(pid, &table).await }
    };

    let idle = trace("idle").await;
    tokio::time::sleep(IDLE).await;
    let idle = idle.finish().await;

    let mut stranger = market.buyer.clone();
    let random = || u8::try_from(getrandom::u32().unwrap() % 256).unwrap();
    let unknown = crochet_shared::api_key::generate(random).text;
    secrecy::ExposeSecret::expose_secret(&unknown).clone_into(&mut stranger.key);
    let call = market.call();
    let mut payments: Vec<(PaidCall, Quote)> = Vec::new();
    for _ in 0..WARM_UP + COUNTED {
        let call = market.call();
        let quote = market.evidenced(&call).await;
        payments.push((call, quote));
    }
    let mut payments = payments.into_iter();

    let mut over = String::new();
    for budget in [REFUSED, REUSED, PAID] {
        let mut ask = async |times: usize| {
            for _ in 0..times {
                match budget.name {
                    name if name == REFUSED.name => unpaid(&stranger, &market, &call, 401).await,
                    name if name == REUSED.name => unpaid(&market.buyer, &market, &call, 402).await,
                    _ => {
                        let (call, quote) = payments.next().unwrap();
                        let answer = market.once(&call, &quote).await;
                        assert_eq!(answer.status, 200, "{answer}");
                    }
                }
            }
        };
        ask(WARM_UP).await;
        let counting = trace(budget.name).await;
        ask(COUNTED).await;
        let each = counting.finish().await.each_of(COUNTED, &idle);
        over.extend(judge(&budget, &each));
    }
    assert!(over.is_empty(), "over budget:\n{over}");
    world.close().await;
}

async fn unpaid(agent: &Agent, market: &Market, call: &PaidCall, status: u16) {
    let path = format!("/gateway/{}", market.listing.id);
    let key = [("idempotency-key", "the same")];
    let answer = agent
        .send(Method::POST, &path, &key, Some(call.body.clone()))
        .await
        .unwrap();
    assert_eq!(answer.status, status, "{answer}");
}
