//! `cargo dev drill upgrade`: two hosts are upgraded under load by the commands of `deploy/UPGRADE.md`.
//!
//! The version before, where it has been built (`cargo dev previous`), is what the control planes run at
//! first; else they run this one and are restarted. Each host is a control plane and a gateway that
//! speaks to it, which this program starts and stops as the page's `systemctl` asks.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use crochet_dev::{
    Build, Checkout, Deadline, DemoKeys, Options, Previous, Readiness, Role, Stack, install,
};
use demo_agent::{Agent, Chain, NewListing};

use super::page::{Asked, Shell, blocks};
use super::traffic::{Buyers, Traffic};
use super::{compile, say};

const PAGE: &str = "deploy/UPGRADE.md";
/// As in production, where the development stack has none.
const DRAIN_SECONDS: &str = "2";
/// Purchases before the first command and after the last.
const BEFORE_AND_AFTER: usize = 40;
/// The longest one block of commands may take.
const BLOCK_LIMIT: Duration = Duration::from_mins(5);
/// How many of what went wrong are shown.
const SHOWN: usize = 10;

#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    /// Purchases a second.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rate: u32,
}

/// A control plane, and the gateway that speaks to it.
struct Host {
    control_plane: Role,
    gateway: Role,
    shell: Shell,
}

pub(crate) async fn upgrade(arguments: &Arguments) -> Result<ExitCode> {
    let checkout = Checkout::find()?;
    install::install_missing(say)?;
    compile::build(&checkout, Build::Debug, &compile::SERVICES)?;
    let page = checkout.root().join(PAGE);
    let page = std::fs::read_to_string(&page).with_context(|| page.display().to_string())?;
    let blocks = blocks(&page);
    let [once, each] = blocks.as_slice() else {
        bail!("{PAGE} should have one block of commands for once and one for each host");
    };
    let (mut stack, hosts) = set(&checkout).await?;
    let traffic = Traffic::begin(buyers(&stack).await?, arguments.rate);
    more(&traffic).await?;
    for (number, host) in hosts.iter().enumerate() {
        if number == 0 {
            run(&mut stack, host, once).await?;
        }
        let begun = Instant::now();
        run(&mut stack, host, each).await?;
        let took = begun.elapsed().as_secs_f64();
        say(&format!("host {} upgraded in {took:.1} s", number + 1));
    }
    more(&traffic).await?;
    let heard = traffic.end().await?;
    let (failed, refused) = (heard.failed.len(), heard.refused.len());
    say(&format!(
        "{} calls of {} purchases at {} a second: {failed} failed, {refused} refused",
        heard.calls(),
        heard.purchases,
        arguments.rate
    ));
    for wrong in heard.failed.iter().chain(&heard.refused).take(SHOWN) {
        println!("    {wrong}");
    }
    let violations = stack.audit().await?;
    ensure!(violations.is_none(), "the audit says: {violations:?}");
    say("the audit finds no row");
    stack.stop().await?;
    ensure!(failed + refused == 0, "an upgrade must not be noticed");
    Ok(ExitCode::SUCCESS)
}

