//! What the provider says, read leniently: what is missing or new is no reason to fail.

use chrono::{DateTime, Utc};
use crochet_shared::header::is_relay_request_id;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

/// Most digits of an amount: a 256-bit number.
const AMOUNT_DIGITS_MAX: usize = 78;
/// Longest text of the provider's that is kept (a status, a reason, a hash).
const TEXT_MAX: usize = 128;
/// Most transactions of one request that are kept.
const HASHES_MAX: usize = 16;
/// Why the provider sends part of one deposit back: it was more than asked.
const EXCESS: &str = "EXCESS";
/// Why the provider sends a second deposit to one address back.
const SECOND_DEPOSIT: &str = "DOUBLE_SPEND";

/// Where the provider says a payment stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// No deposit seen.
    Waiting,
    /// A deposit is seen, the payment under way.
    UnderWay,
    /// Filled.
    Success,
    /// Failed; may still become a refund.
    Failure,
    /// Sent back.
    Refund,
    /// A word we do not know. Counts as pending.
    Unknown,
}

impl Status {
    /// Reads the provider's word.
    pub fn parse(text: &str) -> Self {
        match text {
            "waiting" => Self::Waiting,
            "depositing" | "pending" | "submitted" | "delayed" => Self::UnderWay,
            "success" => Self::Success,
            "failure" => Self::Failure,
            "refund" | "refunded" => Self::Refund,
            _ => Self::Unknown,
        }
    }
}

/// What a fill delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// On which chain.
    pub chain_id: i64,
    /// The token's address there.
    pub token: String,
    /// Atomic units, as decimal digits.
    pub amount: String,
}

/// What became of a request's deposits. The row's status is its newest word, which may be about a second
/// deposit; these say what happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moved {
    /// How often somebody paid.
    pub deposits: usize,
    /// How many of them were sent back whole; `None` when the row does not say.
    pub given_back: Option<usize>,
    /// Whether only what was paid too much was sent back.
    pub excess_only: bool,
    /// How many fills there were: what went out and was no refund.
    pub fills: usize,
}

impl Moved {
    fn read(row: &Value) -> Self {
        let list = |path| row.pointer(path).and_then(Value::as_array);
        let refunds = list("/data/refunds");
        let sent_back = |transaction: &Value| {
            let hash = hash(transaction);
            let same = |refund: &Value| hash.is_some() && self::hash(refund) == hash;
            refunds.is_some_and(|refunds| refunds.iter().any(same))
        };
        let whole = |refund: &&Value| refund.get("reason").and_then(Value::as_str) != Some(EXCESS);
        let given_back = refunds.map(|refunds| refunds.iter().filter(whole).count());
        // The settlement's own list gives no reasons.
        let settled_back = || list("/protocol/settlement/destination/refunds").map(Vec::len);
        let fills = list("/protocol/settlement/destination/fills").map(Vec::len);
        // Among what went out may be refunds: without their list nothing tells the fill.
        let out = || match (refunds, list("/data/outTxs")) {
            (Some(_), Some(out)) => out.iter().filter(|sent| !sent_back(sent)).count(),
            (None, _) | (_, None) => 0,
        };
        Self {
            deposits: list("/data/inTxs").map_or(0, Vec::len),
            given_back: given_back.or_else(settled_back),
            excess_only: given_back == Some(0)
                && refunds.is_some_and(|refunds| !refunds.is_empty()),
            fills: fills.unwrap_or_else(out),
        }
    }
}

/// One row of `/requests/v3`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The request's id.
    pub id: String,
    /// Where it stands.
    pub status: Status,
    /// The provider's own word for it.
    pub status_text: String,
    /// Who received the fill.
    pub recipient: Option<String>,
    /// What was delivered; absent until the fill, and sometimes a little after.
    pub output: Option<Output>,
    /// Why it failed.
    pub fail_reason: Option<String>,
    /// Who asked for the quote.
    pub referrer: Option<String>,
    /// The deposits.
    pub in_tx_hashes: Vec<String>,
    /// The fill.
    pub out_tx_hashes: Vec<String>,
    /// What became of the deposits, whatever the newest word is about.
    pub moved: Moved,
    /// When the provider last changed it.
    pub updated_at: Option<DateTime<Utc>>,
}

