//! The pure rules of a payment: its states, what the provider's record means, what is shown.

use chrono::{DateTime, Utc};
use crochet_shared::internal::CheckAnswer;

pub use crate::ledger::entry::RequestState as State;

use super::relay::{Output, Record, Status};

/// How long after a quote's `expires_at` the provider still takes its deposit, in seconds: the
/// provider's time less this is what the buyer is told (contract §5).
pub const EXPIRY_MARGIN_SECONDS: u32 = 120;
/// How much longer than the endpoint's `timeout_ms` a claim is held, in milliseconds.
pub const LEASE_MARGIN_MS: u32 = 30_000;
/// One look at the provider per payment in this time, in seconds.
pub const CHECK_SECONDS_MIN: u32 = 2;
/// How long an answer is stored, in seconds.
pub const ANSWER_SECONDS: u32 = 24 * 3600;
/// What was paid beyond prices is worth sending back from here on, in micro-dollars owed to one buyer together: a
/// transfer of our own costs up to a cent in gas on the chains that we pay on, and the provider sends no refund that
/// is smaller than its gas either. Less is dust: owed, in the books and on the list, and sent with what else becomes
/// due to her; no alert asks for it.
pub const SURPLUS_WORTH_MICROS: i64 = 10_000;
/// What a buyer is told to wait when the provider has seen nothing yet, in seconds.
const RETRY_WAITING_SECONDS: u32 = 2;
/// What a buyer is told to wait when her deposit is under way, in seconds.
const RETRY_UNDER_WAY_SECONDS: u32 = 1;

/// What a payment was quoted to deliver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quoted {
    /// To whom.
    pub recipient: String,
    /// On which chain.
    pub chain_id: i64,
    /// In which token.
    pub token: String,
    /// How many atomic units at least.
    pub amount: i64,
}

/// What the provider's record says of a payment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// Success, with all details.
    Success(Arrived),
    /// The provider failed or refunded it.
    Failed,
    /// A deposit is known; not yet a success with details.
    UnderWay,
    /// No deposit is known.
    Nothing,
}

/// What a success delivered, compared with the quote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrived {
    /// Whether recipient, chain, token and amount are as quoted.
    pub matches: bool,
    /// Micro-dollars that reached us; `None` when what arrived is not the settlement token at our
    /// address, or is more than can be counted.
    pub received: Option<i64>,
}

/// Judges a record (`None`: the provider knows no such request) against the quote.
pub fn news(record: Option<&Record>, quoted: &Quoted) -> News {
    let Some(record) = record else {
        return News::Nothing;
    };
    if record.is_filled() {
        return match &record.output {
            Some(output) => News::Success(arrived(record, output, quoted)),
            // A fill without its details is not yet evidence.
            None => News::UnderWay,
        };
    }
    match record.status {
        // The first deposit is still to be filled, or to be sent back: a second one is not what tells. Nor does it
        // when the provider never lists what it sent back, and it may have filled the first. To call that a success
        // would be to deliver without evidence; to call it a failure, to ask a buyer for a second payment whose
        // first we may have kept. So it stays under way, is asked about again, and is told to operators by its age
        // (`crochet_deposit_oldest_seconds`): what became of the first only the provider knows.
        Status::Refund if record.only_second_is_refunded() => News::UnderWay,
        Status::Failure | Status::Refund => News::Failed,
        Status::Waiting => News::Nothing,
        // A word we do not know: a deposit tells.
        Status::Unknown if record.in_tx_hashes.is_empty() => News::Nothing,
        Status::Success | Status::UnderWay | Status::Unknown => News::UnderWay,
    }
}

fn arrived(record: &Record, output: &Output, quoted: &Quoted) -> Arrived {
    let recipient = record.recipient.as_deref().unwrap_or_default();
    let ours = recipient.eq_ignore_ascii_case(&quoted.recipient)
        && output.chain_id == quoted.chain_id
        && output.token.eq_ignore_ascii_case(&quoted.token);
    let amount = output.amount.parse::<i64>().ok();
    let enough = match amount {
        Some(amount) => amount >= quoted.amount,
        // Digits that do not fit are more than any price.
        None => true,
    };
    Arrived {
        matches: ours && enough,
        received: amount.filter(|_| ours),
    }
}

