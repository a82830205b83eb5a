//! Buyers who go on asking whatever breaks, and the reckoning afterwards.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use demo_agent::{Agent, Answer, PaidCall, Quote, random_bytes};
use sha2::{Digest as _, Sha256};
use sqlx::Connection as _;
use tokio::sync::Semaphore;

use crate::harness::{Door, Market, fee_of, is_full};

/// The longest a buyer goes on asking: longer than several leases of the shortest kind, one after the other.
const PERSISTS: Duration = Duration::from_secs(140);
/// The same where kills follow each other for minutes.
const PERSISTS_LONG: Duration = Duration::from_mins(10);
/// The longest one question may be without an answer, whoever dies meanwhile, where the seller answers at once. Each
/// thing that a gateway waits for has a limit, and all of them together come to less than this.
const ANSWERED_WITHIN: Duration = Duration::from_mins(1);
/// Asking for longer than this is worth a line, with the last answer that was not the one: three leases of the
/// shortest kind.
const LONG: Duration = Duration::from_secs(3 * (1 + 30 + 1));
/// Answers that say nothing about the call.
const AGAIN: [&str; 3] = [
    "GATEWAY_REQUEST_IN_PROGRESS",
    "SERVICE_UNAVAILABLE",
    "PAYMENT_PROVIDER_UNAVAILABLE",
];
/// Between two tries.
const PAUSE: Duration = Duration::from_millis(40);

/// A purchase that its buyer knows to be delivered.
#[derive(Clone, Debug)]
pub(super) struct Purchase {
    pub(super) call: PaidCall,
    pub(super) quote: Quote,
    pub(super) answer: Answer,
}

/// The buyer through every gateway.
pub(super) fn everywhere(market: &Market) -> Vec<Agent> {
    let apis = market.door.apis.iter();
    apis.map(|api| market.buyer.through(api)).collect()
}

/// Makes the call through one gateway after the other until `judge` takes an answer. A connection that
/// breaks and a 503 say nothing about the call; whatever else `judge` does not take is a false failure.
async fn insist<T>(
    buyers: &[Agent],
    call: &PaidCall,
    relay_request_id: Option<&str>,
    judge: impl Fn(&Answer) -> Option<T>,
) -> T {
    let begun = Instant::now();
    let persists = if is_full() { PERSISTS_LONG } else { PERSISTS };
    // Not by turns: where purchases follow each other at a steady pace, one gateway would be asked for all the quotes
    // and the other for all the answers.
    let first = usize::from(u16::from_le_bytes(random_bytes().unwrap()));
    let what = relay_request_id.unwrap_or("a quote");
    let mut last = "nothing".to_owned();
    for turn in first.. {
        let buyer = &buyers[turn % buyers.len()];
        let asking = buyer.call(call, relay_request_id);
        let Ok(answered) = tokio::time::timeout(ANSWERED_WITHIN, asking).await else {
            let gateway = buyer.api().base_url();
            panic!("{gateway} said nothing of {what} for {ANSWERED_WITHIN:?}; before: {last}");
        };
        last = match answered {
            Ok(answer) => {
                if let Some(taken) = judge(&answer) {
                    let (took, times) = (begun.elapsed(), turn - first + 1);
                    if took > LONG {
                        println!("{what} was asked for {times} times in {took:?}; before: {last}");
                    }
                    return taken;
                }
                let code = answer.code().unwrap_or_default();
                let again = answer.status == 202 || AGAIN.contains(&code.as_str());
                assert!(again, "a false failure: {answer}");
                answer.to_string()
            }
            Err(error) => format!("{error:#}"),
        };
        assert!(begun.elapsed() < persists, "for {persists:?}: {last}");
        tokio::time::sleep(PAUSE).await;
    }
    unreachable!("it goes on for ever")
}

/// A quote, however often it must be asked for.
pub(super) async fn quoted(buyers: &[Agent], call: &PaidCall) -> Quote {
    insist(buyers, call, None, |answer| Quote::from_answer(answer).ok()).await
}

/// The delivered answer, however often it must be asked for.
pub(super) async fn redeemed(buyers: &[Agent], call: &PaidCall, quote: &Quote) -> Answer {
    let id = Some(quote.relay_request_id.as_str());
    let delivered = |answer: &Answer| (answer.status == 200).then(|| answer.clone());
    insist(buyers, call, id, delivered).await
}

/// Quote, deposit, answer: all of a purchase.
pub(super) async fn bought(market: &Market, call: PaidCall) -> Purchase {
    let buyers = everywhere(market);
    let quote = quoted(&buyers, &call).await;
    let deposited = market
        .door
        .sandbox
        .deposit(&[&quote.relay_request_id])
        .await;
    deposited.unwrap();
    let answer = redeemed(&buyers, &call, &quote).await;
    Purchase {
        call,
        quote,
        answer,
    }
}

