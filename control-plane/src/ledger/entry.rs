//! Accounts, kinds of transfers, and how each is shown to its party.

/// Where a request stands (architecture, "States"). Payments move it; every move that matters to
/// money posts a transfer in the same statement, so the word belongs to both rooms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, sqlx::Type)]
#[sqlx(type_name = "request_state", rename_all = "snake_case")]
pub enum RequestState {
    /// Quoted; no evidence of payment.
    Quoted,
    /// Evidence recorded; claimable.
    Paid,
    /// Being forwarded.
    Claimed,
    /// Delivered and settled.
    Delivered,
    /// The buyer is owed her money.
    RefundDue,
    /// She has it back.
    Refunded,
    /// Its time is over, and no deposit was known.
    Expired,
    /// The provider failed or refunded the payment.
    Failed,
}

impl RequestState {
    /// Its name in the database, and for operators.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Quoted => "quoted",
            Self::Paid => "paid",
            Self::Claimed => "claimed",
            Self::Delivered => "delivered",
            Self::RefundDue => "refund_due",
            Self::Refunded => "refunded",
            Self::Expired => "expired",
            Self::Failed => "failed",
        }
    }

    /// Whether success evidence still changes it: `quoted | expired | failed → paid`.
    pub const fn awaits_evidence(self) -> bool {
        matches!(self, Self::Quoted | Self::Expired | Self::Failed)
    }
}

/// An account of the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, sqlx::Type)]
#[sqlx(type_name = "ledger_account", rename_all = "snake_case")]
pub enum Account {
    /// The payment provider: where deposits come from and refunds go.
    Provider,
    /// Money that waits for its call.
    Clearing,
    /// What sellers are owed.
    Seller,
    /// What the marketplace earned.
    Fees,
    /// What buyers are owed back.
    RefundsPayable,
}

/// Why money moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, sqlx::Type)]
#[sqlx(type_name = "transfer_kind", rename_all = "snake_case")]
pub enum Kind {
    /// A payment arrived.
    GatewayPayment,
    /// A delivered call, net of the fee.
    SellerCredit,
    /// The marketplace's share of it.
    MarketplaceFee,
    /// A payment that will not be used.
    RefundDue,
    /// The buyer has it back.
    RefundPaid,
    /// More arrived than was asked.
    Surplus,
    /// Corrects another transfer.
    Correction,
}

/// How a transfer is shown: `type`, `account` and `direction` (contract §5, "Ledger").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shown {
    /// `type`.
    pub kind: &'static str,
    /// `account`.
    pub account: &'static str,
    /// `direction`, from that account's view.
    pub direction: &'static str,
    /// `description`.
    pub description: &'static str,
}

impl Kind {
    /// Its name in the database, and for operators.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::GatewayPayment => "gateway_payment",
            Self::SellerCredit => "seller_credit",
            Self::MarketplaceFee => "marketplace_fee",
            Self::RefundDue => "refund_due",
            Self::RefundPaid => "refund_paid",
            Self::Surplus => "surplus",
            Self::Correction => "correction",
        }
    }

    /// How it is shown.
    pub const fn shown(self, debit: Account, credit: Account) -> Shown {
        let (kind, description) = match self {
            Self::GatewayPayment => ("gateway_payment", "Payment for a gateway call"),
            Self::SellerCredit => (
                "seller_credit",
                "Income of a delivered call, net of the fee",
            ),
            Self::MarketplaceFee => ("marketplace_fee", "Marketplace fee of a delivered call"),
            Self::RefundDue => ("adjustment", "Refund due"),
            Self::RefundPaid => ("adjustment", "Refund paid"),
            Self::Surplus => ("adjustment", "Paid more than asked; refund due"),
            Self::Correction => ("adjustment", "Correction"),
        };
        let (account, direction) = match (debit, credit) {
            (_, Account::Seller) => ("seller", "credit"),
            (_, Account::Fees) => ("marketplace", "credit"),
            (_, Account::RefundsPayable) => ("refund", "credit"),
            (Account::RefundsPayable, _) => ("refund", "debit"),
            (Account::Seller, _) => ("seller", "debit"),
            (Account::Fees, _) => ("marketplace", "debit"),
            (Account::Provider | Account::Clearing, Account::Provider | Account::Clearing) => {
                ("buyer", "debit")
            }
        };
        Shown {
            kind,
            account,
            direction,
            description,
        }
    }

    /// What it adds to its party's net: income and money owed back raise it, payments lower it.
    /// Fees are told for information, and a refund that is paid was counted when it was due.
    pub const fn net_sign(self) -> i64 {
        match self {
            Self::GatewayPayment => -1,
            Self::SellerCredit | Self::RefundDue | Self::Surplus => 1,
            Self::MarketplaceFee | Self::RefundPaid | Self::Correction => 0,
        }
    }
}

impl Account {
    /// Its name in the database, and for operators.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Provider => "provider",
            Self::Clearing => "clearing",
            Self::Seller => "seller",
            Self::Fees => "fees",
            Self::RefundsPayable => "refunds_payable",
        }
    }

    /// Whether its balance is what the marketplace owes the party.
    pub const fn is_payable(self) -> bool {
        matches!(self, Self::Seller | Self::RefundsPayable)
    }
}

/// What [`Shown::account`] can be.
pub const SHOWN_ACCOUNTS: [&str; 4] = ["buyer", "seller", "marketplace", "refund"];
/// What [`Shown::direction`] can be.
pub const DIRECTIONS: [&str; 2] = ["debit", "credit"];

/// The kinds behind each public `type`.
pub const TYPE_FILTERS: [(&str, &[Kind]); 4] = [
    ("gateway_payment", &[Kind::GatewayPayment]),
    ("seller_credit", &[Kind::SellerCredit]),
    ("marketplace_fee", &[Kind::MarketplaceFee]),
    (
        "adjustment",
        &[
            Kind::RefundDue,
            Kind::RefundPaid,
            Kind::Surplus,
            Kind::Correction,
        ],
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_is_shown_from_its_partys_view() {
        use Account::{Clearing, Fees, Provider, RefundsPayable, Seller};
        for (kind, debit, credit, want) in [
            (
                Kind::GatewayPayment,
                Provider,
                Clearing,
                ("gateway_payment", "buyer", "debit"),
            ),
            (
                Kind::SellerCredit,
                Clearing,
                Seller,
                ("seller_credit", "seller", "credit"),
            ),
            (
                Kind::MarketplaceFee,
                Clearing,
                Fees,
                ("marketplace_fee", "marketplace", "credit"),
            ),
            (
                Kind::RefundDue,
                Clearing,
                RefundsPayable,
                ("adjustment", "refund", "credit"),
            ),
            (
                Kind::RefundPaid,
                RefundsPayable,
                Provider,
                ("adjustment", "refund", "debit"),
            ),
            (
                Kind::Surplus,
                Provider,
                RefundsPayable,
                ("adjustment", "refund", "credit"),
            ),
        ] {
            let shown = kind.shown(debit, credit);
            assert_eq!((shown.kind, shown.account, shown.direction), want);
            let (_, kinds) = TYPE_FILTERS
                .iter()
                .find(|(name, _)| *name == shown.kind)
                .unwrap();
            assert!(kinds.contains(&kind));
        }
    }
}
