//! `POST /quote/v2`.

use std::sync::Arc;

use axum::{
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::Response,
};
use serde::Serialize;

use super::{
    App, broken,
    gate::{self, Endpoint},
    json_bytes, parse, refuse, refuse_with,
};
use crate::{
    currency::{Atomic, Currency, SOL, SOLANA, Shown, USDC_BASE, decimal},
    quote::{self, FEE_MICROS, Quote, QuoteRefusal, Target},
    random,
    show::{TIME_ESTIMATE_SECONDS, rate},
};

/// The provider's depository, where a wallet's own transaction goes.
const DEPOSITORY: &str = "0x4cd00e387622c35bddb9b4c962c136462338bc31";
/// Gas of a plain transfer.
const GAS: &str = "27300";
/// Solana's program for native transfers.
const SYSTEM_PROGRAM: &str = "11111111111111111111111111111111";
/// Solana's program for token transfers.
const TOKEN_PROGRAM: &str = "TokenkegQfeZyiNwAJbNbGKPFXCWuBvf9Ss623VQ5DA";

pub(super) async fn quote(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    match answer(&app, &headers, &body).await {
        Ok(response) => response,
        Err(response) => *response,
    }
}

async fn answer(app: &App, headers: &HeaderMap, body: &Bytes) -> Result<Response, Box<Response>> {
    gate::enter(app, Endpoint::Quote, headers).await?;
    let quote = issue(app, parse(body)?).map_err(|refusal| Box::new(show(&refusal)))?;
    let response = json_bytes(&QuoteAnswer::of(&quote));
    match app.store.lock().add(quote) {
        Ok(()) => Ok(response),
        Err(error) => Err(Box::new(broken(&error))),
    }
}

fn issue(app: &App, request: quote::QuoteRequest) -> Result<Quote, QuoteRefusal> {
    let priced = quote::price(request, app.minimums)?;
    let id = random::hex(&random::bytes::<32>()?);
    let address = random::address(priced.chain_id())?;
    Ok(priced.issue(id, address, app.clock.now_ms()))
}

fn show(refusal: &QuoteRefusal) -> Response {
    match refusal {
        QuoteRefusal::Code(code, message) => refuse_with(StatusCode::BAD_REQUEST, code, message),
        QuoteRefusal::Form(message) => refuse(StatusCode::BAD_REQUEST, message),
        QuoteRefusal::Entropy(_) => broken(&anyhow::anyhow!("no randomness")),
    }
}

#[derive(Serialize)]
struct QuoteAnswer<'a> {
    steps: [Step<'a>; 1],
    fees: Fees<'a>,
    details: Details<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Step<'a> {
    id: &'static str,
    action: &'static str,
    description: &'static str,
    kind: &'static str,
    request_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    deposit_address: Option<&'a str>,
    items: [Item<'a>; 1],
}

#[derive(Serialize)]
struct Item<'a> {
    status: &'static str,
    data: Payload<'a>,
    check: Check,
}

