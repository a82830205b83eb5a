//! A flood of unpaid calls: the provider is never asked beyond its limit, what it gives is shared
//! among the buyers however greedy one of them is, look-ups of made-up keys are bounded, and paid
//! calls go on, none refused and none much slower.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crochet_dev::{Limits, Options, Role};
use demo_agent::{Agent, Answer, Chain, Method, Quote};
use futures_util::StreamExt as _;
use parking_lot::Mutex;
use secrecy::ExposeSecret as _;
use serde_json::json;
use tokio::task::{JoinHandle, JoinSet};

use super::background;
use super::victim::{Paid, percentile, times};
use crate::harness::{Door, Market, World, measured, sized, trials, until};

trials!(unpaid_calls_and_made_up_keys_cost_the_provider_and_paid_calls_nothing => alone);

/// Quotes a second of the provider, and of us: the production values.
const PROVIDER_PER_SECOND: usize = 10;
/// Unknown keys an address may try in a minute before it is refused without a look-up.
const UNKNOWN_PER_MINUTE: usize = 30;
/// Calls of a flood that may be under way at once; what is not answered is not sent again.
const UNDER_WAY: usize = 256;

/// How much of everything.
struct Size {
    buyers: usize,
    calls_per_second: u32,
    time: Duration,
    /// Paid calls made in calm, and as many in each flood.
    paid: usize,
}

async fn unpaid_calls_and_made_up_keys_cost_the_provider_and_paid_calls_nothing() {
    let size = Size {
        buyers: sized(40, 500),
        calls_per_second: sized(120, 2_000),
        time: sized(Duration::from_secs(5), Duration::from_mins(1)),
        paid: sized(16, 1_200),
    };
    let mut world = World::own("flood", production).await;
    let market = Arc::new(Market::within(&world.door, json!({})).await);
    let buyers = register(&world.door, size.buyers).await;
    let paid = pay_at_leisure(&mut world, &market, size.paid * 3).await;
    let mut parts = paid.chunks(size.paid);

    let calm = times(&market, parts.next().unwrap(), size.time).await;
    let before = asked(&world.door).await;

    let flood = Flood::of_quotes(&market, &buyers, &size);
    let flooded = times(&market, parts.next().unwrap(), size.time).await;
    let quotes = flood.end().await;
    the_provider_is_spared(&world, &before, &quotes, &size).await;
    buyers_share(&quotes, &buyers);

    let before = resolved(&world.door).await;
    let flood = Flood::of_keys(&world.door, &size);
    let guessed = times(&market, parts.next().unwrap(), size.time).await;
    let keys = flood.end().await;
    let looked_up = resolved(&world.door).await - before;
    assert_is_flood(&keys, &size);
    // Those under way when the limit was reached, and the callers whose keys are looked at again.
    let bound = UNKNOWN_PER_MINUTE + UNDER_WAY + 8 * (2 + seconds(keys.time));
    println!(
        "{} made-up keys in {:?}: {looked_up} look-ups, answers {:?}",
        keys.sent, keys.time, keys.answers
    );
    assert!(
        (1..=bound).contains(&looked_up),
        "{looked_up} look-ups for {} keys",
        keys.sent
    );
    assert!(
        keys.answers
            .keys()
            .all(|code| ["INVALID_API_KEY", "RATE_LIMITED"].contains(&code.as_str())),
        "{:?}",
        keys.answers
    );

    let [calm, flooded, guessed] = [calm, flooded, guessed].map(percentile);
    println!(
        "p99 of paid calls: {calm:?} in calm, {flooded:?} in unpaid calls, {guessed:?} in made-up keys"
    );
    for busy in [flooded, guessed] {
        let bound = sized(calm * 20 + Duration::from_secs(2), calm * 2);
        assert!(busy < bound, "{busy:?} where {calm:?} is usual");
    }
    drop(market);
    world.close().await;
}

