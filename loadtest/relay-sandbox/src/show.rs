//! A request in the provider's shapes: its status, and its row in `/requests/v3`.

use chrono::{DateTime, SecondsFormat};
use serde::Serialize;

use crate::{
    currency::{Atomic, BASE, Currency, Face, Shown, USDC_BASE},
    payment::{Payment, Status},
    quote::{Quote, Target},
    store::Request,
};

/// How long a fill takes, as the provider would promise it, in seconds.
pub(crate) const TIME_ESTIMATE_SECONDS: u32 = 2;

/// The answer of `/intents/status/v3`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct StatusAnswer<'a> {
    status: Status,
    details: &'static str,
    in_tx_hashes: Vec<&'a str>,
    tx_hashes: Vec<&'a str>,
    updated_at: u64,
    origin_chain_id: u64,
    destination_chain_id: u64,
    quote_created_at: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    fail_reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    refund_fail_reason: Option<&'a str>,
}

impl<'a> StatusAnswer<'a> {
    /// Of a request.
    pub(crate) fn of(request: &'a Request) -> Self {
        let (quote, payment) = (&*request.quote, &request.payment);
        Self {
            status: payment.status,
            details: "",
            in_tx_hashes: in_hashes(payment),
            tx_hashes: out_hashes(payment, payment.status),
            updated_at: payment.updated_at,
            origin_chain_id: quote.origin.currency().chain_id,
            destination_chain_id: BASE,
            quote_created_at: quote.created_at,
            fail_reason: payment.fail_reason.as_deref(),
            refund_fail_reason: payment.refund_fail_reason.as_deref(),
        }
    }
}

/// The deposits' transactions.
pub(crate) fn in_hashes(payment: &Payment) -> Vec<&str> {
    payment
        .deposits
        .iter()
        .map(|deposit| deposit.tx.as_str())
        .collect()
}

/// The fill's transaction, or the refunds' where the news is a refund.
pub(crate) fn out_hashes(payment: &Payment, status: Status) -> Vec<&str> {
    if status == Status::Refund {
        payment
            .refunds
            .iter()
            .map(|refund| refund.tx.as_str())
            .collect()
    } else {
        payment.fill.iter().map(|(tx, _)| tx.as_str()).collect()
    }
}

/// A quote's own address.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct DepositAddress<'a> {
    address: &'a str,
    #[serde(rename = "type")]
    kind: &'static str,
    depositor: Option<&'a str>,
    deposit_tx_hash: Option<&'a str>,
    recovery_address: Option<&'a str>,
}

impl<'a> DepositAddress<'a> {
    /// Of a request; none when it is paid by a wallet's transaction.
    pub(crate) fn of(request: &'a Request) -> Option<Self> {
        let kind = match request.quote.target {
            Target::Strict => "strict",
            Target::Open => "open",
            Target::Wallet => return None,
        };
        let first = request.payment.first();
        Some(Self {
            address: &request.quote.address,
            kind,
            depositor: first.map(|_| request.quote.user.as_str()),
            deposit_tx_hash: first.map(|deposit| deposit.tx.as_str()),
            recovery_address: None,
        })
    }
}

/// A row of `/requests/v3`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RowAnswer<'a> {
    id: &'a str,
    status: Status,
    user: &'a str,
    sender: &'a str,
    recipient: &'a str,
    refund_to: Option<&'a str>,
    deposit_address: Option<DepositAddress<'a>>,
    data: RowData<'a>,
    protocol: Protocol<'a>,
    request_type: &'static str,
    features: &'static [&'static str],
    created_at: String,
    updated_at: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct RowData<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    fail_reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    refund_fail_reason: Option<&'a str>,
    time_estimate: u32,
    in_txs: Vec<Transaction<'a>>,
    out_txs: Vec<Transaction<'a>>,
    referrer: Option<&'a str>,
    route: Route<'a>,
    refund_currency_data: Option<Shown<'a>>,
    refunds: Vec<RefundRow<'a>>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Transaction<'a> {
    tx_hash: &'a str,
    fee: &'static str,
    fee_usd: &'static str,
    block: u64,
    #[serde(rename = "type")]
    kind: &'static str,
    chain_id: u64,
    timestamp: u64,
    status: &'static str,
}

#[derive(Debug, Serialize)]
struct Route<'a> {
    quoted: Legs<'a>,
    actual: Option<Legs<'a>>,
}

#[derive(Debug, Serialize)]
struct Legs<'a> {
    origin: Leg<'a>,
    destination: Leg<'a>,
    rate: String,
}

#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "camelCase")]
struct Leg<'a> {
    input_currency: Shown<'a>,
    output_currency: Shown<'a>,
    router: &'static str,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct RefundRow<'a> {
    reason: &'a str,
    amount: Atomic,
    currency: &'static str,
    chain_id: u64,
    tx_hash: &'a str,
    timestamp: u64,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Protocol<'a> {
    order_id: &'a str,
    settlement: Settlement<'a>,
}

#[derive(Debug, Serialize)]
struct Settlement<'a> {
    destination: Moves<'a>,
}

#[derive(Debug, Serialize)]
struct Moves<'a> {
    fills: Vec<Move<'a>>,
    refunds: Vec<Move<'a>>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Move<'a> {
    chain_id: u64,
    transaction_id: &'a str,
}

