//! Slugs: made from a listing's name, never changed. Pure.

use crochet_shared::id::ListingId;

/// Longest slug before its suffix.
const BASE_CHARS_MAX: usize = 60;
/// Random characters of a suffix.
const SUFFIX_CHARS: usize = 6;
/// Longest slug with its suffix.
const SLUG_CHARS_MAX: usize = BASE_CHARS_MAX + 1 + SUFFIX_CHARS;
/// For names without a letter or digit of ours.
const NAMELESS: &str = "listing";
/// Slugs that would hide behind a route.
const RESERVED: [&str; 1] = ["challenge"];

/// The slug of a name, with a suffix when `taken` says that the plain one is.
pub fn made_of(name: &str, taken: bool) -> String {
    let mut slug = String::new();
    for c in name.chars().flat_map(char::to_lowercase) {
        if slug.len() >= BASE_CHARS_MAX {
            break;
        }
        if c.is_ascii_alphanumeric() {
            slug.push(c);
        } else if !slug.is_empty() && !slug.ends_with('-') {
            slug.push('-');
        }
    }
    let slug = slug.trim_end_matches('-');
    let base = if slug.is_empty() { NAMELESS } else { slug };
    // A slug that reads as an id would name another listing.
    let ambiguous = base.parse::<ListingId>().is_ok() || RESERVED.contains(&base);
    if taken || ambiguous || slug.is_empty() {
        format!("{base}-{}", suffix())
    } else {
        base.to_owned()
    }
}

/// Whether text can be a slug; anything else is nobody's.
pub(super) fn is_slug(text: &str) -> bool {
    (1..=SLUG_CHARS_MAX).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

fn suffix() -> String {
    const LETTERS: [char; 32] = [
        '0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f', 'g', 'h',
        'j', 'k', 'm', 'n', 'p', 'q', 'r', 's', 't', 'v', 'w', 'x', 'y', 'z',
    ];
    crochet_shared::id::random::<SUFFIX_CHARS>()
        .into_iter()
        .map(|byte| LETTERS.get(usize::from(byte % 32)).copied().unwrap_or('0'))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slug_is_plain_and_never_an_id() {
        assert_eq!(made_of("  Echo -- Service! 2 ", false), "echo-service-2");
        assert!(made_of("Echo", true).starts_with("echo-"));
        assert!(made_of("天気", false).starts_with("listing-"));
        assert!(made_of("Challenge", false).starts_with("challenge-"));
        let id = "0190a000-0000-7000-8000-000000000001";
        assert_ne!(made_of(id, false), id);
        let long = made_of(&"ab ".repeat(100), true);
        assert!(is_slug(&long) && long.len() <= SLUG_CHARS_MAX);
        for bad in ["", "A", "a_b", "é", "a/b", &"a".repeat(100)] {
            assert!(!is_slug(bad), "{bad}");
        }
    }
}