/// The limits of production, but for those that would keep the test itself from being set up.
fn production(options: Options) -> Options {
    let set = |options: Options, (name, value): (&str, &str)| options.set(name, value).unwrap();
    [
        ("RATE_LIMIT_SIGN_IN_PER_5_MINUTES", "1000000"),
        ("RATE_LIMIT_KEY_READS_PER_MINUTE", "1000000"),
        ("RATE_LIMIT_KEY_WRITES_PER_MINUTE", "1000000"),
        ("POW_DIFFICULTY", "1"),
        ("RELAY_SANDBOX_QUOTES_PER_SECOND", "10"),
        ("RELAY_SANDBOX_REQUESTS_PER_SECOND", "20"),
    ]
    .into_iter()
    .fold(measured(options).limits(Limits::Default).gateways(1), set)
}

/// The buyers besides the greedy one, the first: those who are eager, and the modest.
fn eager_and_modest(buyers: &[Agent]) -> (&[Agent], &[Agent]) {
    buyers[1..].split_at(buyers.len() / 4)
}

/// Whose a call is: every second the greedy buyer's, and one in sixteen that of one who is modest. An
/// eager buyer tries so often that she has all that her own limit allows; all of them together
/// would have all that the provider gives.
fn whose(number: usize, buyers: usize) -> usize {
    let eager = buyers / 4;
    match number % 16 {
        15 => 1 + eager + number / 16 % (buyers - 1 - eager),
        greedy if greedy % 2 == 0 => 0,
        _ => 1 + number / 2 % eager,
    }
}

async fn register(door: &Door, count: usize) -> Vec<Agent> {
    let registering = futures_util::stream::iter(0..count).map(|number| async move {
        Agent::fresh(&door.apis[0], Chain::Solana, &format!("Buyer {number}"))
            .await
            .unwrap()
    });
    registering.buffer_unordered(8).collect().await
}

/// Paid calls in evidence, bought before the limits of production hold: by them a thousand take minutes. The
/// full form has so many that a single slow moment of the machine does not make a percentile.
async fn pay_at_leisure(world: &mut World, market: &Market, count: usize) -> Vec<Paid> {
    const AT_LEISURE: [(Role, &str); 4] = [
        (Role::ControlPlane, "RATE_LIMIT_QUOTES_PER_SECOND"),
        (Role::ControlPlane, "RATE_LIMIT_PROVIDER_QUOTES_PER_SECOND"),
        (Role::Relay, "RELAY_SANDBOX_QUOTES_PER_SECOND"),
        (Role::Relay, "RELAY_SANDBOX_REQUESTS_PER_SECOND"),
    ];
    for (role, limit) in AT_LEISURE {
        world.stack.tell(role, limit, "1000");
    }
    restart(world).await;
    let paid = pay(market, count).await;
    for (role, _) in AT_LEISURE {
        world.stack.untell(role);
    }
    restart(world).await;
    paid
}

/// The control plane ends first: with the provider's new limit it would be asked too often by the old one.
async fn restart(world: &mut World) {
    world.stack.terminate(Role::ControlPlane).await.unwrap();
    world.stack.restart(Role::Relay).await.unwrap();
    world.stack.start_again(Role::ControlPlane).await.unwrap();
}

async fn pay(market: &Market, count: usize) -> Vec<Paid> {
    const PAYERS: usize = 8;
    let payers = register(&market.door, PAYERS).await;
    let mut paid = Vec::with_capacity(count);
    while paid.len() < count {
        let buyer = &payers[paid.len() % PAYERS];
        let call = market.call();
        let quote = until("the provider gives a quote", || async {
            let answer = buyer.call(&call, None).await.unwrap();
            Quote::from_answer(&answer).ok()
        })
        .await;
        market
            .door
            .sandbox
            .deposit(&[&quote.relay_request_id])
            .await
            .unwrap();
        paid.push((buyer.clone(), call, quote));
    }
    for (_, _, quote) in &paid {
        let proven = format!(
            "select count(*) from gateway_request where relay_request_id = '{}' and state = 'paid'",
            quote.relay_request_id
        );
        until("the payment is in evidence", || async {
            (market.door.number(proven.clone()).await == 1).then_some(())
        })
        .await;
    }
    paid
}

