//! Payments by the thousand, made before anything is measured.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use bytes::Bytes;

use super::{Goods, Market, answers};
use crate::request;

/// Deposits told to the sandbox in one request.
const DEPOSITS_A_REQUEST: usize = 500;
/// Quotes asked for in one go: of a fresh quote some hundreds are made a second.
const QUOTES_AT_ONCE: usize = 10_000;
/// How often what was refused while preparing is tried again.
const TRIES: usize = 5;
/// From the last deposit until every payment is in evidence.
const EVIDENCE_LIMIT: Duration = Duration::from_mins(10);
/// Payments looked at together: looking at all would keep the control plane from the webhooks.
const LOOKED_AT_ONCE: usize = 256;
/// Between two looks at payments that are not in evidence yet.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// A payment in evidence, not redeemed yet.
#[derive(Clone, Debug)]
pub(crate) struct Payment {
    /// The provider's id.
    pub(crate) relay_request_id: String,
    /// `gw_req_…`
    pub(crate) request_id: String,
    /// Of the body it is bound to.
    pub(crate) serial: u64,
    /// What it pays for.
    pub(crate) goods: Goods,
}

impl Market {
    /// Buys `count` different calls up to the point where they can be redeemed: quotes, deposits, evidence.
    pub(crate) async fn pay(&mut self, goods: Goods, count: usize) -> Result<Vec<Payment>> {
        self.pay_and(goods, count, true).await
    }

    /// The same without a word.
    pub(crate) async fn pay_untold(&mut self, goods: Goods, count: usize) -> Result<Vec<Payment>> {
        self.pay_and(goods, count, false).await
    }

    async fn pay_and(&mut self, goods: Goods, count: usize, is_told: bool) -> Result<Vec<Payment>> {
        let say = |what: &str, begun: Instant| {
            if is_told {
                let seconds = begun.elapsed().as_secs_f64();
                eprintln!("{count} {what} in {seconds:.1} s");
            }
        };
        let begun = Instant::now();
        let payments = self.quotes(goods, count, is_told).await?;
        say("quotes", begun);
        let begun = Instant::now();
        for some in payments.chunks(DEPOSITS_A_REQUEST) {
            let ids: Vec<&str> = some
                .iter()
                .map(|payment| payment.relay_request_id.as_str())
                .collect();
            self.sandbox.deposit(&ids).await?;
        }
        self.wait_for_evidence(&payments).await?;
        say("payments in evidence", begun);
        Ok(payments)
    }

    async fn quotes(&mut self, goods: Goods, count: usize, is_told: bool) -> Result<Vec<Payment>> {
        let first = self.next_serial;
        self.next_serial += u64::try_from(count)?;
        let mut open: Vec<u64> = (first..self.next_serial).collect();
        let mut payments = Vec::with_capacity(count);
        for _ in 0..TRIES {
            let mut refused = Vec::new();
            let mut reason = None;
            for some in open.chunks(QUOTES_AT_ONCE) {
                let requests: Vec<Bytes> = some
                    .iter()
                    .map(|&serial| self.call(goods, serial, None))
                    .collect::<Result<_>>()?;
                let answered = self.ask(self.gateway, &requests).await?;
                for (&serial, answer) in some.iter().zip(answered) {
                    if let Some((relay_request_id, request_id)) = answers::quote_of(&answer) {
                        payments.push(Payment {
                            relay_request_id,
                            request_id,
                            serial,
                            goods,
                        });
                    } else {
                        refused.push(serial);
                        reason.get_or_insert(answer);
                    }
                }
                if count > QUOTES_AT_ONCE && is_told {
                    eprintln!("{} of {count} quotes", payments.len());
                }
            }
            let Some(answer) = reason else {
                return Ok(payments);
            };
            eprintln!(
                "{} of {count} quotes were refused ({} {}); asking again",
                refused.len(),
                answer.status,
                String::from_utf8_lossy(&answer.body)
            );
            open = refused;
            tokio::time::sleep(LOOK_EVERY).await;
        }
        bail!(
            "{} of {count} quotes were refused {TRIES} times",
            open.len()
        )
    }

    /// The provider's webhooks bring the evidence, in about the order of the deposits; a look asks for it where there
    /// was no news.
    async fn wait_for_evidence(&self, payments: &[Payment]) -> Result<()> {
        let begun = Instant::now();
        for some in payments.chunks(LOOKED_AT_ONCE) {
            self.wait_for_some(some, begun).await?;
        }
        Ok(())
    }

    async fn wait_for_some(&self, payments: &[Payment], begun: Instant) -> Result<()> {
        let mut open: Vec<&Payment> = payments.iter().collect();
        loop {
            let path =
                |payment: &Payment| format!("/api/v1/relay-requests/{}", payment.relay_request_id);
            let requests: Vec<Bytes> = open
                .iter()
                .map(|payment| request::get(&path(payment), &self.buyer.key))
                .collect();
            let answered = self.ask(self.gateway, &requests).await?;
            let mut last = None;
            let mut still = Vec::new();
            for (payment, answer) in open.into_iter().zip(answered) {
                if !answers::is_paid(&answer) {
                    still.push(payment);
                    last = Some(answer);
                }
            }
            open = still;
            let Some(answer) = last else { return Ok(()) };
            if begun.elapsed() >= EVIDENCE_LIMIT {
                bail!(
                    "{} payments are not in evidence after {EVIDENCE_LIMIT:?}; the last: {}",
                    open.len(),
                    String::from_utf8_lossy(&answer.body)
                );
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}