/// A stack of two hosts.
async fn set(checkout: &Checkout) -> Result<(Stack, [Host; 2])> {
    let options = Options::for_test("upgrade")?
        .gateways(2)
        .postgres(crochet_dev::Store::Private)
        .set("GATEWAY_DRAIN_SECONDS", DRAIN_SECONDS)?
        .say(say);
    let mut stack = Stack::start(options).await?;
    let previous = Previous::read(checkout)?;
    let program = previous.control_plane(checkout);
    if program.is_file() {
        say(&format!("The control planes run {}", previous.commit));
        for role in [Role::ControlPlane, Role::SecondControlPlane] {
            stack.run_instead(role, &program);
        }
        stack.restart(Role::ControlPlane).await?;
    } else {
        say("The version before is not built (`cargo dev previous`); this one is restarted");
    }
    stack.start_second_control_plane().await?;
    let planes = stack.control_planes();
    let [_, [public, internal, _]] = &planes;
    let beside = Role::Gateway(1);
    stack.tell(beside, "CONTROL_PLANE_URL", public);
    stack.tell(beside, "CONTROL_PLANE_INTERNAL_URL", internal);
    stack.restart(beside).await?;
    let described = stack.describe(DemoKeys::default());
    let host = |number: usize, control_plane| -> Result<Host> {
        let gateway = described.gateways.get(number).context("two gateways")?;
        let [_, _, admin] = planes.get(number).context("two control planes")?;
        let directory = stack.directory().join(format!("host-{}", number + 1));
        Ok(Host {
            control_plane,
            gateway: Role::Gateway(number),
            shell: Shell::new(
                directory,
                &[("CONTROL_PLANE", admin), ("GATEWAY", &gateway.admin)],
            )?,
        })
    };
    let hosts = [
        host(0, Role::ControlPlane)?,
        host(1, Role::SecondControlPlane)?,
    ];
    Ok((stack, hosts))
}

async fn buyers(stack: &Stack) -> Result<Buyers> {
    let apis = [stack.api(0)?, stack.api(1)?];
    let [first, _] = &apis;
    let seller = Agent::fresh(first, Chain::Solana, "Seller").await?;
    let buyer = Agent::fresh(first, Chain::Solana, "Buyer").await?;
    let endpoint = stack.demo_seller().endpoint_url();
    let listing = NewListing::per_call("Echo", "0.01", &endpoint);
    let listing = seller.publish(&listing).await?;
    stack.demo_seller().accept(&listing).await?;
    let described = stack.describe(DemoKeys::default());
    let admins: Vec<String> = described
        .gateways
        .into_iter()
        .map(|gateway| gateway.admin)
        .collect();
    Ok(Buyers {
        through: apis.iter().map(|api| buyer.through(api)).collect(),
        listing: listing.id,
        sandbox: stack.sandbox(),
        gateways: Readiness::of(first.http(), &admins),
    })
}

async fn more(traffic: &Traffic) -> Result<()> {
    let wanted = traffic.done() + BEFORE_AND_AFTER;
    let deadline = Deadline::new("purchases to be made", BLOCK_LIMIT);
    while traffic.done() < wanted {
        deadline.tick().await?;
    }
    Ok(())
}

/// Runs a block of commands on a host, doing what it asks of systemd.
async fn run(stack: &mut Stack, host: &Host, block: &str) -> Result<()> {
    for line in block.lines() {
        println!("    {line}");
    }
    let mut shell = host.shell.start(block)?;
    let deadline = Deadline::new("the commands to end", BLOCK_LIMIT);
    loop {
        if let Some(asked) = host.shell.asked()? {
            obey(stack, host, &asked).await?;
            asked.done()?;
        }
        if let Some(status) = shell.try_wait()? {
            ensure!(status.success(), "the commands ended with {status}");
            return Ok(());
        }
        deadline.tick().await?;
    }
}

/// What systemd would do: a stop waits for the end, a start does not wait for readiness.
async fn obey(stack: &mut Stack, host: &Host, asked: &Asked) -> Result<()> {
    let role = match asked.unit.as_str() {
        "crochet-migrate" => {
            // The new program's, which lies on the host already.
            stack.run_its_own(Role::ControlPlane);
            let output = stack.control_plane_command(&["migrate"]).await?;
            ensure!(output.status.success(), "migrate: {output:?}");
            return Ok(());
        }
        "crochet-control-plane" => host.control_plane,
        "crochet-gateway" => host.gateway,
        unit => bail!("there is no unit {unit}"),
    };
    if asked.verb != "start" {
        let status = stack.terminate(role).await?;
        ensure!(status.success(), "{role} ended with {status}");
    }
    if asked.verb != "stop" {
        stack.run_its_own(role);
        stack.start_again_unready(role).await?;
    }
    Ok(())
}