#[derive(Serialize)]
struct Check {
    endpoint: String,
    method: &'static str,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Payload<'a> {
    #[serde(rename_all = "camelCase")]
    Evm {
        from: &'a str,
        to: &'a str,
        data: String,
        value: String,
        chain_id: u64,
        gas: &'static str,
        max_fee_per_gas: &'static str,
        max_priority_fee_per_gas: &'static str,
    },
    #[serde(rename_all = "camelCase")]
    Solana {
        instructions: [Instruction<'a>; 1],
        address_lookup_table_addresses: [&'a str; 0],
    },
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Instruction<'a> {
    keys: Vec<Key<'a>>,
    program_id: &'static str,
    data: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Key<'a> {
    pubkey: &'a str,
    is_signer: bool,
    is_writable: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Fees<'a> {
    gas: Shown<'a>,
    relayer: Shown<'a>,
    relayer_gas: Shown<'a>,
    relayer_service: Shown<'a>,
    app: Shown<'a>,
    subsidized: Shown<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Details<'a> {
    operation: &'static str,
    sender: &'a str,
    recipient: &'a str,
    currency_in: Shown<'a>,
    currency_out: Shown<'a>,
    total_impact: Impact,
    rate: String,
    time_estimate: u32,
    user_balance: &'static str,
}

#[derive(Serialize)]
struct Impact {
    usd: String,
    percent: String,
}

impl<'a> QuoteAnswer<'a> {
    fn of(quote: &'a Quote) -> Self {
        let currency = quote.origin.currency();
        Self {
            steps: [step(quote, currency)],
            fees: fees(currency),
            details: Details {
                operation: if *currency == USDC_BASE {
                    "send"
                } else {
                    "swap"
                },
                sender: &quote.user,
                recipient: &quote.recipient,
                currency_in: currency.show(quote.input),
                currency_out: USDC_BASE.show(quote.output),
                total_impact: impact(quote),
                rate: rate(currency, quote.input, quote.output),
                time_estimate: TIME_ESTIMATE_SECONDS,
                user_balance: "0",
            },
        }
    }
}

fn step<'a>(quote: &'a Quote, currency: &'static Currency) -> Step<'a> {
    Step {
        id: "deposit",
        action: "Confirm transaction in your wallet",
        description: "Depositing funds to the relayer to execute the swap for USDC",
        kind: "transaction",
        request_id: &quote.id,
        deposit_address: (quote.target != Target::Wallet).then_some(quote.address.as_str()),
        items: [Item {
            status: "incomplete",
            data: if currency.chain_id == SOLANA {
                solana(quote, currency)
            } else {
                evm(quote, currency)
            },
            check: Check {
                endpoint: format!("/intents/status/v3?requestId={}", quote.id),
                method: "GET",
            },
        }],
    }
}

fn evm<'a>(quote: &'a Quote, currency: &'static Currency) -> Payload<'a> {
    let payee = match quote.target {
        Target::Wallet => DEPOSITORY,
        Target::Strict | Target::Open => quote.address.as_str(),
    };
    let amount = quote.input.0;
    let (to, data, value) = if currency.native {
        // A wallet's transaction names its request; to an address of its own it needs not.
        let tag = if quote.target == Target::Wallet {
            quote.id.clone()
        } else {
            "0x".to_owned()
        };
        (payee, tag, amount.to_string())
    } else {
        let payee = payee.trim_start_matches("0x").to_ascii_lowercase();
        // transfer(address,uint256)
        let call = format!("0xa9059cbb{payee:0>64}{amount:064x}");
        (currency.address, call, "0".to_owned())
    };
    Payload::Evm {
        from: &quote.user,
        to,
        data,
        value,
        chain_id: currency.chain_id,
        gas: GAS,
        max_fee_per_gas: "12205661",
        max_priority_fee_per_gas: "2037863",
    }
}

fn solana<'a>(quote: &'a Quote, currency: &'static Currency) -> Payload<'a> {
    let amount = u64::try_from(quote.input.0)
        .unwrap_or(u64::MAX)
        .to_le_bytes();
    let key = |pubkey, is_signer, is_writable| Key {
        pubkey,
        is_signer,
        is_writable,
    };
    let instruction = if currency.native {
        // SystemProgram transfer: index 2 as u32, then lamports as u64, little endian.
        Instruction {
            keys: vec![
                key(&quote.user, true, true),
                key(&quote.address, false, true),
            ],
            program_id: SYSTEM_PROGRAM,
            data: tail(&random::hex(&[2, 0, 0, 0]), &amount),
        }
    } else {
        // Token transferChecked: 12, amount as u64, decimals.
        let mut data = tail("0x0c", &amount);
        data.push_str("06");
        Instruction {
            keys: vec![
                key(&quote.user, false, true),
                key(currency.address, false, false),
                key(&quote.address, false, true),
                key(&quote.user, true, false),
            ],
            program_id: TOKEN_PROGRAM,
            data,
        }
    };
    Payload::Solana {
        instructions: [instruction],
        address_lookup_table_addresses: [],
    }
}

/// Instruction data in the provider's form: hex without `0x`.
fn tail(head: &str, amount: &[u8]) -> String {
    let bare = |hex: &str| hex.strip_prefix("0x").unwrap_or(hex).to_owned();
    bare(head) + &bare(&random::hex(amount))
}

fn fees(currency: &'static Currency) -> Fees<'static> {
    let fee = currency.show(currency.worth(FEE_MICROS).unwrap_or(Atomic(0)));
    let none = currency.show(Atomic(0));
    let gas = if currency.chain_id == SOLANA {
        SOL.show(Atomic(5000))
    } else {
        crate::currency::ETH.show(Atomic(333_214_545_300))
    };
    Fees {
        gas,
        relayer: fee,
        relayer_gas: none,
        relayer_service: fee,
        app: USDC_BASE.show(Atomic(0)),
        subsidized: USDC_BASE.show(Atomic(0)),
    }
}

fn impact(quote: &Quote) -> Impact {
    let paid = quote.origin.currency().micros(quote.input);
    let hundredths = FEE_MICROS
        .saturating_mul(10_000)
        .checked_div(paid)
        .unwrap_or_default();
    Impact {
        usd: format!("-{}", decimal(FEE_MICROS, 6)),
        percent: format!("-{}", decimal(hundredths, 2)),
    }
}