/// What a check answers, from the news just heard and the state the row is in after it.
pub fn check_answer(news: News, after: Option<State>) -> CheckAnswer {
    match after {
        Some(State::Paid | State::Claimed | State::Delivered) => CheckAnswer::Paid,
        Some(State::RefundDue | State::Refunded) => CheckAnswer::Closed,
        Some(State::Quoted | State::Expired | State::Failed) | None => match (news, after) {
            // A success that could not be recorded is asked again.
            (News::Success(_), _) => pending(RETRY_UNDER_WAY_SECONDS),
            // Only what the row says: a failure that is not recorded yet (the row was locked) is
            // asked again, else the fresh quote would be looked for while the failed one is open.
            (_, Some(State::Failed)) => CheckAnswer::Failed,
            (News::Failed | News::UnderWay, _) => pending(RETRY_UNDER_WAY_SECONDS),
            (News::Nothing, Some(State::Expired)) => CheckAnswer::Expired,
            (News::Nothing, _) => pending(RETRY_WAITING_SECONDS),
        },
    }
}

/// What a check answers when the provider was asked a moment ago.
pub fn answer_from_row(state: State, deposit_seen: bool) -> CheckAnswer {
    match state {
        State::Paid | State::Claimed | State::Delivered => CheckAnswer::Paid,
        State::RefundDue | State::Refunded => CheckAnswer::Closed,
        State::Failed => CheckAnswer::Failed,
        State::Expired if !deposit_seen => CheckAnswer::Expired,
        State::Quoted | State::Expired => pending(RETRY_WAITING_SECONDS),
    }
}

const fn pending(retry_after_seconds: u32) -> CheckAnswer {
    CheckAnswer::Pending {
        retry_after_seconds,
    }
}

/// What the two public status names of a request are made from.
#[derive(Clone, Copy, Debug)]
pub struct Standing {
    /// Its state.
    pub state: State,
    /// When the provider first told of a deposit.
    pub deposit_seen_at: Option<DateTime<Utc>>,
    /// Attempts used.
    pub attempts: i32,
}

impl Standing {
    /// `status` of `GET /relay-requests/:id`.
    pub const fn payment(self) -> &'static str {
        match self.state {
            State::Quoted if self.deposit_seen_at.is_some() => "pending",
            State::Quoted => "quoted",
            State::Paid => "paid",
            State::Claimed => "in_progress",
            State::Delivered => "delivered",
            State::RefundDue => "refund_due",
            State::Refunded => "refunded",
            State::Expired => "expired",
            State::Failed => "failed",
        }
    }

    /// `status` of `GET /gateway-requests`.
    pub const fn request(self) -> &'static str {
        match self.state {
            State::Quoted if self.deposit_seen_at.is_some() => "payment_pending",
            State::Quoted => "payment_required",
            State::Paid if self.attempts > 0 => "seller_failed",
            State::Paid => "paid",
            State::Claimed => "in_progress",
            State::Delivered => "delivered",
            State::RefundDue => "refund_due",
            State::Refunded => "refunded",
            State::Expired => "expired",
            State::Failed => "payment_failed",
        }
    }
}

/// What [`Standing::payment`] can say.
pub const PAYMENT_STATUSES: [&str; 9] = [
    "quoted",
    "pending",
    "paid",
    "in_progress",
    "delivered",
    "refund_due",
    "refunded",
    "expired",
    "failed",
];

/// A status of `GET /gateway-requests`, as a filter: the state, whether a deposit is seen, and
/// whether an attempt was used, each where it matters.
pub type StatusFilter = (State, Option<bool>, Option<bool>);

/// The filters by their public names.
pub const STATUS_FILTERS: [(&str, StatusFilter); 10] = [
    ("payment_required", (State::Quoted, Some(false), None)),
    ("payment_pending", (State::Quoted, Some(true), None)),
    ("paid", (State::Paid, None, Some(false))),
    ("seller_failed", (State::Paid, None, Some(true))),
    ("in_progress", (State::Claimed, None, None)),
    ("delivered", (State::Delivered, None, None)),
    ("refund_due", (State::RefundDue, None, None)),
    ("refunded", (State::Refunded, None, None)),
    ("expired", (State::Expired, None, None)),
    ("payment_failed", (State::Failed, None, None)),
];

#[cfg(test)]
mod tests {
    use super::super::relay::Moved;
    use super::*;

    fn quoted() -> Quoted {
        Quoted {
            recipient: "0xABcd".into(),
            chain_id: 8453,
            token: "0x8335".into(),
            amount: 1_000,
        }
    }

