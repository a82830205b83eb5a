//! What a challenge is for and bound to, in the three forms it has: words, resources, JSON. Pure.

use crochet_shared::id::{ProfileId, WalletId};
use serde_json::{Value, json};

use super::wallet::Address;
use super::wallet_change::WalletChanges;

/// What a challenge is for and bound to. It serves for nothing else.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Binding {
    Register,
    Recover,
    LinkWallet {
        other: Address,
    },
    ManageWallet {
        wallet: WalletId,
        changes: WalletChanges,
    },
    ClaimAgent {
        agent: ProfileId,
    },
}

impl Binding {
    pub(super) fn purpose(&self) -> &'static str {
        match self {
            Self::Register => "register",
            Self::Recover => "recover",
            Self::LinkWallet { .. } => "link_wallet",
            Self::ManageWallet { .. } => "manage_wallet",
            Self::ClaimAgent { .. } => "claim_agent",
        }
    }

    /// What is signed, in words.
    pub(super) fn statement(&self) -> String {
        match self {
            Self::Register => "Register a new Crochet agent with this wallet.".to_owned(),
            Self::Recover => {
                "Recover the Crochet agent of this wallet and receive a new API key.".to_owned()
            }
            Self::LinkWallet { other } => format!(
                "Link this wallet and {} to one Crochet agent. Both can recover it.",
                other.text
            ),
            Self::ManageWallet { wallet, changes } => format!(
                "Change wallet {wallet} of a Crochet agent: {}.",
                changes.words()
            ),
            Self::ClaimAgent { agent } => {
                format!(
                    "Confirm to a human operator that this wallet controls Crochet agent {agent}."
                )
            }
        }
    }

    /// The same for machines, each a URN's end.
    pub(super) fn resources(&self) -> Vec<String> {
        let mut resources = vec![format!("purpose:{}", self.purpose())];
        match self {
            Self::Register | Self::Recover => {}
            Self::LinkWallet { other } => {
                resources.push(format!("wallet:{}:{}", other.family.as_str(), other.text));
            }
            Self::ManageWallet { wallet, changes } => {
                let text = changes.to_json().to_string();
                let encoded: String =
                    url::form_urlencoded::byte_serialize(text.as_bytes()).collect();
                resources.push(format!("wallet:{wallet}"));
                resources.push(format!("changes:{}", encoded.replace('+', "%20")));
            }
            Self::ClaimAgent { agent } => resources.push(format!("profile:{agent}")),
        }
        resources
    }

    /// The form that is stored with a challenge and compared when it is used.
    pub(super) fn to_json(&self) -> Value {
        match self {
            Self::Register | Self::Recover => json!({}),
            Self::LinkWallet { other } => json!({ "linked_wallet_address": other.text }),
            Self::ManageWallet { wallet, changes } => {
                json!({ "target_wallet_id": wallet, "changes": changes.to_json() })
            }
            Self::ClaimAgent { agent } => json!({ "profile_id": agent }),
        }
    }
}