impl<'a> RowAnswer<'a> {
    /// Of a request.
    pub(crate) fn of(request: &'a Request) -> Self {
        let (quote, payment) = (&*request.quote, &request.payment);
        let disguise = payment
            .plan
            .details
            .recipient
            .as_deref()
            .filter(|_| payment.fill.is_some());
        Self {
            id: &quote.id,
            status: payment.status,
            user: &quote.user,
            sender: &quote.user,
            recipient: disguise.unwrap_or(&quote.recipient),
            refund_to: quote.refund_to.as_deref(),
            deposit_address: DepositAddress::of(request),
            data: data(quote, payment),
            protocol: protocol(quote, payment),
            request_type: if quote.origin.currency().chain_id == BASE {
                "Same-chain Swap"
            } else {
                "Crosschain Swap"
            },
            features: if quote.target == Target::Wallet {
                &[]
            } else {
                &["deposit_address"]
            },
            created_at: time(quote.created_at),
            updated_at: time(payment.updated_at),
        }
    }
}

fn data<'a>(quote: &'a Quote, payment: &'a Payment) -> RowData<'a> {
    let currency = quote.origin.currency();
    let fill = payment.fill.iter().filter(|_| !payment.plan.hide_details);
    RowData {
        fail_reason: payment.fail_reason.as_deref(),
        refund_fail_reason: payment.refund_fail_reason.as_deref(),
        time_estimate: TIME_ESTIMATE_SECONDS,
        in_txs: payment
            .deposits
            .iter()
            .map(|deposit| transaction(&deposit.tx, currency.chain_id, deposit.at))
            .collect(),
        out_txs: fill.map(|(tx, at)| transaction(tx, BASE, *at)).collect(),
        referrer: quote.referrer.as_deref(),
        route: Route {
            quoted: quoted(quote),
            actual: actual(quote, payment),
        },
        refund_currency_data: payment
            .refunds
            .first()
            .map(|refund| currency.show(refund.amount)),
        refunds: payment
            .refunds
            .iter()
            .map(|refund| RefundRow {
                reason: &refund.reason,
                amount: refund.amount,
                currency: currency.address,
                chain_id: currency.chain_id,
                tx_hash: &refund.tx,
                timestamp: refund.at / 1000,
            })
            .collect(),
    }
}

fn protocol<'a>(quote: &'a Quote, payment: &'a Payment) -> Protocol<'a> {
    let chain_id = quote.origin.currency().chain_id;
    Protocol {
        order_id: &quote.id,
        settlement: Settlement {
            destination: Moves {
                fills: payment
                    .fill
                    .iter()
                    .map(|(tx, _)| Move {
                        chain_id: BASE,
                        transaction_id: tx,
                    })
                    .collect(),
                refunds: payment
                    .refunds
                    .iter()
                    .map(|refund| Move {
                        chain_id,
                        transaction_id: &refund.tx,
                    })
                    .collect(),
            },
        },
    }
}

fn transaction(tx_hash: &str, chain_id: u64, at_ms: u64) -> Transaction<'_> {
    Transaction {
        tx_hash,
        fee: "21000",
        fee_usd: "0.001",
        block: at_ms / 1000,
        kind: "onchain",
        chain_id,
        timestamp: at_ms / 1000,
        status: "success",
    }
}

fn quoted(quote: &Quote) -> Legs<'_> {
    let currency = quote.origin.currency();
    legs(currency, quote.input, USDC_BASE.show(quote.output))
}

fn actual<'a>(quote: &'a Quote, payment: &'a Payment) -> Option<Legs<'a>> {
    payment
        .fill
        .as_ref()
        .filter(|_| !payment.plan.hide_details)?;
    let details = &payment.plan.details;
    let output = Shown {
        currency: Face {
            chain_id: details.chain_id.unwrap_or(BASE),
            address: details.currency.as_deref().unwrap_or(USDC_BASE.address),
            currency: &USDC_BASE,
        },
        amount: details.amount.unwrap_or_else(|| payment.output(quote)),
    };
    let input = match quote.target {
        Target::Strict => quote.input,
        Target::Open | Target::Wallet => payment.first().map_or(quote.input, |first| first.amount),
    };
    Some(legs(quote.origin.currency(), input, output))
}

fn legs<'a>(currency: &'static Currency, input: Atomic, output: Shown<'a>) -> Legs<'a> {
    let leg = Leg {
        input_currency: currency.show(input),
        output_currency: output,
        router: "relay",
    };
    Legs {
        origin: leg,
        destination: leg,
        rate: rate(currency, input, output.amount),
    }
}

/// Whole units delivered for one whole unit paid.
pub(crate) fn rate(currency: &Currency, input: Atomic, output: Atomic) -> String {
    let unit = 10_u128.saturating_pow(u32::from(currency.decimals));
    let micros = output
        .0
        .saturating_mul(unit)
        .checked_div(input.0)
        .unwrap_or_default();
    crate::currency::decimal(micros, USDC_BASE.decimals)
}

fn time(ms: u64) -> String {
    i64::try_from(ms)
        .ok()
        .and_then(DateTime::from_timestamp_millis)
        .unwrap_or_default()
        .to_rfc3339_opts(SecondsFormat::Millis, true)
}