    fn record(status: &str) -> Record {
        Record {
            id: "0x1".into(),
            status: Status::parse(status),
            status_text: status.into(),
            recipient: Some("0xabCD".into()),
            output: Some(Output {
                chain_id: 8453,
                token: "0X8335".into(),
                amount: "1000".into(),
            }),
            fail_reason: None,
            referrer: None,
            in_tx_hashes: Vec::new(),
            out_tx_hashes: Vec::new(),
            updated_at: None,
            moved: Moved::default(),
        }
    }

    #[test]
    fn a_second_deposit_sent_back_is_no_refund_of_the_first() {
        let exact = News::Success(Arrived {
            matches: true,
            received: Some(1_000),
        });
        let mut refund = record("refund");
        assert!(refund.is_refunded());
        assert_eq!(news(Some(&refund), &quoted()), News::Failed);
        refund.fail_reason = Some("DOUBLE_SPEND".into());
        assert!(!refund.is_refunded());
        assert_eq!(news(Some(&refund), &quoted()), News::UnderWay);
        refund.moved = Moved {
            deposits: 2,
            given_back: Some(1),
            fills: 1,
            ..Moved::default()
        };
        assert_eq!(news(Some(&refund), &quoted()), exact);
        refund.output = None;
        assert_eq!(news(Some(&refund), &quoted()), News::UnderWay);
        refund.moved.given_back = Some(2);
        assert_eq!(news(Some(&refund), &quoted()), News::Failed);
        assert!(!record("success").is_refunded());
    }

    #[test]
    fn success_is_evidence_only_as_quoted() {
        let exact = News::Success(Arrived {
            matches: true,
            received: Some(1_000),
        });
        assert_eq!(news(Some(&record("success")), &quoted()), exact);
        let judge = |change: fn(&mut Record)| {
            let mut record = record("success");
            change(&mut record);
            news(Some(&record), &quoted())
        };
        let other = News::Success(Arrived {
            matches: false,
            received: None,
        });
        assert_eq!(judge(|r| r.recipient = Some("0xother".into())), other);
        assert_eq!(judge(|r| r.recipient = None), other);
        assert_eq!(judge(|r| r.output.as_mut().unwrap().chain_id = 10), other);
        assert_eq!(
            judge(|r| r.output.as_mut().unwrap().token = "0x1".into()),
            other
        );
        let less = News::Success(Arrived {
            matches: false,
            received: Some(999),
        });
        assert_eq!(
            judge(|r| r.output.as_mut().unwrap().amount = "999".into()),
            less
        );
        let more = News::Success(Arrived {
            matches: true,
            received: Some(1_001),
        });
        assert_eq!(
            judge(|r| r.output.as_mut().unwrap().amount = "1001".into()),
            more
        );
        let huge = News::Success(Arrived {
            matches: true,
            received: None,
        });
        assert_eq!(
            judge(|r| r.output.as_mut().unwrap().amount = "9".repeat(40)),
            huge
        );
        assert_eq!(judge(|r| r.output = None), News::UnderWay);
    }

    #[test]
    fn words_we_do_not_know_are_pending() {
        assert_eq!(news(None, &quoted()), News::Nothing);
        assert_eq!(news(Some(&record("waiting")), &quoted()), News::Nothing);
        assert_eq!(news(Some(&record("novel")), &quoted()), News::Nothing);
        for word in ["depositing", "pending", "submitted", "delayed"] {
            assert_eq!(news(Some(&record(word)), &quoted()), News::UnderWay);
        }
        for word in ["failure", "refund"] {
            assert_eq!(news(Some(&record(word)), &quoted()), News::Failed);
        }
    }

    #[test]
    fn the_state_decides_before_the_news() {
        assert_eq!(
            check_answer(News::Failed, Some(State::Paid)),
            CheckAnswer::Paid
        );
        assert_eq!(
            check_answer(News::Nothing, Some(State::RefundDue)),
            CheckAnswer::Closed
        );
        assert_eq!(
            check_answer(News::Nothing, Some(State::Expired)),
            CheckAnswer::Expired
        );
        assert!(matches!(
            check_answer(News::UnderWay, Some(State::Expired)),
            CheckAnswer::Pending { .. }
        ));
        assert_eq!(
            check_answer(News::Failed, Some(State::Failed)),
            CheckAnswer::Failed
        );
    }

    #[test]
    fn each_request_status_is_a_filter() {
        for (name, (state, seen, used)) in STATUS_FILTERS {
            let standing = Standing {
                state,
                deposit_seen_at: seen.unwrap_or_default().then(crochet_shared::clock::now),
                attempts: i32::from(used.unwrap_or_default()),
            };
            assert_eq!(standing.request(), name);
        }
    }
}
