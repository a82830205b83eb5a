//! What is sought: words, each as it stands or, when nothing has it, as it was probably meant. Pure.
//!
//! Postgres takes text apart, on both sides alike; here it is judged what a word may stand for.
//! Nothing of a search is syntax: quotes and operators were dropped with all that is not a letter or
//! a digit, and words are quoted again on their way back.

use strsim::osa_distance;

/// Longest search, in characters (contract, head).
pub(super) const SEARCH_CHARS_MAX: usize = 200;
/// Words that may be misspelled in one search; with more of them it finds nothing.
pub(super) const UNKNOWN_WORDS_MAX: usize = 4;
/// Words that one misspelled word may stand for.
const MEANINGS_MAX: usize = 4;

/// A word of a search, as Postgres understands it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Word {
    /// As it was written, in lower case.
    pub(super) written: String,
    /// Its stem; `None` of a word too common to be found by, such as `the`.
    pub(super) stem: Option<String>,
    /// Active listings with its stem.
    pub(super) stem_listings: i64,
    /// The transaction that last changed which listings these are.
    pub(super) stem_change: i64,
    /// Active listings with the word as it stands in their name or tags.
    pub(super) listings: i64,
    /// The transaction that last changed which listings these are.
    pub(super) change: i64,
}

/// A word of the catalog that is spelled like an unknown one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Similar {
    /// The unknown word, as written, or its stem.
    pub(super) spelled: String,
    /// The word of the catalog.
    pub(super) word: String,
    /// Active listings with it.
    pub(super) listings: i64,
    /// The transaction that last changed which listings these are.
    pub(super) change: i64,
}

/// A word of a search as it is looked for: it, or any of those that it may stand for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Meaning {
    /// One of these, as listings have them.
    pub(super) words: Vec<String>,
    /// Active listings with the first, and with the second, and so on, added up.
    pub(super) listings: i64,
    /// Of each word, the transaction that last changed which listings have it.
    pub(super) changes: Vec<i64>,
}

/// What is to be looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Sought {
    /// No listing can match.
    Nothing,
    /// Listings with all of these, of which there is one at least; the rarest first.
    Listings(Vec<Meaning>),
}

/// The words by which listings are looked for: stop words only when there are no others.
fn telling(words: &[Word]) -> Vec<&Word> {
    let stemmed: Vec<&Word> = words.iter().filter(|word| word.stem.is_some()).collect();
    if stemmed.is_empty() {
        words.iter().collect()
    } else {
        stemmed
    }
}

impl Word {
    /// What words of the catalog may be spelled like: as it is written, as names and tags have it, and its stem, as
    /// all other text has it.
    fn spellings(&self) -> impl Iterator<Item = &str> {
        let stem = self.stem.as_deref().filter(|stem| *stem != self.written);
        std::iter::once(self.written.as_str()).chain(stem)
    }

    /// How many listings have what it is found by.
    fn found(&self) -> i64 {
        if self.stem.is_some() {
            self.stem_listings
        } else {
            self.listings
        }
    }

    /// What it is found by.
    fn itself(&self) -> Meaning {
        let (word, change) = match &self.stem {
            Some(stem) => (stem, self.stem_change),
            None => (&self.written, self.change),
        };
        Meaning {
            words: vec![word.clone()],
            listings: self.found(),
            changes: vec![change],
        }
    }
}

impl Meaning {
    /// As a `tsquery`.
    pub(super) fn query(&self) -> String {
        let words: Vec<String> = self.words.iter().map(|word| quoted(word)).collect();
        format!("( {} )", words.join(" | "))
    }
}

impl Sought {
    /// How many listings match, when that is known beforehand: of a single word.
    pub(super) fn count(&self) -> Option<i64> {
        match self {
            Self::Nothing => Some(0),
            Self::Listings(meant) => match meant.as_slice() {
                [one] if one.words.len() == 1 => Some(one.listings),
                _ => None,
            },
        }
    }
}

