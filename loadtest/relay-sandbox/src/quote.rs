//! What a quote is: checks a request as the provider would, and computes what has to be deposited. No I/O.

use serde::{Deserialize, Serialize};

use crate::{
    currency::{Atomic, BASE, Minimums, Origin, SOLANA, USDC_BASE},
    random::NoRandomness,
};

/// The provider's fee, in micro-dollars, added to what the buyer pays.
pub(crate) const FEE_MICROS: u128 = 20_000;
/// Life of a quote that asked for none, in seconds.
const TTL_SECONDS: u64 = 3600;
/// Longest life a quote can ask for, in seconds.
const TTL_SECONDS_MAX: u64 = 30 * 24 * 3600;
/// Most one quote can deliver, in micro-dollars: a million dollars.
const OUTPUT_MAX: u128 = 1_000_000_000_000;

/// Which side of the swap `amount` fixes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub(crate) enum TradeType {
    /// The buyer pays `amount`.
    #[serde(rename = "EXACT_INPUT")]
    ExactInput,
    /// The recipient gets `amount`.
    #[serde(rename = "EXACT_OUTPUT")]
    ExactOutput,
    /// The recipient should get `amount`; served as exact here.
    #[serde(rename = "EXPECTED_OUTPUT")]
    ExpectedOutput,
}

/// The body of `POST /quote/v2`; fields the sandbox has no use for are ignored.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct QuoteRequest {
    user: String,
    recipient: Option<String>,
    origin_chain_id: u64,
    destination_chain_id: u64,
    origin_currency: String,
    destination_currency: String,
    amount: String,
    trade_type: TradeType,
    #[serde(default)]
    use_deposit_address: bool,
    #[serde(default)]
    strict: bool,
    refund_to: Option<String>,
    ttl: Option<u64>,
    referrer: Option<String>,
}

/// Where a quote wants its money.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Target {
    /// An address for this quote alone that takes the exact amount.
    Strict,
    /// An address for this quote that takes any amount.
    Open,
    /// A transaction of the buyer's wallet; no address of its own.
    Wallet,
}

/// A quote as given: never changes.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Quote {
    /// `0x` and 64 hex: the provider's request id.
    pub(crate) id: String,
    /// The buyer's wallet on the origin chain.
    pub(crate) user: String,
    /// Who gets the output.
    pub(crate) recipient: String,
    /// Where refunds go; without it there are none.
    pub(crate) refund_to: Option<String>,
    /// Who sent the buyer.
    pub(crate) referrer: Option<String>,
    /// What the buyer pays with.
    pub(crate) origin: Origin,
    /// How much of it.
    pub(crate) input: Atomic,
    /// What arrives, of Base USDC.
    pub(crate) output: Atomic,
    /// Strict address, open address or wallet.
    pub(crate) target: Target,
    /// The address to pay to.
    pub(crate) address: String,
    /// When it was given, in milliseconds since the epoch.
    pub(crate) created_at: u64,
    /// From when a deposit is late, in milliseconds since the epoch.
    pub(crate) expires_at: u64,
}

/// Why there is no quote.
#[derive(Debug)]
pub(crate) enum QuoteRefusal {
    /// One of the provider's error codes, with its words.
    Code(&'static str, String),
    /// The body is not of the right form; the provider names no code then.
    Form(String),
    /// Nothing to make an id of.
    Entropy(NoRandomness),
}

impl From<NoRandomness> for QuoteRefusal {
    fn from(error: NoRandomness) -> Self {
        Self::Entropy(error)
    }
}

fn code(code: &'static str, message: impl Into<String>) -> QuoteRefusal {
    QuoteRefusal::Code(code, message.into())
}

/// A request that passed every check, priced, before it has an id.
#[derive(Debug)]
pub(crate) struct Priced {
    request: QuoteRequest,
    recipient: String,
    origin: Origin,
    input: Atomic,
    output: Atomic,
    target: Target,
}

/// Checks and prices a request, in the order the provider refuses.
pub(crate) fn price(request: QuoteRequest, minimums: Minimums) -> Result<Priced, QuoteRefusal> {
    let origin = route(&request)?;
    let recipient = parties(&request)?;
    let target = target(&request)?;
    let amount = request
        .amount
        .parse::<u128>()
        .map_err(|_| QuoteRefusal::Form("body/amount must match pattern \"^[0-9]+$\"".into()))?;
    let (input, output) = amounts(origin, request.trade_type, amount)?;
    if output.0 == 0 || output.0 < u128::from(minimums.of(origin)) {
        return Err(code(
            "AMOUNT_TOO_LOW",
            "Swap output amount is too small to cover fees required to execute swap",
        ));
    }
    Ok(Priced {
        request,
        recipient,
        origin,
        input,
        output,
        target,
    })
}

impl Priced {
    /// Gives the quote its id and address. Its life counts from `now_ms`.
    pub(crate) fn issue(self, id: String, address: String, now_ms: u64) -> Quote {
        let ttl = self.request.ttl.unwrap_or(TTL_SECONDS).min(TTL_SECONDS_MAX);
        Quote {
            id,
            user: self.request.user,
            recipient: self.recipient,
            refund_to: self.request.refund_to,
            referrer: self.request.referrer,
            origin: self.origin,
            input: self.input,
            output: self.output,
            target: self.target,
            address,
            created_at: now_ms,
            expires_at: now_ms.saturating_add(ttl.saturating_mul(1000)),
        }
    }