/// It was as many calls as it should be; in an ordinary run, beside a dozen other stacks, a quarter of them.
fn assert_is_flood(told: &Told, size: &Size) {
    let wanted = usize::try_from(size.calls_per_second).unwrap() * seconds(told.time);
    let (least, sent) = (wanted * sized(25, 80) / 100, told.sent);
    assert!(sent >= least, "{sent} calls are no flood of {wanted}");
}

/// Whole seconds, the last one begun.
fn seconds(time: Duration) -> usize {
    usize::try_from(time.as_secs()).unwrap() + 1
}

/// What a flood was told.
struct Told {
    sent: usize,
    /// How long calls were made.
    time: Duration,
    /// How long they were answered: the last ones wait for their turn.
    answered: Duration,
    /// By code.
    answers: BTreeMap<String, usize>,
    /// Quotes given, by buyer.
    quotes: BTreeMap<String, usize>,
}

/// Calls at a steady rate until it is ended.
struct Flood {
    stop: Arc<AtomicBool>,
    task: JoinHandle<Told>,
}

impl Flood {
    /// Unpaid calls, each of them new, by all buyers as [`whose`] says.
    fn of_quotes(market: &Arc<Market>, buyers: &[Agent], size: &Size) -> Self {
        let (market, api) = (Arc::clone(market), background::api(&market.door));
        let buyers: Vec<Agent> = buyers.iter().map(|buyer| buyer.through(&api)).collect();
        Self::start(size, move |number| {
            let (buyer, call) = (buyers[whose(number, buyers.len())].clone(), market.call());
            async move {
                let answer = buyer.call(&call, None).await.unwrap();
                (buyer.id, answer)
            }
        })
    }

    /// Calls with keys that are well formed and nobody's, from the address that everybody calls from.
    fn of_keys(door: &Door, size: &Size) -> Self {
        let api = background::api(door);
        Self::start(size, move |_| {
            let api = api.clone();
            async move {
                let random = || u8::try_from(getrandom::u32().unwrap() % 256).unwrap();
                let key = crochet_shared::api_key::generate(random);
                let key = Some(key.text.expose_secret());
                let asked = api.send(Method::POST, "/gateway/nobody", key, &[], Some("{}".into()));
                (String::new(), asked.await.unwrap())
            }
        })
    }

    fn start<F, Fut>(size: &Size, call: F) -> Self
    where
        F: Fn(usize) -> Fut + Send + 'static,
        Fut: Future<Output = (String, Answer)> + Send + 'static,
    {
        let stop = Arc::<AtomicBool>::default();
        let stopped = Arc::clone(&stop);
        let every = Duration::from_secs(1) / size.calls_per_second;
        let task = background::spawn(async move {
            let told = Arc::new(Mutex::new(Vec::<(String, String)>::new()));
            let places = Arc::new(tokio::sync::Semaphore::new(UNDER_WAY));
            let (mut calling, mut sent, began) = (JoinSet::new(), 0, Instant::now());
            let mut ticks = tokio::time::interval(every);
            while !stopped.load(Ordering::Relaxed) {
                ticks.tick().await;
                let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
                    continue;
                };
                let (called, told) = (call(sent), Arc::clone(&told));
                sent += 1;
                calling.spawn(async move {
                    let (buyer, answer) = called.await;
                    drop(place);
                    let code = answer.code().unwrap_or_else(|| answer.status.to_string());
                    assert!(answer.status != 500, "{answer}");
                    told.lock().push((buyer, code));
                });
                while calling.try_join_next().is_some_and(|ended| ended.is_ok()) {}
            }
            let time = began.elapsed();
            calling.join_all().await;
            let answered = began.elapsed();
            let (mut answers, mut quotes) = (BTreeMap::new(), BTreeMap::new());
            for (buyer, code) in told.lock().drain(..) {
                if code == "PAYMENT_REQUIRED" {
                    *quotes.entry(buyer).or_default() += 1;
                }
                *answers.entry(code).or_default() += 1;
            }
            Told {
                sent,
                time,
                answered,
                answers,
                quotes,
            }
        });
        Self { stop, task }
    }

    async fn end(self) -> Told {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.unwrap()
    }
}