impl Record {
    /// Reads a row; `None` when it does not even name its request.
    pub fn read(row: &Value) -> Option<Self> {
        let id = row.get("id")?.as_str()?;
        if !is_relay_request_id(id.as_bytes()) {
            return None;
        }
        let status_text = text(row.get("status")).unwrap_or_default();
        Some(Self {
            id: id.to_owned(),
            status: Status::parse(&status_text),
            status_text,
            recipient: text(row.get("recipient")),
            output: row
                .pointer("/data/route/actual/destination/outputCurrency")
                .and_then(read_output),
            fail_reason: text(row.pointer("/data/failReason")),
            referrer: text(row.pointer("/data/referrer")),
            in_tx_hashes: hashes(row.pointer("/data/inTxs")),
            out_tx_hashes: hashes(row.pointer("/data/outTxs")),
            updated_at: row.get("updatedAt").and_then(time),
            moved: Moved::read(row),
        })
    }

    /// Whether a deposit was filled: the provider says success, or it speaks of a refund of another
    /// deposit, or of its failure, than the one that it filled.
    pub fn is_filled(&self) -> bool {
        let speaks_of_another = matches!(self.status, Status::Refund | Status::Failure)
            && self.moved.fills > 0
            && self.keeps_a_deposit();
        self.status == Status::Success || speaks_of_another
    }

    /// Whether what was sent back was a second deposit and the first is not decided.
    pub fn only_second_is_refunded(&self) -> bool {
        self.status == Status::Refund && self.is_about_a_second() && !self.gave_all_back()
    }

    /// Whether the payment itself was sent back, and not a second deposit to the same address, which is
    /// told on the same request and changes nothing about the first.
    pub fn is_refunded(&self) -> bool {
        let all = self.moved.given_back.is_none() || self.gave_all_back();
        self.status == Status::Refund && !self.is_about_a_second() && all && !self.is_filled()
    }

    fn is_about_a_second(&self) -> bool {
        self.fail_reason.as_deref() == Some(SECOND_DEPOSIT)
    }

    fn gave_all_back(&self) -> bool {
        let known = |given_back| given_back > 0 && given_back >= self.moved.deposits;
        self.moved.given_back.is_some_and(known)
    }

    fn keeps_a_deposit(&self) -> bool {
        // A refund that is not listed is one all the same.
        let unlisted = usize::from(!self.moved.excess_only);
        self.moved.deposits > self.moved.given_back.unwrap_or(unlisted).max(unlisted)
    }
}

/// One page of `/requests/v3`.
#[derive(Debug, Default)]
pub struct Page {
    /// Its rows, those that can be read.
    pub records: Vec<Record>,
    /// How to ask for the next page.
    pub continuation: Option<String>,
}

impl Page {
    /// Reads a page; `None` when it is none.
    pub fn read(body: &[u8]) -> Option<Self> {
        let body: Value = serde_json::from_slice(body).ok()?;
        let rows = body.get("requests")?.as_array()?;
        let continuation = body.get("continuation").and_then(Value::as_str);
        Some(Self {
            records: rows.iter().filter_map(Record::read).collect(),
            continuation: continuation
                .filter(|text| !text.is_empty())
                .map(str::to_owned),
        })
    }
}

/// A quote as the provider gave it.
#[derive(Debug)]
pub struct ProviderQuote {
    /// The provider's id of the payment.
    pub request_id: String,
    /// Where to pay.
    pub deposit_address: String,
    /// What to pay: atomic units of the origin currency, as decimal digits.
    pub amount: String,
    /// The same for people.
    pub amount_formatted: Option<String>,
    /// The steps, untouched.
    pub steps: Box<RawValue>,
    /// The fees, untouched.
    pub fees: Option<Box<RawValue>>,
    /// How long a fill takes.
    pub time_estimate_seconds: Option<i64>,
}

