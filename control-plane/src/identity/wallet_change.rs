//! What may change of a wallet, how it is signed for, and what follows for the profile. Pure.

use crochet_shared::id::WalletId;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::profile::Wallet;
use crate::describe;
use crate::fields::{self, Fields};

/// Longest label of a wallet, in characters (contract, head).
pub(super) const LABEL_CHARS_MAX: usize = 60;
/// `status` of a wallet that may be used.
pub(super) const ACTIVE: &str = "active";
/// `status` of one that may not.
const DISABLED: &str = "disabled";
/// What a status can be set to.
pub(super) const STATUSES: [(&str, &str); 2] = [(ACTIVE, ACTIVE), (DISABLED, DISABLED)];

/// What is to change of a wallet: only what is present changes.
#[derive(ToSchema)]
#[expect(dead_code, reason = "read by the API document")]
pub(super) struct ChangesOfWallet {
    /// `null` clears it.
    #[schema(example = "Treasury", extensions(("x-name" = json!([0, LABEL_CHARS_MAX]))))]
    label: Option<String>,
    #[schema(nullable = false, extensions(("x-one-of" = json!(describe::names(&STATUSES)))))]
    status: Option<String>,
    #[schema(nullable = false)]
    can_authenticate: Option<bool>,
    #[schema(nullable = false)]
    can_recover: Option<bool>,
    #[schema(nullable = false)]
    is_default_payment: Option<bool>,
    #[schema(nullable = false)]
    is_default_payout: Option<bool>,
}

/// What [`ChangesOfWallet`] describes, read: what is absent stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(
    clippy::option_option,
    reason = "absent, null and a value are three things in a PATCH"
)]
pub(super) struct WalletChanges {
    label: Option<Option<String>>,
    status: Option<&'static str>,
    can_authenticate: Option<bool>,
    can_recover: Option<bool>,
    is_default_payment: Option<bool>,
    is_default_payout: Option<bool>,
}