/// A sum over the lines of a metric that hold all of these words.
async fn metric(origin: &str, words: &[&str]) -> usize {
    let page = reqwest::get(format!("{origin}/metrics")).await.unwrap();
    let page = page.text().await.unwrap();
    let lines = page
        .lines()
        .filter(|line| words.iter().all(|word| line.contains(word)));
    let values = lines.filter_map(|line| line.rsplit(' ').next()?.parse::<usize>().ok());
    values.sum()
}

/// What the provider was asked: quotes, and how often it said that this was too often.
struct Asked {
    quotes: usize,
    refused: usize,
}

async fn asked(door: &Door) -> Asked {
    let seen = door.sandbox.requests().await.unwrap();
    let relay = ["crochet_relay_calls_total", "\"limited\""];
    Asked {
        quotes: usize::try_from(seen["calls"]["quote"].as_u64().unwrap()).unwrap(),
        refused: metric(&door.at.control_plane_admin, &relay).await,
    }
}

/// How often the control plane was asked whose a key is, or for a listing: each look-up draws a version.
async fn resolved(door: &Door) -> usize {
    let drawn = door.number("select last_value from cache_version".to_owned());
    usize::try_from(drawn.await).unwrap()
}

async fn the_provider_is_spared(world: &World, before: &Asked, told: &Told, size: &Size) {
    let after = asked(&world.door).await;
    let quotes = after.quotes - before.quotes;
    let seconds = seconds(told.answered);
    println!(
        "{} unpaid calls of {} buyers in {:?}: {quotes} quotes asked of the provider, answers {:?}",
        told.sent, size.buyers, told.answered, told.answers
    );
    assert_is_flood(told, size);
    assert_eq!(
        after.refused, 0,
        "the provider said that it was asked too often"
    );
    assert!(
        quotes <= PROVIDER_PER_SECOND * (seconds + 1),
        "{quotes} in {seconds} s"
    );
    assert!(
        quotes >= seconds * PROVIDER_PER_SECOND / 3,
        "{quotes} in {seconds} s is not what the provider would give"
    );
    for code in told.answers.keys() {
        assert!(
            [
                "PAYMENT_REQUIRED",
                "RATE_LIMITED",
                "PAYMENT_PROVIDER_UNAVAILABLE",
                "SERVICE_UNAVAILABLE"
            ]
            .contains(&code.as_str()),
            "{:?}",
            told.answers
        );
    }
}

/// The greedy buyer, who makes half of all calls, gets no more of the provider than the others may:
/// one try a second; and the others get the rest, those who try once as well as those who try always.
fn buyers_share(told: &Told, buyers: &[Agent]) {
    let of = |buyer: &Agent| told.quotes.get(&buyer.id).copied().unwrap_or_default();
    let got_one = |some: &[Agent]| some.iter().filter(|buyer| of(buyer) > 0).count();
    let (greedy, others) = (of(&buyers[0]), &buyers[1..]);
    let (eager, modest) = eager_and_modest(buyers);
    let given: usize = others.iter().map(of).sum();
    let served = got_one(others);
    let most = others.iter().map(of).max().unwrap_or_default();
    println!(
        "quotes: {greedy} of the greedy buyer, {given} of the {} others, {most} at most; {} of {} eager ones got one, {} of {} modest ones",
        others.len(),
        got_one(eager),
        eager.len(),
        got_one(modest),
        modest.len()
    );
    let seconds = seconds(told.time);
    assert!(greedy <= seconds + 1, "{greedy} in {seconds} s");
    // As many as everybody else in her place: her share is a buyer's, not a caller's.
    let fair = (given + greedy).div_ceil(buyers.len());
    assert!(
        greedy <= 3 * fair + 3,
        "{greedy} where {fair} are a buyer's share"
    );
    // By turns: nobody has many while others who wait have none.
    assert!(
        served * 3 >= others.len().min(given) * 2,
        "{served} of {} were served",
        others.len()
    );
    let served = got_one(modest);
    assert!(
        served * 3 >= modest.len().min(given) * 2,
        "{served} of {} modest ones were served",
        modest.len()
    );
}