/// Spellings of words that no listing has; too many to be slips of the pen are `None`.
pub(super) fn unknown(words: &[Word]) -> Option<Vec<String>> {
    let unknown = telling(words).into_iter().filter(|word| word.found() == 0);
    let unknown: Vec<&Word> = unknown.collect();
    let spellings = unknown.iter().flat_map(|word| word.spellings());
    (unknown.len() <= UNKNOWN_WORDS_MAX).then(|| spellings.map(str::to_owned).collect())
}

/// Puts a search together. `similar` holds, the likest first, words spelled like those of [`unknown`].
pub(super) fn sought(words: &[Word], similar: &[Similar]) -> Sought {
    let mut meant = Vec::new();
    for word in telling(words) {
        if word.found() > 0 {
            let itself = word.itself();
            if !meant.contains(&itself) {
                meant.push(itself);
            }
            continue;
        }
        let mut likes: Vec<&Similar> = Vec::new();
        for like in similar {
            let is_new = likes.iter().all(|other| other.word != like.word);
            let is_like = word.spellings().any(|spelled| spelled == like.spelled);
            if is_new && is_like && is_meant(&like.spelled, &like.word) {
                likes.push(like);
            }
        }
        likes.truncate(MEANINGS_MAX);
        if likes.is_empty() {
            return Sought::Nothing;
        }
        let likely = Meaning {
            words: likes.iter().map(|like| like.word.clone()).collect(),
            listings: likes.iter().map(|like| like.listings).sum(),
            changes: likes.iter().map(|like| like.change).collect(),
        };
        if !meant.contains(&likely) {
            meant.push(likely);
        }
    }
    if meant.is_empty() {
        return Sought::Nothing;
    }
    meant.sort_by_key(|meaning| meaning.listings);
    Sought::Listings(meant)
}

/// Whether a word of the catalog may be what was meant: the beginning of it was written, or it is
/// one slip away (two in a longer word). Numbers and names with digits are meant as they stand.
fn is_meant(written: &str, word: &str) -> bool {
    let chars = written.chars().count();
    let begun = chars >= 3 || (chars >= 2 && !written.is_ascii());
    if begun && word.starts_with(written) {
        return true;
    }
    let slips = match chars {
        _ if written.chars().any(char::is_numeric) => 0,
        0..=2 => 0,
        3..=5 => 1,
        _ => 2,
    };
    slips > 0 && osa_distance(written, word) <= slips
}