/// Why a change cannot be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CannotChange {
    /// The profile has no such wallet.
    NoSuchWallet,
    /// No active wallet would be left that can recover the profile.
    LastRecovery,
    /// A disabled wallet is no default; the field that wanted it.
    DisabledDefault(&'static str),
    /// There is no other active wallet that could be the default; the field that gave it up.
    NoOtherDefault(&'static str),
}

impl WalletChanges {
    /// Reads the fields of a change, which have the same names in the challenge and in the PATCH.
    pub(super) fn from_fields(fields: &mut Fields<'_>) -> Self {
        Self {
            label: fields.change("label", fields::name(0, LABEL_CHARS_MAX)),
            status: fields.present("status", fields::one_of(&STATUSES)),
            can_authenticate: fields.present("can_authenticate", fields::boolean),
            can_recover: fields.present("can_recover", fields::boolean),
            is_default_payment: fields.present("is_default_payment", fields::boolean),
            is_default_payout: fields.present("is_default_payout", fields::boolean),
        }
    }

    /// Whether nothing would change.
    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The flags that are there, by their fields' names.
    fn flags(&self) -> impl Iterator<Item = (&'static str, bool)> {
        [
            ("can_authenticate", self.can_authenticate),
            ("can_recover", self.can_recover),
            ("is_default_payment", self.is_default_payment),
            ("is_default_payout", self.is_default_payout),
        ]
        .into_iter()
        .filter_map(|(name, flag)| Some((name, flag?)))
    }

    /// The form that is signed and compared: exactly the fields that were sent.
    pub(super) fn to_json(&self) -> Value {
        let mut all = Map::new();
        if let Some(label) = &self.label {
            all.insert("label".to_owned(), label.clone().into());
        }
        if let Some(status) = self.status {
            all.insert("status".to_owned(), status.into());
        }
        all.extend(
            self.flags()
                .map(|(name, flag)| (name.to_owned(), flag.into())),
        );
        Value::Object(all)
    }

    /// The same in words, of nothing but what a statement may hold.
    pub(super) fn words(&self) -> String {
        let label = self.label.as_ref().map(|label| match label {
            Some(text) => format!("label to '{}'", plain(text)),
            None => "label to none".to_owned(),
        });
        let status = self.status.map(|status| format!("status to {status}"));
        let flags = self.flags().map(|(name, flag)| format!("{name} to {flag}"));
        let all: Vec<String> = label.into_iter().chain(status).chain(flags).collect();
        all.join(", ")
    }

    /// Changes one of a profile's wallets, which come oldest first, and what follows of the others:
    /// a default that is disabled or given up moves to the oldest active wallet.
    pub(super) fn apply(
        &self,
        wallets: &mut [Wallet],
        target: WalletId,
    ) -> Result<(), CannotChange> {
        let wallet = wallets
            .iter_mut()
            .find(|wallet| wallet.id == target)
            .ok_or(CannotChange::NoSuchWallet)?;
        if let Some(label) = &self.label {
            wallet.label.clone_from(label);
        }
        if let Some(status) = self.status {
            status.clone_into(&mut wallet.status);
        }
        if let Some(flag) = self.can_authenticate {
            wallet.can_authenticate = flag;
        }
        if let Some(flag) = self.can_recover {
            wallet.can_recover = flag;
        }
        if !wallets.iter().any(Wallet::recovers) {
            return Err(CannotChange::LastRecovery);
        }
        let payment = DefaultRole {
            field: "is_default_payment",
            wanted: self.is_default_payment,
            of: |wallet| &mut wallet.is_default_payment,
        };
        let payout = DefaultRole {
            field: "is_default_payout",
            wanted: self.is_default_payout,
            of: |wallet| &mut wallet.is_default_payout,
        };
        payment.settle(wallets, target)?;
        payout.settle(wallets, target)
    }
}

/// One of the two defaults, and what a change wants of it.
struct DefaultRole {
    field: &'static str,
    wanted: Option<bool>,
    of: fn(&mut Wallet) -> &mut bool,
}

impl DefaultRole {
    /// Of a profile's wallets exactly one is the default, and it is active.
    fn settle(&self, wallets: &mut [Wallet], target: WalletId) -> Result<(), CannotChange> {
        let Some(wallet) = wallets.iter_mut().find(|wallet| wallet.id == target) else {
            return Err(CannotChange::NoSuchWallet);
        };
        let active = wallet.is_active();
        let is_default = *(self.of)(wallet);
        let heir = match (self.wanted, is_default) {
            (Some(true), _) if !active => return Err(CannotChange::DisabledDefault(self.field)),
            (Some(true), _) => target,
            (Some(false), true) => self.oldest_other(wallets, target)?,
            (None, true) if !active => self.oldest_other(wallets, target)?,
            (Some(false) | None, _) => return Ok(()),
        };
        for wallet in wallets {
            *(self.of)(wallet) = wallet.id == heir;
        }
        Ok(())
    }

    fn oldest_other(&self, wallets: &[Wallet], target: WalletId) -> Result<WalletId, CannotChange> {
        wallets
            .iter()
            .find(|wallet| wallet.is_active() && wallet.id != target)
            .map(|wallet| wallet.id)
            .ok_or(CannotChange::NoOtherDefault(self.field))
    }
}

/// Text in the characters that EIP-4361 lets a statement hold, less the quote that ends it here.
/// Every other character is named by its code point, so that nothing can end the quote, turn the
/// writing direction or look like what it is not; the resources carry the exact text.
fn plain(text: &str) -> String {
    const RESERVED: &str = ":/?#[]@!$&()*+,;=-._~ ";
    text.chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || RESERVED.contains(c) {
                c.to_string()
            } else {
                format!("(U+{:04X})", u32::from(c))
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn wallets(count: u8) -> Vec<Wallet> {
        let now = crochet_shared::clock::now();
        (0..count)
            .map(|n| Wallet {
                id: WalletId::new(now),
                chain: "solana".to_owned(),
                address: n.to_string(),
                label: None,
                status: ACTIVE.to_owned(),
                can_authenticate: true,
                can_recover: true,
                is_default_payment: n == 0,
                is_default_payout: n == 0,
                created_at: now,
            })
            .collect()
    }

    fn changes(text: &str) -> WalletChanges {
        let mut fields = Fields::parse(text).unwrap();
        let changes = WalletChanges::from_fields(&mut fields);
        fields.finish(Some(changes)).unwrap()
    }

    #[test]
    fn a_disabled_default_moves_to_the_oldest_active_wallet() {
        let mut all = wallets(3);
        let (first, second) = (all[0].id, all[1].id);
        changes(r#"{"status":"disabled"}"#)
            .apply(&mut all, second)
            .unwrap();
        changes(r#"{"status":"disabled"}"#)
            .apply(&mut all, first)
            .unwrap();
        let defaults: Vec<bool> = all.iter().map(|wallet| wallet.is_default_payment).collect();
        assert_eq!(defaults, [false, false, true]);
        let last = all[2].id;
        let refused = changes(r#"{"can_recover":false}"#).apply(&mut all, last);
        assert_eq!(refused, Err(CannotChange::LastRecovery));
    }

    #[test]
    fn a_default_is_taken_or_given_up_but_never_lost() {
        let mut all = wallets(2);
        let (first, second) = (all[0].id, all[1].id);
        changes(r#"{"is_default_payout":true}"#)
            .apply(&mut all, second)
            .unwrap();
        assert!(!all[0].is_default_payout && all[1].is_default_payout);
        assert!(all[0].is_default_payment, "the other default stays");
        changes(r#"{"is_default_payout":false}"#)
            .apply(&mut all, second)
            .unwrap();
        assert!(all[0].is_default_payout);
        let both = changes(r#"{"status":"disabled","is_default_payment":true}"#);
        assert_eq!(
            both.apply(&mut all.clone(), second),
            Err(CannotChange::DisabledDefault("is_default_payment"))
        );
        let mut one = wallets(1);
        let only = one[0].id;
        assert_eq!(
            changes(r#"{"is_default_payment":false}"#).apply(&mut one, only),
            Err(CannotChange::NoOtherDefault("is_default_payment"))
        );
        assert_eq!(
            changes(r#"{"label":null}"#).apply(&mut one, first),
            Err(CannotChange::NoSuchWallet)
        );
    }

    #[test]
    fn words_hold_nothing_that_could_mislead() {
        let said = changes("{\"label\":\"a'\\\" to b\u{5d0}é\",\"can_recover\":true}").words();
        assert_eq!(
            said,
            "label to 'a(U+0027)(U+0022) to b(U+05D0)(U+00E9)', can_recover to true"
        );
        assert_eq!(changes(r#"{"label":null}"#).words(), "label to none");
    }

    fn any_change() -> impl Strategy<Value = WalletChanges> {
        let flag = || proptest::option::of(any::<bool>());
        let status = proptest::option::of(prop_oneof![Just(ACTIVE), Just(DISABLED)]);
        (status, flag(), flag(), flag(), flag()).prop_map(|(status, a, r, payment, payout)| {
            WalletChanges {
                label: None,
                status,
                can_authenticate: a,
                can_recover: r,
                is_default_payment: payment,
                is_default_payout: payout,
            }
        })
    }

    proptest! {
        #[test]
        fn whatever_is_changed_a_profile_keeps_its_defaults_and_a_way_back(
            steps in proptest::collection::vec((0_usize..4, any_change()), 1..30)
        ) {
            let mut all = wallets(4);
            for (place, change) in steps {
                let mut after = all.clone();
                let target = all[place].id;
                if change.apply(&mut after, target).is_ok() {
                    all = after;
                }
                prop_assert!(all.iter().any(Wallet::recovers));
                let active = |flag: fn(&Wallet) -> bool| {
                    let defaults: Vec<&Wallet> = all.iter().filter(|w| flag(w)).collect();
                    defaults.len() == 1 && defaults[0].is_active()
                };
                prop_assert!(active(|wallet| wallet.is_default_payment));
                prop_assert!(active(|wallet| wallet.is_default_payout));
            }
        }
    }
}