    /// The chain the money comes from.
    pub(crate) const fn chain_id(&self) -> u64 {
        self.origin.currency().chain_id
    }
}

fn route(request: &QuoteRequest) -> Result<Origin, QuoteRefusal> {
    for chain in [request.origin_chain_id, request.destination_chain_id] {
        if chain != BASE && chain != SOLANA {
            return Err(code(
                "UNSUPPORTED_CHAIN",
                format!("Chain {chain} is not supported"),
            ));
        }
    }
    let origin = Origin::find(request.origin_chain_id, &request.origin_currency)
        .ok_or_else(|| code("INVALID_INPUT_CURRENCY", "Invalid input or output currency"))?;
    let output = Origin::find(request.destination_chain_id, &request.destination_currency)
        .ok_or_else(|| {
            code(
                "INVALID_OUTPUT_CURRENCY",
                "Invalid input or output currency",
            )
        })?;
    if output == Origin::Usdc {
        Ok(origin)
    } else {
        Err(code(
            "UNSUPPORTED_ROUTE",
            "The sandbox delivers USDC on Base only",
        ))
    }
}

fn parties(request: &QuoteRequest) -> Result<String, QuoteRefusal> {
    let chain = request.origin_chain_id;
    if !is_address(chain, &request.user) {
        return Err(code(
            "INVALID_ADDRESS",
            format!("Invalid address {} for chain {chain}", request.user),
        ));
    }
    if let Some(refund_to) = &request.refund_to
        && !is_address(chain, refund_to)
    {
        return Err(code(
            "INVALID_ADDRESS",
            format!("Invalid refundTo address {refund_to} for chain {chain}"),
        ));
    }
    let recipient = request.recipient.as_ref().unwrap_or(&request.user);
    if is_address(request.destination_chain_id, recipient) {
        Ok(recipient.clone())
    } else {
        Err(code(
            "INVALID_RECIPIENT",
            format!("Invalid recipient {recipient}"),
        ))
    }
}

fn target(request: &QuoteRequest) -> Result<Target, QuoteRefusal> {
    let execution = |message: &str| Err(code("UNSUPPORTED_EXECUTION_TYPE", message));
    match (request.use_deposit_address, request.strict) {
        (false, true) => execution("strict requires useDepositAddress"),
        (true, true) if request.refund_to.is_none() => {
            execution("strict requires a refundTo address")
        }
        (true, true) => Ok(Target::Strict),
        (true, false) if request.trade_type != TradeType::ExactInput => {
            execution("EXACT_OUTPUT deposit-address requests are only supported in strict mode")
        }
        (true, false) => Ok(Target::Open),
        (false, false) => Ok(Target::Wallet),
    }
}

fn amounts(
    origin: Origin,
    trade: TradeType,
    amount: u128,
) -> Result<(Atomic, Atomic), QuoteRefusal> {
    let too_much = || {
        code(
            "INSUFFICIENT_LIQUIDITY",
            "Insufficient solver liquidity for this amount",
        )
    };
    let (input, output) = match trade {
        TradeType::ExactInput => (Atomic(amount), delivered(origin, Atomic(amount))),
        TradeType::ExactOutput | TradeType::ExpectedOutput => {
            let paid = amount.checked_add(FEE_MICROS).ok_or_else(too_much)?;
            (
                origin.currency().worth(paid).ok_or_else(too_much)?,
                Atomic(amount),
            )
        }
    };
    if output.0 > OUTPUT_MAX {
        return Err(too_much());
    }
    Ok((input, output))
}

/// What an input delivers after the fee.
pub(crate) fn delivered(origin: Origin, input: Atomic) -> Atomic {
    // A micro-dollar is the smallest unit of the currency delivered.
    debug_assert_eq!(USDC_BASE.decimals, 6);
    Atomic(origin.currency().micros(input).saturating_sub(FEE_MICROS))
}

fn is_address(chain_id: u64, text: &str) -> bool {
    if chain_id == SOLANA {
        // 32 bytes are at most 44 letters of base58.
        text.len() <= 44
            && bs58::decode(text)
                .into_vec()
                .is_ok_and(|bytes| bytes.len() == 32)
    } else {
        text.strip_prefix("0x").is_some_and(|hex| {
            hex.len() == 40 && hex.bytes().all(|digit| digit.is_ascii_hexdigit())
        })
    }
}