/// Quotes so many calls and pays for all of them; each is in evidence when it is given back.
pub(crate) async fn paid_in_advance(market: &Market, count: usize) -> Vec<(PaidCall, Quote)> {
    const AT_ONCE: usize = 16;
    // Of all tests together.
    static PLACES: Semaphore = Semaphore::const_new(AT_ONCE);
    let calls: Vec<PaidCall> = (0..count).map(|_| market.call()).collect();
    let quotes = each(AT_ONCE, calls.iter(), |call| async move {
        let _place = PLACES.acquire().await.unwrap();
        market.buyer.quote(call).await
    });
    let quotes = quotes.await;
    let quotes: Vec<Quote> = quotes.into_iter().map(Result::unwrap).collect();
    let ids: Vec<&str> = quotes
        .iter()
        .map(|quote| quote.relay_request_id.as_str())
        .collect();
    market.door.sandbox.deposit(&ids).await.unwrap();
    let proven = format!(
        "select count(*) from payment_evidence e join gateway_request r on r.id = e.request_id
        where r.relay_request_id in ('{}')",
        ids.join("','")
    );
    crate::harness::until_within(
        "all payments are in evidence",
        Duration::from_mins(2),
        || async {
            let found = market.door.number(proven.clone()).await;
            (usize::try_from(found) == Ok(count)).then_some(())
        },
    )
    .await;
    calls.into_iter().zip(quotes).collect()
}

/// Does something with each, so many at once; the results in their order.
pub(super) async fn each<I, T, F: Future<Output = T>>(
    at_once: usize,
    items: impl Iterator<Item = I>,
    work: impl Fn(I) -> F,
) -> Vec<T> {
    use futures_util::stream::{self, StreamExt as _};
    stream::iter(items.map(work))
        .buffered(at_once)
        .collect()
        .await
}

/// What the ledger says of one purchase.
#[derive(Debug, sqlx::FromRow)]
struct Booked {
    relay_request_id: String,
    state: String,
    has_evidence: bool,
    paid: i64,
    credited: i64,
    fee: i64,
    transfers: i64,
    response_sha256: Option<Vec<u8>>,
}

async fn booked(door: &Door, ids: &[String]) -> Vec<Booked> {
    let mut connection = sqlx::PgConnection::connect(&door.at.database_url)
        .await
        .unwrap();
    sqlx::query_as(
        "select r.relay_request_id, r.state::text as state,
            exists (select from payment_evidence e where e.request_id = r.id) as has_evidence,
            coalesce(sum(t.amount_micros) filter (where t.kind = 'gateway_payment'), 0)::int8 as paid,
            coalesce(sum(t.amount_micros) filter (where t.kind = 'seller_credit'), 0)::int8 as credited,
            coalesce(sum(t.amount_micros) filter (where t.kind = 'marketplace_fee'), 0)::int8 as fee,
            count(t.id) as transfers, r.response_sha256
        from gateway_request r left join transfer t on t.request_id = r.id
        where r.relay_request_id = any($1) group by r.id",
    )
    .bind(ids)
    .fetch_all(&mut connection)
    .await
    .unwrap()
}

/// Ledger, seller and provider agree: each purchase is paid once, settled once and delivered, and what is
/// stored is what its buyer was told, byte for byte; the seller was called for it at least once and no
/// attempt arrived twice; the provider was paid for it. Gives back how often the seller was called for each.
pub(super) async fn agree(market: &Market, purchases: &[Purchase]) -> BTreeMap<String, usize> {
    let ids: Vec<String> = purchases
        .iter()
        .map(|purchase| purchase.quote.relay_request_id.clone())
        .collect();
    let (gross, fee) = (market.gross, fee_of(market.gross));
    let told: BTreeMap<&str, [u8; 32]> = purchases
        .iter()
        .map(|purchase| {
            let id = purchase.quote.relay_request_id.as_str();
            (id, Sha256::digest(&purchase.answer.body).into())
        })
        .collect();
    let rows = booked(&market.door, &ids).await;
    assert_eq!(rows.len(), ids.len(), "each purchase is one request");
    for row in rows {
        let wanted = ("delivered", true, gross, gross - fee, fee, 3);
        let found = (
            row.state.as_str(),
            row.has_evidence,
            row.paid,
            row.credited,
            row.fee,
            row.transfers,
        );
        assert_eq!(found, wanted, "{}", row.relay_request_id);
        assert_eq!(
            row.response_sha256.as_deref(),
            Some(&told[row.relay_request_id.as_str()][..]),
            "other bytes are stored than the buyer of {} was told",
            row.relay_request_id
        );
    }
    let counts = market.service.counts();
    for purchase in purchases {
        let request_id = &purchase.quote.request_id;
        assert!(
            counts.contains_key(request_id),
            "the seller was never called for {request_id}"
        );
        assert_eq!(
            purchase.answer.at("/data/request_id"),
            request_id.as_str(),
            "everybody gets her own answer"
        );
    }
    let said = each(8, ids.iter(), |id| market.door.sandbox.status(id)).await;
    for (id, status) in ids.iter().zip(said) {
        assert_eq!(status.unwrap(), "success", "the provider's word on {id}");
    }
    counts
}

/// The same, and the seller was called exactly once for each.
pub(super) async fn agree_on_one_call_each(market: &Market, purchases: &[Purchase]) {
    let counts = agree(market, purchases).await;
    for purchase in purchases {
        let request_id = &purchase.quote.request_id;
        assert_eq!(
            counts[request_id], 1,
            "calls to the seller for {request_id}"
        );
    }
}
