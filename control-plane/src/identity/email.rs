//! E-mail addresses, as a person signs in with one. Pure.

use crochet_shared::seal::Keyring;
use uuid::Uuid;

use crate::fields::{self, Problem};

/// Longest address, and longest part before the `@`, in characters (RFC 5321 §4.5.3.1).
const CHARS_MAX: usize = 254;
const LOCAL_CHARS_MAX: usize = 64;
/// Longest label of a domain, in characters.
const LABEL_CHARS_MAX: usize = 63;

/// An address in the plain form that mail forms take: one `@`, ASCII, a domain with a dot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Email {
    /// As it was written, trimmed.
    pub(super) text: String,
    /// What it is found by: addresses compare case-insensitively.
    pub(super) folded: String,
}

impl Email {
    /// Reads a field.
    pub(super) fn from_field(raw: &serde_json::value::RawValue) -> Result<Self, Problem> {
        let text = fields::any_text(raw)?;
        Self::parse(text.trim()).ok_or_else(|| {
            format!("must be an e-mail address such as name@example.com, of at most {CHARS_MAX} characters").into()
        })
    }

    fn parse(text: &str) -> Option<Self> {
        let (local, domain) = text.split_once('@')?;
        let fits = text.len() <= CHARS_MAX && local.len() <= LOCAL_CHARS_MAX;
        let local_is_plain = local.split('.').all(|atom| {
            !atom.is_empty()
                && atom
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+/=?^_`{|}~-".contains(&b))
        });
        let domain_is_plain = domain.contains('.') && domain.split('.').all(is_label);
        (fits && local_is_plain && domain_is_plain).then(|| Self {
            text: text.to_owned(),
            folded: text.to_ascii_lowercase(),
        })
    }

    /// What its sign-ins are counted under. `keys` are the gateway cache keys, which all processes
    /// share; without them an address could be found by hashing those that are known to exist.
    pub(super) fn counted(&self, keys: &Keyring) -> Uuid {
        Uuid::from_bytes(keys.pseudonym(self.folded.as_bytes()))
    }
}

fn is_label(label: &str) -> bool {
    (1..=LABEL_CHARS_MAX).contains(&label.len())
        && label
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'-')
        && !label.starts_with('-')
        && !label.ends_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_plain() {
        for good in [
            "a@b.co",
            "A.b+c_d@Ex-ample.co.uk",
            "o'neil@example.com",
            "1@1.1",
        ] {
            let email = Email::parse(good).unwrap();
            assert_eq!(
                (email.text.as_str(), email.folded),
                (good, good.to_lowercase())
            );
        }
        let long_local = format!("{}@example.com", "a".repeat(65));
        let long_label = format!("a@{}.com", "b".repeat(64));
        let long = format!("a@{}com", "bcd.".repeat(64));
        for bad in [
            "",
            "@",
            "a",
            "a@",
            "@b.co",
            "a@b",
            "a@@b.co",
            "a@b@c.co",
            "a b@c.co",
            ".a@b.co",
            "a.@b.co",
            "a..b@c.co",
            "a@.co",
            "a@b.",
            "a@b..co",
            "a@-b.co",
            "a@b-.co",
            "a@b_c.co",
            "é@b.co",
            "a@é.co",
            "a\u{202e}@b.co",
            "\"a\"@b.co",
            "a@[127.0.0.1]",
            "a,b@c.co",
            "a@b.co\r\nBcc: x@y.zz",
            "<a@b.co>",
            &long_local,
            &long_label,
            &long,
        ] {
            assert_eq!(Email::parse(bad), None, "{bad}");
        }
    }
}