#[derive(Deserialize)]
struct QuoteBody {
    steps: Box<RawValue>,
    fees: Option<Box<RawValue>>,
    details: Value,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Step {
    request_id: Option<String>,
    deposit_address: Option<String>,
}

impl ProviderQuote {
    /// Reads a quote that delivers exactly `output` atomic units; `None` when it is anything else.
    pub fn read(body: &[u8], output: i64) -> Option<Self> {
        let body: QuoteBody = serde_json::from_slice(body).ok()?;
        let steps: Vec<Step> = serde_json::from_str(body.steps.get()).ok()?;
        let request_id = steps.iter().find_map(|step| step.request_id.clone())?;
        let deposit_address = steps.into_iter().find_map(|step| step.deposit_address)?;
        let delivered = body.details.pointer("/currencyOut/amount").and_then(digits);
        let amount = body
            .details
            .pointer("/currencyIn/amount")
            .and_then(digits)?;
        if !is_relay_request_id(request_id.as_bytes())
            || deposit_address.is_empty()
            || deposit_address.len() > TEXT_MAX
            || delivered.is_some_and(|delivered| delivered != output.to_string())
        {
            return None;
        }
        Some(Self {
            request_id,
            deposit_address,
            amount,
            amount_formatted: text(body.details.pointer("/currencyIn/amountFormatted")),
            steps: body.steps,
            fees: body.fees,
            time_estimate_seconds: body.details.get("timeEstimate").and_then(Value::as_i64),
        })
    }
}

fn read_output(output: &Value) -> Option<Output> {
    let chain = output.pointer("/currency/chainId")?;
    let chain_id = chain
        .as_i64()
        .or_else(|| chain.as_str().and_then(|text| text.parse().ok()))?;
    Some(Output {
        chain_id,
        token: text(output.pointer("/currency/address"))?,
        amount: digits(output.get("amount")?)?,
    })
}

/// An amount: decimal digits as text, or a whole number.
fn digits(value: &Value) -> Option<String> {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.as_u64()?.to_string(),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => return None,
    };
    let plain =
        (1..=AMOUNT_DIGITS_MAX).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    plain.then_some(text)
}

/// Text worth keeping: bounded, and without the NUL that Postgres refuses.
fn text(value: Option<&Value>) -> Option<String> {
    let text = value?.as_str()?;
    let kept: String = text
        .chars()
        .filter(|c| !c.is_control())
        .take(TEXT_MAX)
        .collect();
    (!kept.is_empty()).then_some(kept)
}

fn hashes(transactions: Option<&Value>) -> Vec<String> {
    let Some(transactions) = transactions.and_then(Value::as_array) else {
        return Vec::new();
    };
    transactions
        .iter()
        .filter_map(hash)
        .take(HASHES_MAX)
        .collect()
}

fn hash(transaction: &Value) -> Option<String> {
    text(
        transaction
            .get("txHash")
            .or_else(|| transaction.get("hash")),
    )
}