/// A word as a `tsquery` has it, so that nothing in it is an operator.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\\', "\\\\").replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(written: &str, stem: Option<&str>, stem_listings: i64) -> Word {
        Word {
            written: written.to_owned(),
            stem: stem.map(str::to_owned),
            stem_listings,
            stem_change: if stem.is_some() {
                stem_listings * 10
            } else {
                -1
            },
            listings: stem_listings,
            change: if stem.is_some() {
                -1
            } else {
                stem_listings * 10
            },
        }
    }

    fn like(spelled: &str, word: &str, listings: i64) -> Similar {
        Similar {
            spelled: spelled.to_owned(),
            word: word.to_owned(),
            listings,
            change: listings * 10,
        }
    }

    /// The words, each with how many listings have it.
    fn meaning<const WORDS: usize>(words: [(&str, i64); WORDS]) -> Meaning {
        Meaning {
            words: words.map(|(word, _)| word.to_owned()).to_vec(),
            listings: words.iter().map(|(_, listings)| listings).sum(),
            changes: words.map(|(_, listings)| listings * 10).to_vec(),
        }
    }

    fn found(meant: &[Meaning]) -> Sought {
        Sought::Listings(meant.to_vec())
    }

    #[test]
    fn all_words_must_be_there_and_common_ones_are_left_out() {
        let words = [
            word("the", None, 0),
            word("weather", Some("weather"), 5),
            word("maps", Some("map"), 3),
        ];
        let (map, weather) = (meaning([("map", 3)]), meaning([("weather", 5)]));
        assert_eq!(unknown(&words), Some(vec![]));
        let both = sought(&words, &[]);
        assert_eq!(both, found(&[map, weather.clone()]), "the rarest first");
        assert_eq!(both.count(), None);
        let one = sought(&words[..2], &[]);
        assert_eq!(one, found(&[weather]));
        assert_eq!(one.count(), Some(5));
        let twice = [words[2].clone(), words[2].clone()];
        assert_eq!(sought(&twice, &[]).count(), Some(3));
        assert_eq!(
            sought(&[word("the", None, 2)], &[]),
            found(&[meaning([("the", 2)])])
        );
        assert_eq!(sought(&[], &[]), Sought::Nothing);
        assert_eq!(Sought::Nothing.count(), Some(0));
    }

    #[test]
    fn an_unknown_word_stands_for_those_spelled_like_it() {
        let words = [
            word("wether", Some("wether"), 0),
            word("map", Some("map"), 3),
        ];
        assert_eq!(unknown(&words), Some(vec!["wether".to_owned()]));
        let similar = [
            like("wether", "weather", 7),
            like("wether", "whether", 1),
            like("wether", "wetland", 9),
            like("other", "others", 9),
        ];
        let (map, both) = (
            meaning([("map", 3)]),
            meaning([("weather", 7), ("whether", 1)]),
        );
        assert_eq!(sought(&words, &similar), found(&[map, both.clone()]));
        assert_eq!(sought(&words[..1], &similar), found(&[both]));
        assert_eq!(sought(&words[..1], &similar).count(), None);
        let one = sought(&words[..1], &similar[..1]);
        assert_eq!(one, found(&[meaning([("weather", 7)])]));
        assert_eq!(one.count(), Some(7));
        assert_eq!(sought(&words, &similar[2..]), Sought::Nothing);
    }

    #[test]
    fn a_word_is_spelled_as_its_stem_too() {
        let words = [word("tranlsation", Some("tranlsat"), 0)];
        let spellings = ["tranlsation", "tranlsat"].map(str::to_owned);
        assert_eq!(unknown(&words), Some(spellings.to_vec()));
        let translate = like("tranlsat", "translat", 3);
        let similar = [
            like("tranlsation", "translation", 1),
            translate.clone(),
            translate,
        ];
        let meant = meaning([("translation", 1), ("translat", 3)]);
        assert_eq!(sought(&words, &similar), found(&[meant]));
        assert_eq!(
            sought(&words, &[like("tranlsation", "translat", 3)]),
            Sought::Nothing
        );
    }

    #[test]
    fn a_search_of_many_unknown_words_is_no_slip() {
        let words: Vec<Word> = ["aa", "bb", "cc", "dd", "ee"]
            .map(|text| word(text, Some(text), 0))
            .to_vec();
        assert_eq!(unknown(&words), None);
        assert!(unknown(&words[1..]).is_some());
    }

    #[test]
    fn a_slip_is_near_and_a_number_is_meant() {
        for (written, word) in [
            ("wether", "weather"),
            ("wheather", "weather"),
            ("imgae", "image"),
            ("tranlsate", "translate"),
            ("trans", "translate"),
            ("天气", "天气预报"),
        ] {
            assert!(is_meant(written, word), "{written} {word}");
        }
        for (written, word) in [
            ("gpt5", "gpt4"),
            ("2024", "2025"),
            ("ab", "ac"),
            ("cat", "dog"),
            ("wether", "wetland"),
        ] {
            assert!(!is_meant(written, word), "{written} {word}");
        }
    }

    #[test]
    fn a_word_is_never_an_operator() {
        assert_eq!(quoted("a'b\\c|"), "'a''b\\\\c|'");
        assert_eq!(meaning([("a|b", 1), ("c", 1)]).query(), "( 'a|b' | 'c' )");
    }
}
