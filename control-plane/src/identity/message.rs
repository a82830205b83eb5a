//! The text a wallet signs: EIP-4361 for EVM, the CAIP-122 layout of it for Solana. Pure.
//!
//! Whoever signs reads what for: the purpose stands in the statement, in words, and again in the
//! resources, with whatever the challenge is bound to.

use chrono::{DateTime, Utc};
use crochet_shared::clock::rfc3339;
use crochet_shared::route::{CHAIN_BASE, Family};

use super::binding::Binding;
use super::wallet::Address;

/// CAIP-2 reference of Solana's main network.
const SOLANA_CHAIN: &str = "5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp";

/// Everything the text says.
pub(super) struct Message<'a> {
    /// `host[:port]` of the public origin.
    pub(super) domain: &'a str,
    /// The public origin.
    pub(super) uri: &'a str,
    pub(super) address: &'a Address,
    pub(super) binding: &'a Binding,
    pub(super) nonce: &'a str,
    pub(super) issued_at: DateTime<Utc>,
    pub(super) expires_at: DateTime<Utc>,
}

impl Message<'_> {
    /// The exact text.
    pub(super) fn compose(&self) -> String {
        let (account, chain) = match self.address.family {
            Family::Evm => ("Ethereum", CHAIN_BASE.to_string()),
            Family::Solana => ("Solana", SOLANA_CHAIN.to_owned()),
        };
        let mut text = format!(
            "{domain} wants you to sign in with your {account} account:\n{address}\n\n{statement}\n\nURI: {uri}\nVersion: 1\nChain ID: {chain}\nNonce: {nonce}\nIssued At: {issued}\nExpiration Time: {expires}\nResources:",
            domain = self.domain,
            address = self.address.text,
            statement = self.binding.statement(),
            uri = self.uri,
            nonce = self.nonce,
            issued = rfc3339(self.issued_at),
            expires = rfc3339(self.expires_at),
        );
        for resource in self.binding.resources() {
            text.push_str("\n- urn:crochet:");
            text.push_str(&resource);
        }
        text
    }
}