fn time(value: &Value) -> Option<DateTime<Utc>> {
    match value {
        Value::String(text) => DateTime::parse_from_rfc3339(text)
            .ok()
            .map(|time| time.to_utc()),
        Value::Number(number) => DateTime::from_timestamp_millis(number.as_i64()?),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn row() -> Value {
        json!({"id": "0xab", "status": "success", "recipient": "0xR", "updatedAt": "2026-08-01T12:00:00.000Z",
            "data": {"inTxs": [{"txHash": "a"}], "outTxs": [{"hash": "b"}], "referrer": "crochet",
                "route": {"actual": {"destination": {"outputCurrency":
                    {"currency": {"chainId": 8453, "address": "0xT"}, "amount": "1000000"}}}}}})
    }

    #[test]
    fn a_record_is_read_whole() {
        let record = Record::read(&row()).unwrap();
        assert_eq!(record.status, Status::Success);
        let output = record.output.unwrap();
        assert_eq!((output.chain_id, output.amount.as_str()), (8453, "1000000"));
        assert_eq!(record.out_tx_hashes, ["b"]);
        assert!(record.updated_at.is_some());
    }

    #[test]
    fn what_is_missing_or_odd_is_left_out() {
        let mut odd = row();
        odd["status"] = json!("brand-new");
        odd["updatedAt"] = json!({});
        odd["data"]["route"]["actual"] = Value::Null;
        odd["data"]["inTxs"] = json!(7);
        odd["data"]["refunds"] = json!("none");
        let record = Record::read(&odd).unwrap();
        assert_eq!(record.status, Status::Unknown);
        assert_eq!((record.output, record.updated_at), (None, None));
        for amount in [
            json!("-1"),
            json!("1.5"),
            json!(""),
            json!("9".repeat(79)),
            json!(1.5),
        ] {
            let mut odd = row();
            odd["data"]["route"]["actual"]["destination"]["outputCurrency"]["amount"] = amount;
            assert_eq!(Record::read(&odd).unwrap().output, None);
        }
        assert!(Record::read(&json!({"status": "success"})).is_none());
        assert!(Record::read(&json!({"id": "a b"})).is_none());
        assert!(Page::read(b"<html>").is_none());
        assert!(Page::read(b"{}").is_none());
    }

    #[test]
    fn what_became_of_the_deposits_is_read_whatever_the_status_says() {
        let refunded = |deposits: usize, refunds: Value| {
            let mut row = row();
            row["status"] = json!("refund");
            row["data"]["inTxs"] = json!(vec![json!({"txHash": "a"}); deposits]);
            row["data"]["refunds"] = refunds;
            row
        };
        let second = json!([{"reason": "DOUBLE_SPEND", "txHash": "c"}]);
        let record = Record::read(&refunded(2, second.clone())).unwrap();
        assert_eq!(
            record.moved,
            Moved {
                deposits: 2,
                given_back: Some(1),
                excess_only: false,
                fills: 1
            }
        );
        assert!(record.is_filled() && !record.is_refunded());

        // The money that went out was the refund itself.
        let own = json!([{"reason": "UNKNOWN", "txHash": "b"}]);
        let record = Record::read(&refunded(1, own)).unwrap();
        assert_eq!(record.moved.fills, 0);
        assert!(!record.is_filled() && record.is_refunded());

        // Filled once, and sent back all the same: nothing is kept.
        let both = json!([{"reason": "DOUBLE_SPEND", "txHash": "c"}, {"reason": "UNKNOWN", "txHash": "d"}]);
        let record = Record::read(&refunded(2, both)).unwrap();
        assert!(!record.is_filled() && record.is_refunded());

        // An excess that goes back is no deposit that goes back.
        let excess =
            json!([{"reason": "EXCESS", "txHash": "c"}, {"reason": "TTL_EXPIRED", "txHash": "d"}]);
        let record = Record::read(&refunded(2, excess)).unwrap();
        assert_eq!(record.moved.given_back, Some(1));
        assert!(record.is_filled() && !record.is_refunded());

        // Without a list of refunds, what went out may be one.
        let record = Record::read(&refunded(2, Value::Null)).unwrap();
        assert_eq!(record.moved.given_back, None);
        assert!(!record.is_filled() && record.is_refunded());
        let mut told = refunded(2, Value::Null);
        told["protocol"]["settlement"]["destination"]["fills"] = json!([{"transactionId": "b"}]);
        let record = Record::read(&told).unwrap();
        assert!(
            record.is_filled() && !record.is_refunded(),
            "the first was filled and kept"
        );
        // The settlement's own list of refunds is one, too.
        told["protocol"]["settlement"]["destination"]["refunds"] =
            json!([{"transactionId": "c"}, {"transactionId": "d"}]);
        let record = Record::read(&told).unwrap();
        assert_eq!(record.moved.given_back, Some(2));
        assert!(!record.is_filled() && record.is_refunded());

        // The only deposit was filled, and what was too much of it went back.
        let excess = json!([{"reason": "EXCESS", "txHash": "c"}]);
        let mut row = refunded(1, excess);
        let record = Record::read(&row).unwrap();
        assert!(record.is_filled() && !record.is_refunded());
        row["data"]["refunds"] = json!([]);
        assert!(
            !Record::read(&row).unwrap().is_filled(),
            "a refund that is not listed is one"
        );

        // A refund that could not be sent is a failure of the second deposit alone.
        let mut failed = refunded(2, json!([{"reason": "DOUBLE_SPEND", "txHash": "c"}]));
        failed["status"] = json!("failure");
        assert!(Record::read(&failed).unwrap().is_filled());
    }

    #[test]
    fn a_quote_for_another_amount_is_none() {
        let body = |amount: &str| {
            json!({"steps": [{"requestId": "0x1", "depositAddress": "d"}],
                "details": {"currencyIn": {"amount": "5"}, "currencyOut": {"amount": amount}}})
            .to_string()
        };
        assert!(ProviderQuote::read(body("7").as_bytes(), 7).is_some());
        assert!(ProviderQuote::read(body("8").as_bytes(), 7).is_none());
    }
}
